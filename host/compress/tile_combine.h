/* tile_combine.h - the first half of the loops: the trial of a tile and what is found out on the
 * way.
 *
 * Part of tile_loops.h. Everything goes 16 lanes at a time; what is left at the end of a vector
 * goes through a padded copy and the same lanes.
 */
#ifndef COG_HOST_COMPRESS_TILE_COMBINE_H
#define COG_HOST_COMPRESS_TILE_COMBINE_H

#include <math.h>
#include <string.h>

#include "lanes.h"
#include "tile.h"

static inline uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

enum { BLOCK = 4 }; /* vectors in flight: hides the latency of the fused multiply-adds */

/* acc = sum of the terms at entry i, BLOCK vectors of it */
static inline void combine_block(int n_terms, const cog_term *terms, int64_t i, lanes acc[BLOCK]) {
    for (int v = 0; v < BLOCK; v++)
        acc[v] = lanes_mul(lanes_all(terms[0].coef), lanes_load(terms[0].x + i + v * LANES));
    for (int t = 1; t < n_terms; t++) {
        const lanes coef = lanes_all(terms[t].coef);
        for (int v = 0; v < BLOCK; v++)
            acc[v] = lanes_fma(coef, lanes_load(terms[t].x + i + v * LANES), acc[v]);
    }
}

/* The last, incomplete block: the terms are copied to where reading on is allowed, and what a
 * coefficient that is not finite made of the padding is removed. */
static void combine_rest(int n_terms, const cog_term *terms, int64_t first, int count,
                         lanes acc[BLOCK]) {
    float copy[COG_MAX_TERMS][BLOCK * LANES] = {0};
    cog_term padded[COG_MAX_TERMS];
    for (int t = 0; t < n_terms; t++) {
        memcpy(copy[t], terms[t].x + first, (size_t)count * sizeof(float));
        padded[t] = (cog_term){copy[t], terms[t].coef};
    }
    combine_block(n_terms, padded, 0, acc);
    float sum[BLOCK * LANES];
    for (int v = 0; v < BLOCK; v++) lanes_store(sum + v * LANES, acc[v]);
    for (int i = count; i < BLOCK * LANES; i++) sum[i] = 0;
    for (int v = 0; v < BLOCK; v++) acc[v] = lanes_load(sum + v * LANES);
}

/* Have the same entries of the next tile in the second cache by the time they are asked for. */
static inline void prefetch_block(int n_terms, const cog_term *terms, int64_t i) {
    for (int t = 0; t < n_terms; t++)
        for (int v = 0; v < BLOCK; v++) {
            const uintptr_t here =
                (uintptr_t)terms[t].x + (uintptr_t)(i + v * LANES) * sizeof(float);
            __builtin_prefetch((const void *)(here + COG_TILE * sizeof(float)), 0, 2);
        }
}

static inline uint64_t mark_word(const float *x, words bound) {
    uint64_t word = 0;
    for (int v = 0; v < 4; v++)
        word |= (uint64_t)words_at_least(words_of(lanes_load(x + v * LANES)), bound) << v * LANES;
    return word;
}

static int64_t count_at_least(const float *x, int64_t n, uint32_t bound) {
    const words limit = words_all(bound);
    int64_t found = 0, i = 0;
    for (; i + 64 <= n; i += 64) found += __builtin_popcountll(mark_word(x + i, limit));
    if (i == n) return found;
    float rest[64] = {0};
    memcpy(rest, x + i, (size_t)(n - i) * sizeof(*x));
    const uint64_t word = mark_word(rest, limit) & ~(~(uint64_t)0 << (n - i));
    return found + __builtin_popcountll(word);
}

static void range(const float *x, int64_t n, uint32_t *least, uint32_t *most) {
    lanes low = lanes_abs(lanes_all(x[0])), high = low;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const lanes value = lanes_abs(lanes_load(x + i));
        low = lanes_smaller(low, value);
        high = lanes_larger(high, value);
    }
    float lows[LANES], highs[LANES];
    lanes_store(lows, low);
    lanes_store(highs, high);
    *least = LANES_ABS;
    *most = 0;
    for (int j = 0; j < LANES; j++) {
        const uint32_t l = float_bits(lows[j]), h = float_bits(highs[j]);
        *least = l < *least ? l : *least;
        *most = h > *most ? h : *most;
    }
    for (const float *rest = x + i; rest < x + n; rest++) {
        const uint32_t size = float_bits(*rest) & LANES_ABS;
        *least = size < *least ? size : *least;
        *most = size > *most ? size : *most;
    }
}

/* What is found out about a trial on the way; each lane its own. */
typedef struct tally {
    lanes most[BLOCK];  /* largest magnitude */
    lanes least[BLOCK]; /* smallest */
    lanes sum[BLOCK];   /* of magnitudes */
} tally;

enum { NOTHING, MAXIMA, SUMS };

static inline void start_tally(tally *t) {
    for (int v = 0; v < BLOCK; v++) {
        t->most[v] = lanes_all(0);
        t->sum[v] = lanes_all(0);
        t->least[v] = lanes_all(INFINITY);
    }
}

/* Without a tally nothing would tell of a NaN later, so it is made canonical at once. */
static inline void keep_block(lanes acc[BLOCK], float *trial, int what, tally *t) {
    for (int v = 0; v < BLOCK; v++) {
        const lanes value = what == NOTHING ? lanes_canonical(acc[v]) : acc[v];
        lanes_store(trial + v * LANES, value);
        if (what == NOTHING) continue;
        const lanes size = lanes_abs(value);
        if (what == MAXIMA) t->most[v] = lanes_larger(t->most[v], size);
        if (what == SUMS) t->least[v] = lanes_smaller(t->least[v], size);
        if (what == SUMS) t->sum[v] = lanes_add(t->sum[v], size);
    }
}

