/* shard_batch.h - the rows a worker differentiates in a round, gathered on its device.
 *
 * The rows of shard j in round r are drawn from (seed, r, j), so every holder of a shard draws
 * the same ones. One segment a shard; the segments of all shards of a worker form one batch.
 *
 * The loss is the mean over all rows of the data. A shard of n_j rows of which b were drawn tells
 * of it, without bias, the sum over its segment times n_j / b / n_rows.
 */
#ifndef COG_HOST_SHARD_BATCH_H
#define COG_HOST_SHARD_BATCH_H

#include "cograd/data.h"
#include "cograd/model.h"
#include "device.h"

typedef struct cog_shard_batch {
    cog_batch batch; /* what the model sees */
    const cog_dataset *data;
    cog_device *device;
    int32_t n_all_shards;
    int64_t rows_per_shard; /* 0: the whole shard */
    uint64_t seed;
    int32_t *shard;   /* [batch.n_segments] ascending */
    int64_t *segment; /* [batch.n_segments + 1] */
    double *scale;    /* [batch.n_segments] of a sum over the rows of the segment: see above */
    float *x, *y;     /* device */
    float *host_x, *host_y; /* staging; the device's own on the CPU */
    bool is_complete;       /* whole shards are gathered once */
} cog_shard_batch;

/* shards [n_shards], ascending, of n_all_shards into which `data` is cut. */
cog_status cog_shard_batch_open(const cog_dataset *data, cog_device *device, int32_t n_all_shards,
                                int32_t n_shards, const int32_t *shards, int64_t rows_per_shard,
                                uint64_t seed, cog_shard_batch *out);
void cog_shard_batch_close(cog_shard_batch *b); /* accepts a zeroed struct */

/* Gather the rows of `round`. */
cog_status cog_shard_batch_draw(cog_shard_batch *b, int64_t round);

#endif
