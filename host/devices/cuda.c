/* cuda.c - one GPU: a stream of work, the kernels of kernels/, and cuBLAS.
 *
 *   ordinal   which of the visible GPUs, default 0
 *   tf32      1: matrix products round their inputs to 10 bits and use tensor cores. Default 0
 *
 * Work is queued in order on a stream of its own. Copies from and to host memory are done when they
 * return, for callers reuse that memory; but for sync, nothing else waits. Memory is allocated and
 * freed in the order of the stream.
 *
 * With the SIMT executor in the place of CUDA (COG_WITH_SIMT) this file is the device `simt`. */
#include "cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "kernels.h"
#include "range.h"

#ifdef COG_WITH_SIMT
#define DEVICE_NAME  "simt"
#define DEVICE_TABLE cog_device_simt
#else
#define DEVICE_NAME  "cuda"
#define DEVICE_TABLE cog_device_cuda
#endif

_Static_assert((int)COG_MAX_VECTORS == (int)COG_KERNEL_VECTORS,
               "a kernel takes all vectors at once");

/* The oldest GPUs that the kernels are compiled for, sm_80. */
enum { OLDEST_MAJOR = 8 };

/* What NVIDIA advises for cuBLAS: 32 MiB since Hopper, 4 MiB before. */
static size_t workspace_bytes(int major) { return (size_t)(major >= 9 ? 32 : 4) << 20; }

/* ---- entering and leaving -------------------------------------------------------------------- */

cog_status cog_cuda_enter(const cog_device *device, const char *what) {
    cog_range_begin(what);
    const cudaError_t error = cudaSetDevice(cog_cuda_of(device)->ordinal);
    return error == cudaSuccess ? COG_OK : cog_cuda_leave(device, "cudaSetDevice", (int)error);
}

cog_status cog_cuda_leave_library(const cog_device *device, const char *what, const char *text) {
    const cog_cuda *gpu = cog_cuda_of(device);
    cog_range_end();
    COG_CHECK(text == NULL, COG_ERR_DEVICE, "%s failed on GPU %d (%s): %s", what, gpu->ordinal,
              gpu->name, text);
    return COG_OK;
}

cog_status cog_cuda_leave(const cog_device *device, const char *what, int error) {
    if (error == cudaSuccess) return cog_cuda_leave_library(device, what, NULL);
    cudaGetLastError(); /* or the next launch would be taken for the one that failed */
    cog_cuda_leave_library(device, what, cudaGetErrorString((cudaError_t)error));
    return error == cudaErrorMemoryAllocation ? COG_ERR_MEMORY : COG_ERR_DEVICE;
}

