/* topk_exact.cu - the k largest of a whole message, ties to the lower index.
 *
 * Meaning and format: host/compress/topk.c. Radix selection on the 31 bits of a magnitude, most
 * significant first, in four launches. What a launch has to do depends on what the one before
 * found; nobody waits for the host:
 *
 *     combine  trial -> residual, and bins of its first 12 bits     -> the bin of the k-th largest
 *     narrow   12 more bits                                         -> its bin of those
 *     narrow   the last 7                                           -> the k-th largest itself
 *     send     everything above it, and the first of those that equal it
 *
 * As soon as a bracket leaves at most 4 k + 16384 entries, they are listed tile by tile, and the
 * following launches look at the list only. A bin of 12 bits is a sixteenth of an octave, so
 * usually the first `narrow` lists them: two passes, 4L + 8 bytes an entry with L terms (feedback
 * one of them) and 20 to 30 for each listed one. If all were equal the vector would be read three
 * times more.
 *
 * Places in the payload come from looking back (compact.cuh), 8 tiles at a time, a warp for each.
 */
#include "topk_scratch.cuh"

namespace {

constexpr int FIRST_SHIFT = 19, SECOND_SHIFT = 7;
constexpr int TILES_AT_ONCE = COG_MAX_WARPS;

/* ---- bins ------------------------------------------------------------------------------------ */

/* Entries of the bracket [low, low + 2^from) into bins of 2^shift. Bin 0 is what remains, so zeros,
 * of which there may be many, are not counted. */
template <int N>
__device__ inline void count_bins(const uint32_t (&u)[N], uint32_t low, int from, int shift,
                                  uint32_t *bin) {
#pragma unroll
    for (int i = 0; i < N; i++) {
        const uint32_t above = (u[i] >> 1) - low; /* what lies below becomes huge */
        if (above >> from == 0 && above >> shift != 0) atomicAdd(&bin[above >> shift], 1u);
    }
}

__device__ inline void clear_bins(uint32_t *bin, int n_bins) {
    for (int b = (int)threadIdx.x; b < n_bins; b += (int)blockDim.x) bin[b] = 0;
    __syncthreads();
}

__device__ inline void add_bins(const uint32_t *bin, int n_bins, topk_scratch *s) {
    __syncthreads();
    for (int b = (int)threadIdx.x; b < n_bins; b += (int)blockDim.x)
        if (bin[b] != 0) atomicAdd(&s->bin[b], (cog_u64)bin[b]);
}

/* The sum of `mine` over the threads before this one; *all over the whole block. One barrier. */
__device__ inline cog_u64 block_scan(cog_u64 mine, cog_u64 (&of_warp)[COG_MAX_WARPS],
                                     cog_u64 *all) {
    const cog_u64 sum = cog_warp_scan(mine);
    if (cog_lane() == COG_WARP - 1) of_warp[cog_warp()] = sum;
    __syncthreads();
    cog_u64 total = 0, before = sum - mine;
    for (int w = 0; w < (int)blockDim.x / COG_WARP; w++) {
        if (w == cog_warp()) before += total;
        total += of_warp[w];
    }
    *all = total;
    return before;
}

/* The bracket becomes the bin of the k-th largest. One block; thread 0 holds the highest bins. */
__device__ inline void narrow_bracket(topk_scratch *s, int64_t k, int n_bins, int shift,
                                      cog_u64 (&of_warp)[COG_MAX_WARPS]) {
    const int each = (n_bins + (int)blockDim.x - 1) / (int)blockDim.x;
    const int top = n_bins - 1 - (int)threadIdx.x * each;
    const int64_t wanted = k - s->above;
    cog_u64 mine = 0, all;
    for (int b = top; b > top - each && b >= 0; b--) mine += s->bin[b];
    int64_t before = (int64_t)block_scan(mine, of_warp, &all);
    if (before < wanted && wanted <= before + (int64_t)mine) {
        int b = top;
        while (before + (int64_t)s->bin[b] < wanted) before += (int64_t)s->bin[b--];
        s->at_least = s->above + before + (int64_t)s->bin[b];
        s->above += before;
        s->low += (uint32_t)b << shift;
    } else if (threadIdx.x == 0 && (int64_t)all < wanted) {
        s->above += (int64_t)all;
    }
    __syncthreads();
    for (int b = (int)threadIdx.x; b < n_bins; b += (int)blockDim.x) s->bin[b] = 0;
}

/* ---- the first pass -------------------------------------------------------------------------- */

constexpr int ROWS_AT_ONCE = 4;

__global__ void __launch_bounds__(COG_THREADS, 4)
    combine_kernel(const __grid_constant__ cog_kernel_terms terms,
                   const __grid_constant__ cog_topk_format f, float *residual, topk_scratch *s) {
    __shared__ uint32_t bin[TOPK_BINS];
    __shared__ cog_u64 of_warp[COG_MAX_WARPS];
    if (s->mode == TOPK_ABOVE) return;
    clear_bins(bin, TOPK_BINS);
    constexpr int64_t step = 4 * ROWS_AT_ONCE * COG_THREADS;
    for (int64_t first = blockIdx.x * step; first < f.n; first += gridDim.x * step) {
        const int count = cog_tile_count(first, f.n, step);
        float4 v[ROWS_AT_ONCE];
        uint32_t u[4 * ROWS_AT_ONCE];
        cog_read_trial(terms, first, count, v);
        cog_rank_rows(v, u);
        count_bins(u, 0, 31, FIRST_SHIFT, bin);
        cog_write_rows(residual + first, count, v);
    }
    add_bins(bin, TOPK_BINS, s);
    if (!cog_is_last_block(&s->n_done)) return;
    if (threadIdx.x == 0) {
        s->low = 0;
        s->above = 0;
        s->at_least = f.n;
        s->n_listed = 0;
    }
    __syncthreads();
    narrow_bracket(s, f.wanted, TOPK_BINS, FIRST_SHIFT, of_warp);
    if (threadIdx.x == 0) s->mode = s->at_least <= topk_capacity(f) ? TOPK_GATHER : TOPK_REFINE;
}

/* ---- narrowing ------------------------------------------------------------------------------- */

struct narrow_shared {
    uint32_t bin[TOPK_BINS];
    int64_t start;
    int rank[COG_MAX_WARPS];
    cog_u64 sum[COG_MAX_WARPS];
};

/* A tile's entries that reach the bracket go to the list. */
template <int ROWS>
__device__ inline void gather(const uint32_t (&u)[4 * ROWS], int n_left, uint32_t low, int64_t t,
                              topk_scratch *s, const topk_arrays &arrays, narrow_shared &shared,
                              cog_list<ROWS> &list) {
    const uint32_t marks = cog_reaching(u, low) & cog_existing<ROWS>(n_left);
    int n;
    const cog_ranks ranks = cog_rank<ROWS>(marks, shared.rank, &n);
    if (threadIdx.x == 0) {
        shared.start = (int64_t)atomicAdd(&s->n_listed, (cog_u64)n);
        arrays.start[t] = shared.start;
        arrays.count[t] = (uint16_t)n;
    }
    cog_each_marked<ROWS>(marks, ranks, [&](int i, int rank) {
        list.value[rank] = cog_unranked(u[i]);
        list.offset[rank] = (uint16_t)cog_place<ROWS>(i);
    });
    __syncthreads();
    cog_emit(list, n, false, arrays.value, arrays.place, shared.start);
}

/* The bracket [low, low + 2^from) shrinks to 2^shift. */
template <int ROWS>
__global__ void __launch_bounds__(COG_THREADS, 4)
    narrow_kernel(const __grid_constant__ cog_topk_format f, const float *residual, int from,
                  int shift, topk_scratch *s, topk_arrays arrays) {
    __shared__ narrow_shared shared;
    __shared__ cog_list<ROWS> list;
    const uint32_t mode = s->mode, low = s->low;
    const int n_bins = 1 << (from - shift);
    if (mode == TOPK_ABOVE) return;
    clear_bins(shared.bin, n_bins);
    if (mode == TOPK_LISTED) {
        const int64_t n_listed = (int64_t)s->n_listed;
        for (int64_t i = cog_first(); i < n_listed; i += cog_stride()) {
            const uint32_t u[1] = {cog_ranked(__uint_as_float(arrays.value[i]))};
            count_bins(u, low, from, shift, shared.bin);
        }
    } else {
        for (int64_t t = blockIdx.x; t < f.n_tiles; t += gridDim.x) {
            const int64_t first = t * f.tile;
            const int count = cog_tile_count(first, f.n, f.tile);
            float4 v[ROWS];
            uint32_t u[4 * ROWS];
            cog_read_rows(residual + first, count, v);
            cog_rank_rows(v, u);
            count_bins(u, low, from, shift, shared.bin);
            if (mode == TOPK_GATHER) gather<ROWS>(u, count, low, t, s, arrays, shared, list);
        }
    }
    add_bins(shared.bin, n_bins, s);
    if (!cog_is_last_block(&s->n_done)) return;
    narrow_bracket(s, f.wanted, n_bins, shift, shared.sum);
    if (threadIdx.x != 0) return;
    const bool listed = mode != TOPK_REFINE, fits = s->at_least <= topk_capacity(f);
    s->mode = listed ? TOPK_LISTED : fits ? TOPK_GATHER : TOPK_REFINE;
}

/* ---- sending --------------------------------------------------------------------------------- */

/* A tile's entries that may be sent, in order of index: listed ones, or all. */
struct candidates {
    const uint32_t *value;
    const uint16_t *place; /* NULL: entry i itself */
    int n;
};

__device__ inline candidates candidates_of(const cog_topk_format &f, const float *residual,
                                           bool listed, const topk_arrays &arrays, int64_t t) {
    if (t >= f.n_tiles) return {nullptr, nullptr, 0};
    if (listed)
        return {arrays.value + arrays.start[t], arrays.place + arrays.start[t],
                (int)arrays.count[t]};
    const int64_t first = t * f.tile;
    return {reinterpret_cast<const uint32_t *>(residual + first), nullptr,
            cog_tile_count(first, f.n, f.tile)};
}

/* How many of a tile are above the smallest one sent, and how many equal it. A warp. */
__device__ inline void count_sent(const candidates &c, uint32_t bound, int *greater, int *equal) {
    int n_greater = 0, n_equal = 0;
    for (int i = cog_lane(); i < c.n; i += COG_WARP) {
        const uint32_t size = c.value[i] & 0x7fffffffu;
        n_greater += size > bound;
        n_equal += size == bound;
    }
    *greater = __reduce_add_sync(COG_ALL_LANES, n_greater);
    *equal = __reduce_add_sync(COG_ALL_LANES, n_equal);
}

/* The number of lanes below this one that say yes. */
__device__ inline int votes_before(unsigned votes) {
    return __popc(votes & ((1u << cog_lane()) - 1));
}

/* Sends what is above the bound and equal ones as long as `quota` lasts. A warp. */
__device__ inline void send_tile(const cog_topk_format &f, const candidates &c, uint32_t bound,
                                 int64_t quota, int64_t at, float *tile, char *value,
                                 uint16_t *offset) {
    for (int first = 0; first < c.n; first += COG_WARP) {
        const int i = first + cog_lane();
        const uint32_t bits = i < c.n ? c.value[i] : 0, size = bits & 0x7fffffffu;
        const bool is_equal = i < c.n && size == bound;
        const unsigned equals = __ballot_sync(COG_ALL_LANES, is_equal);
        const bool sent = i < c.n && (size > bound || (is_equal && votes_before(equals) < quota));
        const unsigned sends = __ballot_sync(COG_ALL_LANES, sent);
        quota -= __popc(equals);
        if (sent) {
            const int64_t to = at + votes_before(sends);
            const int place = c.place != nullptr ? c.place[i] : i;
            const float x = __uint_as_float(bits);
            if (f.bf16_values)
                reinterpret_cast<uint16_t *>(value)[to] = cog_sent_bf16(x);
            else
                reinterpret_cast<float *>(value)[to] = x;
            offset[to] = (uint16_t)place;
            tile[place] = cog_topk_left(x, f.bf16_values);
        }
        at += __popc(sends);
    }
}

struct send_shared {
    uint32_t unit;
    int greater[TILES_AT_ONCE], equal[TILES_AT_ONCE];
    cog_u64 before[2]; /* greater, equal */
};

/* Where the tile of this warp stands among all: what is greater, and what is equal, before it. */
__device__ inline void look_back_twice(send_shared &shared, uint32_t unit, uint32_t call,
                                       const topk_arrays &arrays, int64_t *greater,
                                       int64_t *equal) {
    __syncthreads();
    if (cog_warp() < 2) {
        const int *mine = cog_warp() == 0 ? shared.greater : shared.equal;
        const int own = cog_lane() < TILES_AT_ONCE ? mine[cog_lane()] : 0;
        const cog_u64 sum = (cog_u64)__reduce_add_sync(COG_ALL_LANES, own);
        cog_u64 *const published = cog_warp() == 0 ? arrays.greater : arrays.equal;
        const cog_u64 before = cog_look_back(published, unit, call, sum);
        if (cog_lane() == 0) shared.before[cog_warp()] = before;
    }
    __syncthreads();
    *greater = (int64_t)shared.before[0];
    *equal = (int64_t)shared.before[1];
    for (int w = 0; w < cog_warp(); w++) {
        *greater += shared.greater[w];
        *equal += shared.equal[w];
    }
}

/* kind=threshold: offsets to where the number of values lets them begin, zeros behind. */
__device__ inline void move_offsets(const cog_topk_format &f, const uint16_t *from, int64_t m,
                                    char *payload) {
    uint16_t *const to = cog_topk_offsets(f, payload, m);
    for (int64_t i = cog_first(); i < m; i += cog_stride()) to[i] = from[i];
}

__global__ void __launch_bounds__(COG_THREADS, 4)
    send_kernel(const __grid_constant__ cog_topk_format f, float *residual, uint32_t *threshold,
                topk_scratch *s, topk_arrays arrays, char *payload) {
    __shared__ send_shared shared;
    const uint32_t mode = s->mode;
    if (mode == TOPK_ABOVE) {
        move_offsets(f, arrays.offset, s->m, payload);
        return;
    }
    const uint32_t bound = s->low, call = s->exact_calls + 1;
    const int64_t n_equal = f.wanted - s->above;
    uint16_t *const offset = cog_topk_offsets(f, payload, f.wanted);
    if (cog_first() == 0) {
        *reinterpret_cast<uint32_t *>(payload) = (uint32_t)f.wanted;
        cog_topk_pad(f, payload, f.wanted);
        if (threshold != nullptr) *threshold = bound < 0x7f7fffffu ? bound : 0x7f7fffffu;
    }
    for (;;) {
        const uint32_t unit = cog_next_unit(&s->ticket, &shared.unit);
        const int64_t t = (int64_t)unit * TILES_AT_ONCE + cog_warp();
        if ((int64_t)unit * TILES_AT_ONCE >= f.n_tiles) break;
        const candidates c = candidates_of(f, residual, mode == TOPK_LISTED, arrays, t);
        int greater, equal;
        count_sent(c, bound, &greater, &equal);
        if (cog_lane() == 0) {
            shared.greater[cog_warp()] = greater;
            shared.equal[cog_warp()] = equal;
        }
        int64_t greater_before, equal_before;
        look_back_twice(shared, unit, call, arrays, &greater_before, &equal_before);
        if (t >= f.n_tiles) continue;
        const int64_t left = n_equal - equal_before;
        const int64_t quota = left < 0 ? 0 : left < equal ? left : equal;
        const int64_t at = greater_before + (equal_before < n_equal ? equal_before : n_equal);
        if (cog_lane() == 0) cog_topk_note(f, payload, t, at, greater + (int)quota);
        send_tile(f, c, bound, quota, at, residual + t * f.tile, payload + f.value, offset);
    }
    if (!cog_is_last_block(&s->n_done) || threadIdx.x != 0) return;
    s->exact_calls = call;
    s->ticket = 0;
}

/* A message of no entries; its threshold changes as that of the CPU does. */
__global__ void empty_kernel(uint32_t *threshold, uint32_t *payload) {
    *payload = 0;
    if (threshold != nullptr) *threshold = *threshold == 0 ? 0x7f7fffffu : 0;
}

} // namespace

