/* nccl.c - one GPU a rank, and NCCL between them; one thread a worker in this process, or one
 * process.
 *
 *   meet=FILE    the ranks are processes of this machine, which find each other there
 *   rank=0       of this process, with meet; 0 is the server
 *   timeout=30   seconds that a worker may take for an answer, or the workers for an all-reduce,
 *                before it counts as gone: more than the slowest round takes
 *
 * NCCL has no receive from anybody, and a receive that waits holds what is behind it. So every
 * worker has a communicator of two ranks and a stream with the server, on which they take turns
 * (nccl_link.h); the server looks which stream's event has come. The all-reduce is NCCL's, over a
 * communicator of all workers, in whatever order NCCL adds: the same on all ranks, not that of
 * ring.h. READY and GO around it are those of the transport 'mpi'.
 *
 *     rank r: GPU r of those that are visible; the server is rank 0
 *
 * Payloads lie in host memory and are staged (nccl_end.h). A worker that gives no answer in time,
 * or whose communicator fails, is LOST. Communicators are never finalised: stop aborts them all, in
 * one group, whatever they do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../check.h"
#include "../frame.h"
#include "../mailbox.h"
#include "nccl_link.h"

static const double last_words_seconds = 0.1;

/* --- open ------------------------------------------------------------------------------------- */

static cog_status open_nccl(cog_transport *transport, cog_spec *spec) {
    double timeout;
    const char *path;
    int64_t rank = -1;
    COG_TRY(cog_spec_real(spec, "timeout", 30, 0.01, 1e6, &timeout));
    COG_TRY(cog_spec_text(spec, "meet", NULL, &path));
    if (path != NULL) COG_TRY(cog_spec_int(spec, "rank", 0, 0, transport->n_workers, &rank));
    COG_CHECK(path == NULL || strlen(path) < sizeof(((cog_nccl_board *)0)->path), COG_ERR_SPEC,
              "meet=%s is too long a name", path);
    COG_TRY(cog_nccl_check_gpus(transport->n_workers));
    cog_nccl *state = calloc(1, sizeof(*state));
    COG_CHECK(state != NULL, COG_ERR_MEMORY, "no memory for the transport 'nccl'");
    state->timeout = timeout;
    state->board = (cog_nccl_board){.rank = (int)rank, .file = -1};
    snprintf(state->board.path, sizeof(state->board.path), "%s", path != NULL ? path : "");
    transport->state = state;
    transport->self = (int)rank;
    transport->gpu_a_rank = true;
    return cog_parcel_pool_open(&state->pool);
}

/* --- the server's end of a link --------------------------------------------------------------- */

static bool is_there(const cog_nccl_link *link) {
    return link->seat->fate != COG_NCCL_LOST && !link->told;
}

/* From here on both ends are the worker's thread's. */
static void lose(cog_nccl *state, cog_nccl_link *link, const char *why) {
    snprintf(link->why, sizeof(link->why), "%s", why);
    cog_parcel_give_all(&state->pool, &link->queue);
    link->seat->fate = COG_NCCL_LOST;
}

static void lose_by_error(cog_nccl *state, cog_nccl_link *link) {
    char why[sizeof(link->why)];
    snprintf(why, sizeof(why), "is gone: %s", cog_last_error());
    lose(state, link, why);
}

static cog_nccl_patience patience_of(const cog_nccl_link *link) {
    return (cog_nccl_patience){.deadline = link->deadline};
}

/* Wait for what comes next: its beginning, or the rest of it. */
static cog_status await(cog_nccl *state, cog_nccl_link *link, cog_nccl_turn turn, size_t bytes) {
    const size_t at = turn == COG_NCCL_HEAD ? 0 : COG_NCCL_FIRST;
    link->turn = turn;
    link->deadline = cog_clock_seconds() + state->timeout;
    const cog_nccl_patience patience = patience_of(link);
    return cog_nccl_receive(&link->server, at, bytes, &patience);
}

static cog_status send_and_await(cog_nccl *state, cog_nccl_link *link,
                                 const cog_frame_header *header, const void *payload) {
    link->deadline = cog_clock_seconds() + state->timeout;
    const cog_nccl_patience patience = patience_of(link);
    cog_nccl_fill(&link->server, header, payload);
    COG_TRY(cog_nccl_send(&link->server, &patience));
    return await(state, link, COG_NCCL_HEAD, COG_NCCL_FIRST);
}

