/* mpi_worker.h - a rank of the transport 'mpi', and what only a worker's process does with it. */
#ifndef COG_HOST_TRANSPORTS_MPI_WORKER_H
#define COG_HOST_TRANSPORTS_MPI_WORKER_H

#include "../handling.h"
#include "mpi_post.h"
#include "mpi_ring.h"

/* Frames between the transport's own ends; mpi.c tells who sends which, and when. */
enum {
    COG_MPI_READY = COG_FRAME_PRIVATE, /* `round` floats to sum, in bf16 if `mode` is not 0 */
    COG_MPI_GO,                        /* its `message` a status; if not COG_OK, then a sentence */
    COG_MPI_STOP,
    COG_MPI_END,
    COG_MPI_BYE,
};

typedef struct cog_mpi {
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
    cog_handling handling;
    bool stopping;
} cog_mpi;

/* Of the table cog_transport_mpi, for ranks above 0. */
cog_status cog_mpi_serve(cog_transport *transport);
cog_status cog_mpi_elapse(cog_transport *transport, int rank, double flops, double factor,
                          double delay);
cog_status cog_mpi_allreduce(cog_transport *transport, int rank, float *x, int64_t n, bool bf16);

#endif
