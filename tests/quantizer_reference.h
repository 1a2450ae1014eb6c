/* quantizer_reference.h - the payloads of all quantizers written the plainest way, and test inputs.
 *
 * Nothing here shares code with the library: shares are integer fractions, selection is a sort,
 * sums and roundings are spelled out from the formats' descriptions.
 */
#ifndef COG_TESTS_QUANTIZER_REFERENCE_H
#define COG_TESTS_QUANTIZER_REFERENCE_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <Random123/philox.h>

#include "rng.h"

enum { REF_IDENTITY, REF_BF16, REF_CHUNK, REF_GLOBAL, REF_SIGN, REF_QSGD, REF_QSGD_NEAREST };

/* What a spec string says, in the reference's words. */
typedef struct ref_format {
    const char *spec;
    int family;
    int64_t numerator, denominator; /* the ratio; of qsgd: bits, and 2 for the norm l2 */
    int tile;                       /* or group; 0: one scale */
    int narrow;                     /* bf16 values */
} ref_format;

typedef struct ref_message {
    unsigned char *payload;
    size_t bytes;
    float *trial, *decoded, *residual; /* [n] */
} ref_message;

static inline uint32_t ref_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float ref_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline void *ref_alloc(int64_t n, size_t size) {
    return calloc((size_t)(n > 0 ? n : 1), size);
}

/* Nearest bf16, ties to even, found by comparing the two neighbours in double. */
static inline uint16_t ref_bf16(float x) {
    if (isnan(x)) return 0x7fc0;
    if (isinf(x)) return x > 0 ? 0x7f80 : 0xff80;
    const uint32_t low = ref_bits(x) >> 16;
    const double below = ref_float(low << 16), size = fabs((double)x);
    if ((low & 0x7fff) == 0x7f7f) return (uint16_t)low; /* the largest: no number above it */
    const double above = ref_float((low + 1) << 16);
    const double down = size - fabs(below), up = fabs(above) - size;
    return (uint16_t)(down < up || (down == up && low % 2 == 0) ? low : low + 1);
}

static inline void ref_put(ref_message *m, const void *what, size_t bytes) {
    memcpy(m->payload + m->bytes, what, bytes);
    m->bytes += bytes;
}

static inline void ref_pad(ref_message *m) {
    while (m->bytes % 4 != 0) m->payload[m->bytes++] = 0;
}

typedef struct ref_entry {
    uint32_t size;
    int64_t index;
} ref_entry;

