/* mpi.c - one process a rank, started together by mpirun: the fast way that no fault is forgiven.
 *
 *   ring=0   1: all-reduces are made of sends around a ring, with the bits of the transport 'sim'
 *
 *     server                                worker
 *       send    MPI_Isend of a copy  ---->    probe, receive into place, handle
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
 * it, upon which mpirun ends the others. */
#include <limits.h>
#include <math.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../check.h"
#include "../mailbox.h"
#include "mpi_post.h"
#include "mpi_ring.h"

enum { READY = COG_FRAME_PRIVATE, GO, STOP, END, BYE };

enum {
    LAST_WORDS_SECONDS = 2,
    STOP_SECONDS = 30, /* after that the server no longer waits for a worker to say BYE */
};

typedef struct mpi {
    MPI_Comm workers; /* everybody but the server */
    bool ring;
    bool running;
    double started;
    cog_mpi_post post;    /* everybody's */
    cog_parcel *borrowed; /* what the last receive handed out */
    /* server */
    cog_ring_part *parts; /* [n_workers] what those who are ready would sum */
    int n_ready;
    /* worker */
    cog_mpi_ring buffers;
    cog_ring_part part; /* what it would sum */
    bool handling, reducing, stopping;
    double mark; /* seconds when the handler, or the last elapse in it, began or ended */
} mpi;

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
    mpi *state = calloc(1, sizeof(*state));
    COG_CHECK(state != NULL, COG_ERR_MEMORY, "no memory for the transport 'mpi'");
    state->workers = MPI_COMM_NULL;
    transport->state = state;
    COG_TRY(cog_spec_flag(spec, "ring", false, &state->ring));
    COG_TRY(begin_mpi());
    MPI_Comm_rank(MPI_COMM_WORLD, &transport->self);
    return cog_mpi_post_open(&state->post);
}

/* --- frames out ------------------------------------------------------------------------------- */

static cog_status send_control(mpi *state, int kind, int to, int tag) {
    const cog_frame_header header = cog_frame_make((cog_frame_kind)kind, 0, 0);
    return cog_mpi_send_copy(&state->post, to, tag, &header, NULL);
}

static cog_status send(cog_transport *transport, int from, int to, const cog_frame_header *header,
                       const void *payload) {
    mpi *state = transport->state;
    COG_TRY(cog_transport_check(transport, from, to, header, payload));
    COG_CHECK(state->running, COG_ERR_TRANSPORT, "the transport 'mpi' is not running");
    COG_CHECK(from == transport->self, COG_ERR_ARGUMENT, "rank %d cannot send as rank %d",
              transport->self, from);
    if (from != 0) return cog_mpi_send_up(&state->post, header, payload);
    transport->bytes_down += cog_frame_bytes(header);
    return cog_mpi_send_copy(&state->post, to, COG_MPI_FRAME, header, payload);
}

/* --- all-reduce, the server's part ------------------------------------------------------------ */

/* All are ready: let them go, or tell them why not. */
static cog_status let_go(cog_transport *transport) {
    mpi *state = transport->state;
    const cog_ring_part *part = &state->parts[0];
    const int64_t bytes = cog_ring_bytes(transport->n_workers, part->n, part->bf16);
    cog_frame_header header = cog_frame_make((cog_frame_kind)GO, 0, 0);
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
    mpi *state = transport->state;
    state->parts[header->source - 1] =
        (cog_ring_part){.n = header->round, .bf16 = header->mode != 0};
    return ++state->n_ready < transport->n_workers ? COG_OK : let_go(transport);
}

static cog_status receive(cog_transport *transport, double timeout, cog_frame *out) {
    mpi *state = transport->state;
    COG_CHECK(state->running && transport->self == 0, COG_ERR_TRANSPORT,
              "the transport 'mpi' is not running here as a server");
    cog_parcel_give(&state->post.pool, state->borrowed);
    state->borrowed = NULL;
    const double deadline = cog_clock_seconds() + timeout;
    do {
        cog_parcel_give(&state->post.pool, state->borrowed);
        state->borrowed = NULL;
        COG_TRY(cog_mpi_wait(&state->post, false, deadline, &state->borrowed));
        COG_CHECK(state->borrowed != NULL, COG_ERR_TIMEOUT, "no worker sent anything for %g s",
                  timeout);
        if (state->borrowed->frame.header.kind != READY) break;
        COG_TRY(take_ready(transport, &state->borrowed->frame.header));
    } while (true);
    const cog_frame *frame = &state->borrowed->frame;
    transport->bytes_up += cog_frame_bytes(&frame->header);
    if (frame->header.kind == COG_FRAME_FAULT) return cog_frame_fault_status(frame);
    *out = *frame;
    return COG_OK;
}

/* --- a worker's process ----------------------------------------------------------------------- */

