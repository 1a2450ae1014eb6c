/* predict.cu - temporal prediction: inner products of the vectors remembered, and what they expect.
 *
 *     products   sum over i of x[r][i] x[k][i] for r < 2: two rows of a Gram matrix. One that grows
 *                by a vector at a time needs no more
 *     predict    expected[i] = sum over k of coef[k] x[k][i], and sum of (x[i] - expected[i])^2
 *
 * Meaning and order of sums: host/devices/cpu_loops.inc. Products of two floats are exact in
 * double, so a fused multiply-add rounds as a product and a sum do. One pass each; bytes an entry
 * with s vectors remembered:
 *
 *     products   4 (s + 1)        and 8 (2 s + 1) / 4096, twice, for the sums of tiles
 *     predict    4 (s + 1) + 4    and 8 / 4096, twice
 *
 * Sums: lane l of a warp has columns 4 l + 0..3 of its slab of 4 spans, see trial.cuh. The 128
 * columns are added by halves, the 8 slabs of a tile one after the other; a second launch adds the
 * tiles in 256 columns, and these by halves. Nothing depends on the size of the grid.
 *
 * The two rows lie in shared memory, each thread's entries where only it looks, for registers hold
 * one vector's entries at a time.
 */
#include "trial.cuh"

namespace {

constexpr int ROWS = 4, SLAB = ROWS * COG_SPAN, WARPS = COG_THREADS / COG_WARP;
constexpr int TILE = SLAB * WARPS;
constexpr int MAX_SUMS = 2 * COG_KERNEL_VECTORS - 1;

static inline int tiles_of(int64_t n) { return n > 0 ? (int)((n + TILE - 1) / TILE) : 0; }

/* The scratch memory: the results, then what every tile adds to each of them. */
static inline double *of_tiles(void *scratch) { return (double *)scratch + MAX_SUMS; }

static __host__ __device__ inline int sums_of(const cog_kernel_vectors &v) {
    return v.n_rows * v.n_vectors - (v.n_rows - 1);
}

/* ---- sums ------------------------------------------------------------------------------------ */

__device__ inline void add_products(float4 a, float4 b, double (&sum)[4]) {
    sum[0] = __fma_rn((double)a.x, (double)b.x, sum[0]);
    sum[1] = __fma_rn((double)a.y, (double)b.y, sum[1]);
    sum[2] = __fma_rn((double)a.z, (double)b.z, sum[2]);
    sum[3] = __fma_rn((double)a.w, (double)b.w, sum[3]);
}

__device__ inline double passed_on(double v, int apart) {
    return __shfl_xor_sync(COG_ALL_LANES, v, apart);
}

/* 128 columns by halves, all lanes get the sum. First the lanes; as soon as two of them hold the
 * same columns, each goes on with half of these. */
__device__ inline double add_columns(const double (&of_lane)[4]) {
    const bool high = (cog_lane() & 16) != 0, odd = (cog_lane() & 8) != 0;
    const double first =
        __dadd_rn(high ? of_lane[2] : of_lane[0], passed_on(high ? of_lane[0] : of_lane[2], 16));
    const double second =
        __dadd_rn(high ? of_lane[3] : of_lane[1], passed_on(high ? of_lane[1] : of_lane[3], 16));
    double sum = __dadd_rn(odd ? second : first, passed_on(odd ? first : second, 8));
#pragma unroll
    for (int apart = 4; apart > 0; apart /= 2) sum = __dadd_rn(sum, passed_on(sum, apart));
    sum = __dadd_rn(sum, passed_on(sum, 16));
    return __dadd_rn(sum, passed_on(sum, 8));
}

/* Block b: out[b] = the sum over tiles of of_tile[b][tile]. */
__global__ void add_tiles_kernel(const double *of_tile, int n_tiles, double *out) {
    __shared__ double column[COG_THREADS];
    double sum = 0;
    for (int t = (int)threadIdx.x; t < n_tiles; t += COG_THREADS)
        sum = __dadd_rn(sum, of_tile[(int64_t)blockIdx.x * n_tiles + t]);
    column[threadIdx.x] = sum;
    for (int half = COG_THREADS / 2; half >= COG_WARP; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x >= half) continue;
        sum = __dadd_rn(sum, column[threadIdx.x + half]);
        column[threadIdx.x] = sum;
    }
    if (cog_warp() != 0) return;
#pragma unroll
    for (int half = COG_WARP / 2; half > 0; half /= 2)
        sum = __dadd_rn(sum, __shfl_down_sync(COG_ALL_LANES, sum, half));
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

static int add_tiles(void *stream, int n_sums, int n_tiles, void *scratch) {
    return COG_LAUNCH(add_tiles_kernel, (unsigned)n_sums, COG_THREADS, 0, stream, of_tiles(scratch),
                      n_tiles, (double *)scratch);
}

/* ---- products -------------------------------------------------------------------------------- */

__global__ void __launch_bounds__(COG_THREADS, 4)
    products_kernel(const __grid_constant__ cog_kernel_vectors vectors, int64_t n, int n_tiles,
                    double *of_tile) {
    __shared__ float4 row[2][ROWS][COG_THREADS];
    __shared__ double of_warp[WARPS][MAX_SUMS];
#pragma unroll 1
    for (int t = (int)blockIdx.x; t < n_tiles; t += (int)gridDim.x) {
#pragma unroll 1
        for (int k = 0; k < vectors.n_vectors; k++) {
            float4 v[ROWS];
            /* computed here, for registers are scarce: */
            const int64_t first = (int64_t)t * TILE;
            cog_read_rows(vectors.x[k] + first, cog_tile_count(first, n, TILE), v);
            if (k < vectors.n_rows) {
#pragma unroll
                for (int i = 0; i < ROWS; i++) row[k][i][threadIdx.x] = v[i];
            }
#pragma unroll 1
            for (int r = 0; r < vectors.n_rows && r <= k; r++) {
                double sum[4] = {0, 0, 0, 0};
#pragma unroll
                for (int i = 0; i < ROWS; i++) add_products(row[r][i][threadIdx.x], v[i], sum);
                const double of_slab = add_columns(sum);
                if (cog_lane() == 0) of_warp[cog_warp()][r * (vectors.n_vectors - 1) + k] = of_slab;
            }
        }
        __syncthreads();
        if ((int)threadIdx.x < sums_of(vectors)) {
            double sum = 0;
#pragma unroll 1
            for (int w = 0; w < WARPS; w++) sum = __dadd_rn(sum, of_warp[w][threadIdx.x]);
            of_tile[(int64_t)threadIdx.x * n_tiles + t] = sum;
        }
        __syncthreads();
    }
}

/* ---- predict --------------------------------------------------------------------------------- */

constexpr int AT_ONCE = 2; /* spans: the sums of more take too many registers */

__device__ inline void add_times(double a, float4 x, double (&sum)[4]) {
    sum[0] = __fma_rn(a, (double)x.x, sum[0]);
    sum[1] = __fma_rn(a, (double)x.y, sum[1]);
    sum[2] = __fma_rn(a, (double)x.z, sum[2]);
    sum[3] = __fma_rn(a, (double)x.w, sum[3]);
}

__device__ inline double plus_square(float x, float expected, double sum) {
    const double gap = __dadd_rn((double)x, -(double)expected);
    return __dadd_rn(sum, __dmul_rn(gap, gap));
}

__device__ inline void add_squares(float4 x, float4 expected, double (&sum)[4]) {
    sum[0] = plus_square(x.x, expected.x, sum[0]);
    sum[1] = plus_square(x.y, expected.y, sum[1]);
    sum[2] = plus_square(x.z, expected.z, sum[2]);
    sum[3] = plus_square(x.w, expected.w, sum[3]);
}

/* The terms' sum at the spans of this warp, were `from` where a tile begins. */
__device__ inline void expect(const cog_kernel_terms &terms, int64_t from, int64_t n,
                              float4 (&expected)[AT_ONCE]) {
    double sum[AT_ONCE][4] = {};
#pragma unroll 1
    for (int k = 0; k < terms.n_terms; k++) {
        float4 v[AT_ONCE];
        cog_read_rows(terms.x[k] + from, cog_tile_count(from, n, TILE), v);
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) add_times((double)terms.coef[k], v[i], sum[i]);
    }
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++)
        expected[i] =
            make_float4((float)sum[i][0], (float)sum[i][1], (float)sum[i][2], (float)sum[i][3]);
}

