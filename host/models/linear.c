/* linear.c - one linear output: least squares and logistic regression.
 *
 *   squared    1/2 (x.w + b - y)^2                        for real targets
 *   logistic   log(1 + exp(-(2 y - 1) (x.w + b)))         for classes 0 and 1
 *   l2         lambda of lambda/2 ||w||^2, added to the mean loss; b goes free. Default 0
 *   bias=0     there is no b. Default 1
 *
 * The n_features + 1 numbers (w, b) are cut into n_blocks equal contiguous blocks, the last ones
 * padded. With one output there is nothing to fold before the product: every slice is a
 * vector-matrix product over its segment's rows and its block's columns.
 *
 * A sum over rows carries the regulariser as lambda/2 ||w||^2 for every row, so that parts of any
 * size add up to n_rows times the gradient of (mean loss + lambda/2 ||w||^2), and the regulariser
 * counts exactly once in it.
 *
 * Logistic loss is the softmax cross-entropy of the scores (0, x.w + b), whose second column is
 * the one used. Both start from zero: they are convex. */
#include <inttypes.h>
#include <stdlib.h>

#include "check.h"
#include "device.h"
#include "model.h"

typedef struct linear {
    int64_t n_features;
    int32_t n_blocks;
    int64_t block_len;
    int columns; /* scores of a row: 1, or 2 for (0, x.w + b) */
    bool has_bias;
    double l2;
} linear;

/* Workspace: scores, then deltas [rows, columns]; losses [rows]; hits [rows]. */
static size_t workspace_bytes(const void *user, int64_t n_rows) {
    const linear *model = user;
    return (size_t)(n_rows * (model->columns + 2)) * sizeof(float);
}

/* The column of the workspace that holds x.w + b, then its delta. */
static float *score_column(const linear *model, void *workspace) {
    return (float *)workspace + model->columns - 1;
}

static cog_status forward(const linear *model, cog_device *device, const cog_batch *batch,
                          const float *params, void *workspace) {
    COG_TRY(cog_model_check(batch, model->n_features, model->n_blocks, 0, NULL));
    COG_TRY(device->ops->fill(device, 0, workspace, batch->n_rows * model->columns));
    float *score = score_column(model, workspace);
    COG_TRY(cog_device_gemm(device, false, false, batch->n_rows, 1, model->n_features, 1, batch->x,
                            batch->n_features, 0, params, 1, 0, 0, score, model->columns, 0, 1));
    if (!model->has_bias) return COG_OK;
    const cog_panels bias = {1, 1, 0};
    return device->ops->bias_relu(device, batch->n_rows, model->columns, params + model->n_features,
                                  bias, false, score);
}

/* Scores become deltas; for classes also the losses and hits of the rows. */
static cog_status differentiate(const linear *model, cog_device *device, const cog_batch *batch,
                                void *workspace) {
    float *score = workspace;
    if (model->columns == 1)
        return device->ops->axpby(device, -1, batch->y, 1, score, batch->n_rows);
    float *row_loss = score + 2 * batch->n_rows;
    return device->ops->softmax_cross_entropy(device, batch->n_rows, 2, 2, score, batch->y, score,
                                              row_loss, row_loss + batch->n_rows);
}

static cog_status backprop(const void *user, cog_device *device, const cog_batch *batch,
                           const float *params, void *workspace) {
    COG_TRY(forward(user, device, batch, params, workspace));
    return differentiate(user, device, batch, workspace);
}

/* out += coef * gradient of one slice. */
static cog_status add_slice(const linear *model, cog_device *device, const cog_batch *batch,
                            const float *params, const float *delta, const cog_slice *slice,
                            float *out) {
    const int64_t first = batch->segment[slice->segment];
    const int64_t rows = batch->segment[slice->segment + 1] - first;
    const int64_t column = slice->block * model->block_len;
    int64_t n = model->n_features - column; /* weights in this block */
    if (n > model->block_len) n = model->block_len;
    const float coef = (float)slice->coef;
    delta += first * model->columns;
    if (rows == 0) return COG_OK;
    if (n > 0) {
        COG_TRY(cog_device_gemm(device, true, false, 1, n, rows, coef, delta, model->columns, 0,
                                batch->x + first * batch->n_features + column, batch->n_features, 0,
                                1, out, n, 0, 1));
        if (model->l2 > 0)
            COG_TRY(device->ops->axpby(device, (float)(slice->coef * model->l2 * (double)rows),
                                       params + column, 1, out, n));
    }
    const int64_t bias = model->n_features - column;
    if (!model->has_bias || bias < 0 || bias >= model->block_len) return COG_OK;
    return device->ops->sum_rows(device, rows, 1, model->columns, coef, delta, 1, out + bias);
}

