/* encoder.h - the messages of a code over gradients that the caller has.
 *
 *     out[m, i] = sum over the terms t of message m of  coef[t] * parts[part[t], i],   i < length
 *
 * For programs that bring their own gradients: one product of a sparse and a dense matrix makes
 * every message of every worker; cog_code_decode() gives the weights of the way back. The engine
 * has no use for it, because its models combine before their own matrix products. */
#ifndef COG_ENCODER_H
#define COG_ENCODER_H

#include <stdint.h>

#include "cograd/code.h"
#include "cograd/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cog_encoder cog_encoder;

/* parts [n_shards * n_blocks, length] and out [n_messages, length] of the code's plan are memory of
 * the device (host memory for "cpu"), rows one after the other; they do not overlap and stay where
 * they are while the encoder lives. So does the device; the code is not kept.
 * ERR_ARGUMENT      length is below 1
 * ERR_UNSUPPORTED   the code draws its coefficients anew in every round */
cog_status cog_encoder_create(const cog_code *code, cog_device *device, int64_t length,
                              const float *parts, float *out, cog_encoder **encoder);

/* Enqueue it; coefficients and sums are in fp32. On a GPU nothing is allocated and nothing waits,
 * so it may be captured in a CUDA graph. */
cog_status cog_encoder_run(cog_encoder *encoder);

void cog_encoder_destroy(cog_encoder *encoder); /* accepts NULL */

#ifdef __cplusplus
}
#endif
#endif