static cog_status handle(cog_transport *transport, const cog_frame *frame) {
    mpi *state = transport->state;
    state->mark = cog_clock_seconds();
    state->handling = true;
    const cog_status status = transport->handle(transport->worker[transport->self - 1], frame);
    state->handling = false;
    return status;
}

static cog_status sum(mpi *state) {
    const cog_ring_part *part = &state->part;
    if (state->ring || part->bf16) return cog_mpi_ring_sum(state->workers, part, &state->buffers);
    return cog_mpi_check(
        MPI_Allreduce(MPI_IN_PLACE, part->x, (int)part->n, MPI_FLOAT, MPI_SUM, state->workers),
        "MPI_Allreduce");
}

static cog_status obey(mpi *state, const cog_frame *frame, bool *done) {
    state->stopping = frame->header.kind == STOP;
    if (state->stopping) return COG_OK;
    if (frame->header.message != COG_OK)
        COG_FAIL((cog_status)frame->header.message, "%.*s", (int)frame->header.bytes,
                 (const char *)frame->payload);
    *done = true;
    return sum(state);
}

/* *done says whether all took part; else the transport is being stopped. */
static cog_status reduce(cog_transport *transport, bool *done) {
    mpi *state = transport->state;
    cog_frame_header ready = cog_frame_make((cog_frame_kind)READY, transport->self, 0);
    ready.round = state->part.n;
    ready.mode = state->part.bf16;
    *done = false;
    cog_parcel *answer = NULL;
    COG_TRY(cog_mpi_send_up(&state->post, &ready, NULL));
    COG_TRY(cog_mpi_wait(&state->post, true, INFINITY, &answer));
    const cog_status status = obey(state, &answer->frame, done);
    cog_parcel_give(&state->post.pool, answer);
    return status;
}

static cog_status deliver(cog_transport *transport, const cog_frame *frame) {
    mpi *state = transport->state;
    COG_TRY(handle(transport, frame));
    const cog_frame reduced = {.header = cog_frame_make(COG_FRAME_REDUCED, transport->self, 0)};
    while (state->reducing) {
        bool done;
        COG_TRY(reduce(transport, &done));
        state->reducing = false;
        if (done) COG_TRY(handle(transport, &reduced));
    }
    return COG_OK;
}

static cog_status tell_fault(cog_transport *transport, cog_status status) {
    mpi *state = transport->state;
    cog_parcel *fault = cog_parcel_fault(&state->post.pool, transport->self, status);
    if (fault == NULL) return COG_OK;
    const cog_status sent =
        cog_mpi_send_up(&state->post, &fault->frame.header, fault->frame.payload);
    cog_parcel_give(&state->post.pool, fault);
    return sent;
}

/* One frame; *ended when it was the last. After a failure they are only counted off. */
static cog_status serve_one(cog_transport *transport, cog_status *worst, bool *ended) {
    mpi *state = transport->state;
    cog_parcel *parcel = NULL;
    COG_TRY(cog_mpi_wait(&state->post, false, INFINITY, &parcel));
    const int kind = parcel->frame.header.kind;
    cog_status told = COG_OK;
    *ended = kind == END;
    if (kind == STOP) state->stopping = true;
    if (kind != STOP && kind != END && !state->stopping && *worst == COG_OK) {
        *worst = deliver(transport, &parcel->frame);
        if (*worst != COG_OK) told = tell_fault(transport, *worst);
    }
    cog_parcel_give(&state->post.pool, parcel);
    return told;
}

static cog_status serve(cog_transport *transport) {
    mpi *state = transport->state;
    COG_CHECK(state->running && transport->self > 0, COG_ERR_TRANSPORT,
              "the transport 'mpi' is not running here as a worker");
    cog_status worst = COG_OK;
    for (bool ended = false; !ended;) COG_TRY(serve_one(transport, &worst, &ended));
    cog_parcel *stop = NULL; /* on its own tag it may still be on its way */
    if (!state->stopping) COG_TRY(cog_mpi_wait(&state->post, true, INFINITY, &stop));
    cog_parcel_give(&state->post.pool, stop);
    const cog_frame_header bye = cog_frame_make((cog_frame_kind)BYE, transport->self, 0);
    COG_TRY(cog_mpi_send_up(&state->post, &bye, NULL));
    return worst;
}

/* --- what workers ask for --------------------------------------------------------------------- */

static cog_status check_handling(const cog_transport *transport, int rank) {
    const mpi *state = transport->state;
    COG_CHECK(rank >= 1 && rank == transport->self && state->handling, COG_ERR_ARGUMENT,
              "rank %d is not handling a frame here", rank);
    return COG_OK;
}

/* Nothing but STOP can come on this tag while a worker computes. */
static bool is_stopped(mpi *state) {
    int found = 0;
    MPI_Iprobe(0, COG_MPI_CONTROL, state->post.comm, &found, MPI_STATUS_IGNORE);
    return found;
}

