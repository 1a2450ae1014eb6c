/* sparse.cpp - cuSPARSE: C = alpha A op(B) + beta C for a CSR matrix A in fp32. */
#include "machine.h"

#include "cusparse.h"

struct cusparseContext {
    cudaStream_t stream;
};
struct cusparseSpMatDescr {
    int64_t rows, cols, n_nonzero;
    const void *offsets, *columns;
    const float *values;
    cusparseIndexType_t offset_type, column_type;
};
struct cusparseDnMatDescr {
    int64_t rows, cols, ld;
    float *values;
    bool by_rows;
    float *at(int64_t r, int64_t c) const { return values + (by_rows ? r * ld + c : c * ld + r); }
};

namespace simt {

static size_t size_of(cusparseIndexType_t type) { return type == CUSPARSE_INDEX_32I ? 4 : 8; }

static int64_t index_at(const void *indices, cusparseIndexType_t type, int64_t i) {
    return type == CUSPARSE_INDEX_32I ? ((const int32_t *)indices)[i]
                                      : ((const int64_t *)indices)[i];
}

static bool may_load_sparse(const cusparseSpMatDescr &a) {
    const char *who = "cusparseSpMM";
    const size_t n = (size_t)a.n_nonzero;
    if (!may_load(who, a.offsets, (size_t)(a.rows + 1) * size_of(a.offset_type)) ||
        !may_load(who, a.columns, n * size_of(a.column_type)) || !may_load(who, a.values, n * 4))
        return false;
    for (int64_t r = 0; r <= a.rows; r++) {
        const int64_t now = index_at(a.offsets, a.offset_type, r);
        const int64_t before = r > 0 ? index_at(a.offsets, a.offset_type, r - 1) : 0;
        if (now >= before && now <= a.n_nonzero) continue;
        report("cusparseSpMM: row offset %ld is %ld after %ld, with %ld entries", (long)r,
               (long)now, (long)before, (long)a.n_nonzero);
        return false;
    }
    for (int64_t e = 0; e < a.n_nonzero; e++) {
        const int64_t column = index_at(a.columns, a.column_type, e);
        if (column >= 0 && column < a.cols) continue;
        report("cusparseSpMM: entry %ld is in column %ld of %ld", (long)e, (long)column,
               (long)a.cols);
        return false;
    }
    return true;
}

static bool multiply(const cusparseSpMatDescr &a, const cusparseDnMatDescr &b, bool transposed,
                     float alpha, float beta, const cusparseDnMatDescr &c) {
    for (int64_t r = 0; r < c.rows; r++)
        for (int64_t j = 0; j < c.cols; j++) {
            float sum = 0, *out = c.at(r, j);
            const int64_t end = index_at(a.offsets, a.offset_type, r + 1);
            for (int64_t e = index_at(a.offsets, a.offset_type, r); e < end; e++) {
                const int64_t k = index_at(a.columns, a.column_type, e);
                const float *x = transposed ? b.at(j, k) : b.at(k, j);
                if (!may_load("cusparseSpMM", x, sizeof(*x))) return false;
                sum += a.values[e] * *x;
            }
            if (beta != 0 && !may_load("cusparseSpMM", out, sizeof(*out))) return false;
            if (!may_store("cusparseSpMM", out, sizeof(*out))) return false;
            *out = alpha * sum + (beta == 0 ? 0 : beta * *out);
        }
    return true;
}

} // namespace simt

using namespace simt;

cusparseStatus_t cusparseCreate(cusparseHandle_t *handle) {
    *handle = new cusparseContext{};
    return CUSPARSE_STATUS_SUCCESS;
}
cusparseStatus_t cusparseDestroy(cusparseHandle_t handle) {
    delete handle;
    return CUSPARSE_STATUS_SUCCESS;
}
cusparseStatus_t cusparseSetStream(cusparseHandle_t handle, cudaStream_t stream) {
    if (handle == nullptr) return CUSPARSE_STATUS_NOT_INITIALIZED;
    if (cudaStreamQuery(stream) != cudaSuccess) return CUSPARSE_STATUS_INVALID_VALUE;
    handle->stream = stream;
    return CUSPARSE_STATUS_SUCCESS;
}
const char *cusparseGetErrorString(cusparseStatus_t status) {
    if (status == CUSPARSE_STATUS_EXECUTION_FAILED) return simt_report_text();
    return status == CUSPARSE_STATUS_SUCCESS ? "success" : "invalid argument of cuSPARSE";
}

