/* server_history.c - recording what is taken, and taking it again in the same order.
 *
 * What a worker sends depends on what it was asked and on nothing else, and what it is asked
 * depends on what was taken before. So the order is all that a transport adds, and a message that
 * comes too early is kept until its turn. A worker that was lost then is alive now: what it says
 * until it is said to be back belongs to nobody, and then it is told to begin anew. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "server.h"

static const char gone[] = "is gone";

/* A frame that came before its turn, or whose turn it is. */
typedef struct early {
    struct early *next;
    cog_frame frame;
    _Alignas(16) uint8_t payload[];
} early;

struct cog_retelling {
    cog_history history;
    size_t at; /* what is to be taken next */
    early *waiting;
    early *current; /* handed out last */
};

/* ---------------------------------------------------------------- record */

void cog_server_note(cog_server *s, char kind, const cog_frame_header *h) {
    if (s->record == NULL) return;
    const cog_taken taken = {.kind = kind,
                             .worker = h != NULL ? h->source - 1 : 0,
                             .message = h != NULL ? h->message : 0,
                             .round = h != NULL ? h->round : s->round};
    cog_history_write(s->record, &taken);
}

/* ---------------------------------------------------------------- replay */

cog_status cog_server_begin_replay(cog_server *s, cog_history *history) {
    s->retelling = calloc(1, sizeof(*s->retelling));
    COG_CHECK(s->retelling != NULL, COG_ERR_MEMORY, "no memory for a replay");
    s->retelling->history = *history;
    *history = (cog_history){.job = NULL};
    return COG_OK;
}

void cog_server_end_replay(cog_server *s) {
    struct cog_retelling *r = s->retelling;
    if (r == NULL) return;
    while (r->waiting != NULL) {
        early *next = r->waiting->next;
        free(r->waiting);
        r->waiting = next;
    }
    free(r->current);
    cog_history_free(&r->history);
    free(r);
    s->retelling = NULL;
}

static cog_status next_taken(const cog_server *s, const cog_taken **out) {
    const struct cog_retelling *r = s->retelling;
    COG_CHECK(r->at < r->history.n, COG_ERR_ARGUMENT, "the history ends before round %lld does",
              (long long)s->round);
    *out = &r->history.taken[r->at];
    return COG_OK;
}

static bool is_turn_of(const cog_server *s, const cog_taken *t, const cog_frame_header *h) {
    const int kind = t->kind == 'm' ? COG_FRAME_MESSAGE : COG_FRAME_DECLINE;
    return cog_server_expects(s, h) && h->kind == kind && h->source - 1 == t->worker &&
           h->round == t->round && (t->kind == 'd' || h->message == t->message);
}

static cog_status keep_for_later(cog_server *s, const cog_frame *frame) {
    struct cog_retelling *r = s->retelling;
    if (!cog_server_expects(s, &frame->header)) return COG_OK;
    early *e = malloc(sizeof(*e) + frame->header.bytes);
    COG_CHECK(e != NULL, COG_ERR_MEMORY, "no memory for a message that came early");
    *e = (early){.next = r->waiting, .frame = {.header = frame->header, .payload = e->payload}};
    if (frame->header.bytes > 0) memcpy(e->payload, frame->payload, frame->header.bytes);
    r->waiting = e;
    return COG_OK;
}

static bool find_waiting(cog_server *s, const cog_taken *t, cog_frame *out) {
    struct cog_retelling *r = s->retelling;
    for (early **at = &r->waiting; *at != NULL; at = &(*at)->next) {
        if (!is_turn_of(s, t, &(*at)->frame.header)) continue;
        r->current = *at;
        *at = r->current->next;
        *out = r->current->frame;
        return true;
    }
    return false;
}

