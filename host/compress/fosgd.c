/* fosgd.c - one bit an entry of the flattened message, at random to the right mean: FO-SGD
 * (Stollenwerk and Jacques, "Flattened one-bit stochastic gradient descent", 2024).
 *
 *     u       = H diag(signs) trial / sqrt(N)       random signs and a Hadamard transform spread
 *                                                   whatever there is over all entries alike
 *     bit     = sign(u + t), t uniform in [-l, l]   l = reach ||trial|| / sqrt(N)
 *     decoded = diag(signs) H (l bit) / sqrt(N)     mean: trial, as long as |u| <= l
 *     E ||decoded - trial||^2 = (reach^2 - 1) ||trial||^2
 *
 *   reach   1 to 64, default 4: u is close to Gaussian, so that 6 of 100,000 entries exceed l then
 *   block   entries that are transformed together, a power of two from 256 to 4096, default 4096
 *
 * Published is one transform of the whole message. Blocks of a tile are ours: they stay in cache,
 * any tile is decoded by itself, and the error is the same. The last block is as long as it needs
 * to be, at least 256; what is missing there is zeros. A block of a norm above 2^100 goes as
 * infinity, one below about 2^-100 not at all.
 *
 * Payload, little endian; nothing when n = 0:
 *     uint32 stream, payload     name the random numbers: signs are use 1 of tile.h, dither use 0
 *     float  scale[blocks]       l / sqrt(N) = reach ||trial|| / N
 *     uint32 negative[..]        a bit an entry of every block, the last one's included
 * decoded = scale * (whole number), so its bits do not depend on the order of the sums. The norm is
 * summed in double, in the order of `energy` in tile.h.
 * State: uint32, the number of payloads used so far.
 *
 * Traffic, bytes an entry with L terms: one pass, 4L + 4 + 1/8 + 4/block; two transforms in cache.
 */
#include <math.h>
#include <string.h>

#include "check.h"
#include "on_cuda.h"
#include "tile.h"

enum { ROTATION = 1 };
enum { HEADER_WORDS = 2 };

/* Where sums of N = 4096 squares of floats are safe. */
#define LARGEST  0x1p100
#define SMALLEST 0x1p-100

static cog_status configure(cog_quantizer *q, cog_spec *spec) {
    COG_TRY(cog_spec_real(spec, "reach", 4, 1, 64, &q->reach));
    COG_TRY(cog_spec_int(spec, "block", COG_TILE, COG_TILE_ROW, COG_TILE, &q->tile));
    COG_CHECK((q->tile & (q->tile - 1)) == 0, COG_ERR_SPEC,
              "'block' of 'fosgd' must be a power of two, is %lld", (long long)q->tile);
    q->kept = q->n;
    return COG_OK;
}

/* Of an entry u: l^2 - u^2 up to the reach, and at most u^2 - l^2 beyond. The latter adds up to no
 * more than twice the energy. */
static double worst_error(const cog_quantizer *q) { return q->reach * q->reach + 1; }

static int64_t n_blocks(const cog_quantizer *q) { return (q->n + q->tile - 1) / q->tile; }

/* Entries of the block at `first`, zeros included. */
static int block_length(const cog_quantizer *q, int64_t first) {
    int64_t length = COG_TILE_ROW;
    while (length < q->tile && length < q->n - first) length *= 2;
    return (int)length;
}

static size_t payload_bytes(const cog_quantizer *q) {
    if (q->n == 0) return 0;
    const int64_t last = (n_blocks(q) - 1) * q->tile, bits = last + block_length(q, last);
    return 4 * (size_t)(HEADER_WORDS + n_blocks(q) + bits / 32);
}

static size_t state_bytes(const cog_quantizer *q) {
    (void)q;
    return sizeof(uint32_t);
}

static cog_status check(const cog_quantizer *q, const void *payload, size_t bytes) {
    COG_CHECK(bytes == payload_bytes(q), COG_ERR_FORMAT,
              "an fosgd payload has %zu bytes, expected %zu", bytes, payload_bytes(q));
    for (int64_t b = 0; b < n_blocks(q); b++) {
        uint32_t scale;
        memcpy(&scale, (const uint32_t *)payload + HEADER_WORDS + b, sizeof(scale));
        COG_CHECK(scale <= 0x7f800000u, COG_ERR_FORMAT,
                  "scale %lld of an fosgd payload is negative", (long long)b);
    }
    return COG_OK;
}

