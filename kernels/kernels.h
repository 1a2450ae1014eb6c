/* kernels.h - the launchers of kernels/, for C and C++ on the host.
 *
 * Every launcher enqueues on `stream` (a cudaStream_t as void *), never waits or allocates, and
 * returns a cudaError_t as an int: 0 is success. Pointers are device memory, sizes are in entries;
 * any alignment of the entry type will do, and 16 bytes in all vectors alike is fastest.
 */
#ifndef COG_KERNELS_H
#define COG_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { COG_KERNEL_TERMS = 16 };

/* sum over k < n_terms of coef[k] * x[k][i], a parameter of kernels: no upload, no lifetime. */
typedef struct cog_kernel_terms {
    const float *x[COG_KERNEL_TERMS];
    float coef[COG_KERNEL_TERMS];
    int32_t n_terms;
} cog_kernel_terms;

/* ---- vector.cu; meaning: devices/cpu.c ------------------------------------------------------- */

/* y = value */
int cog_cuda_fill(void *stream, float value, float *y, int64_t n);
/* y = a x + b y; y is not read when b is 0. x may be y. */
int cog_cuda_axpby(void *stream, float a, const float *x, float b, float *y, int64_t n);
/* Round to nearest even; NaN stays NaN. */
int cog_cuda_to_bf16(void *stream, const float *x, uint16_t *y, int64_t n);
int cog_cuda_from_bf16(void *stream, const uint16_t *x, float *y, int64_t n);
/* out = the sum of the terms: first a product, then fused multiply-adds in their order; 0 when
 * there are none. out may be any x. */
int cog_cuda_combine(void *stream, const cog_kernel_terms *terms, float *out, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
