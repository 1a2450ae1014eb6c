/* philox_lanes.h - Philox4x32-10 (Salmon et al., SC 2011) on 16 counters at a time.
 *
 * Part of lanes.h's world: one spelling for each instruction set, the same words from all. The wide
 * ones keep a counter's words in the lower halves of 64-bit lanes, where a product of two 32-bit
 * words has room; what gathers in the upper halves is never looked at.
 */
#ifndef COG_HOST_COMPRESS_PHILOX_LANES_H
#define COG_HOST_COMPRESS_PHILOX_LANES_H

#include "lanes.h"

#define PHILOX_A     0xd2511f53u
#define PHILOX_B     0xcd9e8d57u
#define PHILOX_KEY_A 0x9e3779b9u
#define PHILOX_KEY_B 0xbb67ae85u
enum { PHILOX_ROUNDS = 10 };

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__)

enum { PHILOX_PARTS = 2 }; /* of 8 lanes */
typedef __m512i philox_part;

static inline philox_part philox_all(uint32_t c) { return _mm512_set1_epi64((int64_t)c); }
static inline philox_part philox_count(uint32_t first, int part) {
    const __m512i index = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm512_add_epi64(_mm512_set1_epi64((int64_t)first + 8 * part), index);
}
static inline philox_part philox_times(philox_part a, philox_part b) {
    return _mm512_mul_epu32(a, b);
}
static inline philox_part philox_mix(philox_part product, philox_part word, philox_part key) {
    return _mm512_ternarylogic_epi64(_mm512_srli_epi64(product, 32), word, key, 0x96); /* xor */
}
static inline words philox_gather(const philox_part part[PHILOX_PARTS]) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi64_epi32(part[0])),
                              _mm512_cvtepi64_epi32(part[1]), 1);
}

#elif defined(__AVX2__) && defined(__FMA__)

enum { PHILOX_PARTS = 4 }; /* of 4 lanes */
typedef __m256i philox_part;

static inline philox_part philox_all(uint32_t c) { return _mm256_set1_epi64x((int64_t)c); }
static inline philox_part philox_count(uint32_t first, int part) {
    return _mm256_add_epi64(_mm256_set1_epi64x((int64_t)first + 4 * part),
                            _mm256_setr_epi64x(0, 1, 2, 3));
}
static inline philox_part philox_times(philox_part a, philox_part b) {
    return _mm256_mul_epu32(a, b);
}
static inline philox_part philox_mix(philox_part product, philox_part word, philox_part key) {
    return _mm256_xor_si256(_mm256_srli_epi64(product, 32), _mm256_xor_si256(word, key));
}
/* The lower halves of two parts. */
static inline __m256i philox_pair(philox_part a, philox_part b) {
    const __m256i lower = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    const __m256i low = _mm256_permutevar8x32_epi32(a, lower);
    return _mm256_blend_epi32(low, _mm256_permutevar8x32_epi32(b, lower), 0xf0);
}
static inline words philox_gather(const philox_part part[PHILOX_PARTS]) {
    return (words){philox_pair(part[0], part[1]), philox_pair(part[2], part[3])};
}

#else

enum { PHILOX_PARTS = 1 }; /* of 16 lanes */
typedef struct philox_part {
    uint64_t at[LANES];
} philox_part;

static inline philox_part philox_all(uint32_t c) { EACH(philox_part, c); }
static inline philox_part philox_count(uint32_t first, int part) {
    EACH(philox_part, (uint32_t)(first + (uint32_t)(LANES * part + j)));
}
static inline philox_part philox_times(philox_part a, philox_part b) {
    EACH(philox_part, (uint64_t)(uint32_t)a.at[j] * (uint32_t)b.at[j]);
}
static inline philox_part philox_mix(philox_part product, philox_part word, philox_part key) {
    EACH(philox_part, product.at[j] >> 32 ^ word.at[j] ^ key.at[j]);
}
static inline words philox_gather(const philox_part part[PHILOX_PARTS]) {
    EACH(words, (uint32_t)part[0].at[j]);
}

#endif

/* The blocks of counters {first + lane, b, c, d} and key {key, 0}, word by word. */
static inline void philox_words(uint32_t first, uint32_t b, uint32_t c, uint32_t d, uint32_t key,
                                words out[4]) {
    const philox_part by_a = philox_all(PHILOX_A), by_b = philox_all(PHILOX_B);
    philox_part word[4][PHILOX_PARTS];
    uint32_t key_a = key, key_b = 0;
    for (int p = 0; p < PHILOX_PARTS; p++) {
        word[0][p] = philox_count(first, p);
        word[1][p] = philox_all(b);
        word[2][p] = philox_all(c);
        word[3][p] = philox_all(d);
    }
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        const philox_part k = philox_all(key_a), l = philox_all(key_b);
        for (int p = 0; p < PHILOX_PARTS; p++) {
            const philox_part product_a = philox_times(word[0][p], by_a);
            const philox_part product_b = philox_times(word[2][p], by_b);
            word[0][p] = philox_mix(product_b, word[1][p], k);
            word[1][p] = product_b;
            word[2][p] = philox_mix(product_a, word[3][p], l);
            word[3][p] = product_a;
        }
        key_a += PHILOX_KEY_A;
        key_b += PHILOX_KEY_B;
    }
    for (int w = 0; w < 4; w++) out[w] = philox_gather(word[w]);
}

#endif
