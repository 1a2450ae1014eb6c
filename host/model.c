/* model.c - opens a model by name; the checks and sums that the families share. */
#include "model.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device.h"
#include "registry.h"

cog_status cog_model_open(const char *text, int64_t n_features, int32_t n_classes, int32_t n_blocks,
                          cog_model *out) {
    COG_CHECK(n_features >= 1 && n_features <= INT32_MAX, COG_ERR_ARGUMENT,
              "a model of %" PRId64 " features", n_features);
    COG_CHECK(n_blocks >= 1, COG_ERR_ARGUMENT, "a model of %" PRId32 " blocks", n_blocks);
    COG_CHECK(n_classes >= 0, COG_ERR_ARGUMENT, "a model of %" PRId32 " classes", n_classes);
    cog_spec spec;
    COG_TRY(cog_spec_parse(text, &spec));
    const cog_model_ops *family;
    COG_TRY(cog_find_model(spec.name, &family));
    const cog_model_shape shape = {n_features, n_classes, n_blocks};
    cog_model model = {.name = family->name, .n_blocks = n_blocks};
    cog_status status = family->open(&spec, &shape, &model);
    if (status == COG_OK) status = cog_spec_finish(&spec);
    if (status != COG_OK) {
        cog_model_close(&model);
        return status;
    }
    *out = model;
    return COG_OK;
}

void cog_model_close(cog_model *model) {
    if (model == NULL) return;
    if (model->destroy != NULL) model->destroy(model->user);
    memset(model, 0, sizeof(*model));
}

cog_status cog_model_check(const cog_batch *batch, int64_t n_features, int32_t n_blocks,
                           int n_slices, const cog_slice *slices) {
    COG_CHECK(batch->n_features == n_features, COG_ERR_ARGUMENT,
              "the rows have %" PRId64 " features, the model takes %" PRId64, batch->n_features,
              n_features);
    for (int i = 0; i < n_slices; i++)
        COG_CHECK(slices[i].segment >= 0 && slices[i].segment < batch->n_segments &&
                      slices[i].block >= 0 && slices[i].block < n_blocks,
                  COG_ERR_ARGUMENT,
                  "slice %d names segment %" PRId32 " of %" PRId32 " and block %" PRId32
                  " of %" PRId32,
                  i, slices[i].segment, batch->n_segments, slices[i].block, n_blocks);
    return COG_OK;
}

cog_status cog_model_sum(cog_device *device, const float *x, int64_t n, bool squared, double *out) {
    float *host = malloc((size_t)(n > 0 ? n : 1) * sizeof(*host));
    COG_CHECK(host != NULL, COG_ERR_MEMORY, "no memory for %" PRId64 " numbers", n);
    cog_status status = device->ops->download(device, host, x, (size_t)n * sizeof(*host));
    if (status == COG_OK) status = cog_device_sync(device);
    double sum = 0;
    for (int64_t i = 0; status == COG_OK && i < n; i++)
        sum += squared ? (double)host[i] * host[i] : host[i];
    free(host);
    if (status == COG_OK) *out = sum;
    return status;
}