/* One payload, being written or read. */
typedef struct sheet {
    cog_dither dither, signs;
    const cog_quantizer *q;
    float *scale;       /* [n_blocks] */
    uint32_t *negative; /* a bit an entry */
} sheet;

static sheet open_sheet(const cog_quantizer *q, void *payload) {
    uint32_t *words = payload;
    float *scale = (float *)payload + HEADER_WORDS;
    return (sheet){.dither = {words[0], words[1], 0, false},
                   .signs = {words[0], words[1], ROTATION, false},
                   .q = q,
                   .scale = scale,
                   .negative = words + HEADER_WORDS + n_blocks(q)};
}

static float scale_of(const sheet *s, double energy, int length) {
    if (!(energy <= LARGEST * LARGEST)) return INFINITY;
    const double scale = s->q->reach * sqrt(energy) / length;
    return scale < SMALLEST ? 0 : (float)scale;
}

/* Whole numbers of which `scale` times is decoded, into x[length]. */
static void unpack(const sheet *s, int64_t first, int length, float *x) {
    const cog_tile_ops *ops = s->q->tile_ops;
    ops->ones(s->negative + first / 32, length, x);
    ops->hadamard(x, length);
    ops->flip(x, length, &s->signs, first, x);
}

/* trial[length], padded, becomes what is owed. */
static void pack_block(const sheet *s, int64_t first, int length, float *trial) {
    const cog_tile_ops *ops = s->q->tile_ops;
    _Alignas(64) float x[COG_TILE];
    uint32_t *negative = s->negative + first / 32;
    const float scale = scale_of(s, ops->energy(trial, length), length);
    s->scale[first / s->q->tile] = scale;
    if (scale > 0 && isfinite(scale)) {
        ops->flip(trial, length, &s->signs, first, x);
        ops->hadamard(x, length);
        ops->threshold(x, length, scale * (float)length, &s->dither, first, negative);
        unpack(s, first, length, x);
        ops->take_from(x, scale, length, trial);
        return;
    }
    memset(negative, 0, (size_t)length / 8);
    if (scale > 0) memset(trial, 0, (size_t)length * sizeof(*trial));
}

static cog_status pack(const cog_quantizer *q, cog_device *device, int n_terms,
                       const cog_term *terms, float *residual, void *state, void *scratch,
                       void *payload) {
    (void)device, (void)scratch;
    if (q->n == 0) return COG_OK;
    uint32_t *n_used = state, *header = payload;
    header[0] = q->stream;
    header[1] = (*n_used)++;
    const sheet out = open_sheet(q, payload);
    const bool stream = cog_tile_streams(q, n_terms, terms, residual);
    _Alignas(64) float trial[COG_TILE];
    for (int64_t first = 0; first < q->n; first += COG_TILE) {
        const int count = (int)(q->n - first < COG_TILE ? q->n - first : COG_TILE);
        q->tile_ops->combine(n_terms, terms, first, count, trial);
        if (count < COG_TILE) memset(trial + count, 0, (size_t)(COG_TILE - count) * sizeof(*trial));
        for (int i = 0; i < count; i += (int)q->tile)
            pack_block(&out, first + i, block_length(q, first + i), trial + i);
        q->tile_ops->put(residual + first, trial, count, stream);
    }
    q->tile_ops->fence();
    return COG_OK;
}

static cog_status add(const cog_quantizer *q, cog_device *device, const void *payload, float weight,
                      int64_t first, int64_t count, float *y) {
    (void)device;
    if (count == 0) return COG_OK;
    const sheet in = open_sheet(q, (void *)(uintptr_t)payload); /* only read */
    _Alignas(64) float x[COG_TILE];
    for (int64_t i = first; i < first + count; i += q->tile) {
        const int64_t left = first + count - i;
        const int length = block_length(q, i);
        unpack(&in, i, length, x);
        q->tile_ops->add_scaled(x, in.scale[i / q->tile], weight,
                                (int)(left < length ? left : length), y + (i - first));
    }
    return COG_OK;
}

static const cog_quantizer_kernels on_cpu = {.pack = pack, .add = add};

const cog_quantizer_ops cog_quantizer_fosgd = {
    .name = "fosgd",
    .summary = "one bit an entry after random signs and a Hadamard transform",
    .configure = configure,
    .payload_bytes = payload_bytes,
    .state_bytes = state_bytes,
    .check = check,
    .worst_error = worst_error,
    .on = {[COG_CPU] = &on_cpu, [COG_CUDA] = COG_CUDA_KERNELS(cog_fosgd_on_cuda)},
};
