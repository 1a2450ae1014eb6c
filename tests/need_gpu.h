/* need_gpu.h - a program of tests that ends at once where no GPU is visible.
 *
 * Its status is then 77, which skips the test, and it says why; with COG_REQUIRE_GPU in the
 * environment it fails instead. On the SIMT executor there always is one. */
#ifndef COG_TESTS_NEED_GPU_H
#define COG_TESTS_NEED_GPU_H

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((constructor)) static void need_gpu(void) {
    int n_gpus = 0;
    const cudaError_t error = cudaGetDeviceCount(&n_gpus);
    if (error == cudaSuccess && n_gpus > 0) return;
    const int is_required = getenv("COG_REQUIRE_GPU") != NULL;
    fprintf(stderr, "%s: no GPU is visible: %s\n", is_required ? "failed" : "skipped",
            cudaGetErrorString(error));
    _Exit(is_required ? 1 : 77);
}

#endif
