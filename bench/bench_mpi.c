/* bench_mpi.c - the transport 'mpi' next to plain MPI with the same bytes, turn about.
 *
 *   cograd-bench-mpi [PAIRS [MAX_BYTES]]      default 15 16777216; starts itself under mpirun -n 3
 *
 *   up      one worker sends to the server: against a loop of MPI_Send and MPI_Recv
 *   down    the server sends one worker a payload, which it answers with a header, and so on:
 *           against the same in MPI_Send and MPI_Recv
 *   cast    the same with both workers, as in a round: against MPI_Bcast, and answers
 *   sum     all-reduce of two workers in fp32: against a loop of MPI_Allreduce
 *
 * GB/s are payload bytes that one worker sends or gets in a second, medians over the pairs; `of
 * plain` is the median of the pairs' ratios, with the extremes. `best` compares the quickest turns
 * of either side, which says more on a machine that has other work. */
#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "transport.h"

enum {
    MAX_PAIRS = 999,
    WORKERS = 2,
    LINE = 64,              /* bytes of a cache line: vectors of a device begin with one */
    MOVED_BYTES = 32 << 20, /* in a turn, */
    MOST_FRAMES = 1000,     /* with so many frames at most */
    FEWEST_FRAMES = 4,      /* and so many at least */
};

typedef enum way { UP, DOWN, CAST, SUM, QUIT } way;
static const char *const way_names[] = {"up", "down", "cast", "sum"};

typedef struct bench {
    cog_transport *transport;
    int rank;
    unsigned char *data; /* [max_bytes] */
    size_t max_bytes;
    MPI_Comm all, workers; /* of the plain loops */
    /* a worker's order under way */
    size_t bytes;
    int n_frames;
    int64_t n_params; /* frames */
} bench;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int frames_of(size_t bytes) {
    const int n = (int)(MOVED_BYTES / bytes);
    return n > MOST_FRAMES ? MOST_FRAMES : n < FEWEST_FRAMES ? FEWEST_FRAMES : n;
}

/* --- plain MPI ------------------------------------------------------------------------------- */

static bool takes_part(way w, int rank) { return w == SUM ? rank > 0 : w == CAST || rank <= 1; }

/* Those who got a payload say so. */
static void answer(bench *b, int n_from) {
    unsigned char header[sizeof(cog_frame_header)] = {0};
    if (b->rank > 0)
        MPI_Send(header, sizeof(header), MPI_BYTE, 0, 0, b->all);
    else
        for (int i = 1; i <= n_from; i++)
            MPI_Recv(header, sizeof(header), MPI_BYTE, i, 0, b->all, MPI_STATUS_IGNORE);
}

/* One rank's part. */
static void by_mpi(bench *b, way w, size_t bytes) {
    const int n = frames_of(bytes), from = w == UP ? 1 : 0, to = w == UP ? 0 : 1;
    for (int i = 0; i < n; i++) {
        if (w == SUM)
            MPI_Allreduce(MPI_IN_PLACE, b->data, (int)(bytes / sizeof(float)), MPI_FLOAT, MPI_SUM,
                          b->workers);
        else if (w == CAST)
            MPI_Bcast(b->data, (int)bytes, MPI_BYTE, 0, b->all);
        else if (b->rank == from)
            MPI_Send(b->data, (int)bytes, MPI_BYTE, to, 0, b->all);
        else
            MPI_Recv(b->data, (int)bytes, MPI_BYTE, from, 0, b->all, MPI_STATUS_IGNORE);
        if (w == DOWN || w == CAST) answer(b, w == CAST ? WORKERS : 1);
    }
}

/* --- a worker of the transport --------------------------------------------------------------- */

static cog_status send_frame(bench *b, cog_frame_kind kind, size_t bytes) {
    cog_frame_header header = cog_frame_make(kind, b->rank, 0);
    header.bytes = bytes;
    return b->transport->ops->send(b->transport, b->rank, 0, &header, b->data);
}

