/* sign.c - one bit an entry and a scale: signSGD with the scale that loses least, zeros kept.
 *
 *     decoded[i] = scale * sign(trial[i]),  sign(0) = 0
 *     scale      = mean |trial| over the non-zero entries of the tensor, or of the group
 *
 * For those signs no other scale is nearer to the trial: ||trial - decoded||^2 = ||trial||^2 -
 * ||trial||_1^2 / n_nonzero. Without zeros it is the grouped sign of Li, Xiao and Skoglund (2026).
 *
 *   scale   tensor (two passes) | group (one pass)
 *   group   entries of a group, a power of two from 256 to 4096, default 4096
 *
 * Payload, little endian:
 *     uint32 flags                     bit 0: the last section is there
 *     float  scale[groups]             groups = 1, or ceil(n / group); none when n = 0
 *     uint32 negative[ceil(n / 32)]    bit i % 32 of word i / 32 is the sign of entry i
 *     uint32 zero[ceil(n / 32)]        the entries that are exactly zero; only when there are any
 * Bits of zero entries in `negative`, and bits past n, are 0.
 *
 * Order of sums. A segment is a group, or with one scale a tile of 4096. Its entry i is added to
 * float lane 64 (i / 1024) + i % 64 of 256, in the order of i; then lanes 0..127 take lanes
 * 128..255, and so on by halves. If that is infinite it is done again with |x| * 2^-64, the result
 * scaled back in double. With one scale, 64 double lanes add the tiles' sums, lane j tiles j,
 * j + 64, .., then by halves. The mean is a division in double, rounded to float.
 *
 * An infinity or NaN makes the scale of its group so, and the group's residual 0.
 *
 * Traffic, bytes an entry with L terms (feedback one of them): group 4L + 4 + 1/8, tensor
 * 4L + 12 + 1/8; zeros add 1/8.
 */
#include <math.h>
#include <string.h>

#include "check.h"
#include "kernels.h"
#include "on_cuda.h"
#include "tile.h"

enum { TENSOR, GROUP };
enum { SUM_LANES = 64 };
enum { HAS_ZEROS = 1 };

static cog_status configure(cog_quantizer *q, cog_spec *spec) {
    static const char *const scales[] = {"tensor", "group", NULL};
    COG_TRY(cog_spec_choice(spec, "scale", scales, &q->kind));
    COG_TRY(cog_spec_int(spec, "group", COG_TILE, COG_TILE_ROW, COG_TILE, &q->tile));
    COG_CHECK((q->tile & (q->tile - 1)) == 0, COG_ERR_SPEC,
              "'group' of 'sign' must be a power of two, is %lld", (long long)q->tile);
    q->kept = q->n;
    return COG_OK;
}

typedef struct layout {
    int64_t n_scales, n_words;
    size_t negative, zero, end; /* bytes from the start */
} layout;

static layout lay_out(const cog_quantizer *q) {
    layout at;
    at.n_scales = q->kind == GROUP ? (q->n + q->tile - 1) / q->tile : q->n > 0;
    at.n_words = (q->n + 31) / 32;
    at.negative = 4 + 4 * (size_t)at.n_scales;
    at.zero = at.negative + 4 * (size_t)at.n_words;
    at.end = at.zero + 4 * (size_t)at.n_words;
    return at;
}

static size_t payload_bytes(const cog_quantizer *q) { return lay_out(q).end; }

static uint32_t word_at(const void *payload, size_t byte) {
    uint32_t word;
    memcpy(&word, (const char *)payload + byte, sizeof(word));
    return word;
}

static size_t used_bytes(const cog_quantizer *q, const void *payload) {
    const layout at = lay_out(q);
    return (word_at(payload, 0) & HAS_ZEROS) != 0 ? at.end : at.zero;
}

