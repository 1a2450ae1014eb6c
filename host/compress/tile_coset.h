/* tile_coset.h - the loops of modulo quantisation, and of products in double.
 *
 * Part of tile_loops.h. A lattice point is numbered in double: predictions may be many steps away
 * from 0. Numbers of levels are powers of two, so that dividing by them is exact.
 */
#ifndef COG_HOST_COMPRESS_TILE_COSET_H
#define COG_HOST_COMPRESS_TILE_COSET_H

#include "tile_hadamard.h"

static double dot(const float *a, const float *b, int64_t n) {
    double lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] += (double)a[i + j] * (double)b[i + j];
    for (int j = 0; i + j < n; j++) lane[j] += (double)a[i + j] * (double)b[i + j];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

/* near[i] becomes the point congruent to code[i] that is nearest to it. */
static inline void nearest_points(const int32_t code[CHUNK], const cog_lattice *lattice,
                                  float near[CHUNK]) {
    const double k = (double)lattice->n_levels, share = 1 / k;
    const double inverse = lattice->inverse, step = (double)lattice->step;
    for (int i = 0; i < CHUNK; i++) {
        const double c = (double)code[i];
        const double wraps = floor(((double)near[i] * inverse - c) * share + 0.5);
        near[i] = (float)((c + k * wraps) * step);
    }
}

/* NaN and infinity have the code 0. */
static inline void points_modulo(const float *trial, const float u[CHUNK],
                                 const cog_lattice *lattice, int32_t code[CHUNK]) {
    const double k = (double)lattice->n_levels, share = 1 / k, inverse = lattice->inverse;
    for (int i = 0; i < CHUNK; i++) {
        const double point = floor((double)trial[i] * inverse + (double)u[i]);
        const double low = point - k * floor(point * share);
        const double sound = low >= 0 ? low : 0;
        code[i] = (int32_t)(sound < k ? sound : 0);
    }
}

static inline void dither_numbers(const cog_dither *dither, int64_t chunk, float u[CHUNK]) {
    words word[4];
    dither_chunk(dither, chunk, word);
    for (int w = 0; w < 4; w++) {
        lanes_store(u + 2 * w * LANES, words_lower(word[w]));
        lanes_store(u + (2 * w + 1) * LANES, words_upper(word[w]));
    }
}

/* What is left of a chunk; nothing where the point or the trial is not finite. */
static inline void rest_of_points(const float *trial, const float decoded[CHUNK], int count,
                                  float *residual) {
    for (int i = 0; i < count; i++) {
        const float rest = trial[i] - decoded[i];
        residual[i] = isfinite(rest) ? rest : 0;
    }
}

static void to_coset(const float *trial, const float *h, int count, const cog_lattice *lattice,
                     const cog_dither *dither, int64_t first, float *residual, uint32_t *codes) {
    float u[CHUNK], near[CHUNK];
    int32_t code[CHUNK];
    for (int i = 0; i < CHUNK; i++) u[i] = 0.5f;
    for (int i = 0; i < count; i += CHUNK) {
        const int part = least_of(CHUNK, count - i);
        if (!dither->none) dither_numbers(dither, (first + i) / CHUNK, u);
        points_modulo(trial + i, u, lattice, code);
        for (int j = part; j < CHUNK; j++) code[j] = 0;
        memset(near, 0, sizeof(near));
        if (h != NULL) memcpy(near, h + i, (size_t)part * sizeof(*near));
        nearest_points(code, lattice, near);
        for (int j = 0; j < part; j += 2 * LANES) {
            uint32_t *word = codes + (ptrdiff_t)(i + j) / 32 * lattice->bits;
            const words low = words_load((const uint32_t *)code + j);
            const words high = words_load((const uint32_t *)code + j + LANES);
            for (int p = 0; p < lattice->bits; p++)
                word[p] = words_bit(low, p) | words_bit(high, p) << LANES;
        }
        rest_of_points(trial + i, near, part, residual + i);
    }
}

static inline void read_codes(const uint32_t *word, int bits, int32_t code[2 * LANES]) {
    words low = words_all(0), high = words_all(0);
    for (int p = 0; p < bits; p++) {
        low = words_with(low, word[p], p);
        high = words_with(high, word[p] >> LANES, p);
    }
    memcpy(code, &low, sizeof(low));
    memcpy(code + LANES, &high, sizeof(high));
}

static void add_coset(const uint32_t *codes, const float *h, const cog_lattice *lattice,
                      float weight, int count, float *y) {
    for (int i = 0; i < count; i += CHUNK) {
        const int part = least_of(CHUNK, count - i);
        int32_t code[CHUNK] = {0};
        float near[CHUNK] = {0};
        for (int j = 0; j < part; j += 2 * LANES)
            read_codes(codes + (ptrdiff_t)(i + j) / 32 * lattice->bits, lattice->bits, code + j);
        if (h != NULL) memcpy(near, h + i, (size_t)part * sizeof(*near));
        nearest_points(code, lattice, near);
        for (int j = 0; j < part; j++) y[i + j] = fmaf(weight, near[j], y[i + j]);
    }
}

#endif
