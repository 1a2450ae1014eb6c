/* planted.cu - kernels for the tests of the executor; a name that ends in _right is the twin of a
 * wrong one without its error. */
#include <string.h>

#include "launch.cuh"
#include "planted.h"

namespace {

/* ---- shared memory --------------------------------------------------------------------------- */

template <bool SYNC> __global__ void shared_race(float *, float *y, int) {
    __shared__ float s[1024];
    s[threadIdx.x] = (float)threadIdx.x;
    if (SYNC) __syncthreads();
    y[cog_first()] = s[blockDim.x - 1 - threadIdx.x];
}

/* The second phase may overwrite what others still read. */
template <bool SYNC> __global__ void shared_reuse(float *, float *y, int) {
    __shared__ float s[1024];
    s[threadIdx.x] = (float)threadIdx.x;
    __syncthreads();
    const float v = s[(threadIdx.x + 32) % blockDim.x];
    if (SYNC) __syncthreads();
    s[threadIdx.x] = v;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}

template <bool SYNC> __global__ void warp_race(float *, float *y, int) {
    __shared__ float s[1024];
    s[threadIdx.x] = (float)threadIdx.x;
    if (SYNC) __syncwarp();
    y[threadIdx.x] = s[threadIdx.x ^ 1];
}

/* Everybody reads, thread n writes: it may be the last to read, but it was not the only one. */
__global__ void shared_read_by_all(float *, float *y, int n) {
    __shared__ float s;
    if (threadIdx.x == 0) s = 1;
    __syncthreads();
    y[threadIdx.x] = s;
    if ((int)threadIdx.x == n) s = 2;
}

/* Thread 0 of both warps reads, thread n of them writes. */
__global__ void shared_read_by_two_warps(float *, float *y, int n) {
    __shared__ float s;
    if (threadIdx.x == 1) s = 1;
    __syncthreads();
    if (threadIdx.x % 32 == 0) y[threadIdx.x] = s;
    if ((int)threadIdx.x == n) s = 2;
}

__global__ void shared_by_two_threads(float *, float *y, int) {
    __shared__ float s;
    if (threadIdx.x < 2) s = 1;
    __syncthreads();
    y[threadIdx.x] = s;
}

__global__ void shared_uninitialised(float *, float *y, int) {
    __shared__ float s[64];
    if (threadIdx.x < 31) s[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}

__global__ void shared_by_global_store(float *, float *y, int) {
    __shared__ float s[64];
    __stwb(&s[threadIdx.x], 1.0f);
    y[threadIdx.x] = s[threadIdx.x];
}

/* What the block before wrote is gone. */
__global__ void shared_left_over(float *, float *y, int) {
    __shared__ float s[64];
    if (blockIdx.x == 0) s[threadIdx.x] = 1;
    __syncthreads();
    y[blockIdx.x * blockDim.x + threadIdx.x] = s[threadIdx.x];
}

__global__ void dynamic_shared(float *x, float *y, int n) {
    float *s = reinterpret_cast<float *>(cog_shared);
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) s[i] = x[i];
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) y[i] = s[n - 1 - i];
}

/* Word threadIdx.x * n of shared memory, written and read. */
__global__ void shared_stride(float *, float *y, int n) {
    float *s = reinterpret_cast<float *>(cog_shared);
    s[(int)threadIdx.x * n] = 1;
    __syncthreads();
    y[threadIdx.x] = s[(int)threadIdx.x * n];
}

__global__ void shared_vectors(float *x, float *y, int) {
    __shared__ float4 s[1024];
    s[threadIdx.x] = cog_load4(x + 4 * threadIdx.x);
    __syncthreads();
    cog_store4(y + 4 * threadIdx.x, s[threadIdx.x]);
}

__global__ void shared_broadcast(float *, float *y, int) {
    __shared__ float s;
    if (threadIdx.x == 0) s = 3;
    __syncthreads();
    y[threadIdx.x] = s;
}

