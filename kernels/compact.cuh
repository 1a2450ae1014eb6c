/* compact.cuh - marked entries in order of index: within a tile, from tile to tile, to memory.
 *
 * A thread marks its entries (see trial.cuh) in a mask, bit 4 r + e for entry e of row r. The order
 * of index is row by row, so ranks are counted for all rows at once, a byte each in one 32-bit
 * word: a warp has 128 entries of a row at most.
 *
 * From tile to tile: a block takes its tile from a ticket, publishes how many it has, and looks
 * back over its predecessors until one of them knows the sum of all before (Merrill and Garland,
 * decoupled look-back, 2016). Only tiles with earlier tickets are waited for, and those have
 * started. What is published says in which call, so nothing is cleared between calls:
 *
 *     63 .. 42  call    41 .. 40  1: own number, 2: sum up to here    39 .. 0  the number
 */
#ifndef COG_COMPACT_CUH
#define COG_COMPACT_CUH

#include "trial.cuh"

typedef unsigned long long cog_u64; /* what CUDA's atomics take */

constexpr int COG_MAX_WARPS = COG_THREADS / COG_WARP;

/* ---- within a tile --------------------------------------------------------------------------- */

/* The sum of `mine` over this lane and those below. */
template <class T> __device__ inline T cog_warp_scan(T mine) {
#pragma unroll
    for (int apart = 1; apart < COG_WARP; apart *= 2) {
        const T other = __shfl_up_sync(COG_ALL_LANES, mine, apart);
        if (cog_lane() >= apart) mine += other;
    }
    return mine;
}

/* Where a thread's marked entries are among all of the tile. */
struct cog_ranks {
    uint32_t in_row;  /* byte r: marks of row r in the lanes below */
    uint32_t of_rows; /* byte r: marks of row r in the warp */
    int before;       /* marks in the warps below */
};

/* *n is the number of all marks. of_warp is shared; the one barrier in here lies between writing
 * and reading it. */
template <int ROWS>
__device__ inline cog_ranks cog_rank(uint32_t marks, int (&of_warp)[COG_MAX_WARPS], int *n) {
    uint32_t mine = 0;
#pragma unroll
    for (int r = 0; r < ROWS; r++) mine |= (uint32_t)__popc(marks >> 4 * r & 15u) << 8 * r;
    const uint32_t sum = cog_warp_scan(mine);
    cog_ranks ranks = {sum - mine, __shfl_sync(COG_ALL_LANES, sum, COG_WARP - 1), 0};
    if (cog_lane() == 0)
        of_warp[cog_warp()] = (int)((ranks.of_rows & 0xff) + (ranks.of_rows >> 8 & 0xff) +
                                    (ranks.of_rows >> 16 & 0xff) + (ranks.of_rows >> 24));
    __syncthreads();
    int all = 0;
    for (int w = 0; w < (int)blockDim.x / COG_WARP; w++) {
        if (w == cog_warp()) ranks.before = all;
        all += of_warp[w];
    }
    *n = all;
    return ranks;
}

/* The marked entries of a tile, gathered here so that they go to memory side by side. */
template <int ROWS> struct cog_list {
    float value[4 * ROWS * COG_THREADS];
    uint16_t offset[4 * ROWS * COG_THREADS];
};

/* Entry i of the thread's 4 * ROWS ones: where it lies in the tile. */
template <int ROWS> __device__ inline int cog_place(int i) {
    return cog_row<ROWS>(i / 4) + 4 * cog_lane() + i % 4;
}

/* visit(i, rank) for every marked entry i of the thread; i is known when compiling. */
template <int ROWS, class Visit>
__device__ inline void cog_each_marked(uint32_t marks, const cog_ranks &ranks, Visit visit) {
    if (marks == 0) return;
    int before = ranks.before;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int rank = before + (int)(ranks.in_row >> 8 * r & 0xff);
#pragma unroll
        for (int i = 4 * r; i < 4 * r + 4; i++)
            if (marks >> i & 1u) visit(i, rank++);
        before += (int)(ranks.of_rows >> 8 * r & 0xff);
    }
}

/* The first n of the list to places `at` and so on. */
template <int ROWS>
__device__ inline void cog_emit(const cog_list<ROWS> &list, int n, bool bf16_values, void *value,
                                uint16_t *offset, int64_t at) {
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
        if (bf16_values)
            static_cast<uint16_t *>(value)[at + i] = cog_sent_bf16(list.value[i]);
        else
            static_cast<float *>(value)[at + i] = list.value[i];
        offset[at + i] = list.offset[i];
    }
}

/* ---- from tile to tile ----------------------------------------------------------------------- */

/* The sum of the numbers of all units before this one; own is this one's. A whole warp. */
__device__ inline cog_u64 cog_look_back(cog_u64 *published, uint32_t unit, uint32_t call,
                                        cog_u64 own) {
    constexpr cog_u64 NUMBER = (1ull << 40) - 1, OWN = 1ull << 40, SUM = 2ull << 40;
    const cog_u64 tag = (cog_u64)(call & 0x3fffffu) << 42;
    if (cog_lane() == 0) atomicExch(&published[unit], tag | (unit == 0 ? SUM : OWN) | own);
    cog_u64 before = 0;
#pragma unroll 1
    for (uint32_t end = unit; end > 0; end -= COG_WARP) {
        const uint32_t other = end - 1 - (uint32_t)cog_lane();
        cog_u64 word = tag | SUM;
        if (other < end) do
                word = atomicAdd(&published[other], 0ull);
            while (word >> 42 != tag >> 42);
        const unsigned sums = __ballot_sync(COG_ALL_LANES, (word & SUM) != 0);
        const int last = sums != 0 ? __ffs((int)sums) - 1 : COG_WARP - 1;
        before += cog_warp_reduce(cog_lane() <= last ? word & NUMBER : 0, cog_sum());
        if (sums != 0) break;
    }
    if (cog_lane() == 0 && unit > 0) atomicExch(&published[unit], tag | SUM | (before + own));
    return before;
}

/* The number of the next unit of work, the same in all threads. *shared is shared; two barriers. */
__device__ inline uint32_t cog_next_unit(uint32_t *ticket, uint32_t *shared) {
    __syncthreads(); /* everybody has read the last one */
    if (threadIdx.x == 0) *shared = atomicAdd(ticket, 1u);
    __syncthreads();
    return *shared;
}

/* True in the block that comes here last; it sees what the others wrote. *n_done is 0 again. */
__device__ inline bool cog_is_last_block(uint32_t *n_done) {
    __shared__ uint32_t before;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) before = atomicInc(n_done, gridDim.x - 1);
    __syncthreads();
    __threadfence();
    return before == gridDim.x - 1;
}

#endif
