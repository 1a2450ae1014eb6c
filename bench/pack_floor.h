/* pack_floor.h - the fewest bytes that a pack of a message and its error must move. */
#ifndef COG_BENCH_PACK_FLOOR_H
#define COG_BENCH_PACK_FLOOR_H

#include <stdbool.h>
#include <string.h>

#include "compress.h"

/* `payload` is in host memory; what the passes are, bench_pack.c lists. */
static inline double floor_bytes(const cog_quantizer *q, const char *spec, const void *payload) {
    const double n = (double)q->n, bytes = (double)cog_quantizer_used_bytes(q, payload);
    const bool two_passes = strstr(spec, "global") != NULL ||
                            (strncmp(spec, "sign", 4) == 0 && strstr(spec, "group") == NULL);
    if (strncmp(spec, "powersgd", 8) == 0) return n * 28 + bytes;
    const double again = !two_passes ? 0 : strncmp(spec, "sign", 4) == 0 ? 8 : 4;
    return n * (12 + again) + bytes;
}

#endif