/* ---- barriers and warps ---------------------------------------------------------------------- */

__global__ void barrier_divergent(float *, float *y, int n) {
    if ((int)threadIdx.x < n)
        __syncthreads();
    else
        __syncthreads();
    y[threadIdx.x] = 1;
}

__global__ void barrier_not_reached(float *, float *y, int n) {
    if ((int)threadIdx.x >= n) return;
    __syncthreads();
    y[threadIdx.x] = 1;
}

__global__ void shuffle_of_ended(float *, float *y, int n) {
    if ((int)threadIdx.x >= n) return;
    y[threadIdx.x] = __shfl_xor_sync(COG_ALL_LANES, 1.0f, 1);
}

__global__ void ballot_of_divergent(float *, float *y, int n) {
    unsigned votes;
    if ((int)threadIdx.x < n)
        votes = __ballot_sync(COG_ALL_LANES, 1);
    else
        votes = (unsigned)__any_sync(COG_ALL_LANES, 1);
    y[threadIdx.x] = (float)votes;
}

__global__ void shuffle_without_itself(float *, float *y, int) {
    y[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 0);
}

__global__ void shuffle_from_unnamed(float *, float *y, int n) {
    if ((int)threadIdx.x < n) y[threadIdx.x] = __shfl_sync((1u << n) - 1, 1.0f, n);
}

/* Every verb of a warp, each result in one float; what it must be is in the test. */
__global__ void warp_verbs(float *, float *y, int) {
    const int lane = (int)threadIdx.x % 32, i = (int)threadIdx.x;
    float *out = y + 12 * i;
    out[0] = __shfl_sync(COG_ALL_LANES, (float)i, 5);
    out[1] = (float)__shfl_up_sync(COG_ALL_LANES, i, 3);
    out[2] = (float)__shfl_down_sync(COG_ALL_LANES, (long long)i, 3);
    out[3] = (float)__shfl_xor_sync(COG_ALL_LANES, (double)i, 7);
    out[4] = (float)__shfl_down_sync(COG_ALL_LANES, i, 3, 8);
    out[5] = (float)__popc(__ballot_sync(COG_ALL_LANES, lane % 3 == 0));
    out[6] = (float)__any_sync(COG_ALL_LANES, i == 40);
    out[7] = (float)__all_sync(COG_ALL_LANES, i < 40);
    out[8] = (float)__reduce_add_sync(COG_ALL_LANES, (unsigned)lane);
    out[9] = (float)__reduce_max_sync(COG_ALL_LANES, (unsigned)i);
    out[10] = cog_warp_reduce((float)i, cog_sum());
    out[11] = cog_block_reduce((float)i, 0.0f, cog_max());
}

/* Only the lanes of the mask go on together. */
__global__ void half_warps(float *, float *y, int) {
    const int lane = (int)threadIdx.x;
    if (lane < 16)
        y[lane] = (float)__shfl_xor_sync(0x0000ffffu, lane, 15);
    else
        y[lane] = (float)__reduce_add_sync(0xffff0000u, 1u);
}

/* The lanes that are left are the whole warp. */
__global__ void half_warp_ends(float *, float *y, int) {
    __shared__ float s[32];
    if (threadIdx.x >= 16) return;
    s[threadIdx.x] = 1;
    __syncwarp(0x0000ffffu);
    y[threadIdx.x] = s[15 - threadIdx.x];
}

/* Half a warp works for itself, with atomics and a crowd of readers. */
template <bool SYNC> __global__ void half_warp_alone(float *, float *y, int) {
    __shared__ int count;
    const int lane = (int)threadIdx.x;
    if (lane == 0) count = 0;
    __syncthreads();
    if (lane >= 16) return;
    atomicAdd(&count, 1);
    __syncwarp(0x0000ffffu);
    y[lane] = (float)count;
    if (SYNC) __syncwarp(0x0000ffffu);
    if (lane == 7) count = 0;
}

