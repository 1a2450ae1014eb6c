/* mlp.cu - what layers do besides matrix products. Meaning: host/device.h, devices/cpu.c.
 *
 * Matrices are row-major, their columns the fast direction. Where every row is aligned alike in all
 * of them, threads take groups of 4 columns, 16 bytes a load; otherwise single columns. A thread
 * keeps its columns and walks down the rows, so what belongs to a column is looked up once:
 *
 *              lanes = 4
 *     row 0    0 1 2 3        a block: 256 threads, `lanes` of them side by side (a power of 2,
 *     row 1    4 5 6 7        32 at most), 256 / lanes rows at a time
 *     ...
 *
 * One pass each; bytes an entry (rows * columns of them), read + written:
 *
 *     bias_relu       4 + 4       and the biases once a block of threads
 *     relu_backward   8 + 4
 *     fold_columns    4L + 4      L terms; 8 more for every 256 terms past the first 256
 *     sum_rows        4           and 4 to 8 for a column
 */
#include "launch.cuh"

namespace {

/* ---- columns over threads -------------------------------------------------------------------- */

/* Group g is columns [width * g - shift, + width) of a matrix of n columns, partly outside of it at
 * the edges. With groups of 4 group 0 lies at a 32-byte sector, so that no warp touches one sector
 * more than it must. */
struct column_groups {
    int64_t n, n_groups;
    int width, shift;
    int lanes; /* power of 2 */
};

/* `alike` means that all matrices are aligned as `first` is, in every row. */
static inline column_groups split_columns(int64_t n, const float *first, bool alike) {
    column_groups c = {n, n, 1, 0, 1};
    if (alike && n >= 4) {
        c.width = 4;
        c.shift = (int)((uintptr_t)first / sizeof(float) % 8);
        c.n_groups = (n + c.shift + 3) / 4;
    }
    while (c.lanes < c.n_groups && c.lanes < COG_WARP) c.lanes *= 2;
    return c;
}

static inline bool rows_alike(int64_t rows, int64_t ld) { return rows <= 1 || ld % 4 == 0; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* x: tiles of `lanes` groups, y: rows; about COG_MAX_BLOCKS in all where rows allow it. */
static inline dim3 column_grid(column_groups c, int64_t rows) {
    const int64_t x = ceil_div(c.n_groups, c.lanes);
    const int64_t y = least(ceil_div(rows, COG_THREADS / c.lanes), ceil_div(COG_MAX_BLOCKS, x));
    return dim3((unsigned)x, (unsigned)(y < 1 ? 1 : y));
}

__device__ inline int64_t group_of(column_groups c) {
    return (int64_t)blockIdx.x * c.lanes + threadIdx.x % c.lanes;
}
__device__ inline int64_t first_row(column_groups c) {
    return (int64_t)blockIdx.y * (blockDim.x / c.lanes) + threadIdx.x / c.lanes;
}
__device__ inline int64_t row_stride(column_groups c) {
    return (int64_t)gridDim.y * (blockDim.x / c.lanes);
}

/* whole(column) for a group of 4 inside of the matrix, else single(column) for what is inside. */
template <class Whole, class Single>
__device__ inline void each_column(column_groups c, Whole whole, Single single) {
    const int64_t begin = group_of(c) * c.width - c.shift, end = begin + c.width;
    if (c.width == 4 && begin >= 0 && end <= c.n)
        whole(begin);
    else
        for (int64_t i = begin < 0 ? 0 : begin; i < end && i < c.n; i++) single(i);
}

/* ---- bias and ReLU --------------------------------------------------------------------------- */

struct bias_source {
    const float *bias;
    int64_t group, block_len;
};

/* The biases of this block's columns, the tile's first column in [0]. */
__device__ inline void load_biases(bias_source source, column_groups c, float *tile) {
    const int64_t column = (int64_t)blockIdx.x * c.lanes * c.width - c.shift + threadIdx.x;
    if ((int)threadIdx.x < c.lanes * c.width && column >= 0 && column < c.n)
        tile[threadIdx.x] =
            source.bias[column / source.group * source.block_len + column % source.group];
    __syncthreads();
}

template <bool RELU> __device__ inline float biased(float z, float bias) {
    const float sum = __fadd_rn(z, bias);
    return RELU && sum < 0 ? 0 : sum; /* NaN stays */
}

template <bool RELU>
__global__ void bias_relu_kernel(int64_t rows, int64_t ld, bias_source source, float *z,
                                 column_groups columns) {
    __shared__ float4 tile[COG_WARP];
    float *bias = reinterpret_cast<float *>(tile);
    load_biases(source, columns, bias);
    const int mine = (int)threadIdx.x % columns.lanes * columns.width;
    const int64_t begin = group_of(columns) * columns.width - columns.shift;
    each_column(
        columns,
        [&](int64_t c) {
            const float4 b = cog_load4(bias + mine);
            for (int64_t r = first_row(columns); r < rows; r += row_stride(columns)) {
                const float4 v = cog_load4(z + r * ld + c);
                cog_store4(z + r * ld + c,
                           make_float4(biased<RELU>(v.x, b.x), biased<RELU>(v.y, b.y),
                                       biased<RELU>(v.z, b.z), biased<RELU>(v.w, b.w)));
            }
        },
        [&](int64_t c) {
            const float b = bias[mine + c - begin];
            for (int64_t r = first_row(columns); r < rows; r += row_stride(columns))
                z[r * ld + c] = biased<RELU>(z[r * ld + c], b);
        });
}

/* ---- ReLU backward --------------------------------------------------------------------------- */

__device__ inline float where_active(float activation, float delta) {
    return activation > 0 ? delta : 0;
}

__global__ void relu_backward_kernel(const float *activation, float *delta, int64_t n,
                                     cog_groups groups) {
    cog_each(
        n, groups,
        [=](int64_t i) {
            const float4 a = cog_load4(activation + i), d = cog_load4(delta + i);
            cog_store4(delta + i, make_float4(where_active(a.x, d.x), where_active(a.y, d.y),
                                              where_active(a.z, d.z), where_active(a.w, d.w)));
        },
        [=](int64_t i) { delta[i] = where_active(activation[i], delta[i]); });
}

/* ---- fold ------------------------------------------------------------------------------------ */

template <int ROOM> struct fold_terms {
    int64_t column[ROOM];
    float coef[ROOM];
    int32_t n_terms;
    bool accumulate;
};

__device__ inline float4 scaled(float a, float4 x) {
    return make_float4(__fmul_rn(a, x.x), __fmul_rn(a, x.y), __fmul_rn(a, x.z), __fmul_rn(a, x.w));
}
__device__ inline float scaled(float a, float x) { return __fmul_rn(a, x); }
__device__ inline float4 sum_of(float4 x, float4 y) {
    return make_float4(__fadd_rn(x.x, y.x), __fadd_rn(x.y, y.y), __fadd_rn(x.z, y.z),
                       __fadd_rn(x.w, y.w));
}
__device__ inline float sum_of(float x, float y) { return __fadd_rn(x, y); }
__device__ inline float4 load(const float *p, float4) { return cog_load4(p); }
__device__ inline float load(const float *p, float) { return *p; }
__device__ inline void store(float *p, float4 v) { cog_store4(p, v); }
__device__ inline void store(float *p, float v) { *p = v; }

/* Column c of every row; V is float, or float4 for 4 columns. */
template <class V, int ROOM>
__device__ inline void fold_down(int64_t rows, int64_t ld, const float *d,
                                 const fold_terms<ROOM> &terms, float *out, int64_t ld_out,
                                 column_groups columns, int64_t c) {
    for (int64_t r = first_row(columns); r < rows; r += row_stride(columns)) {
        const float *row = d + r * ld + c;
        float *to = out + r * ld_out + c;
        V sum = scaled(terms.coef[0], load(row + terms.column[0], V()));
        if (terms.accumulate) sum = sum_of(load(to, V()), sum);
#pragma unroll 4
        for (int k = 1; k < terms.n_terms; k++)
            sum = sum_of(sum, scaled(terms.coef[k], load(row + terms.column[k], V())));
        store(to, sum);
    }
}

template <int ROOM>
__global__ void fold_kernel(int64_t rows, int64_t ld, const float *d,
                            const __grid_constant__ fold_terms<ROOM> terms, float *out,
                            int64_t ld_out, column_groups columns) {
    each_column(
        columns, [&](int64_t c) { fold_down<float4>(rows, ld, d, terms, out, ld_out, columns, c); },
        [&](int64_t c) { fold_down<float>(rows, ld, d, terms, out, ld_out, columns, c); });
}

__global__ void zero_kernel(int64_t rows, float *out, int64_t ld_out, column_groups columns) {
    each_column(
        columns,
        [&](int64_t c) {
            for (int64_t r = first_row(columns); r < rows; r += row_stride(columns))
                cog_store4(out + r * ld_out + c, make_float4(0, 0, 0, 0));
        },
        [&](int64_t c) {
            for (int64_t r = first_row(columns); r < rows; r += row_stride(columns))
                out[r * ld_out + c] = 0;
        });
}

/* ---- sums over rows -------------------------------------------------------------------------- */

constexpr int SUM_THREADS = 512; /* a block has all rows of its columns: many rows at a time */
constexpr int SUM_LANES = 8;     /* of groups of 4: 128 bytes side by side, so more blocks */

/* The columns of a group, 0 outside of the matrix. */
__device__ inline float4 load_inside(const float *row, int64_t begin, int64_t n, float4) {
    if (begin >= 0 && begin + 4 <= n) return cog_load4(row + begin);
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int64_t c = begin + i;
        v[i] = c >= 0 && c < n ? row[c] : 0;
    }
    return make_float4(v[0], v[1], v[2], v[3]);
}
__device__ inline float load_inside(const float *row, int64_t begin, int64_t n, float) {
    return begin < n ? row[begin] : 0;
}

/* Every thread adds its rows, then the block adds its threads by halves: the order depends on the
 * shape and the alignment alone. Neighbours have neighbouring sums: no bank conflicts. */
template <class V>
__device__ inline V column_sum(int64_t rows, int64_t ld, const float *d, column_groups columns,
                               int64_t begin) {
    __shared__ V sums[SUM_THREADS];
    V sum = {};
#pragma unroll 4
    for (int64_t r = threadIdx.x / columns.lanes; r < rows; r += SUM_THREADS / columns.lanes)
        sum = sum_of(sum, load_inside(d + r * ld, begin, columns.n, V()));
    sums[threadIdx.x] = sum;
    for (int half = SUM_THREADS / 2; half >= columns.lanes; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half)
            sums[threadIdx.x] = sum_of(sums[threadIdx.x], sums[threadIdx.x + half]);
    }
    return sums[threadIdx.x];
}