/* ---------------------------------------------------------------------------------------------- */

extern "C" int cog_cuda_topk_exact(void *stream, const cog_kernel_format *format, int64_t wanted,
                                   const cog_kernel_terms *terms, float *residual,
                                   uint32_t *threshold, void *scratch, void *payload) {
    if (format->n <= 0)
        return COG_LAUNCH(empty_kernel, 1, 1, 0, stream, threshold, (uint32_t *)payload);
    const cog_topk_format f = cog_topk_format_of(*format, wanted, 1);
    topk_scratch *const s = (topk_scratch *)scratch;
    const topk_arrays arrays = topk_arrays_of(f, scratch);
    int status = COG_LAUNCH(combine_kernel, cog_grid((f.n + 15) / 16), COG_THREADS, 0, stream,
                            *terms, f, residual, s);
    if (status == cudaSuccess)
        status = COG_LAUNCH_TILES(narrow_kernel, f, stream, f, residual, FIRST_SHIFT, SECOND_SHIFT,
                                  s, arrays);
    if (status == cudaSuccess)
        status =
            COG_LAUNCH_TILES(narrow_kernel, f, stream, f, residual, SECOND_SHIFT, 0, s, arrays);
    if (status != cudaSuccess) return status;
    return COG_LAUNCH(send_kernel, cog_tile_grid(topk_units(f)), COG_THREADS, 0, stream, f,
                      residual, threshold, s, arrays, (char *)payload);
}

extern "C" size_t cog_cuda_topk_scratch_bytes(const cog_kernel_format *format, int64_t wanted) {
    return topk_scratch_bytes(cog_topk_format_of(*format, wanted, 1));
}
