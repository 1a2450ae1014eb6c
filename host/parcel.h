/* parcel.h - frames in flight inside one process: a header and a copy of the payload.
 *
 * Parcels come from a pool and go back to it, so that nothing is allocated once as many have been
 * in flight as ever will be. Sizes are rounded up to the next of four steps an octave: at most a
 * quarter is wasted. take, broadcast and give may be called from any thread.
 */
#ifndef COG_HOST_PARCEL_H
#define COG_HOST_PARCEL_H

#include <pthread.h>

#include "transport.h"

typedef struct cog_parcel {
    struct cog_parcel *next;
    double time;               /* the carrier's: when it arrives */
    cog_frame frame;           /* the payload lies in `room`, here or of the lender */
    struct cog_parcel *lender; /* holds the payload for several parcels; NULL: this one does */
    int32_t references;        /* who needs `room`: 1, and the borrowers */
    int32_t size_class;
    /* Copies between processes run a tenth faster where source and target begin in the same place
     * of a cache line; that is where devices place vectors. */
    _Alignas(64) unsigned char room[];
} cog_parcel;

/* First in, first out. */
typedef struct cog_parcel_list {
    cog_parcel *first, *last;
} cog_parcel_list;

enum { COG_PARCEL_CLASSES = 256 };

typedef struct cog_parcel_pool {
    pthread_mutex_t mutex;
    bool open;
    cog_parcel *free[COG_PARCEL_CLASSES]; /* stacks */
    cog_parcel *last_broadcast;           /* one reference is the pool's */
    const void *last_payload;             /* what it is a copy of, */
    int64_t last_edition;                 /* then */
    cog_parcel *spare;                    /* so that running out of memory can be told */
} cog_parcel_pool;

cog_status cog_parcel_pool_open(cog_parcel_pool *pool);
/* All parcels have been given back. A pool of zeros is fine. */
void cog_parcel_pool_close(cog_parcel_pool *pool);

/* A copy of one frame. */
cog_status cog_parcel_take(cog_parcel_pool *pool, const cog_frame_header *header,
                           const void *payload, cog_parcel **out);

/* Room for a payload that is still to be received: into (*out)->room. */
cog_status cog_parcel_room(cog_parcel_pool *pool, const cog_frame_header *header, cog_parcel **out);

/* A copy, for the server, which tends to send all workers the same bytes: equal payloads in a
 * row are kept once. They are compared, unless an edition (transport.h) says that they are equal or
 * not. By one thread at a time. */
cog_status cog_parcel_broadcast(cog_parcel_pool *pool, int64_t edition,
                                const cog_frame_header *header, const void *payload,
                                cog_parcel **out);

/* A FAULT frame with the calling thread's cog_last_error(). NULL when there is no memory and the
 * spare one is under way: an earlier fault then tells the server to give up. */
cog_parcel *cog_parcel_fault(cog_parcel_pool *pool, int source, cog_status status);

void cog_parcel_give(cog_parcel_pool *pool, cog_parcel *parcel); /* accepts NULL */

void cog_parcel_push(cog_parcel_list *list, cog_parcel *parcel);
void cog_parcel_push_front(cog_parcel_list *list, cog_parcel *parcel);
cog_parcel *cog_parcel_pop(cog_parcel_list *list); /* NULL when empty */
void cog_parcel_give_all(cog_parcel_pool *pool, cog_parcel_list *list);

#endif
