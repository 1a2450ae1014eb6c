/* device.h - what a device back-end provides. One back-end is one file in devices/.
 *
 * Pointers are device memory unless they say host; sizes are in elements. Every operation has
 * its meaning in devices/cpu.c: other back-ends reproduce it. Sums may be reordered, so they agree
 * to rounding; everything that selects or packs agrees bit for bit.
 */
#ifndef COG_HOST_DEVICE_H
#define COG_HOST_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "cograd/device.h"
#include "spec.h"

/* Where the bias of output column c lives: block (c / group), row (c % group) of it. */
typedef struct cog_panels {
    int32_t n_blocks;
    int64_t group;     /* output columns of one block, padding included */
    int64_t block_len; /* distance between two blocks */
} cog_panels;

/* One addend of a fold: coef * the column group it names. */
typedef struct cog_fold_term {
    int64_t column; /* first column */
    float coef;
} cog_fold_term;

enum { COG_MAX_VECTORS = 17 }; /* a window and a message, see predict.h */

struct cog_kernel_decode; /* kernels.h */

typedef struct cog_device_ops {
    const char *name;
    cog_device_kind kind;

    cog_status (*open)(cog_device *device, cog_spec *spec);
    void (*close)(cog_device *device);
    cog_status (*sync)(cog_device *device);
    /* (optional) what cog_device_stream() hands out, default NULL */
    void *(*stream)(const cog_device *device);

    cog_status (*alloc)(cog_device *device, size_t bytes, void **out);
    void (*free)(cog_device *device, void *memory); /* accepts NULL */
    /* In the order of the queue, and done on return: the host memory may be reused, or read. */
    cog_status (*upload)(cog_device *device, void *to, const void *from_host, size_t bytes);
    cog_status (*download)(cog_device *device, void *to_host, const void *from, size_t bytes);

    cog_status (*fill)(cog_device *device, float value, float *y, int64_t n);
    /* y = a x + b y; y is not read when b is 0 */
    cog_status (*axpby)(cog_device *device, float a, const float *x, float b, float *y, int64_t n);
    /* bf16 with round to nearest even; NaN stays NaN */
    cog_status (*to_bf16)(cog_device *device, const float *x, uint16_t *y, int64_t n);
    cog_status (*from_bf16)(cog_device *device, const uint16_t *x, float *y, int64_t n);

    /* C_i = alpha op(A_i) op(B_i) + beta C_i for i < count, row-major, C_i [m, n];
     * A_i = a + i * stride_a and so on. C is not read when beta is 0. The C_i do
     * not overlap. Called through cog_device_gemm(), which counts. */
    cog_status (*gemm)(cog_device *device, bool transpose_a, bool transpose_b, int64_t m, int64_t n,
                       int64_t k, float alpha, const float *a, int64_t lda, int64_t stride_a,
                       const float *b, int64_t ldb, int64_t stride_b, float beta, float *c,
                       int64_t ldc, int64_t stride_c, int count);

    /* z[r, c] += bias(c), then max(0, .) when relu; z is [rows, panels.n_blocks * panels.group],
     * leading dimension ld. `bias` points at the first bias of block 0. */
    cog_status (*bias_relu)(cog_device *device, int64_t rows, int64_t ld, const float *bias,
                            cog_panels panels, bool relu, float *z);
    /* delta[r, c] = softmax(z[r, :n_classes])[c] - (c == label[r]), and 0 for the padding columns
     * up to ld. row_loss[r] = -log softmax(z)[label], row_correct[r] = 1.0f or 0.0f (the first
     * of equal scores wins). delta may alias z; row_loss and row_correct may be NULL. A label that
     * is no class gives the loss NaN. */
    cog_status (*softmax_cross_entropy)(cog_device *device, int64_t rows, int64_t n_classes,
                                        int64_t ld, const float *z, const float *label,
                                        float *delta, float *row_loss, float *row_correct);
    /* delta[i] = activation[i] > 0 ? delta[i] : 0 */
    cog_status (*relu_backward)(cog_device *device, const float *activation, float *delta,
                                int64_t n);
    /* out[r, 0..group) = sum over terms coef * d[r, column .. column + group); one pass.
     * out has leading dimension ld_out; the terms lie in host memory. No terms give zeros. */
    cog_status (*fold_columns)(cog_device *device, int64_t rows, int64_t group, int64_t ld,
                               const float *d, int n_terms, const cog_fold_term *terms, float *out,
                               int64_t ld_out);
    /* y[c] = alpha * sum over rows of d[r, c] + beta * y[c], c < cols */
    cog_status (*sum_rows)(cog_device *device, int64_t rows, int64_t cols, int64_t ld, float alpha,
                           const float *d, float beta, float *y);

    /* Two rows of a Gram matrix in one pass over 1 to COG_MAX_VECTORS vectors of n entries: with
     * n_rows = 1 or 2, and no more than vectors, the sums over the entries of x[0] x[k] for k >= 0,
     * then of x[1] x[k] for k >= 1. out, in host memory, is complete on return. Every device gives
     * the same bits. work [cog_device_sums_bytes(n)], here and below. */
    cog_status (*products)(cog_device *device, int n_rows, int n_vectors, const float *const *x,
                           int64_t n, void *work, double *out);
    /* expected = sum over terms (at most COG_MAX_VECTORS - 1) of coef * x in their order, in double
     * and rounded once, and *square in host memory = the sum of (target - expected)^2: one pass,
     * the same bits on every device. expected may be NULL, or target, then square is not set. */
    cog_status (*predict)(cog_device *device, int n_terms, const float *const *x, const float *coef,
                          const float *target, int64_t n, float *expected, void *work,
                          double *square);

    /* (optional) One pass over a replica's parameters, see kernels.h; the payloads are in device
     * memory. Default: the loops of replica.c, which need the parameters in host memory. */
    cog_status (*decode)(cog_device *device, const struct cog_kernel_decode *work);
} cog_device_ops;