static cog_status check_bits(const cog_quantizer *q, const void *payload, const layout *at,
                             bool has_zeros) {
    uint32_t any = 0;
    for (int64_t w = 0; w < at->n_words; w++) {
        const int64_t left = q->n - w * 32;
        const uint32_t valid = left < 32 ? ~(~0u << left) : ~0u;
        const uint32_t negative = word_at(payload, at->negative + 4 * (size_t)w);
        const uint32_t zero = has_zeros ? word_at(payload, at->zero + 4 * (size_t)w) : 0;
        COG_CHECK((negative & ~valid) == 0 && (zero & ~valid) == 0 && (negative & zero) == 0,
                  COG_ERR_FORMAT, "word %lld of a sign payload has bits that mean nothing",
                  (long long)w);
        any |= zero;
    }
    COG_CHECK(!has_zeros || any != 0, COG_ERR_FORMAT, "a sign payload announces zeros, has none");
    return COG_OK;
}

static cog_status check(const cog_quantizer *q, const void *payload, size_t bytes) {
    const layout at = lay_out(q);
    COG_CHECK(bytes >= 4, COG_ERR_FORMAT, "a sign payload of %zu bytes has no header", bytes);
    COG_CHECK((word_at(payload, 0) & ~(uint32_t)HAS_ZEROS) == 0, COG_ERR_FORMAT,
              "a sign payload has unknown flags");
    COG_CHECK(bytes == used_bytes(q, payload), COG_ERR_FORMAT,
              "a sign payload has %zu bytes, its header says %zu", bytes, used_bytes(q, payload));
    for (int64_t g = 0; g < at.n_scales; g++) {
        const uint32_t scale = word_at(payload, 4 + 4 * (size_t)g);
        COG_CHECK(scale <= 0x7f800000u || scale == COG_NAN_BITS, COG_ERR_FORMAT,
                  "scale %lld of a sign payload is negative", (long long)g);
    }
    return check_bits(q, payload, &at, bytes == at.end && at.n_words > 0);
}

static float mean_of(double sum, int64_t n_nonzero) {
    if (n_nonzero == 0) return 0;
    const double mean = sum / (double)n_nonzero;
    if (!isnan(mean)) return (float)mean;
    return cog_bits_float(COG_NAN_BITS);
}

/* One sender's view of a payload under construction. */
typedef struct sheet {
    float *scale;
    uint32_t *negative, *zero;
    int64_t n_zeros;
} sheet;

static sheet open_sheet(const cog_quantizer *q, void *payload) {
    const layout at = lay_out(q);
    char *bytes = payload;
    return (sheet){(float *)(void *)(bytes + 4), (uint32_t *)(void *)(bytes + at.negative),
                   (uint32_t *)(void *)(bytes + at.zero), 0};
}

static int tile_count(const cog_quantizer *q, int64_t first) {
    return (int)(q->n - first < COG_TILE ? q->n - first : COG_TILE);
}

static void write_group(const cog_quantizer *q, const float *trial, int64_t at, int count,
                        cog_magnitude size, float *residual, bool stream, sheet *out) {
    const float scale = mean_of(size.sum, count - size.n_zeros);
    out->scale[at / q->tile] = scale;
    out->n_zeros += size.n_zeros;
    q->tile_ops->split(trial, count, scale, size.n_zeros > 0, residual + at, stream,
                       out->negative + at / 32, out->zero + at / 32);
}

static void pack_groups(const cog_quantizer *q, int n_terms, const cog_term *terms, float *residual,
                        sheet *out) {
    const cog_tile_ops *ops = q->tile_ops;
    const bool stream = cog_tile_streams(q, n_terms, terms, residual);
    _Alignas(64) float trial[COG_TILE];
    for (int64_t first = 0; first < q->n; first += COG_TILE) {
        const int count = tile_count(q, first);
        if (q->tile == COG_TILE) {
            const cog_magnitude size = ops->combine_sum(n_terms, terms, first, count, trial);
            write_group(q, trial, first, count, size, residual, stream, out);
            continue;
        }
        ops->combine(n_terms, terms, first, count, trial);
        for (int i = 0; i < count; i += (int)q->tile) {
            const int part = count - i < q->tile ? count - i : (int)q->tile;
            write_group(q, trial + i, first + i, part, ops->magnitude(trial + i, part), residual,
                        stream, out);
        }
    }
    ops->fence();
}

