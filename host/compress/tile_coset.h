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

/* The point congruent to the code that is nearest to h. */
static inline float nearest_point(int32_t code, float h, const cog_lattice *lattice) {
    const double k = (double)lattice->n_levels, c = (double)code;
    const double wraps = floor(((double)h * lattice->inverse - c) / k + 0.5);
    return (float)((c + k * wraps) * (double)lattice->step);
}

static void lattice_chunk(const float *trial, const float *h, const float u[CHUNK],
                          const cog_lattice *lattice, int32_t *code, float *decoded) {
    const double k = (double)lattice->n_levels;
    for (int i = 0; i < CHUNK; i++) {
        const double point = floor((double)trial[i] * lattice->inverse + (double)u[i]);
        const double low = point - k * floor(point / k);
        code[i] = low >= 0 && low < k ? (int32_t)low : 0; /* NaN, infinity */
    }
    for (int i = 0; i < CHUNK; i++) decoded[i] = nearest_point(code[i], h[i], lattice);
}

static inline void dither_numbers(const cog_dither *dither, int64_t chunk, float u[CHUNK]) {
    words word[4];
    dither_chunk(dither, chunk, word);
    for (int w = 0; w < 4; w++) {
        lanes_store(u + 2 * w * LANES, words_lower(word[w]));
        lanes_store(u + (2 * w + 1) * LANES, words_upper(word[w]));
    }
}

/* What a point that is not there, or far beyond the floats, leaves is not owed. */
static inline float rest_of(float trial, float decoded) {
    return isfinite(trial) && isfinite(decoded) ? trial - decoded : 0;
}

static void to_coset(const float *trial, const float *h, int count, const cog_lattice *lattice,
                     const cog_dither *dither, int64_t first, float *residual, uint32_t *codes) {
    float u[CHUNK], near[CHUNK] = {0}, decoded[CHUNK];
    int32_t code[CHUNK];
    for (int i = 0; i < CHUNK; i++) u[i] = 0.5f;
    for (int i = 0; i < count; i += CHUNK) {
        const int part = least_of(CHUNK, count - i);
        if (!dither->none) dither_numbers(dither, (first + i) / CHUNK, u);
        if (h != NULL) memcpy(near, h + i, (size_t)part * sizeof(*near));
        lattice_chunk(trial + i, near, u, lattice, code, decoded);
        for (int j = part; j < CHUNK; j++) code[j] = 0;
        for (int j = 0; j < part; j += 2 * LANES) {
            uint32_t *word = codes + (ptrdiff_t)(i + j) / 32 * lattice->bits;
            const words low = words_load((const uint32_t *)code + j);
            const words high = words_load((const uint32_t *)code + j + LANES);
            for (int p = 0; p < lattice->bits; p++)
                word[p] = words_bit(low, p) | words_bit(high, p) << LANES;
        }
        for (int j = 0; j < part; j++) residual[i + j] = rest_of(trial[i + j], decoded[j]);
    }
}

static void add_coset(const uint32_t *codes, const float *h, const cog_lattice *lattice,
                      float weight, int count, float *y) {
    for (int i = 0; i < count; i += 32) {
        const uint32_t *word = codes + (ptrdiff_t)i / 32 * lattice->bits;
        const int part = least_of(32, count - i);
        int32_t code[32] = {0};
        for (int p = 0; p < lattice->bits; p++)
            for (int j = 0; j < 32; j++) code[j] |= (int32_t)(word[p] >> j & 1) << p;
        for (int j = 0; j < part; j++) {
            const float near = h != NULL ? h[i + j] : 0;
            y[i + j] = fmaf(weight, nearest_point(code[j], near, lattice), y[i + j]);
        }
    }
}

#endif
