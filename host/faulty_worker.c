/* faulty_worker.c - a worker that faults strike, and frames that come to harm between two ends. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "faulty_parts.h"
#include "frame.h"

enum { RENEW = -2 }; /* message of a LOAD frame */

/* --- frames that are kept --------------------------------------------------------------------- */

cog_status cog_held_keep(const cog_frame_header *header, const void *payload, cog_held **out) {
    cog_held *h = malloc(sizeof(*h) + header->bytes);
    COG_CHECK(h != NULL, COG_ERR_MEMORY, "no memory to hold a frame back");
    *h = (cog_held){.past = -1, .frame = {.header = *header, .payload = h->payload}};
    if (header->bytes > 0) memcpy(h->payload, payload, header->bytes);
    *out = h;
    return COG_OK;
}

void cog_held_free(cog_held *first) {
    for (cog_held *next; first != NULL; first = next) {
        next = first->next;
        free(first);
    }
}

/* --- damage ----------------------------------------------------------------------------------- */

cog_damage cog_faulty_damage_of(cog_fault_kind kind) {
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
    cog_frame_header envelope =
        cog_frame_make((cog_frame_kind)COG_FAULTY_ENVELOPE, from, header->round);
    envelope.bytes = bytes;
    envelope.checksum = header->checksum; /* the life it is meant for */
    const cog_status status = f->inner->send(f->transport, from, to, &envelope, wire);
    free(wire);
    return status;
}

cog_status cog_faulty_send_badly(cog_faulty *f, int from, int to, const cog_frame_header *header,
                                 const void *payload, cog_damage damage, bool again) {
    if (f->inner->send_badly != NULL)
        return f->inner->send_badly(f->transport, from, to, header, payload, damage, again);
    if (damage == COG_WHOLE) return f->inner->send(f->transport, from, to, header, payload);
    return send_envelope(f, from, to, header, payload, damage);
}