__device__ inline void finish_sum(float alpha, float sum, float beta, float *y) {
    const float old = beta == 0 ? 0 : __fmul_rn(beta, *y);
    *y = __fadd_rn(__fmul_rn(alpha, sum), old);
}

template <class V>
__global__ void __launch_bounds__(SUM_THREADS)
    sum_rows_kernel(int64_t rows, int64_t ld, float alpha, const float *d, float beta, float *y,
                    column_groups columns) {
    const int64_t begin = group_of(columns) * columns.width - columns.shift;
    const V sum = column_sum<V>(rows, ld, d, columns, begin);
    if ((int)threadIdx.x >= columns.lanes) return;
    float each[sizeof(V) / sizeof(float)];
    *reinterpret_cast<V *>(each) = sum;
    for (int i = 0; i < columns.width; i++)
        if (begin + i >= 0 && begin + i < columns.n)
            finish_sum(alpha, each[i], beta, y + begin + i);
}

} // namespace

/* ---------------------------------------------------------------------------------------------- */

extern "C" int cog_cuda_bias_relu(void *stream, int64_t rows, int64_t ld, const float *bias,
                                  int32_t n_blocks, int64_t group, int64_t block_len, int relu,
                                  float *z) {
    const int64_t n = n_blocks * group;
    if (rows <= 0 || n <= 0) return cudaSuccess;
    const column_groups columns = split_columns(n, z, rows_alike(rows, ld));
    const bias_source source = {bias, group, block_len};
    const dim3 grid = column_grid(columns, rows);
    if (relu)
        return COG_LAUNCH(bias_relu_kernel<true>, grid, COG_THREADS, 0, stream, rows, ld, source, z,
                          columns);
    return COG_LAUNCH(bias_relu_kernel<false>, grid, COG_THREADS, 0, stream, rows, ld, source, z,
                      columns);
}

