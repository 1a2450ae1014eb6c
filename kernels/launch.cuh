/* launch.cuh - what every kernel file includes: the launch macro and the device helpers.
 *
 * Two compilers take the very same kernel files: nvcc, and the host compiler with the SIMT
 * executor's cuda_runtime.h (tests/simt) first on its include path. The rules that keep it so:
 *
 *   1. Launch with COG_LAUNCH only. It yields a cudaError_t. A template with a comma in its
 *      arguments goes in parentheses: COG_LAUNCH((k<4, true>), ...).
 *   2. Dynamic shared memory has one name, cog_shared, aligned to 16 bytes; cast it.
 *      Static: `__shared__ float tile[32][33];` as usual.
 *   3. Every barrier, shuffle and vote is reached by all the lanes its mask names: leave no thread
 *      early in a kernel that has one. Blocks have whole warps.
 *   4. A kernel that waits for another block takes its number from an atomic ticket, never from
 *      blockIdx; what another block wrote is read after __threadfence() there and an atomic on
 *      both sides.
 *   5. No memcpy or memset of global memory, no inline PTX.
 *   6. Where bits count, products and sums are spelled: __fmul_rn, __fadd_rn, fmaf.
 *   7. A host launcher is extern "C", is declared in kernels.h, returns its cudaError_t as an int,
 *      and launches nothing when there is nothing to do.
 *
 *     __global__ void scale_kernel(float a, float *x, int64_t n) {
 *         for (int64_t i = cog_first(); i < n; i += cog_stride()) x[i] = __fmul_rn(a, x[i]);
 *     }
 *     extern "C" int cog_cuda_scale(void *stream, float a, float *x, int64_t n) {
 *         if (n <= 0) return cudaSuccess;
 *         return COG_LAUNCH(scale_kernel, cog_grid(n), COG_THREADS, 0, stream, a, x, n);
 *     }
 */
#ifndef COG_LAUNCH_CUH
#define COG_LAUNCH_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels.h"

#ifdef __CUDACC__ /* otherwise the SIMT executor defines it */
// clang-format off
#define COG_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                      \
    (kernel<<<(grid), (block), (shared_bytes), (cudaStream_t)(stream)>>>(__VA_ARGS__), \
     cudaGetLastError())
// clang-format on
#endif

extern __shared__ uint4 cog_shared[];

constexpr int COG_WARP = 32;
constexpr unsigned COG_ALL_LANES = 0xffffffffu;
constexpr int COG_THREADS = 256;     /* 8 warps: enough to hide latency, light on registers */
constexpr int COG_MAX_BLOCKS = 2048; /* about two waves of the widest GPUs; then they stride */

/* Blocks of COG_THREADS for n_items, one per thread, then grid-stride. */
static inline unsigned cog_grid(int64_t n_items) {
    const int64_t wanted = (n_items + COG_THREADS - 1) / COG_THREADS;
    return (unsigned)(wanted < 1 ? 1 : wanted < COG_MAX_BLOCKS ? wanted : COG_MAX_BLOCKS);
}

__device__ inline int64_t cog_first() { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline int64_t cog_stride() { return (int64_t)gridDim.x * blockDim.x; }

/* ---- vectors of any alignment ---------------------------------------------------------------- */

/* [0, head) one by one, n_groups groups of 4 entries, the rest one by one. */
struct cog_groups {
    int64_t head;
    int64_t n_groups;
};

/* Groups whose first entry lies at a 32-byte sector of `to`, so that no warp touches one sector
 * more than it must. All entries are single when not `congruent`. */
template <class T> static inline cog_groups cog_split(const T *to, int64_t n, bool congruent) {
    const int64_t head = (int64_t)((32 - (uintptr_t)to % 32) % 32 / sizeof(T));
    if (!congruent || n < head) return {0, 0};
    return {head, (n - head) / 4};
}

/* Whether groups of 4 are aligned in both vectors or in neither. */
template <class T, class U> static inline bool cog_congruent(const T *x, const U *y) {
    return (uintptr_t)x / sizeof(T) % 4 == (uintptr_t)y / sizeof(U) % 4;
}

static inline unsigned cog_grid_of_groups(int64_t n, cog_groups groups) {
    const int64_t n_single = n - 4 * groups.n_groups;
    return cog_grid(groups.n_groups > n_single ? groups.n_groups : n_single);
}

/* group(i) for the first entry of every group of 4, single(i) for every other entry below n. */
template <class Group, class Single>
__device__ inline void cog_each(int64_t n, cog_groups groups, Group group, Single single) {
#pragma unroll 1 /* loads could not overtake the stores anyway */
    for (int64_t g = cog_first(); g < groups.n_groups; g += cog_stride())
        group(groups.head + 4 * g);
    for (int64_t j = cog_first(); j < n - 4 * groups.n_groups; j += cog_stride())
        single(j < groups.head ? j : j + 4 * groups.n_groups);
}

/* 4 entries at once; p is aligned to the whole group. The store is spelled, because nvcc takes
 * plain ones apart now and then, which multiplies the sectors by 4. */
__device__ inline float4 cog_load4(const float *p) { return *reinterpret_cast<const float4 *>(p); }
__device__ inline ushort4 cog_load4(const uint16_t *p) {
    return *reinterpret_cast<const ushort4 *>(p);
}
__device__ inline void cog_store4(float *p, float4 v) { __stwb(reinterpret_cast<float4 *>(p), v); }
__device__ inline void cog_store4(uint16_t *p, ushort4 v) {
    __stwb(reinterpret_cast<ushort4 *>(p), v);
}

/* ---- bf16 ------------------------------------------------------------------------------------ */

/* The hardware's conversion makes every NaN the same; this one keeps sign and payload. */
__device__ inline unsigned short cog_bf16_of(float x) {
    const uint32_t bits = __float_as_uint(x);
    const uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1u);
    const uint32_t quiet = bits | 0x400000u; /* rounding could turn a NaN into infinity */
    return (unsigned short)(((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded) >> 16);
}

__device__ inline float cog_float_of(unsigned short x) {
    return __uint_as_float((uint32_t)x << 16);
}

/* ---- reductions in a fixed order ------------------------------------------------------------- */

struct cog_sum {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
struct cog_max {
    template <class T> __device__ T operator()(T a, T b) const { return a < b ? b : a; }
};

/* Every lane gets the result: a butterfly adds the same pairs on both sides, so the bits agree. */
template <class T, class Op> __device__ inline T cog_warp_reduce(T v, Op op) {
    for (int apart = COG_WARP / 2; apart > 0; apart /= 2)
        v = op(v, __shfl_xor_sync(COG_ALL_LANES, v, apart));
    return v;
}

/* Every thread gets the result. Neutral changes nothing: 0 for sums. Two barriers. */
template <class T, class Op> __device__ inline T cog_block_reduce(T v, T neutral, Op op) {
    __shared__ T of_warp[COG_WARP];
    const int lane = (int)threadIdx.x % COG_WARP, warp = (int)threadIdx.x / COG_WARP;
    v = cog_warp_reduce(v, op);
    if (lane == 0) of_warp[warp] = v;
    __syncthreads();
    v = lane < (int)blockDim.x / COG_WARP ? of_warp[lane] : neutral;
    __syncthreads(); /* the next call may write of_warp */
    return cog_warp_reduce(v, op);
}

#endif
