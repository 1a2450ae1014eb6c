/* nccl_worker.c - a worker's thread: frames in their order, and what the worker asks for in them.
 *
 * It waits for the server as long as that takes, which the server can call off: only the server
 * knows who is late. The sum among the workers begins when all are ready, so it has a deadline. */
#include "nccl_link.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../check.h"
#include "../frame.h"
#include "../mailbox.h"

static cog_nccl *state_of(const cog_nccl_link *self) { return self->transport->state; }

static void look_for_server(cog_nccl_link *self) {
    const cog_nccl *state = state_of(self);
    const double now = cog_clock_seconds();
    if (!cog_nccl_is_spread(state) || now < self->looked + cog_nccl_look_seconds) return;
    self->looked = now;
    self->is_orphan = !cog_nccl_board_has(&state->board, 0);
}

static bool is_called_off(void *link) {
    cog_nccl_link *self = link;
    look_for_server(self);
    return state_of(self)->board.page->stopping || self->seat->fate == COG_NCCL_LOST ||
           self->is_orphan;
}

static cog_nccl_patience until_called_off(cog_nccl_link *self) {
    return (cog_nccl_patience){.deadline = INFINITY, .called_off = is_called_off, .user = self};
}

/* A failure of the link is not one of the worker: it is told otherwise. */
static cog_status note_cut(cog_nccl_link *self, cog_status status) {
    if (status != COG_OK) self->is_cut = true;
    return status;
}

/* --- frames out ------------------------------------------------------------------------------- */

static cog_status send_held(cog_nccl_link *self, int turn) {
    const cog_nccl_patience patience = until_called_off(self);
    ((cog_frame_header *)(void *)self->worker.out)->checksum = (uint64_t)turn;
    self->holding = false;
    return note_cut(self, cog_nccl_send(&self->worker, &patience));
}

/* An answer is held back until it is known whether it is the last one. */
cog_status cog_nccl_answer(cog_nccl_link *self, const cog_frame_header *header,
                           const void *payload) {
    const cog_nccl_patience patience = until_called_off(self);
    if (self->holding) {
        COG_TRY(send_held(self, COG_NCCL_MORE));
        COG_TRY(note_cut(self, cog_nccl_wait(&self->worker, &patience)));
    }
    cog_nccl_fill(&self->worker, header, payload);
    self->holding = true;
    return COG_OK;
}

static cog_status end_turn(cog_nccl_link *self) {
    const cog_frame_header nothing = cog_frame_make((cog_frame_kind)COG_NCCL_TURN, self->rank, 0);
    if (!self->holding) COG_TRY(cog_nccl_answer(self, &nothing, NULL));
    return send_held(self, COG_NCCL_LAST);
}

/* --- frames in -------------------------------------------------------------------------------- */

static cog_status receive(cog_nccl_link *self, size_t at, size_t bytes) {
    const cog_nccl_patience patience = until_called_off(self);
    COG_TRY(note_cut(self, cog_nccl_receive(&self->worker, at, bytes, &patience)));
    return note_cut(self, cog_nccl_wait(&self->worker, &patience));
}

static cog_status next_frame(cog_nccl_link *self, cog_frame *out) {
    COG_TRY(receive(self, 0, COG_NCCL_FIRST));
    const size_t most = self->worker.room - COG_FRAME_HEADER_BYTES;
    COG_TRY(note_cut(self,
                     cog_frame_read(self->worker.in, COG_FRAME_HEADER_BYTES, most, &out->header)));
    const size_t bytes = COG_FRAME_HEADER_BYTES + out->header.bytes;
    if (bytes > COG_NCCL_FIRST) COG_TRY(receive(self, COG_NCCL_FIRST, bytes - COG_NCCL_FIRST));
    out->payload = self->worker.in + COG_FRAME_HEADER_BYTES;
    return COG_OK;
}

/* --- all-reduce ------------------------------------------------------------------------------- */

