/* qcs.c - quantised compressed sensing: a few bits of every random measurement of the largest
 * entries; the server adds up what they stand for and decodes once (Oh, Lee, Jeon, Poor,
 * "Communication-efficient federated learning via quantized compressed sensing", 2023).
 *
 *     x_S = the largest entries of a block, the rest stays in the residual
 *     v   = A x_S / sigma,  A Gaussian of variance 1/m,  sigma = ||x_S|| / sqrt(m):  v is normal
 *     c   = Lloyd and Max's quantiser of a normal variable applied to v, 1 to 3 bits
 *     sum = sum of weight * sigma * level(c) / gain over the messages, near A (sum of weight * x_S)
 *     out = sparse x with A x near the sum                      iterative hard thresholding
 *
 * gain is Bussgang's: level(c) = gain v + what does not correlate with v.
 *     bits 1   +-.7979                            gain .6366
 *     bits 2   +-.4528 +-1.5104                   gain .8825
 *     bits 3   +-.2451 +-.7560 +-1.3439 +-2.1519  gain .9655
 * Thresholds are half-way between levels.
 *
 *   bits       1 to 3, default 2
 *   ratio      measurements per entry, default 1/3
 *   sparsity   share of the entries of a block that is sent, default 0.04
 *   steps      of the decoder at most, default 20
 *   block      a power of two from 256 to 4096, default 512
 *   seed       of A, the same for all, default 1
 *
 * Published is a message-passing decoder that knows the statistics of noise and signal. Ours
 * decodes as many entries as all summands of a block have at most, but no more than a quarter of
 * the measurements can tell. Infinities and NaN make a block NaN, and its residual 0.
 *
 * Payload, little endian:
 *     float  sigma[blocks]
 *     uint32 code[..]     bits words for 32 measurements, as in qsgd.c; a block starts a new word
 * Scratch: A without its 1/sqrt(m), column by column; 4 ratio block^2 bytes.
 *
 * Traffic, bytes an entry with L terms: one pass, 4L + 4 + bits ratio / 8 + 4/block.
 */
#include <math.h>

#include "check.h"
#include "draw.h"
#include "iht.h"

enum { MAX_BITS = 3 };

static const float levels[MAX_BITS][4] = {
    {0.7979f}, {0.4528f, 1.5104f}, {0.2451f, 0.7560f, 1.3439f, 2.1519f}};
static const float gains[MAX_BITS] = {0.6366f, 0.8825f, 0.9655f};

static cog_status configure(cog_quantizer *q, cog_spec *spec) {
    int64_t bits, steps, seed;
    COG_TRY(cog_spec_int(spec, "bits", 2, 1, MAX_BITS, &bits));
    COG_TRY(cog_spec_real(spec, "ratio", 1.0 / 3, 1e-3, 1, &q->ratio));
    COG_TRY(cog_spec_real(spec, "sparsity", 0.04, 1e-4, 1, &q->sparsity));
    COG_TRY(cog_spec_int(spec, "steps", 20, 1, 10000, &steps));
    COG_TRY(cog_spec_int(spec, "block", 512, COG_TILE_ROW, COG_TILE, &q->tile));
    COG_TRY(cog_spec_int(spec, "seed", 1, 0, UINT32_MAX, &seed));
    COG_CHECK((q->tile & (q->tile - 1)) == 0, COG_ERR_SPEC,
              "'block' of 'qcs' must be a power of two, is %lld", (long long)q->tile);
    COG_CHECK(q->sparsity <= q->ratio, COG_ERR_SPEC,
              "'qcs' cannot find a share of %g of the entries in %g measurements an entry",
              q->sparsity, q->ratio);
    q->bits = (int)bits;
    q->steps = (int)steps;
    q->seed = (uint32_t)seed;
    q->kept = q->n;
    return COG_OK;
}

static int64_t n_blocks(const cog_quantizer *q) { return (q->n + q->tile - 1) / q->tile; }

/* Words of the codes of one block of `count` entries. */
static int64_t code_words(const cog_quantizer *q, int64_t count) {
    return ((int)cog_share(q->ratio, count) + 31) / 32 * q->bits;
}

/* Entries of the block at `first`, its measurements, and the word where its codes begin. */
typedef struct piece {
    int count, rows, kept;
    int64_t codes;
} piece;