/* expected or of_tile may be NULL: nobody wants it. Where x ends, expected is 0 as x is. */
__global__ void __launch_bounds__(COG_THREADS, 4)
    predict_kernel(const __grid_constant__ cog_kernel_terms terms, const float *x, int64_t n,
                   int n_tiles, float *expected, double *of_tile) {
    __shared__ double of_warp[WARPS];
#pragma unroll 1
    for (int t = (int)blockIdx.x; t < n_tiles; t += (int)gridDim.x) {
        double square[4] = {0, 0, 0, 0};
#pragma unroll 1
        for (int part = 0; part < ROWS / AT_ONCE; part++) {
            /* a slab has more spans than cog_row<AT_ONCE> knows of */
            const int shift = COG_SPAN * ((ROWS - AT_ONCE) * cog_warp() + AT_ONCE * part);
            const int64_t from = (int64_t)t * TILE + shift;
            float4 e[AT_ONCE], v[AT_ONCE];
            expect(terms, from, n, e);
            const int count = cog_tile_count(from, n, TILE);
            if (expected != nullptr) cog_write_rows(expected + from, count, e);
            if (of_tile == nullptr) continue;
            cog_read_rows(x + from, count, v);
            add_squares(v[0], e[0], square);
            add_squares(v[1], e[1], square);
        }
        if (of_tile == nullptr) continue;
        const double of_slab = add_columns(square);
        if (cog_lane() == 0) of_warp[cog_warp()] = of_slab;
        __syncthreads();
        if (threadIdx.x == 0) {
            double sum = 0;
#pragma unroll 1
            for (int w = 0; w < WARPS; w++) sum = __dadd_rn(sum, of_warp[w]);
            of_tile[t] = sum;
        }
        __syncthreads();
    }
}

} // namespace

