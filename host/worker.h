/* worker.h - one worker: parameters in, coded and packed messages out.
 *
 *     settle last answer -> update parameters -> draw rows -> backprop -> message -> pack -> send
 *
 * A worker is driven by its transport, one frame at a time, and shares nothing with other
 * workers but what is constant: the code, the model, the data, the stragglers.
 */
#ifndef COG_HOST_WORKER_H
#define COG_HOST_WORKER_H

#include "cograd/data.h"
#include "cograd/model.h"
#include "code.h"
#include "downlink.h"
#include "stragglers.h"
#include "transport.h"

/* What all ranks of a run agree on. */
typedef struct cog_job {
    const cog_dataset *train;
    const cog_model *model;
    const cog_code *code;
    const cog_stragglers *stragglers;
    cog_transport *transport;
    const char *device;
    const char *channel;   /* spec of the messages */
    const char *optimizer; /* spec of the steps a worker takes itself; "sgd" when it takes none */
    cog_downlink_mode downlink; /* how parameters come as a rule: memory is ready for that */
    const char *schedule;       /* spec of the run's optimizer: what messages are scaled by */
    int64_t batch;              /* rows of each shard in a round; 0: all of them */
    uint64_t seed;
} cog_job;

typedef struct cog_worker cog_worker;

/* Starts with the model's initial parameters of the job's seed, as version 0. */
cog_status cog_worker_create(const cog_job *job, int worker, cog_worker **out);
void cog_worker_destroy(cog_worker *worker); /* accepts NULL */

/* A cog_handle_fn: takes PARAMS, RUN, REDUCED, SAVE and LOAD. */
cog_status cog_worker_handle(void *worker, const cog_frame *frame);

#endif