static void put(const cog_ring_part *part, void *to) {
    uint16_t *half = to;
    if (!part->bf16) memcpy(to, part->x, (size_t)part->n * sizeof(float));
    for (int64_t i = 0; part->bf16 && i < part->n; i++) half[i] = cog_ring_half(part->x[i]);
}

static void get(const cog_ring_part *part, const void *from) {
    const uint16_t *half = from;
    if (!part->bf16) memcpy(part->x, from, (size_t)part->n * sizeof(float));
    for (int64_t i = 0; part->bf16 && i < part->n; i++) part->x[i] = cog_ring_whole(half[i]);
}

static cog_status copy(const cog_nccl_end *ring, void *to, const void *from, size_t bytes,
                       enum cudaMemcpyKind kind) {
    return cog_nccl_check_cuda(ring->gpu, cudaMemcpyAsync(to, from, bytes, kind, ring->stream),
                               "cudaMemcpyAsync");
}

/* By way of the memory for what comes in: the link is silent. */
static cog_status sum_there(cog_nccl_link *self, const cog_nccl_patience *patience) {
    const cog_ring_part *part = &self->part;
    cog_nccl_end *ring = &self->ring;
    const size_t bytes = (size_t)part->n * (part->bf16 ? sizeof(uint16_t) : sizeof(float));
    void *there = self->worker.gpu_in, *here = self->worker.in;
    COG_TRY(cog_nccl_check_cuda(ring->gpu, cudaSetDevice(ring->gpu), "cudaSetDevice"));
    put(part, here);
    COG_TRY(copy(ring, there, here, bytes, cudaMemcpyHostToDevice));
    COG_TRY(cog_nccl_check(ring,
                           ncclAllReduce(there, there, (size_t)part->n,
                                         part->bf16 ? ncclBfloat16 : ncclFloat, ncclSum, ring->comm,
                                         ring->stream),
                           "ncclAllReduce"));
    COG_TRY(cog_nccl_settle(ring, patience));
    COG_TRY(copy(ring, here, there, bytes, cudaMemcpyDeviceToHost));
    COG_TRY(cog_nccl_check_cuda(ring->gpu, cudaEventRecord(ring->event, ring->stream),
                                "cudaEventRecord"));
    COG_TRY(cog_nccl_wait(ring, patience));
    get(part, here);
    return COG_OK;
}

static cog_status sum(cog_nccl_link *self) {
    const double timeout = state_of(self)->timeout;
    const cog_nccl_patience patience = {
        .deadline = cog_clock_seconds() + timeout, .called_off = is_called_off, .user = self};
    const cog_status status = sum_there(self, &patience);
    COG_CHECK(status != COG_ERR_TIMEOUT, COG_ERR_TRANSPORT,
              "the all-reduce of %lld floats among %d workers did not end within %g s",
              (long long)self->part.n, self->transport->n_workers, timeout);
    return status;
}

/* When all are ready the server says so; or why not. */
static cog_status reduce(void *user, bool *done) {
    cog_nccl_link *self = user;
    cog_frame_header ready = cog_frame_make((cog_frame_kind)COG_NCCL_READY, self->rank, 0);
    cog_frame go;
    ready.round = self->part.n;
    ready.mode = self->part.bf16;
    COG_TRY(cog_nccl_answer(self, &ready, NULL));
    COG_TRY(end_turn(self));
    COG_TRY(next_frame(self, &go));
    if (go.header.message != COG_OK)
        COG_FAIL((cog_status)go.header.message, "%.*s", (int)go.header.bytes,
                 (const char *)go.payload);
    *done = true;
    return sum(self);
}

/* --- the thread ------------------------------------------------------------------------------- */

static cog_status serve_one(cog_nccl_link *self) {
    cog_frame frame;
    COG_TRY(next_frame(self, &frame));
    COG_TRY(
        cog_handling_deliver(&self->handling, self->transport, self->rank, &frame, reduce, self));
    return end_turn(self);
}