/* First pass: the trial goes to the residual, its size is summed up. */
static float combine_all(const cog_quantizer *q, int n_terms, const cog_term *terms,
                         float *residual, int64_t *n_zeros) {
    const cog_tile_ops *ops = q->tile_ops;
    const bool stream = cog_tile_streams(q, n_terms, terms, residual);
    _Alignas(64) float trial[COG_TILE];
    double lane[SUM_LANES] = {0};
    for (int64_t first = 0; first < q->n; first += COG_TILE) {
        const int count = tile_count(q, first);
        const cog_magnitude size = ops->combine_sum(n_terms, terms, first, count, trial);
        lane[first / COG_TILE % SUM_LANES] += size.sum;
        *n_zeros += size.n_zeros;
        ops->put(residual + first, trial, count, stream);
    }
    ops->fence();
    for (int half = SUM_LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return mean_of(lane[0], q->n - *n_zeros);
}

static void pack_tensor(const cog_quantizer *q, int n_terms, const cog_term *terms, float *residual,
                        sheet *out) {
    if (q->n == 0) return;
    const float scale = combine_all(q, n_terms, terms, residual, &out->n_zeros);
    out->scale[0] = scale;
    float last[COG_TILE] = {0};
    for (int64_t first = 0; first < q->n; first += COG_TILE) {
        const int count = tile_count(q, first);
        const float *trial = residual + first;
        if (count < COG_TILE) trial = memcpy(last, trial, (size_t)count * sizeof(*trial));
        q->tile_ops->split(trial, count, scale, out->n_zeros > 0, residual + first, false,
                           out->negative + first / 32, out->zero + first / 32);
    }
}

static cog_status pack(const cog_quantizer *q, cog_device *device, int n_terms,
                       const cog_term *terms, float *residual, void *state, void *scratch,
                       void *payload) {
    (void)device, (void)state, (void)scratch;
    sheet out = open_sheet(q, payload);
    if (q->kind == GROUP)
        pack_groups(q, n_terms, terms, residual, &out);
    else
        pack_tensor(q, n_terms, terms, residual, &out);
    *(uint32_t *)payload = out.n_zeros > 0 ? HAS_ZEROS : 0;
    return COG_OK;
}

static cog_status add(const cog_quantizer *q, cog_device *device, const void *payload, float weight,
                      int64_t first, int64_t count, float *y) {
    (void)device;
    const layout at = lay_out(q);
    const char *bytes = payload;
    const float *scale = (const float *)(const void *)(bytes + 4);
    const uint32_t *negative = (const uint32_t *)(const void *)(bytes + at.negative);
    const bool has_zeros = (word_at(payload, 0) & HAS_ZEROS) != 0;
    const uint32_t *zero = has_zeros ? (const uint32_t *)(const void *)(bytes + at.zero) : NULL;
    for (int64_t i = first; i < first + count; i += q->tile) {
        const int64_t left = first + count - i;
        q->tile_ops->add_signs(negative + i / 32, has_zeros ? zero + i / 32 : NULL,
                               scale[q->kind == GROUP ? i / q->tile : 0], weight,
                               (int)(left < q->tile ? left : q->tile), y + (i - first));
    }
    return COG_OK;
}

static void format(const cog_quantizer *q, cog_kernel_format *out) {
    const layout at = lay_out(q);
    *out =
        (cog_kernel_format){.layout = COG_LAYOUT_SIGNS,
                            .part_bits = q->kind == GROUP ? __builtin_ctzll((uint64_t)q->tile) : 63,
                            .n = q->n,
                            .body = (int64_t)at.negative,
                            .extra = (int64_t)at.zero};
}

static const cog_quantizer_kernels on_cpu = {.pack = pack, .add = add};

const cog_quantizer_ops cog_quantizer_sign = {
    .name = "sign",
    .summary = "one bit an entry and the mean magnitude; exact zeros stay zero",
    .configure = configure,
    .payload_bytes = payload_bytes,
    .used_bytes = used_bytes,
    .check = check,
    .format = format,
    .on = {[COG_CPU] = &on_cpu, [COG_CUDA] = COG_CUDA_KERNELS(cog_sign_on_cuda)},
};
