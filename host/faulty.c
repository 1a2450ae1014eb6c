/* faulty.c - what passes between a transport and those who use it, when faults are asked for.
 *
 *     server's send    -> request: drop, duplicate, damage            (before-encode)
 *     handle           -> a worker is killed, stopped, slowed down    (before-encode, after-send)
 *     worker's send    -> the same (mid-send); answer: drop, duplicate, damage
 *     server's receive -> damaged frames are refused; reorder         (mid-send, after-send) */
#include "faulty.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "frame.h"

enum { ENVELOPE = COG_FRAME_PRIVATE + 7, RENEW = -2 };

/* A frame that waits for others to overtake it is not kept longer, when nothing comes. */
static const double longest_hold = 0.1;

typedef struct held {
    struct held *next;
    bool is_ripe; /* it is next */
    int64_t past; /* a frame of a later round makes it so; -1: any frame does */
    cog_frame frame;
    _Alignas(16) unsigned char payload[];
} held;

/* A worker as this file sees it. */
typedef struct patient {
    cog_faulty *faulty;
    void *worker; /* handle's */
    int rank;
    int64_t round; /* it was asked for last */
    uint64_t life; /* how often it began */
    int64_t since; /* round of its first request in this life; -1: none came */
    cog_struck struck;
    bool is_still;   /* for good */
    bool is_dying;   /* at the end of this request */
    double back;     /* then */
    int n_sent;      /* frames of this answer */
    held *late_copy; /* of its last answer */
} patient;

struct cog_faulty {
    cog_transport_ops ops; /* the transport's, while it is wrapped; first: it leads here */
    const cog_transport_ops *inner;
    cog_transport *transport;
    const cog_faults *faults;
    bool in_process;
    cog_handle_fn handle; /* the caller's, and its workers */
    void **worker;
    patient *patients; /* [n_workers] */
    void **pointers;   /* [n_workers] to them */
    /* the server's */
    uint64_t *life;     /* [n_workers] as it knows them */
    cog_struck *struck; /* [n_workers] */
    held *waiting;      /* in the order in which they came */
    held *given;        /* handed out last */
    atomic_llong n_refused;
};

static cog_faulty *of(const cog_transport *transport) {
    return (cog_faulty *)(uintptr_t)transport->ops;
}

/* --- frames that are kept --------------------------------------------------------------------- */

static cog_status keep(const cog_frame_header *header, const void *payload, held **out) {
    held *h = malloc(sizeof(*h) + header->bytes);
    COG_CHECK(h != NULL, COG_ERR_MEMORY, "no memory to hold a frame back");
    *h = (held){.past = -1, .frame = {.header = *header, .payload = h->payload}};
    if (header->bytes > 0) memcpy(h->payload, payload, header->bytes);
    *out = h;
    return COG_OK;
}

static void free_list(held *first) {
    for (held *next; first != NULL; first = next) {
        next = first->next;
        free(first);
    }
}

/* --- damage ----------------------------------------------------------------------------------- */

static cog_damage damage_of(cog_fault_kind kind) {
    switch (kind) {
    case COG_FAULT_CORRUPT: return COG_CORRUPT;
    case COG_FAULT_HALF_WRITE: return COG_HALF;
    case COG_FAULT_WRONG_VERSION: return COG_OTHER_VERSION;
    default: return COG_WHOLE;
    }
}

static cog_status send_envelope(cog_faulty *f, int from, int to, const cog_frame_header *header,
                                const void *payload, cog_damage damage) {
    uint8_t *wire;
    size_t bytes;
    COG_TRY(cog_frame_spoil(header, 0, payload, damage, &wire, &bytes));
    cog_frame_header envelope = cog_frame_make((cog_frame_kind)ENVELOPE, from, header->round);
    envelope.bytes = bytes;
    envelope.checksum = header->checksum; /* the life it is meant for */
    const cog_status status = f->inner->send(f->transport, from, to, &envelope, wire);
    free(wire);
    return status;
}

static cog_status send_badly(cog_faulty *f, int from, int to, const cog_frame_header *header,
                             const void *payload, cog_damage damage, bool again) {
    if (f->inner->send_badly != NULL)
        return f->inner->send_badly(f->transport, from, to, header, payload, damage, again);
    if (damage == COG_WHOLE) return f->inner->send(f->transport, from, to, header, payload);
    return send_envelope(f, from, to, header, payload, damage);
}

