/* cuda.h - what the files of the CUDA device share: its state, and codes turned into sentences.
 *
 * Every use of CUDA begins with cog_cuda_enter() and ends with cog_cuda_leave(), see device.h. */
#ifndef COG_HOST_DEVICES_CUDA_H
#define COG_HOST_DEVICES_CUDA_H

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include "device.h"

typedef struct cog_cuda {
    int ordinal;
    cudaStream_t stream;
    cublasHandle_t blas;
    void *workspace; /* of cuBLAS: given to it, so that it allocates nothing itself */
    char name[128];  /* of the GPU, for sentences */
} cog_cuda;

static inline const cog_cuda *cog_cuda_of(const cog_device *device) { return device->state; }

/* The same for a library with codes of its own: `text` is NULL for success. */
cog_status cog_cuda_leave_library(const cog_device *device, const char *what, const char *text);

#endif
