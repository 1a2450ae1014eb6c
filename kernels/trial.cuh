/* trial.cuh - the sum of a message's terms in registers: how every pack begins and ends.
 *
 * A warp looks at ROWS spans of 128 entries one behind the other, and lane l at entries 4 l + 0..3
 * of each:
 *
 *     warp 0, row 0   | lane 0: 0 1 2 3         | lane 1: 4 5 6 7     | ...
 *     warp 0, row 1   | lane 0: 128 129 130 131 | lane 1: 132 ..      | ...
 *     warp 1, row 0   | lane 0: 128 ROWS + 0..3 | ...
 *
 * Vectors have any alignment. A span that does not begin at 16 bytes is moved in the 31 aligned
 * words it contains, the entries before and behind them by the last lane, and the lanes pass on
 * what belongs to their neighbours. Nothing outside of the span is touched, so a residual that is
 * also a term needs no more than that its spans are read before they are written.
 *
 * The loop over the terms is not unrolled: ROWS loads of 16 bytes in flight for each of some 1500
 * threads of a multiprocessor are several times what its share of the memory's latency needs.
 */
#ifndef COG_TRIAL_CUH
#define COG_TRIAL_CUH

#include "launch.cuh"

constexpr int COG_SPAN = 4 * COG_WARP;
constexpr uint32_t COG_INF_BITS = 0x7f800000u;
constexpr uint32_t COG_NAN_BITS = 0x7fc00000u; /* the one NaN that ever enters a payload */

__device__ inline int cog_lane() { return (int)threadIdx.x % COG_WARP; }
__device__ inline int cog_warp() { return (int)threadIdx.x / COG_WARP; }

/* ---- spans ----------------------------------------------------------------------------------- */

/* Entries of a span before its first 16-byte boundary. */
__device__ inline int cog_span_head(const float *span) {
    return (int)((0 - (uintptr_t)span / sizeof(float)) & 3);
}

__device__ inline float4 cog_read_few(const float *x, int n) {
    return make_float4(n > 0 ? x[0] : 0, n > 1 ? x[1] : 0, n > 2 ? x[2] : 0, n > 3 ? x[3] : 0);
}

__device__ inline void cog_write_few(float *y, int n, float4 v) {
    if (n > 0) y[0] = v.x;
    if (n > 1) y[1] = v.y;
    if (n > 2) y[2] = v.z;
    if (n > 3) y[3] = v.w;
}

/* Word `lane` of a span that does not begin at 16 bytes: the last lane has what lies before the
 * first boundary and behind the last. */
__device__ inline float4 cog_read_word(const float *span, int head) {
    const int from = head + 4 * cog_lane();
    if (cog_lane() < COG_WARP - 1) return cog_load4(span + from);
    return make_float4(span[from % COG_SPAN], span[(from + 1) % COG_SPAN],
                       span[(from + 2) % COG_SPAN], span[(from + 3) % COG_SPAN]);
}

__device__ inline void cog_write_word(float *span, int head, float4 word) {
    const int to = head + 4 * cog_lane();
    if (cog_lane() < COG_WARP - 1) {
        cog_store4(span + to, word);
    } else {
        span[to % COG_SPAN] = word.x;
        span[(to + 1) % COG_SPAN] = word.y;
        span[(to + 2) % COG_SPAN] = word.z;
        span[(to + 3) % COG_SPAN] = word.w;
    }
}

/* The 4 entries of this lane out of the words of all. */
__device__ inline float4 cog_from_words(float4 word, int head) {
    const int before = (cog_lane() + COG_WARP - 1) % COG_WARP;
    const float y = __shfl_sync(COG_ALL_LANES, word.y, before);
    const float z = __shfl_sync(COG_ALL_LANES, word.z, before);
    const float w = __shfl_sync(COG_ALL_LANES, word.w, before);
    if (head == 1) return make_float4(w, word.x, word.y, word.z);
    if (head == 2) return make_float4(z, w, word.x, word.y);
    return make_float4(y, z, w, word.x);
}

__device__ inline float4 cog_to_words(float4 v, int head) {
    const int after = (cog_lane() + 1) % COG_WARP;
    const float x = __shfl_sync(COG_ALL_LANES, v.x, after);
    const float y = __shfl_sync(COG_ALL_LANES, v.y, after);
    const float z = __shfl_sync(COG_ALL_LANES, v.z, after);
    if (head == 1) return make_float4(v.y, v.z, v.w, x);
    if (head == 2) return make_float4(v.z, v.w, x, y);
    return make_float4(v.w, x, y, z);
}

/* Where row r of this warp begins in the tile of the block. */
template <int ROWS> __device__ inline int cog_row(int r) {
    return COG_SPAN * (ROWS * cog_warp() + r);
}

/* How many entries of the tile that begins at `first` exist; `tile` at most. */
__device__ inline int cog_tile_count(int64_t first, int64_t n, int tile) {
    return n - first < tile ? (int)(n - first) : tile;
}