static cog_status sum_again(bench *b) {
    if (b->n_frames-- == 0) return send_frame(b, COG_FRAME_DONE, 0);
    return b->transport->ops->allreduce(b->transport, b->rank, (float *)b->data,
                                        (int64_t)(b->bytes / sizeof(float)), false);
}

/* RUN orders: mode is the way, accepted 1 for plain MPI, round the bytes. */
static cog_status begin_order(bench *b, const cog_frame_header *h) {
    b->bytes = (size_t)h->round;
    b->n_frames = frames_of(b->bytes);
    b->n_params = 0;
    if (h->accepted == 1) {
        by_mpi(b, (way)h->mode, b->bytes);
        return send_frame(b, COG_FRAME_DONE, 0);
    }
    if (h->mode == SUM) return sum_again(b);
    if (h->mode != UP) return COG_OK;
    for (int i = 0; i < b->n_frames; i++) COG_TRY(send_frame(b, COG_FRAME_MESSAGE, b->bytes));
    return send_frame(b, COG_FRAME_DONE, 0);
}

static cog_status handle(void *worker, const cog_frame *frame) {
    bench *b = worker;
    const cog_frame_header *h = &frame->header;
    if (h->kind == COG_FRAME_RUN) return begin_order(b, h);
    if (h->kind == COG_FRAME_REDUCED) return sum_again(b);
    return send_frame(b, ++b->n_params == b->n_frames ? COG_FRAME_DONE : COG_FRAME_DECLINE, 0);
}

/* --- the server ------------------------------------------------------------------------------ */

static cog_status order(bench *b, way w, bool plain, size_t bytes, int *n_orders) {
    cog_frame_header header = cog_frame_make(COG_FRAME_RUN, 0, (int64_t)bytes);
    header.mode = (uint16_t)w;
    header.accepted = plain;
    *n_orders = 0;
    for (int rank = 1; rank <= WORKERS; rank++) {
        if (!takes_part(w, rank)) continue;
        COG_TRY(b->transport->ops->send(b->transport, 0, rank, &header, NULL));
        ++*n_orders;
    }
    return COG_OK;
}

/* Frames of this kind, so many. */
static cog_status wait_for(bench *b, cog_frame_kind kind, int n) {
    for (cog_frame frame; n > 0; n -= frame.header.kind == kind)
        COG_TRY(b->transport->ops->receive(b->transport, 60, &frame));
    return COG_OK;
}

static cog_status send_params(bench *b, size_t bytes, int n_to) {
    cog_frame_header header = cog_frame_make(COG_FRAME_PARAMS, 0, 0);
    header.bytes = bytes;
    for (int i = 0; i < frames_of(bytes); i++) {
        b->data[0]++;
        b->transport->edition++;
        for (int rank = 1; rank <= n_to; rank++)
            COG_TRY(b->transport->ops->send(b->transport, 0, rank, &header, b->data));
        if (i + 1 < frames_of(bytes)) COG_TRY(wait_for(b, COG_FRAME_DECLINE, n_to));
        if (i + 1 == frames_of(bytes)) COG_TRY(wait_for(b, COG_FRAME_DONE, n_to));
        COG_TRY(b->transport->ops->settle(b->transport));
    }
    b->transport->edition = 0;
    return COG_OK;
}

/* Seconds from the order to the last worker's DONE. */
static cog_status turn(bench *b, way w, bool plain, size_t bytes, double *took) {
    const double begin = seconds();
    int n_orders;
    COG_TRY(order(b, w, plain, bytes, &n_orders));
    if (plain && takes_part(w, 0)) by_mpi(b, w, bytes);
    if (!plain && (w == DOWN || w == CAST))
        COG_TRY(send_params(b, bytes, n_orders));
    else
        COG_TRY(wait_for(b, COG_FRAME_DONE, n_orders));
    *took = seconds() - begin;
    return COG_OK;
}

