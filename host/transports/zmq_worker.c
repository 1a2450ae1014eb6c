/* zmq_worker.c - the end that connects: asks to be let in, then serves. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "../check.h"
#include "../frame.h"
#include "../handling.h"
#include "../mailbox.h"
#include "zmq_ends.h"

static const double hello_seconds = 0.3; /* between two, until the server answers */

typedef struct worker {
    cog_zmq_keys keys;
    cog_zmq_wire wire;
    cog_parcel_pool pool;
    char *settings;
    cog_parcel_list inbox;
    uint64_t n_sent;
    bool welcome; /* connected, and not started yet */
    bool running;
    bool stopping; /* the server has said so */
    bool gone;     /* the server is */
    cog_handling handling;
} worker;

static cog_status tell(worker *w, int self, int kind, int message, const char *text) {
    cog_frame_header header = cog_frame_make((cog_frame_kind)kind, self, 0);
    bool unused;
    header.message = message;
    header.bytes = strlen(text);
    return cog_zmq_send(&w->wire, NULL, &header, text, &unused);
}

/* --- greeting -------------------------------------------------------------------------------- */

static cog_status keep_settings(worker *w, const cog_parcel *welcome) {
    const size_t n = welcome->frame.header.bytes;
    free(w->settings);
    w->settings = malloc(n + 1);
    COG_CHECK(w->settings != NULL, COG_ERR_MEMORY, "no memory for the settings of a job");
    memcpy(w->settings, welcome->room, n);
    w->settings[n] = '\0';
    return COG_OK;
}

/* *done: welcome. A refusal that time may mend is no failure. */
static cog_status take_answer(cog_transport *transport, const cog_parcel *parcel, bool *done) {
    worker *w = transport->state;
    const cog_frame_header *h = &parcel->frame.header;
    if (h->kind == COG_ZMQ_REFUSED)
        cog_set_error(COG_ERR_TRANSPORT, "the server at '%s' refuses: %.*s", w->keys.address,
                      (int)h->bytes, (const char *)parcel->room);
    if (h->kind == COG_ZMQ_REFUSED) return h->mode != 0 ? COG_OK : COG_ERR_TRANSPORT;
    *done = h->kind == COG_ZMQ_WELCOME && h->message >= 1 && h->message <= h->round;
    if (!*done) return COG_OK;
    transport->self = h->message;
    transport->n_workers = (int)h->round;
    COG_TRY(keep_settings(w, parcel));
    transport->settings = w->settings;
    return COG_OK;
}

/* Connections that end before the welcome are no news. Where a handshake fails because the ends do
 * not understand each other, ZeroMQ makes no other. */
static cog_status read_news(worker *w) {
    while (cog_zmq_ended(&w->wire) >= 0) continue;
    COG_CHECK(!w->wire.unshaken, COG_ERR_TRANSPORT, "the server at '%s' %s", w->keys.address,
              w->keys.curve.on ? "does not take this key: it has another, or none"
                               : "does not understand this worker: it may ask for a key");
    return COG_OK;
}

static cog_status read_answers(cog_transport *transport, double until, bool *done) {
    worker *w = transport->state;
    while (!*done) {
        cog_parcel *parcel = NULL;
        bool there;
        COG_TRY(cog_zmq_next(&w->wire, COG_ZMQ_MAX_SETTINGS, &parcel, &there));
        COG_CHECK(!there || parcel != NULL, COG_ERR_TRANSPORT,
                  "the server at '%s' is of another job, or holds another token: %s",
                  w->keys.address, cog_last_error());
        const cog_status status = there ? take_answer(transport, parcel, done) : COG_OK;
        cog_parcel_give(&w->pool, parcel);
        COG_TRY(status);
        if (there) continue;
        const double left = until - cog_clock_seconds();
        if (left <= 0) break;
        cog_zmq_wait(&w->wire, left);
        COG_TRY(read_news(w));
    }
    return COG_OK;
}