/* It is the server's turn. What fails here is told by the next receive. */
static void launch(cog_nccl *state, cog_nccl_link *link, const cog_frame_header *header,
                   const void *payload) {
    if (send_and_await(state, link, header, payload) != COG_OK) lose_by_error(state, link);
}

/* The worker has spoken: it goes on, or the server does. */
static void go_on(cog_nccl *state, cog_nccl_link *link) {
    link->turn = COG_NCCL_SERVER;
    if (link->header.checksum == COG_NCCL_MORE) {
        if (await(state, link, COG_NCCL_HEAD, COG_NCCL_FIRST) != COG_OK) lose_by_error(state, link);
    } else if (!link->summing && link->queue.first != NULL) {
        cog_parcel *parcel = cog_parcel_pop(&link->queue);
        launch(state, link, &parcel->frame.header, parcel->frame.payload);
        cog_parcel_give(&state->pool, parcel);
    }
}

/* --- all-reduce, the server's part ------------------------------------------------------------ */

/* All are ready: let them go, or tell them why not. */
static void let_go(cog_transport *transport) {
    cog_nccl *state = transport->state;
    const cog_ring_part *part = &state->parts[0];
    cog_frame_header header = cog_frame_make((cog_frame_kind)COG_NCCL_GO, 0, 0);
    const cog_status agreed = cog_ring_check(state->parts, state->n_workers);
    const char *sentence = agreed != COG_OK ? cog_last_error() : "";
    const int64_t bytes =
        agreed == COG_OK ? cog_ring_bytes(state->n_workers, part->n, part->bf16) : 0;
    char copy[512];
    snprintf(copy, sizeof(copy), "%s", sentence);
    header.message = agreed;
    header.bytes = strlen(copy);
    state->n_ready = 0;
    for (int i = 0; i < state->n_workers; i++) {
        cog_nccl_link *link = &state->links[i];
        link->summing = false;
        if (!is_there(link)) continue;
        launch(state, link, &header, copy);
        link->deadline += state->timeout; /* the sum has a time of its own */
    }
    transport->bytes_up += bytes;
    transport->bytes_down += bytes;
}

static void take_ready(cog_transport *transport, cog_nccl_link *link) {
    cog_nccl *state = transport->state;
    state->parts[link->rank - 1] =
        (cog_ring_part){.n = link->header.round, .bf16 = link->header.mode != 0};
    link->turn = COG_NCCL_SERVER;
    link->summing = true;
    if (++state->n_ready == state->n_workers) let_go(transport);
}

/* --- frames in -------------------------------------------------------------------------------- */

/* The first part is there: is it all? */
static cog_status take_head(cog_nccl *state, cog_nccl_link *link, bool *whole) {
    const size_t most = link->server.room - COG_FRAME_HEADER_BYTES;
    COG_TRY(cog_frame_read(link->server.in, COG_FRAME_HEADER_BYTES, most, &link->header));
    COG_CHECK(link->header.source == link->rank, COG_ERR_FORMAT, "a frame names rank %d",
              (int)link->header.source);
    const size_t bytes = COG_FRAME_HEADER_BYTES + link->header.bytes;
    *whole = bytes <= COG_NCCL_FIRST;
    return *whole ? COG_OK : await(state, link, COG_NCCL_REST, bytes - COG_NCCL_FIRST);
}

/* *whole: a frame is there. */
static cog_status take_part(cog_nccl *state, cog_nccl_link *link, bool *whole) {
    bool done;
    COG_TRY(cog_nccl_look(&link->server, &done));
    if (done && link->turn == COG_NCCL_HEAD) return take_head(state, link, whole);
    *whole = done;
    return COG_OK;
}

/* Does its process live? What one that has gone said last may still be on its way. */
static void look_for_process(cog_nccl *state, cog_nccl_link *link) {
    const double now = cog_clock_seconds();
    if (!cog_nccl_is_spread(state) || now < link->looked + cog_nccl_look_seconds) return;
    link->looked = now;
    if (link->left == 0 && !cog_nccl_board_has(&state->board, link->rank)) link->left = now;
}

