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
 * of a frame is O(log of frames in flight); nothing is done for workers that have nothing to do.
 * The server, the links and the clock are here, the workers in sim_workers.c. */
#include <math.h>
#include <stdlib.h>

#include "../check.h"
#include "sim_workers.h"

static cog_status open_sim(cog_transport *transport, cog_spec *spec) {
    cog_sim *state = calloc(1, sizeof(*state));
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

static double pass_server_link(const cog_sim *state, double ready, double *link_free,
                               int64_t bytes) {
    if (state->server_bandwidth == 0) return ready;
    return cog_sim_pass_link(ready, link_free, bytes, state->server_bandwidth);
}

/* --- start and stop ------------------------------------------------------------------------- */

static void stop(cog_transport *transport) {
    cog_sim *state = transport->state;
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
    cog_sim *state = transport->state;
    if (state == NULL) return;
    stop(transport);
    cog_events_free(&state->events);
    cog_parcel_pool_close(&state->parcels);
    free(state);
    transport->state = NULL;
}

static cog_status start_all(cog_transport *transport) {
    cog_sim *state = transport->state;
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
    cog_sim *state = transport->state;
    COG_CHECK(!state->running, COG_ERR_ARGUMENT, "the transport 'sim' is running already");
    COG_TRY(cog_transport_check_start(transport));
    const cog_status status = start_all(transport);
    if (status != COG_OK) stop(transport);
    return status;
}

/* --- frames --------------------------------------------------------------------------------- */

static cog_status send(cog_transport *transport, int from, int to, const cog_frame_header *header,
                       const void *payload) {
    cog_sim *state = transport->state;
    COG_CHECK(state->running, COG_ERR_TRANSPORT, "the transport 'sim' is not running");
    COG_TRY(cog_transport_check(transport, from, to, header, payload));
    if (from != 0) return cog_sim_send_up(transport, from, header, payload);
    cog_sim_worker *receiver = &state->workers[to - 1];
    cog_parcel *parcel;
    COG_TRY(cog_parcel_broadcast(&state->parcels, transport->edition, header, payload, &parcel));
    const int64_t bytes = cog_frame_bytes(header);
    parcel->time = state->now;
    if (!cog_frame_is_free(header)) {
        const double ready = pass_server_link(state, state->now, &state->down_free, bytes);
        parcel->time = cog_sim_pass_link(ready, &receiver->down_free, bytes, state->bandwidth) +
                       state->latency;
    }
    transport->bytes_down += bytes;
    cog_parcel_push(&receiver->inbox, parcel);
    cog_sim_wake(state, to - 1);
    return COG_OK;
}

/* Frames pass the server's link in the order in which they reach it, that of the queue. */
static cog_status next_event(cog_sim *state, double timeout, cog_parcel **out) {
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
    cog_sim *state = transport->state;
    COG_CHECK(state->running, COG_ERR_TRANSPORT, "the transport 'sim' is not running");
    cog_parcel_give(&state->parcels, state->borrowed);
    state->borrowed = NULL;
    COG_TRY(cog_sim_run_workers(transport));
    COG_TRY(next_event(state, timeout, &state->borrowed));
    const cog_frame *frame = &state->borrowed->frame;
    transport->bytes_up += cog_frame_bytes(&frame->header);
    if (frame->header.kind == COG_FRAME_FAULT) return cog_frame_fault_status(frame);
    *out = *frame;
    return COG_OK;
}

static double now(cog_transport *transport) { return ((const cog_sim *)transport->state)->now; }

const cog_transport_ops cog_transport_sim = {
    .name = "sim",
    .summary = "virtual time: thousands of workers in one process, every run the same",
    .open = open_sim,
    .close = close_sim,
    .start = start,
    .stop = stop,
    .send = send,
    .receive = receive,
    .elapse = cog_sim_elapse,
    .allreduce = cog_sim_allreduce,
    .now = now,
};