static cog_status greet(cog_transport *transport, int wanted) {
    worker *w = transport->state;
    const double deadline = cog_clock_seconds() + w->keys.patience;
    cog_set_error(COG_ERR_TIMEOUT, "there is no server%s at '%s'",
                  w->keys.curve.on ? " with this key" : "", w->keys.address);
    for (bool done = false; !done;) {
        COG_TRY(tell(w, 0, COG_ZMQ_HELLO, wanted, COG_PROJECT_VERSION));
        COG_TRY(
            read_answers(transport, fmin(deadline, cog_clock_seconds() + hello_seconds), &done));
        COG_CHECK(done || cog_clock_seconds() < deadline, COG_ERR_TIMEOUT,
                  "not let in within %g s: %s", w->keys.patience, cog_last_error());
    }
    COG_TRY(read_news(w)); /* should it be this connection that ended, HERE will be refused */
    w->welcome = true;
    return COG_OK;
}

static cog_status join_server(cog_transport *transport, int wanted) {
    worker *w = transport->state;
    w->n_sent = 0;
    w->gone = w->stopping = false;
    COG_TRY(cog_zmq_open(&w->wire, ZMQ_DEALER, w->keys.silence));
    COG_TRY(cog_zmq_connect(&w->wire, w->keys.address));
    return greet(transport, wanted);
}

/* --- frames ---------------------------------------------------------------------------------- */

/* Everything that has come goes to the inbox; STOP overtakes it. */
static cog_status pump(cog_transport *transport) {
    worker *w = transport->state;
    const bool ended = cog_zmq_ended(&w->wire) >= 0; /* looked at first: what came before counts */
    bool there = true;
    while (there) {
        cog_parcel *parcel = NULL;
        COG_TRY(cog_zmq_next(&w->wire, transport->max_payload, &parcel, &there));
        if (parcel == NULL) continue;
        const int kind = parcel->frame.header.kind;
        w->stopping = w->stopping || kind == COG_ZMQ_STOP;
        w->gone = w->gone || kind == COG_ZMQ_REFUSED;
        if (cog_frame_is_for_worker(&parcel->frame.header))
            cog_parcel_push(&w->inbox, parcel);
        else
            cog_parcel_give(&w->pool, parcel);
    }
    w->gone = w->gone || ended;
    return COG_OK;
}

static cog_status send(cog_transport *transport, int from, int to, const cog_frame_header *header,
                       const void *payload) {
    worker *w = transport->state;
    cog_frame_header numbered = *header;
    bool unused;
    COG_TRY(cog_transport_check(transport, from, to, header, payload));
    COG_CHECK(w->running, COG_ERR_TRANSPORT, "the transport 'zmq' is not running");
    COG_CHECK(from == transport->self, COG_ERR_ARGUMENT, "rank %d cannot send as rank %d",
              transport->self, from);
    numbered.accepted = ++w->n_sent;
    return cog_zmq_send(&w->wire, NULL, &numbered, payload, &unused);
}

static cog_status send_badly(cog_transport *transport, int from, int to,
                             const cog_frame_header *header, const void *payload, cog_damage damage,
                             bool again) {
    worker *w = transport->state;
    cog_frame_header numbered = *header;
    COG_TRY(cog_transport_check(transport, from, to, header, payload));
    COG_CHECK(w->running, COG_ERR_TRANSPORT, "the transport 'zmq' is not running");
    if (!again) w->n_sent++;
    numbered.accepted = w->n_sent;
    return cog_zmq_send_badly(&w->wire, NULL, &numbered, payload, damage);
}

static cog_status tell_fault(cog_transport *transport, cog_status status) {
    worker *w = transport->state;
    bool unused;
    cog_parcel *fault = cog_parcel_fault(&w->pool, transport->self, status);
    if (fault == NULL) return COG_OK;
    fault->frame.header.accepted = ++w->n_sent;
    const cog_status sent =
        cog_zmq_send(&w->wire, NULL, &fault->frame.header, fault->frame.payload, &unused);
    cog_parcel_give(&w->pool, fault);
    return sent;
}

