/* topk_pack.c - the three ways top-k chooses; payload and rules are told in topk.c.
 *
 * A bound comes cheap: the maxima of the columns of a tile, or of all tiles, are different entries,
 * so their k-th largest is reached by at least k entries, and by hardly more. What reaches it is
 * marked with a bit, and only among those few the exact cut is looked for. Ties, equal exponents
 * and sorted inputs only make more candidates, never a different algorithm.
 */
#include <math.h>
#include <string.h>

#include "check.h"
#include "select.h"
#include "topk.h"

enum { RUN = 64 };             /* tiles between two bases */
enum { SPARE = 4 * COG_TILE }; /* candidates above twice the wanted number */
enum { N_BINS = 4096 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- the payload under construction --------------------------------------------------------- */

typedef struct writer {
    const cog_quantizer *q;
    char *value; /* float or uint16 */
    uint16_t *offset;
    int64_t m;
    uint32_t smallest; /* magnitude written */
} writer;

/* Returns what the entry leaves behind. */
static float write_entry(writer *w, float x, int offset) {
    const uint32_t size = cog_magnitude_bits(x);
    float sent = x;
    if (w->q->bf16_values) {
        const uint16_t half = cog_bf16(x);
        ((uint16_t *)(void *)w->value)[w->m] = half;
        sent = cog_bf16_value(half);
    } else {
        ((float *)(void *)w->value)[w->m] = x;
    }
    w->offset[w->m++] = (uint16_t)offset;
    w->smallest = size < w->smallest ? size : w->smallest;
    return size >= 0x7f800000u ? 0 : x - sent;
}

static void write_marked(writer *w, const uint64_t *marks, float *trial) {
    for (int word = 0; word < COG_TILE_WORDS; word++)
        for (uint64_t left = marks[word]; left != 0; left &= left - 1) {
            const int i = word * 64 + __builtin_ctzll(left);
            trial[i] = write_entry(w, trial[i], i);
        }
}

/* Zero the rest of the last word of a section: offsets and narrow values may end in the middle. */
static void pad(void *payload, size_t used, size_t end) {
    memset((char *)payload + used, 0, end - used);
}

static void pad_sections(const cog_quantizer *q, void *payload, int64_t m) {
    const cog_topk_layout at = cog_topk_lay_out(q, m);
    if (q->kind != TOPK_CHUNK) pad(payload, at.count + 2 * (size_t)cog_topk_n_tiles(q), at.value);
    pad(payload, at.value + (size_t)m * (q->bf16_values ? 2 : 4), at.offset);
    pad(payload, at.offset + 2 * (size_t)m, at.end);
}

/* The table of tiles is filled in the order of the tiles. */
static void note_tile(const cog_quantizer *q, void *payload, int64_t t, int64_t before, int64_t n) {
    const cog_topk_layout at = cog_topk_lay_out(q, 0);
    if (t % RUN == 0) ((uint32_t *)(void *)((char *)payload + at.base))[t / RUN] = (uint32_t)before;
    ((uint16_t *)(void *)((char *)payload + at.count))[t] = (uint16_t)n;
}

/* ---- kind=chunk ----------------------------------------------------------------------------- */

/* Bisection below a sixteenth of a tile pays from the columns' maxima; above, from the entries. */
static void mark_largest(const cog_tile_ops *ops, const float *trial, int count, int k,
                         const float *column, uint64_t *marks) {
    uint32_t bound = 0;
    if (k < COG_TILE_COLUMNS) bound = cog_select_bound(ops, column, COG_TILE_COLUMNS, k, k / 8);
    const int found = ops->mark(trial, count, bound, marks);
    if (found <= k) return;
    float candidate[COG_TILE];
    int n = 0;
    for (int word = 0; word < COG_TILE_WORDS; word++)
        for (uint64_t left = marks[word]; left != 0; left &= left - 1)
            candidate[n++] = trial[word * 64 + __builtin_ctzll(left)];
    cog_cut cut = cog_select_cut(ops, candidate, n, k);
    cog_select_thin(trial, &cut, marks);
}

static void pack_chunks(const cog_quantizer *q, int n_terms, const cog_term *terms, float *residual,
                        void *payload) {
    const cog_tile_ops *ops = q->tile_ops;
    const cog_topk_layout at = cog_topk_lay_out(q, q->kept);
    const bool stream = cog_tile_streams(q, n_terms, terms, residual);
    const int64_t n_tiles = cog_topk_n_tiles(q);
    writer w = {q, (char *)payload + at.value, (uint16_t *)(void *)((char *)payload + at.offset), 0,
                UINT32_MAX};
    _Alignas(64) float trial[COG_TILE];
    _Alignas(64) float column[COG_TILE_COLUMNS];
    uint64_t marks[COG_TILE_WORDS];
    for (int64_t t = 0; t < n_tiles; t++) {
        const int count = cog_topk_tile_count(q, t);
        const int k = (int)(cog_topk_chunk_start(q, t + 1) - w.m);
        ops->combine(n_terms, terms, t * q->tile, count, trial, column);
        mark_largest(ops, trial, count, k, column, marks);
        write_marked(&w, marks, trial);
        ops->put(residual + t * q->tile, trial, count, stream);
    }
    ops->fence();
    pad_sections(q, payload, w.m);
}

/* ---- kind=global ---------------------------------------------------------------------------- */

/* Scratch: maxima of all columns, then candidates with their places and their number per tile. */
typedef struct candidates {
    float *column;    /* [n_tiles * COG_TILE_COLUMNS] */
    float *value;     /* [capacity] */
    uint16_t *offset; /* [capacity] */
    uint16_t *count;  /* [n_tiles] */
    int64_t n, capacity;
} candidates;

static int64_t capacity_of(const cog_quantizer *q) {
    return least(q->n, 2 * cog_topk_share(q, q->n) + SPARE);
}

size_t cog_topk_scratch_bytes(const cog_quantizer *q) {
    if (q->kind == TOPK_CHUNK) return 0;
    const size_t n_tiles = (size_t)cog_topk_n_tiles(q), capacity = (size_t)capacity_of(q);
    return n_tiles * (COG_TILE_COLUMNS * sizeof(float) + sizeof(uint16_t)) +
           capacity * (sizeof(float) + sizeof(uint16_t));
}

static candidates open_candidates(const cog_quantizer *q, void *scratch) {
    candidates c = {.column = scratch, .capacity = capacity_of(q)};
    c.value = c.column + cog_topk_n_tiles(q) * COG_TILE_COLUMNS;
    c.offset = (uint16_t *)(void *)(c.value + c.capacity);
    c.count = c.offset + c.capacity;
    return c;
}

/* A tile of the residual that can be read in full rows. */
static const float *view(const cog_quantizer *q, const float *residual, int64_t t, float *copy) {
    const int count = cog_topk_tile_count(q, t);
    const float *tile = residual + t * q->tile;
    if (count % COG_TILE_COLUMNS == 0) return tile;
    memset(copy, 0, COG_TILE * sizeof(*copy));
    return memcpy(copy, tile, (size_t)count * sizeof(*copy));
}

/* Gather what the cut keeps; n_equal < 0 keeps all that reach the bound. False: more than fit. */
static bool gather(const cog_quantizer *q, const float *residual, cog_cut cut, candidates *c) {
    const int64_t n_tiles = cog_topk_n_tiles(q);
    const bool exact = cut.n_equal >= 0;
    float copy[COG_TILE];
    uint64_t marks[COG_TILE_WORDS];
    c->n = 0;
    for (int64_t t = 0; t < n_tiles; t++) {
        const float *x = view(q, residual, t, copy);
        int found = q->tile_ops->mark(x, cog_topk_tile_count(q, t), cut.bound, marks);
        if (exact && found > 0) found = cog_select_thin(x, &cut, marks);
        if (c->n + found > c->capacity) return false;
        c->count[t] = (uint16_t)found;
        for (int word = 0; found > 0 && word < COG_TILE_WORDS; word++)
            for (uint64_t left = marks[word]; left != 0; left &= left - 1) {
                const int i = word * 64 + __builtin_ctzll(left);
                c->value[c->n] = x[i];
                c->offset[c->n++] = (uint16_t)i;
            }
    }
    return true;
}

/* The magnitudes among which the k-th largest lies, and how many are above them. */
typedef struct bracket {
    uint32_t low, high;
    int64_t above, at_least; /* magnitudes > high, >= low */
} bracket;

/* One more pass: N_BINS bins over the bracket, which shrinks to the bin of the k-th. */
static void narrow_bracket(const cog_quantizer *q, const float *residual, int64_t k, bracket *b) {
    uint32_t bin[N_BINS] = {0};
    int shift = 0;
    while ((b->high - b->low) >> shift >= N_BINS) shift++;
    float copy[COG_TILE];
    uint64_t marks[COG_TILE_WORDS];
    for (int64_t t = 0; t < cog_topk_n_tiles(q); t++) {
        const float *x = view(q, residual, t, copy);
        if (q->tile_ops->mark(x, cog_topk_tile_count(q, t), b->low, marks) == 0) continue;
        for (int word = 0; word < COG_TILE_WORDS; word++)
            for (uint64_t left = marks[word]; left != 0; left &= left - 1) {
                const uint32_t size = cog_magnitude_bits(x[word * 64 + __builtin_ctzll(left)]);
                if (size <= b->high) bin[(size - b->low) >> shift]++;
            }
    }
    int i = N_BINS - 1;
    while (b->above + bin[i] < k) b->above += bin[i--];
    b->at_least = b->above + bin[i];
    b->low += (uint32_t)i << shift;
    b->high = (uint32_t)least(b->high, (int64_t)b->low + (1 << shift) - 1);
}

/* Collect the k largest and perhaps a few more; the cut then keeps exactly k of them. */
static cog_cut choose(const cog_quantizer *q, const float *residual, int64_t k, candidates *c) {
    const cog_tile_ops *ops = q->tile_ops;
    const int64_t n_columns = cog_topk_n_tiles(q) * COG_TILE_COLUMNS;
    bracket b = {.at_least = q->n};
    uint32_t lowest;
    ops->range(c->column, n_columns, &lowest, &b.high);
    if (k < n_columns) b.low = cog_select_bound(ops, c->column, n_columns, k, k / 32);
    bool fits = b.low < b.high && gather(q, residual, (cog_cut){b.low, -1}, c);
    while (!fits && b.low < b.high) {
        narrow_bracket(q, residual, k, &b);
        fits = b.at_least <= c->capacity && gather(q, residual, (cog_cut){b.low, -1}, c);
    }
    if (fits) return cog_select_cut(ops, c->value, c->n, k);
    const cog_cut cut = {b.low, k - b.above};
    gather(q, residual, cut, c);
    return cut;
}

static void write_chosen(writer *w, cog_cut cut, const candidates *c, float *residual,
                         void *payload) {
    const int64_t n_tiles = cog_topk_n_tiles(w->q);
    int64_t next = 0;
    for (int64_t t = 0; t < n_tiles; t++) {
        const int64_t before = w->m, end = next + c->count[t];
        float *tile = residual + t * w->q->tile;
        for (; next < end; next++) {
            const uint32_t size = cog_magnitude_bits(c->value[next]);
            const bool kept = size > cut.bound || (size == cut.bound && cut.n_equal > 0);
            if (!kept) continue;
            if (size == cut.bound) cut.n_equal--;
            tile[c->offset[next]] = write_entry(w, c->value[next], c->offset[next]);
        }
        note_tile(w->q, payload, t, before, w->m - before);
    }
}

/* Returns the smallest magnitude sent; UINT32_MAX when there is none. */
static uint32_t pack_exactly(const cog_quantizer *q, int64_t k, int n_terms, const cog_term *terms,
                             float *residual, void *scratch, void *payload) {
    const cog_tile_ops *ops = q->tile_ops;
    const bool stream = cog_tile_streams(q, n_terms, terms, residual);
    candidates c = open_candidates(q, scratch);
    _Alignas(64) float trial[COG_TILE];
    for (int64_t t = 0; t < cog_topk_n_tiles(q); t++) {
        const int count = cog_topk_tile_count(q, t);
        float *column = c.column + t * COG_TILE_COLUMNS;
        ops->combine(n_terms, terms, t * q->tile, count, trial, column);
        ops->put(residual + t * q->tile, trial, count, stream);
    }
    ops->fence();
    const cog_topk_layout at = cog_topk_lay_out(q, k);
    writer w = {q, (char *)payload + at.value, (uint16_t *)(void *)((char *)payload + at.offset), 0,
                UINT32_MAX};
    *(uint32_t *)payload = (uint32_t)k;
    if (k > 0) write_chosen(&w, choose(q, residual, k, &c), &c, residual, payload);
    pad_sections(q, payload, k);
    return w.smallest;
}

/* ---- kind=threshold ------------------------------------------------------------------------- */

static int32_t float_bits(int64_t x) {
    const float value = (float)x;
    int32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* See topk.c. */
static uint32_t adapted(const cog_quantizer *q, uint32_t threshold, int64_t found, int64_t wanted) {
    if (found < wanted / 4 || found == 0 || found > 4 * wanted) return 0;
    const int32_t slope = (int32_t)lrint(-2 * log(q->ratio));
    const int64_t next =
        (int64_t)threshold + (float_bits(found) - float_bits(wanted)) / (slope > 1 ? slope : 1);
    return (uint32_t)(next < 1 ? 1 : least(next, 0x7f7fffff));
}

/* Keep the first n marks. */
static void cut_marks(uint64_t *marks, int64_t n) {
    for (int word = 0; word < COG_TILE_WORDS; word++) {
        uint64_t kept = 0;
        for (uint64_t left = marks[word]; left != 0 && n > 0; left &= left - 1, n--)
            kept |= left & -left;
        marks[word] = kept;
    }
}

static int64_t pack_above(const cog_quantizer *q, uint32_t threshold, int n_terms,
                          const cog_term *terms, float *residual, void *scratch, void *payload) {
    const cog_tile_ops *ops = q->tile_ops;
    const bool stream = cog_tile_streams(q, n_terms, terms, residual);
    /* where offsets go is known when all values have been written */
    writer w = {q, (char *)payload + cog_topk_lay_out(q, 0).value, scratch, 0, UINT32_MAX};
    int64_t n_found = 0;
    _Alignas(64) float trial[COG_TILE];
    uint64_t marks[COG_TILE_WORDS];
    for (int64_t t = 0; t < cog_topk_n_tiles(q); t++) {
        const int count = cog_topk_tile_count(q, t);
        ops->combine(n_terms, terms, t * q->tile, count, trial, NULL);
        const int64_t found = ops->mark(trial, count, threshold, marks);
        const int64_t before = w.m;
        if (found > q->kept - w.m) cut_marks(marks, q->kept - w.m);
        if (found > 0) write_marked(&w, marks, trial);
        ops->put(residual + t * q->tile, trial, count, stream);
        note_tile(q, payload, t, before, w.m - before);
        n_found += found;
    }
    ops->fence();
    const cog_topk_layout at = cog_topk_lay_out(q, w.m);
    memcpy((char *)payload + at.offset, w.offset, (size_t)w.m * sizeof(*w.offset));
    *(uint32_t *)payload = (uint32_t)w.m;
    pad_sections(q, payload, w.m);
    return n_found;
}

static void pack_threshold(const cog_quantizer *q, int n_terms, const cog_term *terms,
                           float *residual, uint32_t *threshold, void *scratch, void *payload) {
    const int64_t wanted = cog_topk_share(q, q->n);
    if (*threshold == 0) {
        const uint32_t smallest =
            pack_exactly(q, wanted, n_terms, terms, residual, scratch, payload);
        *threshold = (uint32_t)least(smallest, 0x7f7fffff);
        return;
    }
    const int64_t found = pack_above(q, *threshold, n_terms, terms, residual, scratch, payload);
    *threshold = adapted(q, *threshold, found, wanted);
}

cog_status cog_topk_pack(const cog_quantizer *q, cog_device *device, int n_terms,
                         const cog_term *terms, float *residual, void *state, void *scratch,
                         void *payload) {
    (void)device;
    if (q->kind == TOPK_CHUNK)
        pack_chunks(q, n_terms, terms, residual, payload);
    else if (q->kind == TOPK_GLOBAL)
        pack_exactly(q, q->kept, n_terms, terms, residual, scratch, payload);
    else
        pack_threshold(q, n_terms, terms, residual, state, scratch, payload);
    return COG_OK;
}
