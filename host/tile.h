/* tile.h - the hot loops that quantizers share: one tile of a message at a time, in cache.
 *
 * A tile is at most COG_TILE entries; its trial is computed once into a buffer of the caller,
 * looked at there as often as needed, and leaves as payload and residual. The buffer is read in
 * full rows of COG_TILE_ROW: whoever fills it pads the last row with zeros.
 *
 * A NaN in a trial is replaced by the one of bits 0x7fc00000, so that payloads do not depend on
 * which NaN a processor makes up. Magnitudes are the bits of |x| compared as integers: infinity
 * is above every number and NaN above infinity.
 *
 * Each set of loops is compiled from tile_loops.h for one instruction set; all give the same bits.
 */
#ifndef COG_HOST_TILE_H
#define COG_HOST_TILE_H

#include <string.h>

#include "compress.h"

#define COG_NAN_BITS 0x7fc00000u

static inline float cog_bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

enum { COG_TILE_MAXIMA = 256, COG_TILE_LANES = 256 };
enum { COG_TILE = 4096, COG_TILE_ROW = 256, COG_TILE_WORDS = COG_TILE / 64 };

/* Sum of magnitudes and number of zeros. */
typedef struct cog_magnitude {
    double sum; /* NaN or infinity when an entry is */
    int64_t n_zeros;
} cog_magnitude;

/* Random numbers of one payload: Philox4x32-10 with the key {stream, 0}. Entry i uses half
 * i / 16 % 2, the lower first, of word i / 32 % 4 of the block of counter {16 (i / 128) + i % 16,
 * COG_STREAM_DITHER, payload, use}: 16 bits h that stand for (h + 1/2) / 2^16. */
typedef struct cog_dither {
    uint32_t stream, payload, use;
    bool none; /* every h stands for 1/2 instead */
} cog_dither;

/* code = min(floor(trial / step + zero + dither), top), decoded = (code - zero) step */
typedef struct cog_levels {
    int bits; /* of a code */
    float zero, top;
    float step, inverse; /* inverse = 1 / step; both 0: no size, all codes 0 */
} cog_levels;

/* Points step * z, whole z; those of equal z modulo n_levels = 2^bits share a code. */
typedef struct cog_lattice {
    int bits, n_levels;
    float step;
    double inverse; /* 1 / step */
} cog_lattice;