/* The frame in an envelope, if its bytes are one; else it is refused. */
static bool open_envelope(cog_faulty *f, const cog_frame *envelope, cog_frame *out) {
    const uint8_t *wire = envelope->payload;
    const size_t bytes = envelope->header.bytes;
    const size_t head = bytes < COG_FRAME_HEADER_BYTES ? bytes : COG_FRAME_HEADER_BYTES;
    cog_frame_header h;
    if (cog_frame_read(wire, head, f->transport->max_payload, &h) == COG_OK &&
        cog_frame_verify(&h, 0, wire + head, bytes - head) == COG_OK) {
        *out = (cog_frame){.header = h, .payload = wire + head};
        return true;
    }
    atomic_fetch_add(&f->n_refused, 1);
    return false;
}

/* --- a worker --------------------------------------------------------------------------------- */

static cog_moment moment_of(patient *p, cog_fault_point point) {
    return (cog_moment){.point = point,
                        .worker = p->rank - 1,
                        .round = p->round,
                        .since = p->since,
                        .struck = &p->struck};
}

static cog_status stop_worker(patient *p, double seconds) {
    cog_faulty *f = p->faulty;
    if (!f->in_process) {
        cog_fault_stop(seconds);
        return COG_OK;
    }
    p->is_still = seconds == 0;
    return f->inner->elapse(f->transport, p->rank, 0, 1, seconds);
}

static void kill_worker(patient *p, double back) {
    if (!p->faulty->in_process) cog_fault_kill();
    p->is_dying = true;
    p->back = back;
}

/* What befalls the worker itself. */
static cog_status strike(patient *p, cog_fault_point point) {
    cog_faulty *f = p->faulty;
    const cog_moment moment = moment_of(p, point);
    const cog_fault *fault;
    for (int at = 0; (fault = cog_faults_next(f->faults, &moment, &at)) != NULL;) {
        if (p->is_dying || p->is_still) break;
        if (fault->kind == COG_FAULT_SLOW)
            COG_TRY(f->inner->elapse(f->transport, p->rank, 0, 1, fault->seconds));
        if (fault->kind == COG_FAULT_STOP) COG_TRY(stop_worker(p, fault->seconds));
        if (fault->kind == COG_FAULT_KILL) kill_worker(p, fault->back);
    }
    return COG_OK;
}

static bool will_be_killed(patient *p, cog_fault_point point) {
    const cog_moment moment = moment_of(p, point);
    const cog_fault *fault;
    for (int at = 0; (fault = cog_faults_next(p->faulty->faults, &moment, &at)) != NULL;)
        if (fault->kind == COG_FAULT_KILL) return true;
    return false;
}

static cog_status tell(patient *p, cog_frame_kind kind, const char *text) {
    cog_faulty *f = p->faulty;
    cog_frame_header header = cog_frame_make(kind, p->rank, p->round);
    header.bytes = strlen(text);
    return f->inner->send(f->transport, p->rank, 0, &header, text);
}

/* One that is killed inside this process: its place is taken by itself, without its memory. */
static cog_status die(patient *p) {
    cog_faulty *f = p->faulty;
    cog_frame anew = {.header = cog_frame_make(COG_FRAME_LOAD, 0, p->round)};
    anew.header.message = RENEW;
    free_list(p->late_copy);
    p->late_copy = NULL;
    p->is_dying = false;
    p->since = -1;
    p->life++;
    cog_struck_end(&p->struck);
    COG_TRY(tell(p, COG_FRAME_LOST, "was killed on purpose"));
    p->is_still = p->back < 0;
    if (p->is_still) return COG_OK;
    COG_TRY(f->inner->elapse(f->transport, p->rank, 0, 1, p->back));
    COG_TRY(f->handle(p->worker, &anew));
    return tell(p, COG_FRAME_JOIN, "");
}

/* The copy of an answer that comes a round late. */
static cog_status send_late_copy(patient *p) {
    held *copy = p->late_copy;
    cog_status status = COG_OK;
    for (const held *h = copy; h != NULL && status == COG_OK; h = h->next)
        status = send_badly(p->faulty, p->rank, 0, &h->frame.header, h->payload, COG_WHOLE, true);
    free_list(copy);
    p->late_copy = NULL;
    return status;
}

static cog_status take_request(patient *p, const cog_frame *frame) {
    cog_faulty *f = p->faulty;
    p->round = frame->header.round;
    if (p->since < 0) p->since = p->round;
    p->n_sent = 0;
    COG_TRY(send_late_copy(p));
    COG_TRY(strike(p, COG_BEFORE_ENCODE));
    if (p->is_dying) return die(p);
    if (p->is_still) return COG_OK;
    COG_TRY(f->handle(p->worker, frame));
    if (!p->is_dying && !p->is_still) COG_TRY(strike(p, COG_AFTER_SEND));
    return p->is_dying ? die(p) : COG_OK;
}

