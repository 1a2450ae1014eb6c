/* qsgd.c - a few bits an entry, rounded up or down at random so that the mean is right: QSGD
 * (Alistarh, Grubic, Li, Tomioka, Vojnovic, NeurIPS 2017).
 *
 *     bits >= 2   s = 2^(bits-1) - 1 levels to either side of 0, decoded = step * {-s, .., s}
 *     bits  = 1   two levels, decoded = +-norm: the stochastic sign
 *     step        norm of the group / s
 *     rounding    random    E decoded = trial
 *                 nearest   the smallest error, for error feedback
 *
 *   bits    1 to 8, default 4
 *   group   entries that share a norm, a power of two from 256 to 4096, default 512
 *   norm    max, the largest magnitude (the default) | l2, as in the analysis of QSGD
 *
 * The probabilities are multiples of 2^-16: a mean is off by at most 2^-17 steps. A group whose
 * step would be below 2^-100 has step 0; its entries stay in the residual, and so does what exceeds
 * 2^127. Infinities and NaN make their group so, and its residual 0.
 *
 * Mean error of random rounding, relative to the energy of a group of d entries, at worst:
 *     max   (sqrt(1 + (d-1)/s^2) - 1) / 2     one entry at the norm, the others at less than half a
 *                                             step, where a (step - a) is largest against a^2
 *     l2    min(d / s^2, sqrt(d) / s)         Lemma 3.1 of the publication
 *     bits = 1: d - 1
 * Below 1 error feedback stays bounded; from there on only rounding=nearest can have it, which
 * leaves at most (d-1) / (4 s^2 + d-1) with norm=max.
 *
 * Payload, little endian:
 *     float  step[groups]
 *     uint32 code[ceil(n / 32)][bits]   bit i of word p is bit p of the code of entry i of the 32;
 *                                       code s is 0, bits past n are 0
 * State: uint32, the number of payloads used so far, which chooses the random numbers.
 *
 * Traffic, bytes an entry with L terms (feedback one of them): one pass, 4L + 4 + bits/8 + 4/group.
 */
#include <math.h>
#include <string.h>

#include "check.h"
#include "kernels.h"
#include "on_cuda.h"
#include "tile.h"

enum { MAX_NORM, L2_NORM };

/* The outer levels at most: twice that is a float, for the distance between the two of bits = 1. */
#define LARGEST 0x1.fffffcp126

static int64_t n_sides(const cog_quantizer *q) {
    return q->bits == 1 ? 1 : ((int64_t)1 << (q->bits - 1)) - 1;
}

static cog_status configure(cog_quantizer *q, cog_spec *spec) {
    static const char *const norms[] = {"max", "l2", NULL};
    static const char *const roundings[] = {"random", "nearest", NULL};
    int64_t bits;
    int rounding;
    COG_TRY(cog_spec_int(spec, "bits", 4, 1, 8, &bits));
    COG_TRY(cog_spec_int(spec, "group", 512, COG_TILE_ROW, COG_TILE, &q->tile));
    COG_TRY(cog_spec_choice(spec, "norm", norms, &q->kind));
    COG_TRY(cog_spec_choice(spec, "rounding", roundings, &rounding));
    COG_CHECK((q->tile & (q->tile - 1)) == 0, COG_ERR_SPEC,
              "'group' of 'qsgd' must be a power of two, is %lld", (long long)q->tile);
    q->bits = (int)bits;
    q->nearest = rounding == 1;
    q->kept = q->n;
    return COG_OK;
}

static double worst_error(const cog_quantizer *q) {
    const double d = (double)(q->n < q->tile ? q->n : q->tile), s = (double)n_sides(q);
    if (d <= 1) return 0; /* the one entry is its own norm */
    if (q->bits == 1) return d - 1;
    if (q->nearest && q->kind == MAX_NORM) return (d - 1) / (4 * s * s + d - 1);
    /* l2: when all entries are equal and below half a step nothing is ever sent */
    if (q->nearest) return sqrt(d) < 2 * s ? 1 - 1 / d : 1;
    if (q->kind == MAX_NORM) return (sqrt(1 + (d - 1) / (s * s)) - 1) / 2;
    return fmin(d / (s * s), sqrt(d) / s);
}

static int64_t n_groups(const cog_quantizer *q) { return (q->n + q->tile - 1) / q->tile; }

static size_t payload_bytes(const cog_quantizer *q) {
    return 4 * (size_t)n_groups(q) + (size_t)((q->n + 31) / 32) * 4 * (size_t)q->bits;
}

static size_t state_bytes(const cog_quantizer *q) { return q->nearest ? 0 : sizeof(uint32_t); }

static uint32_t word_at(const void *payload, size_t word) {
    uint32_t value;
    memcpy(&value, (const char *)payload + 4 * word, sizeof(value));
    return value;
}

