/* zmq_server.c - the end that listens: who is who, who is gone, and frames. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "../check.h"
#include "../frame.h"
#include "../mailbox.h"
#include "zmq_ends.h"

enum { STOP_SECONDS = 3 }; /* a worker inside a handler is not waited for any longer */

typedef enum presence { ABSENT, GREETED, PRESENT } presence;

typedef struct peer {
    presence presence;
    bool leaving;      /* its connection has ended; what it had sent comes first */
    bool untold;       /* the engine believes it to be there, and it is not */
    cog_zmq_id id;     /* of its connection */
    int fd;            /* likewise */
    uint64_t n_frames; /* that it has sent */
} peer;

typedef struct server {
    cog_zmq_keys keys;
    cog_zmq_wire wire;
    cog_parcel_pool pool;
    cog_parcel *borrowed; /* what the last receive handed out */
    peer *peers;          /* [n_workers] */
    int n_workers;
    int64_t n_counted; /* refused frames that the engine was told of */
    bool running;
    bool starting; /* workers that come or go now are no news to the engine */
    bool closing;  /* newcomers get no answer: their HELLO will reach the next start */
    double started;
} server;

/* --- who is who ------------------------------------------------------------------------------ */

static peer *find(const server *s, const cog_zmq_id *id) {
    for (int i = 0; i < s->n_workers; i++) {
        peer *p = &s->peers[i];
        if (p->presence != ABSENT && p->id.n == id->n && memcmp(p->id.bytes, id->bytes, id->n) == 0)
            return p;
    }
    return NULL;
}

static int rank_of(const server *s, const peer *p) { return (int)(p - s->peers) + 1; }

static int count(const server *s, presence which) {
    int n = 0;
    for (int i = 0; i < s->n_workers; i++) n += s->peers[i].presence == which;
    return n;
}

/* Descriptors are used again, so news is read before whatever a new connection says. */
static void note_ended(server *s) {
    for (int fd; (fd = cog_zmq_ended(&s->wire)) >= 0;)
        for (int i = 0; i < s->n_workers; i++)
            if (s->peers[i].presence != ABSENT && s->peers[i].fd == fd) s->peers[i].leaving = true;
}

static void remove_peer(server *s, peer *p) {
    p->untold = p->untold || (p->presence == PRESENT && !s->starting);
    p->presence = ABSENT;
    p->leaving = false;
}

static cog_status tell(server *s, const cog_zmq_id *to, int kind, int rank, int64_t round,
                       uint16_t mode, const char *text) {
    cog_frame_header header = cog_frame_make((cog_frame_kind)kind, 0, round);
    bool unused;
    header.message = rank;
    header.mode = mode;
    header.bytes = strlen(text);
    return cog_zmq_send(&s->wire, to, &header, text, &unused);
}

static cog_status refuse(server *s, const cog_zmq_id *to, bool again, const char *why) {
    s->wire.refused++;
    return tell(s, to, COG_ZMQ_REFUSED, 0, 0, again, why);
}

/* A rank for a new worker; NULL when there is none. */
static peer *choose(server *s, int wanted) {
    for (int i = 0; i < s->n_workers; i++) {
        peer *p = &s->peers[i];
        if ((wanted == 0 || wanted == i + 1) && (p->presence == ABSENT || p->leaving)) return p;
    }
    return NULL;
}

static cog_status greet(cog_transport *transport, const cog_zmq_id *from, int fd,
                        const cog_parcel *hello) {
    server *s = transport->state;
    const cog_frame_header *h = &hello->frame.header;
    if (s->closing) return COG_OK;
    const bool same = h->bytes == strlen(COG_PROJECT_VERSION) &&
                      memcmp(hello->room, COG_PROJECT_VERSION, strlen(COG_PROJECT_VERSION)) == 0;
    if (!same) return refuse(s, from, false, "the server is cograd " COG_PROJECT_VERSION);
    peer *p = find(s, from);
    if (p == NULL) p = choose(s, h->message);
    if (p == NULL) {
        s->wire.refused--; /* no stranger, only early */
        return refuse(s, from, true,
                      h->message > s->n_workers ? "there is no such rank" : "the rank is taken");
    }
    if (p->leaving) remove_peer(s, p);
    if (p->presence == ABSENT) {
        p->presence = GREETED;
        p->id = *from;
        p->fd = fd;
        p->n_frames = 0;
    }
    const char *settings = transport->settings != NULL ? transport->settings : "";
    return tell(s, from, COG_ZMQ_WELCOME, rank_of(s, p), s->n_workers, 0, settings);
}

