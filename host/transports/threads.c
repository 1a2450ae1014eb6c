/* threads.c - one thread a worker, in real time.
 *
 *     server thread                      thread of worker i
 *       send ------> inbox of i ------>   handle -- send --,
 *       receive <--- server's inbox <----------------------'
 *                                         all-reduce, then handle(REDUCED)
 *
 * A frame is copied once, into a parcel of the pool; the receiver borrows that copy. The all-reduce
 * is that of ring.h between meetings: all have asked; all sums are made; all have copied. A worker
 * that fails tells the server and ends; stop calls meetings, waits and delays off. */
#include <stdlib.h>

#include "../check.h"
#include "../handling.h"
#include "../mailbox.h"
#include "../meeting.h"
#include "../ring.h"
#include "../transport.h"

typedef struct worker {
    cog_transport *transport;
    int rank;
    pthread_t thread;
    bool running;
    cog_mailbox inbox;
    cog_handling handling;
} worker;

typedef struct threads {
    cog_parcel_pool pool;
    cog_mailbox inbox; /* the server's */
    cog_meeting meeting;
    worker *workers;      /* [n_workers] */
    cog_ring_part *parts; /* [n_workers] */
    int n_workers;        /* at start */
    cog_parcel *borrowed; /* what the last receive handed out */
    double started;
    bool running;
    pthread_mutex_t mutex; /* of the next */
    int64_t ring_bytes;    /* of one half of the all-reduces that the server has not counted yet */
} threads;

/* --- a worker's thread ---------------------------------------------------------------------- */

static void note_ring_bytes(threads *state, const cog_ring_part *part) {
    pthread_mutex_lock(&state->mutex);
    state->ring_bytes += cog_ring_bytes(state->n_workers, part->n, part->bf16);
    pthread_mutex_unlock(&state->mutex);
}

/* *done says whether all took part; else the transport is being stopped. The first worker counts
 * the bytes before the last meeting: any answer to the server comes after it. */
static cog_status reduce(void *user, bool *done) {
    worker *self = user;
    threads *state = self->transport->state;
    const int n = state->n_workers, me = self->rank - 1;
    if (!cog_meeting_attend(&state->meeting)) return COG_OK;
    COG_TRY(cog_ring_check(state->parts, n));
    cog_ring_reduce(state->parts, n, me);
    if (!cog_meeting_attend(&state->meeting)) return COG_OK;
    cog_ring_gather(state->parts, n, me);
    if (me == 0) note_ring_bytes(state, &state->parts[0]);
    *done = cog_meeting_attend(&state->meeting);
    return COG_OK;
}

static void report_fault(worker *self, cog_status status) {
    threads *state = self->transport->state;
    cog_parcel *fault = cog_parcel_fault(&state->pool, self->rank, status);
    if (fault != NULL) cog_mailbox_put(&state->inbox, &state->pool, fault);
    cog_mailbox_close(&self->inbox);
}

static void *live(void *argument) {
    worker *self = argument;
    threads *state = self->transport->state;
    for (cog_parcel *parcel; (parcel = cog_mailbox_get(&self->inbox, NULL)) != NULL;) {
        const cog_status status = cog_handling_deliver(&self->handling, self->transport, self->rank,
                                                       &parcel->frame, reduce, self);
        cog_parcel_give(&state->pool, parcel);
        if (status != COG_OK) report_fault(self, status);
    }
    return NULL;
}

/* --- start and stop ------------------------------------------------------------------------- */

static cog_status open_threads(cog_transport *transport, cog_spec *spec) {
    (void)spec;
    threads *state = calloc(1, sizeof(*state));
    COG_CHECK(state != NULL, COG_ERR_MEMORY, "no memory for the transport 'threads'");
    if (pthread_mutex_init(&state->mutex, NULL) != 0) {
        free(state);
        COG_FAIL(COG_ERR_MEMORY, "no lock for the transport 'threads'");
    }
    transport->state = state;
    return cog_parcel_pool_open(&state->pool);
}

static void count_ring(cog_transport *transport) {
    threads *state = transport->state;
    pthread_mutex_lock(&state->mutex);
    transport->bytes_up += state->ring_bytes;
    transport->bytes_down += state->ring_bytes;
    state->ring_bytes = 0;
    pthread_mutex_unlock(&state->mutex);
}

static void join_workers(threads *state) {
    for (int i = 0; i < state->n_workers; i++) cog_mailbox_close(&state->workers[i].inbox);
    cog_meeting_call_off(&state->meeting);
    for (int i = 0; i < state->n_workers; i++)
        if (state->workers[i].running) pthread_join(state->workers[i].thread, NULL);
    for (int i = 0; i < state->n_workers; i++)
        cog_mailbox_destroy(&state->workers[i].inbox, &state->pool);
}

/* Also what is left of a start that failed. */
static void stop(cog_transport *transport) {
    threads *state = transport->state;
    if (state->workers != NULL) join_workers(state);
    cog_meeting_destroy(&state->meeting);
    cog_parcel_give(&state->pool, state->borrowed);
    cog_mailbox_destroy(&state->inbox, &state->pool);
    count_ring(transport);
    free(state->workers);
    free(state->parts);
    state->borrowed = NULL;
    state->workers = NULL;
    state->parts = NULL;
    state->running = false;
}

static void close_threads(cog_transport *transport) {
    threads *state = transport->state;
    if (state == NULL) return;
    stop(transport);
    cog_parcel_pool_close(&state->pool);
    pthread_mutex_destroy(&state->mutex);
    free(state);
    transport->state = NULL;
}

