/* nccl_board.h - what the ranks of a run have in common besides their GPUs: a page of memory.
 *
 * With a thread a worker it is plain memory. With a process a worker it is a file that all map:
 * the server makes it, whole under its name, and workers look for it there. Every rank keeps a lock
 * on the byte of its number as long as it lives, so a process that is killed is seen at once:
 * NCCL itself may never notice. Locks and memory are those of one machine.
 *
 *     ring, pair       how communicators find each other; before anybody else sees the board
 *     n_joined         how many processes have asked for all of theirs
 *     stopping, fate   written by the server, and by a worker whose end of the link broke
 */
#ifndef COG_HOST_TRANSPORTS_NCCL_BOARD_H
#define COG_HOST_TRANSPORTS_NCCL_BOARD_H

#include <nccl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cograd/status.h"

typedef enum cog_nccl_fate {
    COG_NCCL_ALIVE,
    COG_NCCL_BROKEN, /* says the worker's end, and `broken` */
    COG_NCCL_LOST,   /* says the server */
} cog_nccl_fate;

typedef struct cog_nccl_seat {
    ncclUniqueId pair;
    atomic_int fate;   /* cog_nccl_fate */
    atomic_bool taken; /* a process has been this worker: a second one would not be known */
    char broken[200];  /* written before BROKEN is: why, as an end of a sentence */
} cog_nccl_seat;

typedef struct cog_nccl_page {
    uint64_t magic;
    uint64_t max_payload;
    int32_t n_workers;
    atomic_bool stopping;
    atomic_int n_joined;
    ncclUniqueId ring;
    cog_nccl_seat seats[]; /* [n_workers] */
} cog_nccl_page;

typedef struct cog_nccl_board {
    char path[200]; /* "": a thread a worker */
    int rank;       /* of this process; -1: all of them */
    int file;       /* -1: none */
    cog_nccl_page *page;
    size_t bytes;
} cog_nccl_board;

/* A new board with all there is to know. `path` and `rank` are set, `file` is -1. */
cog_status cog_nccl_board_make(cog_nccl_board *board, int n_workers, uint64_t max_payload);

/* The server's board, and a seat at it, before the deadline.
 * ERR_TRANSPORT   it is one of another run, or the seat is taken */
cog_status cog_nccl_board_find(cog_nccl_board *board, int n_workers, uint64_t max_payload,
                               double deadline);

void cog_nccl_board_close(cog_nccl_board *board); /* accepts one that was never made */

/* Does the process of that rank live? */
bool cog_nccl_board_has(const cog_nccl_board *board, int rank);

#endif
