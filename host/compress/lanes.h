/* lanes.h - sixteen floats at a time, in the widest spelling this file is compiled for.
 *
 * AVX-512, AVX2 with FMA, or plain C. All three give the same bits: every verb is one IEEE
 * operation per lane, and the order of sums is fixed by the loops that use them. A mask has one bit
 * per lane, lane 0 in bit 0; magnitudes are the bits of |x|, ordered as integers.
 */
#ifndef COG_HOST_COMPRESS_LANES_H
#define COG_HOST_COMPRESS_LANES_H

#include <stdint.h>
#include <string.h>

enum { LANES = 16 };

#define LANES_ABS 0x7fffffffu
#define LANES_NAN 0x7fc00000u /* the one NaN that ever enters a payload */
#define LANES_INF 0x7f800000u

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__)

typedef __m512 lanes;
typedef __m512i words;

static inline lanes lanes_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void lanes_store(float *p, lanes a) { _mm512_storeu_ps(p, a); }
/* Past the caches; p is 64-byte aligned. */
static inline void lanes_stream(float *p, lanes a) { _mm512_stream_ps(p, a); }
static inline void lanes_fence(void) { _mm_sfence(); }
static inline lanes lanes_all(float c) { return _mm512_set1_ps(c); }
static inline lanes lanes_add(lanes a, lanes b) { return _mm512_add_ps(a, b); }
static inline lanes lanes_sub(lanes a, lanes b) { return _mm512_sub_ps(a, b); }
static inline lanes lanes_mul(lanes a, lanes b) { return _mm512_mul_ps(a, b); }
static inline lanes lanes_fma(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }
static inline lanes lanes_abs(lanes a) { return _mm512_abs_ps(a); }
static inline lanes lanes_canonical(lanes a) {
    const lanes nan = _mm512_castsi512_ps(_mm512_set1_epi32((int)LANES_NAN));
    return _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), nan);
}
static inline uint32_t lanes_negative(lanes a) {
    return _mm512_movepi32_mask(_mm512_castps_si512(a));
}
static inline uint32_t lanes_zero(lanes a) {
    return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_EQ_OQ);
}
static inline words words_all(uint32_t c) { return _mm512_set1_epi32((int)c); }
static inline words words_of(lanes a) { return _mm512_castps_si512(lanes_abs(a)); }
/* The one with the larger, or smaller, bits; both are magnitudes. */
static inline lanes lanes_larger(lanes a, lanes b) {
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
static inline lanes lanes_smaller(lanes a, lanes b) {
    return _mm512_castsi512_ps(_mm512_min_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
static inline uint32_t words_at_least(words a, words b) { return _mm512_cmpge_epu32_mask(a, b); }
static inline words words_load(const uint32_t *p) { return _mm512_loadu_si512(p); }
/* Lanes whose bit number `bit` is set; and that bit added where a mask says so. */
static inline uint32_t words_bit(words a, int bit) {
    return _mm512_test_epi32_mask(a, words_all(1u << bit));
}
static inline words words_with(words a, uint32_t mask, int bit) {
    return _mm512_mask_or_epi32(a, (__mmask16)mask, a, words_all(1u << bit));
}
/* (its lower, or upper, 16 bits + 1/2) / 2^16 */
static inline lanes words_lower(words a) {
    const words half = _mm512_and_si512(a, words_all(0xffff));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(half), lanes_all(0x1p-16f), lanes_all(0x1p-17f));
}
static inline lanes words_upper(words a) {
    const words half = _mm512_srli_epi32(a, 16);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(half), lanes_all(0x1p-16f), lanes_all(0x1p-17f));
}
/* -x where that bit of a is set */
static inline lanes lanes_flip(lanes x, words a, int bit) {
    const words sign =
        _mm512_and_si512(_mm512_sll_epi32(a, _mm_cvtsi32_si128(31 - bit)), words_all(0x80000000u));
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x), sign));
}
/* Between whole numbers from 0 to 2^24 and floats; the fraction is cut off. */
static inline words words_cut(lanes a) { return _mm512_cvttps_epi32(a); }
static inline lanes lanes_whole(words a) { return _mm512_cvtepi32_ps(a); }
/* The smaller, or larger, number; none is NaN. */
static inline lanes lanes_min(lanes a, lanes b) { return _mm512_min_ps(a, b); }
static inline lanes lanes_max(lanes a, lanes b) { return _mm512_max_ps(a, b); }
/* +-scale with the signs of a mask, +0 where `zero` says so. */
static inline lanes lanes_signed(uint32_t negative, uint32_t zero, lanes scale) {
    const lanes minus = _mm512_xor_ps(scale, _mm512_set1_ps(-0.0f));
    const lanes value = _mm512_mask_blend_ps((__mmask16)negative, scale, minus);
    return _mm512_maskz_mov_ps((__mmask16)~zero, value);
}
/* scale with the sign of a; scale >= 0. */
static inline lanes lanes_toward(lanes a, lanes scale) {
    const lanes sign = _mm512_set1_ps(-0.0f);
    return _mm512_or_ps(_mm512_and_ps(a, sign), scale);
}

