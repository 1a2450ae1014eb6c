/* cuda_spmm.c - the product of a code matrix and a matrix of gradients, by cuSPARSE. */
#include "cuda.h"

#include <cusparse.h>
#include <inttypes.h>
#include <stdlib.h>

#include "check.h"

struct cog_cuda_spmm {
    cog_device *device;
    cusparseHandle_t sparse;
    cusparseSpMatDescr_t code;
    cusparseDnMatDescr_t g, out;
    void *row, *column, *coef, *buffer; /* device memory */
};

/* For rows of dense matrices that lie one after the other. */
static const cusparseSpMMAlg_t ALGORITHM = CUSPARSE_SPMM_CSR_ALG2;

static const char *text_of(cusparseStatus_t status) {
    return status == CUSPARSE_STATUS_SUCCESS ? NULL : cusparseGetErrorString(status);
}

#define SPARSE_TRY(device, function, ...)                                                     \
    do {                                                                                      \
        COG_TRY(cog_cuda_enter((device), #function));                                         \
        COG_TRY(cog_cuda_leave_library((device), #function, text_of(function(__VA_ARGS__)))); \
    } while (0)

/* ---------------------------------------------------------------------------------------------- */

static cog_status check_code(const cog_code_rows *code, int64_t length) {
    COG_CHECK(code->n_messages >= 1 && code->n_parts >= 1 && length >= 1, COG_ERR_ARGUMENT,
              "a product of %" PRId32 " messages, %" PRId32 " parts and %" PRId64 " numbers",
              code->n_messages, code->n_parts, length);
    for (int32_t m = 0; m < code->n_messages; m++)
        COG_CHECK(code->row[0] == 0 && code->row[m] <= code->row[m + 1], COG_ERR_ARGUMENT,
                  "the entries of message %" PRId32 " end before they begin", m);
    for (int32_t e = 0; e < code->row[code->n_messages]; e++)
        COG_CHECK(code->column[e] >= 0 && code->column[e] < code->n_parts, COG_ERR_ARGUMENT,
                  "entry %" PRId32 " names part %" PRId32 " of %" PRId32, e, code->column[e],
                  code->n_parts);
    return COG_OK;
}

static cog_status put(cog_device *device, const void *from, size_t bytes, void **to) {
    COG_TRY(device->ops->alloc(device, bytes, to));
    return device->ops->upload(device, *to, from, bytes);
}

static cog_status put_coefficients(cog_cuda_spmm *p, const double *coef, int32_t n) {
    float *rounded = malloc(((size_t)n + 1) * sizeof(*rounded));
    COG_CHECK(rounded != NULL, COG_ERR_MEMORY, "no memory for %" PRId32 " coefficients", n);
    for (int32_t e = 0; e < n; e++) rounded[e] = (float)coef[e];
    const cog_status status = put(p->device, rounded, (size_t)n * sizeof(*rounded), &p->coef);
    free(rounded);
    return status;
}

static cog_status put_code(cog_cuda_spmm *p, const cog_code_rows *code) {
    const int32_t n = code->row[code->n_messages];
    COG_TRY(put(p->device, code->row, ((size_t)code->n_messages + 1) * sizeof(int32_t), &p->row));
    COG_TRY(put(p->device, code->column, (size_t)n * sizeof(int32_t), &p->column));
    COG_TRY(put_coefficients(p, code->coef, n));
    SPARSE_TRY(p->device, cusparseCreateCsr, &p->code, code->n_messages, code->n_parts, n, p->row,
               p->column, p->coef, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO,
               CUDA_R_32F);
    return COG_OK;
}

static cog_status open_all(cog_cuda_spmm *p, const cog_code_rows *code, int64_t length,
                           const float *g, float *out) {
    const float one = 1, zero = 0;
    size_t bytes;
    COG_TRY(put_code(p, code));
    SPARSE_TRY(p->device, cusparseCreate, &p->sparse);
    SPARSE_TRY(p->device, cusparseSetStream, p->sparse, cog_cuda_of(p->device)->stream);
    SPARSE_TRY(p->device, cusparseCreateDnMat, &p->g, code->n_parts, length, length, (void *)g,
               CUDA_R_32F, CUSPARSE_ORDER_ROW);
    SPARSE_TRY(p->device, cusparseCreateDnMat, &p->out, code->n_messages, length, length, out,
               CUDA_R_32F, CUSPARSE_ORDER_ROW);
    SPARSE_TRY(p->device, cusparseSpMM_bufferSize, p->sparse, CUSPARSE_OPERATION_NON_TRANSPOSE,
               CUSPARSE_OPERATION_NON_TRANSPOSE, &one, p->code, p->g, &zero, p->out, CUDA_R_32F,
               ALGORITHM, &bytes);
    return p->device->ops->alloc(p->device, bytes, &p->buffer);
}

cog_status cog_cuda_spmm_create(cog_device *device, const cog_code_rows *code, int64_t length,
                                const float *g, float *out, cog_cuda_spmm **result) {
    COG_CHECK(cog_device_kind_of(device) == COG_CUDA, COG_ERR_UNSUPPORTED,
              "cuSPARSE does not run on device '%s'", device->ops->name);
    COG_TRY(check_code(code, length));
    cog_cuda_spmm *p = calloc(1, sizeof(*p));
    COG_CHECK(p != NULL, COG_ERR_MEMORY, "no memory for a sparse product");
    p->device = device;
    const cog_status status = open_all(p, code, length, g, out);
    if (status != COG_OK) {
        cog_cuda_spmm_destroy(p);
        return status;
    }
    *result = p;
    return COG_OK;
}

cog_status cog_cuda_spmm_run(cog_cuda_spmm *p) {
    const float one = 1, zero = 0;
    SPARSE_TRY(p->device, cusparseSpMM, p->sparse, CUSPARSE_OPERATION_NON_TRANSPOSE,
               CUSPARSE_OPERATION_NON_TRANSPOSE, &one, p->code, p->g, &zero, p->out, CUDA_R_32F,
               ALGORITHM, p->buffer);
    return COG_OK;
}

void cog_cuda_spmm_destroy(cog_cuda_spmm *p) {
    if (p == NULL) return;
    if (p->code != NULL) cusparseDestroySpMat(p->code);
    if (p->g != NULL) cusparseDestroyDnMat(p->g);
    if (p->out != NULL) cusparseDestroyDnMat(p->out);
    if (p->sparse != NULL) cusparseDestroy(p->sparse);
    void *on_device[] = {p->row, p->column, p->coef, p->buffer};
    for (size_t i = 0; i < sizeof(on_device) / sizeof(on_device[0]); i++)
        cog_device_free(p->device, on_device[i]);
    free(p);
}
