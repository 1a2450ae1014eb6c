/* sign.cu - one bit an entry and the mean magnitude, of the tensor or of every group.
 *
 * Meaning, format and the order of sums: host/compress/sign.c. Bytes an entry with L terms
 * (feedback one of them):
 *
 *     group    one launch, one pass    4L + 4 + 1/8, and 1/8 for the mask of zeros, which nobody
 *                                      knows to be empty before the end
 *     tensor   two launches            4L + 4 with the sums of the tiles, whose last block adds
 *                                      them up to the scale, then 8 + 1/8; zeros add 1/8
 *
 * Sums: a tile's magnitudes go through shared memory in 4 parts of 1024. Thread 64 p + j adds up
 * column j of part p, the entries j, j + 64, .. of a segment in there; a warp for each segment adds
 * its columns by halves:
 *
 *     group 256    | 64 columns | 64 columns | ..    4 sums a thread, of 4 entries
 *     group 4096   | 64 of part 0 .. | 64 of part 1 .. | ..    one sum a thread, of 16 entries
 */
#include "compact.cuh"

namespace {

constexpr int ROWS = 4, TILE = 4 * ROWS * COG_THREADS;
constexpr int COLUMNS = 64, PART = 1024, PARTS = TILE / PART, MAX_GROUPS = TILE / 256;
static_assert(PARTS * COLUMNS == COG_THREADS, "a thread has a column of a part");
constexpr float SMALLER = 0x1p-64f; /* what overflows is added up once more at this size */

/* A cog_kernel_format in the words of sign.c. */
struct sign_format {
    int64_t n;
    int64_t negative, zero; /* bytes from the start of the payload */
    int32_t tile;           /* entries of a group, 0 for the whole tensor */
};

static inline sign_format format_of(const cog_kernel_format &f) {
    return {f.n, f.body, f.extra, f.part_bits < 63 ? 1 << f.part_bits : 0};
}

struct sign_scratch {
    uint32_t n_done, any_zero;
    cog_u64 n_nonzero;
    /* then double of_tile[n_tiles] */
};

struct __align__(16) sign_shared {
    float size[TILE]; /* magnitudes, then the columns' sums in the first row of each segment */
    float sum[MAX_GROUPS];
    int n_nonzero[MAX_GROUPS];
    uint32_t any_infinite;
};

/* ---- sums ------------------------------------------------------------------------------------ */

__device__ inline float scaled_size(float x, float factor) { return __fmul_rn(fabsf(x), factor); }

__device__ inline void put_sizes(const float4 (&v)[ROWS], float factor, sign_shared &s) {
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        reinterpret_cast<float4 *>(s.size + cog_row<ROWS>(r))[cog_lane()] =
            make_float4(scaled_size(v[r].x, factor), scaled_size(v[r].y, factor),
                        scaled_size(v[r].z, factor), scaled_size(v[r].w, factor));
}

/* The thread's column, a sum for each segment of `tile` entries, left where the first of them was.
 * Half of the column is read at once: sums go to rows that were read before, but the compiler
 * cannot know. */
__device__ inline void add_columns(int tile, sign_shared &s) {
    constexpr int ROWS_OF_PART = PART / COLUMNS, AT_ONCE = ROWS_OF_PART / 2;
    const int n_rows = tile < PART ? tile / COLUMNS : ROWS_OF_PART;
    float *const column = s.size + threadIdx.x / COLUMNS * PART + threadIdx.x % COLUMNS;
    float sum = 0;
#pragma unroll 1
    for (int first = 0; first < ROWS_OF_PART; first += AT_ONCE) {
        float size[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) size[i] = column[(first + i) * COLUMNS];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const int row = first + i, of_segment = row & (n_rows - 1);
            sum = __fadd_rn(of_segment == 0 ? 0 : sum, size[i]);
            if (of_segment == n_rows - 1) column[(row - n_rows + 1) * COLUMNS] = sum;
        }
    }
}

/* The columns of a segment by halves; those of parts it does not have are 0. A warp; every lane
 * gets the sum. */