#elif defined(__AVX2__) && defined(__FMA__)

typedef struct lanes {
    __m256 low, high;
} lanes;
typedef struct words {
    __m256i low, high;
} words;

#define BOTH(call_low, call_high) ((lanes){(call_low), (call_high)})

static inline lanes lanes_load(const float *p) {
    return BOTH(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
static inline void lanes_store(float *p, lanes a) {
    _mm256_storeu_ps(p, a.low);
    _mm256_storeu_ps(p + 8, a.high);
}
static inline void lanes_stream(float *p, lanes a) {
    _mm256_stream_ps(p, a.low);
    _mm256_stream_ps(p + 8, a.high);
}
static inline void lanes_fence(void) { _mm_sfence(); }
static inline lanes lanes_all(float c) { return BOTH(_mm256_set1_ps(c), _mm256_set1_ps(c)); }
static inline lanes lanes_add(lanes a, lanes b) {
    return BOTH(_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high));
}
static inline lanes lanes_sub(lanes a, lanes b) {
    return BOTH(_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high));
}
static inline lanes lanes_mul(lanes a, lanes b) {
    return BOTH(_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high));
}
static inline lanes lanes_fma(lanes a, lanes b, lanes c) {
    return BOTH(_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high));
}
static inline lanes lanes_abs(lanes a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return BOTH(_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high));
}
static inline __m256 canonical8(__m256 a) {
    const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32((int)LANES_NAN));
    return _mm256_blendv_ps(a, nan, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
static inline lanes lanes_canonical(lanes a) { return BOTH(canonical8(a.low), canonical8(a.high)); }
static inline uint32_t mask16(__m256 low, __m256 high) {
    return (uint32_t)_mm256_movemask_ps(low) | (uint32_t)_mm256_movemask_ps(high) << 8;
}
static inline uint32_t lanes_negative(lanes a) { return mask16(a.low, a.high); }
static inline uint32_t lanes_zero(lanes a) {
    const __m256 zero = _mm256_setzero_ps();
    return mask16(_mm256_cmp_ps(a.low, zero, _CMP_EQ_OQ), _mm256_cmp_ps(a.high, zero, _CMP_EQ_OQ));
}
static inline words words_all(uint32_t c) {
    return (words){_mm256_set1_epi32((int)c), _mm256_set1_epi32((int)c)};
}
static inline words words_of(lanes a) {
    a = lanes_abs(a);
    return (words){_mm256_castps_si256(a.low), _mm256_castps_si256(a.high)};
}
static inline __m256 larger8(__m256 a, __m256 b) {
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
static inline __m256 smaller8(__m256 a, __m256 b) {
    return _mm256_castsi256_ps(_mm256_min_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
static inline lanes lanes_larger(lanes a, lanes b) {
    return BOTH(larger8(a.low, b.low), larger8(a.high, b.high));
}
static inline lanes lanes_smaller(lanes a, lanes b) {
    return BOTH(smaller8(a.low, b.low), smaller8(a.high, b.high));
}
static inline uint32_t words_at_least(words a, words b) {
    const __m256i low = _mm256_cmpeq_epi32(_mm256_max_epu32(a.low, b.low), a.low);
    const __m256i high = _mm256_cmpeq_epi32(_mm256_max_epu32(a.high, b.high), a.high);
    return mask16(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high));
}
/* All ones in lane j where bit j is set. */
static inline __m256 spread8(uint32_t bits) {
    const __m256i pick = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i all = _mm256_set1_epi32((int)bits);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, pick), pick));
}
static inline words words_load(const uint32_t *p) {
    return (words){_mm256_loadu_si256((const __m256i *)(const void *)p),
                   _mm256_loadu_si256((const __m256i *)(const void *)(p + 8))};
}
static inline uint32_t words_bit(words a, int bit) {
    return mask16(_mm256_castsi256_ps(_mm256_slli_epi32(a.low, 31 - bit)),
                  _mm256_castsi256_ps(_mm256_slli_epi32(a.high, 31 - bit)));
}
static inline __m256i with8(__m256i a, uint32_t mask, int bit) {
    const __m256i one = _mm256_set1_epi32((int)(1u << bit));
    return _mm256_or_si256(a, _mm256_and_si256(_mm256_castps_si256(spread8(mask)), one));
}
static inline words words_with(words a, uint32_t mask, int bit) {
    return (words){with8(a.low, mask, bit), with8(a.high, mask >> 8, bit)};
}
static inline __m256 unit8(__m256i half) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(half), _mm256_set1_ps(0x1p-16f),
                           _mm256_set1_ps(0x1p-17f));
}
static inline lanes words_lower(words a) {
    const __m256i lower = _mm256_set1_epi32(0xffff);
    return BOTH(unit8(_mm256_and_si256(a.low, lower)), unit8(_mm256_and_si256(a.high, lower)));
}
static inline lanes words_upper(words a) {
    return BOTH(unit8(_mm256_srli_epi32(a.low, 16)), unit8(_mm256_srli_epi32(a.high, 16)));
}
static inline __m256 flip8(__m256 x, __m256i a, int bit) {
    const __m256i moved = _mm256_sll_epi32(a, _mm_cvtsi32_si128(31 - bit));
    return _mm256_xor_ps(x, _mm256_and_ps(_mm256_castsi256_ps(moved), _mm256_set1_ps(-0.0f)));
}
static inline lanes lanes_flip(lanes x, words a, int bit) {
    return BOTH(flip8(x.low, a.low, bit), flip8(x.high, a.high, bit));
}
static inline words words_cut(lanes a) {
    return (words){_mm256_cvttps_epi32(a.low), _mm256_cvttps_epi32(a.high)};
}
static inline lanes lanes_whole(words a) {
    return BOTH(_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high));
}
static inline lanes lanes_min(lanes a, lanes b) {
    return BOTH(_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high));
}
static inline lanes lanes_max(lanes a, lanes b) {
    return BOTH(_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high));
}
static inline __m256 signed8(uint32_t negative, uint32_t zero, __m256 scale) {
    const __m256 sign = _mm256_and_ps(spread8(negative), _mm256_set1_ps(-0.0f));
    return _mm256_andnot_ps(spread8(zero), _mm256_xor_ps(scale, sign));
}
static inline lanes lanes_signed(uint32_t negative, uint32_t zero, lanes scale) {
    return BOTH(signed8(negative, zero, scale.low), signed8(negative >> 8, zero >> 8, scale.high));
}
static inline lanes lanes_toward(lanes a, lanes scale) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return BOTH(_mm256_or_ps(_mm256_and_ps(a.low, sign), scale.low),
                _mm256_or_ps(_mm256_and_ps(a.high, sign), scale.high));
}