__global__ void two_reductions(float *, float *y, int) {
    const float sum = cog_block_reduce((float)threadIdx.x, 0.0f, cog_sum());
    y[threadIdx.x] = cog_block_reduce(sum, 0.0f, cog_sum());
}

/* ---- global memory --------------------------------------------------------------------------- */

__global__ void read_at(float *x, float *y, int n) {
    if (threadIdx.x == 0) y[0] = x[n];
}

__global__ void write_at(float *, float *y, int n) {
    if (threadIdx.x == 0) y[n] = 1;
}

__global__ void read_misaligned(float *x, float *y, int n) {
    if (threadIdx.x == 0) y[0] = cog_load4(x + n).x;
}

__global__ void same_place_in_all_blocks(float *, float *y, int) {
    if (threadIdx.x == 0) y[0] = 1;
}

/* Block n writes, in any order of blocks before or after some others. */
__global__ void read_by_all_blocks(float *x, float *y, int n) {
    if (threadIdx.x > 0) return;
    y[blockIdx.x] = x[0];
    if ((int)blockIdx.x == n) x[0] = -1;
}

__global__ void neighbours_of_other_blocks(float *x, float *y, int) {
    const int64_t i = cog_first();
    x[i] = 1;
    __syncthreads();
    y[i] = x[(i + blockDim.x) % cog_stride()];
}

__global__ void same_place_in_one_block(float *, float *y, int) { y[threadIdx.x / 2] = 1; }

template <bool SYNC> __global__ void global_exchange(float *x, float *y, int) {
    x[threadIdx.x] = (float)threadIdx.x;
    if (SYNC) __syncthreads();
    y[threadIdx.x] = x[blockDim.x - 1 - threadIdx.x];
}

/* The last block to finish adds the results of all: x[0] counts, x[1 + block] is a result. */
template <bool FENCE> __global__ void last_block_adds(float *x, float *y, int) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        x[1 + blockIdx.x] = (float)blockIdx.x;
        if (FENCE) __threadfence();
        last = atomicAdd(&x[0], 1.0f) == (float)(gridDim.x - 1);
        __threadfence();
    }
    __syncthreads();
    if (!last || threadIdx.x > 0) return;
    float sum = 0;
    for (unsigned b = 0; b < gridDim.x; b++) sum += x[1 + b];
    y[0] = sum;
    x[0] = 0;
}

/* What is written after the atomic may not be seen. */
__global__ void write_after_release(float *x, float *y, int) {
    if (threadIdx.x > 0) return;
    x[1 + blockIdx.x] = 1;
    __threadfence();
    const bool last = atomicAdd(&x[0], 1.0f) == (float)(gridDim.x - 1);
    if (!last) x[1 + blockIdx.x] = 2;
    for (unsigned b = 0; last && b < gridDim.x; b++) y[b] = x[1 + b];
}

/* Thread i reads entry i * n. */
__global__ void load_stride(float *x, float *y, int n) {
    const int64_t i = cog_first();
    y[i] = x[i * n];
}

__global__ void load_from_offset(float *x, float *y, int n) {
    const int64_t i = cog_first();
    y[i] = __ldg(x + i + n);
}

__global__ void load_vectors(float *x, float *y, int) {
    const int64_t i = cog_first();
    const float4 v = cog_load4(x + 4 * i);
    y[i] = v.x + v.y + v.z + v.w;
}

/* Lane l reads l + 1 entries: requests get smaller and smaller. */
__global__ void load_triangle(float *x, float *y, int) {
    float sum = 0;
    for (unsigned i = 0; i <= threadIdx.x; i++) sum += x[i * 32 + threadIdx.x];
    y[threadIdx.x] = sum;
}

