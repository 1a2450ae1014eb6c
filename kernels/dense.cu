/* dense.cu - identity and bf16: every entry is sent. Meaning: host/compress/identity.c, bf16.c.
 *
 * One pass, one launch. Bytes an entry with L terms: identity 4L + 8, bf16 4L + 6.
 */
#include "trial.cuh"

namespace {

constexpr int ROWS = 2; /* 32 bytes in flight a thread and term */
constexpr int STEP = 4 * ROWS * COG_THREADS;

__global__ void __launch_bounds__(COG_THREADS, 4)
    identity_kernel(const __grid_constant__ cog_kernel_terms terms, int64_t n, float *residual,
                    float *payload) {
    for (int64_t first = blockIdx.x * (int64_t)STEP; first < n;
         first += gridDim.x * (int64_t)STEP) {
        const int count = cog_tile_count(first, n, STEP);
        float4 v[ROWS];
        cog_read_trial(terms, first, count, v);
        cog_write_rows(payload + first, count, v);
        const float4 nothing[ROWS] = {};
        cog_write_rows(residual + first, count, nothing);
    }
}

__device__ inline void put_bf16(uint16_t *to, int n_left, ushort4 v) {
    if (n_left >= 4 && (uintptr_t)to % 8 == 0) {
        cog_store4(to, v);
        return;
    }
    if (n_left > 0) to[0] = v.x;
    if (n_left > 1) to[1] = v.y;
    if (n_left > 2) to[2] = v.z;
    if (n_left > 3) to[3] = v.w;
}

__global__ void __launch_bounds__(COG_THREADS, 4)
    bf16_kernel(const __grid_constant__ cog_kernel_terms terms, int64_t n, float *residual,
                uint16_t *payload) {
    if (n % 2 != 0 && cog_first() == 0) payload[n] = 0;
    for (int64_t first = blockIdx.x * (int64_t)STEP; first < n;
         first += gridDim.x * (int64_t)STEP) {
        const int count = cog_tile_count(first, n, STEP);
        float4 v[ROWS];
        cog_read_trial(terms, first, count, v);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const ushort4 sent = make_ushort4(cog_sent_bf16(v[r].x), cog_sent_bf16(v[r].y),
                                              cog_sent_bf16(v[r].z), cog_sent_bf16(v[r].w));
            const int at = cog_row<ROWS>(r) + 4 * cog_lane();
            put_bf16(payload + first + at, count - at, sent);
            v[r] = make_float4(
                cog_left(v[r].x, cog_float_of(sent.x)), cog_left(v[r].y, cog_float_of(sent.y)),
                cog_left(v[r].z, cog_float_of(sent.z)), cog_left(v[r].w, cog_float_of(sent.w)));
        }
        cog_write_rows(residual + first, count, v);
    }
}

} // namespace

/* ---------------------------------------------------------------------------------------------- */

extern "C" int cog_cuda_identity_pack(void *stream, const cog_kernel_terms *terms, int64_t n,
                                      float *residual, float *payload) {
    if (n <= 0) return cudaSuccess;
    return COG_LAUNCH(identity_kernel, cog_grid((n + 4 * ROWS - 1) / (4 * ROWS)), COG_THREADS, 0,
                      stream, *terms, n, residual, payload);
}

extern "C" int cog_cuda_bf16_pack(void *stream, const cog_kernel_terms *terms, int64_t n,
                                  float *residual, uint16_t *payload) {
    if (n <= 0) return cudaSuccess;
    return COG_LAUNCH(bf16_kernel, cog_grid((n + 4 * ROWS - 1) / (4 * ROWS)), COG_THREADS, 0,
                      stream, *terms, n, residual, payload);
}
