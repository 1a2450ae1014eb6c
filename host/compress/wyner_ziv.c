/* wyner_ziv.c - which of a few interleaved lattices an entry lies on; which point of it, the
 * receiver knows from what it expected (Liang, Li, Wang, Li, "Wyner-Ziv gradient compression for
 * federated learning", 2021).
 *
 *     z       = floor(x / step + u), u uniform in (0, 1)     step = 2 range / (K - 2)
 *     sent      z mod K
 *     decoded = step times the z' = z mod K nearest to h / step
 *     |x - h| <= range  gives  z' = z: |decoded - x| < step, and the mean of decoded is x
 *
 * h, the side information, is what the channel's predictor expects: the last decoded message, say.
 * It is not subtracted: the code of an entry is a function of x alone, h chooses among the points.
 *
 *   levels     K, a power of two from 4 to 256, default 16
 *   delta      the range, known to both sides, as published; default 0: the largest |x - h| of
 *              every group, which is sent with it (ours; the sender has h, too)
 *   group      entries that share a measured range, a power of two from 256 to 4096, default 512
 *   rounding   random | nearest, u = 1/2: no error above step/2
 *
 * With a fixed range, what moves by more than that is lost: the decoded value is then off by a
 * multiple of K steps, towards h. With a measured one every new error is, in the maximum norm, at
 * most 2 / (K - 2) of the distance from what was expected: below 1, where memories stay bounded,
 * from K = 8 on.
 *
 * Infinities and NaN make a group with measured range decode to NaN; with a fixed one they are
 * forgotten. Groups with steps below 2^-100 are sent as 0 steps, that is as h.
 *
 * Payload, little endian:
 *     float  step[groups]                  only with a measured range
 *     uint32 code[ceil(n / 32)][log2 K]    as in qsgd.c
 * State: uint32, the number of payloads used so far, which chooses u.
 *
 * Traffic, bytes an entry with L terms: one pass, 4L + 8 + log2 K / 8, and 4/group for a measured
 * range.
 */
#include <math.h>
#include <string.h>

#include "check.h"
#include "tile.h"

enum { FIXED, MEASURED };

static cog_status configure(cog_quantizer *q, cog_spec *spec) {
    static const char *const roundings[] = {"random", "nearest", NULL};
    int64_t levels;
    int rounding;
    COG_TRY(cog_spec_int(spec, "levels", 16, 4, 256, &levels));
    COG_TRY(cog_spec_real(spec, "delta", 0, 0, 1e30, &q->reach));
    COG_TRY(cog_spec_int(spec, "group", 512, COG_TILE_ROW, COG_TILE, &q->tile));
    COG_TRY(cog_spec_choice(spec, "rounding", roundings, &rounding));
    COG_CHECK((levels & (levels - 1)) == 0 && (q->tile & (q->tile - 1)) == 0, COG_ERR_SPEC,
              "'levels' and 'group' of 'wyner-ziv' must be powers of two, are %lld and %lld",
              (long long)levels, (long long)q->tile);
    COG_CHECK(q->reach == 0 || q->reach > 1e-28, COG_ERR_SPEC,
              "'delta' of 'wyner-ziv' must be 0 or above 1e-28, is %g", q->reach);
    q->bits = __builtin_ctzll((uint64_t)levels);
    q->kind = q->reach > 0 ? FIXED : MEASURED;
    q->nearest = rounding == 1;
    q->kept = q->n;
    return COG_OK;
}

/* Of the distance to what was expected, in the maximum norm. */
static double worst_error(const cog_quantizer *q) {
    return (q->nearest ? 1.0 : 2.0) / (double)((1 << q->bits) - 2);
}

static int64_t n_groups(const cog_quantizer *q) {
    return q->kind == MEASURED ? (q->n + q->tile - 1) / q->tile : 0;
}

static size_t payload_bytes(const cog_quantizer *q) {
    return 4 * (size_t)n_groups(q) + (size_t)((q->n + 31) / 32) * 4 * (size_t)q->bits;
}

static size_t state_bytes(const cog_quantizer *q) { return q->nearest ? 0 : sizeof(uint32_t); }

static cog_status check(const cog_quantizer *q, const void *payload, size_t bytes) {
    COG_CHECK(bytes == payload_bytes(q), COG_ERR_FORMAT,
              "a wyner-ziv payload has %zu bytes, expected %zu", bytes, payload_bytes(q));
    const uint32_t *words = payload;
    for (int64_t g = 0; g < n_groups(q); g++)
        COG_CHECK(words[g] <= 0x7f7fffffu || words[g] == COG_NAN_BITS, COG_ERR_FORMAT,
                  "step %lld of a wyner-ziv payload is not a size", (long long)g);
    for (int p = 0; p < q->bits && q->n % 32 != 0; p++)
        COG_CHECK(words[bytes / 4 - 1 - (size_t)p] >> q->n % 32 == 0, COG_ERR_FORMAT,
                  "a wyner-ziv payload has codes past its end");
    return COG_OK;
}

