/* cuda.h - what the files of the CUDA device share: its state, and codes turned into sentences.
 *
 * CUDA knows a current GPU for every thread of the host, and a handle may be handed from thread to
 * thread: every use of CUDA begins with cog_cuda_enter() and ends with cog_cuda_leave(). */
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

/* Make the device's GPU current and begin a range named `what` in a profile, which ends with
 * cog_cuda_leave(), or here when this fails. */
cog_status cog_cuda_enter(const cog_device *device, const char *what);
/* End the range. `error` is the cudaError_t that the call `what` returned. */
cog_status cog_cuda_leave(const cog_device *device, const char *what, int error);
/* The same for a library with codes of its own: `text` is NULL for success. */
cog_status cog_cuda_leave_library(const cog_device *device, const char *what, const char *text);

/* function(arguments) between entering and leaving; goes on when it succeeded. */
#define COG_CUDA_TRY(device, function, ...)                                       \
    do {                                                                          \
        COG_TRY(cog_cuda_enter((device), #function));                             \
        COG_TRY(cog_cuda_leave((device), #function, (int)function(__VA_ARGS__))); \
    } while (0)

#endif
