/* faulty.c - what passes between a transport and those who use it, when faults are asked for.
 *
 *     server's send    -> request: drop, duplicate, damage            (before-encode)
 *     handle           -> a worker is killed, stopped, slowed down    (before-encode, after-send)
 *     worker's send    -> the same (mid-send); answer: drop, duplicate, damage
 *     server's receive -> damaged frames are refused; reorder         (mid-send, after-send)
 *
 * What happens to a worker and to a single frame is in faulty_worker.c. */
#include "faulty_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "frame.h"

/* A frame that waits for others to overtake it is not kept longer, when nothing comes. */
static const double longest_hold = 0.1;

static cog_faulty *of(const cog_transport *transport) {
    return (cog_faulty *)(uintptr_t)transport->ops;
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
        return cog_faulty_send_badly(f, 0, to, &stamped, payload, cog_faulty_damage_of(fault->kind),
                                     false);
    COG_TRY(f->inner->send(f->transport, 0, to, &stamped, payload));
    if (fault == NULL) return COG_OK;
    return cog_faulty_send_badly(f, 0, to, &stamped, payload, COG_WHOLE, true);
}

static cog_status send(cog_transport *transport, int from, int to, const cog_frame_header *header,
                       const void *payload) {
    cog_faulty *f = of(transport);
    if (from == 0 && to >= 1 && to <= transport->n_workers)
        return send_down(f, to, header, payload);
    if (from < 1 || from > transport->n_workers)
        return f->inner->send(transport, from, to, header, payload);
    return cog_patient_send(&f->patients[from - 1], header, payload);
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
    cog_held *h, **end = &f->waiting;
    COG_TRY(cog_held_keep(&frame->header, frame->payload, &h));
    if (fault->point == COG_AFTER_SEND) h->past = frame->header.round;
    while (*end != NULL) end = &(*end)->next;
    *end = h;
    return COG_OK;
}

/* Those that this frame has overtaken come next. */
static void ripen(cog_faulty *f, const cog_frame_header *header) {
    for (cog_held *h = f->waiting; h != NULL; h = h->next)
        h->is_ripe = h->is_ripe || h->past < 0 || header->round > h->past;
}

static bool give(cog_faulty *f, bool any, cog_frame *out) {
    for (cog_held **at = &f->waiting; *at != NULL; at = &(*at)->next) {
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
    *is_for_engine = h->kind != COG_FAULTY_ENVELOPE || cog_faulty_open_envelope(f, frame, frame);
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
        cog_held_free(f->patients[i].late_copy);
        f->patients[i] = (cog_patient){.faulty = f,
                                       .worker = f->worker != NULL ? f->worker[i] : NULL,
                                       .rank = i + 1,
                                       .since = -1};
        f->life[i] = 0;
        cog_struck_begin(&f->patients[i].struck);
        cog_struck_begin(&f->struck[i]);
    }
    transport->handle = cog_patient_handle;
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
        cog_held_free(f->patients[i].late_copy);
    cog_held_free(f->waiting);
    free(f->given);
    free(f->patients);
    free(f->pointers);
    free(f->life);
    free(f->struck);
    free(f);
}