/* A worker that says nothing: does it live, and is there time? */
static void check_silence(cog_nccl *state, cog_nccl_link *link) {
    char why[64] = "is gone";
    look_for_process(state, link);
    const bool waits = link->turn != COG_NCCL_SERVER, has_left = link->left > 0;
    const double deadline = has_left ? link->left + last_words_seconds : link->deadline;
    if (waits ? cog_clock_seconds() <= deadline : !has_left) return;
    if (!has_left) snprintf(why, sizeof(why), "gave no answer for %g s", state->timeout);
    lose(state, link, why);
}

/* A whole frame: *found when it is for the caller. */
static void take_frame(cog_transport *transport, cog_nccl_link *link, bool *found) {
    if (link->header.kind == COG_NCCL_READY)
        take_ready(transport, link);
    else if (link->header.kind == COG_NCCL_TURN)
        go_on(transport->state, link);
    else
        *found = true;
}

/* Look after one link. What it said comes before what became of it. */
static void attend(cog_transport *transport, cog_nccl_link *link, bool *found) {
    cog_nccl *state = transport->state;
    const bool waits = link->turn != COG_NCCL_SERVER;
    bool whole = false;
    if (!is_there(link)) return;
    if (waits && take_part(state, link, &whole) != COG_OK)
        lose_by_error(state, link);
    else if (whole)
        take_frame(transport, link, found);
    else if (link->seat->fate == COG_NCCL_BROKEN)
        lose(state, link, link->seat->broken);
    else
        check_silence(state, link);
}

/* The frame that a link has for the caller. A worker that failed is not heard again. */
static cog_status hand_out(cog_transport *transport, cog_nccl_link *link, cog_frame *out) {
    cog_nccl *state = transport->state;
    cog_frame frame = {link->header, link->server.in + COG_FRAME_HEADER_BYTES};
    frame.header.checksum = 0;
    transport->bytes_up += cog_frame_bytes(&frame.header);
    if (frame.header.kind == COG_FRAME_FAULT) {
        link->told = true;
        cog_parcel_give_all(&state->pool, &link->queue);
        return cog_frame_fault_status(&frame);
    }
    state->lender = link;
    *out = frame;
    return COG_OK;
}

static bool find_lost(cog_nccl *state, cog_frame *out) {
    for (int i = 0; i < state->n_workers; i++) {
        cog_nccl_link *link = &state->links[i];
        if (link->seat->fate != COG_NCCL_LOST || link->told) continue;
        link->told = true;
        *out = (cog_frame){cog_frame_make(COG_FRAME_LOST, link->rank, 0), link->why};
        out->header.bytes = strlen(link->why);
        return true;
    }
    return false;
}

/* What the caller had may be written over. */
static void take_back(cog_nccl *state) {
    if (state->lender != NULL && is_there(state->lender)) go_on(state, state->lender);
    state->lender = NULL;
}

static cog_status receive(cog_transport *transport, double timeout, cog_frame *out) {
    cog_nccl *state = transport->state;
    COG_CHECK(state->running && transport->self <= 0, COG_ERR_TRANSPORT,
              "the transport 'nccl' is not running here as a server");
    const double deadline = cog_clock_seconds() + timeout;
    take_back(state);
    for (int64_t turn = 0;; turn++) {
        if (find_lost(state, out)) return COG_OK;
        for (int k = 0; k < state->n_workers; k++) { /* nobody is looked at first for ever */
            cog_nccl_link *link = &state->links[(state->next + k) % state->n_workers];
            bool found = false;
            attend(transport, link, &found);
            if (!found) continue;
            state->next = link->rank % state->n_workers;
            return hand_out(transport, link, out);
        }
        if (find_lost(state, out)) return COG_OK;
        COG_CHECK(cog_clock_seconds() < deadline, COG_ERR_TIMEOUT,
                  "no worker sent anything for %g s", timeout);
        cog_nccl_nap(turn);
    }
}

/* --- frames out ------------------------------------------------------------------------------- */

static cog_status send_down(cog_transport *transport, cog_nccl_link *link,
                            const cog_frame_header *header, const void *payload) {
    cog_nccl *state = transport->state;
    cog_parcel *parcel;
    transport->bytes_down += cog_frame_bytes(header);
    if (!is_there(link)) return COG_OK; /* the caller knows, or the next receive tells */
    if (link->turn == COG_NCCL_SERVER && !link->summing) {
        launch(state, link, header, payload);
        return COG_OK;
    }
    COG_TRY(cog_parcel_broadcast(&state->pool, transport->edition, header, payload, &parcel));
    cog_parcel_push(&link->queue, parcel);
    return COG_OK;
}

