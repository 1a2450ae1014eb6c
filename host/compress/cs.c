/* cs.c - compressed sensing: random rows of a Hadamard transform, summed before they are decoded
 * (after Tang, Ramanathan, Zhang, Li, "Communication-efficient distributed SGD with compressed
 * sensing", 2022).
 *
 *     y   = A x,  A = (m rows of H) diag(signs) / sqrt(m)        each block by itself
 *     s   = sum of weight * y over the messages of a round       linear, as codes are
 *     out = sparse x with A x near s + e                          iterative hard thresholding
 *     e   = s + e - A out                                         the server's error feedback
 *
 *   ratio      measurements per entry, default 0.25
 *   sparsity   share of the entries of a block that is decoded, default 0.03
 *   steps      of the decoder at most, default 20
 *   block      a power of two from 256 to 4096, default 4096; the last one is filled up as by fosgd
 *   memory     0 | 1, the server's error feedback, default 1
 *   values     fp32 | bf16
 *   seed       of rows and signs, the same for all and for every round, default 1
 *
 * Columns of A have length 1, and A A^T = N / m. Error feedback of workers has nothing to feed
 * back: it is refused. Ours: blocks, so that transforms stay in cache; the decoder's step.
 *
 * Payload: float y[..] (or uint16 bf16, padded with a zero), block after block.
 * Server's state of a block of the parameters: float e[..].
 *
 * Traffic, bytes an entry with L terms: one pass, 4L + 4 + 4 ratio.
 */
#include <math.h>

#include "check.h"
#include "draw.h"
#include "iht.h"

enum { ROTATION = 1 };

static cog_status configure(cog_quantizer *q, cog_spec *spec) {
    static const char *const values[] = {"fp32", "bf16", NULL};
    int64_t steps, seed;
    int value;
    COG_TRY(cog_spec_real(spec, "ratio", 0.25, 1e-4, 1, &q->ratio));
    COG_TRY(cog_spec_real(spec, "sparsity", 0.03, 1e-4, 1, &q->sparsity));
    COG_TRY(cog_spec_int(spec, "steps", 20, 1, 10000, &steps));
    COG_TRY(cog_spec_int(spec, "block", COG_TILE, COG_TILE_ROW, COG_TILE, &q->tile));
    COG_TRY(cog_spec_flag(spec, "memory", true, &q->remembers));
    COG_TRY(cog_spec_choice(spec, "values", values, &value));
    COG_TRY(cog_spec_int(spec, "seed", 1, 0, UINT32_MAX, &seed));
    COG_CHECK((q->tile & (q->tile - 1)) == 0, COG_ERR_SPEC,
              "'block' of 'cs' must be a power of two, is %lld", (long long)q->tile);
    COG_CHECK(q->sparsity <= q->ratio, COG_ERR_SPEC,
              "'cs' cannot find a share of %g of the entries in %g measurements an entry",
              q->sparsity, q->ratio);
    q->steps = (int)steps;
    q->seed = (uint32_t)seed;
    q->bf16_values = value == 1;
    q->kept = q->n;
    return COG_OK;
}

/* Nothing is left behind to feed back. */
static double worst_error(const cog_quantizer *q) { return fmax(1, 1 / q->ratio - 1); }

/* Entries from `first` on, those of the transform, and its measurements. */
typedef struct piece {
    int count, length, rows;
    int64_t before; /* measurements of the blocks before */
} piece;

static piece piece_at(const cog_quantizer *q, int64_t first) {
    piece p = {.length = COG_TILE_ROW};
    p.count = (int)(q->n - first < q->tile ? q->n - first : q->tile);
    while (p.length < p.count) p.length *= 2;
    p.rows = (int)cog_share(q->ratio, p.count);
    p.before = first / q->tile * (int)cog_share(q->ratio, q->tile);
    return p;
}

static int64_t n_measurements(const cog_quantizer *q) {
    if (q->n == 0) return 0;
    const piece last = piece_at(q, (q->n - 1) / q->tile * q->tile);
    return last.before + last.rows;
}

static size_t payload_bytes(const cog_quantizer *q) {
    const size_t bytes = (size_t)n_measurements(q) * (q->bf16_values ? 2 : 4);
    return (bytes + 3) / 4 * 4;
}

static cog_status check(const cog_quantizer *q, const void *payload, size_t bytes) {
    COG_CHECK(bytes == payload_bytes(q), COG_ERR_FORMAT, "a cs payload has %zu bytes, expected %zu",
              bytes, payload_bytes(q));
    const bool is_padded = q->bf16_values && n_measurements(q) % 2 != 0;
    COG_CHECK(!is_padded || ((const uint16_t *)payload)[bytes / 2 - 1] == 0, COG_ERR_FORMAT,
              "the padding of a cs payload is not zero");
    return COG_OK;
}

/* ---- the matrix ----------------------------------------------------------------------------- */

/* The rows of a transform of `length`, ascending. */
static void choose_rows(uint32_t seed, int length, int n_rows, uint16_t *row) {
    cog_rng rng = cog_rng_make(seed, COG_STREAM_DITHER, 0, (uint32_t)length);
    cog_draw_places(&rng, length, n_rows, row);
}

typedef struct rows {
    cog_dither signs;
    int64_t first; /* entry of the message where the block begins */
    int length;
    uint16_t row[COG_TILE];
} rows;

