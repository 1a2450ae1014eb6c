/* topk_pack.c - top-k tile by tile, in one pass; payload and rules are told in topk.c.
 *
 * A bound comes cheap: the maxima of the sixteens of a tile are different entries, so their k-th
 * largest is reached by at least k entries, and by hardly more. What reaches it is marked with a
 * bit, and only among those few the exact cut is looked for. Ties, equal exponents and sorted
 * inputs only make more candidates, never a different algorithm.
 */
#include <math.h>

#include "topk_write.h"

/* ---- kind=chunk ----------------------------------------------------------------------------- */

/* Entries of one tile that reach a bound. */
typedef struct shortlist {
    int n;
    float value[COG_TILE];
    uint16_t offset[COG_TILE];
} shortlist;

/* Words without marks are skipped by a bit each, so the loop's branches are easy to foresee. */
static void list_marked(const uint64_t *marks, const float *trial, shortlist *list) {
    uint64_t words = 0;
    for (int word = 0; word < COG_TILE_WORDS; word++) words |= (uint64_t)(marks[word] != 0) << word;
    int n = 0;
    for (; words != 0; words &= words - 1) {
        const int word = __builtin_ctzll(words);
        uint64_t left = marks[word];
        do {
            const int i = word * 64 + __builtin_ctzll(left);
            list->value[n] = trial[i];
            list->offset[n++] = (uint16_t)i;
        } while ((left &= left - 1) != 0);
    }
    list->n = n;
}

/* Bisection below a sixteenth of a tile pays from the maxima; above, from the entries. */
static void write_largest(writer *w, float *trial, int count, int k, const float *most,
                          shortlist *list) {
    const cog_tile_ops *ops = w->q->tile_ops;
    uint64_t marks[COG_TILE_WORDS];
    uint32_t bound = 0;
    if (k < COG_TILE_MAXIMA) bound = cog_select_bound(ops, most, COG_TILE_MAXIMA, k, k / 8);
    ops->mark(trial, count, bound, marks);
    list_marked(marks, trial, list);
    cog_cut cut = {bound, list->n};
    if (list->n > k) cut = cog_select_cut(ops, list->value, list->n, k);
    for (int i = 0; i < list->n; i++) {
        if (!keeps(&cut, list->value[i])) continue;
        write_entry(w, list->value[i], list->offset[i]);
        trial[list->offset[i]] = rest_of(w->q, list->value[i]);
    }
}

static void pack_chunks(const cog_quantizer *q, int n_terms, const cog_term *terms, float *residual,
                        void *payload) {
    const cog_topk_layout at = cog_topk_lay_out(q, q->kept);
    const bool stream = cog_tile_streams(q, n_terms, terms, residual);
    const int64_t n_tiles = cog_topk_n_tiles(q);
    writer w = {q, (char *)payload + at.value, (uint16_t *)(void *)((char *)payload + at.offset), 0,
                UINT32_MAX};
    _Alignas(64) float local[COG_TILE];
    _Alignas(64) float most[COG_TILE_MAXIMA];
    shortlist list;
    for (int64_t t = 0; t < n_tiles; t++) {
        const int count = cog_topk_tile_count(q, t);
        const int k = (int)(cog_topk_chunk_start(q, t + 1) - w.m);
        float *trial = place(q, residual, t, stream, local);
        q->tile_ops->combine_max(n_terms, terms, t * q->tile, count, trial, most);
        write_largest(&w, trial, count, k, most, &list);
        leave(q, residual, t, stream, trial);
    }
    q->tile_ops->fence();
    pad_sections(q, payload, w.m);
}

/* ---- kind=threshold ------------------------------------------------------------------------- */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int32_t float_bits(int64_t x) {
    const float value = (float)x;
    int32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

int32_t cog_topk_slope(const cog_quantizer *q) {
    const int32_t slope = (int32_t)lrint(-2 * log(q->ratio));
    return slope > 1 ? slope : 1;
}

/* See topk.c. */
static uint32_t adapted(const cog_quantizer *q, uint32_t threshold, int64_t found, int64_t wanted) {
    if (found < wanted / 4 || found == 0 || found > 4 * wanted) return 0;
    const int64_t next =
        (int64_t)threshold + (float_bits(found) - float_bits(wanted)) / cog_topk_slope(q);
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

static void write_marked(writer *w, const uint64_t *marks, float *trial) {
    for (int word = 0; word < COG_TILE_WORDS; word++)
        for (uint64_t left = marks[word]; left != 0; left &= left - 1) {
            const int i = word * 64 + __builtin_ctzll(left);
            write_entry(w, trial[i], i);
            trial[i] = rest_of(w->q, trial[i]);
        }
}

static int64_t pack_above(const cog_quantizer *q, uint32_t threshold, int n_terms,
                          const cog_term *terms, float *residual, void *scratch, void *payload) {
    const cog_tile_ops *ops = q->tile_ops;
    const bool stream = cog_tile_streams(q, n_terms, terms, residual);
    /* where offsets go is known when all values have been written */
    writer w = {q, (char *)payload + cog_topk_lay_out(q, 0).value, scratch, 0, UINT32_MAX};
    int64_t n_found = 0;
    _Alignas(64) float local[COG_TILE];
    uint64_t marks[COG_TILE_WORDS];
    for (int64_t t = 0; t < cog_topk_n_tiles(q); t++) {
        const int count = cog_topk_tile_count(q, t);
        float *trial = place(q, residual, t, stream, local);
        ops->combine(n_terms, terms, t * q->tile, count, trial);
        const int64_t found = ops->mark(trial, count, threshold, marks);
        const int64_t before = w.m;
        if (found > q->kept - w.m) cut_marks(marks, q->kept - w.m);
        if (found > 0) write_marked(&w, marks, trial);
        leave(q, residual, t, stream, trial);
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
            cog_topk_pack_exactly(q, wanted, n_terms, terms, residual, scratch, payload);
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
        cog_topk_pack_exactly(q, q->kept, n_terms, terms, residual, scratch, payload);
    else
        pack_threshold(q, n_terms, terms, residual, state, scratch, payload);
    return COG_OK;
}