typedef struct cog_tile_ops {
    const char *name; /* of the instruction set */

    /* trial[i] of entries first .. first+count, padded. It may be one of the terms at `first`, when
     * count is whole rows. */
    void (*combine)(int n_terms, const cog_term *terms, int64_t first, int count, float *trial);
    /* And the largest |trial| of each of COG_TILE_MAXIMA sixteens of the tile, 0 for none; which
     * sixteens does not matter. */
    void (*combine_max)(int n_terms, const cog_term *terms, int64_t first, int count, float *trial,
                        float *most);
    /* And its magnitude, as below. */
    cog_magnitude (*combine_sum)(int n_terms, const cog_term *terms, int64_t first, int count,
                                 float *trial);
    /* to[i] = from[i], past the caches when `stream`; `to` is then 64-byte aligned. */
    void (*put)(float *to, const float *from, int count, bool stream);
    /* To be called once after the last put, before another thread may read. */
    void (*fence)(void);

    /* Bit i of marks [COG_TILE_WORDS]: magnitude of x[i] >= bound. Their number. */
    int (*mark)(const float *x, int count, uint32_t bound, uint64_t *marks);
    /* How many of x[n] have a magnitude >= bound; x need not be padded. */
    int64_t (*count)(const float *x, int64_t n, uint32_t bound);
    /* The smallest and the largest magnitude of x[n]; n >= 1. */
    void (*range)(const float *x, int64_t n, uint32_t *least, uint32_t *most);

    /* Of a padded segment; the order of the sum is told in sign.c. */
    cog_magnitude (*magnitude)(const float *trial, int count);
    /* Signs and zeros of a padded segment, whole words, and residual = trial - decoded; any_zero
     * tells whether it has zeros. */
    void (*split)(const float *trial, int count, float scale, bool any_zero, float *residual,
                  bool stream, uint32_t *negative, uint32_t *zero);
    /* y[i] += weight * (+-scale, or 0 where zero [may be NULL] has a bit) */
    void (*add_signs)(const uint32_t *negative, const uint32_t *zero, float scale, float weight,
                      int count, float *y);

    /* Sum of squares of a padded segment, in double: entry i is added to lane i % 64 of 64, in the
     * order of i; then lanes 0..31 take lanes 32..63, and so on by halves. */
    double (*energy)(const float *trial, int count);
    /* Codes of a padded segment that starts at entry `first` of its message, a multiple of 128, and
     * residual = trial - decoded. 32 entries have `bits` words: bit i of word p is bit p of the
     * code of entry i. */
    void (*quantize)(const float *trial, int count, const cog_levels *levels,
                     const cog_dither *dither, int64_t first, float *residual, bool stream,
                     uint32_t *codes);
    /* y[i] += weight * decoded */
    void (*add_codes)(const uint32_t *codes, const cog_levels *levels, float weight, int count,
                      float *y);

    /* x = H x, H[i, j] = (-1)^(number of ones in i & j), not normalised; n is a power of two from
     * COG_TILE_ROW to COG_TILE. The bits are those of the textbook loop, neighbours first. */
    void (*hadamard)(float *x, int n);
    /* y[i] = +-x[i]; minus where bit v / 16 % 32 of word v / 512 % 4 of the block of counter
     * {16 (v / 2048) + v % 16, .. as in cog_dither} is set, v = first + i. first is a multiple of
     * COG_TILE_ROW, n too; y may be x. */
    void (*flip)(const float *x, int n, const cog_dither *signs, int64_t first, float *y);
    /* Bit i: x[i] < reach (1 - 2 u), with u the dither of entry first + i: the mean of the bits as
     * signs is x / reach. As flip, and whole words. */
    void (*threshold)(const float *x, int n, float reach, const cog_dither *dither, int64_t first,
                      uint32_t *negative);
    /* x[i] = -1 or 1 */
    void (*ones)(const uint32_t *negative, int n, float *x);
    /* trial[i] -= scale x[i], rounded product first; no product is -0 */
    void (*take_from)(const float *x, float scale, int count, float *trial);
    /* y[i] += weight (scale x[i]) */
    void (*add_scaled)(const float *x, float scale, float weight, int count, float *y);

    /* sum of a[i] b[i], as energy, in 16 lanes */
    double (*dot)(const float *a, const float *b, int64_t n);
    /* Codes of z = floor(trial / step + dither), laid out as by quantize, and residual = trial -
     * the point congruent to z that is nearest to h [count, NULL for zeros]; 0 where that or the
     * trial is not finite. */
    void (*to_coset)(const float *trial, const float *h, int count, const cog_lattice *lattice,
                     const cog_dither *dither, int64_t first, float *residual, uint32_t *codes);
    /* y[i] += weight * the point with that code nearest to h[i] */
    void (*add_coset)(const uint32_t *codes, const float *h, const cog_lattice *lattice,
                      float weight, int count, float *y);

    /* to[i] = bf16 of trial[i], residual[i] = the rest */
    void (*narrow)(const float *trial, int count, uint16_t *to, float *residual);
    /* y[i] += weight * x[i] */
    void (*add_floats)(const float *x, float weight, int64_t n, float *y);
    void (*add_bf16)(const uint16_t *x, float weight, int64_t n, float *y);
    /* y[offset[i]] += weight * x[i] */
    void (*scatter_floats)(const float *x, const uint16_t *offset, float weight, int64_t n,
                           float *y);
    void (*scatter_bf16)(const uint16_t *x, const uint16_t *offset, float weight, int64_t n,
                         float *y);
} cog_tile_ops;

/* Everything that this processor can run, the fastest first; ends with NULL. */
void cog_tile_list(const cog_tile_ops *list[4]);

/* Is it worth writing the residual past the caches: it is long, lies on a cache line, and no term
 * has just brought it in. */
bool cog_tile_streams(const cog_quantizer *q, int n_terms, const cog_term *terms,
                      const float *residual);

/* Round to nearest even, but no number becomes infinite: it stops at the largest bf16. */
static inline uint16_t cog_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f7f7fffu && magnitude < 0x7f800000u) return (bits >> 16 & 0x8000u) | 0x7f7fu;
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

static inline float cog_bf16_value(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

#endif