static piece piece_at(const cog_quantizer *q, int64_t first) {
    const int count = (int)(q->n - first < q->tile ? q->n - first : q->tile);
    return (piece){count, (int)cog_share(q->ratio, count), (int)cog_share(q->sparsity, count),
                   n_blocks(q) + first / q->tile * code_words(q, q->tile)};
}

static size_t payload_bytes(const cog_quantizer *q) {
    if (q->n == 0) return 0;
    const piece last = piece_at(q, (n_blocks(q) - 1) * q->tile);
    return 4 * (size_t)(last.codes + code_words(q, last.count));
}

static cog_status check(const cog_quantizer *q, const void *payload, size_t bytes) {
    COG_CHECK(bytes == payload_bytes(q), COG_ERR_FORMAT,
              "a qcs payload has %zu bytes, expected %zu", bytes, payload_bytes(q));
    const uint32_t *words = payload;
    for (int64_t b = 0; b < n_blocks(q); b++) {
        const piece p = piece_at(q, b * q->tile);
        COG_CHECK(words[b] <= 0x7f7fffffu || words[b] == COG_NAN_BITS, COG_ERR_FORMAT,
                  "scale %lld of a qcs payload is not a size", (long long)b);
        const uint32_t *last = words + p.codes + (p.rows - 1) / 32 * q->bits;
        for (int i = 0; i < q->bits && p.rows % 32 != 0; i++)
            COG_CHECK(last[i] >> p.rows % 32 == 0, COG_ERR_FORMAT,
                      "block %lld of a qcs payload has codes past its end", (long long)b);
    }
    return COG_OK;
}

/* ---- the matrix ----------------------------------------------------------------------------- */

/* Made in scratch by its first user. */
typedef struct table {
    uint32_t is_made, unused;
    float column[]; /* [block][m] standard normal */
} table;

static size_t scratch_bytes(const cog_quantizer *q) {
    return sizeof(table) + (size_t)(q->tile * (int)cog_share(q->ratio, q->tile)) * sizeof(float);
}

static const table *table_of(const cog_quantizer *q, void *scratch) {
    table *t = scratch;
    const int64_t rows = (int)cog_share(q->ratio, q->tile);
    for (int64_t j = 0; j < q->tile && t->is_made == 0; j++) {
        cog_rng rng = cog_rng_make(q->seed, COG_STREAM_DITHER, 0, (uint32_t)j);
        for (int64_t i = 0; i < rows; i++) t->column[j * rows + i] = (float)cog_rng_normal(&rng);
    }
    t->is_made = 1;
    return t;
}

typedef struct matrix {
    const float *column;
    int64_t stride;
} matrix;

/* Sparse x is the rule. */
static void forward(const cog_sensing *a, const float *x, float *y) {
    const matrix *m = a->context;
    const float scale = (float)(1 / sqrt(a->n_rows));
    memset(y, 0, (size_t)a->n_rows * sizeof(*y));
    for (int j = 0; j < a->n_columns; j++)
        if (x[j] != 0) a->ops->add_floats(m->column + j * m->stride, scale * x[j], a->n_rows, y);
}

static void adjoint(const cog_sensing *a, const float *y, float *x) {
    const matrix *m = a->context;
    const double scale = 1 / sqrt(a->n_rows);
    for (int j = 0; j < a->n_columns; j++)
        x[j] = (float)(scale * a->ops->dot(m->column + j * m->stride, y, a->n_rows));
}

static cog_sensing sensing(const cog_quantizer *q, piece p, const matrix *m) {
    return (cog_sensing){.ops = q->tile_ops,
                         .n_rows = p.rows,
                         .n_columns = p.count,
                         .context = m,
                         .forward = forward,
                         .adjoint = adjoint};
}

/* ---- codes ---------------------------------------------------------------------------------- */

/* Levels are numbered from the lowest: the upper half is that of positive numbers. */
static uint32_t code_of(int bits, float v) {
    const int half = 1 << (bits - 1);
    const float *level = levels[bits - 1], size = fabsf(v);
    int i = 0;
    while (i + 1 < half && size >= (level[i] + level[i + 1]) / 2) i++;
    return (uint32_t)(v < 0 ? half - 1 - i : half + i);
}

static float level_of(int bits, uint32_t code) {
    const uint32_t half = 1u << (bits - 1);
    return code >= half ? levels[bits - 1][code - half] : -levels[bits - 1][half - 1 - code];
}

