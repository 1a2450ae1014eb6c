/* add.cu - y += weight * decoded(payload), one fused multiply-add an entry. Meaning:
 * host/compress/.
 *
 * Dense families go through y once: bytes an entry 4 + 8, bf16 2 + 8, sign 1/8 + 8 and 1/8 more
 * with zeros. Top-k changes the m entries it speaks of, no two the same, a warp for a tile: 6 bytes
 * an entry sent, 4 with bf16 values, up to 132 bytes of the table for a tile, and a sector of y,
 * read and written, for each entry.
 */
#include "topk.cuh"

namespace {

__device__ inline float4 plus(float w, float4 x, float4 y) { return cog_plus_times(w, x, y); }

__global__ void add_floats_kernel(const float *x, float weight, int64_t n, float *y,
                                  cog_groups groups) {
    cog_each(
        n, groups,
        [=](int64_t i) { cog_store4(y + i, plus(weight, cog_load4(x + i), cog_load4(y + i))); },
        [=](int64_t i) { y[i] = fmaf(weight, x[i], y[i]); });
}

__global__ void add_bf16_kernel(const uint16_t *x, float weight, int64_t n, float *y,
                                cog_groups groups) {
    cog_each(
        n, groups,
        [=](int64_t i) {
            const ushort4 v = cog_load4(x + i);
            cog_store4(y + i, plus(weight,
                                   make_float4(cog_float_of(v.x), cog_float_of(v.y),
                                               cog_float_of(v.z), cog_float_of(v.w)),
                                   cog_load4(y + i)));
        },
        [=](int64_t i) { y[i] = fmaf(weight, cog_float_of(x[i]), y[i]); });
}

/* A thread has 4 entries of a row, 8 threads share a word. first is a multiple of 4096. */
__global__ void __launch_bounds__(COG_THREADS)
    add_signs_kernel(const __grid_constant__ cog_kernel_format f, const char *payload, float weight,
                     int64_t first, int64_t count, float *y) {
    constexpr int STEP = 4 * COG_THREADS;
    const bool has_zeros = *reinterpret_cast<const uint32_t *>(payload) != 0;
    const float *const scale = reinterpret_cast<const float *>(payload + 4);
    const uint32_t *const negative = reinterpret_cast<const uint32_t *>(payload + f.body);
    const uint32_t *const zero = reinterpret_cast<const uint32_t *>(payload + f.extra);
    for (int64_t at = blockIdx.x * (int64_t)STEP; at < count; at += gridDim.x * (int64_t)STEP) {
        const int n_left = cog_tile_count(at, count, STEP), mine = 4 * (int)threadIdx.x;
        float4 old[1], v = make_float4(0, 0, 0, 0);
        cog_read_rows(y + at, n_left, old);
        if (mine < n_left) {
            const int64_t i = first + at + mine;
            const float size = scale[i >> f.part_bits];
            const uint32_t minus = negative[i / 32] >> i % 32;
            const uint32_t nothing = has_zeros ? zero[i / 32] >> i % 32 : 0;
            v.x = nothing & 1 ? 0 : minus & 1 ? -size : size;
            v.y = nothing & 2 ? 0 : minus & 2 ? -size : size;
            v.z = nothing & 4 ? 0 : minus & 4 ? -size : size;
            v.w = nothing & 8 ? 0 : minus & 8 ? -size : size;
        }
        old[0] = plus(weight, v, old[0]);
        cog_write_rows(y + at, n_left, old);
    }
}

/* Where tile t begins and how many entries it has. A warp. */
__device__ inline int64_t find_tile(const cog_topk_format &f, const char *payload, int64_t t,
                                    int *n) {
    if (!f.table) {
        const int64_t start = cog_chunk_start(f, t);
        *n = (int)(cog_chunk_start(f, t + 1) - start);
        return start;
    }
    const uint16_t *const count = reinterpret_cast<const uint16_t *>(payload + f.count);
    int before = 0;
    for (int64_t other = t / COG_RUN * COG_RUN + cog_lane(); other < t; other += COG_WARP)
        before += count[other];
    *n = count[t];
    return (int64_t) reinterpret_cast<const uint32_t *>(payload + f.base)[t / COG_RUN] +
           __reduce_add_sync(COG_ALL_LANES, before);
}

__global__ void add_topk_kernel(const __grid_constant__ cog_topk_format f, const char *payload,
                                float weight, int64_t first, int64_t count, float *y) {
    const int64_t m = f.table ? *reinterpret_cast<const uint32_t *>(payload) : f.kept;
    const uint16_t *const offset = cog_topk_offsets(f, payload, m);
    const int64_t end = (first + count + f.tile - 1) / f.tile, step = cog_stride() / COG_WARP;
    for (int64_t t = first / f.tile + cog_first() / COG_WARP; t < end; t += step) {
        int n;
        const int64_t start = find_tile(f, payload, t, &n);
        for (int64_t i = start + cog_lane(); i < start + n; i += COG_WARP) {
            const int64_t at = t * f.tile + offset[i] - first;
            if (at >= count) continue; /* the range ends in this tile */
            const float value =
                f.bf16_values
                    ? cog_float_of(reinterpret_cast<const uint16_t *>(payload + f.value)[i])
                    : reinterpret_cast<const float *>(payload + f.value)[i];
            y[at] = fmaf(weight, value, y[at]);
        }
    }
}

} // namespace

/* ---------------------------------------------------------------------------------------------- */

extern "C" int cog_cuda_add_floats(void *stream, const float *x, float weight, int64_t n,
                                   float *y) {
    if (n <= 0) return cudaSuccess;
    const cog_groups groups = cog_split(y, n, cog_congruent(x, y));
    return COG_LAUNCH(add_floats_kernel, cog_grid_of_groups(n, groups), COG_THREADS, 0, stream, x,
                      weight, n, y, groups);
}

extern "C" int cog_cuda_add_bf16(void *stream, const uint16_t *x, float weight, int64_t n,
                                 float *y) {
    if (n <= 0) return cudaSuccess;
    const cog_groups groups = cog_split(y, n, cog_congruent(x, y));
    return COG_LAUNCH(add_bf16_kernel, cog_grid_of_groups(n, groups), COG_THREADS, 0, stream, x,
                      weight, n, y, groups);
}

extern "C" int cog_cuda_add_signs(void *stream, const cog_kernel_format *f, const void *payload,
                                  float weight, int64_t first, int64_t count, float *y) {
    if (count <= 0) return cudaSuccess;
    return COG_LAUNCH(add_signs_kernel, cog_grid((count + 3) / 4), COG_THREADS, 0, stream, *f,
                      (const char *)payload, weight, first, count, y);
}

extern "C" int cog_cuda_add_topk(void *stream, const cog_kernel_format *format, const void *payload,
                                 float weight, int64_t first, int64_t count, float *y) {
    if (count <= 0) return cudaSuccess;
    const cog_topk_format f = cog_topk_format_of(*format, format->kept, 1);
    const int64_t n_tiles = (count + f.tile - 1) / f.tile;
    return COG_LAUNCH(add_topk_kernel, cog_grid(COG_WARP * n_tiles), COG_THREADS, 0, stream, f,
                      (const char *)payload, weight, first, count, y);
}