/* A range rounded up, so that what lies at its end is still within. */
static float step_of(const cog_quantizer *q, double range) {
    return (float)(2 * range / (double)((1 << q->bits) - 2) * (1 + 0x1p-20));
}

/* A step of 0 has one point, h itself; (whatever is) times 0 is not looked at. */
static cog_lattice lattice_of(const cog_quantizer *q, float step) {
    return (cog_lattice){q->bits, 1 << q->bits, step, 1 / (double)step};
}

static float measured_step(const cog_quantizer *q, const float *trial, const float *h, int count) {
    double range = 0;
    bool broken = false;
    for (int i = 0; i < count; i++) {
        const double distance = fabs((double)trial[i] - (h != NULL ? (double)h[i] : 0));
        range = distance > range ? distance : range;
        broken = broken || !(distance <= 3e38);
    }
    const float step = step_of(q, range);
    if (broken || isinf(step)) return cog_bits_float(COG_NAN_BITS);
    return step < 0x1p-100f ? 0 : step;
}

static const float *side_of(const cog_quantizer *q, int64_t first) {
    return q->side != NULL ? q->side + first : NULL;
}

/* A group that is h, or is NaN. */
static void leave_out(const float *trial, const float *h, int count, float step, float *residual) {
    for (int i = 0; i < count; i++) {
        const float near = h != NULL ? h[i] + 0.0f : 0;
        residual[i] = isnan(step) || !isfinite(near) ? 0 : trial[i] - near;
    }
}

static void pack_group(const cog_quantizer *q, const float *trial, int64_t at, int count,
                       const cog_dither *dither, float *residual, void *payload) {
    const float *h = side_of(q, at);
    uint32_t *codes = (uint32_t *)payload + n_groups(q) + at / 32 * q->bits;
    float step = step_of(q, q->reach);
    if (q->kind == MEASURED)
        ((float *)payload)[at / q->tile] = step = measured_step(q, trial, h, count);
    if (step > 0) {
        const cog_lattice lattice = lattice_of(q, step);
        q->tile_ops->to_coset(trial, h, count, &lattice, dither, at, residual + at, codes);
        return;
    }
    memset(codes, 0, (size_t)((count + 31) / 32 * q->bits) * 4);
    leave_out(trial, h, count, step, residual + at);
}

static cog_status pack(const cog_quantizer *q, cog_device *device, int n_terms,
                       const cog_term *terms, float *residual, void *state, void *scratch,
                       void *payload) {
    (void)device, (void)scratch;
    uint32_t *n_used = state;
    const cog_dither dither = {q->stream, q->nearest ? 0 : (*n_used)++, 0, q->nearest};
    _Alignas(64) float trial[COG_TILE];
    for (int64_t first = 0; first < q->n; first += COG_TILE) {
        const int count = (int)(q->n - first < COG_TILE ? q->n - first : COG_TILE);
        q->tile_ops->combine(n_terms, terms, first, count, trial);
        for (int i = 0; i < count; i += (int)q->tile) {
            const int part = count - i < q->tile ? count - i : (int)q->tile;
            pack_group(q, trial + i, first + i, part, &dither, residual, payload);
        }
    }
    return COG_OK;
}

static void add_group(const cog_quantizer *q, const void *payload, float weight, int64_t at,
                      int count, float *y) {
    const uint32_t *codes = (const uint32_t *)payload + n_groups(q) + at / 32 * q->bits;
    const float *h = side_of(q, at);
    float step = step_of(q, q->reach);
    if (q->kind == MEASURED) step = ((const float *)payload)[at / q->tile];
    if (step > 0) {
        const cog_lattice lattice = lattice_of(q, step);
        q->tile_ops->add_coset(codes, h, &lattice, weight, count, y);
        return;
    }
    for (int i = 0; i < count; i++)
        y[i] = fmaf(weight, isnan(step) ? step : h != NULL ? h[i] : 0, y[i]);
}

static cog_status add(const cog_quantizer *q, cog_device *device, const void *payload, float weight,
                      int64_t first, int64_t count, float *y) {
    (void)device;
    for (int64_t i = first; i < first + count; i += q->tile) {
        const int64_t left = first + count - i;
        add_group(q, payload, weight, i, (int)(left < q->tile ? left : q->tile), y + (i - first));
    }
    return COG_OK;
}

static const cog_quantizer_kernels on_cpu = {.pack = pack, .add = add};

const cog_quantizer_ops cog_quantizer_wyner_ziv = {
    .name = "wyner-ziv",
    .summary = "lattice points modulo K; a prediction tells which of them is meant",
    .uses_side = true,
    .configure = configure,
    .payload_bytes = payload_bytes,
    .state_bytes = state_bytes,
    .check = check,
    .worst_error = worst_error,
    .on = {[COG_CPU] = &on_cpu},
};