static cog_status take_save(patient *p, const cog_frame *frame) {
    COG_TRY(strike(p, COG_DURING_CHECKPOINT));
    if (p->is_dying) return die(p);
    return p->is_still ? COG_OK : p->faulty->handle(p->worker, frame);
}

static cog_status handle(void *worker, const cog_frame *frame) {
    patient *p = worker;
    cog_faulty *f = p->faulty;
    cog_frame opened = *frame;
    if (p->is_still) return COG_OK;
    if (f->in_process && frame->header.checksum != p->life && frame->header.source == 0)
        return COG_OK;
    if (frame->header.kind == ENVELOPE && !open_envelope(f, frame, &opened)) return COG_OK;
    switch (opened.header.kind) {
    case COG_FRAME_PARAMS: return take_request(p, &opened);
    case COG_FRAME_SAVE: return take_save(p, &opened);
    default: return f->handle(p->worker, &opened);
    }
}

/* --- frames that workers send ----------------------------------------------------------------- */

static cog_status keep_late_copy(patient *p, const cog_frame_header *header, const void *payload) {
    held *copy;
    COG_TRY(keep(header, payload, &copy));
    copy->next = p->late_copy;
    p->late_copy = copy;
    return COG_OK;
}

static cog_status after_answer(patient *p, const cog_frame_header *header, const void *payload) {
    cog_faulty *f = p->faulty;
    const cog_moment moment = moment_of(p, COG_AFTER_SEND);
    const cog_fault *fault;
    for (int at = 0; (fault = cog_faults_next(f->faults, &moment, &at)) != NULL;) {
        if (fault->kind == COG_FAULT_DUPLICATE) COG_TRY(keep_late_copy(p, header, payload));
        if (cog_fault_hits_bytes(fault->kind))
            COG_TRY(send_badly(f, p->rank, 0, header, payload, damage_of(fault->kind), true));
    }
    return COG_OK;
}

/* The first fault of a frame on its way decides. */
static cog_status send_answer(patient *p, const cog_frame_header *header, const void *payload) {
    cog_faulty *f = p->faulty;
    const cog_moment moment = moment_of(p, COG_MID_SEND);
    const cog_fault *fault;
    int at = 0;
    do fault = cog_faults_next(f->faults, &moment, &at);
    while (fault != NULL &&
           (cog_fault_hits_process(fault->kind) || fault->kind == COG_FAULT_REORDER));
    if (fault != NULL && fault->kind == COG_FAULT_DROP) return COG_OK;
    if (fault != NULL && fault->kind != COG_FAULT_DUPLICATE)
        return send_badly(f, p->rank, 0, header, payload, damage_of(fault->kind), false);
    COG_TRY(f->inner->send(f->transport, p->rank, 0, header, payload));
    if (fault != NULL) COG_TRY(send_badly(f, p->rank, 0, header, payload, COG_WHOLE, true));
    return after_answer(p, header, payload);
}

/* One that is killed as it sends leaves half a frame, where there is a wire. */
static cog_status begin_answer(patient *p, const cog_frame_header *header, const void *payload) {
    cog_faulty *f = p->faulty;
    if (will_be_killed(p, COG_MID_SEND) && (f->in_process || f->inner->send_badly != NULL))
        COG_TRY(send_badly(f, p->rank, 0, header, payload, COG_HALF, false));
    return strike(p, COG_MID_SEND);
}

static cog_status send_up(patient *p, const cog_frame_header *header, const void *payload) {
    cog_faulty *f = p->faulty;
    const bool is_answer = header->kind == COG_FRAME_MESSAGE || header->kind == COG_FRAME_DECLINE;
    if (!is_answer) return f->inner->send(f->transport, p->rank, 0, header, payload);
    if (p->is_dying || p->is_still) return COG_OK;
    if (p->n_sent++ == 0) COG_TRY(begin_answer(p, header, payload));
    return p->is_dying || p->is_still ? COG_OK : send_answer(p, header, payload);
}

/* --- the server ------------------------------------------------------------------------------- */

static const cog_fault *fault_of_request(const cog_faulty *f, int to,
                                         const cog_frame_header *header) {
    const cog_moment moment = {.point = COG_BEFORE_ENCODE,
                               .worker = to - 1,
                               .round = header->round,
                               .since = -1,
                               .struck = &f->struck[to - 1]};
    const cog_fault *fault = NULL;
    int at = 0;
    if (header->kind != COG_FRAME_PARAMS) return NULL;
    do fault = cog_faults_next(f->faults, &moment, &at);
    while (fault != NULL && cog_fault_hits_process(fault->kind));
    return fault;
}

