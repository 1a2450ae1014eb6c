/* cpu.c - the device every machine has; what it does is what every operation means.
 *
 *   threads   of one matrix product (oneDNN through OpenMP), default 1
 *
 * Nothing is queued: calls are done when they return. Everything but the matrix product runs on
 * the calling thread, at the speed of its cache. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "cpu_loops.h"
#include "device.h"
#include "gemm.h"

enum { ALIGNMENT = 64 }; /* bytes: a cache line, and the widest vector register */

typedef struct cpu_state {
    const cog_cpu_loops *loops;
    int n_threads;
} cpu_state;

static const cpu_state *state_of(const cog_device *device) { return device->state; }

static void cpu_close(cog_device *device) { free(device->state); }

static cog_status cpu_open(cog_device *device, cog_spec *spec) {
    int64_t n_threads;
    COG_TRY(cog_spec_int(spec, "threads", 1, 1, 1024, &n_threads));
    cpu_state *state = calloc(1, sizeof(*state));
    COG_CHECK(state != NULL, COG_ERR_MEMORY, "no memory for a CPU device");
    device->state = state;
    const cog_cpu_loops *list[4];
    cog_cpu_loops_list(list);
    state->loops = list[0];
    state->n_threads = (int)n_threads;
    return COG_OK;
}

static cog_status cpu_sync(cog_device *device) {
    (void)device;
    return COG_OK;
}

static cog_status cpu_alloc(cog_device *device, size_t bytes, void **out) {
    (void)device;
    COG_CHECK(bytes < (size_t)1 << 47, COG_ERR_MEMORY,
              "%zu bytes are more than a process can address", bytes);
    const size_t rounded = bytes > 0 ? (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : ALIGNMENT;
    void *memory = aligned_alloc(ALIGNMENT, rounded);
    COG_CHECK(memory != NULL, COG_ERR_MEMORY, "no memory for %zu bytes", bytes);
    *out = memory;
    return COG_OK;
}

static void cpu_free(cog_device *device, void *memory) {
    (void)device;
    free(memory);
}

static cog_status copy(cog_device *device, void *to, const void *from, size_t bytes) {
    (void)device;
    if (bytes > 0) memcpy(to, from, bytes);
    return COG_OK;
}

static cog_status cpu_fill(cog_device *device, float value, float *y, int64_t n) {
    (void)device;
    for (int64_t i = 0; i < n; i++) y[i] = value;
    return COG_OK;
}

static cog_status cpu_axpby(cog_device *device, float a, const float *x, float b, float *y,
                            int64_t n) {
    state_of(device)->loops->axpby(a, x, b, y, n);
    return COG_OK;
}

static cog_status cpu_to_bf16(cog_device *device, const float *x, uint16_t *y, int64_t n) {
    state_of(device)->loops->to_bf16(x, y, n);
    return COG_OK;
}

static cog_status cpu_from_bf16(cog_device *device, const uint16_t *x, float *y, int64_t n) {
    state_of(device)->loops->from_bf16(x, y, n);
    return COG_OK;
}

/* What is left of C when there is nothing to add. */
static void scale(int64_t m, int64_t n, float beta, float *c, int64_t ldc) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
}

static cog_status cpu_gemm(cog_device *device, bool transpose_a, bool transpose_b, int64_t m,
                           int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                           int64_t stride_a, const float *b, int64_t ldb, int64_t stride_b,
                           float beta, float *c, int64_t ldc, int64_t stride_c, int count) {
    if (m <= 0 || n <= 0) return COG_OK;
    for (int i = 0; i < count; i++) {
        float *out = c + i * stride_c;
        if (k <= 0)
            scale(m, n, beta, out, ldc);
        else
            COG_TRY(cog_cpu_gemm(state_of(device)->n_threads, transpose_a, transpose_b, m, n, k,
                                 alpha, a + i * stride_a, lda, b + i * stride_b, ldb, beta, out,
                                 ldc));
    }
    return COG_OK;
}

static cog_status cpu_bias_relu(cog_device *device, int64_t rows, int64_t ld, const float *bias,
                                cog_panels panels, bool relu, float *z) {
    state_of(device)->loops->bias_relu(rows, ld, bias, panels, relu, z);
    return COG_OK;
}

static cog_status cpu_softmax_cross_entropy(cog_device *device, int64_t rows, int64_t n_classes,
                                            int64_t ld, const float *z, const float *label,
                                            float *delta, float *row_loss, float *row_correct) {
    state_of(device)->loops->softmax_cross_entropy(rows, n_classes, ld, z, label, delta, row_loss,
                                                   row_correct);
    return COG_OK;
}

static cog_status cpu_relu_backward(cog_device *device, const float *activation, float *delta,
                                    int64_t n) {
    state_of(device)->loops->relu_backward(activation, delta, n);
    return COG_OK;
}

static cog_status cpu_fold_columns(cog_device *device, int64_t rows, int64_t group, int64_t ld,
                                   const float *d, int n_terms, const cog_fold_term *terms,
                                   float *out, int64_t ld_out) {
    state_of(device)->loops->fold_columns(rows, group, ld, d, n_terms, terms, out, ld_out);
    return COG_OK;
}

static cog_status cpu_sum_rows(cog_device *device, int64_t rows, int64_t cols, int64_t ld,
                               float alpha, const float *d, float beta, float *y) {
    state_of(device)->loops->sum_rows(rows, cols, ld, alpha, d, beta, y);
    return COG_OK;
}

static cog_status cpu_products(cog_device *device, int n_rows, int n_vectors, const float *const *x,
                               int64_t n, void *work, double *out) {
    state_of(device)->loops->products(n_rows, n_vectors, x, n, work, out);
    return COG_OK;
}

static cog_status cpu_predict(cog_device *device, int n_terms, const float *const *x,
                              const float *coef, const float *target, int64_t n, float *expected,
                              void *work, double *square) {
    (void)work;
    const double sum = state_of(device)->loops->predict(n_terms, x, coef, target, n, expected);
    if (target != NULL) *square = sum;
    return COG_OK;
}

const cog_device_ops cog_device_cpu = {
    .name = "cpu",
    .kind = COG_CPU,
    .open = cpu_open,
    .close = cpu_close,
    .sync = cpu_sync,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = copy,
    .download = copy,
    .fill = cpu_fill,
    .axpby = cpu_axpby,
    .to_bf16 = cpu_to_bf16,
    .from_bf16 = cpu_from_bf16,
    .gemm = cpu_gemm,
    .bias_relu = cpu_bias_relu,
    .softmax_cross_entropy = cpu_softmax_cross_entropy,
    .relu_backward = cpu_relu_backward,
    .fold_columns = cpu_fold_columns,
    .sum_rows = cpu_sum_rows,
    .products = cpu_products,
    .predict = cpu_predict,
};
