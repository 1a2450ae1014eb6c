/* powersgd.c - a matrix of low rank, one power iteration a message: PowerSGD (Vogels, Karimireddy,
 * Jaggi, NeurIPS 2019).
 *
 *     M   the trial as a matrix, row by row: `columns` wide, the last row filled up with zeros
 *     P = orthonormal(M Q),  Q = M^T P       decoded: P Q^T, the projection of M to the span of P
 *     Q   of the last message used starts the next iteration; the first one is random
 *
 *   rank      1 to 16, default 2
 *   columns   of the matrix, default the whole number above sqrt(n); that of the layer that
 *             dominates the message makes the matrix the layer's own
 *
 * Published is a form for an all-reduce, in which P and Q are averages over the workers, so that
 * all of them project the mean gradient to one subspace; and one matrix for each layer. Here every
 * message has its own P and Q, as codes combine messages after decoding, and one matrix. Error
 * feedback is part of the method: without it what is outside the subspace is lost.
 *
 * Decoded entries are a product, then fused multiply-adds over the rank. Columns of P that depend
 * on the ones before are zero. Infinities and NaN make all of the message NaN and start Q anew.
 *
 * Payload: float P[rows][rank], float Q[rank][columns].
 * State: float Q[rank][columns] with columns of length 1; zeros are filled at random.
 *
 * Traffic, bytes an entry with L terms: 4L + 4 for the trial, 4 and 4 for the two products, 8 for
 * the residual; P and Q, 4 rank (rows + columns) bytes, should stay in cache.
 */
#include <math.h>
#include <string.h>

#include "check.h"
#include "rng.h"
#include "tile.h"

static cog_status configure(cog_quantizer *q, cog_spec *spec) {
    int64_t rank, columns, root = (int64_t)ceil(sqrt((double)q->n));
    COG_TRY(cog_spec_int(spec, "rank", 2, 1, COG_MAX_TERMS, &rank));
    COG_TRY(cog_spec_int(spec, "columns", 0, 0, UINT32_MAX, &columns));
    q->bits = (int)rank;
    q->tile = columns > 0 ? columns : root;
    if (q->tile > q->n) q->tile = q->n;
    if (q->tile < 1) q->tile = 1;
    q->kept = q->n;
    return COG_OK;
}

static int64_t n_rows(const cog_quantizer *q) { return (q->n + q->tile - 1) / q->tile; }

static int64_t row_length(const cog_quantizer *q, int64_t row) {
    const int64_t left = q->n - row * q->tile;
    return left < q->tile ? left : q->tile;
}

static size_t state_bytes(const cog_quantizer *q) {
    return q->n == 0 ? 0 : (size_t)(q->tile * q->bits) * sizeof(float);
}

static size_t payload_bytes(const cog_quantizer *q) {
    return state_bytes(q) + (size_t)(n_rows(q) * q->bits) * sizeof(float);
}

/* Any numbers are a product. */
static cog_status check(const cog_quantizer *q, const void *payload, size_t bytes) {
    (void)payload;
    COG_CHECK(bytes == payload_bytes(q), COG_ERR_FORMAT,
              "a powersgd payload has %zu bytes, expected %zu", bytes, payload_bytes(q));
    return COG_OK;
}

/* ---- the iteration -------------------------------------------------------------------------- */

/* To length 1, or to zeros when it has none to speak of. */
static void normalize(const cog_tile_ops *ops, float *x, int64_t n) {
    const double length = sqrt(ops->dot(x, x, n));
    const bool is_sound = length > 1e-30 && isfinite(length);
    for (int64_t i = 0; i < n; i++) x[i] = is_sound ? (float)((double)x[i] / length) : 0;
}

static void start(const cog_quantizer *q, float *basis) {
    for (int k = 0; k < q->bits; k++) {
        float *column = basis + k * q->tile;
        if (q->tile_ops->dot(column, column, q->tile) > 0) continue;
        cog_rng rng = cog_rng_make(q->stream, COG_STREAM_DITHER, 0, (uint32_t)k);
        for (int64_t i = 0; i < q->tile; i++) column[i] = (float)cog_rng_normal(&rng);
        normalize(q->tile_ops, column, q->tile);
    }
}

/* p[rows][rank] = M basis^T */
static void multiply(const cog_quantizer *q, const float *m, const float *basis, float *p) {
    for (int64_t row = 0; row < n_rows(q); row++)
        for (int k = 0; k < q->bits; k++)
            p[row * q->bits + k] =
                (float)q->tile_ops->dot(m + row * q->tile, basis + k * q->tile, row_length(q, row));
}

static double column_dot(const cog_quantizer *q, const float *p, int a, int b) {
    double sum = 0;
    for (int64_t row = 0; row < n_rows(q); row++)
        sum += (double)p[row * q->bits + a] * (double)p[row * q->bits + b];
    return sum;
}

