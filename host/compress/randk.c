/* randk.c - some entries, chosen at random by a number that sender and receiver share, so that only
 * values travel: random-k and random block (Eghlidi and Jaggi, "Sparse Communication for Training
 * Deep Networks", 2020).
 *
 *   ratio     share of the entries that is sent, default 0.01
 *   kind      entries   of every tile of 4096 its share, all subsets alike
 *             block     ceil(ratio n) neighbours from a random place on, around the end
 *   amplify   0   as they are: a contraction, for error feedback
 *             1   times the number of entries that each stands for: E decoded = trial
 *   values    fp32 | bf16, rounded to nearest
 *
 * Sent of a tile with entries a .. b-1: ceil(ratio b) - ceil(ratio a), at least 1, as by topk; an
 * entry then stands for (b - a) / that number of them. Drawing tile by tile is ours: it lets any
 * tile be decoded by itself. An infinity or NaN that is not chosen is forgotten, not kept.
 *
 * Error, relative to the energy of a tile or message with k of d entries sent: 1 - k/d on average,
 * amplified d/k - 1.
 *
 * Payload, little endian, padded with zeros to 4 bytes; nothing when n = 0:
 *     uint32 stream, payload   name the random numbers (rng.h): block {counter, COG_STREAM_DITHER,
 *                              payload, tile} of key {stream, 0}, tile 0 for kind=block
 *     value[m]                 float, or uint16 bf16, by place
 * The words of a block are used from the last to the first.
 * A word w stands for the number floor(w j / 2^32) below j. The subset of a tile is Floyd's: for j
 * from d - k to d - 1 take a number below j + 1, or j itself when that is taken already.
 * State: uint32, the number of payloads used so far.
 *
 * Traffic, bytes an entry with L terms (feedback one of them): 4L + 4 + 4 m/n.
 */
#include <math.h>
#include <string.h>

#include "check.h"
#include "draw.h"
#include "topk.h"

enum { ENTRIES, BLOCK };

typedef struct header {
    uint32_t stream, payload;
} header;

static cog_status configure(cog_quantizer *q, cog_spec *spec) {
    static const char *const kinds[] = {"entries", "block", NULL};
    static const char *const values[] = {"fp32", "bf16", NULL};
    int value;
    COG_TRY(cog_spec_real(spec, "ratio", 0.01, 1e-9, 1, &q->ratio));
    COG_TRY(cog_spec_choice(spec, "kind", kinds, &q->kind));
    COG_TRY(cog_spec_flag(spec, "amplify", false, &q->amplified));
    COG_TRY(cog_spec_choice(spec, "values", values, &value));
    q->tile = COG_TILE;
    q->bf16_values = value == 1;
    q->kept =
        q->kind == BLOCK ? cog_topk_share(q, q->n) : cog_topk_chunk_start(q, cog_topk_n_tiles(q));
    return COG_OK;
}

/* Entries of tile t, those sent before it, and those sent of it. */
typedef struct share {
    int count, sent;
    int64_t before;
} share;

static share share_of(const cog_quantizer *q, int64_t t) {
    const int64_t before = cog_topk_chunk_start(q, t);
    return (share){cog_topk_tile_count(q, t), (int)(cog_topk_chunk_start(q, t + 1) - before),
                   before};
}

static double worst_error(const cog_quantizer *q) {
    if (!q->amplified || q->n == 0) return 0; /* at most what is not sent: below 1 */
    if (q->kind == BLOCK) return (double)q->n / (double)q->kept - 1;
    double worst = 0;
    for (int64_t t = 0; t < cog_topk_n_tiles(q); t++) {
        const share tile = share_of(q, t);
        worst = fmax(worst, (double)tile.count / tile.sent - 1);
    }
    return worst;
}

static size_t payload_bytes(const cog_quantizer *q) {
    const size_t values = (size_t)q->kept * (q->bf16_values ? 2 : 4);
    return q->n == 0 ? 0 : sizeof(header) + (values + 3) / 4 * 4;
}

static size_t state_bytes(const cog_quantizer *q) {
    (void)q;
    return sizeof(uint32_t);
}

