/* sim.c - the cluster in virtual time: one process, thousands of workers, every run the same.
 *
 *   flops=1e11             floating-point operations a second of one worker
 *   latency=5e-5           seconds a frame is on the way besides its transfer
 *   bandwidth=1.25e9       bytes a second of each worker's link, each direction
 *   server_bandwidth=0     bytes a second of the server's link, each direction; 0: no limit
 *   threads=0              threads that run handlers; 0: one a core, 1: the caller's alone
 *
 *     server sends at now          arrival = max(now, link free) + bytes / bandwidth + latency
 *     worker handles a frame       clock = max(clock, arrival), then what elapse charges
 *     worker sends at its clock    the same on its link to the server
 *     all-reduce of W workers      clocks = max of clocks + 2 (W - 1) (latency + chunk / bandwidth)
 *
 * A frame waits while an earlier one occupies the link (`link free` is when the last one has left),
 * its bytes include the header, and with server_bandwidth it passes the server's link as well:
 * whole before the worker's on the way down, after it on the way up.
 *
 * What a handler does depends on the frames it was sent alone, so handlers run ahead of virtual
 * time, as soon as the server asks for a frame, in parallel. Order comes from the event queue. Cost
 * of a frame is O(log of frames in flight); nothing is done for workers that have nothing to do. */
#include <math.h>
#include <stdlib.h>

#include "../check.h"
#include "../events.h"
#include "../pool.h"
#include "../ring.h"
#include "../transport.h"

/* Below this many floats in all, waking helpers costs more than the sums. */
enum { PARALLEL_SUM_FLOATS = 1 << 18 };

typedef struct worker {
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
} worker;

typedef struct sim {
    double flops, latency, bandwidth, server_bandwidth;
    int n_threads;
    cog_parcel_pool parcels;
    cog_pool *pool;
    cog_events events; /* frames to the server */
    worker *workers;   /* [n_workers] */
    int *runnable;     /* [n_workers] those with something in their inbox */
    int n_workers, n_runnable, n_waiting;
    cog_ring_part *parts; /* [n_workers] */
    cog_parcel *borrowed; /* what the last receive handed out */
    double now, down_free, up_free;
    bool running;
} sim;

static cog_status open_sim(cog_transport *transport, cog_spec *spec) {
    sim *state = calloc(1, sizeof(*state));
    COG_CHECK(state != NULL, COG_ERR_MEMORY, "no memory for the transport 'sim'");
    transport->state = state;
    transport->is_virtual = true;
    int64_t n_threads;
    COG_TRY(cog_spec_real(spec, "flops", 1e11, 1, 1e18, &state->flops));
    COG_TRY(cog_spec_real(spec, "latency", 5e-5, 0, 1e6, &state->latency));
    COG_TRY(cog_spec_real(spec, "bandwidth", 1.25e9, 1, 1e15, &state->bandwidth));
    COG_TRY(cog_spec_real(spec, "server_bandwidth", 0, 0, 1e15, &state->server_bandwidth));
    COG_TRY(cog_spec_int(spec, "threads", 0, 0, 1024, &n_threads));
    state->n_threads = n_threads > 0 ? (int)n_threads : cog_pool_cores();
    return cog_parcel_pool_open(&state->parcels);
}

/* --- links ---------------------------------------------------------------------------------- */

/* When a frame that may leave at `ready` has passed a link; the link is then free again. */
static double pass_link(double ready, double *link_free, int64_t bytes, double bandwidth) {
    *link_free = fmax(ready, *link_free) + (double)bytes / bandwidth;
    return *link_free;
}

static double pass_server_link(const sim *state, double ready, double *link_free, int64_t bytes) {
    if (state->server_bandwidth == 0) return ready;
    return pass_link(ready, link_free, bytes, state->server_bandwidth);
}

/* --- workers -------------------------------------------------------------------------------- */

static void add_runnable(sim *state, int i) {
    if (state->workers[i].queued || state->workers[i].reducing) return;
    state->workers[i].queued = true;
    state->runnable[state->n_runnable++] = i;
}

