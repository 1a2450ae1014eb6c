/* gemm.c - the CPU's matrix product: oneDNN, any CBLAS, or plain loops (CMake option COG_GEMM).
 *
 * The loops add products one by one, in order, by fused multiply-adds. They are slow, need no
 * library, and have the same bits everywhere: those of the devices that tests put in a GPU's place.
 * So a lossy channel, which one rounding can make send something else, chooses alike on both.
 *
 * oneDNN takes its number of threads from OpenMP, where it is a setting of the calling thread;
 * it is put back afterwards, for the program may use OpenMP as well. A CBLAS keeps one setting
 * for the whole process, which is its user's to choose. */
#include "gemm.h"

#include "check.h"

#ifdef COG_GEMM_CBLAS

#include <cblas.h>
#include <limits.h>

cog_status cog_cpu_gemm(int n_threads, bool transpose_a, bool transpose_b, int64_t m, int64_t n,
                        int64_t k, float alpha, const float *a, int64_t lda, const float *b,
                        int64_t ldb, float beta, float *c, int64_t ldc) {
    (void)n_threads;
    COG_CHECK(m <= INT_MAX && n <= INT_MAX && k <= INT_MAX && lda <= INT_MAX && ldb <= INT_MAX &&
                  ldc <= INT_MAX,
              COG_ERR_ARGUMENT, "a matrix is too large for CBLAS: its sizes are 32-bit numbers");
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                transpose_b ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha, a, (int)lda,
                b, (int)ldb, beta, c, (int)ldc);
    return COG_OK;
}

#elif defined(COG_GEMM_LOOPS)

#include <math.h>

cog_status cog_cpu_gemm(int n_threads, bool transpose_a, bool transpose_b, int64_t m, int64_t n,
                        int64_t k, float alpha, const float *a, int64_t lda, const float *b,
                        int64_t ldb, float beta, float *c, int64_t ldc) {
    (void)n_threads;
    const int64_t row_a = transpose_a ? 1 : lda, col_a = transpose_a ? lda : 1;
    const int64_t row_b = transpose_b ? 1 : ldb, col_b = transpose_b ? ldb : 1;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float sum = 0, *out = c + i * ldc + j;
            for (int64_t l = 0; l < k; l++)
                sum = fmaf(a[i * row_a + l * col_a], b[l * row_b + j * col_b], sum);
            *out = beta == 0 ? alpha * sum : alpha * sum + beta * *out;
        }
    return COG_OK;
}

#else

#include <dnnl.h>

/* Of libgomp, against which oneDNN is linked; <omp.h> may belong to another runtime. */
int omp_get_max_threads(void);
void omp_set_num_threads(int n);

cog_status cog_cpu_gemm(int n_threads, bool transpose_a, bool transpose_b, int64_t m, int64_t n,
                        int64_t k, float alpha, const float *a, int64_t lda, const float *b,
                        int64_t ldb, float beta, float *c, int64_t ldc) {
    const int before = omp_get_max_threads();
    if (before != n_threads) omp_set_num_threads(n_threads);
    const dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n,
                                            k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (before != n_threads) omp_set_num_threads(before);
    COG_CHECK(status != dnnl_out_of_memory, COG_ERR_MEMORY,
              "no memory for the work space of a matrix product");
    COG_CHECK(status == dnnl_success, COG_ERR_DEVICE, "dnnl_sgemm failed with status %d",
              (int)status);
    return COG_OK;
}

#endif
