/* zmq_server.c - the end that listens: starts and stops, frames in and out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "../check.h"
#include "../frame.h"
#include "../mailbox.h"
#include "zmq_peers.h"

enum { STOP_SECONDS = 3 }; /* a worker inside a handler is not waited for any longer */

/* --- frames in ------------------------------------------------------------------------------- */

/* The next frame or notice; *out stays NULL when the deadline passes. */
static cog_status next(cog_transport *transport, double deadline, cog_parcel **out) {
    cog_zmq_hub *s = transport->state;
    while (*out == NULL) {
        bool any;
        cog_zmq_note_ended(s);
        COG_TRY(cog_zmq_take_message(transport, out, &any));
        if (any) continue;
        COG_TRY(cog_zmq_take_loss(s, out));
        const double left = deadline - cog_clock_seconds();
        if (*out != NULL || left <= 0) break;
        cog_zmq_wait(&s->wire, left);
    }
    return COG_OK;
}

static cog_status receive(cog_transport *transport, double timeout, cog_frame *out) {
    cog_zmq_hub *s = transport->state;
    COG_CHECK(s->running, COG_ERR_TRANSPORT, "the transport 'zmq' is not running");
    cog_parcel_give(&s->pool, s->borrowed);
    s->borrowed = NULL;
    COG_TRY(next(transport, cog_clock_seconds() + timeout, &s->borrowed));
    transport->frames_refused += s->wire.refused - s->n_counted; /* the engine counts there too */
    s->n_counted = s->wire.refused;
    COG_CHECK(s->borrowed != NULL, COG_ERR_TIMEOUT, "no worker sent anything for %g s", timeout);
    const cog_frame *frame = &s->borrowed->frame;
    const bool is_news =
        frame->header.kind == COG_FRAME_LOST || frame->header.kind == COG_FRAME_JOIN;
    if (!is_news) transport->bytes_up += cog_frame_bytes(&frame->header);
    if (frame->header.kind == COG_FRAME_FAULT) return cog_frame_fault_status(frame);
    *out = *frame;
    return COG_OK;
}

/* --- frames out ------------------------------------------------------------------------------ */

/* What is sent to somebody who is gone is lost with him: the engine will hear of it. */
static cog_status send(cog_transport *transport, int from, int to, const cog_frame_header *header,
                       const void *payload) {
    cog_zmq_hub *s = transport->state;
    COG_TRY(cog_transport_check(transport, from, to, header, payload));
    COG_CHECK(s->running, COG_ERR_TRANSPORT, "the transport 'zmq' is not running");
    COG_CHECK(from == 0, COG_ERR_ARGUMENT, "the server cannot send as rank %d", from);
    cog_zmq_peer *p = &s->peers[to - 1];
    transport->bytes_down += cog_frame_bytes(header);
    if (p->presence != COG_ZMQ_PRESENT || p->leaving) return COG_OK;
    bool reached;
    COG_TRY(cog_zmq_send(&s->wire, &p->id, header, payload, &reached));
    p->leaving = !reached;
    return COG_OK;
}

static cog_status send_badly(cog_transport *transport, int from, int to,
                             const cog_frame_header *header, const void *payload, cog_damage damage,
                             bool again) {
    cog_zmq_hub *s = transport->state;
    (void)again; /* what the server sends is not numbered */
    COG_TRY(cog_transport_check(transport, from, to, header, payload));
    COG_CHECK(s->running, COG_ERR_TRANSPORT, "the transport 'zmq' is not running");
    const cog_zmq_peer *p = &s->peers[to - 1];
    if (p->presence != COG_ZMQ_PRESENT || p->leaving) return COG_OK;
    return cog_zmq_send_badly(&s->wire, &p->id, header, payload, damage);
}

/* --- start and stop -------------------------------------------------------------------------- */

/* Who is not there, and may come. */
static int n_awaited(const cog_zmq_hub *s) {
    int n = 0;
    for (int i = 0; i < s->n_workers; i++)
        n += s->peers[i].presence != COG_ZMQ_PRESENT && !cog_zmq_is_absent(&s->keys, i);
    return n;
}

/* Until all are there who may come, or patience ends, or a signal comes. */
static cog_status gather(cog_transport *transport) {
    cog_zmq_hub *s = transport->state;
    const double deadline = cog_clock_seconds() + s->keys.patience;
    bool undisturbed = true;
    while (undisturbed && n_awaited(s) > 0 && cog_clock_seconds() < deadline) {
        cog_parcel *news = NULL;
        bool any;
        cog_zmq_note_ended(s);
        COG_TRY(cog_zmq_take_message(transport, &news, &any));
        cog_parcel_give(&s->pool, news);
        if (any) continue;
        COG_TRY(cog_zmq_take_loss(s, &news));
        /* in short naps: who will not come makes no noise */
        undisturbed = cog_zmq_wait(&s->wire, fmin(0.05, deadline - cog_clock_seconds()));
    }
    COG_CHECK(undisturbed, COG_ERR_TRANSPORT, "interrupted with %d of %d workers there",
              cog_zmq_count(s, COG_ZMQ_PRESENT), s->n_workers);
    COG_CHECK(cog_zmq_count(s, COG_ZMQ_PRESENT) > 0, COG_ERR_TIMEOUT,
              "no worker came to '%s' within %g s", s->keys.address, s->keys.patience);
    for (int i = 0; i < s->n_workers; i++)
        s->peers[i].untold = s->peers[i].presence != COG_ZMQ_PRESENT;
    return COG_OK;
}

