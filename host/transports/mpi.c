/* mpi.c - one process a rank, started together by mpirun: the fast way, which forgives no fault.
 *
 *   ring=0   1: all-reduces are made of sends around a ring, with the bits of the transport 'sim'
 *
 *     server                                worker
 *       send    MPI_Isend of a copy  ---->    probe, receive into place, handle
 *               or of a header       ---->    probe, PULL (mpi_post.h)
 *       receive probe anybody        <----    MPI_Send from where the message lies
 *       READY from every worker      <----    allreduce asked for
 *       GO to every worker           ---->    MPI_Allreduce among the workers, handle(REDUCED)
 *
 * The vectors are summed by MPI_Allreduce in fp32. MPI knows no bf16, and a user's operation on
 * pairs would round inputs that a ring does not: bf16 always goes around the ring. The server lets
 * workers into an all-reduce when all have asked, so nobody is ever stuck in one: a stop finds them
 * before, or ends after it. READY and GO cost two small messages.
 *
 * Stopping: STOP overtakes on a tag of its own and cuts delays short; END is the last frame in
 * order; workers answer BYE, and the server reads until all have. MPI is begun by the first open
 * and ended with the process, as it can be begun once; a process that fails leaves without ending
 * it, upon which mpirun ends the others.
 *
 * What a worker's process does between its start and its stop: mpi_worker.c. */
#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../check.h"
#include "../mailbox.h"
#include "mpi_worker.h"

enum {
    LAST_WORDS_SECONDS = 2,
    STOP_SECONDS = 30, /* after that the server no longer waits for a worker to say BYE */
};

/* --- open ------------------------------------------------------------------------------------- */

/* mpirun ends all ranks when one fails, so the one that has the words, the server, goes first. */
static void end_mpi(int exit_status, void *unused) {
    (void)unused;
    int ended, rank;
    MPI_Finalized(&ended);
    if (ended) return;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (exit_status == 0)
        MPI_Finalize();
    else if (rank > 0)
        sleep(LAST_WORDS_SECONDS);
}

static bool started_by_mpirun(void) {
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMI_SIZE") != NULL ||
           getenv("PMIX_RANK") != NULL;
}

static cog_status begin_mpi(void) {
    int begun, level;
    MPI_Initialized(&begun);
    if (begun) return COG_OK; /* by an earlier open, or by the program, who then also ends it */
    COG_CHECK(started_by_mpirun(), COG_ERR_TRANSPORT,
              "the transport 'mpi' needs a rank for the server and one for each worker: mpirun -n "
              "9 for 8 workers");
    COG_TRY(cog_mpi_check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), "MPI_Init"));
    on_exit(end_mpi, NULL);
    return COG_OK;
}

static cog_status open_mpi(cog_transport *transport, cog_spec *spec) {
    cog_mpi *state = calloc(1, sizeof(*state));
    COG_CHECK(state != NULL, COG_ERR_MEMORY, "no memory for the transport 'mpi'");
    state->workers = MPI_COMM_NULL;
    transport->state = state;
    COG_TRY(cog_spec_flag(spec, "ring", false, &state->ring));
    COG_TRY(begin_mpi());
    MPI_Comm_rank(MPI_COMM_WORLD, &transport->self);
    return cog_mpi_post_open(&state->post);
}

/* --- frames out ------------------------------------------------------------------------------- */

static cog_status send_control(cog_mpi *state, int kind, int to, int tag) {
    const cog_frame_header header = cog_frame_make((cog_frame_kind)kind, 0, 0);
    return cog_mpi_send_copy(&state->post, to, tag, &header, NULL);
}

