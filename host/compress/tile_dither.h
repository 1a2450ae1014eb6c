/* tile_dither.h - the loops with random numbers: rounding to levels, up or down at random.
 *
 * Part of tile_loops.h. One block of Philox gives the 16-bit numbers of 8 entries, and 16 blocks
 * side by side those of a chunk of 128: word w of them the two vectors from entry 32 w on.
 */
#ifndef COG_HOST_COMPRESS_TILE_DITHER_H
#define COG_HOST_COMPRESS_TILE_DITHER_H

#include "rng.h"
#include "philox_lanes.h"
#include "tile_combine.h"

enum { CHUNK = 128, ENERGY_LANES = 64 };

/* The random words of a chunk: word w is that of entries 32 w .. 32 w + 31. */
static inline void dither_chunk(const cog_dither *dither, int64_t chunk, words word[4]) {
    philox_words((uint32_t)(chunk * LANES), COG_STREAM_DITHER, dither->payload, dither->use,
                 dither->stream, word);
}

static double energy(const float *trial, int count) {
    double lane[ENERGY_LANES] = {0};
    for (int i = 0; i < padded_count(count); i += ENERGY_LANES)
        for (int j = 0; j < ENERGY_LANES; j++) {
            const double x = (double)trial[i + j];
            lane[j] += x * x;
        }
    for (int half = ENERGY_LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

static inline lanes decoded_lanes(words code, const cog_levels *levels) {
    const lanes above_zero = lanes_sub(lanes_whole(code), lanes_all(levels->zero));
    return lanes_fma(above_zero, lanes_all(levels->step), lanes_all(0)); /* never -0 */
}

/* The codes of 16 entries, in words without padding. */
static inline words round_lanes(lanes trial, lanes offset, const cog_levels *levels) {
    const lanes level = lanes_fma(trial, lanes_all(levels->inverse), offset);
    return words_cut(lanes_max(lanes_min(level, lanes_all(levels->top)), lanes_all(0)));
}

/* 32 entries, `left` of them there; u are their random numbers. */
static inline void quantize_block(const float *trial, const lanes u[2], int left,
                                  const cog_levels *levels, float *residual, bool stream,
                                  uint32_t *word) {
    const lanes zero = lanes_all(levels->zero);
    const uint32_t valid = left < 32 ? ~(~0u << left) : ~0u;
    lanes value[2];
    words code[2];
    for (int h = 0; h < 2; h++) {
        value[h] = lanes_load(trial + h * LANES);
        code[h] = round_lanes(value[h], lanes_add(zero, u[h]), levels);
    }
    for (int p = 0; p < levels->bits; p++)
        word[p] = (words_bit(code[0], p) | words_bit(code[1], p) << LANES) & valid;
    for (int h = 0; h < 2; h++)
        put_part(residual + h * LANES, lanes_sub(value[h], decoded_lanes(code[h], levels)),
                 left - h * LANES, stream);
}

static void quantize(const float *trial, int count, const cog_levels *levels,
                     const cog_dither *dither, int64_t first, float *residual, bool stream,
                     uint32_t *codes) {
    words word[4];
    lanes u[2] = {lanes_all(0.5f), lanes_all(0.5f)};
    for (int i = 0; i < count; i += 32) {
        if (!dither->none) {
            if (i % CHUNK == 0) dither_chunk(dither, (first + i) / CHUNK, word);
            u[0] = words_lower(word[i % CHUNK / 32]);
            u[1] = words_upper(word[i % CHUNK / 32]);
        }
        quantize_block(trial + i, u, count - i, levels, residual + i, stream,
                       codes + (ptrdiff_t)i / 32 * levels->bits);
    }
    if (!isfinite(levels->step)) forget(residual, count);
}

static void add_codes(const uint32_t *codes, const cog_levels *levels, float weight, int count,
                      float *y) {
    const lanes by = lanes_all(weight);
    for (int i = 0; i < count; i += LANES) {
        const uint32_t *word = codes + (ptrdiff_t)i / 32 * levels->bits;
        words code = words_all(0);
        for (int p = 0; p < levels->bits; p++) code = words_with(code, word[p] >> i % 32, p);
        const lanes value = decoded_lanes(code, levels);
        if (i + LANES <= count) {
            lanes_store(y + i, lanes_fma(by, value, lanes_load(y + i)));
            continue;
        }
        float part[LANES];
        lanes_store(part, value);
        for (int j = 0; i + j < count; j++) y[i + j] = fmaf(weight, part[j], y[i + j]);
    }
}

#endif