static void post_up(const sim *state, worker *self, cog_parcel *parcel) {
    const int64_t bytes = cog_frame_timed_bytes(&parcel->frame.header);
    if (cog_frame_is_free(&parcel->frame.header)) /* but it overtakes nothing */
        parcel->time = fmax(self->clock, self->last_sent);
    else
        parcel->time =
            pass_link(self->clock, &self->up_free, bytes, state->bandwidth) + state->latency;
    self->last_sent = parcel->time;
    cog_parcel_push(&self->outbox, parcel);
}

static void fail(sim *state, int i, cog_status status) {
    worker *self = &state->workers[i];
    cog_parcel *fault = cog_parcel_fault(&state->parcels, i + 1, status);
    if (fault != NULL) post_up(state, self, fault);
    self->failed = true;
    self->reducing = false;
}

static void deliver(cog_transport *transport, int i, const cog_parcel *parcel) {
    sim *state = transport->state;
    worker *self = &state->workers[i];
    self->clock = fmax(self->clock, parcel->time);
    self->handling = true;
    const cog_status status = transport->handle(transport->worker[i], &parcel->frame);
    self->handling = false;
    if (status != COG_OK) fail(state, i, status);
}

/* A task of the pool: everything this worker can do now. */
static void run_worker(void *argument, int task) {
    cog_transport *transport = argument;
    sim *state = transport->state;
    const int i = state->runnable[task];
    worker *self = &state->workers[i];
    while (!self->failed && !self->reducing && self->inbox.first != NULL) {
        cog_parcel *parcel = cog_parcel_pop(&self->inbox);
        deliver(transport, i, parcel);
        cog_parcel_give(&state->parcels, parcel);
    }
    if (self->failed) cog_parcel_give_all(&state->parcels, &self->inbox);
}

/* What workers did becomes events; on the server's thread. */
static cog_status collect(sim *state, int i) {
    worker *self = &state->workers[i];
    while (self->outbox.first != NULL) {
        cog_parcel *parcel = self->outbox.first;
        COG_TRY(cog_events_push(&state->events, (cog_event){.time = parcel->time,
                                                            .sequence = self->n_sent,
                                                            .source = i + 1,
                                                            .parcel = parcel}));
        cog_parcel_pop(&self->outbox);
        self->n_sent++;
    }
    if (self->reducing && !self->waiting) state->n_waiting++;
    self->waiting = self->reducing;
    return COG_OK;
}

/* --- all-reduce ----------------------------------------------------------------------------- */

static void reduce_task(void *argument, int w) {
    const sim *state = argument;
    cog_ring_reduce(state->parts, state->n_workers, w);
}

static void gather_task(void *argument, int w) {
    const sim *state = argument;
    cog_ring_gather(state->parts, state->n_workers, w);
}

static void sum_parts(sim *state) {
    const int n = state->n_workers;
    if (state->parts[0].n * n >= PARALLEL_SUM_FLOATS) {
        cog_pool_run(state->pool, n, reduce_task, state);
        cog_pool_run(state->pool, n, gather_task, state);
        return;
    }
    for (int w = 0; w < n; w++) reduce_task(state, w);
    for (int w = 0; w < n; w++) gather_task(state, w);
}

static double ring_seconds(const sim *state) {
    const int64_t chunk = cog_ring_chunk(state->n_workers, state->parts[0].n);
    const double bytes = (double)(chunk * (state->parts[0].bf16 ? 2 : 4));
    return 2.0 * (state->n_workers - 1) * (state->latency + bytes / state->bandwidth);
}

static double latest_clock(const sim *state) {
    double latest = 0;
    for (int i = 0; i < state->n_workers; i++) latest = fmax(latest, state->workers[i].clock);
    return latest;
}

/* REDUCED goes ahead of what has come since. */
static cog_status tell_reduced(sim *state, int i, double end) {
    worker *self = &state->workers[i];
    const cog_frame_header header = cog_frame_make(COG_FRAME_REDUCED, i + 1, 0);
    cog_parcel *parcel;
    COG_TRY(cog_parcel_take(&state->parcels, &header, NULL, &parcel));
    self->clock = end;
    self->reducing = self->waiting = false;
    cog_parcel_push_front(&self->inbox, parcel);
    add_runnable(state, i);
    return COG_OK;
}