/* ---------------------------------------------------------------------------------------------- */

extern "C" size_t cog_cuda_sums_bytes(int64_t n) {
    return sizeof(double) * (size_t)MAX_SUMS * (size_t)(1 + tiles_of(n));
}

extern "C" int cog_cuda_products(void *stream, const cog_kernel_vectors *vectors, int64_t n,
                                 void *scratch) {
    if (vectors->n_vectors > COG_KERNEL_VECTORS || vectors->n_rows < 1 || vectors->n_rows > 2 ||
        vectors->n_rows > vectors->n_vectors)
        return cudaErrorInvalidValue;
    const int n_tiles = tiles_of(n);
    if (n_tiles > 0) {
        const int status = COG_LAUNCH(products_kernel, cog_grid((n + 15) / 16), COG_THREADS, 0,
                                      stream, *vectors, n, n_tiles, of_tiles(scratch));
        if (status != cudaSuccess) return status;
    }
    return add_tiles(stream, sums_of(*vectors), n_tiles, scratch);
}

extern "C" int cog_cuda_predict(void *stream, const cog_kernel_terms *terms, const float *x,
                                int64_t n, float *expected, void *scratch) {
    if (terms->n_terms < 0 || terms->n_terms > COG_KERNEL_TERMS) return cudaErrorInvalidValue;
    const int n_tiles = tiles_of(n);
    if (n_tiles > 0) {
        double *const of_tile = scratch != NULL ? of_tiles(scratch) : NULL;
        const int status = COG_LAUNCH(predict_kernel, cog_grid((n + 15) / 16), COG_THREADS, 0,
                                      stream, *terms, x, n, n_tiles, expected, of_tile);
        if (status != cudaSuccess) return status;
    }
    return scratch != NULL ? add_tiles(stream, 1, n_tiles, scratch) : cudaSuccess;
}