__device__ inline float fold_columns(const float *segment, int tile) {
    constexpr int OF_LANE = COG_THREADS / COG_WARP, OF_PART = COLUMNS / COG_WARP;
    float sum[OF_LANE];
#pragma unroll
    for (int c = 0; c < OF_LANE; c++) {
        const int at = c / OF_PART * PART;
        sum[c] = at < tile ? segment[at + c % OF_PART * COG_WARP + cog_lane()] : 0;
    }
#pragma unroll
    for (int half = OF_LANE / 2; half > 0; half /= 2)
#pragma unroll
        for (int c = 0; c < half; c++) sum[c] = __fadd_rn(sum[c], sum[c + half]);
    float all = sum[0];
#pragma unroll
    for (int half = COG_WARP / 2; half > 0; half /= 2)
        all = __fadd_rn(all, __shfl_down_sync(COG_ALL_LANES, all, half));
    return __shfl_sync(COG_ALL_LANES, all, 0);
}

__device__ inline int n_nonzero(float4 v) {
    return (v.x != 0) + (v.y != 0) + (v.z != 0) + (v.w != 0);
}

/* A span lies in one group, so a warp counts for one. */
__device__ inline void count_nonzero(const float4 (&v)[ROWS], int tile, sign_shared &s) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int n = __reduce_add_sync(COG_ALL_LANES, n_nonzero(v[r]));
        if (cog_lane() == 0) atomicAdd(&s.n_nonzero[cog_row<ROWS>(r) / tile], n);
    }
}

__device__ inline float mean_of(double sum, int64_t n) {
    if (n == 0) return 0;
    return cog_canonical((float)(sum / (double)n));
}

/* sum[g] of segment g < n_segments of `tile` entries; done(g, sum) in every lane of a warp. */
template <class Done>
__device__ inline void add_up(const float4 (&v)[ROWS], int tile, int n_segments, sign_shared &s,
                              Done done) {
    for (float factor = 1;; factor = SMALLER) {
        put_sizes(v, factor, s);
        __syncthreads();
        if (threadIdx.x == 0 && factor == 1) s.any_infinite = 0;
        add_columns(tile, s);
        __syncthreads();
        for (int g = cog_warp(); g < n_segments; g += COG_MAX_WARPS) {
            if (factor != 1 && !isinf(s.sum[g])) continue;
            __syncwarp(); /* done may change s.sum */
            const float sum = fold_columns(s.size + g * tile, tile);
            if (factor == 1 && cog_lane() == 0) {
                s.sum[g] = sum;
                if (isinf(sum)) atomicOr(&s.any_infinite, 1u);
            }
            if (factor != 1 || !isinf(sum))
                done(g, factor == 1 ? (double)sum : (double)sum * 0x1p64);
        }
        __syncthreads();
        if (factor != 1 || s.any_infinite == 0) return;
    }
}

/* ---- bits ------------------------------------------------------------------------------------ */

__device__ inline uint32_t zeros_of(float4 v) {
    return (uint32_t)(v.x == 0) | (uint32_t)(v.y == 0) << 1 | (uint32_t)(v.z == 0) << 2 |
           (uint32_t)(v.w == 0) << 3;
}

__device__ inline uint32_t negatives_of(float4 v) {
    return (uint32_t)(v.x < 0) | (uint32_t)(v.y < 0) << 1 | (uint32_t)(v.z < 0) << 2 |
           (uint32_t)(v.w < 0) << 3;
}

__device__ inline float rest_of(float x, float scale) {
    if (x == 0) return x;
    return isfinite(scale) ? __fadd_rn(x, -copysignf(scale, x)) : 0;
}

/* Words `word` of lane 8 q, row r, to word 4 r + q, all at once. n_entries from the first one of
 * the warp exist. */
template <int N>
__device__ inline void put_words(const uint32_t (&word)[N], int n_entries, uint32_t *to) {
    uint32_t mine = 0;
#pragma unroll
    for (int r = 0; r < N; r++) {
        const uint32_t of_row = __shfl_sync(COG_ALL_LANES, word[r], 8 * (cog_lane() % 4));
        if (cog_lane() / 4 == r) mine = of_row;
    }
    if (cog_lane() < 4 * N && 32 * cog_lane() < n_entries) to[cog_lane()] = mine;
}

