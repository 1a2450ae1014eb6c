/* cuda_runtime_api.h - CUDA's other name for its C interface. */
#include "cuda_runtime.h"
