/* sim_workers.h - the state of the transport 'sim', and its workers, who run ahead of its time. */
#ifndef COG_HOST_TRANSPORTS_SIM_WORKERS_H
#define COG_HOST_TRANSPORTS_SIM_WORKERS_H

#include <math.h>

#include "../events.h"
#include "../pool.h"
#include "../ring.h"
#include "../transport.h"

typedef struct cog_sim_worker {
    double clock;
    double down_free, up_free; /* when its links are free again */
    double last_sent;          /* when the frame it sent last arrives */
    int64_t n_sent;
    cog_parcel_list inbox, outbox;
    bool queued;   /* in `runnable` */
    bool handling; /* inside handle */
    bool reducing; /* asked for an all-reduce; its inbox waits */
    bool waiting;  /* that has been counted */
    bool failed;
} cog_sim_worker;

typedef struct cog_sim {
    double flops, latency, bandwidth, server_bandwidth;
    int n_threads;
    cog_parcel_pool parcels;
    cog_pool *pool;
    cog_events events;       /* frames to the server */
    cog_sim_worker *workers; /* [n_workers] */
    int *runnable;           /* [n_workers] those with something in their inbox */
    int n_workers, n_runnable, n_waiting;
    cog_ring_part *parts; /* [n_workers] */
    cog_parcel *borrowed; /* what the last receive handed out */
    double now, down_free, up_free;
    bool running;
} cog_sim;

/* When a frame that may leave at `ready` has passed a link; the link is then free again. */
static inline double cog_sim_pass_link(double ready, double *link_free, int64_t bytes,
                                       double bandwidth) {
    *link_free = fmax(ready, *link_free) + (double)bytes / bandwidth;
    return *link_free;
}

/* To be called when something was put into the inbox of workers[i]. */
void cog_sim_wake(cog_sim *state, int i);

/* Handlers run until all inboxes are empty or wait for an all-reduce; what workers sent is then in
 * state->events. */
cog_status cog_sim_run_workers(cog_transport *transport);

/* What a worker asks for while it handles a frame. */
cog_status cog_sim_send_up(cog_transport *transport, int from, const cog_frame_header *header,
                           const void *payload);
cog_status cog_sim_elapse(cog_transport *transport, int rank, double flops, double factor,
                          double delay);
cog_status cog_sim_allreduce(cog_transport *transport, int rank, float *x, int64_t n, bool bf16);

#endif