/* The worker failed, and its link works. In a process of its own it may end when this returns. */
static void tell_fault(cog_nccl_link *self, cog_status status) {
    const cog_nccl_patience patience = until_called_off(self);
    cog_parcel *fault = cog_parcel_fault(&state_of(self)->pool, self->rank, status);
    self->failure = status;
    snprintf(self->sentence, sizeof(self->sentence), "%s", cog_last_error());
    if (fault == NULL) return;
    if (cog_nccl_answer(self, &fault->frame.header, fault->frame.payload) == COG_OK &&
        end_turn(self) == COG_OK)
        (void)cog_nccl_wait(&self->worker, &patience);
    cog_parcel_give(&state_of(self)->pool, fault);
}

/* The link failed. When the server has heard of it both ends are this thread's, and nobody may wait
 * for kernels that never end. */
static void leave(cog_nccl_link *self) {
    cog_nccl_end *const ends[] = {&self->server, &self->worker};
    cog_nccl_seat *seat = self->seat;
    int alive = COG_NCCL_ALIVE;
    if (!is_called_off(self)) {
        snprintf(seat->broken, sizeof(seat->broken), "lost its link: %s", cog_last_error());
        atomic_compare_exchange_strong(&seat->fate, &alive, COG_NCCL_BROKEN);
    }
    for (int64_t turn = 0; !is_called_off(self); turn++) cog_nccl_nap(turn);
    if (seat->fate == COG_NCCL_LOST) cog_nccl_abort(ends, 2);
}

void *cog_nccl_live(void *link) {
    cog_nccl_link *self = link;
    cog_status status = COG_OK;
    while (status == COG_OK && !is_called_off(self)) status = serve_one(self);
    if (status != COG_OK && !self->is_cut && !is_called_off(self)) tell_fault(self, status);
    if (self->is_cut || self->seat->fate == COG_NCCL_LOST) leave(self);
    return NULL;
}

cog_status cog_nccl_serve(cog_transport *transport) {
    cog_nccl *state = transport->state;
    COG_CHECK(state->running && transport->self > 0, COG_ERR_TRANSPORT,
              "the transport 'nccl' is not running here as a worker");
    cog_nccl_link *self = &state->links[transport->self - 1];
    (void)cog_nccl_live(self);
    if (self->failure != COG_OK) COG_FAIL(self->failure, "%s", self->sentence);
    if (state->board.page->stopping) return COG_OK;
    COG_CHECK(!self->is_orphan, COG_ERR_TRANSPORT, "the server is gone");
    COG_FAIL(COG_ERR_TRANSPORT, "the server went on without worker %d", self->rank - 1);
}

/* --- what workers ask for --------------------------------------------------------------------- */

static cog_status working(const cog_transport *transport, int rank, cog_nccl_link **out) {
    const cog_nccl *state = transport->state;
    COG_CHECK(rank >= 1 && rank <= state->n_workers && state->links[rank - 1].handling.on,
              COG_ERR_ARGUMENT, "rank %d is not handling a frame", rank);
    *out = &state->links[rank - 1];
    return COG_OK;
}

static cog_status nap(void *user, double seconds, bool *over) {
    *over = is_called_off(user);
    if (!*over) cog_handling_nap(seconds);
    return COG_OK;
}

cog_status cog_nccl_elapse(cog_transport *transport, int rank, double flops, double factor,
                           double delay) {
    cog_nccl_link *self;
    COG_TRY(working(transport, rank, &self));
    return cog_handling_elapse(&self->handling, flops, factor, delay, nap, self);
}

cog_status cog_nccl_allreduce(cog_transport *transport, int rank, float *x, int64_t n, bool bf16) {
    cog_nccl_link *self;
    COG_TRY(working(transport, rank, &self));
    COG_CHECK(!self->handling.reducing, COG_ERR_ARGUMENT, "two all-reduces in one handler");
    COG_CHECK(n <= (int64_t)(self->worker.room / sizeof(float)), COG_ERR_ARGUMENT,
              "an all-reduce of %lld floats is larger than the %zu bytes that were agreed on",
              (long long)n, transport->max_payload);
    COG_TRY(cog_ring_offer(x, n, bf16, &self->part));
    self->handling.reducing = true;
    return COG_OK;
}