/* A worker that is lost is only not heard any more; one that is back begins anew. */
static cog_status make_news(cog_server *s, const cog_taken *t, cog_frame *out) {
    const bool is_lost = t->kind == 'l';
    COG_CHECK(t->worker < s->code->plan.n_workers, COG_ERR_ARGUMENT, "a history names worker %d",
              t->worker);
    *out = (cog_frame){.header = cog_frame_make(is_lost ? COG_FRAME_LOST : COG_FRAME_JOIN,
                                                t->worker + 1, s->round)};
    if (is_lost) {
        out->payload = gone;
        out->header.bytes = strlen(gone);
        return COG_OK;
    }
    cog_frame_header anew = cog_frame_make(COG_FRAME_LOAD, 0, s->round);
    anew.message = -2;
    COG_TRY(s->transport->ops->send(s->transport, 0, t->worker + 1, &anew, NULL));
    s->transport->bytes_down -= cog_frame_bytes(&anew);
    return COG_OK;
}

static cog_status replay_next(cog_server *s, double timeout, cog_frame *out) {
    struct cog_retelling *r = s->retelling;
    const cog_taken *t;
    COG_TRY(next_taken(s, &t));
    if (t->kind == 'l' || t->kind == 'j') {
        r->at++;
        return make_news(s, t, out);
    }
    COG_CHECK(t->kind == 'm' || t->kind == 'd', COG_ERR_ARGUMENT,
              "the run departs from its history: round %lld should have ended",
              (long long)s->round);
    free(r->current);
    r->current = NULL;
    while (!find_waiting(s, t, out)) {
        cog_frame frame;
        const cog_status status = cog_server_receive(s, timeout, &frame);
        COG_CHECK(status != COG_ERR_TIMEOUT || s->stopped, COG_ERR_TIMEOUT,
                  "the history goes on with worker %d's answer to round %lld, which does not come",
                  t->worker, (long long)t->round);
        COG_TRY(status);
        COG_CHECK(frame.header.kind != COG_FRAME_LOST && frame.header.kind != COG_FRAME_JOIN,
                  COG_ERR_TRANSPORT, "worker %d vanished during a replay", frame.header.source - 1);
        COG_TRY(keep_for_later(s, &frame));
    }
    r->at++;
    return COG_OK;
}

bool cog_server_take_early(cog_server *s, cog_frame *out) {
    struct cog_retelling *r = s->retelling;
    if (r == NULL || r->waiting == NULL) return false;
    free(r->current);
    r->current = r->waiting;
    r->waiting = r->current->next;
    *out = r->current->frame;
    return true;
}

cog_status cog_server_next(cog_server *s, double timeout, cog_frame *out) {
    if (s->retelling != NULL) return replay_next(s, timeout, out);
    return cog_server_receive(s, timeout, out);
}

/* Before anybody is asked: one that is back will be. */
static cog_status take_news(cog_server *s, const cog_taken *t) {
    cog_frame news;
    COG_TRY(make_news(s, t, &news));
    if (t->kind == 'l') return cog_server_lose(s, &news);
    COG_TRY(cog_server_admit(s, t->worker));
    s->idle[s->n_idle++] = t->worker;
    return COG_OK;
}

cog_status cog_server_begin_round(cog_server *s) {
    struct cog_retelling *r = s->retelling;
    if (r == NULL) return COG_OK;
    COG_CHECK(r->at > 0 || r->history.from == s->round, COG_ERR_ARGUMENT,
              "the history begins in round %lld, this run in round %lld",
              (long long)r->history.from, (long long)s->round);
    const cog_taken *t;
    COG_TRY(next_taken(s, &t));
    while (t->kind == 's' || t->kind == 'l' || t->kind == 'j') {
        r->at++;
        COG_TRY(t->kind == 's' ? cog_server_save(s, NULL) : take_news(s, t));
        COG_TRY(next_taken(s, &t));
    }
    return COG_OK;
}

cog_status cog_server_end_round(cog_server *s) {
    cog_server_note(s, 'e', NULL);
    COG_CHECK(s->record == NULL || !ferror(s->record), COG_ERR_IO, "cannot write the history: %s",
              strerror(errno));
    if (s->retelling == NULL) return COG_OK;
    const cog_taken *t;
    COG_TRY(next_taken(s, &t));
    COG_CHECK(t->kind == 'e' && t->round == s->round, COG_ERR_ARGUMENT,
              "the run departs from its history: round %lld ends too early", (long long)s->round);
    s->retelling->at++;
    return COG_OK;
}