/* The bits of a tile; zero may be NULL. */
template <int N>
__device__ inline void send_bits(const float4 (&v)[N], int count, uint32_t *negative,
                                 uint32_t *zero) {
    const int first = cog_row<N>(0);
    uint32_t word[N];
#pragma unroll
    for (int r = 0; r < N; r++) word[r] = cog_word_of(negatives_of(v[r]));
    put_words(word, count - first, negative + first / 32);
    if (zero == nullptr) return;
#pragma unroll
    for (int r = 0; r < N; r++) {
        const int mine = count - cog_row<N>(r) - 4 * cog_lane();
        const uint32_t existing = mine >= 4 ? 15u : mine > 0 ? (1u << mine) - 1 : 0;
        word[r] = cog_word_of(zeros_of(v[r]) & existing);
    }
    put_words(word, count - first, zero + first / 32);
}

__device__ inline float4 rest_of(float4 v, float scale) {
    return make_float4(rest_of(v.x, scale), rest_of(v.y, scale), rest_of(v.z, scale),
                       rest_of(v.w, scale));
}

/* ---- scale=group ----------------------------------------------------------------------------- */

__global__ void __launch_bounds__(COG_THREADS, 4)
    group_kernel(const __grid_constant__ cog_kernel_terms terms,
                 const __grid_constant__ sign_format f, float *residual, sign_scratch *scratch,
                 char *payload) {
    __shared__ sign_shared s;
    __shared__ uint32_t any_zero;
    float *const scale = reinterpret_cast<float *>(payload + 4);
    uint32_t *const negative = reinterpret_cast<uint32_t *>(payload + f.negative);
    uint32_t *const zero = reinterpret_cast<uint32_t *>(payload + f.zero);
    if (threadIdx.x < MAX_GROUPS) s.n_nonzero[threadIdx.x] = 0;
    if (threadIdx.x == 0) any_zero = 0;
    __syncthreads();
    for (int64_t first = blockIdx.x * (int64_t)TILE; first < f.n;
         first += gridDim.x * (int64_t)TILE) {
        const int count = cog_tile_count(first, f.n, TILE);
        float4 v[ROWS];
        cog_read_trial(terms, first, count, v);
        count_nonzero(v, f.tile, s);
        add_up(v, f.tile, (count + f.tile - 1) / f.tile, s, [&](int g, double sum) {
            if (cog_lane() != 0) return;
            const int left = count - g * f.tile, part = left < f.tile ? left : f.tile;
            if (s.n_nonzero[g] < part) atomicOr(&any_zero, 1u);
            s.sum[g] = mean_of(sum, s.n_nonzero[g]);
            s.n_nonzero[g] = 0;
            scale[first / f.tile + g] = s.sum[g];
        });
        send_bits(v, count, negative + first / 32, zero + first / 32);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int at = cog_row<ROWS>(r);
            v[r] = rest_of(v[r], at < count ? s.sum[at / f.tile] : 0);
        }
        cog_write_rows(residual + first, count, v);
    }
    __syncthreads();
    if (threadIdx.x == 0 && any_zero != 0) atomicOr(&scratch->any_zero, 1u);
    if (!cog_is_last_block(&scratch->n_done) || threadIdx.x != 0) return;
    *reinterpret_cast<uint32_t *>(payload) = atomicExch(&scratch->any_zero, 0u);
}

/* ---- scale=tensor ---------------------------------------------------------------------------- */

constexpr int SUM_LANES = 64;

/* Lane j of 64 adds the sums of tiles j, j + 64, ..; then by halves. The result is thread 0's. */
__device__ inline double add_tiles(const double *of_tile, int64_t n_tiles, double *shared) {
    constexpr int AT_ONCE = TILE / 2; /* doubles in the shared memory of a tile */
    double sum = 0;
    for (int64_t first = 0; first < n_tiles; first += AT_ONCE) {
        __syncthreads();
        for (int i = (int)threadIdx.x; i < AT_ONCE; i += COG_THREADS)
            shared[i] = first + i < n_tiles ? of_tile[first + i] : 0;
        __syncthreads();
        if (threadIdx.x >= SUM_LANES) continue;
        for (int i = (int)threadIdx.x; i < AT_ONCE && first + i < n_tiles; i += SUM_LANES)
            sum = __dadd_rn(sum, shared[i]);
    }
    __syncthreads();
    if (threadIdx.x < SUM_LANES) shared[threadIdx.x] = sum;
    __syncthreads();
    if (cog_warp() != 0) return 0;
    sum = __dadd_rn(sum, shared[cog_lane() + COG_WARP]);
#pragma unroll
    for (int half = COG_WARP / 2; half > 0; half /= 2)
        sum = __dadd_rn(sum, __shfl_down_sync(COG_ALL_LANES, sum, half));
    return sum;
}