static cog_status send_down(cog_faulty *f, int to, const cog_frame_header *header,
                            const void *payload) {
    const cog_fault *fault = fault_of_request(f, to, header);
    cog_frame_header stamped = *header;
    if (f->in_process) stamped.checksum = f->life[to - 1];
    if (fault != NULL && fault->kind == COG_FAULT_DROP) return COG_OK;
    if (fault != NULL && fault->kind != COG_FAULT_DUPLICATE)
        return send_badly(f, 0, to, &stamped, payload, damage_of(fault->kind), false);
    COG_TRY(f->inner->send(f->transport, 0, to, &stamped, payload));
    if (fault == NULL) return COG_OK;
    return send_badly(f, 0, to, &stamped, payload, COG_WHOLE, true);
}

static cog_status send(cog_transport *transport, int from, int to, const cog_frame_header *header,
                       const void *payload) {
    cog_faulty *f = of(transport);
    if (from == 0 && to >= 1 && to <= transport->n_workers)
        return send_down(f, to, header, payload);
    if (from < 1 || from > transport->n_workers)
        return f->inner->send(transport, from, to, header, payload);
    return send_up(&f->patients[from - 1], header, payload);
}

static const cog_fault *reordered(const cog_faulty *f, const cog_frame_header *header) {
    static const cog_fault_point points[] = {COG_MID_SEND, COG_AFTER_SEND};
    if (header->kind != COG_FRAME_MESSAGE && header->kind != COG_FRAME_DECLINE) return NULL;
    for (int i = 0; i < 2; i++) {
        const cog_moment moment = {.point = points[i],
                                   .worker = header->source - 1,
                                   .round = header->round,
                                   .since = -1,
                                   .struck = &f->struck[header->source - 1]};
        const cog_fault *fault;
        for (int at = 0; (fault = cog_faults_next(f->faults, &moment, &at)) != NULL;)
            if (fault->kind == COG_FAULT_REORDER) return fault;
    }
    return NULL;
}

static cog_status hold(cog_faulty *f, const cog_fault *fault, const cog_frame *frame) {
    held *h, **end = &f->waiting;
    COG_TRY(keep(&frame->header, frame->payload, &h));
    if (fault->point == COG_AFTER_SEND) h->past = frame->header.round;
    while (*end != NULL) end = &(*end)->next;
    *end = h;
    return COG_OK;
}

/* Those that this frame has overtaken come next. */
static void ripen(cog_faulty *f, const cog_frame_header *header) {
    for (held *h = f->waiting; h != NULL; h = h->next)
        h->is_ripe = h->is_ripe || h->past < 0 || header->round > h->past;
}

static bool give(cog_faulty *f, bool any, cog_frame *out) {
    for (held **at = &f->waiting; *at != NULL; at = &(*at)->next) {
        if (!any && !(*at)->is_ripe) continue;
        f->given = *at;
        *at = f->given->next;
        *out = f->given->frame;
        return true;
    }
    return false;
}

/* *is_for_engine: it is not refused, and not held back. */
static cog_status judge(cog_faulty *f, cog_frame *frame, bool *is_for_engine) {
    const cog_frame_header *h = &frame->header;
    *is_for_engine = h->kind != ENVELOPE || open_envelope(f, frame, frame);
    if (!*is_for_engine) return COG_OK;
    if (f->in_process && (h->kind == COG_FRAME_LOST || h->kind == COG_FRAME_JOIN)) {
        f->transport->bytes_up -= cog_frame_bytes(h); /* news, and no frame */
        f->life[h->source - 1] += h->kind == COG_FRAME_LOST;
    }
    const cog_fault *fault = reordered(f, h);
    *is_for_engine = fault == NULL;
    if (fault != NULL) return hold(f, fault, frame);
    ripen(f, h);
    return COG_OK;
}

static cog_status next(cog_faulty *f, double timeout, cog_frame *out) {
    const double deadline = f->inner->now(f->transport) + timeout;
    for (bool done = false; !done;) {
        const double left = fmax(deadline - f->inner->now(f->transport), 0);
        const bool is_short = f->waiting != NULL && left > longest_hold;
        const cog_status status =
            f->inner->receive(f->transport, is_short ? longest_hold : left, out);
        if (status == COG_ERR_TIMEOUT && give(f, true, out)) return COG_OK;
        COG_TRY(status);
        COG_TRY(judge(f, out, &done));
    }
    return COG_OK;
}