#else

#include <math.h>

typedef struct lanes {
    float at[LANES];
} lanes;
typedef struct words {
    uint32_t at[LANES];
} words;

#define EACH(type, expression)                                   \
    type result;                                                 \
    for (int j = 0; j < LANES; j++) result.at[j] = (expression); \
    return result
#define MASK(condition)                                                           \
    uint32_t mask = 0;                                                            \
    for (int j = 0; j < LANES; j++) mask |= (uint32_t)((condition) ? 1 : 0) << j; \
    return mask

static inline uint32_t lane_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}
static inline float lane_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}
static inline lanes lanes_load(const float *p) { EACH(lanes, p[j]); }
static inline void lanes_store(float *p, lanes a) { memcpy(p, a.at, sizeof(a.at)); }
static inline void lanes_stream(float *p, lanes a) { lanes_store(p, a); }
static inline void lanes_fence(void) {}
static inline lanes lanes_all(float c) { EACH(lanes, c); }
static inline lanes lanes_add(lanes a, lanes b) { EACH(lanes, a.at[j] + b.at[j]); }
static inline lanes lanes_sub(lanes a, lanes b) { EACH(lanes, a.at[j] - b.at[j]); }
static inline lanes lanes_mul(lanes a, lanes b) { EACH(lanes, a.at[j] * b.at[j]); }
static inline lanes lanes_fma(lanes a, lanes b, lanes c) {
    EACH(lanes, fmaf(a.at[j], b.at[j], c.at[j]));
}
static inline lanes lanes_abs(lanes a) { EACH(lanes, lane_float(lane_bits(a.at[j]) & LANES_ABS)); }
static inline lanes lanes_canonical(lanes a) {
    EACH(lanes, a.at[j] != a.at[j] ? lane_float(LANES_NAN) : a.at[j]);
}
static inline uint32_t lanes_negative(lanes a) { MASK(lane_bits(a.at[j]) >> 31); }
static inline uint32_t lanes_zero(lanes a) { MASK(a.at[j] == 0); }
static inline words words_all(uint32_t c) { EACH(words, c); }
static inline words words_of(lanes a) { EACH(words, lane_bits(a.at[j]) & LANES_ABS); }
static inline lanes lanes_larger(lanes a, lanes b) {
    EACH(lanes, lane_bits(a.at[j]) > lane_bits(b.at[j]) ? a.at[j] : b.at[j]);
}
static inline lanes lanes_smaller(lanes a, lanes b) {
    EACH(lanes, lane_bits(a.at[j]) < lane_bits(b.at[j]) ? a.at[j] : b.at[j]);
}
static inline uint32_t words_at_least(words a, words b) { MASK(a.at[j] >= b.at[j]); }
static inline words words_load(const uint32_t *p) { EACH(words, p[j]); }
static inline uint32_t words_bit(words a, int bit) { MASK((a.at[j] >> bit & 1) != 0); }
static inline words words_with(words a, uint32_t mask, int bit) {
    EACH(words, a.at[j] | (mask >> j & 1) << bit);
}
static inline lanes words_lower(words a) {
    EACH(lanes, (float)(int32_t)(2 * (a.at[j] & 0xffffu) + 1) * 0x1p-17f);
}
static inline lanes words_upper(words a) {
    EACH(lanes, (float)(int32_t)(2 * (a.at[j] >> 16) + 1) * 0x1p-17f);
}
static inline lanes lanes_flip(lanes x, words a, int bit) {
    EACH(lanes, lane_float(lane_bits(x.at[j]) ^ a.at[j] >> bit << 31));
}
static inline words words_cut(lanes a) { EACH(words, (uint32_t)(int32_t)a.at[j]); }
static inline lanes lanes_whole(words a) { EACH(lanes, (float)(int32_t)a.at[j]); }
static inline lanes lanes_min(lanes a, lanes b) {
    EACH(lanes, a.at[j] < b.at[j] ? a.at[j] : b.at[j]);
}
static inline lanes lanes_max(lanes a, lanes b) {
    EACH(lanes, a.at[j] > b.at[j] ? a.at[j] : b.at[j]);
}
static inline lanes lanes_signed(uint32_t negative, uint32_t zero, lanes scale) {
    EACH(lanes, zero >> j & 1 ? 0.0f : negative >> j & 1 ? -scale.at[j] : scale.at[j]);
}
static inline lanes lanes_toward(lanes a, lanes scale) {
    EACH(lanes, copysignf(scale.at[j], a.at[j]));
}

#endif
#endif
