/* need_gpu.h - a program of tests that ends at once where too few GPUs are visible: one, or
 * NEED_GPUS.
 *
 * Its status is then 77, which skips the test, and it says why; with at least as many in
 * COG_REQUIRE_GPU in the environment it fails instead. On the SIMT executor there always is one. */
#ifndef COG_TESTS_NEED_GPU_H
#define COG_TESTS_NEED_GPU_H

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef NEED_GPUS
#define NEED_GPUS 1
#endif

__attribute__((constructor)) static void need_gpu(void) {
    int n_gpus = 0;
    const cudaError_t error = cudaGetDeviceCount(&n_gpus);
    if (error == cudaSuccess && n_gpus >= NEED_GPUS) return;
    const char *required = getenv("COG_REQUIRE_GPU");
    const int is_required = required != NULL && atoi(required) >= NEED_GPUS;
    fprintf(stderr, "%s: %d GPUs are visible, %d are needed: %s\n",
            is_required ? "failed" : "skipped", n_gpus, NEED_GPUS, cudaGetErrorString(error));
    _Exit(is_required ? 1 : 77);
}

#endif
