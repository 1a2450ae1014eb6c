/* cuda_calls.h - CUDA's calls, counted, and made to fail on demand.
 *
 * What a program defines comes before what its libraries define, so the library's calls of CUDA
 * arrive here and are passed on: on a GPU, on a virtual one and on the SIMT executor alike. A
 * launch fails as it does in CUDA: cudaGetLastError() tells. (The executor's launches tell by
 * themselves.) Include it in one file of a program. */
#ifndef COG_TESTS_CUDA_CALLS_H
#define COG_TESTS_CUDA_CALLS_H

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

static struct {
    const char *fails; /* the function whose call number `at`, from 0, fails; NULL: none */
    int at, seen;      /* calls of that function since */
    bool has_failed;
    cudaError_t error;        /* that it returns */
    int n_allocated, n_freed; /* calls that allocated or freed something */
    int compute_major;        /* that GPUs claim to have; 0: their own */
} cuda_calls;

static inline void cuda_call_fails(const char *name, int at, cudaError_t error) {
    cuda_calls.fails = name;
    cuda_calls.at = at;
    cuda_calls.seen = 0;
    cuda_calls.has_failed = false;
    cuda_calls.error = error;
}

static inline bool call_fails(const char *name) {
    if (cuda_calls.fails == NULL || strcmp(cuda_calls.fails, name) != 0) return false;
    if (cuda_calls.seen++ != cuda_calls.at) return false;
    return cuda_calls.has_failed = true;
}

/* name(parameters), which returns `failure` when it is to fail and runs `after` when it did not. */
#define INTERPOSE(type, failure, after, name, parameters, arguments) \
    type name parameters {                                           \
        type(*next) parameters;                                      \
        if (call_fails(#name)) return failure;                       \
        *(void **)&next = dlsym(RTLD_NEXT, #name);                   \
        const type result = next arguments;                          \
        if (result == 0) after;                                      \
        return result;                                               \
    }
#define CUDA_CALL(...) INTERPOSE(cudaError_t, cuda_calls.error, (void)0, __VA_ARGS__)
#define BLAS_CALL(...) \
    INTERPOSE(cublasStatus_t, CUBLAS_STATUS_EXECUTION_FAILED, (void)0, __VA_ARGS__)

CUDA_CALL(cudaGetDeviceCount, (int *n), (n))
CUDA_CALL(cudaSetDevice, (int device), (device))
CUDA_CALL(cudaStreamCreateWithFlags, (cudaStream_t * s, unsigned flags), (s, flags))
CUDA_CALL(cudaStreamSynchronize, (cudaStream_t s), (s))
CUDA_CALL(cudaMemcpyAsync,
          (void *to, const void *from, size_t n, enum cudaMemcpyKind kind, cudaStream_t s),
          (to, from, n, kind, s))
INTERPOSE(cudaError_t, cuda_calls.error,
          if (cuda_calls.compute_major > 0) properties->major = cuda_calls.compute_major,
          cudaGetDeviceProperties, (struct cudaDeviceProp * properties, int device),
          (properties, device))
INTERPOSE(cudaError_t, cuda_calls.error, cuda_calls.n_allocated++, cudaMallocAsync,
          (void **memory, size_t n, cudaStream_t s), (memory, n, s))
INTERPOSE(cudaError_t, cuda_calls.error, cuda_calls.n_freed += memory != NULL, cudaFreeAsync,
          (void *memory, cudaStream_t s), (memory, s))
INTERPOSE(cudaError_t, cuda_calls.error, cuda_calls.n_allocated++, cudaMalloc,
          (void **memory, size_t n), (memory, n))
INTERPOSE(cudaError_t, cuda_calls.error, cuda_calls.n_allocated++, cudaHostAlloc,
          (void **memory, size_t n, unsigned flags), (memory, n, flags))

cudaError_t cudaGetLastError(void) {
    cudaError_t (*next)(void);
    *(void **)&next = dlsym(RTLD_NEXT, "cudaGetLastError");
    const cudaError_t error = next();
    return call_fails("cudaGetLastError") ? cuda_calls.error : error;
}

BLAS_CALL(cublasCreate, (cublasHandle_t * blas), (blas))
BLAS_CALL(cublasSetStream, (cublasHandle_t blas, cudaStream_t s), (blas, s))
BLAS_CALL(cublasSetWorkspace, (cublasHandle_t blas, void *memory, size_t n), (blas, memory, n))
BLAS_CALL(cublasSetMathMode, (cublasHandle_t blas, cublasMath_t mode), (blas, mode))
BLAS_CALL(cublasSgemm_64,
          (cublasHandle_t blas, cublasOperation_t op_a, cublasOperation_t op_b, int64_t m,
           int64_t n, int64_t k, const float *alpha, const float *a, int64_t lda, const float *b,
           int64_t ldb, const float *beta, float *c, int64_t ldc),
          (blas, op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc))
BLAS_CALL(cublasSgemmStridedBatched_64,
          (cublasHandle_t blas, cublasOperation_t op_a, cublasOperation_t op_b, int64_t m,
           int64_t n, int64_t k, const float *alpha, const float *a, int64_t lda,
           long long stride_a, const float *b, int64_t ldb, long long stride_b, const float *beta,
           float *c, int64_t ldc, long long stride_c, int64_t count),
          (blas, op_a, op_b, m, n, k, alpha, a, lda, stride_a, b, ldb, stride_b, beta, c, ldc,
           stride_c, count))

#endif
