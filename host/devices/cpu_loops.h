/* cpu_loops.h - the element-by-element loops of the CPU device, once per instruction set. */
#ifndef COG_HOST_DEVICES_CPU_LOOPS_H
#define COG_HOST_DEVICES_CPU_LOOPS_H

#include "device.h"

/* As the entries of cog_device_ops of the same names. */
typedef struct cog_cpu_loops {
    const char *name; /* of the instruction set */
    void (*axpby)(float a, const float *x, float b, float *y, int64_t n);
    void (*to_bf16)(const float *x, uint16_t *y, int64_t n);
    void (*from_bf16)(const uint16_t *x, float *y, int64_t n);
    void (*bias_relu)(int64_t rows, int64_t ld, const float *bias, cog_panels panels, bool relu,
                      float *z);
    void (*softmax_cross_entropy)(int64_t rows, int64_t n_classes, int64_t ld, const float *z,
                                  const float *label, float *delta, float *row_loss,
                                  float *row_correct);
    void (*relu_backward)(const float *activation, float *delta, int64_t n);
    void (*fold_columns)(int64_t rows, int64_t group, int64_t ld, const float *d, int n_terms,
                         const cog_fold_term *terms, float *out, int64_t ld_out);
    void (*sum_rows)(int64_t rows, int64_t cols, int64_t ld, float alpha, const float *d,
                     float beta, float *y);
    void (*products)(int n_rows, int n_vectors, const float *const *x, int64_t n, double *work,
                     double *out);
    double (*predict)(int n_terms, const float *const *x, const float *coef, const float *target,
                      int64_t n, float *expected);
} cog_cpu_loops;

/* All that this processor can run, the fastest first; ends with NULL. */
void cog_cpu_loops_list(const cog_cpu_loops *list[4]);

#endif
