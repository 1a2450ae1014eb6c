/* mpi_ring.c - n - 1 hops to sum, n - 1 to hand the sums on.
 *
 *     reduce, hop h    worker w sends chunk w - h on, and adds its own to chunk w - h - 1
 *     gather, hop h    worker w sends chunk w + 1 - h on, and keeps chunk w - h     modulo n */
#include "mpi_ring.h"

#include <stdlib.h>
#include <string.h>

#include "../check.h"

typedef struct turn { /* one worker's view of the ring */
    MPI_Comm comm;
    int n, me;
    const cog_ring_part *part;
    cog_mpi_ring *buffers;
} turn;

void cog_mpi_ring_free(cog_mpi_ring *ring) {
    free(ring->out);
    free(ring->in);
    *ring = (cog_mpi_ring){0};
}

static cog_status make_room(cog_mpi_ring *ring, int64_t floats) {
    if (floats <= ring->room) return COG_OK;
    cog_mpi_ring_free(ring);
    ring->out = malloc((size_t)floats * sizeof(float));
    ring->in = malloc((size_t)floats * sizeof(float));
    COG_CHECK(ring->out != NULL && ring->in != NULL, COG_ERR_MEMORY,
              "no memory for %lld floats of an all-reduce", (long long)floats);
    ring->room = floats;
    return COG_OK;
}

static float *chunk_of(const turn *t, int chunk, int64_t *count) {
    const int64_t begin = cog_ring_begin(t->n, t->part->n, chunk);
    *count = cog_ring_begin(t->n, t->part->n, chunk + 1) - begin;
    return t->part->x + begin;
}

static int wrap(const turn *t, int chunk) { return (chunk % t->n + t->n) % t->n; }

static const void *pack(const turn *t, const float *x, int64_t count) {
    if (!t->part->bf16) return x;
    uint16_t *out = t->buffers->out;
    for (int64_t i = 0; i < count; i++) out[i] = cog_ring_half(x[i]);
    return out;
}

static float unpacked(const turn *t, int64_t i) {
    if (!t->part->bf16) return ((const float *)t->buffers->in)[i];
    return cog_ring_whole(((const uint16_t *)t->buffers->in)[i]);
}

/* Send one chunk on; the other arrives in buffers->in. */
static cog_status hop(const turn *t, int out_chunk, int in_chunk) {
    const int bytes = t->part->bf16 ? 2 : 4;
    int64_t out_count, in_count;
    const float *out = chunk_of(t, out_chunk, &out_count);
    (void)chunk_of(t, in_chunk, &in_count);
    const int code = MPI_Sendrecv(pack(t, out, out_count), (int)(out_count * bytes), MPI_BYTE,
                                  wrap(t, t->me + 1), 0, t->buffers->in, (int)(in_count * bytes),
                                  MPI_BYTE, wrap(t, t->me - 1), 0, t->comm, MPI_STATUS_IGNORE);
    COG_CHECK(code == MPI_SUCCESS, COG_ERR_TRANSPORT, "a hop of an all-reduce failed");
    return COG_OK;
}

static cog_status reduce_hop(const turn *t, int h) {
    const int mine = wrap(t, t->me - h - 1);
    int64_t count;
    float *x = chunk_of(t, mine, &count);
    COG_TRY(hop(t, wrap(t, t->me - h), mine));
    for (int64_t i = 0; i < count; i++) x[i] = unpacked(t, i) + x[i];
    return COG_OK;
}

static cog_status gather_hop(const turn *t, int h) {
    const int next = wrap(t, t->me - h);
    int64_t count;
    float *x = chunk_of(t, next, &count);
    COG_TRY(hop(t, wrap(t, t->me + 1 - h), next));
    for (int64_t i = 0; i < count; i++) x[i] = unpacked(t, i);
    return COG_OK;
}

cog_status cog_mpi_ring_sum(MPI_Comm workers, const cog_ring_part *part, cog_mpi_ring *ring) {
    turn t = {.comm = workers, .part = part, .buffers = ring};
    int64_t count;
    MPI_Comm_size(workers, &t.n);
    MPI_Comm_rank(workers, &t.me);
    COG_TRY(make_room(ring, cog_ring_chunk(t.n, part->n)));
    for (int h = 0; h + 1 < t.n; h++) COG_TRY(reduce_hop(&t, h));
    float *sum = chunk_of(&t, wrap(&t, t.me + 1), &count);
    for (int64_t i = 0; part->bf16 && i < count; i++) sum[i] = cog_ring_round(sum[i]);
    for (int h = 0; h + 1 < t.n; h++) COG_TRY(gather_hop(&t, h));
    return COG_OK;
}
