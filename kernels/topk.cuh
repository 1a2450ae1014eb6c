/* topk.cuh - what the kernels of top-k share: its payload, its order of magnitudes, tiles. */
#ifndef COG_TOPK_CUH
#define COG_TOPK_CUH

#include <type_traits>

#include "compact.cuh"

constexpr int COG_RUN = 64; /* tiles between two bases of the payload's table */

/* A cog_kernel_format in the words of topk.c, and what is wanted. */
struct cog_topk_format {
    int64_t n, n_tiles;
    int64_t kept;   /* the most entries that are sent */
    int64_t wanted; /* how many that should be */
    int64_t base, count, value;
    double ratio; /* 0: one of every tile */
    int32_t tile;
    bool bf16_values;
    bool table; /* base and count are there: not for kind=chunk */
    int32_t slope;
};

static inline cog_topk_format cog_topk_format_of(const cog_kernel_format &f, int64_t wanted,
                                                 int32_t slope) {
    const int32_t tile = 1 << f.part_bits;
    return {f.n,
            (f.n + tile - 1) / tile,
            f.kept,
            wanted,
            4,
            f.extra,
            f.body,
            f.ratio,
            tile,
            f.value_bytes == 2,
            f.layout == COG_LAYOUT_TABLE,
            slope};
}

/* An entry with its sign behind its magnitude: ordered by size as unsigned integers. */
__device__ inline uint32_t cog_ranked(float x) {
    const uint32_t bits = __float_as_uint(x);
    return bits << 1 | bits >> 31;
}
__device__ inline float cog_unranked(uint32_t u) { return __uint_as_float(u >> 1 | u << 31); }

template <int ROWS>
__device__ inline void cog_rank_rows(const float4 (&v)[ROWS], uint32_t (&u)[4 * ROWS]) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        u[4 * r] = cog_ranked(v[r].x);
        u[4 * r + 1] = cog_ranked(v[r].y);
        u[4 * r + 2] = cog_ranked(v[r].z);
        u[4 * r + 3] = cog_ranked(v[r].w);
    }
}

template <int ROWS>
__device__ inline void cog_write_ranked(float *y, int count, const uint32_t (&u)[4 * ROWS]) {
    float4 v[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        v[r] = make_float4(cog_unranked(u[4 * r]), cog_unranked(u[4 * r + 1]),
                           cog_unranked(u[4 * r + 2]), cog_unranked(u[4 * r + 3]));
    cog_write_rows(y, count, v);
}

/* Marks of the entries that reach a bound on the magnitude. */
template <int N> __device__ inline uint32_t cog_reaching(const uint32_t (&u)[N], uint32_t bound) {
    uint32_t marks = 0;
#pragma unroll
    for (int i = 0; i < N; i++) marks |= (uint32_t)(u[i] >= bound << 1) << i;
    return marks;
}

/* Marks of the entries of a tile that exist: of the thread's, those below `count`. */
template <int ROWS> __device__ inline uint32_t cog_existing(int count) {
    uint32_t marks = 0;
#pragma unroll
    for (int i = 0; i < 4 * ROWS; i++) marks |= (uint32_t)(cog_place<ROWS>(i) < count) << i;
    return marks;
}

/* What an entry leaves behind when it is sent. */
__device__ inline float cog_topk_left(float x, bool bf16_values) {
    return cog_left(x, bf16_values ? cog_float_of(cog_sent_bf16(x)) : x);
}

/* ---- the payload ----------------------------------------------------------------------------- */

/* kind=chunk: entries sent before tile t. See cog_topk_share and cog_topk_chunk_start of topk.c. */
__device__ inline int64_t cog_chunk_start(const cog_topk_format &f, int64_t t) {
    if (t >= f.n_tiles) return f.kept;
    if (f.ratio == 0) return t;
    const double share = __dmul_rn(f.ratio, (double)(t * f.tile));
    return (int64_t)ceil(__dadd_rn(share, -__dmul_rn(share, 0x1p-51)));
}

/* Where offsets begin when there are m values. */
template <class Byte>
__device__ inline auto cog_topk_offsets(const cog_topk_format &f, Byte *payload, int64_t m) {
    using offset = std::conditional_t<std::is_const<Byte>::value, const uint16_t, uint16_t>;
    const int64_t bytes = f.bf16_values ? (m + 1) / 2 * 4 : m * 4;
    return reinterpret_cast<offset *>(payload + f.value + bytes);
}

/* Zeros behind sections with an odd number of 16-bit words. One thread. */
__device__ inline void cog_topk_pad(const cog_topk_format &f, char *payload, int64_t m) {
    if (f.table && f.n_tiles % 2 != 0)
        reinterpret_cast<uint16_t *>(payload + f.count)[f.n_tiles] = 0;
    if (m % 2 == 0) return;
    if (f.bf16_values) reinterpret_cast<uint16_t *>(payload + f.value)[m] = 0;
    cog_topk_offsets(f, payload, m)[m] = 0;
}

/* Row t of the table of tiles. One thread. */
__device__ inline void cog_topk_note(const cog_topk_format &f, char *payload, int64_t t,
                                     int64_t before, int n) {
    if (t % COG_RUN == 0)
        reinterpret_cast<uint32_t *>(payload + f.base)[t / COG_RUN] = (uint32_t)before;
    reinterpret_cast<uint16_t *>(payload + f.count)[t] = (uint16_t)n;
}

/* ---- launches -------------------------------------------------------------------------------- */

/* A tile of 256 to 4096 entries is the work of 64 to 256 threads with 1, 2 or 4 rows. */
static inline unsigned cog_tile_threads(int tile) {
    return tile >= 4 * COG_THREADS ? COG_THREADS : (unsigned)tile / 4;
}
static inline unsigned cog_tile_grid(int64_t n_tiles) {
    return (unsigned)(n_tiles < 1 ? 1 : n_tiles < COG_MAX_BLOCKS ? n_tiles : COG_MAX_BLOCKS);
}

/* kernel<ROWS> with a tile for a block. */
#define COG_LAUNCH_TILES(kernel, f, stream, ...)                                                  \
    ((f).tile == 4096                                                                             \
         ? COG_LAUNCH(kernel<4>, cog_tile_grid((f).n_tiles), COG_THREADS, 0, stream, __VA_ARGS__) \
     : (f).tile == 2048                                                                           \
         ? COG_LAUNCH(kernel<2>, cog_tile_grid((f).n_tiles), COG_THREADS, 0, stream, __VA_ARGS__) \
         : COG_LAUNCH(kernel<1>, cog_tile_grid((f).n_tiles), cog_tile_threads((f).tile), 0,       \
                      stream, __VA_ARGS__))

#endif