static cog_status elapse(cog_transport *transport, int rank, double flops, double factor,
                         double delay) {
    mpi *state = transport->state;
    COG_TRY(check_handling(transport, rank));
    COG_TRY(cog_transport_check_elapse(flops, factor, delay));
    const double begin = cog_clock_seconds(),
                 end = begin + (factor - 1) * (begin - state->mark) + delay;
    for (double left = end - begin; left > 0 && !is_stopped(state);) {
        const struct timespec nap = {.tv_nsec = left < 5e-4 ? (long)(left * 1e9) : 500000};
        nanosleep(&nap, NULL);
        left = end - cog_clock_seconds();
    }
    state->mark = cog_clock_seconds();
    return COG_OK;
}

static cog_status allreduce(cog_transport *transport, int rank, float *x, int64_t n, bool bf16) {
    mpi *state = transport->state;
    COG_TRY(check_handling(transport, rank));
    COG_CHECK(!state->reducing, COG_ERR_ARGUMENT, "two all-reduces in one handler");
    COG_CHECK(n <= INT_MAX, COG_ERR_UNSUPPORTED, "MPI sums up to %d floats at once, not %lld",
              INT_MAX, (long long)n);
    COG_TRY(cog_ring_offer(x, n, bf16, &state->part));
    state->reducing = true;
    return COG_OK;
}

/* --- start and stop --------------------------------------------------------------------------- */

/* Frames are read off until every worker has said BYE: after that nothing is under way. */
static void dismiss_workers(cog_transport *transport) {
    mpi *state = transport->state;
    const double deadline = cog_clock_seconds() + STOP_SECONDS;
    bool ok = true;
    for (int rank = 1; ok && rank <= transport->n_workers; rank++)
        ok = send_control(state, STOP, rank, COG_MPI_CONTROL) == COG_OK &&
             send_control(state, END, rank, COG_MPI_FRAME) == COG_OK;
    for (int n_left = transport->n_workers; ok && n_left > 0;) {
        cog_parcel *parcel = NULL;
        ok = cog_mpi_wait(&state->post, false, deadline, &parcel) == COG_OK && parcel != NULL;
        n_left -= ok && parcel->frame.header.kind == BYE;
        cog_parcel_give(&state->post.pool, parcel);
    }
    if (ok) (void)cog_mpi_flush(&state->post);
}

static void free_comms(mpi *state) {
    if (state->workers != MPI_COMM_NULL) MPI_Comm_free(&state->workers);
    if (state->post.comm != MPI_COMM_NULL) MPI_Comm_free(&state->post.comm);
}

static void stop(cog_transport *transport) {
    mpi *state = transport->state;
    if (state->running && transport->self == 0) dismiss_workers(transport);
    cog_parcel_give(&state->post.pool, state->borrowed);
    cog_mpi_forget(&state->post); /* what workers that do not answer have not taken */
    if (state->running) free_comms(state);
    free(state->parts);
    state->borrowed = NULL;
    state->parts = NULL;
    state->n_ready = 0;
    state->running = state->stopping = state->reducing = false;
}

static void close_mpi(cog_transport *transport) {
    mpi *state = transport->state;
    if (state == NULL) return;
    stop(transport);
    cog_mpi_post_close(&state->post);
    cog_mpi_ring_free(&state->buffers);
    free(state);
    transport->state = NULL;
}

static cog_status start_all(cog_transport *transport) {
    mpi *state = transport->state;
    const int self = transport->self;
    state->parts = calloc((size_t)transport->n_workers, sizeof(*state->parts));
    COG_CHECK(state->parts != NULL, COG_ERR_MEMORY, "no memory for %d workers",
              transport->n_workers);
    COG_TRY(cog_mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &state->post.comm), "MPI_Comm_dup"));
    MPI_Comm_set_errhandler(state->post.comm, MPI_ERRORS_RETURN);
    return cog_mpi_check(
        MPI_Comm_split(state->post.comm, self > 0 ? 0 : MPI_UNDEFINED, self, &state->workers),
        "MPI_Comm_split");
}

/* Everybody's start waits for everybody's. */
static cog_status start(cog_transport *transport) {
    mpi *state = transport->state;
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
    const cog_status status = start_all(transport);
    state->running = status == COG_OK;
    state->started = cog_clock_seconds();
    if (status != COG_OK) stop(transport);
    return status;
}

static double now(cog_transport *transport) {
    const mpi *state = transport->state;
    return state->running ? cog_clock_seconds() - state->started : 0;
}

const cog_transport_ops cog_transport_mpi = {
    .name = "mpi",
    .summary = "one process a rank, started by mpirun -n WORKERS+1",
    .open = open_mpi,
    .close = close_mpi,
    .start = start,
    .stop = stop,
    .serve = serve,
    .send = send,
    .receive = receive,
    .elapse = elapse,
    .allreduce = allreduce,
    .now = now,
};
