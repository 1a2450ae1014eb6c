/* cuda_spmm.h - messages over gradients that the caller supplies, by cuSPARSE.
 *
 *     out[m, i] = sum over entries e of row m:  coef[e] * g[column[e], i]
 *
 * The code matrix is sparse, g is dense: one product of a CSR matrix makes all messages of all
 * workers at once. Models do not need it, for they fold before their own products; it serves
 * gradients that come from elsewhere. */
#ifndef COG_HOST_DEVICES_CUDA_SPMM_H
#define COG_HOST_DEVICES_CUDA_SPMM_H

#include "device.h"

typedef struct cog_cuda_spmm cog_cuda_spmm;

/* A sparse matrix in host memory; it is copied. */
typedef struct cog_code_rows {
    int32_t n_messages, n_parts;
    const int32_t *row;    /* [n_messages + 1] first entry of each message */
    const int32_t *column; /* [row[n_messages]] part of each entry */
    const double *coef;    /* [row[n_messages]]; products are in fp32 */
} cog_code_rows;

/* g [n_parts, length] and out [n_messages, length] are memory of `device`, rows one after the
 * other, and stay where they are as long as the product is used.
 * ERR_UNSUPPORTED   the device is not a CUDA device */
cog_status cog_cuda_spmm_create(cog_device *device, const cog_code_rows *code, int64_t length,
                                const float *g, float *out, cog_cuda_spmm **result);
/* Enqueues the product; allocates nothing. */
cog_status cog_cuda_spmm_run(cog_cuda_spmm *product);
void cog_cuda_spmm_destroy(cog_cuda_spmm *product); /* accepts NULL */

#endif
