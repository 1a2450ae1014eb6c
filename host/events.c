/* events.c - the heap; a hole moves instead of swaps. */
#include "events.h"

#include <stdlib.h>

#include "check.h"

static bool before(const cog_event *a, const cog_event *b) {
    if (a->time != b->time) return a->time < b->time;
    if (a->source != b->source) return a->source < b->source;
    return a->sequence < b->sequence;
}

static cog_status grow(cog_events *events) {
    const size_t capacity = events->capacity > 0 ? 2 * events->capacity : 256;
    cog_event *heap = realloc(events->heap, capacity * sizeof(*heap));
    COG_CHECK(heap != NULL, COG_ERR_MEMORY, "no memory for %zu frames in flight", capacity);
    events->heap = heap;
    events->capacity = capacity;
    return COG_OK;
}

cog_status cog_events_push(cog_events *events, cog_event event) {
    if (events->count == events->capacity) COG_TRY(grow(events));
    cog_event *heap = events->heap;
    size_t hole = events->count++;
    while (hole > 0 && before(&event, &heap[(hole - 1) / 2])) {
        heap[hole] = heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    heap[hole] = event;
    return COG_OK;
}

cog_event cog_events_pop(cog_events *events) {
    cog_event *heap = events->heap;
    const cog_event top = heap[0], last = heap[--events->count];
    size_t hole = 0;
    for (size_t child; (child = 2 * hole + 1) < events->count; hole = child) {
        if (child + 1 < events->count && before(&heap[child + 1], &heap[child])) child++;
        if (before(&last, &heap[child])) break;
        heap[hole] = heap[child];
    }
    heap[hole] = last;
    return top;
}

void cog_events_free(cog_events *events) {
    free(events->heap);
    *events = (cog_events){.heap = NULL};
}