static cog_status send(cog_transport *transport, int from, int to, const cog_frame_header *header,
                       const void *payload) {
    cog_mpi *state = transport->state;
    COG_TRY(cog_transport_check(transport, from, to, header, payload));
    COG_CHECK(state->running, COG_ERR_TRANSPORT, "the transport 'mpi' is not running");
    COG_CHECK(from == transport->self, COG_ERR_ARGUMENT, "rank %d cannot send as rank %d",
              transport->self, from);
    if (from != 0) return cog_mpi_send_up(&state->post, header, payload);
    transport->bytes_down += cog_frame_bytes(header);
    state->post.edition = transport->edition;
    if (transport->edition != 0) return cog_mpi_lend(&state->post, to, header, payload);
    return cog_mpi_send_copy(&state->post, to, COG_MPI_FRAME, header, payload);
}

/* --- all-reduce, the server's part ------------------------------------------------------------ */

/* All are ready: let them go, or tell them why not. */
static cog_status let_go(cog_transport *transport) {
    cog_mpi *state = transport->state;
    const cog_ring_part *part = &state->parts[0];
    const int64_t bytes = cog_ring_bytes(transport->n_workers, part->n, part->bf16);
    cog_frame_header header = cog_frame_make((cog_frame_kind)COG_MPI_GO, 0, 0);
    const cog_status agreed = cog_ring_check(state->parts, transport->n_workers);
    const char *sentence = agreed != COG_OK ? cog_last_error() : "";
    header.message = agreed;
    header.bytes = strlen(sentence);
    state->n_ready = 0;
    for (int rank = 1; rank <= transport->n_workers; rank++)
        COG_TRY(cog_mpi_send_copy(&state->post, rank, COG_MPI_CONTROL, &header, sentence));
    if (agreed == COG_OK) {
        transport->bytes_up += bytes;
        transport->bytes_down += bytes;
    }
    return COG_OK;
}

static cog_status take_ready(cog_transport *transport, const cog_frame_header *header) {
    cog_mpi *state = transport->state;
    state->parts[header->source - 1] =
        (cog_ring_part){.n = header->round, .bf16 = header->mode != 0};
    return ++state->n_ready < transport->n_workers ? COG_OK : let_go(transport);
}

static cog_status receive(cog_transport *transport, double timeout, cog_frame *out) {
    cog_mpi *state = transport->state;
    COG_CHECK(state->running && transport->self == 0, COG_ERR_TRANSPORT,
              "the transport 'mpi' is not running here as a server");
    const double deadline = cog_clock_seconds() + timeout;
    do {
        cog_parcel_give(&state->post.pool, state->borrowed);
        state->borrowed = NULL;
        COG_TRY(cog_mpi_wait(&state->post, false, deadline, &state->borrowed));
        COG_CHECK(state->borrowed != NULL, COG_ERR_TIMEOUT, "no worker sent anything for %g s",
                  timeout);
        if (state->borrowed->frame.header.kind != COG_MPI_READY) break;
        COG_TRY(take_ready(transport, &state->borrowed->frame.header));
    } while (true);
    const cog_frame *frame = &state->borrowed->frame;
    transport->bytes_up += cog_frame_bytes(&frame->header);
    if (frame->header.kind == COG_FRAME_FAULT) return cog_frame_fault_status(frame);
    *out = *frame;
    return COG_OK;
}

/* --- start and stop --------------------------------------------------------------------------- */

/* Frames are read off until every worker has said BYE: after that nothing is under way. */
static void dismiss_workers(cog_transport *transport) {
    cog_mpi *state = transport->state;
    const double deadline = cog_clock_seconds() + STOP_SECONDS;
    bool ok = true;
    for (int rank = 1; ok && rank <= transport->n_workers; rank++)
        ok = send_control(state, COG_MPI_STOP, rank, COG_MPI_CONTROL) == COG_OK &&
             send_control(state, COG_MPI_END, rank, COG_MPI_FRAME) == COG_OK;
    for (int n_left = transport->n_workers; ok && n_left > 0;) {
        cog_parcel *parcel = NULL;
        ok = cog_mpi_wait(&state->post, false, deadline, &parcel) == COG_OK && parcel != NULL;
        n_left -= ok && parcel->frame.header.kind == COG_MPI_BYE;
        cog_parcel_give(&state->post.pool, parcel);
    }
    if (ok) (void)cog_mpi_flush(&state->post);
}