/* x is the tile, of which `count` entries exist; the others are 0. All threads. */
template <int ROWS>
__device__ inline void cog_read_rows(const float *x, int count, float4 (&v)[ROWS]) {
    const int head = cog_span_head(x), mine = 4 * cog_lane();
    if (count < COG_SPAN * ROWS * (int)blockDim.x / COG_WARP) {
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            v[r] = cog_read_few(x + cog_row<ROWS>(r) + mine, count - cog_row<ROWS>(r) - mine);
    } else if (head == 0) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) v[r] = cog_load4(x + cog_row<ROWS>(r) + mine);
    } else {
#pragma unroll
        for (int r = 0; r < ROWS; r++) v[r] = cog_read_word(x + cog_row<ROWS>(r), head);
#pragma unroll
        for (int r = 0; r < ROWS; r++) v[r] = cog_from_words(v[r], head);
    }
}

template <int ROWS>
__device__ inline void cog_write_rows(float *y, int count, const float4 (&v)[ROWS]) {
    const int head = cog_span_head(y), mine = 4 * cog_lane();
    if (count < COG_SPAN * ROWS * (int)blockDim.x / COG_WARP) {
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            cog_write_few(y + cog_row<ROWS>(r) + mine, count - cog_row<ROWS>(r) - mine, v[r]);
    } else if (head == 0) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) cog_store4(y + cog_row<ROWS>(r) + mine, v[r]);
    } else {
        __syncwarp(); /* these may be spans that neighbours have just read */
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            cog_write_word(y + cog_row<ROWS>(r), head, cog_to_words(v[r], head));
    }
}

/* ---- the trial ------------------------------------------------------------------------------- */

__device__ inline float4 cog_times(float c, float4 x) {
    return make_float4(__fmul_rn(c, x.x), __fmul_rn(c, x.y), __fmul_rn(c, x.z), __fmul_rn(c, x.w));
}

__device__ inline float4 cog_plus_times(float c, float4 x, float4 sum) {
    return make_float4(fmaf(c, x.x, sum.x), fmaf(c, x.y, sum.y), fmaf(c, x.z, sum.z),
                       fmaf(c, x.w, sum.w));
}

__device__ inline float cog_canonical(float x) {
    return x == x ? x : __uint_as_float(COG_NAN_BITS);
}

/* Canonical, and 0 from the end on, whatever a coefficient that is not finite made of it. */
__device__ inline float4 cog_settled(float4 v, int n_mine) {
    return make_float4(n_mine > 0 ? cog_canonical(v.x) : 0, n_mine > 1 ? cog_canonical(v.y) : 0,
                       n_mine > 2 ? cog_canonical(v.z) : 0, n_mine > 3 ? cog_canonical(v.w) : 0);
}

/* v = the terms' sum over the tile that begins at `first`; `count` of its entries exist, the others
 * are 0. */
template <int ROWS>
__device__ inline void cog_read_trial(const cog_kernel_terms &terms, int64_t first, int count,
                                      float4 (&v)[ROWS]) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) v[r] = make_float4(0, 0, 0, 0);
#pragma unroll 1
    for (int k = 0; k < terms.n_terms; k++) {
        float4 x[ROWS];
        cog_read_rows(terms.x[k] + first, count, x);
        const float c = terms.coef[k];
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            v[r] = k == 0 ? cog_times(c, x[r]) : cog_plus_times(c, x[r], v[r]);
    }
    const int mine = count - 4 * cog_lane();
#pragma unroll
    for (int r = 0; r < ROWS; r++) v[r] = cog_settled(v[r], mine - cog_row<ROWS>(r));
}

/* ---- bits ------------------------------------------------------------------------------------ */

/* The 4 bits of each of 8 lanes in one word. */
__device__ inline uint32_t cog_word_of(uint32_t bits) {
    uint32_t word = bits << 4 * (cog_lane() % 8);
#pragma unroll
    for (int apart = 1; apart < 8; apart *= 2) word |= __shfl_xor_sync(COG_ALL_LANES, word, apart);
    return word;
}

/* ---- bf16 ------------------------------------------------------------------------------------ */

/* To nearest even; a finite number stays finite. x is canonical. Meaning: cog_bf16. */
__device__ inline unsigned short cog_sent_bf16(float x) {
    const uint32_t bits = __float_as_uint(x), size = bits & 0x7fffffffu;
    if (size > 0x7f7f7fffu && size < COG_INF_BITS)
        return (unsigned short)((bits >> 16 & 0x8000u) | 0x7f7fu);
    return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* What an entry leaves behind when `sent` went out: nothing if it is no finite number. */
__device__ inline float cog_left(float x, float sent) {
    const bool finite = (__float_as_uint(x) & 0x7fffffffu) < COG_INF_BITS;
    return finite ? __fadd_rn(x, -sent) : 0;
}

#endif