static void forward(const cog_sensing *a, const float *x, float *y) {
    const rows *r = a->context;
    const float scale = (float)(1 / sqrt(a->n_rows));
    _Alignas(64) float u[COG_TILE] = {0};
    memcpy(u, x, (size_t)a->n_columns * sizeof(*x));
    a->ops->flip(u, r->length, &r->signs, r->first, u);
    a->ops->hadamard(u, r->length);
    for (int i = 0; i < a->n_rows; i++) y[i] = scale * u[r->row[i]];
}

static void adjoint(const cog_sensing *a, const float *y, float *x) {
    const rows *r = a->context;
    const float scale = (float)(1 / sqrt(a->n_rows));
    _Alignas(64) float u[COG_TILE] = {0};
    for (int i = 0; i < a->n_rows; i++) u[r->row[i]] = scale * y[i];
    a->ops->hadamard(u, r->length);
    a->ops->flip(u, r->length, &r->signs, r->first, u);
    memcpy(x, u, (size_t)a->n_columns * sizeof(*x));
}

/* The matrix of the block at `first`; rows are drawn anew when its length is another one. */
static cog_sensing sensing(const cog_quantizer *q, int64_t first, rows *r) {
    const piece p = piece_at(q, first);
    if (r->length != p.length || first == 0 || p.count < q->tile)
        choose_rows(q->seed, p.length, p.rows, r->row);
    r->signs = (cog_dither){q->seed, 0, ROTATION, false};
    r->first = first;
    r->length = p.length;
    return (cog_sensing){.ops = q->tile_ops,
                         .n_rows = p.rows,
                         .n_columns = p.count,
                         .context = r,
                         .forward = forward,
                         .adjoint = adjoint};
}

/* ---- pack and decode ------------------------------------------------------------------------ */

static void put(const cog_quantizer *q, const float *y, int64_t at, int n, void *payload) {
    if (!q->bf16_values) {
        memcpy((float *)payload + at, y, (size_t)n * sizeof(*y));
        return;
    }
    for (int i = 0; i < n; i++) ((uint16_t *)payload)[at + i] = cog_bf16(y[i]);
}

static cog_status pack(const cog_quantizer *q, cog_device *device, int n_terms,
                       const cog_term *terms, float *residual, void *state, void *scratch,
                       void *payload) {
    (void)device, (void)state, (void)scratch;
    static const float nothing[COG_TILE];
    rows r = {.length = 0};
    _Alignas(64) float trial[COG_TILE], y[COG_TILE];
    if (payload_bytes(q) > 0) ((uint32_t *)payload)[payload_bytes(q) / 4 - 1] = 0;
    for (int64_t first = 0; first < q->n; first += q->tile) {
        const piece p = piece_at(q, first);
        const cog_sensing a = sensing(q, first, &r);
        q->tile_ops->combine(n_terms, terms, first, p.count, trial);
        forward(&a, trial, y);
        put(q, y, p.before, p.rows, payload);
        q->tile_ops->put(residual + first, nothing, p.count, false);
    }
    return COG_OK;
}

/* y += weight * the measurements of a payload from number `at` on */
static void gather(const cog_quantizer *q, const void *payload, float weight, int64_t at, int n,
                   float *y) {
    if (q->bf16_values)
        q->tile_ops->add_bf16((const uint16_t *)payload + at, weight, n, y);
    else
        q->tile_ops->add_floats((const float *)payload + at, weight, n, y);
}

static void forget_broken(float *e, int n) {
    for (int i = 0; i < n; i++)
        if (!isfinite(e[i])) e[i] = 0;
}

static cog_status aggregate(const cog_quantizer *q, int n_payloads, const void *const *payloads,
                            const float *weights, void *state, void *scratch, float *out) {
    (void)scratch;
    rows r = {.length = 0};
    float sum[COG_TILE];
    for (int64_t first = 0; first < q->n; first += q->tile) {
        const piece p = piece_at(q, first);
        const cog_sensing a = sensing(q, first, &r);
        float *error = (float *)state + p.before;
        memset(sum, 0, sizeof(sum));
        if (q->remembers) memcpy(sum, error, (size_t)p.rows * sizeof(*sum));
        for (int i = 0; i < n_payloads; i++)
            gather(q, payloads[i], weights[i], p.before, p.rows, sum);
        cog_iht(&a, sum, (int)cog_share(q->sparsity, p.count), q->steps, sum, out + first);
        forget_broken(sum, p.rows);
        if (q->remembers) memcpy(error, sum, (size_t)p.rows * sizeof(*sum));
    }
    return COG_OK;
}

static size_t memory_bytes(const cog_quantizer *q) {
    return q->remembers ? (size_t)n_measurements(q) * sizeof(float) : 0;
}

static const cog_quantizer_kernels on_cpu = {.pack = pack};

const cog_quantizer_ops cog_quantizer_cs = {
    .name = "cs",
    .summary = "random rows of a Hadamard transform, summed, then decoded as a sparse vector",
    .configure = configure,
    .payload_bytes = payload_bytes,
    .check = check,
    .worst_error = worst_error,
    .aggregate = aggregate,
    .memory_bytes = memory_bytes,
    .on = {[COG_CPU] = &on_cpu},
};