static cog_status all_reduce(cog_transport *transport) {
    sim *state = transport->state;
    state->n_waiting = 0;
    const cog_status agreed = cog_ring_check(state->parts, state->n_workers);
    for (int i = 0; i < state->n_workers && agreed != COG_OK; i++) {
        fail(state, i, agreed);
        COG_TRY(collect(state, i));
    }
    if (agreed != COG_OK) return COG_OK; /* the server learns it from the workers */
    sum_parts(state);
    const cog_ring_part *part = &state->parts[0];
    const int64_t bytes = cog_ring_bytes(state->n_workers, part->n, part->bf16);
    transport->bytes_up += bytes;
    transport->bytes_down += bytes;
    const double end = latest_clock(state) + ring_seconds(state);
    for (int i = 0; i < state->n_workers; i++) COG_TRY(tell_reduced(state, i, end));
    return COG_OK;
}

/* --- start and stop ------------------------------------------------------------------------- */

static void stop(cog_transport *transport) {
    sim *state = transport->state;
    cog_parcel_give(&state->parcels, state->borrowed);
    while (state->events.count > 0)
        cog_parcel_give(&state->parcels, cog_events_pop(&state->events).parcel);
    for (int i = 0; state->workers != NULL && i < state->n_workers; i++) {
        cog_parcel_give_all(&state->parcels, &state->workers[i].inbox);
        cog_parcel_give_all(&state->parcels, &state->workers[i].outbox);
    }
    cog_pool_close(state->pool);
    free(state->workers);
    free(state->runnable);
    free(state->parts);
    state->borrowed = NULL;
    state->pool = NULL;
    state->workers = NULL;
    state->runnable = NULL;
    state->parts = NULL;
    state->running = false;
}

static void close_sim(cog_transport *transport) {
    sim *state = transport->state;
    if (state == NULL) return;
    stop(transport);
    cog_events_free(&state->events);
    cog_parcel_pool_close(&state->parcels);
    free(state);
    transport->state = NULL;
}

static cog_status start_all(cog_transport *transport) {
    sim *state = transport->state;
    const size_t n = (size_t)transport->n_workers;
    state->n_workers = transport->n_workers;
    state->n_runnable = state->n_waiting = 0;
    state->now = transport->begin;
    state->down_free = state->up_free = 0;
    state->workers = calloc(n, sizeof(*state->workers));
    state->runnable = calloc(n, sizeof(*state->runnable));
    state->parts = calloc(n, sizeof(*state->parts));
    COG_CHECK(state->workers != NULL && state->runnable != NULL && state->parts != NULL,
              COG_ERR_MEMORY, "no memory for %zu workers", n);
    COG_TRY(cog_pool_open(state->n_threads, &state->pool));
    state->running = true;
    return COG_OK;
}

static cog_status start(cog_transport *transport) {
    sim *state = transport->state;
    COG_CHECK(!state->running, COG_ERR_ARGUMENT, "the transport 'sim' is running already");
    COG_TRY(cog_transport_check_start(transport));
    const cog_status status = start_all(transport);
    if (status != COG_OK) stop(transport);
    return status;
}

/* --- frames --------------------------------------------------------------------------------- */

static cog_status working(cog_transport *transport, int rank, worker **out) {
    sim *state = transport->state;
    COG_CHECK(state->running && rank >= 1 && rank <= state->n_workers &&
                  state->workers[rank - 1].handling,
              COG_ERR_ARGUMENT, "rank %d is not handling a frame", rank);
    *out = &state->workers[rank - 1];
    return COG_OK;
}

static cog_status send_up(cog_transport *transport, int from, const cog_frame_header *header,
                          const void *payload) {
    sim *state = transport->state;
    worker *self;
    cog_parcel *parcel;
    COG_TRY(working(transport, from, &self));
    COG_TRY(cog_parcel_take(&state->parcels, header, payload, &parcel));
    post_up(state, self, parcel);
    return COG_OK;
}

