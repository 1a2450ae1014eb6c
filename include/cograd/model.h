/* model.h - the loss whose gradient the engine distributes.
 *
 * Parameters are laid out in n_blocks equal, contiguous blocks; block a holds row panel a of
 * every layer (output group a of a projective derivative code), padded with zeros so that all
 * blocks have one shape. With one block the layout is that of an ordinary network.
 *
 * A worker's round is two calls. `backprop` runs forward and backward over the rows of all
 * shards the worker holds and keeps activations and deltas (the derivative of each row's loss
 * with respect to a layer's outputs) in a workspace. `message` turns them into
 *
 *     out[block_len] = sum over slices  coef * sum over rows of the slice's segment
 *                                              d loss(row) / d params[block of the slice]
 *
 * by folding delta columns before the weight-gradient matrix product: a message costs one
 * product of block size, whatever the weight of its codeword, and a data-subset code (one
 * block, many segments) costs nothing beyond the plain gradient.
 */
#ifndef COG_MODEL_H
#define COG_MODEL_H

#include <stdint.h>

#include "cograd/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows on a device, grouped by the shard they were drawn from. */
typedef struct cog_batch {
    int64_t n_rows;
    int64_t n_features;
    const float *x;         /* [n_rows, n_features] row-major, device memory */
    const float *y;         /* [n_rows] device memory */
    int32_t n_segments;     /* shards in this batch */
    const int64_t *segment; /* [n_segments + 1] first row of each segment, host memory */
} cog_batch;

/* One term of a message. */
typedef struct cog_slice {
    int32_t segment;
    int32_t block;
    double coef;
} cog_slice;

typedef struct cog_loss {
    double loss;       /* summed over rows */
    int64_t n_correct; /* rows whose class was predicted; 0 for regression */
} cog_loss;

/* A differentiable loss. Users supply their own by filling this struct. params, workspace and
 * out are device memory; calls enqueue on `device` and return. */
typedef struct cog_model {
    const char *name;
    void *user;
    int64_t n_params; /* n_blocks * block_len */
    int64_t block_len;
    int32_t n_blocks;

    /* Initial parameters, in host memory; the same function whatever n_blocks is. */
    cog_status (*init)(const void *user, uint64_t seed, float *params);

    /* Device memory that backprop needs for up to n_rows rows. */
    size_t (*workspace_bytes)(const void *user, int64_t n_rows);

    cog_status (*backprop)(const void *user, cog_device *device, const cog_batch *batch,
                           const float *params, void *workspace);

    cog_status (*message)(const void *user, cog_device *device, const cog_batch *batch,
                          const float *params, void *workspace, int n_slices,
                          const cog_slice *slices, float *out);

    /* Loss and accuracy over the rows of a batch; waits for the device. */
    cog_status (*evaluate)(const void *user, cog_device *device, const cog_batch *batch,
                           const float *params, void *workspace, cog_loss *out);

    /* Floating-point operations of one backprop, and of one message over n_rows rows: what the
     * cost model of the `sim` transport charges. */
    double (*backprop_flops)(const void *user, int64_t n_rows);
    double (*message_flops)(const void *user, int64_t n_rows);

    void (*destroy)(void *user);
} cog_model;

/* spec   "mlp:hidden=512x256"  ReLU, softmax cross-entropy
 *        "softmax"             no hidden layer
 *        "squared"             1/2 (x.w + b - y)^2
 *        "logistic"            log(1 + exp(-y (x.w + b))), labels {0,1} read as y = 2 label - 1
 *        squared and logistic take l2=1e-4: adds l2/2 ||w||^2 to the mean loss, so a sum over rows
 *        carries it once for every row; and bias=0: there is no b
 * ERR_SPEC       a family or a key that does not exist
 * ERR_ARGUMENT   a classifier for data without classes, or the other way round */
cog_status cog_model_open(const char *spec, int64_t n_features, int32_t n_classes, int32_t n_blocks,
                          cog_model *out);
void cog_model_close(cog_model *model); /* accepts NULL and a zeroed struct */

#ifdef __cplusplus
}
#endif
#endif
