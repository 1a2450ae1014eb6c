/* history.h - which messages a server took, in which order: enough to repeat a run on any
 * transport.
 *
 *     cograd history 1
 *     name = value            ... on what both runs agree
 *     from = 0                the round in which it begins
 *     m 3 2 17                worker 3's message 2, an answer to round 17, was taken
 *     d 3 17                  worker 3 declined to answer round 17
 *     e 17                    round 17 had enough, and ended
 *     s                       everybody came to rest for a checkpoint
 *     l 3                     worker 3 was lost, with all it owed
 *     j 3                     worker 3 was there anew, and knew nothing
 *
 * A file that ends early, between two lines, is the history of a shorter run. */
#ifndef COG_HOST_HISTORY_H
#define COG_HOST_HISTORY_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cograd/status.h"

typedef struct cog_taken {
    char kind;       /* one of m d e s l j */
    int32_t worker;  /* of m, d, l and j */
    int32_t message; /* of m */
    int64_t round;   /* of m, d and e */
} cog_taken;

typedef struct cog_history {
    char *job; /* lines "name = value", to be compared */
    int64_t from;
    cog_taken *taken; /* [n] */
    size_t n, room;
} cog_history;

/* A function of the bytes alone, which come from a stranger. ERR_FORMAT in a sentence with the
 * number of the line. The caller frees `out`, also after a failure. */
cog_status cog_history_parse(const char *text, size_t bytes, cog_history *out);
void cog_history_free(cog_history *history); /* accepts zeros */

/* ERR_IO when the file cannot be read. */
cog_status cog_history_read(const char *path, cog_history *out);

cog_status cog_history_write_header(FILE *file, const char *job, int64_t from);
void cog_history_write(FILE *file, const cog_taken *taken);

#endif