__global__ void __launch_bounds__(COG_THREADS, 4)
    measure_kernel(const __grid_constant__ cog_kernel_terms terms,
                   const __grid_constant__ sign_format f, float *residual, sign_scratch *scratch,
                   char *payload) {
    __shared__ sign_shared s;
    double *const of_tile = reinterpret_cast<double *>(scratch + 1);
    if (threadIdx.x < MAX_GROUPS) s.n_nonzero[threadIdx.x] = 0;
    __syncthreads();
    const int64_t n_tiles = (f.n + TILE - 1) / TILE;
    for (int64_t t = blockIdx.x; t < n_tiles; t += gridDim.x) {
        const int count = cog_tile_count(t * TILE, f.n, TILE);
        float4 v[ROWS];
        cog_read_trial(terms, t * TILE, count, v);
        count_nonzero(v, TILE, s);
        add_up(v, TILE, 1, s, [&](int, double sum) {
            if (cog_lane() == 0) of_tile[t] = sum;
        });
        cog_write_rows(residual + t * TILE, count, v);
    }
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd(&scratch->n_nonzero, (cog_u64)s.n_nonzero[0]);
    if (!cog_is_last_block(&scratch->n_done)) return;
    const double sum = add_tiles(of_tile, n_tiles, reinterpret_cast<double *>(s.size));
    if (threadIdx.x != 0) return;
    const int64_t n = (int64_t)atomicExch(&scratch->n_nonzero, 0ull);
    *reinterpret_cast<float *>(payload + 4) = mean_of(sum, n);
    *reinterpret_cast<uint32_t *>(payload) = n < f.n;
}

__global__ void __launch_bounds__(COG_THREADS, 4)
    split_kernel(const __grid_constant__ sign_format f, float *residual, char *payload) {
    uint32_t *const negative = reinterpret_cast<uint32_t *>(payload + f.negative);
    uint32_t *const zero = *reinterpret_cast<const uint32_t *>(payload) != 0
                               ? reinterpret_cast<uint32_t *>(payload + f.zero)
                               : nullptr;
    const float scale = *reinterpret_cast<const float *>(payload + 4);
    constexpr int STEP_ROWS = 2, STEP = 4 * STEP_ROWS * COG_THREADS;
    for (int64_t first = blockIdx.x * (int64_t)STEP; first < f.n;
         first += gridDim.x * (int64_t)STEP) {
        const int count = cog_tile_count(first, f.n, STEP);
        float4 v[STEP_ROWS];
        cog_read_rows(residual + first, count, v);
        send_bits(v, count, negative + first / 32, zero != nullptr ? zero + first / 32 : nullptr);
#pragma unroll
        for (int r = 0; r < STEP_ROWS; r++) v[r] = rest_of(v[r], scale);
        cog_write_rows(residual + first, count, v);
    }
}

__global__ void no_entries_kernel(uint32_t *payload) { *payload = 0; }

} // namespace

/* ---------------------------------------------------------------------------------------------- */

extern "C" size_t cog_cuda_sign_scratch_bytes(const cog_kernel_format *format) {
    return sizeof(sign_scratch) + sizeof(double) * (size_t)((format->n + TILE - 1) / TILE);
}

extern "C" int cog_cuda_sign_pack(void *stream, const cog_kernel_format *format,
                                  const cog_kernel_terms *terms, float *residual, void *scratch,
                                  void *payload) {
    if (format->n <= 0) return COG_LAUNCH(no_entries_kernel, 1, 1, 0, stream, (uint32_t *)payload);
    const sign_format f = format_of(*format);
    const unsigned grid = cog_grid((f.n + 15) / 16);
    sign_scratch *const s = (sign_scratch *)scratch;
    char *const bytes = (char *)payload;
    if (f.tile > 0)
        return COG_LAUNCH(group_kernel, grid, COG_THREADS, 0, stream, *terms, f, residual, s,
                          bytes);
    const int status =
        COG_LAUNCH(measure_kernel, grid, COG_THREADS, 0, stream, *terms, f, residual, s, bytes);
    if (status != cudaSuccess) return status;
    return COG_LAUNCH(split_kernel, grid, COG_THREADS, 0, stream, f, residual, bytes);
}