/* A launcher of kernels.h as the last thing a function does. */
#define RETURN_LAUNCH(device, launcher, ...)                                       \
    do {                                                                           \
        COG_TRY(cog_cuda_enter((device), #launcher));                              \
        return cog_cuda_leave((device), #launcher,                                 \
                              launcher(cog_cuda_of(device)->stream, __VA_ARGS__)); \
    } while (0)

/* ---- open and close -------------------------------------------------------------------------- */

static void cuda_close(cog_device *device) {
    cog_cuda *gpu = device->state;
    if (gpu == NULL) return;
    if (cudaSetDevice(gpu->ordinal) == cudaSuccess) {
        if (gpu->stream != NULL) cudaStreamSynchronize(gpu->stream);
        if (gpu->blas != NULL) cublasDestroy(gpu->blas);
        if (gpu->workspace != NULL) cudaFreeAsync(gpu->workspace, gpu->stream);
        if (gpu->stream != NULL) cudaStreamDestroy(gpu->stream);
    }
    cudaGetLastError(); /* nobody is left to hear of it */
    free(gpu);
    device->state = NULL;
}

/* The GPU exists, and its name is known from here on. */
static cog_status find_gpu(cog_device *device, cog_cuda *gpu, int *major) {
    int n_gpus = 0;
    const cudaError_t error = cudaGetDeviceCount(&n_gpus);
    if (error != cudaSuccess) cudaGetLastError();
    COG_CHECK(error == cudaSuccess, COG_ERR_DEVICE, "no GPU can be used: %s",
              cudaGetErrorString(error));
    COG_CHECK(gpu->ordinal < n_gpus, COG_ERR_DEVICE,
              "ordinal=%d names no GPU: %d of them are visible, counted from 0", gpu->ordinal,
              n_gpus);
    struct cudaDeviceProp properties;
    COG_CUDA_TRY(device, cudaGetDeviceProperties, &properties, gpu->ordinal);
    snprintf(gpu->name, sizeof(gpu->name), "%.*s", (int)sizeof(gpu->name) - 1, properties.name);
    COG_CHECK(properties.major >= OLDEST_MAJOR, COG_ERR_DEVICE,
              "GPU %d (%s) has compute capability %d.%d; the kernels need %d.0 or newer",
              gpu->ordinal, gpu->name, properties.major, properties.minor, OLDEST_MAJOR);
    *major = properties.major;
    return COG_OK;
}

static const char *blas_text(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS ? NULL : cublasGetStatusString(status);
}

#define BLAS_TRY(device, function, ...)                                                         \
    do {                                                                                        \
        COG_TRY(cog_cuda_enter((device), #function));                                           \
        COG_TRY(cog_cuda_leave_library((device), #function, blas_text(function(__VA_ARGS__)))); \
    } while (0)

/* With a workspace from here cuBLAS allocates nothing in a round, and the same product has the same
 * bits whatever other streams do. */
static cog_status open_blas(cog_device *device, cog_cuda *gpu, int major, bool tf32) {
    const size_t bytes = workspace_bytes(major);
    COG_CUDA_TRY(device, cudaMallocAsync, &gpu->workspace, bytes, gpu->stream);
    BLAS_TRY(device, cublasCreate, &gpu->blas);
    BLAS_TRY(device, cublasSetStream, gpu->blas, gpu->stream);
    BLAS_TRY(device, cublasSetWorkspace, gpu->blas, gpu->workspace, bytes);
    BLAS_TRY(device, cublasSetMathMode, gpu->blas,
             tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH);
    return COG_OK;
}

static cog_status cuda_open(cog_device *device, cog_spec *spec) {
    int64_t ordinal;
    bool tf32;
    COG_TRY(cog_spec_int(spec, "ordinal", 0, 0, 1023, &ordinal));
    COG_TRY(cog_spec_flag(spec, "tf32", false, &tf32));
    cog_cuda *gpu = calloc(1, sizeof(*gpu));
    COG_CHECK(gpu != NULL, COG_ERR_MEMORY, "no memory for a device");
    device->state = gpu;
    gpu->ordinal = (int)ordinal;
    int major;
    COG_TRY(find_gpu(device, gpu, &major));
    COG_CUDA_TRY(device, cudaStreamCreateWithFlags, &gpu->stream, cudaStreamNonBlocking);
    return open_blas(device, gpu, major, tf32);
}

static cog_status cuda_sync(cog_device *device) {
    COG_CUDA_TRY(device, cudaStreamSynchronize, cog_cuda_of(device)->stream);
    return COG_OK;
}

static void *cuda_stream(const cog_device *device) { return cog_cuda_of(device)->stream; }

/* ---- memory ---------------------------------------------------------------------------------- */

static cog_status cuda_alloc(cog_device *device, size_t bytes, void **out) {
    void *memory;
    COG_TRY(cog_cuda_enter(device, "cudaMallocAsync"));
    const cudaError_t error =
        cudaMallocAsync(&memory, bytes > 0 ? bytes : 1, cog_cuda_of(device)->stream);
    const cog_status status = cog_cuda_leave(device, "cudaMallocAsync", (int)error);
    COG_CHECK(status != COG_ERR_MEMORY, status, "no memory for %zu bytes on GPU %d (%s)", bytes,
              cog_cuda_of(device)->ordinal, cog_cuda_of(device)->name);
    COG_TRY(status);
    *out = memory;
    return COG_OK;
}

/* A failure shows in the next call: nobody could be told here. */
static void cuda_free(cog_device *device, void *memory) {
    if (memory != NULL && cog_cuda_enter(device, "cudaFreeAsync") == COG_OK)
        cog_cuda_leave(device, "cudaFreeAsync",
                       (int)cudaFreeAsync(memory, cog_cuda_of(device)->stream));
}

static cog_status copy(cog_device *device, void *to, const void *from, size_t bytes,
                       enum cudaMemcpyKind kind) {
    if (bytes == 0) return COG_OK;
    COG_CUDA_TRY(device, cudaMemcpyAsync, to, from, bytes, kind, cog_cuda_of(device)->stream);
    return cuda_sync(device);
}

static cog_status cuda_upload(cog_device *device, void *to, const void *from_host, size_t bytes) {
    return copy(device, to, from_host, bytes, cudaMemcpyHostToDevice);
}

static cog_status cuda_download(cog_device *device, void *to_host, const void *from, size_t bytes) {
    return copy(device, to_host, from, bytes, cudaMemcpyDeviceToHost);
}

/* ---- vectors --------------------------------------------------------------------------------- */

static cog_status cuda_fill(cog_device *device, float value, float *y, int64_t n) {
    RETURN_LAUNCH(device, cog_cuda_fill, value, y, n);
}

static cog_status cuda_axpby(cog_device *device, float a, const float *x, float b, float *y,
                             int64_t n) {
    RETURN_LAUNCH(device, cog_cuda_axpby, a, x, b, y, n);
}

static cog_status cuda_to_bf16(cog_device *device, const float *x, uint16_t *y, int64_t n) {
    RETURN_LAUNCH(device, cog_cuda_to_bf16, x, y, n);
}

static cog_status cuda_from_bf16(cog_device *device, const uint16_t *x, float *y, int64_t n) {
    RETURN_LAUNCH(device, cog_cuda_from_bf16, x, y, n);
}

/* ---- matrices -------------------------------------------------------------------------------- */

/* C = beta C when there is nothing to add; row by row where rows are apart. */
static cog_status scale_matrix(cog_device *device, int64_t m, int64_t n, float beta, float *c,
                               int64_t ldc) {
    if (ldc == n) n *= m, m = 1;
    for (int64_t i = 0; i < m; i++, c += ldc)
        COG_TRY(beta == 0 ? cuda_fill(device, 0, c, n) : cuda_axpby(device, beta, c, 0, c, n));
    return COG_OK;
}

static cublasOperation_t op(bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; }

/* cuBLAS counts columns first, so it sees the transposes: C^T = op(B)^T op(A)^T. */
static cog_status cuda_gemm(cog_device *device, bool transpose_a, bool transpose_b, int64_t m,
                            int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                            int64_t stride_a, const float *b, int64_t ldb, int64_t stride_b,
                            float beta, float *c, int64_t ldc, int64_t stride_c, int count) {
    const cublasHandle_t blas = cog_cuda_of(device)->blas;
    if (m <= 0 || n <= 0) return COG_OK;
    if (k <= 0) {
        for (int i = 0; i < count; i++)
            COG_TRY(scale_matrix(device, m, n, beta, c + i * stride_c, ldc));
    } else if (count == 1) {
        BLAS_TRY(device, cublasSgemm_64, blas, op(transpose_b), op(transpose_a), n, m, k, &alpha, b,
                 ldb, a, lda, &beta, c, ldc);
    } else if (count > 1) {
        BLAS_TRY(device, cublasSgemmStridedBatched_64, blas, op(transpose_b), op(transpose_a), n, m,
                 k, &alpha, b, ldb, stride_b, a, lda, stride_a, &beta, c, ldc, stride_c, count);
    }
    return COG_OK;
}

static cog_status cuda_bias_relu(cog_device *device, int64_t rows, int64_t ld, const float *bias,
                                 cog_panels panels, bool relu, float *z) {
    RETURN_LAUNCH(device, cog_cuda_bias_relu, rows, ld, bias, panels.n_blocks, panels.group,
                  panels.block_len, relu, z);
}

static cog_status cuda_softmax_cross_entropy(cog_device *device, int64_t rows, int64_t n_classes,
                                             int64_t ld, const float *z, const float *label,
                                             float *delta, float *row_loss, float *row_correct) {
    RETURN_LAUNCH(device, cog_cuda_softmax_cross_entropy, rows, n_classes, ld, z, label, delta,
                  row_loss, row_correct);
}

static cog_status cuda_relu_backward(cog_device *device, const float *activation, float *delta,
                                     int64_t n) {
    RETURN_LAUNCH(device, cog_cuda_relu_backward, activation, delta, n);
}

/* The terms from `first` on that one launch takes. */
static cog_kernel_columns some_terms(int n_terms, const cog_fold_term *terms, int first) {
    cog_kernel_columns columns = {.n_terms = n_terms - first};
    if (columns.n_terms > COG_KERNEL_COLUMNS) columns.n_terms = COG_KERNEL_COLUMNS;
    for (int k = 0; k < columns.n_terms; k++) {
        columns.column[k] = terms[first + k].column;
        columns.coef[k] = terms[first + k].coef;
    }
    return columns;
}

static cog_status fold(cog_device *device, int64_t rows, int64_t group, int64_t ld, const float *d,
                       const cog_kernel_columns *terms, bool accumulate, float *out,
                       int64_t ld_out) {
    RETURN_LAUNCH(device, cog_cuda_fold_columns, rows, group, ld, d, terms, accumulate, out,
                  ld_out);
}

static cog_status cuda_fold_columns(cog_device *device, int64_t rows, int64_t group, int64_t ld,
                                    const float *d, int n_terms, const cog_fold_term *terms,
                                    float *out, int64_t ld_out) {
    int first = 0;
    do {
        const cog_kernel_columns columns = some_terms(n_terms, terms, first);
        COG_TRY(fold(device, rows, group, ld, d, &columns, first > 0, out, ld_out));
        first += columns.n_terms;
    } while (first < n_terms);
    return COG_OK;
}

static cog_status cuda_sum_rows(cog_device *device, int64_t rows, int64_t cols, int64_t ld,
                                float alpha, const float *d, float beta, float *y) {
    RETURN_LAUNCH(device, cog_cuda_sum_rows, rows, cols, ld, alpha, d, beta, y);
}

/* ---- prediction ------------------------------------------------------------------------------ */

static cog_status cuda_products(cog_device *device, int n_rows, int n_vectors,
                                const float *const *x, int64_t n, void *work, double *out) {
    cog_kernel_vectors vectors = {.n_vectors = n_vectors, .n_rows = n_rows};
    for (int k = 0; k < n_vectors; k++) vectors.x[k] = x[k];
    COG_CUDA_TRY(device, cog_cuda_products, cog_cuda_of(device)->stream, &vectors, n, work);
    const int n_sums = n_rows * n_vectors - (n_rows - 1);
    return cuda_download(device, out, work, (size_t)n_sums * sizeof(*out));
}

static cog_status cuda_predict(cog_device *device, int n_terms, const float *const *x,
                               const float *coef, const float *target, int64_t n, float *expected,
                               void *work, double *square) {
    cog_kernel_terms terms = {.n_terms = n_terms};
    for (int k = 0; k < n_terms; k++) terms.x[k] = x[k], terms.coef[k] = coef[k];
    void *const sums = target != NULL ? work : NULL;
    COG_CUDA_TRY(device, cog_cuda_predict, cog_cuda_of(device)->stream, &terms, target, n, expected,
                 sums);
    return sums != NULL ? cuda_download(device, square, sums, sizeof(*square)) : COG_OK;
}

static cog_status cuda_decode(cog_device *device, const cog_kernel_decode *work) {
    RETURN_LAUNCH(device, cog_cuda_decode, work);
}

const cog_device_ops DEVICE_TABLE = {
    .name = DEVICE_NAME,
    .kind = COG_CUDA,
    .open = cuda_open,
    .close = cuda_close,
    .sync = cuda_sync,
    .stream = cuda_stream,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .fill = cuda_fill,
    .axpby = cuda_axpby,
    .to_bf16 = cuda_to_bf16,
    .from_bf16 = cuda_from_bf16,
    .gemm = cuda_gemm,
    .bias_relu = cuda_bias_relu,
    .softmax_cross_entropy = cuda_softmax_cross_entropy,
    .relu_backward = cuda_relu_backward,
    .fold_columns = cuda_fold_columns,
    .sum_rows = cuda_sum_rows,
    .products = cuda_products,
    .predict = cuda_predict,
    .decode = cuda_decode,
};