static inline int ref_by_size(const void *a, const void *b) {
    const ref_entry *x = a, *y = b;
    if (x->size != y->size) return x->size < y->size ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

/* Set chosen[i] for the k largest of entries first .. first+count. */
static inline void ref_choose(const float *trial, int64_t first, int64_t count, int64_t k,
                              char *chosen) {
    ref_entry *all = ref_alloc(count, sizeof(*all));
    for (int64_t i = 0; i < count; i++)
        all[i] = (ref_entry){ref_bits(trial[first + i]) & 0x7fffffff, first + i};
    qsort(all, (size_t)count, sizeof(*all), ref_by_size);
    for (int64_t i = 0; i < k && i < count; i++) chosen[all[i].index] = 1;
    free(all);
}

static inline int64_t ref_share(const ref_format *f, int64_t i) {
    return (f->numerator * i + f->denominator - 1) / f->denominator;
}

/* The sections of top-k, given which entries are sent. */
static inline void ref_sparse(const ref_format *f, int64_t n, const char *chosen, ref_message *m) {
    const int64_t n_tiles = (n + f->tile - 1) / f->tile;
    uint32_t total = 0;
    uint16_t *count = ref_alloc(n_tiles, sizeof(*count));
    uint32_t *base = ref_alloc(n_tiles, sizeof(*base));
    for (int64_t t = 0; t < n_tiles; t++) {
        base[t] = total;
        for (int64_t i = t * f->tile; i < n && i < (t + 1) * f->tile; i++) count[t] += chosen[i];
        total += count[t];
    }
    if (f->family == REF_GLOBAL) {
        ref_put(m, &total, 4);
        for (int64_t t = 0; t < n_tiles; t += 64) ref_put(m, &base[t], 4);
        ref_put(m, count, 2 * (size_t)n_tiles);
        ref_pad(m);
    }
    for (int64_t i = 0; i < n; i++) {
        if (!chosen[i]) continue;
        const uint16_t half = ref_bf16(m->trial[i]);
        m->decoded[i] = f->narrow ? ref_float((uint32_t)half << 16) : m->trial[i];
        ref_put(m, f->narrow ? (const void *)&half : &m->trial[i], f->narrow ? 2 : 4);
    }
    ref_pad(m);
    for (int64_t i = 0; i < n; i++)
        if (chosen[i]) ref_put(m, &(uint16_t){(uint16_t)(i % f->tile)}, 2);
    ref_pad(m);
    free(count);
    free(base);
}

static inline void ref_topk(const ref_format *f, int64_t n, ref_message *m) {
    char *chosen = ref_alloc(n, 1);
    if (f->family == REF_GLOBAL) {
        ref_choose(m->trial, 0, n, ref_share(f, n), chosen);
    } else {
        for (int64_t a = 0; a < n; a += f->tile) {
            const int64_t b = a + f->tile < n ? a + f->tile : n;
            int64_t k = ref_share(f, b) - ref_share(f, a);
            if (k < 1 || f->tile * f->numerator < f->denominator) k = 1;
            ref_choose(m->trial, a, b - a, k, chosen);
        }
    }
    ref_sparse(f, n, chosen, m);
    free(chosen);
}

/* Sum of magnitudes of at most 4096 entries in the documented order; factor for large ones. */
static inline float ref_lane_sum(const float *x, int64_t n, float factor) {
    float lane[256] = {0};
    for (int64_t i = 0; i < n; i++) lane[64 * (i / 1024) + i % 64] += fabsf(x[i]) * factor;
    for (int half = 128; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

static inline double ref_segment_sum(const float *x, int64_t n) {
    const float sum = ref_lane_sum(x, n, 1);
    return isinf(sum) ? (double)ref_lane_sum(x, n, ref_float(63u << 23)) * 18446744073709551616.0
                      : (double)sum;
}

static inline float ref_scale(const float *x, int64_t n) {
    double lane[64] = {0};
    int64_t n_nonzero = 0;
    for (int64_t a = 0; a < n; a += 4096)
        lane[a / 4096 % 64] += ref_segment_sum(x + a, n - a < 4096 ? n - a : 4096);
    for (int half = 32; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    for (int64_t i = 0; i < n; i++) n_nonzero += x[i] != 0;
    if (n_nonzero == 0) return 0;
    const float scale = (float)(lane[0] / (double)n_nonzero);
    return isnan(scale) ? ref_float(0x7fc00000) : scale;
}

static inline void ref_bitmap(int64_t n, const char *set, ref_message *m) {
    for (int64_t i = 0; i < n; i += 32) {
        uint32_t word = 0;
        for (int64_t j = i; j < n && j < i + 32; j++) word |= (uint32_t)(set[j] != 0) << (j - i);
        ref_put(m, &word, 4);
    }
}

static inline void ref_sign(const ref_format *f, int64_t n, ref_message *m) {
    const int64_t group = f->tile > 0 ? f->tile : n;
    char *negative = ref_alloc(n, 1), *zero = ref_alloc(n, 1);
    uint32_t flags = 0;
    for (int64_t i = 0; i < n; i++) {
        zero[i] = m->trial[i] == 0;
        negative[i] = !zero[i] && signbit(m->trial[i]);
        flags |= (uint32_t)zero[i];
    }
    ref_put(m, &flags, 4);
    for (int64_t a = 0; a < n; a += group) {
        const int64_t count = n - a < group ? n - a : group;
        const float scale = ref_scale(m->trial + a, count);
        ref_put(m, &scale, 4);
        for (int64_t i = a; i < a + count; i++)
            m->decoded[i] = zero[i] ? 0 : negative[i] ? -scale : scale;
    }
    ref_bitmap(n, negative, m);
    if (flags != 0) ref_bitmap(n, zero, m);
    free(negative);
    free(zero);
}

/* The 16-bit random number of entry i as a number between 0 and 1, see tile.h. */
static inline float ref_dither(uint32_t stream, uint32_t payload, uint32_t use, int64_t i) {
    const philox4x32_ctr_t counter = {
        {(uint32_t)(16 * (i / 128) + i % 16), COG_STREAM_DITHER, payload, use}};
    const philox4x32_key_t key = {{stream, 0}};
    const uint32_t word = philox4x32(counter, key).v[i / 32 % 4];
    const uint32_t half = i / 16 % 2 == 0 ? word & 0xffff : word >> 16;
    return (float)((half + 0.5) / 65536);
}

static inline float ref_step(const ref_format *f, const float *x, int64_t n, int s) {
    double lane[64] = {0}, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) norm = isnan(x[i]) || isnan(norm) ? (double)NAN : (double)INFINITY;
        if (f->denominator != 2)
            norm = fmax(norm, fabs((double)x[i])) + (isnan(norm) ? (double)NAN : 0);
        lane[i % 64] += (double)x[i] * (double)x[i];
    }
    if (!isfinite(norm)) return isnan(norm) ? ref_float(0x7fc00000) : INFINITY;
    for (int half = 32; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    if (f->denominator == 2) norm = sqrt(lane[0]);
    const double limit = (double)ref_float(0x7efffffe), step = fmin(norm, limit) / s;
    return step < ldexp(1, -100) ? 0 : (float)step;
}

static inline void ref_qsgd(const ref_format *f, int64_t n, ref_message *m) {
    const int bits = (int)f->numerator;
    const int s = bits == 1 ? 1 : (1 << (bits - 1)) - 1, top = bits == 1 ? 1 : 2 * s;
    const float zero = bits == 1 ? 0.5f : (float)s;
    int *code = ref_alloc(n, sizeof(*code));
    for (int64_t a = 0; a < n; a += f->tile) {
        const int64_t b = a + f->tile < n ? a + f->tile : n;
        const float step = ref_step(f, m->trial + a, b - a, s);
        const float width = bits == 1 ? 2 * step : step;
        const float inverse = step == 0 ? 0 : 1 / width;
        ref_put(m, &step, 4);
        for (int64_t i = a; i < b; i++) {
            const float u = f->family == REF_QSGD ? ref_dither(0, 0, 0, i) : 0.5f;
            const float level = floorf(fmaf(m->trial[i], inverse, zero + u));
            code[i] = level < 0 ? 0 : level < (float)top ? (int)level : top; /* NaN: top */
            m->decoded[i] = ((float)code[i] - zero) * width + 0.0f;
        }
        for (int64_t i = a; !isfinite(step) && i < b; i++) m->decoded[i] = NAN;
    }
    for (int64_t i = 0; i < n; i += 32)
        for (int p = 0; p < bits; p++) {
            uint32_t word = 0;
            for (int64_t j = i; j < n && j < i + 32; j++)
                word |= (uint32_t)(code[j] >> p & 1) << (j - i);
            ref_put(m, &word, 4);
        }
    free(code);
}

static inline void ref_dense(const ref_format *f, int64_t n, ref_message *m) {
    for (int64_t i = 0; i < n; i++) {
        const uint16_t half = ref_bf16(m->trial[i]);
        m->decoded[i] = f->family == REF_BF16 ? ref_float((uint32_t)half << 16) : m->trial[i];
        if (f->family == REF_BF16)
            ref_put(m, &half, 2);
        else
            ref_put(m, &m->trial[i], 4);
    }
    ref_pad(m);
}

/* residual = trial - decoded; 0 where that which was decoded is not a number of finite size. */
static inline void ref_residual(int64_t n, ref_message *m) {
    for (int64_t i = 0; i < n; i++)
        m->residual[i] = isfinite(m->decoded[i]) ? m->trial[i] - m->decoded[i] : 0;
}

static inline ref_message ref_pack(const ref_format *f, int64_t n, int n_terms,
                                   const float *const *x, const float *coef) {
    ref_message m = {.payload = ref_alloc(8 * n + 4096, 1),
                     .trial = ref_alloc(n, 4),
                     .decoded = ref_alloc(n, 4),
                     .residual = ref_alloc(n, 4)};
    for (int64_t i = 0; i < n; i++) {
        float sum = n_terms > 0 ? coef[0] * x[0][i] : 0;
        for (int t = 1; t < n_terms; t++) sum = fmaf(coef[t], x[t][i], sum);
        m.trial[i] = isnan(sum) ? ref_float(0x7fc00000) : sum;
    }
    if (f->family == REF_SIGN)
        ref_sign(f, n, &m);
    else if (f->family == REF_QSGD || f->family == REF_QSGD_NEAREST)
        ref_qsgd(f, n, &m);
    else if (f->family == REF_CHUNK || f->family == REF_GLOBAL)
        ref_topk(f, n, &m);
    else
        ref_dense(f, n, &m);
    ref_residual(n, &m);
    return m;
}

static inline void ref_free(ref_message *m) {
    free(m->payload);
    free(m->trial);
    free(m->decoded);
    free(m->residual);
}

/* ---- inputs --------------------------------------------------------------------------------- */

enum {
    IN_NORMAL,
    IN_LAPLACE,
    IN_EQUAL,
    IN_ONE_EXPONENT,
    IN_SORTED,
    IN_DENORMAL,
    IN_ZEROS,
    IN_BROKEN,
    IN_HUGE,
    IN_FEW_VALUES,
    N_INPUTS
};

static const char *const ref_input_name[N_INPUTS] = {
    "normal",   "Laplace", "all equal",        "one exponent", "sorted",
    "denormal", "zeros",   "infinity and NaN", "huge",         "few values"};

static inline float ref_draw(int input, int64_t i, int64_t n, cog_rng *rng) {
    const float normal = (float)cog_rng_normal(rng);
    const uint32_t word = cog_rng_u32(rng);
    const float sign = word >> 31 ? -1.0f : 1.0f;
    switch (input) {
    case IN_LAPLACE: return sign * -logf((float)cog_rng_uniform(rng));
    case IN_EQUAL: return sign * 0.75f;
    case IN_ONE_EXPONENT: return sign * ref_float(0x3f800000 | (word & 0x7fffff));
    case IN_SORTED: return (float)(i + 1) / (float)n;
    case IN_DENORMAL: return ref_float((word & 0x80000000) | (word & 0xfffff));
    case IN_ZEROS: return word % 3 == 0 ? normal : word % 3 == 1 ? 0.0f : -0.0f;
    case IN_BROKEN:
        return word % 97 == 0 ? ref_float(0xffc12345) : word % 89 == 0 ? sign * INFINITY : normal;
    case IN_HUGE: return sign * ref_float(0x7f000000 | (word & 0x7fffff));
    /* most tie at 2, a few are above: the cut goes through the ties */
    case IN_FEW_VALUES: return sign * (word % 997 == 0 ? 3.0f : word % 3 == 0 ? 2.0f : 1.0f);
    default: return normal;
    }
}

static inline void ref_fill(int input, uint32_t stream, float *x, int64_t n) {
    cog_rng rng = cog_rng_make(11, COG_STREAM_TEST, (uint32_t)input, stream);
    for (int64_t i = 0; i < n; i++) x[i] = ref_draw(input, i, n, &rng);
}

#endif
