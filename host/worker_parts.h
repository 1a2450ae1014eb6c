/* worker_parts.h - what worker.c and worker_save.c share. */
#ifndef COG_HOST_WORKER_PARTS_H
#define COG_HOST_WORKER_PARTS_H

#include "channel.h"
#include "shard_batch.h"
#include "worker.h"

struct cog_worker {
    const cog_job *job;
    int index; /* rank - 1 */
    cog_device *device;
    cog_replica *replica;
    cog_optimizer *schedule; /* of no parameters: the scale of messages */
    int64_t version;         /* updates the replica holds */
    bool was_asked;          /* since it began */
    uint16_t request;        /* number of what it was asked last */
    int64_t run_until;       /* all-reduce: rounds granted by the server */
    cog_update update;       /* scratch of the downlink */
    cog_shard_batch rows;
    void *workspace;       /* of the model */
    float *message;        /* [block_len]; all-reduce: the gradient */
    float *reduced;        /* all-reduce: the gradient in host memory; the same vector on the CPU */
    int32_t first, count;  /* its messages are rows first .. first + count - 1 of the plan */
    cog_channel **channel; /* [count] sending ends */
    cog_slice *slices;     /* [terms of the longest message] */
    const void **payload;  /* [count] packed, waiting to be sent */
    size_t *bytes;         /* [count] */
    double flops;          /* of a round: the rows change, their number does not */
    cog_blob state;        /* scratch of checkpoints */
};

/* As it was created: with nothing but its initial parameters. */
cog_status cog_worker_begin_anew(cog_worker *worker);

/* SAVE: settle, and send the state. LOAD: take a part of it. */
cog_status cog_worker_save(cog_worker *worker, const cog_frame_header *header);
cog_status cog_worker_load(cog_worker *worker, const cog_frame *frame);

#endif
