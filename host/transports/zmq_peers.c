/* zmq_peers.c - greetings, losses, and which frames are the next of whom. */
#include "zmq_peers.h"

#include <string.h>

#include "../check.h"
#include "../frame.h"

/* --- who is who ------------------------------------------------------------------------------ */

static cog_zmq_peer *find(const cog_zmq_hub *s, const cog_zmq_id *id) {
    for (int i = 0; i < s->n_workers; i++) {
        cog_zmq_peer *p = &s->peers[i];
        if (p->presence != COG_ZMQ_ABSENT && p->id.n == id->n &&
            memcmp(p->id.bytes, id->bytes, id->n) == 0)
            return p;
    }
    return NULL;
}

static int rank_of(const cog_zmq_hub *s, const cog_zmq_peer *p) { return (int)(p - s->peers) + 1; }

int cog_zmq_count(const cog_zmq_hub *s, cog_zmq_presence which) {
    int n = 0;
    for (int i = 0; i < s->n_workers; i++) n += s->peers[i].presence == which;
    return n;
}

void cog_zmq_note_ended(cog_zmq_hub *s) {
    for (int fd; (fd = cog_zmq_ended(&s->wire)) >= 0;)
        for (int i = 0; i < s->n_workers; i++)
            if (s->peers[i].presence != COG_ZMQ_ABSENT && s->peers[i].fd == fd)
                s->peers[i].leaving = true;
}

void cog_zmq_remove(cog_zmq_hub *s, cog_zmq_peer *p) {
    p->untold = p->untold || (p->presence == COG_ZMQ_PRESENT && !s->starting);
    p->presence = COG_ZMQ_ABSENT;
    p->leaving = false;
}

static cog_status tell(cog_zmq_hub *s, const cog_zmq_id *to, int kind, int rank, int64_t round,
                       uint16_t mode, const char *text, bool *reached) {
    cog_frame_header header = cog_frame_make((cog_frame_kind)kind, 0, round);
    header.message = rank;
    header.mode = mode;
    header.bytes = strlen(text);
    return cog_zmq_send(&s->wire, to, &header, text, reached);
}

cog_status cog_zmq_tell(cog_zmq_hub *s, const cog_zmq_id *to, int kind, int rank, int64_t round,
                        uint16_t mode, const char *text) {
    bool unused;
    return tell(s, to, kind, rank, round, mode, text, &unused);
}

static cog_status refuse(cog_zmq_hub *s, const cog_zmq_id *to, bool again, const char *why) {
    s->wire.refused++;
    return cog_zmq_tell(s, to, COG_ZMQ_REFUSED, 0, 0, again, why);
}

/* A rank for a new worker; NULL when there is none. */
static cog_zmq_peer *choose(cog_zmq_hub *s, int wanted) {
    for (int i = 0; i < s->n_workers; i++) {
        cog_zmq_peer *p = &s->peers[i];
        if ((wanted == 0 || wanted == i + 1) && (p->presence == COG_ZMQ_ABSENT || p->leaving))
            return p;
    }
    return NULL;
}

static cog_status greet(cog_transport *transport, const cog_zmq_id *from, int fd,
                        const cog_parcel *hello) {
    cog_zmq_hub *s = transport->state;
    const cog_frame_header *h = &hello->frame.header;
    if (s->closing) return COG_OK;
    const bool same = h->bytes == strlen(COG_PROJECT_VERSION) &&
                      memcmp(hello->room, COG_PROJECT_VERSION, strlen(COG_PROJECT_VERSION)) == 0;
    if (!same) return refuse(s, from, false, "the server is cograd " COG_PROJECT_VERSION);
    cog_zmq_peer *p = find(s, from);
    if (p == NULL) p = choose(s, h->message);
    if (p == NULL) {
        s->wire.refused--; /* no stranger, only early */
        return refuse(s, from, true,
                      h->message > s->n_workers ? "there is no such rank" : "the rank is taken");
    }
    if (p->leaving) cog_zmq_remove(s, p);
    if (p->presence == COG_ZMQ_ABSENT) {
        p->presence = COG_ZMQ_GREETED;
        p->id = *from;
        p->fd = fd;
        p->n_frames = 0;
    }
    const char *settings = transport->settings != NULL ? transport->settings : "";
    bool reached;
    COG_TRY(tell(s, from, COG_ZMQ_WELCOME, rank_of(s, p), s->n_workers, 0, settings, &reached));
    /* Its connection may have ended before this was read: there will be no news of that any more */
    p->leaving = p->leaving || !reached;
    return COG_OK;
}