struct cog_device {
    const cog_device_ops *ops;
    void *state;
    int64_t gemm_flops; /* 2 m n k summed over the products asked for: a counter for tests */
};

#ifdef COG_WITH_CUDA
/* Around every use of CUDA, which knows a current GPU for every thread of the host while a handle
 * may be handed from thread to thread. Defined in devices/cuda.c.
 *
 * Make the device's GPU current and begin a range named `what` in a profile, which ends with
 * cog_cuda_leave(), or here when this fails. */
cog_status cog_cuda_enter(const cog_device *device, const char *what);
/* End the range. `error` is the cudaError_t that the call `what` returned. */
cog_status cog_cuda_leave(const cog_device *device, const char *what, int error);

/* function(arguments) between entering and leaving; goes on when it succeeded. */
#define COG_CUDA_TRY(device, function, ...)                                       \
    do {                                                                          \
        COG_TRY(cog_cuda_enter((device), #function));                             \
        COG_TRY(cog_cuda_leave((device), #function, (int)function(__VA_ARGS__))); \
    } while (0)
#endif

/* Messages over gradients that the caller supplies, by cuSPARSE; see cograd/encoder.h.
 *
 *     out[m, i] = sum over entries e of row m:  coef[e] * g[column[e], i]
 *
 * Defined in devices/cuda_spmm.c, in builds with COG_WITH_CUDA. */
typedef struct cog_cuda_spmm cog_cuda_spmm;

/* A sparse matrix in host memory; it is copied. */
typedef struct cog_code_rows {
    int32_t n_messages, n_parts;
    const int32_t *row;    /* [n_messages + 1] first entry of each message */
    const int32_t *column; /* [row[n_messages]] part of each entry */
    const double *coef;    /* [row[n_messages]]; products are in fp32 */
} cog_code_rows;

/* g [n_parts, length] and out [n_messages, length] are memory of `device`, rows one after the
 * other, and stay where they are as long as the product is used.
 * ERR_UNSUPPORTED   the device is not a CUDA device */
cog_status cog_cuda_spmm_create(cog_device *device, const cog_code_rows *code, int64_t length,
                                const float *g, float *out, cog_cuda_spmm **result);
/* Enqueues the product; allocates nothing. */
cog_status cog_cuda_spmm_run(cog_cuda_spmm *product);
void cog_cuda_spmm_destroy(cog_cuda_spmm *product); /* accepts NULL */

/* Allocate n floats set to zero. */
cog_status cog_device_zeros(cog_device *device, int64_t n, float **out);
void cog_device_free(cog_device *device, void *memory); /* accepts a NULL device or memory */

/* Memory of the device that sums over n entries need. */
size_t cog_device_sums_bytes(int64_t n);

/* ops->gemm, and gemm_flops kept up to date: the one way to ask for a product. */
cog_status cog_device_gemm(cog_device *device, bool transpose_a, bool transpose_b, int64_t m,
                           int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                           int64_t stride_a, const float *b, int64_t ldb, int64_t stride_b,
                           float beta, float *c, int64_t ldc, int64_t stride_c, int count);

#endif