static cog_status make_message(const void *user, cog_device *device, const cog_batch *batch,
                               const float *params, void *workspace, int n_slices,
                               const cog_slice *slices, float *out) {
    const linear *model = user;
    COG_TRY(cog_model_check(batch, model->n_features, model->n_blocks, n_slices, slices));
    COG_TRY(device->ops->fill(device, 0, out, model->block_len));
    for (int i = 0; i < n_slices; i++)
        COG_TRY(add_slice(model, device, batch, params, score_column(model, workspace), &slices[i],
                          out));
    return COG_OK;
}

/* ---------------------------------------------------------------------------------------------- */

static cog_status evaluate(const void *user, cog_device *device, const cog_batch *batch,
                           const float *params, void *workspace, cog_loss *out) {
    const linear *model = user;
    const float *delta = workspace, *row_loss = delta + 2 * batch->n_rows;
    COG_TRY(backprop(user, device, batch, params, workspace));
    double loss, n_correct = 0, squares = 0;
    if (model->columns == 1) {
        COG_TRY(cog_model_sum(device, delta, batch->n_rows, true, &loss));
        loss /= 2;
    } else {
        COG_TRY(cog_model_sum(device, row_loss, batch->n_rows, false, &loss));
        COG_TRY(cog_model_sum(device, row_loss + batch->n_rows, batch->n_rows, false, &n_correct));
    }
    if (model->l2 > 0) COG_TRY(cog_model_sum(device, params, model->n_features, true, &squares));
    *out = (cog_loss){loss + model->l2 / 2 * squares * (double)batch->n_rows, (int64_t)n_correct};
    return COG_OK;
}

static cog_status init(const void *user, uint64_t seed, float *params) {
    const linear *model = user;
    (void)seed;
    for (int64_t i = 0; i < model->n_blocks * model->block_len; i++) params[i] = 0;
    return COG_OK;
}

static double backprop_flops(const void *user, int64_t n_rows) {
    return 2.0 * (double)((const linear *)user)->n_features * (double)n_rows;
}

/* One slice for every row; a message of several slices of one segment costs as many times more. */
static double message_flops(const void *user, int64_t n_rows) {
    return 2.0 * (double)((const linear *)user)->block_len * (double)n_rows;
}

static cog_status open_linear(cog_spec *spec, const cog_model_shape *shape, int columns,
                              cog_model *out) {
    linear *model = calloc(1, sizeof(*model));
    COG_CHECK(model != NULL, COG_ERR_MEMORY, "no memory for a linear model");
    out->user = model;
    out->destroy = free;
    COG_TRY(cog_spec_real(spec, "l2", 0, 0, 1e6, &model->l2));
    COG_TRY(cog_spec_flag(spec, "bias", true, &model->has_bias));
    const int64_t numbers = shape->n_features + (model->has_bias ? 1 : 0);
    model->n_features = shape->n_features;
    model->n_blocks = shape->n_blocks;
    model->block_len = (numbers + shape->n_blocks - 1) / shape->n_blocks;
    model->columns = columns;
    out->block_len = model->block_len;
    out->n_params = model->block_len * model->n_blocks;
    out->init = init;
    out->workspace_bytes = workspace_bytes;
    out->backprop = backprop;
    out->message = make_message;
    out->evaluate = evaluate;
    out->backprop_flops = backprop_flops;
    out->message_flops = message_flops;
    return COG_OK;
}

static cog_status open_squared(cog_spec *spec, const cog_model_shape *shape, cog_model *out) {
    COG_CHECK(shape->n_classes == 0, COG_ERR_ARGUMENT,
              "'squared' fits real targets; the data has %" PRId32 " classes", shape->n_classes);
    return open_linear(spec, shape, 1, out);
}

static cog_status open_logistic(cog_spec *spec, const cog_model_shape *shape, cog_model *out) {
    COG_CHECK(shape->n_classes == 2, COG_ERR_ARGUMENT,
              "'logistic' tells 2 classes apart; the data has %" PRId32, shape->n_classes);
    return open_linear(spec, shape, 2, out);
}

const cog_model_ops cog_model_squared = {
    .name = "squared",
    .summary = "linear least squares",
    .open = open_squared,
};

const cog_model_ops cog_model_logistic = {
    .name = "logistic",
    .summary = "logistic regression of two classes",
    .open = open_logistic,
};
