/* tile_hadamard.h - the loops of rotations: random signs, fast Walsh-Hadamard transform, one bit.
 *
 * Part of tile_loops.h. A transform of n values is log2 n stages; stage h replaces x[i], x[i + h]
 * by their sum and difference. Stages go from h = 1 upwards, so the bits are those of the textbook
 * loop, but four or eight of them at a time in registers: the first pass takes 256 neighbours
 * through 8 stages, 4 of them across the lanes, the second 16 rows through the other 4.
 */
#ifndef COG_HOST_COMPRESS_TILE_HADAMARD_H
#define COG_HOST_COMPRESS_TILE_HADAMARD_H

#include "tile_dither.h"

enum { ROWS = 16 }; /* vectors in registers */

typedef float row __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t row_bits __attribute__((vector_size(64), aligned(4), may_alias));

#define PARTNER(x, h)                                                                            \
    __builtin_shufflevector(x, x, 0 ^ (h), 1 ^ (h), 2 ^ (h), 3 ^ (h), 4 ^ (h), 5 ^ (h), 6 ^ (h), \
                            7 ^ (h), 8 ^ (h), 9 ^ (h), 10 ^ (h), 11 ^ (h), 12 ^ (h), 13 ^ (h),   \
                            14 ^ (h), 15 ^ (h))
#define MINUS(j, h) (((j) & (h)) != 0 ? INT32_MIN : 0)
/* x[j] + x[j + h] where j has no bit h, x[j - h] - x[j] where it has. */
#define ACROSS(x, h)                                                                     \
    do {                                                                                 \
        const row_bits minus = {MINUS(0, h),  MINUS(1, h),  MINUS(2, h),  MINUS(3, h),   \
                                MINUS(4, h),  MINUS(5, h),  MINUS(6, h),  MINUS(7, h),   \
                                MINUS(8, h),  MINUS(9, h),  MINUS(10, h), MINUS(11, h),  \
                                MINUS(12, h), MINUS(13, h), MINUS(14, h), MINUS(15, h)}; \
        (x) = PARTNER(x, h) + (row)((row_bits)(x) ^ minus);                              \
    } while (0)

/* `n` rows that are `stride` floats apart, all stages among them. */
static inline void stages_of_rows(float *x, int n, ptrdiff_t stride) {
    row r[ROWS];
    for (int i = 0; i < n; i++) r[i] = *(const row *)(x + i * stride);
    for (int h = 1; h < n; h *= 2)
        for (int i = 0; i < n; i++) {
            if ((i & h) != 0) continue;
            const row sum = r[i] + r[i + h];
            r[i + h] = r[i] - r[i + h];
            r[i] = sum;
        }
    for (int i = 0; i < n; i++) *(row *)(x + i * stride) = r[i];
}

static inline void stages_across(float *x, int n) {
    for (int i = 0; i < n; i += LANES) {
        row r = *(const row *)(x + i);
        ACROSS(r, 1);
        ACROSS(r, 2);
        ACROSS(r, 4);
        ACROSS(r, 8);
        *(row *)(x + i) = r;
    }
}

/* One call for every number of rows, so that each is unrolled by itself. */
static void hadamard(float *x, int n) {
    for (int i = 0; i < n; i += ROWS * LANES) {
        stages_across(x + i, ROWS * LANES);
        stages_of_rows(x + i, ROWS, LANES);
    }
    const int n_far = n / (ROWS * LANES);
    for (int i = 0; i < ROWS * LANES; i += LANES) {
        if (n_far == 16) stages_of_rows(x + i, 16, ROWS * LANES);
        if (n_far == 8) stages_of_rows(x + i, 8, ROWS * LANES);
        if (n_far == 4) stages_of_rows(x + i, 4, ROWS * LANES);
        if (n_far == 2) stages_of_rows(x + i, 2, ROWS * LANES);
    }
}

enum { FLIPS = 4 * LANES * 32 }; /* signs that 16 blocks of Philox give */

static void flip(const float *x, int n, const cog_dither *signs, int64_t first, float *y) {
    uint32_t block = (uint32_t)(first / FLIPS) * LANES;
    int vector = (int)(first % FLIPS) / LANES; /* of those that the words are for */
    words word[4];
    for (int i = 0; i < n; vector = 0, block += LANES) {
        philox_words(block, COG_STREAM_DITHER, signs->payload, signs->use, signs->stream, word);
        for (; vector < FLIPS / LANES && i < n; vector++, i += LANES)
            lanes_store(y + i, lanes_flip(lanes_load(x + i), word[vector / 32], vector % 32));
    }
}

static void threshold(const float *x, int n, float reach, const cog_dither *dither, int64_t first,
                      uint32_t *negative) {
    words word[4];
    const lanes minus = lanes_all(-2 * reach), all = lanes_all(reach);
    for (int i = 0; i < n; i += 2 * LANES) {
        if (i % CHUNK == 0) dither_chunk(dither, (first + i) / CHUNK, word);
        const words h = word[i % CHUNK / 32];
        const lanes low = lanes_fma(minus, words_lower(h), all);
        const lanes high = lanes_fma(minus, words_upper(h), all);
        negative[i / 32] = lanes_negative(lanes_sub(lanes_load(x + i), low)) |
                           lanes_negative(lanes_sub(lanes_load(x + i + LANES), high)) << LANES;
    }
}

static void ones(const uint32_t *negative, int n, float *x) {
    for (int i = 0; i < n; i += LANES)
        lanes_store(x + i, lanes_signed(negative[i / 32] >> i % 32, 0, lanes_all(1)));
}

static void take_from(const float *x, float scale, int count, float *trial) {
    for (int i = 0; i < count; i++) trial[i] = trial[i] - (scale * x[i] + 0.0f);
}

static void add_scaled(const float *x, float scale, float weight, int count, float *y) {
    for (int i = 0; i < count; i++) y[i] = fmaf(weight, scale * x[i], y[i]);
}

#endif