static cog_status send(cog_transport *transport, int from, int to, const cog_frame_header *header,
                       const void *payload) {
    sim *state = transport->state;
    COG_CHECK(state->running, COG_ERR_TRANSPORT, "the transport 'sim' is not running");
    COG_TRY(cog_transport_check(transport, from, to, header, payload));
    if (from != 0) return send_up(transport, from, header, payload);
    worker *receiver = &state->workers[to - 1];
    cog_parcel *parcel;
    COG_TRY(cog_parcel_broadcast(&state->parcels, header, payload, &parcel));
    const int64_t bytes = cog_frame_bytes(header);
    parcel->time = state->now;
    if (!cog_frame_is_free(header)) {
        const double ready = pass_server_link(state, state->now, &state->down_free, bytes);
        parcel->time =
            pass_link(ready, &receiver->down_free, bytes, state->bandwidth) + state->latency;
    }
    transport->bytes_down += bytes;
    cog_parcel_push(&receiver->inbox, parcel);
    add_runnable(state, to - 1);
    return COG_OK;
}

static cog_status run_workers(cog_transport *transport) {
    sim *state = transport->state;
    while (state->n_runnable > 0) {
        const int n = state->n_runnable;
        cog_pool_run(state->pool, n, run_worker, transport);
        state->n_runnable = 0;
        for (int k = 0; k < n; k++) {
            state->workers[state->runnable[k]].queued = false;
            COG_TRY(collect(state, state->runnable[k]));
        }
        if (state->n_waiting == state->n_workers) COG_TRY(all_reduce(transport));
    }
    return COG_OK;
}

/* Frames pass the server's link in the order in which they reach it, that of the queue. */
static cog_status next_event(sim *state, double timeout, cog_parcel **out) {
    COG_CHECK(state->events.count > 0, COG_ERR_TIMEOUT,
              "no worker will send anything: nothing is under way");
    const cog_event *next = &state->events.heap[0];
    const int64_t bytes = cog_frame_timed_bytes(&next->parcel->frame.header);
    double link_free = state->up_free;
    const double arrival = pass_server_link(state, next->time, &link_free, bytes);
    const double deadline = state->now + fmax(timeout, 0);
    if (arrival > deadline) {
        state->now = deadline;
        COG_FAIL(COG_ERR_TIMEOUT, "no worker sent anything for %g virtual s", timeout);
    }
    state->now = fmax(state->now, arrival);
    state->up_free = link_free;
    *out = cog_events_pop(&state->events).parcel;
    return COG_OK;
}

static cog_status receive(cog_transport *transport, double timeout, cog_frame *out) {
    sim *state = transport->state;
    COG_CHECK(state->running, COG_ERR_TRANSPORT, "the transport 'sim' is not running");
    cog_parcel_give(&state->parcels, state->borrowed);
    state->borrowed = NULL;
    COG_TRY(run_workers(transport));
    COG_TRY(next_event(state, timeout, &state->borrowed));
    const cog_frame *frame = &state->borrowed->frame;
    transport->bytes_up += cog_frame_bytes(&frame->header);
    if (frame->header.kind == COG_FRAME_FAULT) return cog_frame_fault_status(frame);
    *out = *frame;
    return COG_OK;
}

/* --- what workers ask for ------------------------------------------------------------------- */

static cog_status elapse(cog_transport *transport, int rank, double flops, double factor,
                         double delay) {
    const sim *state = transport->state;
    worker *self;
    COG_TRY(working(transport, rank, &self));
    COG_TRY(cog_transport_check_elapse(flops, factor, delay));
    self->clock += flops / state->flops * factor + delay;
    return COG_OK;
}

static cog_status allreduce(cog_transport *transport, int rank, float *x, int64_t n, bool bf16) {
    sim *state = transport->state;
    worker *self;
    COG_TRY(working(transport, rank, &self));
    COG_CHECK(!self->reducing, COG_ERR_ARGUMENT, "two all-reduces in one handler");
    COG_TRY(cog_ring_offer(x, n, bf16, &state->parts[rank - 1]));
    self->reducing = true;
    return COG_OK;
}

static double now(cog_transport *transport) { return ((const sim *)transport->state)->now; }

const cog_transport_ops cog_transport_sim = {
    .name = "sim",
    .summary = "virtual time: thousands of workers in one process, every run the same",
    .open = open_sim,
    .close = close_sim,
    .start = start,
    .stop = stop,
    .send = send,
    .receive = receive,
    .elapse = elapse,
    .allreduce = allreduce,
    .now = now,
};