/* One frame, or a moment of waiting for one. After a failure only STOP is waited for. */
static cog_status serve_one(cog_transport *transport, cog_status *worst) {
    worker *w = transport->state;
    cog_parcel *parcel = cog_parcel_pop(&w->inbox);
    cog_status told = COG_OK;
    if (parcel != NULL && *worst == COG_OK) {
        *worst = cog_handling_run(&w->handling, transport, transport->self, &parcel->frame);
        if (*worst != COG_OK) told = tell_fault(transport, *worst);
    }
    if (parcel == NULL) cog_zmq_wait(&w->wire, 1);
    cog_parcel_give(&w->pool, parcel);
    return told;
}

static cog_status serve(cog_transport *transport) {
    worker *w = transport->state;
    COG_CHECK(w->running, COG_ERR_TRANSPORT, "the transport 'zmq' is not running");
    cog_status worst = COG_OK;
    while (true) {
        COG_TRY(pump(transport));
        if (w->stopping) break;
        COG_CHECK(!w->gone, COG_ERR_TRANSPORT, "the server at '%s' is gone", w->keys.address);
        COG_TRY(serve_one(transport, &worst));
    }
    COG_TRY(tell(w, transport->self, COG_ZMQ_BYE, 0, ""));
    return worst;
}

static cog_status wait_and_pump(void *user, double seconds, bool *over) {
    cog_transport *transport = user;
    worker *w = transport->state;
    *over = w->stopping || w->gone;
    if (*over) return COG_OK;
    cog_zmq_wait(&w->wire, seconds);
    return pump(transport);
}

static cog_status elapse(cog_transport *transport, int rank, double flops, double factor,
                         double delay) {
    worker *w = transport->state;
    COG_CHECK(rank == transport->self && w->handling.on, COG_ERR_ARGUMENT,
              "rank %d is not handling a frame here", rank);
    return cog_handling_elapse(&w->handling, flops, factor, delay, wait_and_pump, transport);
}

/* --- start and stop -------------------------------------------------------------------------- */

static cog_status start(cog_transport *transport) {
    worker *w = transport->state;
    COG_CHECK(!w->running, COG_ERR_ARGUMENT, "the transport 'zmq' is running already");
    COG_TRY(cog_transport_check_start(transport));
    if (!w->welcome) COG_TRY(join_server(transport, transport->self));
    COG_TRY(tell(w, transport->self, COG_ZMQ_HERE, 0, ""));
    w->running = true;
    w->welcome = false;
    return COG_OK;
}

/* BYE and what else is under way gets a moment. */
static void stop(cog_transport *transport) {
    worker *w = transport->state;
    const int linger = 500;
    if (w->wire.socket != NULL) zmq_setsockopt(w->wire.socket, ZMQ_LINGER, &linger, sizeof(linger));
    cog_zmq_close(&w->wire);
    cog_parcel_give_all(&w->pool, &w->inbox);
    w->running = w->welcome = false;
}

static void close_worker(cog_transport *transport) {
    worker *w = transport->state;
    if (w == NULL) return;
    stop(transport);
    cog_parcel_pool_close(&w->pool);
    free(w->settings);
    free(w);
    transport->state = NULL;
    transport->settings = NULL;
}

static cog_status receive(cog_transport *transport, double timeout, cog_frame *out) {
    (void)timeout, (void)out;
    COG_FAIL(COG_ERR_TRANSPORT, "rank %d is no server", transport->self);
}

static double now(cog_transport *transport) {
    (void)transport;
    return 0;
}

cog_status cog_zmq_worker_open(cog_transport *transport, const cog_zmq_keys *keys) {
    worker *w = calloc(1, sizeof(*w));
    COG_CHECK(w != NULL, COG_ERR_MEMORY, "no memory for the transport 'zmq'");
    transport->state = w;
    w->keys = *keys;
    w->wire.key = keys->key;
    w->wire.curve = keys->curve;
    w->wire.pool = &w->pool;
    COG_TRY(cog_parcel_pool_open(&w->pool));
    return join_server(transport, keys->rank);
}

const cog_transport_ops cog_zmq_worker = {
    .name = "zmq",
    .close = close_worker,
    .start = start,
    .stop = stop,
    .serve = serve,
    .send = send,
    .send_badly = send_badly,
    .receive = receive,
    .elapse = elapse,
    .now = now,
};