static cog_status receive(cog_transport *transport, double timeout, cog_frame *out) {
    cog_faulty *f = of(transport);
    free(f->given);
    f->given = NULL;
    if (give(f, false, out)) return COG_OK;
    const cog_status status = next(f, timeout, out);
    transport->frames_refused += atomic_exchange(&f->n_refused, 0);
    return status;
}

/* --- start and stop --------------------------------------------------------------------------- */

static cog_status start(cog_transport *transport) {
    cog_faulty *f = of(transport);
    if (f->handle == NULL) {
        f->handle = transport->handle;
        f->worker = transport->worker;
        if (f->in_process) transport->max_payload += COG_FRAME_HEADER_BYTES; /* for envelopes */
    }
    for (int i = 0; i < transport->n_workers; i++) {
        free_list(f->patients[i].late_copy);
        f->patients[i] = (patient){.faulty = f,
                                   .worker = f->worker != NULL ? f->worker[i] : NULL,
                                   .rank = i + 1,
                                   .since = -1};
        f->life[i] = 0;
        cog_struck_begin(&f->patients[i].struck);
        cog_struck_begin(&f->struck[i]);
    }
    transport->handle = handle;
    transport->worker = f->pointers;
    return f->inner->start(transport);
}

static bool is_unsupported(const cog_transport *t, const cog_fault *f) {
    const bool is_server = f->worker == COG_FAULT_SERVER;
    const bool is_file = f->point == COG_DURING_CHECKPOINT;
    const bool waits = f->kind == COG_FAULT_SLOW || f->kind == COG_FAULT_STOP;
    if (t->is_virtual && is_server && waits)
        cog_set_error(COG_ERR_UNSUPPORTED,
                      "the server takes no time in '%s': it cannot be slow or stopped there",
                      t->ops->name);
    else if (t->self >= 0 && f->back >= 0)
        cog_set_error(COG_ERR_UNSUPPORTED,
                      "a process does not come back by itself in '%s'; cograd launch --restart "
                      "starts those that die anew",
                      t->ops->name);
    else if (t->self >= 0 && t->ops->send_badly == NULL && cog_fault_hits_bytes(f->kind) &&
             !is_file)
        cog_set_error(COG_ERR_UNSUPPORTED,
                      "the transport '%s' leaves the bytes of frames to its network: they cannot "
                      "be damaged",
                      t->ops->name);
    else
        return false;
    return true;
}

static cog_status open_patients(cog_faulty *f, int n) {
    f->patients = calloc((size_t)n, sizeof(*f->patients));
    f->pointers = calloc((size_t)n, sizeof(*f->pointers));
    f->life = calloc((size_t)n, sizeof(*f->life));
    f->struck = calloc((size_t)n, sizeof(*f->struck));
    COG_CHECK(f->patients != NULL && f->pointers != NULL && f->life != NULL && f->struck != NULL,
              COG_ERR_MEMORY, "no memory for faults of %d workers", n);
    for (int i = 0; i < n; i++) f->pointers[i] = &f->patients[i];
    return COG_OK;
}

cog_status cog_faulty_wrap(cog_transport *transport, const cog_faults *faults, cog_faulty **out) {
    for (int i = 0; i < faults->n; i++)
        if (is_unsupported(transport, &faults->fault[i])) return COG_ERR_UNSUPPORTED;
    cog_faulty *f = calloc(1, sizeof(*f));
    COG_CHECK(f != NULL, COG_ERR_MEMORY, "no memory for faults");
    f->inner = transport->ops;
    f->transport = transport;
    f->faults = faults;
    f->in_process = transport->self < 0;
    f->ops = *transport->ops;
    f->ops.start = start;
    f->ops.send = send;
    f->ops.receive = receive;
    const cog_status status = open_patients(f, transport->n_workers);
    transport->ops = &f->ops;
    if (status != COG_OK)
        cog_faulty_unwrap(f);
    else
        *out = f;
    return status;
}

void cog_faulty_unwrap(cog_faulty *f) {
    if (f == NULL) return;
    f->transport->ops = f->inner;
    if (f->handle != NULL) {
        f->transport->handle = f->handle;
        f->transport->worker = f->worker;
    }
    for (int i = 0; f->patients != NULL && i < f->transport->n_workers; i++)
        free_list(f->patients[i].late_copy);
    free_list(f->waiting);
    free(f->given);
    free(f->patients);
    free(f->pointers);
    free(f->life);
    free(f->struck);
    free(f);
}