extern "C" int cog_cuda_relu_backward(void *stream, const float *activation, float *delta,
                                      int64_t n) {
    if (n <= 0) return cudaSuccess;
    const cog_groups groups = cog_split(delta, n, cog_congruent(activation, delta));
    return COG_LAUNCH(relu_backward_kernel, cog_grid_of_groups(n, groups), COG_THREADS, 0, stream,
                      activation, delta, n, groups);
}

/* Few terms are the rule, and a launch copies its parameters. */
template <int ROOM>
static int launch_fold(void *stream, int64_t rows, int64_t ld, const float *d,
                       const cog_kernel_columns *terms, bool accumulate, float *out, int64_t ld_out,
                       column_groups columns) {
    fold_terms<ROOM> copy = {};
    copy.n_terms = terms->n_terms;
    copy.accumulate = accumulate;
    for (int k = 0; k < terms->n_terms; k++) {
        copy.column[k] = terms->column[k];
        copy.coef[k] = terms->coef[k];
    }
    return COG_LAUNCH(fold_kernel<ROOM>, column_grid(columns, rows), COG_THREADS, 0, stream, rows,
                      ld, d, copy, out, ld_out, columns);
}

extern "C" int cog_cuda_fold_columns(void *stream, int64_t rows, int64_t group, int64_t ld,
                                     const float *d, const cog_kernel_columns *terms,
                                     int accumulate, float *out, int64_t ld_out) {
    if (terms->n_terms < 0 || terms->n_terms > COG_KERNEL_COLUMNS) return cudaErrorInvalidValue;
    if (rows <= 0 || group <= 0 || (terms->n_terms == 0 && accumulate)) return cudaSuccess;
    bool alike = rows_alike(rows, ld_out) && (terms->n_terms == 0 || rows_alike(rows, ld));
    for (int k = 0; k < terms->n_terms; k++) alike &= cog_congruent(d + terms->column[k], out);
    const column_groups columns = split_columns(group, out, alike);
    if (terms->n_terms == 0)
        return COG_LAUNCH(zero_kernel, column_grid(columns, rows), COG_THREADS, 0, stream, rows,
                          out, ld_out, columns);
    if (terms->n_terms <= 16)
        return launch_fold<16>(stream, rows, ld, d, terms, accumulate, out, ld_out, columns);
    return launch_fold<COG_KERNEL_COLUMNS>(stream, rows, ld, d, terms, accumulate, out, ld_out,
                                           columns);
}

extern "C" int cog_cuda_sum_rows(void *stream, int64_t rows, int64_t cols, int64_t ld, float alpha,
                                 const float *d, float beta, float *y) {
    if (cols <= 0) return cudaSuccess;
    column_groups columns = split_columns(cols, d, rows_alike(rows, ld));
    if (columns.width == 4 && columns.lanes > SUM_LANES) columns.lanes = SUM_LANES;
    const unsigned grid = (unsigned)ceil_div(columns.n_groups, columns.lanes);
    if (columns.width == 4)
        return COG_LAUNCH(sum_rows_kernel<float4>, grid, SUM_THREADS, 0, stream, rows, ld, alpha, d,
                          beta, y, columns);
    return COG_LAUNCH(sum_rows_kernel<float>, grid, SUM_THREADS, 0, stream, rows, ld, alpha, d,
                      beta, y, columns);
}
