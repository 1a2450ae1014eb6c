/* gemm.h - the one matrix product of the CPU, by whichever library the build chose. */
#ifndef COG_HOST_DEVICES_GEMM_H
#define COG_HOST_DEVICES_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "cograd/status.h"

/* C = alpha op(A) op(B) + beta C, row-major, C [m, n]; C is not read when beta is 0.
 * All sizes are positive. */
cog_status cog_cpu_gemm(int n_threads, bool transpose_a, bool transpose_b, int64_t m, int64_t n,
                        int64_t k, float alpha, const float *a, int64_t lda, const float *b,
                        int64_t ldb, float beta, float *c, int64_t ldc);

#endif