/* Entries begin .. end of a tile, at most a part of it: whole blocks and a rest. */
static inline void combine_part(int n_terms, const cog_term *terms, int64_t first, int begin,
                                int end, float *trial, int what, tally *t) {
    lanes acc[BLOCK];
    int i = begin;
    for (; i + BLOCK * LANES <= end; i += BLOCK * LANES) {
        combine_block(n_terms, terms, first + i, acc);
        prefetch_block(n_terms, terms, first + i);
        keep_block(acc, trial + i, what, t);
    }
    if (i >= end) return;
    combine_rest(n_terms, terms, first + i, end - i, acc);
    keep_block(acc, trial + i, what, t);
}

static int padded_count(int count) {
    return (count + COG_TILE_ROW - 1) / COG_TILE_ROW * COG_TILE_ROW;
}

static void pad_trial(int from, int count, float *trial) {
    const int end = padded_count(count);
    for (int i = from; i < end; i++) trial[i] = 0;
}

static void make_canonical(float *trial, int count) {
    for (int i = 0; i < count; i++)
        if (trial[i] != trial[i]) trial[i] = cog_bits_float(COG_NAN_BITS);
}

enum { PART = COG_TILE / BLOCK };

static int least_of(int a, int b) { return a < b ? a : b; }

static void combine(int n_terms, const cog_term *terms, int64_t first, int count, float *trial) {
    if (n_terms > 0) combine_part(n_terms, terms, first, 0, count, trial, NOTHING, NULL);
    pad_trial(n_terms > 0 ? count : 0, count, trial);
}

/* The maxima of a part stay in registers. */
static void combine_max(int n_terms, const cog_term *terms, int64_t first, int count, float *trial,
                        float *most) {
    uint32_t low, high;
    for (int part = 0; part < BLOCK; part++) {
        tally t;
        start_tally(&t);
        if (n_terms > 0)
            combine_part(n_terms, terms, first, part * PART, least_of(count, (part + 1) * PART),
                         trial, MAXIMA, &t);
        for (int v = 0; v < BLOCK; v++) lanes_store(most + (part * BLOCK + v) * LANES, t.most[v]);
    }
    pad_trial(n_terms > 0 ? count : 0, count, trial);
    range(most, COG_TILE_MAXIMA, &low, &high);
    if (high <= LANES_INF) return;
    make_canonical(trial, count);
    make_canonical(most, COG_TILE_MAXIMA);
}

/* The halves of the lanes are added up to one. */
static float sum_halves(float lane[COG_TILE_LANES]) {
    for (int half = COG_TILE_LANES / 2; half >= LANES; half /= 2)
        for (int j = 0; j < half; j += LANES)
            lanes_store(lane + j, lanes_add(lanes_load(lane + j), lanes_load(lane + j + half)));
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

static inline float sum_lanes(const float *trial, int count, const lanes *factor, lanes *least) {
    float lane[COG_TILE_LANES];
    *least = lanes_all(INFINITY);
    for (int part = 0; part < BLOCK; part++) {
        const int end = least_of(count, (part + 1) * PART);
        tally t;
        start_tally(&t);
        for (int i = part * PART; i < end; i += BLOCK * LANES)
            for (int v = 0; v < BLOCK; v++) {
                lanes size = lanes_abs(lanes_load(trial + i + v * LANES));
                t.least[v] = lanes_smaller(t.least[v], size);
                if (factor != NULL) size = lanes_mul(size, *factor);
                t.sum[v] = lanes_add(t.sum[v], size);
            }
        for (int v = 0; v < BLOCK; v++) *least = lanes_smaller(*least, t.least[v]);
        for (int v = 0; v < BLOCK; v++) lanes_store(lane + (part * BLOCK + v) * LANES, t.sum[v]);
    }
    return sum_halves(lane);
}

/* Sums beyond the range of a float are taken once more at 2^-64 of the size. */
static cog_magnitude finish_magnitude(const float *trial, int count, double sum, lanes least) {
    const lanes factor = lanes_all(0x1p-64f);
    if (isinf(sum)) sum = (double)sum_lanes(trial, padded_count(count), &factor, &least) * 0x1p64;
    const int64_t n_zeros = lanes_zero(least) == 0 ? 0 : count - count_at_least(trial, count, 1);
    return (cog_magnitude){sum, n_zeros};
}

static cog_magnitude magnitude(const float *trial, int count) {
    lanes least;
    const double sum = sum_lanes(trial, padded_count(count), NULL, &least);
    return finish_magnitude(trial, count, sum, least);
}

static cog_magnitude combine_sum(int n_terms, const cog_term *terms, int64_t first, int count,
                                 float *trial) {
    if (n_terms == 0 || count % (BLOCK * LANES) != 0) {
        combine(n_terms, terms, first, count, trial);
        return magnitude(trial, count);
    }
    float lane[COG_TILE_LANES];
    lanes least = lanes_all(INFINITY);
    for (int part = 0; part < BLOCK; part++) {
        tally t;
        start_tally(&t);
        combine_part(n_terms, terms, first, part * PART, least_of(count, (part + 1) * PART), trial,
                     SUMS, &t);
        for (int v = 0; v < BLOCK; v++) least = lanes_smaller(least, t.least[v]);
        for (int v = 0; v < BLOCK; v++) lanes_store(lane + (part * BLOCK + v) * LANES, t.sum[v]);
    }
    pad_trial(count, count, trial);
    const double sum = sum_halves(lane);
    if (sum != sum) make_canonical(trial, count);
    return finish_magnitude(trial, count, sum, least);
}

#endif