static cog_status check_codes(const cog_quantizer *q, const void *payload) {
    const size_t bits = (size_t)q->bits;
    size_t at = (size_t)n_groups(q);
    for (int64_t i = 0; i < q->n; i += 32, at += bits) {
        const uint32_t valid = q->n - i < 32 ? ~(~0u << (q->n - i)) : ~0u;
        uint32_t all = valid, past = 0;
        for (size_t p = 0; p < bits; p++) {
            all &= word_at(payload, at + p);
            past |= word_at(payload, at + p) & ~valid;
        }
        COG_CHECK(past == 0 && (bits == 1 || all == 0), COG_ERR_FORMAT,
                  "the codes from entry %lld of a qsgd payload have bits that mean nothing",
                  (long long)i);
    }
    return COG_OK;
}

static cog_status check(const cog_quantizer *q, const void *payload, size_t bytes) {
    COG_CHECK(bytes == payload_bytes(q), COG_ERR_FORMAT,
              "a qsgd payload has %zu bytes, expected %zu", bytes, payload_bytes(q));
    for (int64_t g = 0; g < n_groups(q); g++) {
        const uint32_t step = word_at(payload, (size_t)g);
        COG_CHECK(step <= 0x7f800000u || step == COG_NAN_BITS, COG_ERR_FORMAT,
                  "step %lld of a qsgd payload is negative", (long long)g);
    }
    return check_codes(q, payload);
}

/* Of the values that stand for `step`: codes count steps from the lowest level. */
static cog_levels levels_of(const cog_quantizer *q, float step) {
    const float s = (float)n_sides(q);
    if (q->bits == 1) return (cog_levels){1, 0.5f, 1, 2 * step, 0.5f / step};
    return (cog_levels){q->bits, s, 2 * s, step, 1 / step};
}

/* The norm of a padded group over the number of levels, of a size that can be divided by. */
static float step_of(const cog_quantizer *q, const float *trial, int count) {
    uint32_t least, most;
    q->tile_ops->range(trial, count, &least, &most);
    if (most >= 0x7f800000u) return cog_bits_float(most);
    double norm = (double)cog_bits_float(most);
    if (q->kind == L2_NORM) norm = sqrt(q->tile_ops->energy(trial, count));
    const double step = fmin(norm, LARGEST) / (double)n_sides(q);
    return step < 0x1p-100 ? 0 : (float)step;
}

static void pack_group(const cog_quantizer *q, const float *trial, int64_t at, int count,
                       const cog_dither *dither, float *residual, bool stream, void *payload) {
    float *steps = payload;
    uint32_t *codes = (uint32_t *)payload + n_groups(q) + at / 32 * q->bits;
    const float step = steps[at / q->tile] = step_of(q, trial, count);
    cog_levels levels = levels_of(q, step);
    if (step == 0) levels.inverse = 0;
    q->tile_ops->quantize(trial, count, &levels, dither, at, residual + at, stream, codes);
}

static cog_status pack(const cog_quantizer *q, cog_device *device, int n_terms,
                       const cog_term *terms, float *residual, void *state, void *scratch,
                       void *payload) {
    (void)device, (void)scratch;
    uint32_t *n_used = state;
    const cog_dither dither = {q->stream, q->nearest ? 0 : (*n_used)++, 0, q->nearest};
    const bool stream = cog_tile_streams(q, n_terms, terms, residual);
    _Alignas(64) float trial[COG_TILE];
    for (int64_t first = 0; first < q->n; first += COG_TILE) {
        const int count = (int)(q->n - first < COG_TILE ? q->n - first : COG_TILE);
        q->tile_ops->combine(n_terms, terms, first, count, trial);
        for (int i = 0; i < count; i += (int)q->tile) {
            const int part = count - i < q->tile ? count - i : (int)q->tile;
            pack_group(q, trial + i, first + i, part, &dither, residual, stream, payload);
        }
    }
    q->tile_ops->fence();
    return COG_OK;
}

static cog_status add(const cog_quantizer *q, cog_device *device, const void *payload, float weight,
                      int64_t first, int64_t count, float *y) {
    (void)device;
    const float *steps = payload;
    const uint32_t *codes = (const uint32_t *)payload + n_groups(q);
    for (int64_t i = first; i < first + count; i += q->tile) {
        const int64_t left = first + count - i;
        const cog_levels levels = levels_of(q, steps[i / q->tile]);
        q->tile_ops->add_codes(codes + i / 32 * q->bits, &levels, weight,
                               (int)(left < q->tile ? left : q->tile), y + (i - first));
    }
    return COG_OK;
}

static void format(const cog_quantizer *q, cog_kernel_format *out) {
    *out = (cog_kernel_format){.layout = COG_LAYOUT_CODES,
                               .value_bytes = q->bits,
                               .part_bits = __builtin_ctzll((uint64_t)q->tile),
                               .n = q->n,
                               .body = 4 * n_groups(q)};
}

static const cog_quantizer_kernels on_cpu = {.pack = pack, .add = add};

const cog_quantizer_ops cog_quantizer_qsgd = {
    .name = "qsgd",
    .summary = "a few bits an entry, rounded at random to the right mean",
    .configure = configure,
    .payload_bytes = payload_bytes,
    .state_bytes = state_bytes,
    .check = check,
    .worst_error = worst_error,
    .format = format,
    .on = {[COG_CPU] = &on_cpu, [COG_CUDA] = COG_CUDA_KERNELS(cog_qsgd_on_cuda)},
};
