/* select.c - bisection on the bits of magnitudes.
 *
 * Counting how many of n numbers reach a bound is one compare per vector register, so some twenty
 * counts over the few candidates in cache cost less than any partition: no data moves, no branch
 * depends on an element, and equal numbers or equal exponents take no longer.
 */
#include "select.h"

/* Invariant: at least k reach `low`, and `above` < k reach high + 1. Ends early at a bound that k
 * to k + slack reach; *reached is their number, or -1 when the bisection ran to its end. */
static uint32_t bisect(const cog_tile_ops *ops, const float *x, int64_t n, int64_t k, int64_t slack,
                       int64_t *above, int64_t *reached) {
    uint32_t low, high;
    ops->range(x, n, &low, &high);
    *above = 0;
    while (low < high) {
        const uint32_t middle = low + (high - low + 1) / 2;
        const int64_t found = ops->count(x, n, middle);
        if (found >= k && found <= k + slack) {
            *reached = found;
            return middle;
        }
        if (found >= k) {
            low = middle;
        } else {
            high = middle - 1;
            *above = found;
        }
    }
    *reached = -1;
    return low;
}

cog_cut cog_select_cut(const cog_tile_ops *ops, const float *x, int64_t n, int64_t k) {
    int64_t above, reached;
    const uint32_t bound = bisect(ops, x, n, k, 0, &above, &reached);
    return (cog_cut){bound, reached == k ? n : k - above};
}

uint32_t cog_select_bound(const cog_tile_ops *ops, const float *x, int64_t n, int64_t k,
                          int64_t slack) {
    int64_t above, reached;
    return bisect(ops, x, n, k, slack, &above, &reached);
}

int cog_select_thin(const float *x, cog_cut *cut, uint64_t *marks) {
    int n_kept = 0;
    for (int w = 0; w < COG_TILE_WORDS; w++)
        for (uint64_t left = marks[w]; left != 0; left &= left - 1) {
            const uint32_t size = cog_magnitude_bits(x[w * 64 + __builtin_ctzll(left)]);
            const bool kept = size > cut->bound || (size == cut->bound && cut->n_equal > 0);
            if (size == cut->bound) cut->n_equal -= kept;
            if (kept)
                n_kept++;
            else
                marks[w] &= ~(left & -left);
        }
    return n_kept;
}
