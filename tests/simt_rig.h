/* simt_rig.h - what the tests of the SIMT executor share. */
#ifndef COG_TESTS_SIMT_RIG_H
#define COG_TESTS_SIMT_RIG_H

#include <criterion/criterion.h>
#include <cuda_runtime.h>

#include "planted.h"
#include "simt.h"

enum { N = 4096, N_SEEDS = 10 };

/* Device memory; x holds 0, 1, 2 ..., y was never written. */
typedef struct buffers {
    float *x, *y;
} buffers;

static inline buffers make_buffers(void) {
    buffers b;
    float values[N];
    for (int i = 0; i < N; i++) values[i] = (float)i;
    cr_assert_eq(cudaMalloc((void **)&b.x, sizeof(values)), cudaSuccess);
    cr_assert_eq(cudaMalloc((void **)&b.y, sizeof(values)), cudaSuccess);
    cr_assert_eq(cudaMemcpy(b.x, values, sizeof(values), cudaMemcpyHostToDevice), cudaSuccess);
    return b;
}

static inline void free_buffers(buffers b) {
    cr_assert_eq(cudaFree(b.x), cudaSuccess);
    cr_assert_eq(cudaFree(b.y), cudaSuccess);
}

static inline void read_back(const float *from, int n, float *to) {
    cr_assert_eq(cudaMemcpy(to, from, (size_t)n * sizeof(*to), cudaMemcpyDeviceToHost), cudaSuccess,
                 "%s", simt_report_text());
}

#endif