/* Gram-Schmidt, every column twice: the second time takes away what rounding left of the first.
 * What loses all but 1e-5 of its length on the way depended on the others. */
static void orthonormalize(const cog_quantizer *q, float *p) {
    const int r = q->bits;
    for (int k = 0; k < r; k++) {
        const double before = sqrt(column_dot(q, p, k, k));
        for (int again = 0; again < 2; again++)
            for (int j = 0; j < k; j++) {
                const double part = column_dot(q, p, j, k);
                for (int64_t row = 0; row < n_rows(q); row++)
                    p[row * r + k] =
                        (float)((double)p[row * r + k] - part * (double)p[row * r + j]);
            }
        const double length = sqrt(column_dot(q, p, k, k));
        const bool is_new = length > 1e-30 && !(length < 1e-5 * before);
        for (int64_t row = 0; row < n_rows(q); row++)
            p[row * r + k] = is_new || isnan(length) ? (float)((double)p[row * r + k] / length) : 0;
    }
}

/* out[rank][columns] = P^T M */
static void project(const cog_quantizer *q, const float *m, const float *p, float *out) {
    memset(out, 0, state_bytes(q));
    for (int64_t row = 0; row < n_rows(q); row++)
        for (int k = 0; k < q->bits; k++)
            q->tile_ops->add_floats(m + row * q->tile, p[row * q->bits + k], row_length(q, row),
                                    out + k * q->tile);
}

/* ---- decode --------------------------------------------------------------------------------- */

/* Decoded entries from i on, as far as they lie in one row and in `count`, and how many. */
static int64_t decode_run(const cog_quantizer *q, const void *payload, int64_t i, int64_t count,
                          float *out) {
    const float *p = payload, *basis = p + n_rows(q) * q->bits;
    const int64_t row = i / q->tile, column = i % q->tile;
    int64_t length = row_length(q, row) - column;
    if (length > count) length = count;
    if (length > COG_TILE) length = COG_TILE;
    cog_term terms[COG_MAX_TERMS];
    for (int k = 0; k < q->bits; k++)
        terms[k] = (cog_term){basis + k * q->tile + column, p[row * q->bits + k]};
    q->tile_ops->combine(q->bits, terms, 0, (int)length, out);
    return length;
}

static cog_status add(const cog_quantizer *q, cog_device *device, const void *payload, float weight,
                      int64_t first, int64_t count, float *y) {
    (void)device;
    _Alignas(64) float run[COG_TILE];
    for (int64_t i = 0; i < count;) {
        const int64_t length = decode_run(q, payload, first + i, count - i, run);
        q->tile_ops->add_floats(run, weight, length, y + i);
        i += length;
    }
    return COG_OK;
}

/* ---- pack ----------------------------------------------------------------------------------- */

static void combine_all(const cog_quantizer *q, int n_terms, const cog_term *terms,
                        float *residual) {
    _Alignas(64) float trial[COG_TILE];
    for (int64_t first = 0; first < q->n; first += COG_TILE) {
        const int count = (int)(q->n - first < COG_TILE ? q->n - first : COG_TILE);
        q->tile_ops->combine(n_terms, terms, first, count, trial);
        q->tile_ops->put(residual + first, trial, count, false);
    }
}

static void subtract_decoded(const cog_quantizer *q, const void *payload, float *residual) {
    _Alignas(64) float run[COG_TILE];
    for (int64_t i = 0; i < q->n;) {
        const int64_t length = decode_run(q, payload, i, q->n - i, run);
        for (int64_t j = 0; j < length; j++) {
            const float rest = residual[i + j] - (run[j] + 0.0f);
            residual[i + j] = isfinite(run[j]) ? rest : 0;
        }
        i += length;
    }
}

static cog_status pack(const cog_quantizer *q, cog_device *device, int n_terms,
                       const cog_term *terms, float *residual, void *state, void *scratch,
                       void *payload) {
    (void)device, (void)scratch;
    if (q->n == 0) return COG_OK;
    float *basis = state, *p = payload, *next = p + n_rows(q) * q->bits;
    combine_all(q, n_terms, terms, residual);
    start(q, basis);
    multiply(q, residual, basis, p);
    orthonormalize(q, p);
    project(q, residual, p, next);
    subtract_decoded(q, payload, residual);
    memcpy(basis, next, state_bytes(q));
    for (int k = 0; k < q->bits; k++) normalize(q->tile_ops, basis + k * q->tile, q->tile);
    return COG_OK;
}

static const cog_quantizer_kernels on_cpu = {.pack = pack, .add = add};

const cog_quantizer_ops cog_quantizer_powersgd = {
    .name = "powersgd",
    .summary = "a matrix of low rank, found by one power iteration a message",
    .configure = configure,
    .payload_bytes = payload_bytes,
    .state_bytes = state_bytes,
    .check = check,
    .on = {[COG_CPU] = &on_cpu},
};
