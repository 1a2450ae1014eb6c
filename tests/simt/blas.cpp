/* blas.cpp - cuBLAS: products of column-major matrices, in fp32 and in the order of k. */
#include "machine.h"

#include <algorithm>

#include "cublas_v2.h"

struct cublasContext {
    cudaStream_t stream;
};

namespace simt {

struct matrix {
    const float *at;
    int64_t ld;
    bool transposed;
};

/* rows x cols as stored. */
static bool may_load_matrix(const matrix &m, int64_t rows, int64_t cols) {
    for (int64_t c = 0; c < cols; c++)
        if (!may_load("a matrix product", m.at + c * m.ld, (size_t)rows * 4)) return false;
    return true;
}

/* op(m), rows x cols, without gaps and not transposed. */
static std::vector<float> plain(const matrix &m, int64_t rows, int64_t cols) {
    std::vector<float> out((size_t)rows * (size_t)cols);
    for (int64_t c = 0; c < cols; c++)
        for (int64_t r = 0; r < rows; r++)
            out[(size_t)c * (size_t)rows + (size_t)r] =
                m.transposed ? m.at[r * m.ld + c] : m.at[c * m.ld + r];
    return out;
}

static void product_column(int64_t m, int64_t k, const float *a, const float *b, float *sum) {
    for (int64_t i = 0; i < m; i++) sum[i] = 0;
    for (int64_t l = 0; l < k; l++)
        for (int64_t i = 0; i < m; i++)
            sum[i] = fmaf(a[(size_t)l * (size_t)m + (size_t)i], b[l], sum[i]);
}

static cublasStatus_t product(int64_t m, int64_t n, int64_t k, float alpha, const matrix &a,
                              const matrix &b, float beta, float *c, int64_t ldc) {
    const bool readable = may_load_matrix(a, a.transposed ? k : m, a.transposed ? m : k) &&
                          may_load_matrix(b, b.transposed ? n : k, b.transposed ? k : n) &&
                          (beta == 0 || may_load_matrix({c, ldc, false}, m, n));
    if (!readable) return CUBLAS_STATUS_EXECUTION_FAILED;
    const std::vector<float> left = plain(a, m, k), right = plain(b, k, n);
    std::vector<float> sum((size_t)m);
    for (int64_t j = 0; j < n; j++) {
        float *out = c + j * ldc;
        if (!may_store("a matrix product", out, (size_t)m * 4))
            return CUBLAS_STATUS_EXECUTION_FAILED;
        product_column(m, k, left.data(), right.data() + (size_t)j * (size_t)k, sum.data());
        for (int64_t i = 0; i < m; i++)
            out[i] = beta == 0 ? alpha * sum[(size_t)i] : alpha * sum[(size_t)i] + beta * out[i];
    }
    return CUBLAS_STATUS_SUCCESS;
}

} // namespace simt

using namespace simt;

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
    *handle = new cublasContext{};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    if (cudaStreamQuery(stream) != cudaSuccess) return CUBLAS_STATUS_INVALID_VALUE;
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *, size_t) { return CUBLAS_STATUS_SUCCESS; }
const char *cublasGetStatusString(cublasStatus_t status) {
    if (status == CUBLAS_STATUS_EXECUTION_FAILED) return simt_report_text();
    return status == CUBLAS_STATUS_SUCCESS ? "success" : "invalid argument of cuBLAS";
}

cublasStatus_t cublasSgemmStridedBatched_64(cublasHandle_t handle, cublasOperation_t op_a,
                                            cublasOperation_t op_b, int64_t m, int64_t n, int64_t k,
                                            const float *alpha, const float *a, int64_t lda,
                                            long long stride_a, const float *b, int64_t ldb,
                                            long long stride_b, const float *beta, float *c,
                                            int64_t ldc, long long stride_c, int64_t count) {
    const lock one_at_a_time;
    const bool ta = op_a != CUBLAS_OP_N, tb = op_b != CUBLAS_OP_N;
    if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (m < 0 || n < 0 || k < 0 || count < 0 || lda < std::max<int64_t>(1, ta ? k : m) ||
        ldb < std::max<int64_t>(1, tb ? n : k) || ldc < std::max<int64_t>(1, m))
        return CUBLAS_STATUS_INVALID_VALUE;
    const float of_product = *alpha, of_sum = *beta;
    const auto all = [=] {
        for (int64_t i = 0; i < count && m > 0 && n > 0; i++) {
            const cublasStatus_t status =
                product(m, n, k, of_product, {a + i * stride_a, lda, ta},
                        {b + i * stride_b, ldb, tb}, of_sum, c + i * stride_c, ldc);
            if (status != CUBLAS_STATUS_SUCCESS) return status;
        }
        return CUBLAS_STATUS_SUCCESS;
    };
    const auto call = [=] {
        return all() == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorLaunchFailure;
    };
    return capture(handle->stream, call) ? CUBLAS_STATUS_SUCCESS : all();
}

cublasStatus_t cublasSgemm_64(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                              int64_t m, int64_t n, int64_t k, const float *alpha, const float *a,
                              int64_t lda, const float *b, int64_t ldb, const float *beta, float *c,
                              int64_t ldc) {
    return cublasSgemmStridedBatched_64(handle, op_a, op_b, m, n, k, alpha, a, lda, 0, b, ldb, 0,
                                        beta, c, ldc, 0, 1);
}

/* The same with sizes of 32 bits. */

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t op_a,
                                         cublasOperation_t op_b, int m, int n, int k,
                                         const float *alpha, const float *a, int lda,
                                         long long stride_a, const float *b, int ldb,
                                         long long stride_b, const float *beta, float *c, int ldc,
                                         long long stride_c, int count) {
    return cublasSgemmStridedBatched_64(handle, op_a, op_b, m, n, k, alpha, a, lda, stride_a, b,
                                        ldb, stride_b, beta, c, ldc, stride_c, count);
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                           int m, int n, int k, const float *alpha, const float *a, int lda,
                           const float *b, int ldb, const float *beta, float *c, int ldc) {
    return cublasSgemmStridedBatched_64(handle, op_a, op_b, m, n, k, alpha, a, lda, 0, b, ldb, 0,
                                        beta, c, ldc, 0, 1);
}
