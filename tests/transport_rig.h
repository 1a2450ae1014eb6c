/* transport_rig.h - workers that do what the frame says, for tests of transports.
 *
 * The server orders with COG_FRAME_PARAMS; `mode` says what to do, `message` how often or how long.
 */
#ifndef COG_TESTS_TRANSPORT_RIG_H
#define COG_TESTS_TRANSPORT_RIG_H

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "harness.h"
#include "transport.h"

enum order {
    ECHO,  /* send the payload back `message` times */
    FAIL,  /* fail with ERR_FORMAT and the round in the sentence */
    SLEEP, /* `message` milliseconds of delay, then echo once */
    WORK,  /* `message` million operations, the payload's factor, then echo without payload */
    SPIN, /* `message` milliseconds of real work; with a factor as payload, slowed down and answered
           */
    SUM,  /* all-reduce of x; when it is done answer DONE */
};

typedef struct rig_worker {
    struct rig *rig;
    int rank;
    float *x; /* what SUM sums: [n] */
    int64_t n;
    bool bf16;
    int sums_left; /* further all-reduces to ask for when one is done */
} rig_worker;

typedef struct rig {
    cog_transport *transport;
    int n_workers;
    rig_worker *workers; /* [n_workers] */
    void **pointers;     /* [n_workers] */
    atomic_int n_handling;
} rig;

#ifdef RIG_TRANSPORT /* one that needs more than this process */
#include "need_gpu.h"
static const char *const both[] = {RIG_TRANSPORT};
#else
static const char *const both[] = {"sim", "sim:threads=1", "sim:threads=3", "threads"};
#endif
enum { N_BOTH = sizeof(both) / sizeof(both[0]) };

static inline double rig_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline cog_status rig_answer(rig_worker *w, const cog_frame *frame, cog_frame_kind kind,
                                    uint64_t bytes) {
    cog_frame_header header = cog_frame_make(kind, w->rank, frame->header.round);
    header.bytes = bytes;
    header.mode = frame->header.mode;
    return w->rig->transport->ops->send(w->rig->transport, w->rank, 0, &header, frame->payload);
}

static inline cog_status rig_obey(rig_worker *w, const cog_frame *frame) {
    cog_transport *t = w->rig->transport;
    const int32_t amount = frame->header.message;
    if (frame->header.kind == COG_FRAME_REDUCED) {
        if (w->sums_left-- > 0) return t->ops->allreduce(t, w->rank, w->x, w->n, w->bf16);
        return rig_answer(w, frame, COG_FRAME_DONE, 0);
    }
    switch ((enum order)frame->header.mode) {
    case ECHO:
        for (int i = 0; i < amount; i++)
            COG_TRY(rig_answer(w, frame, COG_FRAME_MESSAGE, frame->header.bytes));
        return COG_OK;
    case FAIL: COG_FAIL(COG_ERR_FORMAT, "the sky fell in round %d", (int)frame->header.round);
    case SLEEP:
        COG_TRY(t->ops->elapse(t, w->rank, 0, 1, 1e-3 * amount));
        return rig_answer(w, frame, COG_FRAME_MESSAGE, frame->header.bytes);
    case WORK:
        COG_TRY(t->ops->elapse(t, w->rank, 1e6 * amount, *(const double *)frame->payload, 0));
        return rig_answer(w, frame, COG_FRAME_MESSAGE, 0);
    case SPIN:
        for (const double end = rig_clock() + 1e-3 * amount; rig_clock() < end;) continue;
        if (frame->header.bytes == 0) return COG_OK;
        COG_TRY(t->ops->elapse(t, w->rank, 0, *(const double *)frame->payload, 0));
        return rig_answer(w, frame, COG_FRAME_MESSAGE, 0);
    case SUM: return t->ops->allreduce(t, w->rank, w->x, w->n, w->bf16);
    }
    COG_FAIL(COG_ERR_ARGUMENT, "no such order");
}

static inline cog_status rig_handle(void *worker, const cog_frame *frame) {
    rig_worker *w = worker;
    atomic_fetch_add(&w->rig->n_handling, 1);
    const cog_status status = rig_obey(w, frame);
    atomic_fetch_sub(&w->rig->n_handling, 1);
    return status;
}

/* Created and started. */
static inline void rig_open(rig *r, const char *spec, int n_workers, size_t max_payload) {
    memset(r, 0, sizeof(*r));
    r->n_workers = n_workers;
    r->workers = calloc((size_t)n_workers, sizeof(*r->workers));
    r->pointers = calloc((size_t)n_workers, sizeof(*r->pointers));
    cr_assert(r->workers != NULL && r->pointers != NULL);
    cr_assert_eq(cog_transport_create(spec, n_workers, &r->transport), COG_OK, "%s: %s", spec,
                 cog_last_error());
    for (int i = 0; i < n_workers; i++) {
        r->workers[i] = (rig_worker){.rig = r, .rank = i + 1};
        r->pointers[i] = &r->workers[i];
    }
    r->transport->max_payload = max_payload;
    r->transport->handle = rig_handle;
    r->transport->worker = r->pointers;
    cr_assert_eq(r->transport->ops->start(r->transport), COG_OK, "%s", cog_last_error());
}

static inline void rig_close(rig *r) {
    cog_transport_destroy(r->transport);
    free(r->workers);
    free(r->pointers);
}

static inline cog_status rig_try_order(rig *r, int worker, enum order order, int amount,
                                       int64_t round, const void *payload, uint64_t bytes) {
    cog_frame_header header = cog_frame_make(COG_FRAME_PARAMS, 0, round);
    header.mode = (uint16_t)order;
    header.message = amount;
    header.bytes = bytes;
    return r->transport->ops->send(r->transport, 0, worker + 1, &header, payload);
}

static inline void rig_order(rig *r, int worker, enum order order, int amount, int64_t round,
                             const void *payload, uint64_t bytes) {
    cr_assert_eq(rig_try_order(r, worker, order, amount, round, payload, bytes), COG_OK, "%s",
                 cog_last_error());
}

static inline cog_frame rig_receive(rig *r) {
    cog_frame frame;
    cr_assert_eq(r->transport->ops->receive(r->transport, 30, &frame), COG_OK, "%s",
                 cog_last_error());
    return frame;
}

/* A frame that cannot travel; of up to 200 bytes. */
static inline void rig_expect_refusal(rig *r, int from, int to, const cog_frame_header *header,
                                      const char *words) {
    const char payload[200] = "";
    const int64_t before = r->transport->bytes_down;
    cr_assert_eq(r->transport->ops->send(r->transport, from, to, header, payload),
                 COG_ERR_ARGUMENT);
    cr_assert(strstr(cog_last_error(), words), "'%s' lacks '%s'", cog_last_error(), words);
    cr_assert_eq(r->transport->bytes_down, before);
}

#endif