/* --- frames in ------------------------------------------------------------------------------- */

static cog_status make_notice(server *s, cog_frame_kind kind, int rank, const char *text,
                              cog_parcel **out) {
    cog_frame_header header = cog_frame_make(kind, rank, 0);
    header.bytes = strlen(text);
    return cog_parcel_take(&s->pool, &header, text, out);
}

/* HERE. A loss that was not told yet needs no telling: a JOIN is both. */
static cog_status admit(server *s, peer *p, cog_parcel **out) {
    if (p->presence != GREETED) return COG_OK;
    p->presence = PRESENT;
    p->untold = false;
    return s->starting ? COG_OK : make_notice(s, COG_FRAME_JOIN, rank_of(s, p), "", out);
}

/* Frames of one worker are numbered: a second copy is dropped, and one that comes too early shows
 * that others were lost, upon which the connection is worth nothing. */
static bool is_next(server *s, peer *p, cog_frame_header *h) {
    const bool may_send = cog_frame_is_from_worker(h);
    const bool in_order = h->accepted == p->n_frames + 1;
    if (h->accepted > p->n_frames + 1) p->leaving = true;
    if (p->presence != PRESENT || p->leaving > in_order || !may_send || !in_order ||
        h->source != rank_of(s, p)) {
        s->wire.refused++;
        return false;
    }
    p->n_frames++;
    h->accepted = 0;
    return true;
}

/* One message off the wire; *out is a frame for the engine, if it was one. */
static cog_status sort_out(cog_transport *transport, const cog_zmq_id *from, int fd,
                           cog_parcel *parcel, cog_parcel **out) {
    server *s = transport->state;
    peer *p = find(s, from);
    cog_frame_header *h = &parcel->frame.header;
    if (h->kind == COG_ZMQ_HELLO) return greet(transport, from, fd, parcel);
    if (p == NULL) return refuse(s, from, true, "it is not known here");
    if (h->kind == COG_ZMQ_HERE) return admit(s, p, out);
    if (h->kind == COG_ZMQ_BYE) {
        p->presence = ABSENT;
        return COG_OK;
    }
    if (is_next(s, p, h)) *out = parcel;
    return COG_OK;
}

static cog_status take_message(cog_transport *transport, cog_parcel **out, bool *any) {
    server *s = transport->state;
    cog_zmq_id from;
    cog_parcel *parcel = NULL;
    cog_zmq_about about;
    *any = cog_zmq_begin(&s->wire, &from);
    if (!*any) return COG_OK;
    note_ended(s);
    const peer *p = find(s, &from);
    const size_t most = transport->max_payload > 512 ? transport->max_payload : 512; /* sentences */
    COG_TRY(cog_zmq_finish(&s->wire, p != NULL ? most : COG_ZMQ_MAX_GREETING, &parcel, &about));
    if (parcel == NULL)
        return about.is_frame && p == NULL ? refuse(s, &from, false, cog_last_error()) : COG_OK;
    const cog_status status = sort_out(transport, &from, about.fd, parcel, out);
    if (*out != parcel) cog_parcel_give(&s->pool, parcel);
    return status;
}

/* When nothing more has come: the losses. */
static cog_status take_loss(server *s, cog_parcel **out) {
    for (int i = 0; i < s->n_workers && *out == NULL; i++) {
        peer *p = &s->peers[i];
        if (p->leaving) remove_peer(s, p);
        if (!p->untold) continue;
        p->untold = false;
        COG_TRY(make_notice(s, COG_FRAME_LOST, i + 1, "is gone", out));
    }
    return COG_OK;
}

/* The next frame or notice; *out stays NULL when the deadline passes. */
static cog_status next(cog_transport *transport, double deadline, cog_parcel **out) {
    server *s = transport->state;
    while (*out == NULL) {
        bool any;
        note_ended(s);
        COG_TRY(take_message(transport, out, &any));
        if (any) continue;
        COG_TRY(take_loss(s, out));
        const double left = deadline - cog_clock_seconds();
        if (*out != NULL || left <= 0) break;
        cog_zmq_wait(&s->wire, left);
    }
    return COG_OK;
}