bool cog_faulty_open_envelope(cog_faulty *f, const cog_frame *envelope, cog_frame *out) {
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

static cog_moment moment_of(cog_patient *p, cog_fault_point point) {
    return (cog_moment){.point = point,
                        .worker = p->rank - 1,
                        .round = p->round,
                        .since = p->since,
                        .struck = &p->struck};
}

static cog_status stop_worker(cog_patient *p, double seconds) {
    cog_faulty *f = p->faulty;
    if (!f->in_process) {
        cog_fault_stop(seconds);
        return COG_OK;
    }
    p->is_still = seconds == 0;
    return f->inner->elapse(f->transport, p->rank, 0, 1, seconds);
}

static void kill_worker(cog_patient *p, double back) {
    if (!p->faulty->in_process) cog_fault_kill();
    p->is_dying = true;
    p->back = back;
}

/* What befalls the worker itself. */
static cog_status strike(cog_patient *p, cog_fault_point point) {
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

static bool will_be_killed(cog_patient *p, cog_fault_point point) {
    const cog_moment moment = moment_of(p, point);
    const cog_fault *fault;
    for (int at = 0; (fault = cog_faults_next(p->faulty->faults, &moment, &at)) != NULL;)
        if (fault->kind == COG_FAULT_KILL) return true;
    return false;
}

static cog_status tell(cog_patient *p, cog_frame_kind kind, const char *text) {
    cog_faulty *f = p->faulty;
    cog_frame_header header = cog_frame_make(kind, p->rank, p->round);
    header.bytes = strlen(text);
    return f->inner->send(f->transport, p->rank, 0, &header, text);
}

/* One that is killed inside this process: its place is taken by itself, without its memory. */
static cog_status die(cog_patient *p) {
    cog_faulty *f = p->faulty;
    cog_frame anew = {.header = cog_frame_make(COG_FRAME_LOAD, 0, p->round)};
    anew.header.message = RENEW;
    cog_held_free(p->late_copy);
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
static cog_status send_late_copy(cog_patient *p) {
    cog_held *copy = p->late_copy;
    cog_status status = COG_OK;
    for (const cog_held *h = copy; h != NULL && status == COG_OK; h = h->next)
        status = cog_faulty_send_badly(p->faulty, p->rank, 0, &h->frame.header, h->payload,
                                       COG_WHOLE, true);
    cog_held_free(copy);
    p->late_copy = NULL;
    return status;
}

static cog_status take_request(cog_patient *p, const cog_frame *frame) {
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

static cog_status take_save(cog_patient *p, const cog_frame *frame) {
    COG_TRY(strike(p, COG_DURING_CHECKPOINT));
    if (p->is_dying) return die(p);
    return p->is_still ? COG_OK : p->faulty->handle(p->worker, frame);
}

cog_status cog_patient_handle(void *worker, const cog_frame *frame) {
    cog_patient *p = worker;
    cog_faulty *f = p->faulty;
    cog_frame opened = *frame;
    if (p->is_still) return COG_OK;
    if (f->in_process && frame->header.checksum != p->life && frame->header.source == 0)
        return COG_OK;
    if (frame->header.kind == COG_FAULTY_ENVELOPE && !cog_faulty_open_envelope(f, frame, &opened))
        return COG_OK;
    switch (opened.header.kind) {
    case COG_FRAME_PARAMS: return take_request(p, &opened);
    case COG_FRAME_SAVE: return take_save(p, &opened);
    default: return f->handle(p->worker, &opened);
    }
}

/* --- frames that workers send ----------------------------------------------------------------- */

static cog_status keep_late_copy(cog_patient *p, const cog_frame_header *header,
                                 const void *payload) {
    cog_held *copy;
    COG_TRY(cog_held_keep(header, payload, &copy));
    copy->next = p->late_copy;
    p->late_copy = copy;
    return COG_OK;
}

static cog_status after_answer(cog_patient *p, const cog_frame_header *header,
                               const void *payload) {
    cog_faulty *f = p->faulty;
    const cog_moment moment = moment_of(p, COG_AFTER_SEND);
    const cog_fault *fault;
    for (int at = 0; (fault = cog_faults_next(f->faults, &moment, &at)) != NULL;) {
        if (fault->kind == COG_FAULT_DUPLICATE) COG_TRY(keep_late_copy(p, header, payload));
        if (cog_fault_hits_bytes(fault->kind))
            COG_TRY(cog_faulty_send_badly(f, p->rank, 0, header, payload,
                                          cog_faulty_damage_of(fault->kind), true));
    }
    return COG_OK;
}

/* The first fault of a frame on its way decides. */
static cog_status send_answer(cog_patient *p, const cog_frame_header *header, const void *payload) {
    cog_faulty *f = p->faulty;
    const cog_moment moment = moment_of(p, COG_MID_SEND);
    const cog_fault *fault;
    int at = 0;
    do fault = cog_faults_next(f->faults, &moment, &at);
    while (fault != NULL &&
           (cog_fault_hits_process(fault->kind) || fault->kind == COG_FAULT_REORDER));
    if (fault != NULL && fault->kind == COG_FAULT_DROP) return COG_OK;
    if (fault != NULL && fault->kind != COG_FAULT_DUPLICATE)
        return cog_faulty_send_badly(f, p->rank, 0, header, payload,
                                     cog_faulty_damage_of(fault->kind), false);
    COG_TRY(f->inner->send(f->transport, p->rank, 0, header, payload));
    if (fault != NULL)
        COG_TRY(cog_faulty_send_badly(f, p->rank, 0, header, payload, COG_WHOLE, true));
    return after_answer(p, header, payload);
}

/* One that is killed as it sends leaves half a frame, where there is a wire. */
static cog_status begin_answer(cog_patient *p, const cog_frame_header *header,
                               const void *payload) {
    cog_faulty *f = p->faulty;
    if (will_be_killed(p, COG_MID_SEND) && (f->in_process || f->inner->send_badly != NULL))
        COG_TRY(cog_faulty_send_badly(f, p->rank, 0, header, payload, COG_HALF, false));
    return strike(p, COG_MID_SEND);
}

cog_status cog_patient_send(cog_patient *p, const cog_frame_header *header, const void *payload) {
    cog_faulty *f = p->faulty;
    const bool is_answer = header->kind == COG_FRAME_MESSAGE || header->kind == COG_FRAME_DECLINE;
    if (!is_answer) return f->inner->send(f->transport, p->rank, 0, header, payload);
    if (p->is_dying || p->is_still) return COG_OK;
    if (p->n_sent++ == 0) COG_TRY(begin_answer(p, header, payload));
    return p->is_dying || p->is_still ? COG_OK : send_answer(p, header, payload);
}