static void put_codes(int bits, const float *v, int n, uint32_t *words) {
    memset(words, 0, (size_t)((n + 31) / 32 * bits) * sizeof(*words));
    for (int i = 0; i < n; i++) {
        const uint32_t code = code_of(bits, v[i]);
        for (int p = 0; p < bits; p++) words[i / 32 * bits + p] |= (code >> p & 1) << i % 32;
    }
}

static void add_codes(int bits, const uint32_t *words, float weight, int n, float *y) {
    for (int i = 0; i < n; i++) {
        uint32_t code = 0;
        for (int p = 0; p < bits; p++) code |= (words[i / 32 * bits + p] >> i % 32 & 1) << p;
        y[i] = fmaf(weight, level_of(bits, code), y[i]);
    }
}

/* ---- pack and decode ------------------------------------------------------------------------ */

/* x becomes what is left of it. */
static void pack_block(const cog_quantizer *q, int64_t first, const matrix *m, float *x,
                       uint32_t *payload) {
    const piece p = piece_at(q, first);
    const cog_sensing a = sensing(q, p, m);
    float sent[COG_TILE], v[COG_TILE] = {0};
    memcpy(sent, x, (size_t)p.count * sizeof(*x));
    cog_keep_largest(q->tile_ops, sent, p.count, p.kept);
    const double size = sqrt(q->tile_ops->dot(sent, sent, p.count));
    float sigma = (float)(size / sqrt(p.rows));
    if (!isfinite(sigma)) sigma = cog_bits_float(COG_NAN_BITS);
    memcpy(payload + first / q->tile, &sigma, sizeof(sigma));
    for (int i = 0; i < p.count; i++) x[i] = isnan(sigma) || sent[i] != 0 ? 0 : x[i];
    if (sigma > 0) forward(&a, sent, v);
    for (int i = 0; i < p.rows && sigma > 0; i++) v[i] /= sigma;
    put_codes(q->bits, v, p.rows, payload + p.codes);
}

static cog_status pack(const cog_quantizer *q, cog_device *device, int n_terms,
                       const cog_term *terms, float *residual, void *state, void *scratch,
                       void *payload) {
    (void)device, (void)state;
    const matrix m = {table_of(q, scratch)->column, (int)cog_share(q->ratio, q->tile)};
    _Alignas(64) float trial[COG_TILE];
    for (int64_t first = 0; first < q->n; first += COG_TILE) {
        const int count = (int)(q->n - first < COG_TILE ? q->n - first : COG_TILE);
        q->tile_ops->combine(n_terms, terms, first, count, trial);
        for (int i = 0; i < count; i += (int)q->tile)
            pack_block(q, first + i, &m, trial + i, payload);
        q->tile_ops->put(residual + first, trial, count, false);
    }
    return COG_OK;
}

static cog_status aggregate(const cog_quantizer *q, int n_payloads, const void *const *payloads,
                            const float *weights, void *memory, void *scratch, float *out) {
    (void)memory;
    const matrix m = {table_of(q, scratch)->column, (int)cog_share(q->ratio, q->tile)};
    for (int64_t first = 0; first < q->n; first += q->tile) {
        const piece p = piece_at(q, first);
        const cog_sensing a = sensing(q, p, &m);
        float sum[COG_TILE] = {0};
        for (int i = 0; i < n_payloads; i++) {
            const float sigma = ((const float *)payloads[i])[first / q->tile];
            add_codes(q->bits, (const uint32_t *)payloads[i] + p.codes,
                      weights[i] * sigma / gains[q->bits - 1], p.rows, sum);
        }
        const int enough = p.rows / 4 > p.kept ? p.rows / 4 : p.kept;
        const int wanted = (int64_t)n_payloads * p.kept < enough ? n_payloads * p.kept : enough;
        cog_iht(&a, sum, wanted, q->steps, sum, out + first);
    }
    return COG_OK;
}

static const cog_quantizer_kernels on_cpu = {.pack = pack};

const cog_quantizer_ops cog_quantizer_qcs = {
    .name = "qcs",
    .summary = "a few bits of random measurements, summed, then decoded as a sparse vector",
    .configure = configure,
    .payload_bytes = payload_bytes,
    .scratch_bytes = scratch_bytes,
    .check = check,
    .aggregate = aggregate,
    .on = {[COG_CPU] = &on_cpu},
};