/* Everybody who is known is told, and given a moment to answer. */
static void dismiss(cog_transport *transport) {
    cog_zmq_hub *s = transport->state;
    const double deadline = cog_clock_seconds() + STOP_SECONDS;
    for (int i = 0; i < s->n_workers; i++)
        if (s->peers[i].presence != COG_ZMQ_ABSENT)
            (void)cog_zmq_tell(s, &s->peers[i].id, COG_ZMQ_STOP, 0, 0, 0, "");
    bool ok = true;
    while (ok && cog_zmq_count(s, COG_ZMQ_ABSENT) < s->n_workers &&
           cog_clock_seconds() < deadline) {
        cog_parcel *rest = NULL;
        bool any = false;
        cog_zmq_note_ended(s);
        ok = cog_zmq_take_message(transport, &rest, &any) == COG_OK;
        cog_parcel_give(&s->pool, rest);
        for (int i = 0; i < s->n_workers && !any; i++)
            if (s->peers[i].leaving) cog_zmq_remove(s, &s->peers[i]);
        if (!any) cog_zmq_wait(&s->wire, fmin(0.05, deadline - cog_clock_seconds()));
    }
}

static void stop(cog_transport *transport) {
    cog_zmq_hub *s = transport->state;
    s->closing = true;
    if (s->wire.monitor != NULL) dismiss(transport);
    cog_parcel_give(&s->pool, s->borrowed);
    s->borrowed = NULL;
    cog_zmq_close(&s->wire);
    free(s->peers);
    s->peers = NULL;
    s->n_workers = 0;
    s->running = s->closing = false;
}

static cog_status start_all(cog_transport *transport) {
    cog_zmq_hub *s = transport->state;
    s->peers = calloc((size_t)transport->n_workers, sizeof(*s->peers));
    COG_CHECK(s->peers != NULL, COG_ERR_MEMORY, "no memory for %d workers", transport->n_workers);
    s->n_workers = transport->n_workers;
    COG_TRY(cog_zmq_open(&s->wire, ZMQ_ROUTER, s->keys.silence));
    COG_TRY(cog_zmq_bind(&s->wire, s->keys.address));
    s->starting = true;
    COG_TRY(gather(transport));
    s->starting = false;
    return COG_OK;
}

static cog_status start(cog_transport *transport) {
    cog_zmq_hub *s = transport->state;
    COG_CHECK(!s->running, COG_ERR_ARGUMENT, "the transport 'zmq' is running already");
    COG_TRY(cog_transport_check_start(transport));
    const cog_status status = start_all(transport);
    s->running = status == COG_OK;
    s->started = cog_clock_seconds();
    if (status != COG_OK) stop(transport);
    return status;
}

static void close_server(cog_transport *transport) {
    cog_zmq_hub *s = transport->state;
    if (s == NULL) return;
    stop(transport);
    cog_parcel_pool_close(&s->pool);
    cog_zmq_keys_close(&s->keys);
    free(s);
    transport->state = NULL;
}

static cog_status elapse(cog_transport *transport, int rank, double flops, double factor,
                         double delay) {
    (void)transport, (void)flops, (void)factor, (void)delay;
    COG_FAIL(COG_ERR_ARGUMENT, "rank %d is not handling a frame here", rank);
}

static double now(cog_transport *transport) {
    const cog_zmq_hub *s = transport->state;
    return s->running ? cog_clock_seconds() - s->started : 0;
}

cog_status cog_zmq_server_open(cog_transport *transport, const cog_zmq_keys *keys) {
    cog_zmq_hub *s = calloc(1, sizeof(*s));
    COG_CHECK(s != NULL, COG_ERR_MEMORY, "no memory for the transport 'zmq'");
    transport->state = s;
    transport->self = 0;
    transport->awaits_joiners = keys->rejoin;
    s->keys = *keys;
    s->wire.key = keys->key;
    s->wire.curve = keys->curve;
    s->wire.pool = &s->pool;
    return cog_parcel_pool_open(&s->pool);
}

const cog_transport_ops cog_zmq_server = {
    .name = "zmq",
    .close = close_server,
    .start = start,
    .stop = stop,
    .send = send,
    .send_badly = send_badly,
    .receive = receive,
    .elapse = elapse,
    .now = now,
};
