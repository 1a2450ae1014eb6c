/* on_cuda.h - the quantizers' verbs on CUDA devices; see on_cuda.c. */
#ifndef COG_HOST_COMPRESS_ON_CUDA_H
#define COG_HOST_COMPRESS_ON_CUDA_H

#include "compress.h"

#ifdef COG_WITH_CUDA
extern const cog_quantizer_kernels cog_identity_on_cuda;
extern const cog_quantizer_kernels cog_bf16_on_cuda;
extern const cog_quantizer_kernels cog_sign_on_cuda;
extern const cog_quantizer_kernels cog_topk_on_cuda;
extern const cog_quantizer_kernels cog_qsgd_on_cuda;
extern const cog_quantizer_kernels cog_fosgd_on_cuda;
#endif

#endif