static cog_status check(const cog_quantizer *q, const void *payload, size_t bytes) {
    COG_CHECK(bytes == payload_bytes(q), COG_ERR_FORMAT,
              "a randk payload has %zu bytes, expected %zu", bytes, payload_bytes(q));
    uint16_t last = 0;
    if (q->bf16_values && q->kept % 2 != 0)
        memcpy(&last, (const char *)payload + bytes - sizeof(last), sizeof(last));
    COG_CHECK(last == 0, COG_ERR_FORMAT, "the padding of a randk payload is not zero");
    return COG_OK;
}

/* ---- which entries -------------------------------------------------------------------------- */

static cog_rng numbers(header h, int64_t tile) {
    return cog_rng_make(h.stream, COG_STREAM_DITHER, h.payload, (uint32_t)tile);
}

/* The places of tile t, ascending. */
static void choose(header h, int64_t t, share tile, uint16_t *place) {
    cog_rng rng = numbers(h, t);
    cog_draw_places(&rng, tile.count, tile.sent, place);
}

/* A block as two ranges, from `start` to the end and, around it, from 0; their lengths. */
typedef struct window {
    int64_t start, behind, ahead;
} window;

static window window_of(const cog_quantizer *q, header h) {
    cog_rng rng = numbers(h, 0);
    const int64_t start = cog_draw_below(&rng, q->n), room = q->n - start;
    const int64_t behind = q->kept < room ? q->kept : room;
    return (window){start, behind, q->kept - behind};
}

static header header_of(const void *payload) {
    header h;
    memcpy(&h, payload, sizeof(h));
    return h;
}

/* ---- pack ----------------------------------------------------------------------------------- */

/* Value number m of a payload; in its place in the trial stays what is owed. */
static void send(const cog_quantizer *q, float *trial, float factor, int64_t m, header *payload) {
    void *values = payload + 1;
    float value = factor * *trial;
    if (q->bf16_values) {
        ((uint16_t *)values)[m] = cog_bf16(value);
        value = cog_bf16_value(cog_bf16(value));
    } else {
        ((float *)values)[m] = value;
    }
    *trial = isfinite(value) ? *trial - value : 0;
}

static void send_entries(const cog_quantizer *q, int64_t t, float *trial, header *payload) {
    const share tile = share_of(q, t);
    const float factor = q->amplified ? (float)((double)tile.count / tile.sent) : 1;
    uint16_t place[COG_TILE];
    choose(*payload, t, tile, place);
    for (int i = 0; i < tile.sent; i++) send(q, trial + place[i], factor, tile.before + i, payload);
}

/* The part of a range of the block, its values from number m on, that lies in this tile. */
static void send_range(const cog_quantizer *q, int64_t start, int64_t length, int64_t m,
                       int64_t first, int count, float *trial, header *payload) {
    const float factor = q->amplified ? (float)((double)q->n / (double)q->kept) : 1;
    const int64_t from = start > first ? start : first;
    const int64_t end = start + length < first + count ? start + length : first + count;
    for (int64_t i = from; i < end; i++)
        send(q, trial + (i - first), factor, m + (i - start), payload);
}

static cog_status pack(const cog_quantizer *q, cog_device *device, int n_terms,
                       const cog_term *terms, float *residual, void *state, void *scratch,
                       void *payload) {
    (void)device, (void)scratch;
    if (q->n == 0) return COG_OK;
    uint32_t *n_used = state;
    header *out = payload;
    *out = (header){q->stream, (*n_used)++};
    if (payload_bytes(q) > sizeof(*out)) ((uint32_t *)payload)[payload_bytes(q) / 4 - 1] = 0;
    const window block = window_of(q, *out);
    const bool stream = cog_tile_streams(q, n_terms, terms, residual);
    _Alignas(64) float trial[COG_TILE], most[COG_TILE_MAXIMA];
    for (int64_t first = 0; first < q->n; first += COG_TILE) {
        const int count = cog_topk_tile_count(q, first / COG_TILE);
        q->tile_ops->combine_max(n_terms, terms, first, count, trial, most);
        if (q->kind == ENTRIES) {
            send_entries(q, first / COG_TILE, trial, out);
        } else {
            send_range(q, block.start, block.behind, 0, first, count, trial, out);
            send_range(q, 0, block.ahead, block.behind, first, count, trial, out);
        }
        if (q->tile_ops->count(most, COG_TILE_MAXIMA, 0x7f800000u) > 0)
            for (int i = 0; i < count; i++)
                if (!isfinite(trial[i])) trial[i] = 0;
        q->tile_ops->put(residual + first, trial, count, stream);
    }
    q->tile_ops->fence();
    return COG_OK;
}

