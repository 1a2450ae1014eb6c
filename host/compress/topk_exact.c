/* topk_exact.c - the k largest of a whole message in two passes; payload and rules in topk.c.
 *
 * The first pass writes the trial and the maxima of its sixteens. Those are different entries, so
 * their k-th largest is a bound that k entries reach, and hardly more. The second pass takes what
 * reaches it as candidates, among which the exact cut is looked for; what it does not keep goes
 * back. Should the candidates be too many (sorted inputs, many equal entries), passes over 4096
 * bins narrow the bound: at most three, for the 31 bits of a magnitude.
 */
#include "topk_write.h"

enum { SPARE = 4 * COG_TILE }; /* candidates above twice the wanted number */
enum { N_BINS = 4096 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Scratch: the maxima of all tiles, then candidates with their places and their number per tile. */
typedef struct candidates {
    float *most;      /* [n_tiles * COG_TILE_MAXIMA] */
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
    return n_tiles * (COG_TILE_MAXIMA * sizeof(float) + sizeof(uint16_t)) +
           capacity * (sizeof(float) + sizeof(uint16_t));
}

static candidates open_candidates(const cog_quantizer *q, void *scratch) {
    candidates c = {.most = scratch, .capacity = capacity_of(q)};
    c.value = c.most + cog_topk_n_tiles(q) * COG_TILE_MAXIMA;
    c.offset = (uint16_t *)(void *)(c.value + c.capacity);
    c.count = c.offset + c.capacity;
    return c;
}

/* A tile of the residual that can be read in full rows. */
static const float *view(const cog_quantizer *q, const float *residual, int64_t t, float *copy) {
    const int count = cog_topk_tile_count(q, t);
    const float *tile = residual + t * q->tile;
    if (count % COG_TILE_ROW == 0) return tile;
    memset(copy, 0, COG_TILE * sizeof(*copy));
    return memcpy(copy, tile, (size_t)count * sizeof(*copy));
}

static void put_back(const cog_quantizer *q, const candidates *c, int64_t n_tiles,
                     float *residual) {
    for (int64_t t = 0, i = 0; t < n_tiles; t++)
        for (const int64_t end = i + c->count[t]; i < end; i++)
            residual[t * q->tile + c->offset[i]] = c->value[i];
}

/* Take what the cut keeps out of the residual, while its tile is in cache; n_equal < 0 takes all
 * that reach the bound. False, and nothing is taken, when there are more than fit. */
static bool gather(const cog_quantizer *q, float *residual, cog_cut cut, candidates *c) {
    const int64_t n_tiles = cog_topk_n_tiles(q);
    const bool exact = cut.n_equal >= 0;
    float copy[COG_TILE];
    uint64_t marks[COG_TILE_WORDS];
    c->n = 0;
    for (int64_t t = 0; t < n_tiles; t++) {
        const float *x = view(q, residual, t, copy);
        int found = q->tile_ops->mark(x, cog_topk_tile_count(q, t), cut.bound, marks);
        if (exact && found > 0) found = cog_select_thin(x, &cut, marks);
        if (c->n + found > c->capacity) {
            put_back(q, c, t, residual);
            return false;
        }
        c->count[t] = (uint16_t)found;
        for (int word = 0; found > 0 && word < COG_TILE_WORDS; word++)
            for (uint64_t left = marks[word]; left != 0; left &= left - 1) {
                const int i = word * 64 + __builtin_ctzll(left);
                c->value[c->n] = x[i];
                c->offset[c->n++] = (uint16_t)i;
                residual[t * q->tile + i] = rest_of(q, x[i]);
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
static cog_cut choose(const cog_quantizer *q, float *residual, int64_t k, candidates *c) {
    const cog_tile_ops *ops = q->tile_ops;
    const int64_t n_maxima = cog_topk_n_tiles(q) * COG_TILE_MAXIMA;
    bracket b = {.at_least = q->n};
    uint32_t lowest;
    ops->range(c->most, n_maxima, &lowest, &b.high);
    if (k < n_maxima) b.low = cog_select_bound(ops, c->most, n_maxima, k, k / 32);
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

/* The few candidates that the cut does not keep return to the residual. */
static void write_chosen(writer *w, cog_cut cut, const candidates *c, float *residual,
                         void *payload) {
    const int64_t n_tiles = cog_topk_n_tiles(w->q);
    int64_t next = 0;
    for (int64_t t = 0; t < n_tiles; t++) {
        const int64_t before = w->m, end = next + c->count[t];
        for (; next < end; next++) {
            if (keeps(&cut, c->value[next]))
                write_entry(w, c->value[next], c->offset[next]);
            else
                residual[t * w->q->tile + c->offset[next]] = c->value[next];
        }
        note_tile(w->q, payload, t, before, w->m - before);
    }
}

uint32_t cog_topk_pack_exactly(const cog_quantizer *q, int64_t k, int n_terms,
                               const cog_term *terms, float *residual, void *scratch,
                               void *payload) {
    const cog_tile_ops *ops = q->tile_ops;
    const bool stream = cog_tile_streams(q, n_terms, terms, residual);
    candidates c = open_candidates(q, scratch);
    _Alignas(64) float local[COG_TILE];
    for (int64_t t = 0; t < cog_topk_n_tiles(q); t++) {
        const int count = cog_topk_tile_count(q, t);
        float *trial = place(q, residual, t, stream, local), *most = c.most + t * COG_TILE_MAXIMA;
        ops->combine_max(n_terms, terms, t * q->tile, count, trial, most);
        leave(q, residual, t, stream, trial);
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