/* First like load_triangle, then all lanes together by the same instruction; only n lanes. */
__global__ void load_triangle_and_row(float *x, float *y, int n) {
    float sum = 0;
    if ((int)threadIdx.x >= n) return;
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i <= (pass == 0 ? threadIdx.x : 0); i++)
            sum += x[pass * 1024 + i * 32 + threadIdx.x];
        __syncwarp(COG_ALL_LANES >> (32 - n));
    }
    y[threadIdx.x] = sum;
}

/* n threads add into one place by every kind of atomic. */
__global__ void atomics(float *x, float *y, int n) {
    __shared__ int in_block;
    int *words = reinterpret_cast<int *>(y);
    if (threadIdx.x == 0) in_block = 0;
    __syncthreads();
    const int i = (int)cog_first();
    if (i < n) {
        atomicAdd(&x[0], 1.0f);
        atomicMax(&words[1], i);
        atomicMin(&words[2], i);
        atomicOr(reinterpret_cast<unsigned *>(&words[3]), 1u << i % 32);
        int old = 0;
        for (int seen; (seen = atomicCAS(&words[4], old, old + i)) != old; old = seen) continue;
        atomicAdd(&in_block, 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd(&words[0], in_block);
}

struct entry {
    const char *name;
    void (*kernel)(float *, float *, int);
};

const entry entries[] = {
    {"shared_race", shared_race<false>},
    {"shared_race_right", shared_race<true>},
    {"shared_reuse", shared_reuse<false>},
    {"shared_reuse_right", shared_reuse<true>},
    {"warp_race", warp_race<false>},
    {"warp_race_right", warp_race<true>},
    {"shared_by_two_threads", shared_by_two_threads},
    {"shared_uninitialised", shared_uninitialised},
    {"shared_by_global_store", shared_by_global_store},
    {"shared_left_over", shared_left_over},
    {"dynamic_shared", dynamic_shared},
    {"shared_stride", shared_stride},
    {"shared_vectors", shared_vectors},
    {"shared_broadcast", shared_broadcast},
    {"barrier_divergent", barrier_divergent},
    {"barrier_not_reached", barrier_not_reached},
    {"shuffle_of_ended", shuffle_of_ended},
    {"ballot_of_divergent", ballot_of_divergent},
    {"shuffle_without_itself", shuffle_without_itself},
    {"shuffle_from_unnamed", shuffle_from_unnamed},
    {"warp_verbs", warp_verbs},
    {"half_warps", half_warps},
    {"read_at", read_at},
    {"write_at", write_at},
    {"read_misaligned", read_misaligned},
    {"same_place_in_all_blocks", same_place_in_all_blocks},
    {"neighbours_of_other_blocks", neighbours_of_other_blocks},
    {"same_place_in_one_block", same_place_in_one_block},
    {"global_exchange", global_exchange<false>},
    {"global_exchange_right", global_exchange<true>},
    {"last_block_adds", last_block_adds<false>},
    {"last_block_adds_right", last_block_adds<true>},
    {"load_stride", load_stride},
    {"load_from_offset", load_from_offset},
    {"load_vectors", load_vectors},
    {"load_triangle", load_triangle},
    {"shared_read_by_all", shared_read_by_all},
    {"half_warp_ends", half_warp_ends},
    {"two_reductions", two_reductions},
    {"half_warp_alone", half_warp_alone<false>},
    {"half_warp_alone_right", half_warp_alone<true>},
    {"read_by_all_blocks", read_by_all_blocks},
    {"load_triangle_and_row", load_triangle_and_row},
    {"shared_read_by_two_warps", shared_read_by_two_warps},
    {"write_after_release", write_after_release},
    {"atomics", atomics},
};

} // namespace

extern "C" int planted(const char *name, unsigned grid, unsigned block, size_t shared_bytes,
                       float *x, float *y, int n) {
    for (const entry &e : entries)
        if (strcmp(e.name, name) == 0)
            return COG_LAUNCH(e.kernel, grid, block, shared_bytes, nullptr, x, y, n);
    return cudaErrorInvalidValue;
}
