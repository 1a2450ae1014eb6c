/* iht.h - sparse vectors from few linear measurements, by iterative hard thresholding.
 *
 *     y = A x,  x has few entries that are not 0
 *     x <- (the largest entries of) x + step A^T (y - A x)
 *
 * with the step of Blumensath and Davies ("Normalized iterative hard thresholding", 2010), which
 * the misfit ||y - A x|| cannot grow under, whatever the scale of A.
 */
#ifndef COG_HOST_COMPRESS_IHT_H
#define COG_HOST_COMPRESS_IHT_H

#include "tile.h"

/* A matrix of n_rows x n_columns, at most COG_TILE each, as two products. */
typedef struct cog_sensing {
    const cog_tile_ops *ops;
    int n_rows, n_columns;
    const void *context;
    void (*forward)(const struct cog_sensing *a, const float *x, float *y); /* y = A x */
    void (*adjoint)(const struct cog_sensing *a, const float *y, float *x); /* x = A^T y */
} cog_sensing;

/* Zero all of x[n] but its k largest magnitudes; of equal ones those of lower index stay. */
void cog_keep_largest(const cog_tile_ops *ops, float *x, int n, int k);

/* x[n_columns] of at most k entries that are not 0, for y[n_rows]; all NaN when y is not finite. On
 * return rest = y - A x; it may be y. At most n_steps steps, fewer when nothing is won by them. */
void cog_iht(const cog_sensing *a, const float *y, int k, int n_steps, float *rest, float *x);

#endif
