/* sim_workers.c - handlers that run ahead of virtual time, each on its worker's clock; what they
 * send becomes events. */
#include "sim_workers.h"

#include "../check.h"

/* Below this many floats in all, waking helpers costs more than the sums. */
enum { PARALLEL_SUM_FLOATS = 1 << 18 };

/* --- one worker ----------------------------------------------------------------------------- */

void cog_sim_wake(cog_sim *state, int i) {
    if (state->workers[i].queued || state->workers[i].reducing) return;
    state->workers[i].queued = true;
    state->runnable[state->n_runnable++] = i;
}

static void post_up(const cog_sim *state, cog_sim_worker *self, cog_parcel *parcel) {
    const int64_t bytes = cog_frame_timed_bytes(&parcel->frame.header);
    if (cog_frame_is_free(&parcel->frame.header)) /* but it overtakes nothing */
        parcel->time = fmax(self->clock, self->last_sent);
    else
        parcel->time = cog_sim_pass_link(self->clock, &self->up_free, bytes, state->bandwidth) +
                       state->latency;
    self->last_sent = parcel->time;
    cog_parcel_push(&self->outbox, parcel);
}

static void fail(cog_sim *state, int i, cog_status status) {
    cog_sim_worker *self = &state->workers[i];
    cog_parcel *fault = cog_parcel_fault(&state->parcels, i + 1, status);
    if (fault != NULL) post_up(state, self, fault);
    self->failed = true;
    self->reducing = false;
}

static void deliver(cog_transport *transport, int i, const cog_parcel *parcel) {
    cog_sim *state = transport->state;
    cog_sim_worker *self = &state->workers[i];
    self->clock = fmax(self->clock, parcel->time);
    self->handling = true;
    const cog_status status = transport->handle(transport->worker[i], &parcel->frame);
    self->handling = false;
    if (status != COG_OK) fail(state, i, status);
}

/* A task of the pool: everything this worker can do now. */
static void run_worker(void *argument, int task) {
    cog_transport *transport = argument;
    cog_sim *state = transport->state;
    const int i = state->runnable[task];
    cog_sim_worker *self = &state->workers[i];
    while (!self->failed && !self->reducing && self->inbox.first != NULL) {
        cog_parcel *parcel = cog_parcel_pop(&self->inbox);
        deliver(transport, i, parcel);
        cog_parcel_give(&state->parcels, parcel);
    }
    if (self->failed) cog_parcel_give_all(&state->parcels, &self->inbox);
}

/* What workers did becomes events; on the server's thread. */
static cog_status collect(cog_sim *state, int i) {
    cog_sim_worker *self = &state->workers[i];
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
    const cog_sim *state = argument;
    cog_ring_reduce(state->parts, state->n_workers, w);
}

static void gather_task(void *argument, int w) {
    const cog_sim *state = argument;
    cog_ring_gather(state->parts, state->n_workers, w);
}

static void sum_parts(cog_sim *state) {
    const int n = state->n_workers;
    if (state->parts[0].n * n >= PARALLEL_SUM_FLOATS) {
        cog_pool_run(state->pool, n, reduce_task, state);
        cog_pool_run(state->pool, n, gather_task, state);
        return;
    }
    for (int w = 0; w < n; w++) reduce_task(state, w);
    for (int w = 0; w < n; w++) gather_task(state, w);
}

static double ring_seconds(const cog_sim *state) {
    const int64_t chunk = cog_ring_chunk(state->n_workers, state->parts[0].n);
    const double bytes = (double)(chunk * (state->parts[0].bf16 ? 2 : 4));
    return 2.0 * (state->n_workers - 1) * (state->latency + bytes / state->bandwidth);
}

static double latest_clock(const cog_sim *state) {
    double latest = 0;
    for (int i = 0; i < state->n_workers; i++) latest = fmax(latest, state->workers[i].clock);
    return latest;
}

/* REDUCED goes ahead of what has come since. */
static cog_status tell_reduced(cog_sim *state, int i, double end) {
    cog_sim_worker *self = &state->workers[i];
    const cog_frame_header header = cog_frame_make(COG_FRAME_REDUCED, i + 1, 0);
    cog_parcel *parcel;
    COG_TRY(cog_parcel_take(&state->parcels, &header, NULL, &parcel));
    self->clock = end;
    self->reducing = self->waiting = false;
    cog_parcel_push_front(&self->inbox, parcel);
    cog_sim_wake(state, i);
    return COG_OK;
}

static cog_status all_reduce(cog_transport *transport) {
    cog_sim *state = transport->state;
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

/* --- all of them ---------------------------------------------------------------------------- */

cog_status cog_sim_run_workers(cog_transport *transport) {
    cog_sim *state = transport->state;
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

/* --- what workers ask for ------------------------------------------------------------------- */

static cog_status working(cog_transport *transport, int rank, cog_sim_worker **out) {
    cog_sim *state = transport->state;
    COG_CHECK(state->running && rank >= 1 && rank <= state->n_workers &&
                  state->workers[rank - 1].handling,
              COG_ERR_ARGUMENT, "rank %d is not handling a frame", rank);
    *out = &state->workers[rank - 1];
    return COG_OK;
}

cog_status cog_sim_send_up(cog_transport *transport, int from, const cog_frame_header *header,
                           const void *payload) {
    cog_sim *state = transport->state;
    cog_sim_worker *self;
    cog_parcel *parcel;
    COG_TRY(working(transport, from, &self));
    COG_TRY(cog_parcel_take(&state->parcels, header, payload, &parcel));
    post_up(state, self, parcel);
    return COG_OK;
}

cog_status cog_sim_elapse(cog_transport *transport, int rank, double flops, double factor,
                          double delay) {
    const cog_sim *state = transport->state;
    cog_sim_worker *self;
    COG_TRY(working(transport, rank, &self));
    COG_TRY(cog_transport_check_elapse(flops, factor, delay));
    self->clock += flops / state->flops * factor + delay;
    return COG_OK;
}

cog_status cog_sim_allreduce(cog_transport *transport, int rank, float *x, int64_t n, bool bf16) {
    cog_sim *state = transport->state;
    cog_sim_worker *self;
    COG_TRY(working(transport, rank, &self));
    COG_CHECK(!self->reducing, COG_ERR_ARGUMENT, "two all-reduces in one handler");
    COG_TRY(cog_ring_offer(x, n, bf16, &state->parts[rank - 1]));
    self->reducing = true;
    return COG_OK;
}
