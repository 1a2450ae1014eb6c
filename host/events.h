/* events.h - parcels ordered by (time, source, sequence): a binary heap.
 *
 * The order is total, so parcels come out alike however they went in. Both verbs cost O(log n).
 */
#ifndef COG_HOST_EVENTS_H
#define COG_HOST_EVENTS_H

#include "parcel.h"

typedef struct cog_event {
    double time;
    int64_t sequence; /* of the source */
    int32_t source;
    cog_parcel *parcel;
} cog_event;

/* Zeros are an empty queue. */
typedef struct cog_events {
    cog_event *heap; /* [capacity] */
    size_t count, capacity;
} cog_events;

cog_status cog_events_push(cog_events *events, cog_event event);
cog_event cog_events_pop(cog_events *events); /* count > 0; the earliest is events->heap[0] */
void cog_events_free(cog_events *events);     /* not the parcels */

#endif
