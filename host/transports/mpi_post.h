/* mpi_post.h - frames between the ranks of an MPI communicator.
 *
 * A frame is its header, with a short payload behind it. A longer payload goes ahead of its header,
 * which travels while the payload is copied: received without another copy, and sent without one
 * where the sender may wait. There is no checksum: links check theirs, and ranks that started
 * together are no strangers.
 *
 * The server may not wait, but what it sends often stays where it is until the round ends. It lends
 * that: the header goes alone, whoever has read it sends a PULL, and gets the payload on a tag of
 * its own from where it lies. What is not pulled when the round ends is copied then.
 */
#ifndef COG_HOST_TRANSPORTS_MPI_POST_H
#define COG_HOST_TRANSPORTS_MPI_POST_H

#include <mpi.h>

#include "../parcel.h"

/* Tags. A payload that is AHEAD has its header BEHIND it; control frames are short. */
enum {
    COG_MPI_FRAME = 10,
    COG_MPI_AHEAD,
    COG_MPI_BEHIND,
    COG_MPI_LENT,
    COG_MPI_CONTROL = 20,
};

/* Worker: I have read the header, now the payload. Of all kinds, only posts see this one. */
enum { COG_MPI_PULL = COG_FRAME_PRIVATE + 5 };

typedef struct cog_mpi_loan {
    bool open;           /* not pulled yet */
    const void *payload; /* where it lies; */
    cog_parcel *copy;    /* unless that had to be kept */
    cog_frame_header header;
} cog_mpi_loan;

typedef struct cog_mpi_post {
    MPI_Comm comm;
    size_t max_payload;
    bool is_server;  /* nobody sends it anything on COG_MPI_CONTROL */
    int64_t edition; /* of what it sends (transport.h) */
    cog_parcel_pool pool;
    cog_mpi_loan *loans; /* server: [ranks] */
    int n_loans;
    /* Frames on their way out. */
    cog_parcel **parcels;  /* [room] NULL: lent */
    MPI_Request *requests; /* [2 * room] of payload and header */
    int *left;             /* [2 * room] scratch */
    int n_flights, room;
} cog_mpi_post;

/* MPI's own words for a call that failed. */
cog_status cog_mpi_check(int code, const char *call);

cog_status cog_mpi_post_open(cog_mpi_post *post);
void cog_mpi_post_close(cog_mpi_post *post); /* accepts zeros */

/* Send a copy, and go on at once. */
cog_status cog_mpi_send_copy(cog_mpi_post *post, int to, int tag, const cog_frame_header *header,
                             const void *payload);

/* Server, to a worker on COG_MPI_FRAME: lend the payload until settle, or send a copy where that
 * costs less. `edition` is set. */
cog_status cog_mpi_lend(cog_mpi_post *post, int to, const cog_frame_header *header,
                        const void *payload);
cog_status cog_mpi_settle(cog_mpi_post *post);

/* To rank 0, on COG_MPI_FRAME, from where the payload lies: returns when it has been taken. */
cog_status cog_mpi_send_up(cog_mpi_post *post, const cog_frame_header *header, const void *payload);

/* Wait until all copies have left; or forget those that never will. */
cog_status cog_mpi_flush(cog_mpi_post *post);
void cog_mpi_forget(cog_mpi_post *post);

/* The next frame from anybody, those of COG_MPI_CONTROL first and, with `control_only`, alone. It
 * is the caller's to give back. *out, NULL before, stays so when the deadline (of
 * cog_clock_seconds) passes. */
cog_status cog_mpi_wait(cog_mpi_post *post, bool control_only, double deadline, cog_parcel **out);

#endif