static cog_status start_worker(cog_transport *transport, int i) {
    threads *state = transport->state;
    worker *self = &state->workers[i];
    self->transport = transport;
    self->rank = i + 1;
    COG_TRY(cog_mailbox_open(&self->inbox));
    self->running = pthread_create(&self->thread, NULL, live, self) == 0;
    COG_CHECK(self->running, COG_ERR_MEMORY,
              "no thread for worker %d of %d; the transport 'sim' needs none", i,
              transport->n_workers);
    return COG_OK;
}

static cog_status start_all(cog_transport *transport) {
    threads *state = transport->state;
    const int n = transport->n_workers;
    state->n_workers = n;
    state->workers = calloc((size_t)n, sizeof(*state->workers));
    state->parts = calloc((size_t)n, sizeof(*state->parts));
    COG_CHECK(state->workers != NULL && state->parts != NULL, COG_ERR_MEMORY,
              "no memory for %d workers", n);
    state->inbox = (cog_mailbox){.open = false};
    COG_TRY(cog_mailbox_open(&state->inbox));
    COG_TRY(cog_meeting_open(&state->meeting, n));
    state->started = cog_clock_seconds();
    for (int i = 0; i < n; i++) COG_TRY(start_worker(transport, i));
    state->running = true;
    return COG_OK;
}

static cog_status start(cog_transport *transport) {
    threads *state = transport->state;
    COG_CHECK(!state->running, COG_ERR_ARGUMENT, "the transport 'threads' is running already");
    COG_TRY(cog_transport_check_start(transport));
    const cog_status status = start_all(transport);
    if (status != COG_OK) stop(transport);
    return status;
}

/* --- frames --------------------------------------------------------------------------------- */

static cog_status send(cog_transport *transport, int from, int to, const cog_frame_header *header,
                       const void *payload) {
    threads *state = transport->state;
    cog_parcel *parcel;
    COG_TRY(cog_transport_check(transport, from, to, header, payload));
    if (from != 0) { /* a worker's thread: the transport runs as long as it does */
        COG_TRY(cog_parcel_take(&state->pool, header, payload, &parcel));
        cog_mailbox_put(&state->inbox, &state->pool, parcel);
        return COG_OK;
    }
    COG_CHECK(state->running, COG_ERR_TRANSPORT, "the transport 'threads' is not running");
    COG_TRY(cog_parcel_broadcast(&state->pool, transport->edition, header, payload, &parcel));
    transport->bytes_down += cog_frame_bytes(header);
    cog_mailbox_put(&state->workers[to - 1].inbox, &state->pool, parcel);
    return COG_OK;
}

static cog_status receive(cog_transport *transport, double timeout, cog_frame *out) {
    threads *state = transport->state;
    COG_CHECK(state->running, COG_ERR_TRANSPORT, "the transport 'threads' is not running");
    cog_parcel_give(&state->pool, state->borrowed);
    const struct timespec deadline = cog_clock_after(timeout);
    state->borrowed = cog_mailbox_get(&state->inbox, &deadline);
    count_ring(transport);
    COG_CHECK(state->borrowed != NULL, COG_ERR_TIMEOUT, "no worker sent anything for %g s",
              timeout);
    const cog_frame *frame = &state->borrowed->frame;
    transport->bytes_up += cog_frame_bytes(&frame->header);
    if (frame->header.kind == COG_FRAME_FAULT) return cog_frame_fault_status(frame);
    *out = *frame;
    return COG_OK;
}

/* --- what workers ask for ------------------------------------------------------------------- */

static cog_status working(cog_transport *transport, int rank, worker **out) {
    threads *state = transport->state;
    COG_CHECK(rank >= 1 && rank <= state->n_workers && state->workers != NULL &&
                  state->workers[rank - 1].handling.on,
              COG_ERR_ARGUMENT, "rank %d is not handling a frame", rank);
    *out = &state->workers[rank - 1];
    return COG_OK;
}

/* Less than it should be only when the inbox is closed. */
static cog_status sleep_once(void *user, double seconds, bool *over) {
    worker *self = user;
    const struct timespec deadline = cog_clock_after(seconds);
    cog_mailbox_sleep(&self->inbox, &deadline);
    *over = true;
    return COG_OK;
}

static cog_status elapse(cog_transport *transport, int rank, double flops, double factor,
                         double delay) {
    worker *self;
    COG_TRY(working(transport, rank, &self));
    return cog_handling_elapse(&self->handling, flops, factor, delay, sleep_once, self);
}

static cog_status allreduce(cog_transport *transport, int rank, float *x, int64_t n, bool bf16) {
    threads *state = transport->state;
    worker *self;
    COG_TRY(working(transport, rank, &self));
    COG_CHECK(!self->handling.reducing, COG_ERR_ARGUMENT, "two all-reduces in one handler");
    COG_TRY(cog_ring_offer(x, n, bf16, &state->parts[rank - 1]));
    self->handling.reducing = true;
    return COG_OK;
}

static double now(cog_transport *transport) {
    const threads *state = transport->state;
    return state->running ? cog_clock_seconds() - state->started : 0;
}

const cog_transport_ops cog_transport_threads = {
    .name = "threads",
    .summary = "one thread a worker, in real time",
    .open = open_threads,
    .close = close_threads,
    .start = start,
    .stop = stop,
    .send = send,
    .receive = receive,
    .elapse = elapse,
    .allreduce = allreduce,
    .now = now,
};
