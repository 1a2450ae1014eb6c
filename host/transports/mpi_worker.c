/* mpi_worker.c - a worker's process: frames in their order, and what the worker asks for in them.
 */
#include "mpi_worker.h"

#include <limits.h>
#include <math.h>

#include "../check.h"

/* --- frames in -------------------------------------------------------------------------------- */

static cog_status sum(cog_mpi *state) {
    const cog_ring_part *part = &state->part;
    if (state->ring || part->bf16) return cog_mpi_ring_sum(state->workers, part, &state->buffers);
    return cog_mpi_check(
        MPI_Allreduce(MPI_IN_PLACE, part->x, (int)part->n, MPI_FLOAT, MPI_SUM, state->workers),
        "MPI_Allreduce");
}

static cog_status obey(cog_mpi *state, const cog_frame *frame, bool *done) {
    state->stopping = frame->header.kind == COG_MPI_STOP;
    if (state->stopping) return COG_OK;
    if (frame->header.message != COG_OK)
        COG_FAIL((cog_status)frame->header.message, "%.*s", (int)frame->header.bytes,
                 (const char *)frame->payload);
    *done = true;
    return sum(state);
}

/* *done says whether all took part; else the transport is being stopped. */
static cog_status reduce(void *user, bool *done) {
    cog_transport *transport = user;
    cog_mpi *state = transport->state;
    cog_frame_header ready = cog_frame_make((cog_frame_kind)COG_MPI_READY, transport->self, 0);
    ready.round = state->part.n;
    ready.mode = state->part.bf16;
    cog_parcel *answer = NULL;
    COG_TRY(cog_mpi_send_up(&state->post, &ready, NULL));
    COG_TRY(cog_mpi_wait(&state->post, true, INFINITY, &answer));
    const cog_status status = obey(state, &answer->frame, done);
    cog_parcel_give(&state->post.pool, answer);
    return status;
}

static cog_status tell_fault(cog_transport *transport, cog_status status) {
    cog_mpi *state = transport->state;
    cog_parcel *fault = cog_parcel_fault(&state->post.pool, transport->self, status);
    if (fault == NULL) return COG_OK;
    const cog_status sent =
        cog_mpi_send_up(&state->post, &fault->frame.header, fault->frame.payload);
    cog_parcel_give(&state->post.pool, fault);
    return sent;
}

/* One frame; *ended when it was the last. After a failure they are only counted off. */
static cog_status serve_one(cog_transport *transport, cog_status *worst, bool *ended) {
    cog_mpi *state = transport->state;
    cog_parcel *parcel = NULL;
    COG_TRY(cog_mpi_wait(&state->post, false, INFINITY, &parcel));
    const int kind = parcel->frame.header.kind;
    cog_status told = COG_OK;
    *ended = kind == COG_MPI_END;
    if (kind == COG_MPI_STOP) state->stopping = true;
    if (kind != COG_MPI_STOP && kind != COG_MPI_END && !state->stopping && *worst == COG_OK) {
        *worst = cog_handling_deliver(&state->handling, transport, transport->self, &parcel->frame,
                                      reduce, transport);
        if (*worst != COG_OK) told = tell_fault(transport, *worst);
    }
    cog_parcel_give(&state->post.pool, parcel);
    return told;
}

cog_status cog_mpi_serve(cog_transport *transport) {
    cog_mpi *state = transport->state;
    COG_CHECK(state->running && transport->self > 0, COG_ERR_TRANSPORT,
              "the transport 'mpi' is not running here as a worker");
    cog_status worst = COG_OK;
    for (bool ended = false; !ended;) COG_TRY(serve_one(transport, &worst, &ended));
    cog_parcel *stop = NULL; /* on its own tag it may still be on its way */
    if (!state->stopping) COG_TRY(cog_mpi_wait(&state->post, true, INFINITY, &stop));
    cog_parcel_give(&state->post.pool, stop);
    const cog_frame_header bye = cog_frame_make((cog_frame_kind)COG_MPI_BYE, transport->self, 0);
    COG_TRY(cog_mpi_send_up(&state->post, &bye, NULL));
    return worst;
}

/* --- what workers ask for --------------------------------------------------------------------- */

static cog_status check_handling(const cog_transport *transport, int rank) {
    const cog_mpi *state = transport->state;
    COG_CHECK(rank >= 1 && rank == transport->self && state->handling.on, COG_ERR_ARGUMENT,
              "rank %d is not handling a frame here", rank);
    return COG_OK;
}

/* Nothing but STOP can come on this tag while a worker computes. */
static cog_status nap(void *user, double seconds, bool *over) {
    const cog_mpi *state = user;
    int found = 0;
    MPI_Iprobe(0, COG_MPI_CONTROL, state->post.comm, &found, MPI_STATUS_IGNORE);
    *over = found;
    if (!found) cog_handling_nap(seconds);
    return COG_OK;
}

cog_status cog_mpi_elapse(cog_transport *transport, int rank, double flops, double factor,
                          double delay) {
    cog_mpi *state = transport->state;
    COG_TRY(check_handling(transport, rank));
    return cog_handling_elapse(&state->handling, flops, factor, delay, nap, state);
}

cog_status cog_mpi_allreduce(cog_transport *transport, int rank, float *x, int64_t n, bool bf16) {
    cog_mpi *state = transport->state;
    COG_TRY(check_handling(transport, rank));
    COG_CHECK(!state->handling.reducing, COG_ERR_ARGUMENT, "two all-reduces in one handler");
    COG_CHECK(n <= INT_MAX, COG_ERR_UNSUPPORTED, "MPI sums up to %d floats at once, not %lld",
              INT_MAX, (long long)n);
    COG_TRY(cog_ring_offer(x, n, bf16, &state->part));
    state->handling.reducing = true;
    return COG_OK;
}
