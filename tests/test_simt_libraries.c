/* test_simt_libraries.c - the executor's CUDA runtime, cuBLAS and cuSPARSE. */
#include <cublas_v2.h>
#include <cusparse.h>
#include <string.h>

#include "simt_rig.h"

Test(simt_libraries, the_runtime_refuses_what_cuda_refuses) {
    float host[4] = {1, 2, 3, 4}, *memory, *pinned;
    cudaStream_t stream;
    cudaEvent_t start, end;
    int count = 0, value = 0;
    size_t before, now, total;
    cr_expect_eq(cudaGetDeviceCount(&count), cudaSuccess);
    cr_expect_eq(count, 1);
    cr_expect_eq(cudaSetDevice(1), cudaErrorInvalidDevice);
    cr_expect_eq(cudaPeekAtLastError(), cudaErrorInvalidDevice);
    cr_expect_eq(cudaGetLastError(), cudaErrorInvalidDevice);
    cr_expect_eq(cudaGetLastError(), cudaSuccess);
    cr_expect_eq(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 0), cudaSuccess);
    cr_expect_eq(value, 32);

    cr_assert_eq(cudaMemGetInfo(&before, &total), cudaSuccess);
    cr_expect_eq(cudaMalloc((void **)&memory, total + 1), cudaErrorMemoryAllocation);
    cr_assert_eq(cudaMalloc((void **)&memory, sizeof(host)), cudaSuccess);
    cudaMemGetInfo(&now, &total);
    cr_expect_eq(before - now, sizeof(host));
    cr_assert_eq(cudaHostAlloc((void **)&pinned, sizeof(host), cudaHostAllocDefault), cudaSuccess);
    cr_assert_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    cr_assert_eq(cudaEventCreate(&start), cudaSuccess);
    cr_assert_eq(cudaEventCreateWithFlags(&end, cudaEventDisableTiming), cudaSuccess);

    memcpy(pinned, host, sizeof(host));
    cr_expect_eq(cudaMemcpyAsync(memory, pinned, 16, cudaMemcpyHostToDevice, stream), cudaSuccess);
    cr_expect_eq(cudaMemcpy(memory, host, 16, cudaMemcpyDeviceToHost),
                 cudaErrorInvalidMemcpyDirection);
    cr_expect_eq(cudaMemcpy(memory, host, 20, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    cr_expect_eq(cudaMemset(memory, 0, 17), cudaErrorInvalidValue);
    cr_expect_eq(cudaMemset(memory + 2, 0, 8), cudaSuccess);
    read_back(memory, 4, host);
    cr_expect(host[0] == 1 && host[1] == 2 && host[2] == 0 && host[3] == 0);

    float milliseconds = -1;
    cr_expect_eq(cudaEventRecord(start, stream), cudaSuccess);
    cr_expect_eq(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorInvalidResourceHandle);
    cr_expect_eq(cudaEventRecord(end, stream), cudaSuccess);
    cr_expect_eq(cudaEventQuery(end), cudaSuccess);
    cr_expect_eq(cudaStreamWaitEvent(stream, end, 0), cudaSuccess);
    cr_expect_eq(cudaEventElapsedTime(&milliseconds, start, end), cudaSuccess);
    cr_expect(milliseconds >= 0);
    cr_expect_eq(cudaEventDestroy(start), cudaSuccess);
    cr_expect_eq(cudaEventDestroy(end), cudaSuccess);
    cr_expect_eq(cudaStreamDestroy(stream), cudaSuccess);
    cr_expect_eq(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
    cr_expect_eq(cudaFreeHost(memory), cudaErrorInvalidValue);
    cr_expect_eq(cudaFreeHost(pinned), cudaSuccess);
    cr_expect_eq(cudaFree(memory), cudaSuccess);
    cr_expect_eq(cudaFree(memory), cudaErrorInvalidValue);
    cr_expect_eq(cudaFree(NULL), cudaSuccess);
}

/* ---- library calls --------------------------------------------------------------------------- */

static float *upload(const float *values, size_t n) {
    float *memory;
    cr_assert_eq(cudaMalloc((void **)&memory, n * sizeof(*values)), cudaSuccess);
    cr_assert_eq(cudaMemcpy(memory, values, n * sizeof(*values), cudaMemcpyHostToDevice),
                 cudaSuccess);
    return memory;
}

Test(simt_libraries, matrix_products_agree_with_the_definition) {
    enum { M = 3, K = 4, C = 5, LD = 6, COUNT = 2, BYTES = LD * LD * COUNT };
    float a[BYTES], b[BYTES], c[BYTES], out[BYTES];
    const float alpha = 2, beta = -3;
    for (int i = 0; i < BYTES; i++) a[i] = (float)(i % 7), b[i] = (float)(i % 5), c[i] = (float)i;
    float *da = upload(a, BYTES), *db = upload(b, BYTES);
    cublasHandle_t handle;
    cr_assert_eq(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
    for (int t = 0; t < 4; t++) {
        const bool ta = t & 1, tb = t >> 1;
        float *dc = upload(c, BYTES);
        cr_assert_eq(cublasSgemmStridedBatched(handle, ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                                               tb ? CUBLAS_OP_T : CUBLAS_OP_N, M, C, K, &alpha, da,
                                               LD, LD * LD, db, LD, LD * LD, &beta, dc, LD, LD * LD,
                                               COUNT),
                     CUBLAS_STATUS_SUCCESS);
        read_back(dc, BYTES, out);
        for (int i = 0; i < BYTES; i++) {
            const int which = i / (LD * LD), r = i % LD, col = i / LD % LD;
            float expected = c[i];
            if (r < M && col < C) {
                float sum = 0;
                for (int k = 0; k < K; k++)
                    sum += a[which * LD * LD + (ta ? r * LD + k : k * LD + r)] *
                           b[which * LD * LD + (tb ? k * LD + col : col * LD + k)];
                expected = alpha * sum + beta * c[i];
            }
            cr_assert_eq(out[i], expected, "transposes %d: entry %d is %g, not %g", t, i, out[i],
                         expected);
        }
        cudaFree(dc);
    }
    cr_expect_eq(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, M, C, K, &alpha, da, M - 1, db, K,
                             &beta, da, M),
                 CUBLAS_STATUS_INVALID_VALUE);
    cr_expect_eq(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, M, C, K, &alpha, da, LD * LD * LD,
                             db, K, &beta, da, M),
                 CUBLAS_STATUS_EXECUTION_FAILED, "beyond the end");
    cr_expect_eq(cublasDestroy(handle), CUBLAS_STATUS_SUCCESS);
    cudaFree(da), cudaFree(db);
}

Test(simt_libraries, sparse_products_agree_with_the_definition) {
    /* [0 2 0 1; 0 0 0 0; 3 0 0 -1] times a dense [4, 5] matrix, by rows and by columns */
    static const int32_t offsets[] = {0, 2, 2, 4}, columns[] = {1, 3, 0, 3};
    static const float values[] = {2, 1, 3, -1};
    static const float matrix[3][4] = {{0, 2, 0, 1}, {0, 0, 0, 0}, {3, 0, 0, -1}};
    float b[20], c[15], out[15];
    const float alpha = 2, beta = 0.5f;
    for (int i = 0; i < 20; i++) b[i] = (float)(i * i % 11);
    for (int i = 0; i < 15; i++) c[i] = (float)i;
    float *d_offsets = upload((const float *)offsets, 4);
    float *d_columns = upload((const float *)columns, 4);
    float *d_values = upload(values, 4), *db = upload(b, 20);
    cusparseHandle_t handle;
    cusparseSpMatDescr_t a_matrix;
    cr_assert_eq(cusparseCreate(&handle), CUSPARSE_STATUS_SUCCESS);
    cr_assert_eq(cusparseCreateCsr(&a_matrix, 3, 4, 4, d_offsets, d_columns, d_values,
                                   CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO,
                                   CUDA_R_32F),
                 CUSPARSE_STATUS_SUCCESS);
    for (int by_rows = 0; by_rows < 2; by_rows++) {
        const cusparseOrder_t order = by_rows ? CUSPARSE_ORDER_ROW : CUSPARSE_ORDER_COL;
        float *dc = upload(c, 15);
        cusparseDnMatDescr_t b_matrix, c_matrix;
        cusparseCreateDnMat(&b_matrix, 4, 5, by_rows ? 5 : 4, db, CUDA_R_32F, order);
        cusparseCreateDnMat(&c_matrix, 3, 5, by_rows ? 5 : 3, dc, CUDA_R_32F, order);
        cr_assert_eq(cusparseSpMM(handle, CUSPARSE_OPERATION_NON_TRANSPOSE,
                                  CUSPARSE_OPERATION_NON_TRANSPOSE, &alpha, a_matrix, b_matrix,
                                  &beta, c_matrix, CUDA_R_32F, CUSPARSE_SPMM_ALG_DEFAULT, NULL),
                     CUSPARSE_STATUS_SUCCESS, "%s", simt_report_text());
        read_back(dc, 15, out);
        for (int r = 0; r < 3; r++)
            for (int j = 0; j < 5; j++) {
                const int at = by_rows ? r * 5 + j : j * 3 + r;
                float sum = 0;
                for (int k = 0; k < 4; k++)
                    sum += matrix[r][k] * b[by_rows ? k * 5 + j : j * 4 + k];
                cr_assert_eq(out[at], alpha * sum + beta * c[at]);
            }
        cusparseDestroyDnMat(b_matrix), cusparseDestroyDnMat(c_matrix), cudaFree(dc);
    }
    cusparseDestroySpMat(a_matrix), cusparseDestroy(handle);
    cudaFree(d_offsets), cudaFree(d_columns), cudaFree(d_values), cudaFree(db);
}
