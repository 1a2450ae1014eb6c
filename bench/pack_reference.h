/* pack_reference.h - what bench_pack.c compares with: quickselect, and means in double. */
#ifndef COG_BENCH_PACK_REFERENCE_H
#define COG_BENCH_PACK_REFERENCE_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress.h"

static inline uint32_t magnitude(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits & 0x7fffffffu;
}

/* Hoare's selection: on return the k largest of key[n] come first. */
static inline void quickselect(uint64_t *key, int64_t n, int64_t k) {
    int64_t low = 0, high = n - 1;
    while (low < high) {
        const uint64_t a = key[low], b = key[low + (high - low) / 2], c = key[high];
        const uint64_t pivot = a > b ? (b > c ? b : a > c ? c : a) : (a > c ? a : b > c ? c : b);
        int64_t i = low, j = high;
        while (i <= j) {
            while (key[i] > pivot) i++;
            while (key[j] < pivot) j--;
            if (i > j) break;
            const uint64_t swap = key[i];
            key[i++] = key[j];
            key[j--] = swap;
        }
        if (k - 1 <= j)
            high = j;
        else if (k - 1 >= i)
            low = i;
        else
            return;
    }
}

/* chosen[i] for the k largest of trial[first ..], ties to the lower index. */
static inline void mark_largest(const float *trial, int64_t first, int64_t count, int64_t k,
                                char *chosen) {
    uint64_t *key = malloc((size_t)count * sizeof(*key));
    for (int64_t i = 0; i < count; i++)
        key[i] = (uint64_t)magnitude(trial[first + i]) << 32 | (uint32_t) ~(first + i);
    if (k < count) quickselect(key, count, k);
    for (int64_t i = 0; i < k; i++) chosen[~(uint32_t)key[i]] = 1;
    free(key);
}

static inline int64_t share(const cog_quantizer *q, int64_t i) {
    return (int64_t)ceil(q->ratio * (double)i * (1 - 1e-15));
}

static inline void expected_choice(const cog_quantizer *q, const char *spec, const float *trial,
                                   char *chosen) {
    if (strstr(spec, "kind=global") != NULL) {
        mark_largest(trial, 0, q->n, share(q, q->n), chosen);
        return;
    }
    for (int64_t a = 0; a < q->n; a += q->tile) {
        const int64_t b = a + q->tile < q->n ? a + q->tile : q->n;
        const int64_t k = share(q, b) - share(q, a);
        mark_largest(trial, a, b - a, k > 0 ? k : 1, chosen);
    }
}

/* The mean magnitude of sign is compared to within the rounding of a sum in float. */
static inline int64_t wrong_signs(const cog_quantizer *q, const char *spec, const float *trial,
                                  const float *decoded) {
    const int64_t group = strstr(spec, "scale=group") != NULL ? q->tile : q->n;
    int64_t n_wrong = 0;
    for (int64_t a = 0; a < q->n; a += group) {
        const int64_t b = a + group < q->n ? a + group : q->n;
        double sum = 0, n_nonzero = 0;
        for (int64_t i = a; i < b; i++) {
            sum += fabs((double)trial[i]);
            n_nonzero += trial[i] != 0;
        }
        const double mean = n_nonzero > 0 ? sum / n_nonzero : 0;
        for (int64_t i = a; i < b; i++) {
            const double sign = (trial[i] > 0) - (trial[i] < 0);
            n_wrong += fabs(sign * mean - (double)decoded[i]) > 1e-5 * mean;
        }
    }
    return n_wrong;
}

#endif
