/* bench_mpi.c - the transport 'mpi' next to plain MPI with the same bytes, turn about.
 *
 *   cograd-bench-mpi [PAIRS [MAX_BYTES]]      default 7 16777216; starts itself under mpirun -n 3
 *
 *   up      one worker sends to the server: against a loop of MPI_Send and MPI_Recv
 *   down    the server sends one worker payloads that all differ, so that each is copied, and lets
 *           four of them be under way: against the same loop
 *   sum     all-reduce of two workers in fp32: against a loop of MPI_Allreduce
 *
 * GB/s are payload bytes of one direction a second, medians over the pairs; `of plain` is the
 * median of the pairs' ratios, with the extremes. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "transport.h"

enum { MAX_PAIRS = 99, WORKERS = 2, MOVED_BYTES = 64 << 20, MOST_FRAMES = 2000, UNDER_WAY = 4 };

typedef enum way { UP, DOWN, SUM, QUIT } way;
static const char *const way_names[] = {"up", "down", "sum"};

typedef struct bench {
    cog_transport *transport;
    int rank;
    unsigned char *data; /* [max_bytes] */
    size_t max_bytes;
    /* a worker's order under way */
    size_t bytes;
    int n_frames;
} bench;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int frames_of(size_t bytes) {
    const int n = (int)(MOVED_BYTES / bytes);
    return n > MOST_FRAMES ? MOST_FRAMES : n;
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

/* RUN orders: mode is the way, message the number of frames, round their bytes. */
static cog_status handle(void *worker, const cog_frame *frame) {
    bench *b = worker;
    const cog_frame_header *h = &frame->header;
    if (h->kind == COG_FRAME_REDUCED) return sum_again(b);
    if (h->kind == COG_FRAME_PARAMS) return send_frame(b, COG_FRAME_DECLINE, 0);
    b->n_frames = h->message;
    b->bytes = (size_t)h->round;
    if (h->mode == SUM) return sum_again(b);
    for (int i = 0; i < b->n_frames && h->mode == UP; i++)
        COG_TRY(send_frame(b, COG_FRAME_MESSAGE, b->bytes));
    return send_frame(b, COG_FRAME_DONE, 0);
}

/* --- the server ------------------------------------------------------------------------------ */

static cog_status order(bench *b, int worker, way w, size_t bytes) {
    cog_frame_header header = cog_frame_make(COG_FRAME_RUN, 0, (int64_t)bytes);
    header.mode = (uint16_t)w;
    header.message = frames_of(bytes);
    return b->transport->ops->send(b->transport, 0, worker + 1, &header, NULL);
}

static cog_status wait_for_done(bench *b, int n) {
    for (cog_frame frame; n > 0; n -= frame.header.kind == COG_FRAME_DONE)
        COG_TRY(b->transport->ops->receive(b->transport, 60, &frame));
    return COG_OK;
}

static cog_status by_transport(bench *b, way w, size_t bytes, double *took) {
    const double begin = seconds();
    cog_frame_header header = cog_frame_make(COG_FRAME_PARAMS, 0, 0);
    header.bytes = bytes;
    for (int i = 0; i < frames_of(bytes) && w == DOWN; i++) {
        cog_frame taken;
        b->data[0]++;
        COG_TRY(b->transport->ops->send(b->transport, 0, 1, &header, b->data));
        if (i >= UNDER_WAY) COG_TRY(b->transport->ops->receive(b->transport, 60, &taken));
    }
    const int n = w == SUM ? WORKERS : 1;
    for (int i = 0; i < n; i++) COG_TRY(order(b, i, w, bytes));
    COG_TRY(wait_for_done(b, n));
    *took = seconds() - begin;
    return COG_OK;
}

/* --- plain MPI ------------------------------------------------------------------------------- */

/* Ranks without a part in a loop must not spin through it on cores that others need. */
static void meet(void) {
    MPI_Request request;
    int done = 0;
    MPI_Ibarrier(MPI_COMM_WORLD, &request);
    for (MPI_Test(&request, &done, MPI_STATUS_IGNORE); !done;
         MPI_Test(&request, &done, MPI_STATUS_IGNORE))
        usleep(50);
}

static double by_mpi(bench *b, MPI_Comm workers, way w, size_t bytes) {
    const int n = frames_of(bytes), from = w == UP ? 1 : 0, to = w == UP ? 0 : 1;
    meet();
    const double begin = seconds();
    for (int i = 0; i < n && w != SUM; i++) {
        if (b->rank == from) MPI_Send(b->data, (int)bytes, MPI_BYTE, to, 0, MPI_COMM_WORLD);
        if (b->rank == to)
            MPI_Recv(b->data, (int)bytes, MPI_BYTE, from, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    for (int i = 0; i < n && w == SUM && b->rank > 0; i++)
        MPI_Allreduce(MPI_IN_PLACE, b->data, (int)(bytes / sizeof(float)), MPI_FLOAT, MPI_SUM,
                      workers);
    double took = seconds() - begin;
    if (w != SUM) /* done when the last has arrived */
        MPI_Bcast(&took, 1, MPI_DOUBLE, to, MPI_COMM_WORLD);
    else
        MPI_Bcast(&took, 1, MPI_DOUBLE, 1, MPI_COMM_WORLD);
    return took;
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
    printf("%-5s %10zu %10.3g %10.3g %9.2f  (%.2f .. %.2f)\n", way_names[w], bytes,
           moved / plain[n / 2], moved / ours[n / 2], ratio[n / 2], ratio[0], ratio[n - 1]);
    fflush(stdout);
}

/* One pair: the transport runs between its start and stop, which every rank calls. */
static cog_status run_pair(bench *b, MPI_Comm workers, way w, size_t bytes, double *plain,
                           double *ours) {
    memset(b->data, 0, b->max_bytes);
    *plain = by_mpi(b, workers, w, bytes);
    meet();
    memset(b->data, 0, b->max_bytes);
    COG_TRY(b->transport->ops->start(b->transport));
    cog_status status = COG_OK;
    if (b->rank > 0)
        status = b->transport->ops->serve(b->transport);
    else {
        double warm; /* buffers are allocated once in a run */
        status = by_transport(b, w, bytes, &warm);
        if (status == COG_OK) status = by_transport(b, w, bytes, ours);
    }
    b->transport->ops->stop(b->transport);
    return status;
}

static cog_status run_all(bench *b, int n_pairs) {
    MPI_Comm workers;
    MPI_Comm_split(MPI_COMM_WORLD, b->rank > 0, b->rank, &workers);
    if (b->rank == 0) puts("way        bytes plain GB/s cograd GB/s  of plain  (extremes)");
    for (way w = UP; w < QUIT; w++)
        for (size_t bytes = 4096; bytes <= b->max_bytes; bytes *= 16) {
            double plain[MAX_PAIRS], ours[MAX_PAIRS], ratio[MAX_PAIRS];
            for (int i = 0; i < n_pairs; i++) {
                ours[i] = 1;
                COG_TRY(run_pair(b, workers, w, bytes, &plain[i], &ours[i]));
                ratio[i] = plain[i] / ours[i];
            }
            if (b->rank == 0) print_row(w, bytes, n_pairs, plain, ours, ratio);
        }
    MPI_Comm_free(&workers);
    return COG_OK;
}

static cog_status run(bench *b, int n_pairs) {
    void *worker[WORKERS] = {b, b};
    COG_TRY(cog_transport_create("mpi", WORKERS, &b->transport));
    b->rank = b->transport->self;
    b->transport->max_payload = b->max_bytes;
    b->transport->handle = handle;
    b->transport->worker = worker;
    b->data = calloc(b->max_bytes, 1);
    COG_CHECK(b->data != NULL, COG_ERR_MEMORY, "no memory for %zu bytes", b->max_bytes);
    return run_all(b, n_pairs);
}

int main(int argc, char **argv) {
    const char *pairs = argc > 1 ? argv[1] : "7", *most = argc > 2 ? argv[2] : "16777216";
    if (getenv("OMPI_COMM_WORLD_RANK") == NULL) {
        execlp("mpirun", "mpirun", "--oversubscribe", "--allow-run-as-root", "-n", "3", argv[0],
               pairs, most, (char *)NULL);
        puts("mpirun is not installed: nothing to measure");
        return 0;
    }
    bench b = {.max_bytes = (size_t)atoll(most)};
    const int n_pairs = atoi(pairs);
    if (n_pairs < 1 || n_pairs > MAX_PAIRS || b.max_bytes < 4096) return 2;
    const cog_status status = run(&b, n_pairs);
    if (status != COG_OK) fprintf(stderr, "rank %d: %s\n", b.rank, cog_last_error());
    cog_transport_destroy(b.transport);
    free(b.data);
    return status != COG_OK;
}
