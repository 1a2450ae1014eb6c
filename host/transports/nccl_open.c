/* nccl_open.c - communicators of all links, and that every connection has been used once.
 *
 * The first use of a connection waits for both of its ends; later ones do not. So that a server
 * never waits for a worker that computes, all connections are used here, in one group. */
#include "nccl_link.h"

#include <time.h>

#include "../check.h"
#include "../mailbox.h"

enum { START_SECONDS = 120, NAP_NS = 5000000 };

#define NCCL_TRY(end, function, ...) \
    COG_TRY(cog_nccl_check((end), function(__VA_ARGS__), #function))

cog_status cog_nccl_check_gpus(int n_workers) {
    int n_gpus = 0;
    const cudaError_t error = cudaGetDeviceCount(&n_gpus);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        n_gpus = 0;
    }
    COG_CHECK(n_gpus > n_workers, COG_ERR_DEVICE,
              "the transport 'nccl' needs a GPU for the server and one for each worker, %d for %d "
              "workers; %d can be used%s%s",
              n_workers + 1, n_workers, n_gpus, error != cudaSuccess ? ": " : "",
              error != cudaSuccess ? cudaGetErrorString(error) : "");
    return COG_OK;
}

/* Rank r's GPU is number r. Ends that are not of this process stay zeros. */
static cog_status open_ends(cog_nccl *state, size_t max_payload) {
    const int self = state->board.rank;
    state->n_ends = 0;
    for (int i = 0; i < state->n_workers; i++) {
        cog_nccl_link *link = &state->links[i];
        if (self <= 0) {
            state->ends[state->n_ends++] = &link->server;
            COG_TRY(cog_nccl_open(&link->server, 0, 1, max_payload));
        }
        if (self >= 0 && self != link->rank) continue;
        state->ends[state->n_ends++] = &link->worker;
        state->ends[state->n_ends++] = &link->ring;
        COG_TRY(cog_nccl_open(&link->worker, link->rank, 0, max_payload));
        COG_TRY(cog_nccl_open(&link->ring, link->rank, -1, 0));
    }
    return COG_OK;
}

static cog_status join_all(cog_nccl *state) {
    const cog_nccl_page *page = state->board.page;
    for (int i = 0; i < state->n_workers; i++) {
        cog_nccl_link *link = &state->links[i];
        if (link->server.stream != NULL)
            COG_TRY(cog_nccl_join(&link->server, 2, link->seat->pair, 0));
        if (link->worker.stream == NULL) continue;
        COG_TRY(cog_nccl_join(&link->worker, 2, link->seat->pair, 1));
        COG_TRY(cog_nccl_join(&link->ring, state->n_workers, page->ring, i));
    }
    return COG_OK;
}

/* Both ways. It comes last: when the server is through, so are all workers with all before. */
static cog_status greet(cog_nccl *state) {
    for (int i = 0; i < state->n_ends; i++) {
        cog_nccl_end *end = state->ends[i];
        if (end->peer < 0) continue;
        COG_TRY(cog_nccl_check_cuda(end->gpu, cudaSetDevice(end->gpu), "cudaSetDevice"));
        COG_TRY(cog_nccl_check_cuda(end->gpu,
                                    cudaMemcpyAsync(end->gpu_out, end->out, COG_NCCL_FIRST,
                                                    cudaMemcpyHostToDevice, end->stream),
                                    "cudaMemcpyAsync"));
        NCCL_TRY(end, ncclSend, end->gpu_out, COG_NCCL_FIRST, ncclUint8, end->peer, end->comm,
                 end->stream);
        NCCL_TRY(end, ncclRecv, end->gpu_in, COG_NCCL_FIRST, ncclUint8, end->peer, end->comm,
                 end->stream);
    }
    return COG_OK;
}

static cog_status sum_once(cog_nccl *state) {
    for (int i = 0; i < state->n_workers; i++) {
        cog_nccl_link *link = &state->links[i];
        const int gpu = link->ring.gpu;
        float *x = link->worker.gpu_in;
        if (link->ring.stream == NULL) continue;
        COG_TRY(cog_nccl_check_cuda(gpu, cudaSetDevice(gpu), "cudaSetDevice"));
        COG_TRY(cog_nccl_check_cuda(gpu,
                                    cudaMemcpyAsync(x, link->worker.in, sizeof(*x),
                                                    cudaMemcpyHostToDevice, link->ring.stream),
                                    "cudaMemcpyAsync"));
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

/* Until every rank has asked for its communicators: before that none can be had, and NCCL need not
 * be asked. With a process a worker; a single one has asked for all. */
static cog_status meet(cog_nccl *state, const cog_nccl_patience *patience) {
    atomic_int *n_joined = &state->board.page->n_joined;
    if (state->board.rank < 0) return COG_OK;
    atomic_fetch_add(n_joined, 1);
    for (int64_t turn = 0; atomic_load(n_joined) <= state->n_workers; turn++)
        COG_TRY(cog_nccl_be_patient(patience, turn));
    return COG_OK;
}

/* One thread does it for all ranks of this process, which takes a group. */
static cog_status in_a_group(cog_nccl *state, cog_status (*calls)(cog_nccl *state),
                             const cog_nccl_patience *patience) {
    NCCL_TRY(state->ends[0], ncclGroupStart);
    const cog_status status = calls(state);
    const ncclResult_t result = ncclGroupEnd();
    COG_TRY(status);
    COG_TRY(cog_nccl_check(state->ends[0], result, "ncclGroupEnd"));
    if (calls == join_all) COG_TRY(meet(state, patience));
    return finish(state, patience);
}

/* In the server's process: have its ends of LOST links aborted, as a kernel that waits for ever
 * would be in the way of others. It may take a while, which is not the server's. */
static void *bury(void *transport_state) {
    cog_nccl *state = transport_state;
    const struct timespec nap = {.tv_nsec = NAP_NS};
    while (!state->board.page->stopping) {
        for (int i = 0; i < state->n_workers; i++) {
            cog_nccl_end *const end = &state->links[i].server;
            if (state->links[i].seat->fate == COG_NCCL_LOST && end->comm != NULL)
                cog_nccl_abort(&end, 1);
        }
        nanosleep(&nap, NULL);
    }
    return NULL;
}

static cog_status come_to_the_board(cog_nccl *state, size_t max_payload, double deadline) {
    cog_nccl_board *board = &state->board;
    COG_TRY(board->rank <= 0 ? cog_nccl_board_make(board, state->n_workers, max_payload)
                             : cog_nccl_board_find(board, state->n_workers, max_payload, deadline));
    for (int i = 0; i < state->n_workers; i++) state->links[i].seat = &board->page->seats[i];
    return COG_OK;
}

cog_status cog_nccl_connect(cog_nccl *state, size_t max_payload) {
    const cog_nccl_patience patience = {.deadline = cog_clock_seconds() + START_SECONDS};
    COG_TRY(come_to_the_board(state, max_payload, patience.deadline));
    COG_TRY(open_ends(state, max_payload));
    cog_status status = in_a_group(state, join_all, &patience);
    if (status == COG_OK) status = in_a_group(state, sum_once, &patience);
    if (status == COG_OK) status = in_a_group(state, greet, &patience);
    COG_CHECK(status != COG_ERR_TIMEOUT, COG_ERR_TRANSPORT,
              "the server and %d workers did not find each other within %d s", state->n_workers,
              START_SECONDS);
    COG_TRY(status);
    if (state->board.rank != 0) return COG_OK;
    state->buries = pthread_create(&state->burial, NULL, bury, state) == 0;
    COG_CHECK(state->buries, COG_ERR_MEMORY, "no thread for workers that will be lost");
    return COG_OK;
}

void cog_nccl_disconnect(cog_nccl *state) {
    if (state->buries) pthread_join(state->burial, NULL);
    state->buries = false;
    if (state->ends == NULL) return;
    cog_nccl_abort(state->ends, state->n_ends);
    for (int i = 0; i < state->n_ends; i++) cog_nccl_close(state->ends[i]);
    cog_nccl_board_close(&state->board);
}