/* --- both ------------------------------------------------------------------------------------ */

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_row(way w, size_t bytes, int n, double *plain, double *ours, double *ratio) {
    const double moved = 1e-9 * (double)bytes * frames_of(bytes);
    qsort(plain, (size_t)n, sizeof(double), ascending);
    qsort(ours, (size_t)n, sizeof(double), ascending);
    qsort(ratio, (size_t)n, sizeof(double), ascending);
    printf("%-5s %10zu %10.3g %11.3g %9.2f  (%.2f .. %.2f) %6.2f\n", way_names[w], bytes,
           moved / plain[n / 2], moved / ours[n / 2], ratio[n / 2], ratio[0], ratio[n - 1],
           plain[0] / ours[0]);
    fflush(stdout);
}

static cog_status measure(bench *b, way w, size_t bytes, int n_pairs) {
    double plain[MAX_PAIRS], ours[MAX_PAIRS], ratio[MAX_PAIRS];
    for (int i = -1; i < n_pairs; i++) { /* the first, in which buffers are made, does not count */
        const int at = i < 0 ? 0 : i;
        COG_TRY(turn(b, w, true, bytes, &plain[at]));
        COG_TRY(turn(b, w, false, bytes, &ours[at]));
        ratio[at] = plain[at] / ours[at];
    }
    print_row(w, bytes, n_pairs, plain, ours, ratio);
    return COG_OK;
}

static cog_status measure_all(bench *b, int n_pairs) {
    puts("way        bytes plain GB/s cograd GB/s  of plain  (extremes)     best");
    for (way w = UP; w < QUIT; w++)
        for (size_t bytes = 4096; bytes <= b->max_bytes; bytes *= 16)
            COG_TRY(measure(b, w, bytes, n_pairs));
    return COG_OK;
}

static cog_status run_all(bench *b, int n_pairs) {
    MPI_Comm_dup(MPI_COMM_WORLD, &b->all);
    MPI_Comm_split(b->all, b->rank > 0, b->rank, &b->workers);
    COG_TRY(b->transport->ops->start(b->transport));
    const cog_status status =
        b->rank > 0 ? b->transport->ops->serve(b->transport) : measure_all(b, n_pairs);
    b->transport->ops->stop(b->transport);
    MPI_Comm_free(&b->workers);
    MPI_Comm_free(&b->all);
    return status;
}

static cog_status run(bench *b, int n_pairs) {
    void *worker[WORKERS] = {b, b};
    COG_TRY(cog_transport_create("mpi", WORKERS, &b->transport));
    b->rank = b->transport->self;
    b->transport->max_payload = b->max_bytes;
    b->transport->handle = handle;
    b->transport->worker = worker;
    b->data = aligned_alloc(LINE, b->max_bytes);
    COG_CHECK(b->data != NULL, COG_ERR_MEMORY, "no memory for %zu bytes", b->max_bytes);
    memset(b->data, 0, b->max_bytes);
    return run_all(b, n_pairs);
}

int main(int argc, char **argv) {
    const char *pairs = argc > 1 ? argv[1] : "15", *most = argc > 2 ? argv[2] : "16777216";
    bench b = {.max_bytes = (size_t)atoll(most)};
    const int n_pairs = atoi(pairs);
    if (n_pairs < 1 || n_pairs > MAX_PAIRS || b.max_bytes < 4096 || b.max_bytes > INT_MAX ||
        b.max_bytes % LINE != 0) {
        fprintf(stderr, "cograd-bench-mpi: 1 to %d pairs, 4096 to %d bytes in steps of %d\n",
                MAX_PAIRS, INT_MAX, LINE);
        return 2;
    }
    if (getenv("OMPI_COMM_WORLD_RANK") == NULL) {
        execlp("mpirun", "mpirun", "--oversubscribe", "--allow-run-as-root", "-n", "3", argv[0],
               pairs, most, (char *)NULL);
        puts("mpirun is not installed: nothing to measure");
        return 0;
    }
    const cog_status status = run(&b, n_pairs);
    if (status != COG_OK) fprintf(stderr, "rank %d: %s\n", b.rank, cog_last_error());
    cog_transport_destroy(b.transport);
    free(b.data);
    return status != COG_OK;
}
