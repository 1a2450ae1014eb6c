/* nccl_link.h - what the files of the transport 'nccl' share: a link to each worker.
 *
 * A link is two ends, and a turn. It is the server's until it sends a frame, then the worker's
 * until the last of its answers, which says so: then both ends know who sends next, and what waits
 * on a stream is never in the way of what would end the wait.
 *
 *     server's end: the server's thread, until it calls the link LOST
 *     worker's end, and its ring: the worker's thread
 *     both ends of a LOST link: the worker's thread, which has them aborted; where that is in
 *     another process, the server's end of it: a thread for just that
 *     everything, when the workers' threads have ended: stop
 */
#ifndef COG_HOST_TRANSPORTS_NCCL_LINK_H
#define COG_HOST_TRANSPORTS_NCCL_LINK_H

#include <pthread.h>

#include "../handling.h"
#include "../parcel.h"
#include "../ring.h"
#include "nccl_board.h"
#include "nccl_end.h"

/* Frames between the transport's own ends. */
enum {
    COG_NCCL_TURN = COG_FRAME_PRIVATE, /* worker to server: no answer; it is your turn */
    COG_NCCL_READY,                    /* it would sum `round` floats, in bf16 if `mode` is not 0 */
    COG_NCCL_GO,                       /* its `message` a status; if not COG_OK, then a sentence */
};

/* In the field `checksum`, which links that check their bytes have no other use for. */
enum { COG_NCCL_MORE, COG_NCCL_LAST };

typedef enum cog_nccl_turn {
    COG_NCCL_SERVER, /* nothing is under way */
    COG_NCCL_HEAD,   /* the server waits for the first part of a frame */
    COG_NCCL_REST,   /* for the rest of it */
} cog_nccl_turn;

typedef struct cog_nccl_link {
    cog_transport *transport;
    int rank;
    cog_nccl_seat *seat; /* at the board */
    /* the server's */
    char why[200]; /* it is LOST, as an end of a sentence */
    cog_nccl_end server;
    cog_nccl_turn turn;
    double deadline;         /* of what is waited for */
    double looked;           /* when its process was last looked for */
    double left;             /* when its process was not found any more; 0: it lives */
    cog_frame_header header; /* of the frame that comes */
    bool told;               /* that the worker is gone, or has failed */
    bool summing;            /* READY: the next frame is GO */
    cog_parcel_list queue;   /* frames for its next turns */
    /* the worker's */
    cog_nccl_end worker, ring; /* ring: of all workers, with the memory of the other */
    pthread_t thread;
    bool running;
    bool holding;       /* an answer is in `out`: the last one, or not */
    bool is_cut;        /* the link failed, and not the worker */
    bool is_orphan;     /* the server's process is gone */
    cog_status failure; /* of the worker, */
    char sentence[512]; /* in words */
    cog_handling handling;
    cog_ring_part part; /* what it would sum */
} cog_nccl_link;

typedef struct cog_nccl {
    double timeout;
    cog_parcel_pool pool;
    cog_nccl_board board;
    cog_nccl_link *links; /* [n_workers] */
    cog_nccl_end **ends;  /* [n_ends] those of this process */
    int n_workers, n_ends;
    cog_ring_part *parts; /* [n_workers] what those who are ready would sum */
    int n_ready;
    cog_nccl_link *lender; /* of the frame in the hands of the server's caller; or NULL */
    int next;              /* where receive looks first */
    double started;
    bool running;
    pthread_t burial; /* in the server's process: aborts its ends of LOST links */
    bool buries;
} cog_nccl;

/* Are the workers processes? */
static inline bool cog_nccl_is_spread(const cog_nccl *state) { return state->board.rank >= 0; }

/* Seconds between two looks whether a process lives. */
static const double cog_nccl_look_seconds = 0.01;

/* Work of a worker's thread: nccl_worker.c. `live` is its main function, `serve` does it in a
 * process of its own. */
void *cog_nccl_live(void *link);
cog_status cog_nccl_serve(cog_transport *transport);
cog_status cog_nccl_answer(cog_nccl_link *link, const cog_frame_header *header,
                           const void *payload);
cog_status cog_nccl_elapse(cog_transport *transport, int rank, double flops, double factor,
                           double delay);
cog_status cog_nccl_allreduce(cog_transport *transport, int rank, float *x, int64_t n, bool bf16);

/* nccl_open.c. ERR_DEVICE with fewer GPUs than ranks. */
cog_status cog_nccl_check_gpus(int n_workers);
/* The board, and communicators for all links of this process, each used once. */
cog_status cog_nccl_connect(cog_nccl *state, size_t max_payload);
void cog_nccl_disconnect(cog_nccl *state);

#endif