static void free_comms(cog_mpi *state) {
    if (state->workers != MPI_COMM_NULL) MPI_Comm_free(&state->workers);
    if (state->post.comm != MPI_COMM_NULL) MPI_Comm_free(&state->post.comm);
}

static void stop(cog_transport *transport) {
    cog_mpi *state = transport->state;
    if (state->running && transport->self == 0) dismiss_workers(transport);
    cog_parcel_give(&state->post.pool, state->borrowed);
    cog_mpi_forget(&state->post); /* what workers that do not answer have not taken */
    if (state->running) free_comms(state);
    free(state->parts);
    state->borrowed = NULL;
    state->parts = NULL;
    state->n_ready = 0;
    state->running = state->stopping = state->handling.reducing = false;
}

static void close_mpi(cog_transport *transport) {
    cog_mpi *state = transport->state;
    if (state == NULL) return;
    stop(transport);
    cog_mpi_post_close(&state->post);
    cog_mpi_ring_free(&state->buffers);
    free(state);
    transport->state = NULL;
}

static cog_status start_all(cog_transport *transport) {
    cog_mpi *state = transport->state;
    const int self = transport->self;
    state->parts = calloc((size_t)transport->n_workers, sizeof(*state->parts));
    free(state->post.loans);
    state->post.loans = calloc((size_t)transport->n_workers + 1, sizeof(*state->post.loans));
    state->post.n_loans = transport->n_workers + 1;
    COG_CHECK(state->parts != NULL && state->post.loans != NULL, COG_ERR_MEMORY,
              "no memory for %d workers", transport->n_workers);
    COG_TRY(cog_mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &state->post.comm), "MPI_Comm_dup"));
    MPI_Comm_set_errhandler(state->post.comm, MPI_ERRORS_RETURN);
    return cog_mpi_check(
        MPI_Comm_split(state->post.comm, self > 0 ? 0 : MPI_UNDEFINED, self, &state->workers),
        "MPI_Comm_split");
}

/* Everybody's start waits for everybody's. */
static cog_status start(cog_transport *transport) {
    cog_mpi *state = transport->state;
    COG_CHECK(!state->running, COG_ERR_ARGUMENT, "the transport 'mpi' is running already");
    COG_TRY(cog_transport_check_start(transport));
    int size;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    COG_CHECK(size == transport->n_workers + 1, COG_ERR_ARGUMENT,
              "a server and %d workers are %d ranks, and mpirun started %d", transport->n_workers,
              transport->n_workers + 1, size);
    COG_CHECK(transport->max_payload <= INT_MAX, COG_ERR_UNSUPPORTED,
              "MPI sends up to %d bytes at once, and frames may take %zu", INT_MAX,
              transport->max_payload);
    state->post.max_payload = transport->max_payload;
    state->post.is_server = transport->self == 0;
    const cog_status status = start_all(transport);
    state->running = status == COG_OK;
    state->started = cog_clock_seconds();
    if (status != COG_OK) stop(transport);
    return status;
}

static cog_status settle(cog_transport *transport) {
    cog_mpi *state = transport->state;
    return state->running ? cog_mpi_settle(&state->post) : COG_OK;
}

static double now(cog_transport *transport) {
    const cog_mpi *state = transport->state;
    return state->running ? cog_clock_seconds() - state->started : 0;
}

const cog_transport_ops cog_transport_mpi = {
    .name = "mpi",
    .summary = "one process a rank, started by mpirun -n WORKERS+1",
    .open = open_mpi,
    .close = close_mpi,
    .start = start,
    .stop = stop,
    .serve = cog_mpi_serve,
    .send = send,
    .receive = receive,
    .elapse = cog_mpi_elapse,
    .allreduce = cog_mpi_allreduce,
    .now = now,
    .settle = settle,
};
