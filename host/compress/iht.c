/* iht.c - see iht.h. All vectors fit the first-level cache or nearly, and the stack. */
#include "iht.h"

#include <math.h>

/* Blumensath and Davies' c: a step may be as long as (1 - c) ||d||^2 / ||A d||^2. */
#define SLACK 0.01
/* Steps that shrink the squared misfit by less than this share are not worth going on. */
#define GAIN 1e-4

void cog_keep_largest(const cog_tile_ops *ops, float *x, int n, int k) {
    uint32_t low = 0, high = 0x80000000u; /* count(low) >= k > count(high), once k < n */
    if (k >= n) return;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (ops->count(x, n, middle) >= k)
            low = middle;
        else
            high = middle;
    }
    int ties = k - (int)ops->count(x, n, low + 1);
    for (int i = 0; i < n; i++) {
        uint32_t size;
        memcpy(&size, &x[i], sizeof(size));
        size &= 0x7fffffffu;
        if (size < low || (size == low && ties-- <= 0)) x[i] = 0;
    }
}

static double energy(const cog_tile_ops *ops, const float *x, int n) { return ops->dot(x, x, n); }

/* The longest step along g within the support of `like`: where the misfit is least. */
static double best_step(const cog_sensing *a, const float *g, const float *like) {
    float part[COG_TILE], image[COG_TILE];
    for (int i = 0; i < a->n_columns; i++) part[i] = like[i] != 0 ? g[i] : 0;
    a->forward(a, part, image);
    const double size = energy(a->ops, image, a->n_rows);
    return size > 0 ? energy(a->ops, part, a->n_columns) / size : 0;
}

/* move = H_k(x + step g) - x, image = A move. True when the step was not too long for it. */
static bool try_step(const cog_sensing *a, const float *x, const float *g, double step, int k,
                     float *move, float *image) {
    for (int i = 0; i < a->n_columns; i++) move[i] = x[i] + (float)step * g[i];
    cog_keep_largest(a->ops, move, a->n_columns, k);
    bool same = true;
    for (int i = 0; i < a->n_columns; i++) {
        same = same && (move[i] != 0) == (x[i] != 0);
        move[i] -= x[i];
    }
    a->forward(a, move, image);
    return same || step * energy(a->ops, image, a->n_rows) <=
                       (1 - SLACK) * energy(a->ops, move, a->n_columns);
}

/* One step; false when there is none that helps. */
static bool advance(const cog_sensing *a, int k, float *rest, float *x) {
    float g[COG_TILE], move[COG_TILE], image[COG_TILE];
    a->adjoint(a, rest, g);
    memcpy(move, x, (size_t)a->n_columns * sizeof(*x));
    bool any = false;
    for (int i = 0; i < a->n_columns; i++) any = any || x[i] != 0;
    if (!any) {
        memcpy(move, g, (size_t)a->n_columns * sizeof(*g));
        cog_keep_largest(a->ops, move, a->n_columns, k);
    }
    double step = best_step(a, g, move);
    const double before = energy(a->ops, rest, a->n_rows);
    for (int halvings = 0; !try_step(a, x, g, step, k, move, image); halvings++) {
        if (halvings == 30) return false;
        step /= 2;
    }
    for (int i = 0; i < a->n_columns; i++) x[i] += move[i];
    for (int i = 0; i < a->n_rows; i++) rest[i] -= image[i];
    return energy(a->ops, rest, a->n_rows) < (1 - GAIN) * before;
}

void cog_iht(const cog_sensing *a, const float *y, int k, int n_steps, float *rest, float *x) {
    const double size = energy(a->ops, y, a->n_rows);
    if (rest != y) memcpy(rest, y, (size_t)a->n_rows * sizeof(*y));
    for (int i = 0; i < a->n_columns; i++) x[i] = isfinite(size) ? 0 : NAN;
    if (!(size > 0) || !isfinite(size)) return;
    for (int i = 0; i < n_steps && advance(a, k, rest, x); i++)
        if (energy(a->ops, rest, a->n_rows) < 1e-14 * size) return;
}
