/* kernel_bench.h - what the tests of kernels/ share: device vectors with guarded surroundings.
 *
 * The tests see CUDA's own interface only, so one source runs on the SIMT executor (COG_WITH_SIMT),
 * which also counts bytes and tries orders of threads, and as a CUDA program. */
#ifndef COG_TESTS_KERNEL_BENCH_H
#define COG_TESTS_KERNEL_BENCH_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <cuda_runtime.h>

#include "kernels.h"
#include "need_gpu.h"
#ifdef COG_WITH_SIMT
#include "simt.h"
#endif

enum { GUARD = 64, GUARD_BYTE = 0x5a }; /* bytes around every vector */

#define CUDA_OK(call)                                                                      \
    do {                                                                                   \
        const int error_ = (call);                                                         \
        cr_assert_eq(error_, 0, "%s: %s", #call, cudaGetErrorString((cudaError_t)error_)); \
    } while (0)

/* n entries of `size` bytes, `offset` entries behind an address that is a multiple of 256. */
typedef struct device_vector {
    char *memory;
    void *at;
    size_t bytes, before, after;
} device_vector;

static inline device_vector device_vector_make(int64_t n, size_t size, int offset) {
    device_vector v = {NULL, NULL, (size_t)n * size, 256 + (size_t)offset * size, GUARD};
    const size_t total = v.before + v.bytes + v.after;
    CUDA_OK(cudaMalloc((void **)&v.memory, total));
    CUDA_OK(cudaMemset(v.memory, GUARD_BYTE, total));
    v.at = v.memory + v.before;
    return v;
}

static inline device_vector device_vector_of(const void *values, int64_t n, size_t size,
                                             int offset) {
    const device_vector v = device_vector_make(n, size, offset);
    CUDA_OK(cudaMemcpy(v.at, values, v.bytes, cudaMemcpyHostToDevice));
    return v;
}

/* The values, malloc'ed; nothing around them has changed. */
static inline void *device_vector_read(device_vector v) {
    const size_t total = v.before + v.bytes + v.after;
    char *all = malloc(total), *values = malloc(v.bytes + 1);
    CUDA_OK(cudaMemcpy(all, v.memory, total, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < total; i++)
        if (i < v.before || i >= v.before + v.bytes)
            cr_assert_eq(all[i], GUARD_BYTE, "byte %zu of %zu was overwritten", i, total);
    memcpy(values, all + v.before, v.bytes);
    free(all);
    return values;
}

static inline void device_vector_free(device_vector v) { CUDA_OK(cudaFree(v.memory)); }

/* From here on the executor demands that every byte is written. */
static inline void device_vector_poison(device_vector v) {
#ifdef COG_WITH_SIMT
    simt_forget(v.at, v.bytes);
#else
    CUDA_OK(cudaMemset(v.at, 0xff, v.bytes));
#endif
}

/* Orders of threads to try: one where nobody can choose. */
#ifdef COG_WITH_SIMT
enum { N_ORDERS = 10 };
static inline void set_order(int order) { simt_set_seed((uint64_t)order); }
#else
enum { N_ORDERS = 1 };
static inline void set_order(int order) { (void)order; }
#endif

#endif