/* --- what comes ------------------------------------------------------------------------------- */

static cog_status make_notice(cog_zmq_hub *s, cog_frame_kind kind, int rank, const char *text,
                              cog_parcel **out) {
    cog_frame_header header = cog_frame_make(kind, rank, 0);
    header.bytes = strlen(text);
    return cog_parcel_take(&s->pool, &header, text, out);
}

/* HERE. A loss that was not told yet needs no telling: a JOIN is both. */
static cog_status admit(cog_zmq_hub *s, cog_zmq_peer *p, cog_parcel **out) {
    if (p->presence != COG_ZMQ_GREETED) return COG_OK;
    p->presence = COG_ZMQ_PRESENT;
    p->untold = false;
    return s->starting ? COG_OK : make_notice(s, COG_FRAME_JOIN, rank_of(s, p), "", out);
}

/* Frames of one worker are numbered: a second copy is dropped, and one that comes too early shows
 * that others were lost, upon which the connection is worth nothing. */
static bool is_next(cog_zmq_hub *s, cog_zmq_peer *p, cog_frame_header *h) {
    const bool may_send = cog_frame_is_from_worker(h);
    const bool in_order = h->accepted == p->n_frames + 1;
    if (h->accepted > p->n_frames + 1) p->leaving = true;
    if (p->presence != COG_ZMQ_PRESENT || !may_send || !in_order || h->source != rank_of(s, p)) {
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
    cog_zmq_hub *s = transport->state;
    cog_zmq_peer *p = find(s, from);
    cog_frame_header *h = &parcel->frame.header;
    if (h->kind == COG_ZMQ_HELLO) return greet(transport, from, fd, parcel);
    if (p == NULL) return refuse(s, from, true, "it is not known here");
    if (h->kind == COG_ZMQ_HERE) return admit(s, p, out);
    if (h->kind == COG_ZMQ_BYE) {
        p->presence = COG_ZMQ_ABSENT;
        return COG_OK;
    }
    if (is_next(s, p, h)) *out = parcel;
    return COG_OK;
}

cog_status cog_zmq_take_message(cog_transport *transport, cog_parcel **out, bool *any) {
    cog_zmq_hub *s = transport->state;
    cog_zmq_id from;
    cog_parcel *parcel = NULL;
    cog_zmq_about about;
    *any = cog_zmq_begin(&s->wire, &from);
    if (!*any) return COG_OK;
    cog_zmq_note_ended(s);
    const cog_zmq_peer *p = find(s, &from);
    const size_t most = transport->max_payload > 512 ? transport->max_payload : 512; /* sentences */
    COG_TRY(cog_zmq_finish(&s->wire, p != NULL ? most : COG_ZMQ_MAX_GREETING, &parcel, &about));
    if (parcel == NULL && about.is_frame && p == NULL) /* it is counted */
        return cog_zmq_tell(s, &from, COG_ZMQ_REFUSED, 0, 0, false, cog_last_error());
    if (parcel == NULL) return COG_OK;
    const cog_status status = sort_out(transport, &from, about.fd, parcel, out);
    if (*out != parcel) cog_parcel_give(&s->pool, parcel);
    return status;
}

cog_status cog_zmq_take_loss(cog_zmq_hub *s, cog_parcel **out) {
    for (int i = 0; i < s->n_workers && *out == NULL; i++) {
        cog_zmq_peer *p = &s->peers[i];
        if (p->leaving) cog_zmq_remove(s, p);
        if (!p->untold) continue;
        p->untold = false;
        COG_TRY(make_notice(s, COG_FRAME_LOST, i + 1, "is gone", out));
    }
    return COG_OK;
}
