/* nccl_open.c - communicators of all links, and that every connection has been used once.
 *
 * The first use of a connection waits for both of its ends; later ones do not. So that a server
 * never waits for a worker that computes, all connections are used here, in one group. */
#include "nccl_link.h"

#include <math.h>
#include <stdlib.h>

#include "../check.h"
#include "../mailbox.h"

enum { START_SECONDS = 120 };

#define NCCL_TRY(end, function, ...) \
    COG_TRY(cog_nccl_check((end), function(__VA_ARGS__), #function))

static cog_status open_ends(cog_nccl *state, size_t max_payload) {
    for (int i = 0; i < state->n_workers; i++) {
        cog_nccl_link *link = &state->links[i];
        COG_TRY(cog_nccl_open(&link->server, 0, max_payload));
        COG_TRY(cog_nccl_open(&link->worker, link->rank, max_payload));
        COG_TRY(cog_nccl_open(&link->ring, link->rank, 0));
    }
    return COG_OK;
}

static cog_status new_id(ncclUniqueId *out) {
    const ncclResult_t result = ncclGetUniqueId(out);
    COG_CHECK(result == ncclSuccess, COG_ERR_TRANSPORT, "ncclGetUniqueId: %s",
              ncclGetErrorString(result));
    return COG_OK;
}

static cog_status join_all(cog_nccl *state) {
    ncclUniqueId ring, pair;
    COG_TRY(new_id(&ring));
    for (int i = 0; i < state->n_workers; i++) {
        cog_nccl_link *link = &state->links[i];
        COG_TRY(new_id(&pair));
        COG_TRY(cog_nccl_join(&link->server, 2, pair, 0));
        COG_TRY(cog_nccl_join(&link->worker, 2, pair, 1));
        COG_TRY(cog_nccl_join(&link->ring, state->n_workers, ring, i));
    }
    return COG_OK;
}

/* Both ways. */
static cog_status greet(cog_nccl *state) {
    for (int i = 0; i < state->n_ends; i++) {
        cog_nccl_end *end = state->ends[i];
        const int peer = i % 3 == 0 ? 1 : 0; /* server's, worker's, ring */
        if (end->room == 0) continue;
        COG_TRY(cog_nccl_check_cuda(end->gpu, cudaSetDevice(end->gpu), "cudaSetDevice"));
        COG_TRY(cog_nccl_check_cuda(end->gpu,
                                    cudaMemcpyAsync(end->gpu_out, end->out, COG_NCCL_FIRST,
                                                    cudaMemcpyHostToDevice, end->stream),
                                    "cudaMemcpyAsync"));
        NCCL_TRY(end, ncclSend, end->gpu_out, COG_NCCL_FIRST, ncclUint8, peer, end->comm,
                 end->stream);
        NCCL_TRY(end, ncclRecv, end->gpu_in, COG_NCCL_FIRST, ncclUint8, peer, end->comm,
                 end->stream);
    }
    return COG_OK;
}

static cog_status sum_once(cog_nccl *state) {
    for (int i = 0; i < state->n_workers; i++) {
        cog_nccl_link *link = &state->links[i];
        float *x = link->worker.gpu_in;
        NCCL_TRY(&link->ring, ncclAllReduce, x, x, 1, ncclFloat, ncclSum, link->ring.comm,
                 link->ring.stream);
    }
    return COG_OK;
}

/* Until all calls are on their streams, and done. */
static cog_status finish(cog_nccl *state, const cog_nccl_patience *patience) {
    for (int i = 0; i < state->n_ends; i++) COG_TRY(cog_nccl_settle(state->ends[i], patience));
    for (int i = 0; i < state->n_ends; i++) {
        cog_nccl_end *end = state->ends[i];
        COG_TRY(cog_nccl_check_cuda(end->gpu, cudaSetDevice(end->gpu), "cudaSetDevice"));
        COG_TRY(cog_nccl_check_cuda(end->gpu, cudaEventRecord(end->event, end->stream),
                                    "cudaEventRecord"));
        COG_TRY(cog_nccl_wait(end, patience));
    }
    return COG_OK;
}

/* One thread does it for all ranks, which takes a group. */
static cog_status in_a_group(cog_nccl *state, cog_status (*calls)(cog_nccl *state),
                             const cog_nccl_patience *patience) {
    NCCL_TRY(state->ends[0], ncclGroupStart);
    const cog_status status = calls(state);
    const ncclResult_t result = ncclGroupEnd();
    COG_TRY(status);
    COG_TRY(cog_nccl_check(state->ends[0], result, "ncclGroupEnd"));
    return finish(state, patience);
}

cog_status cog_nccl_connect(cog_nccl *state, size_t max_payload) {
    const cog_nccl_patience patience = {.deadline = cog_clock_seconds() + START_SECONDS};
    COG_TRY(open_ends(state, max_payload));
    cog_status status = in_a_group(state, join_all, &patience);
    if (status == COG_OK) status = in_a_group(state, greet, &patience);
    if (status == COG_OK) status = in_a_group(state, sum_once, &patience);
    COG_CHECK(status != COG_ERR_TIMEOUT, COG_ERR_TRANSPORT,
              "the %d GPUs did not find each other within %d s", state->n_workers + 1,
              START_SECONDS);
    return status;
}

void cog_nccl_disconnect(cog_nccl *state) {
    if (state->ends == NULL) return;
    cog_nccl_abort(state->ends, state->n_ends);
    for (int i = 0; i < state->n_ends; i++) cog_nccl_close(state->ends[i]);
}
