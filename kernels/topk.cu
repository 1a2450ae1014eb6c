/* topk.cu - top-k in one pass: the largest of every tile, or all above a carried threshold.
 *
 * Meaning and formats: host/compress/topk.c. One block looks at one tile at a time and keeps it in
 * registers; nothing is read twice. Bytes an entry with L terms (feedback one of them) and m of n
 * entries sent: 4L + 4 + 6 m/n, or 4 m/n with bf16 values.
 *
 * chunk      one launch. The cut is found by bisection on the bits of magnitudes, as on the CPU: a
 *            count is a compare for each entry and one barrier, all in registers, so equal numbers
 *            and equal exponents cost no more. First among the threads' maxima, which gives a
 *            bound that few entries besides the k largest reach.
 * threshold  see topk_exact.cu for its other launches. Where a tile's entries go is known by
 *            looking back over the numbers of the tiles before. Where the section of offsets begins
 *            is known at the very end, so offsets wait in scratch memory and are moved by the
 *            last launch: 4 m/n bytes more.
 */
#include "topk_scratch.cuh"

namespace {

/* ---- kind=chunk ------------------------------------------------------------------------------ */

/* At least k are counted at `low`, fewer above `high`: *above of them. Narrows until both meet, or
 * until k to k + slack are counted at `low`, and then returns true. */
template <class Count>
__device__ inline bool bisect(Count count, int k, int slack, uint32_t *low, uint32_t high,
                              int *above) {
    while (*low < high) {
        const uint32_t middle = *low + (high - *low + 1) / 2;
        const int found = count(middle);
        if (found >= k)
            *low = middle;
        else
            high = middle - 1, *above = found;
        if (found >= k && found <= k + slack) return true;
    }
    return false;
}

struct chunk_shared {
    int64_t start[2];
    int count[2][COG_MAX_WARPS];
    int rank[2][COG_MAX_WARPS];
};

/* Marks of the k largest of the tile, lower places first among equals. */
template <int ROWS>
__device__ inline uint32_t largest(const uint32_t (&u)[4 * ROWS], int n_left, int k,
                                   chunk_shared &s) {
    const uint32_t existing = cog_existing<ROWS>(n_left);
    if (k >= n_left) return existing;
    uint32_t most = 0;
#pragma unroll
    for (int i = 0; i < 4 * ROWS; i++) most = u[i] > most ? u[i] : most;
    most >>= 1;
    const uint32_t high = cog_block_reduce(most, 0u, cog_max());
    uint32_t low = 0;
    int above = 0, turn = 0;
    if (k < (int)blockDim.x)
        bisect([=](uint32_t bound) { return __syncthreads_count(most >= bound); }, k, k / 8, &low,
               high, &above);
    const auto count = [&](uint32_t bound) {
        const int mine = __reduce_add_sync(COG_ALL_LANES, __popc(cog_reaching(u, bound)));
        if (cog_lane() == 0) s.count[turn][cog_warp()] = mine;
        __syncthreads();
        const bool is_warp = cog_lane() < (int)blockDim.x / COG_WARP;
        const int of_warp = is_warp ? s.count[turn][cog_lane()] : 0;
        turn = 1 - turn; /* the next count need not wait until this one was read */
        return __reduce_add_sync(COG_ALL_LANES, of_warp);
    };
    above = 0;
    const bool exact = count(low) == k || bisect(count, k, 0, &low, high, &above);
    const uint32_t reaching = cog_reaching(u, low) & existing;
    if (exact) return reaching;
    const uint32_t equal = reaching & ~cog_reaching(u, low + 1);
    uint32_t marks = reaching & ~equal;
    int n_equal;
    const cog_ranks ranks = cog_rank<ROWS>(equal, s.rank[0], &n_equal);
    cog_each_marked<ROWS>(equal, ranks, [&](int i, int rank) {
        if (rank < k - above) marks |= 1u << i;
    });
    return marks;
}

/* Marked entries go to the list. */
template <int ROWS>
__device__ inline void take(uint32_t marks, const cog_ranks &ranks, const uint32_t (&u)[4 * ROWS],
                            cog_list<ROWS> &list) {
    cog_each_marked<ROWS>(marks, ranks, [&](int i, int rank) {
        list.value[rank] = cog_unranked(u[i]);
        list.offset[rank] = (uint16_t)cog_place<ROWS>(i);
    });
}

/* The first n of the list go out. The trial has been written to the residual; what these leave
 * behind replaces it, while the sectors are in the cache. */
template <int ROWS>
__device__ inline void send(const cog_topk_format &f, const cog_list<ROWS> &list, int n,
                            void *value, uint16_t *offset, int64_t at, float *residual) {
    cog_emit(list, n, f.bf16_values, value, offset, at);
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
        residual[list.offset[i]] = cog_topk_left(list.value[i], f.bf16_values);
}

template <int ROWS>
__global__ void __launch_bounds__(COG_THREADS, 4)
    chunk_kernel(const __grid_constant__ cog_kernel_terms terms,
                 const __grid_constant__ cog_topk_format f, float *residual, char *payload) {
    __shared__ cog_list<ROWS> list;
    __shared__ chunk_shared s;
    if (cog_first() == 0) cog_topk_pad(f, payload, f.kept);
    uint16_t *const offsets = cog_topk_offsets(f, payload, f.kept);
    for (int64_t t = blockIdx.x; t < f.n_tiles; t += gridDim.x) {
        const int64_t first = t * f.tile;
        const int n_left = cog_tile_count(first, f.n, f.tile);
        if (threadIdx.x < 2) s.start[threadIdx.x] = cog_chunk_start(f, t + threadIdx.x);
        uint32_t u[4 * ROWS];
        float4 v[ROWS];
        cog_read_trial(terms, first, n_left, v);
        cog_rank_rows(v, u);
        __syncthreads();
        const int64_t start = s.start[0];
        const int k = (int)(s.start[1] - start);
        const uint32_t marks = largest<ROWS>(u, n_left, k, s);
        int n;
        const cog_ranks ranks = cog_rank<ROWS>(marks, s.rank[1], &n);
        take<ROWS>(marks, ranks, u, list);
        cog_write_ranked<ROWS>(residual + first, n_left, u);
        __syncthreads();
        send(f, list, n, payload + f.value, offsets, start, residual + first);
    }
}

/* ---- kind=threshold -------------------------------------------------------------------------- */

/* See `adapted` in topk_pack.c. */
__device__ uint32_t adapted(const cog_topk_format &f, uint32_t threshold, int64_t found) {
    if (found < f.wanted / 4 || found == 0 || found > 4 * f.wanted) return 0;
    const int32_t step = __float_as_int((float)found) - __float_as_int((float)f.wanted);
    const int64_t next = (int64_t)threshold + step / f.slope;
    return (uint32_t)(next < 1 ? 1 : next < 0x7f7fffff ? next : 0x7f7fffff);
}

struct above_shared {
    uint32_t unit;
    int n;      /* entries of the tile that are sent, */
    int64_t at; /* and how many are before them */
    int rank[COG_MAX_WARPS];
};

/* Where the entries of tile t go, of which `found` reach the threshold. The first warp. */
__device__ inline void place_tile(const cog_topk_format &f, uint32_t t, int found,
                                  topk_scratch *scratch, cog_u64 *published, char *payload,
                                  above_shared &s) {
    const int64_t reached =
        (int64_t)cog_look_back(published, t, scratch->above_calls + 1, (cog_u64)found);
    if (cog_lane() != 0) return;
    const int64_t room = reached < f.kept ? f.kept - reached : 0;
    s.at = f.kept - room; /* reached, or all that may be sent */
    s.n = found < room ? found : (int)room;
    cog_topk_note(f, payload, t, s.at, s.n);
    if (t == f.n_tiles - 1) scratch->found = reached + found;
}

/* What reaches the threshold goes out, lowest index first, f.kept at most. */
template <int ROWS>
__global__ void __launch_bounds__(COG_THREADS, 4)
    above_kernel(const __grid_constant__ cog_kernel_terms terms,
                 const __grid_constant__ cog_topk_format f, float *residual, uint32_t *threshold,
                 topk_scratch *scratch, topk_arrays arrays, char *payload) {
    __shared__ cog_list<ROWS> list;
    __shared__ above_shared s;
    const uint32_t bound = *threshold;
    if (bound == 0) { /* the launches that follow choose exactly */
        if (cog_first() == 0) scratch->mode = TOPK_COMBINE;
        return;
    }
    for (;;) {
        const uint32_t t = cog_next_unit(&scratch->ticket, &s.unit);
        if (t >= f.n_tiles) break;
        const int64_t first = (int64_t)t * f.tile;
        const int n_left = cog_tile_count(first, f.n, f.tile);
        uint32_t u[4 * ROWS];
        float4 v[ROWS];
        cog_read_trial(terms, first, n_left, v);
        cog_rank_rows(v, u);
        const uint32_t marks = cog_reaching(u, bound);
        int found;
        const cog_ranks ranks = cog_rank<ROWS>(marks, s.rank, &found);
        take<ROWS>(marks, ranks, u, list);
        cog_write_ranked<ROWS>(residual + first, n_left, u);
        if (cog_warp() == 0) place_tile(f, t, found, scratch, arrays.above, payload, s);
        __syncthreads();
        send(f, list, s.n, payload + f.value, arrays.offset, s.at, residual + first);
    }
    if (!cog_is_last_block(&scratch->n_done) || threadIdx.x != 0) return;
    const int64_t found = scratch->found;
    scratch->m = found < f.kept ? found : f.kept;
    scratch->mode = TOPK_ABOVE;
    scratch->above_calls++;
    scratch->ticket = 0;
    *threshold = adapted(f, bound, found);
    *reinterpret_cast<uint32_t *>(payload) = (uint32_t)scratch->m;
    cog_topk_pad(f, payload, scratch->m);
}

} // namespace

/* ---------------------------------------------------------------------------------------------- */

extern "C" int cog_cuda_topk_chunk(void *stream, const cog_kernel_format *format,
                                   const cog_kernel_terms *terms, float *residual, void *payload) {
    if (format->n <= 0) return cudaSuccess;
    const cog_topk_format f = cog_topk_format_of(*format, format->kept, 1);
    return COG_LAUNCH_TILES(chunk_kernel, f, stream, *terms, f, residual, (char *)payload);
}

extern "C" int cog_cuda_topk_above(void *stream, const cog_kernel_format *format, int64_t wanted,
                                   int32_t slope, const cog_kernel_terms *terms, float *residual,
                                   uint32_t *threshold, void *scratch, void *payload) {
    if (format->n <= 0) return cudaSuccess;
    const cog_topk_format f = cog_topk_format_of(*format, wanted, slope);
    return COG_LAUNCH_TILES(above_kernel, f, stream, *terms, f, residual, threshold,
                            (topk_scratch *)scratch, topk_arrays_of(f, scratch), (char *)payload);
}
