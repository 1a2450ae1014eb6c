/* cublas_v2.h - the matrix products of cuBLAS that the SIMT executor stands in for. */
#ifndef SIMT_CUBLAS_V2_H
#define SIMT_CUBLAS_V2_H

#include "cuda_runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cublasStatus_t {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_NOT_INITIALIZED = 1,
    CUBLAS_STATUS_ALLOC_FAILED = 3,
    CUBLAS_STATUS_INVALID_VALUE = 7,
    CUBLAS_STATUS_EXECUTION_FAILED = 13,
    CUBLAS_STATUS_NOT_SUPPORTED = 15
} cublasStatus_t;

typedef enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_OP_C } cublasOperation_t;
typedef enum cublasMath_t {
    CUBLAS_DEFAULT_MATH = 0,
    CUBLAS_PEDANTIC_MATH = 2,
    CUBLAS_TF32_TENSOR_OP_MATH = 3
} cublasMath_t; /* all of them compute in plain fp32 here */

typedef struct cublasContext *cublasHandle_t;

cublasStatus_t cublasCreate(cublasHandle_t *handle);
cublasStatus_t cublasDestroy(cublasHandle_t handle);
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode);
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes);
const char *cublasGetStatusString(cublasStatus_t status);

#define SIMT_GEMM(suffix, integer)                                                                 \
    cublasStatus_t cublasSgemm##suffix(                                                            \
        cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, integer m,          \
        integer n, integer k, const float *alpha, const float *a, integer lda, const float *b,     \
        integer ldb, const float *beta, float *c, integer ldc);                                    \
    cublasStatus_t cublasSgemmStridedBatched##suffix(                                              \
        cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, integer m,          \
        integer n, integer k, const float *alpha, const float *a, integer lda, long long stride_a, \
        const float *b, integer ldb, long long stride_b, const float *beta, float *c, integer ldc, \
        long long stride_c, integer count);
SIMT_GEMM(, int)
SIMT_GEMM(_64, int64_t)
#undef SIMT_GEMM

#ifdef __cplusplus
}
#endif
#endif