/* ---- decode --------------------------------------------------------------------------------- */

static void add_entries(const cog_quantizer *q, const void *payload, float weight, int64_t t,
                        int count, float *y) {
    const share tile = share_of(q, t);
    const void *values = (const header *)payload + 1;
    uint16_t place[COG_TILE];
    choose(header_of(payload), t, tile, place);
    int n = tile.sent;
    while (n > 0 && place[n - 1] >= count) n--; /* the range ends here */
    if (q->bf16_values)
        q->tile_ops->scatter_bf16((const uint16_t *)values + tile.before, place, weight, n, y);
    else
        q->tile_ops->scatter_floats((const float *)values + tile.before, place, weight, n, y);
}

/* As send_range; y is that of entry `first`. */
static void add_range(const cog_quantizer *q, const void *values, int64_t start, int64_t length,
                      int64_t m, float weight, int64_t first, int64_t count, float *y) {
    const int64_t from = start > first ? start : first;
    const int64_t end = start + length < first + count ? start + length : first + count;
    if (from >= end) return;
    m += from - start;
    if (q->bf16_values)
        q->tile_ops->add_bf16((const uint16_t *)values + m, weight, end - from, y + (from - first));
    else
        q->tile_ops->add_floats((const float *)values + m, weight, end - from, y + (from - first));
}

static cog_status add(const cog_quantizer *q, cog_device *device, const void *payload, float weight,
                      int64_t first, int64_t count, float *y) {
    (void)device;
    if (count == 0) return COG_OK;
    if (q->kind == BLOCK) {
        const window block = window_of(q, header_of(payload));
        const void *values = (const header *)payload + 1;
        add_range(q, values, block.start, block.behind, 0, weight, first, count, y);
        add_range(q, values, 0, block.ahead, block.behind, weight, first, count, y);
        return COG_OK;
    }
    for (int64_t i = first; i < first + count; i += COG_TILE) {
        const int64_t left = first + count - i;
        add_entries(q, payload, weight, i / COG_TILE, (int)(left < COG_TILE ? left : COG_TILE),
                    y + (i - first));
    }
    return COG_OK;
}

static int64_t positions(const cog_quantizer *q, const void *payload, int64_t *out) {
    int64_t n = 0;
    if (q->n > 0 && q->kind == BLOCK) {
        const window block = window_of(q, header_of(payload));
        for (int64_t i = 0; i < block.ahead; i++) out[n++] = i;
        for (int64_t i = 0; i < block.behind; i++) out[n++] = block.start + i;
        return n;
    }
    for (int64_t t = 0; t < cog_topk_n_tiles(q); t++) {
        const share tile = share_of(q, t);
        uint16_t place[COG_TILE];
        choose(header_of(payload), t, tile, place);
        for (int i = 0; i < tile.sent; i++) out[n++] = t * COG_TILE + place[i];
    }
    return n;
}

static int64_t max_positions(const cog_quantizer *q) { return q->kept; }

static const cog_quantizer_kernels on_cpu = {.pack = pack, .add = add};

const cog_quantizer_ops cog_quantizer_randk = {
    .name = "randk",
    .summary = "entries chosen at random, or a block of them; only values travel",
    .configure = configure,
    .payload_bytes = payload_bytes,
    .state_bytes = state_bytes,
    .check = check,
    .worst_error = worst_error,
    .positions = positions,
    .max_positions = max_positions,
    .on = {[COG_CPU] = &on_cpu},
};
