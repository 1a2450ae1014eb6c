/* shard_batch.c - draw and gather. */
#include "shard_batch.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "rng.h"

static int64_t rows_of(const cog_shard_batch *b, int32_t shard) {
    const int64_t all = cog_shard_rows(b->data, b->n_all_shards, shard);
    return b->rows_per_shard > 0 && b->rows_per_shard < all ? b->rows_per_shard : all;
}

static cog_status allocate(cog_shard_batch *b) {
    const size_t rows = (size_t)b->batch.n_rows, features = (size_t)b->data->n_features;
    COG_TRY(b->device->ops->alloc(b->device, rows * features * sizeof(float), (void **)&b->x));
    COG_TRY(b->device->ops->alloc(b->device, rows * sizeof(float), (void **)&b->y));
    b->host_x = b->x;
    b->host_y = b->y;
    if (cog_device_kind_of(b->device) != COG_CPU) {
        b->host_x = malloc(rows * features * sizeof(float));
        b->host_y = malloc(rows * sizeof(float));
        COG_CHECK(b->host_x != NULL && b->host_y != NULL, COG_ERR_MEMORY,
                  "no memory for a batch of %zu rows", rows);
    }
    b->batch.x = b->x;
    b->batch.y = b->y;
    return COG_OK;
}

static cog_status lay_out(cog_shard_batch *b, int32_t n_shards, const int32_t *shards) {
    b->shard = calloc((size_t)n_shards + 1, sizeof(*b->shard));
    b->segment = calloc((size_t)n_shards + 1, sizeof(*b->segment));
    b->scale = calloc((size_t)n_shards + 1, sizeof(*b->scale));
    COG_CHECK(b->shard != NULL && b->segment != NULL && b->scale != NULL, COG_ERR_MEMORY,
              "no memory for %d shards", n_shards);
    for (int s = 0; s < n_shards; s++) {
        b->shard[s] = shards[s];
        const int64_t drawn = rows_of(b, shards[s]);
        const double all = (double)cog_shard_rows(b->data, b->n_all_shards, shards[s]);
        b->segment[s + 1] = b->segment[s] + drawn;
        b->scale[s] = all / (double)drawn / (double)b->data->n_rows;
    }
    b->batch.n_segments = n_shards;
    b->batch.segment = b->segment;
    b->batch.n_rows = b->segment[n_shards];
    b->batch.n_features = b->data->n_features;
    return allocate(b);
}

cog_status cog_shard_batch_open(const cog_dataset *data, cog_device *device, int32_t n_all_shards,
                                int32_t n_shards, const int32_t *shards, int64_t rows_per_shard,
                                uint64_t seed, cog_shard_batch *out) {
    COG_CHECK(data->n_rows >= n_all_shards, COG_ERR_ARGUMENT,
              "%lld rows cannot be cut into %d shards", (long long)data->n_rows, n_all_shards);
    COG_CHECK(cog_shard_rows(data, n_all_shards, 0) <= UINT32_MAX, COG_ERR_ARGUMENT,
              "%lld rows in %d shards are too many to draw from", (long long)data->n_rows,
              n_all_shards);
    *out = (cog_shard_batch){.data = data,
                             .device = device,
                             .n_all_shards = n_all_shards,
                             .rows_per_shard = rows_per_shard,
                             .seed = seed};
    return lay_out(out, n_shards, shards);
}

void cog_shard_batch_close(cog_shard_batch *b) {
    if (b->device == NULL) return;
    if (b->host_x != b->x) free(b->host_x);
    if (b->host_y != b->y) free(b->host_y);
    cog_device_free(b->device, b->x);
    cog_device_free(b->device, b->y);
    free(b->shard);
    free(b->segment);
    free(b->scale);
    *b = (cog_shard_batch){0};
}

/* Rows are drawn with replacement; a whole shard is taken in order. */
static void gather_segment(cog_shard_batch *b, int64_t round, int32_t s) {
    const cog_dataset *d = b->data;
    const int64_t all = cog_shard_rows(d, b->n_all_shards, b->shard[s]);
    const int64_t first = b->segment[s], count = b->segment[s + 1] - first;
    cog_rng rng = cog_rng_make(b->seed, COG_STREAM_BATCH, (uint32_t)round, (uint32_t)b->shard[s]);
    for (int64_t i = 0; i < count; i++) {
        const int64_t drawn = count == all ? i : cog_rng_below(&rng, (uint32_t)all);
        const int64_t row = drawn * b->n_all_shards + b->shard[s];
        memcpy(b->host_x + (first + i) * d->n_features, d->x + row * d->n_features,
               (size_t)d->n_features * sizeof(float));
        b->host_y[first + i] = d->y[row];
    }
}

static bool takes_whole_shards(const cog_shard_batch *b) {
    for (int s = 0; s < b->batch.n_segments; s++)
        if (rows_of(b, b->shard[s]) != cog_shard_rows(b->data, b->n_all_shards, b->shard[s]))
            return false;
    return true;
}

cog_status cog_shard_batch_draw(cog_shard_batch *b, int64_t round) {
    if (b->is_complete) return COG_OK;
    for (int s = 0; s < b->batch.n_segments; s++) gather_segment(b, round, s);
    b->is_complete = takes_whole_shards(b);
    if (b->host_x == b->x) return COG_OK;
    const size_t rows = (size_t)b->batch.n_rows;
    COG_TRY(b->device->ops->upload(b->device, b->x, b->host_x,
                                   rows * (size_t)b->data->n_features * sizeof(float)));
    return b->device->ops->upload(b->device, b->y, b->host_y, rows * sizeof(float));
}
