/* mpi_ring.h - an all-reduce of sends around a ring of processes, with the bits of ring.h. */
#ifndef COG_HOST_TRANSPORTS_MPI_RING_H
#define COG_HOST_TRANSPORTS_MPI_RING_H

#include <mpi.h>

#include "../ring.h"

/* Grows to the largest chunk and is then reused. Starts zeroed. */
typedef struct cog_mpi_ring {
    void *out, *in; /* a chunk as it travels */
    int64_t room;   /* floats */
} cog_mpi_ring;

void cog_mpi_ring_free(cog_mpi_ring *ring);

/* Sum part->x over all ranks of `workers`; collective. */
cog_status cog_mpi_ring_sum(MPI_Comm workers, const cog_ring_part *part, cog_mpi_ring *ring);

#endif
