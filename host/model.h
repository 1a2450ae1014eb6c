/* model.h - what a model family provides. One family is one file in models/. */
#ifndef COG_HOST_MODEL_H
#define COG_HOST_MODEL_H

#include "cograd/model.h"
#include "spec.h"

/* What the data and the code ask of a model. */
typedef struct cog_model_shape {
    int64_t n_features;
    int32_t n_classes; /* 0: real targets */
    int32_t n_blocks;
} cog_model_shape;

typedef struct cog_model_ops {
    const char *name;
    const char *summary; /* one line for `cograd info` */
    /* Fill `out`, which is zeroed; on failure cog_model_close() frees what is there. */
    cog_status (*open)(cog_spec *spec, const cog_model_shape *shape, cog_model *out);
} cog_model_ops;

/* Shared by the families: the batch has the model's width, and every slice names a segment and a
 * block that exist. */
cog_status cog_model_check(const cog_batch *batch, int64_t n_features, int32_t n_blocks,
                           int n_slices, const cog_slice *slices);

/* Sum of n numbers of device memory, or of their squares, in double; waits for the device. */
cog_status cog_model_sum(cog_device *device, const float *x, int64_t n, bool squared, double *out);

#endif