static cog_status send(cog_transport *transport, int from, int to, const cog_frame_header *header,
                       const void *payload) {
    cog_nccl *state = transport->state;
    COG_TRY(cog_transport_check(transport, from, to, header, payload));
    COG_CHECK(transport->self < 0 || from == transport->self, COG_ERR_ARGUMENT,
              "rank %d cannot send as rank %d", transport->self, from);
    if (from != 0) return cog_nccl_answer(&state->links[from - 1], header, payload);
    COG_CHECK(state->running, COG_ERR_TRANSPORT, "the transport 'nccl' is not running");
    return send_down(transport, &state->links[to - 1], header, payload);
}

/* --- start and stop --------------------------------------------------------------------------- */

static void stop(cog_transport *transport) {
    cog_nccl *state = transport->state;
    if (state->board.page != NULL && transport->self <= 0) state->board.page->stopping = true;
    for (int i = 0; state->links != NULL && i < state->n_workers; i++)
        if (state->links[i].running) pthread_join(state->links[i].thread, NULL);
    cog_nccl_disconnect(state);
    for (int i = 0; state->links != NULL && i < state->n_workers; i++)
        cog_parcel_give_all(&state->pool, &state->links[i].queue);
    free(state->links);
    free(state->ends);
    free(state->parts);
    state->links = NULL;
    state->ends = NULL;
    state->parts = NULL;
    state->lender = NULL;
    state->n_ready = state->next = 0;
    state->running = false;
}

static void close_nccl(cog_transport *transport) {
    cog_nccl *state = transport->state;
    if (state == NULL) return;
    stop(transport);
    cog_parcel_pool_close(&state->pool);
    free(state);
    transport->state = NULL;
}

static cog_status make_links(cog_transport *transport) {
    cog_nccl *state = transport->state;
    const int n = state->n_workers = transport->n_workers;
    state->links = calloc((size_t)n, sizeof(*state->links));
    state->ends = calloc(3 * (size_t)n, sizeof(*state->ends));
    state->parts = calloc((size_t)n, sizeof(*state->parts));
    COG_CHECK(state->links && state->ends && state->parts, COG_ERR_MEMORY,
              "no memory for %d workers", n);
    for (int i = 0; i < n; i++) {
        cog_nccl_link *link = &state->links[i];
        link->transport = transport;
        link->rank = i + 1;
    }
    return COG_OK;
}

static cog_status start_all(cog_transport *transport) {
    cog_nccl *state = transport->state;
    COG_TRY(make_links(transport));
    COG_TRY(cog_nccl_connect(state, transport->max_payload));
    state->started = cog_clock_seconds();
    for (int i = 0; i < state->n_workers; i++) {
        cog_nccl_link *link = &state->links[i];
        if (cog_nccl_is_spread(state)) break;
        link->running = pthread_create(&link->thread, NULL, cog_nccl_live, link) == 0;
        COG_CHECK(link->running, COG_ERR_MEMORY, "no thread for worker %d of %d", i,
                  state->n_workers);
    }
    state->running = true;
    return COG_OK;
}

static cog_status start(cog_transport *transport) {
    cog_nccl *state = transport->state;
    COG_CHECK(!state->running, COG_ERR_ARGUMENT, "the transport 'nccl' is running already");
    COG_TRY(cog_transport_check_start(transport));
    const cog_status status = start_all(transport);
    if (status != COG_OK) stop(transport);
    return status;
}

static double now(cog_transport *transport) {
    const cog_nccl *state = transport->state;
    return state->running ? cog_clock_seconds() - state->started : 0;
}

const cog_transport_ops cog_transport_nccl = {
    .name = "nccl",
    .summary = "one GPU a rank with NCCL between them, one thread or process a worker",
    .open = open_nccl,
    .close = close_nccl,
    .start = start,
    .stop = stop,
    .serve = cog_nccl_serve,
    .send = send,
    .receive = receive,
    .elapse = cog_nccl_elapse,
    .allreduce = cog_nccl_allreduce,
    .now = now,
};