cusparseStatus_t cusparseCreateCsr(cusparseSpMatDescr_t *matrix, int64_t rows, int64_t cols,
                                   int64_t n_nonzero, void *row_offsets, void *columns,
                                   void *values, cusparseIndexType_t offset_type,
                                   cusparseIndexType_t column_type, cusparseIndexBase_t,
                                   cudaDataType type) {
    if (rows < 0 || cols < 0 || n_nonzero < 0) return CUSPARSE_STATUS_INVALID_VALUE;
    if (type != CUDA_R_32F) return CUSPARSE_STATUS_NOT_SUPPORTED;
    *matrix = new cusparseSpMatDescr{rows,        cols,       n_nonzero,
                                     row_offsets, columns,    (const float *)values,
                                     offset_type, column_type};
    return CUSPARSE_STATUS_SUCCESS;
}
cusparseStatus_t cusparseDestroySpMat(cusparseSpMatDescr_t matrix) {
    delete matrix;
    return CUSPARSE_STATUS_SUCCESS;
}
cusparseStatus_t cusparseCreateDnMat(cusparseDnMatDescr_t *matrix, int64_t rows, int64_t cols,
                                     int64_t ld, void *values, cudaDataType type,
                                     cusparseOrder_t order) {
    const bool by_rows = order == CUSPARSE_ORDER_ROW;
    if (rows < 0 || cols < 0 || ld < (by_rows ? cols : rows)) return CUSPARSE_STATUS_INVALID_VALUE;
    if (type != CUDA_R_32F) return CUSPARSE_STATUS_NOT_SUPPORTED;
    *matrix = new cusparseDnMatDescr{rows, cols, ld, (float *)values, by_rows};
    return CUSPARSE_STATUS_SUCCESS;
}
cusparseStatus_t cusparseDestroyDnMat(cusparseDnMatDescr_t matrix) {
    delete matrix;
    return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t cusparseSpMM_bufferSize(cusparseHandle_t, cusparseOperation_t, cusparseOperation_t,
                                         const void *, cusparseSpMatDescr_t, cusparseDnMatDescr_t,
                                         const void *, cusparseDnMatDescr_t, cudaDataType,
                                         cusparseSpMMAlg_t, size_t *bytes) {
    *bytes = 0;
    return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t cusparseSpMM(cusparseHandle_t handle, cusparseOperation_t op_a,
                              cusparseOperation_t op_b, const void *alpha, cusparseSpMatDescr_t a,
                              cusparseDnMatDescr_t b, const void *beta, cusparseDnMatDescr_t c,
                              cudaDataType compute_type, cusparseSpMMAlg_t, void *) {
    const lock one_at_a_time;
    const bool transposed = op_b != CUSPARSE_OPERATION_NON_TRANSPOSE;
    if (handle == nullptr) return CUSPARSE_STATUS_NOT_INITIALIZED;
    if (op_a != CUSPARSE_OPERATION_NON_TRANSPOSE || compute_type != CUDA_R_32F)
        return CUSPARSE_STATUS_NOT_SUPPORTED;
    if (a->cols != (transposed ? b->cols : b->rows) || a->rows != c->rows ||
        c->cols != (transposed ? b->rows : b->cols))
        return CUSPARSE_STATUS_INVALID_VALUE;
    const float of_product = *(const float *)alpha, of_sum = *(const float *)beta;
    const captured_call call = [=] {
        const bool good =
            may_load_sparse(*a) && multiply(*a, *b, transposed, of_product, of_sum, *c);
        return good ? cudaSuccess : cudaErrorLaunchFailure;
    };
    const bool good = capture(handle->stream, call) || call() == cudaSuccess;
    return good ? CUSPARSE_STATUS_SUCCESS : CUSPARSE_STATUS_EXECUTION_FAILED;
}