static cog_status receive(cog_transport *transport, double timeout, cog_frame *out) {
    server *s = transport->state;
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
    server *s = transport->state;
    COG_TRY(cog_transport_check(transport, from, to, header, payload));
    COG_CHECK(s->running, COG_ERR_TRANSPORT, "the transport 'zmq' is not running");
    COG_CHECK(from == 0, COG_ERR_ARGUMENT, "the server cannot send as rank %d", from);
    peer *p = &s->peers[to - 1];
    transport->bytes_down += cog_frame_bytes(header);
    if (p->presence != PRESENT || p->leaving) return COG_OK;
    bool reached;
    COG_TRY(cog_zmq_send(&s->wire, &p->id, header, payload, &reached));
    p->leaving = !reached;
    return COG_OK;
}

static cog_status send_badly(cog_transport *transport, int from, int to,
                             const cog_frame_header *header, const void *payload, cog_damage damage,
                             bool again) {
    server *s = transport->state;
    (void)again; /* what the server sends is not numbered */
    COG_TRY(cog_transport_check(transport, from, to, header, payload));
    COG_CHECK(s->running, COG_ERR_TRANSPORT, "the transport 'zmq' is not running");
    const peer *p = &s->peers[to - 1];
    if (p->presence != PRESENT || p->leaving) return COG_OK;
    return cog_zmq_send_badly(&s->wire, &p->id, header, payload, damage);
}

/* --- start and stop -------------------------------------------------------------------------- */

/* Who is not there, and may come. */
static int n_awaited(const server *s) {
    int n = 0;
    for (int i = 0; i < s->n_workers; i++)
        n += s->peers[i].presence != PRESENT && !cog_zmq_is_absent(&s->keys, i);
    return n;
}

/* Until all are there who may come, or patience ends, or a signal comes. */
static cog_status gather(cog_transport *transport) {
    server *s = transport->state;
    const double deadline = cog_clock_seconds() + s->keys.patience;
    bool undisturbed = true;
    while (undisturbed && n_awaited(s) > 0 && cog_clock_seconds() < deadline) {
        cog_parcel *news = NULL;
        bool any;
        note_ended(s);
        COG_TRY(take_message(transport, &news, &any));
        cog_parcel_give(&s->pool, news);
        if (any) continue;
        COG_TRY(take_loss(s, &news));
        /* in short naps: who will not come makes no noise */
        undisturbed = cog_zmq_wait(&s->wire, fmin(0.05, deadline - cog_clock_seconds()));
    }
    COG_CHECK(undisturbed, COG_ERR_TRANSPORT, "interrupted with %d of %d workers there",
              count(s, PRESENT), s->n_workers);
    COG_CHECK(count(s, PRESENT) > 0, COG_ERR_TIMEOUT, "no worker came to '%s' within %g s",
              s->keys.address, s->keys.patience);
    for (int i = 0; i < s->n_workers; i++) s->peers[i].untold = s->peers[i].presence != PRESENT;
    return COG_OK;
}

/* Everybody who is known is told, and given a moment to answer. */
static void dismiss(cog_transport *transport) {
    server *s = transport->state;
    const double deadline = cog_clock_seconds() + STOP_SECONDS;
    for (int i = 0; i < s->n_workers; i++)
        if (s->peers[i].presence != ABSENT)
            (void)tell(s, &s->peers[i].id, COG_ZMQ_STOP, 0, 0, 0, "");
    bool ok = true;
    while (ok && count(s, ABSENT) < s->n_workers && cog_clock_seconds() < deadline) {
        cog_parcel *rest = NULL;
        bool any = false;
        note_ended(s);
        ok = take_message(transport, &rest, &any) == COG_OK;
        cog_parcel_give(&s->pool, rest);
        for (int i = 0; i < s->n_workers && !any; i++)
            if (s->peers[i].leaving) remove_peer(s, &s->peers[i]);
        if (!any) cog_zmq_wait(&s->wire, fmin(0.05, deadline - cog_clock_seconds()));
    }
}

static void stop(cog_transport *transport) {
    server *s = transport->state;
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
    server *s = transport->state;
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
    server *s = transport->state;
    COG_CHECK(!s->running, COG_ERR_ARGUMENT, "the transport 'zmq' is running already");
    COG_TRY(cog_transport_check_start(transport));
    const cog_status status = start_all(transport);
    s->running = status == COG_OK;
    s->started = cog_clock_seconds();
    if (status != COG_OK) stop(transport);
    return status;
}

static void close_server(cog_transport *transport) {
    server *s = transport->state;
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
    const server *s = transport->state;
    return s->running ? cog_clock_seconds() - s->started : 0;
}

cog_status cog_zmq_server_open(cog_transport *transport, const cog_zmq_keys *keys) {
    server *s = calloc(1, sizeof(*s));
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
