/* select.h - where to cut a vector so that the k largest magnitudes remain. */
#ifndef COG_HOST_COMPRESS_SELECT_H
#define COG_HOST_COMPRESS_SELECT_H

#include <string.h>

#include "tile.h"

/* Kept are all magnitudes above `bound` and the first n_equal of those that equal it. */
typedef struct cog_cut {
    uint32_t bound;
    int64_t n_equal;
} cog_cut;

/* The cut that keeps exactly k of x[n], 1 <= k <= n. */
cog_cut cog_select_cut(const cog_tile_ops *ops, const float *x, int64_t n, int64_t k);

/* A bound that at least k of x[n] reach, and no more than k + slack unless they are equal. */
uint32_t cog_select_bound(const cog_tile_ops *ops, const float *x, int64_t n, int64_t k,
                          int64_t slack);

/* Drop from `marks` (entries of x that reach cut->bound or lie below it) those the cut does not
 * keep; cut->n_equal is used up. Returns how many remain. */
int cog_select_thin(const float *x, cog_cut *cut, uint64_t *marks);

static inline uint32_t cog_magnitude_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits & 0x7fffffffu;
}

#endif
