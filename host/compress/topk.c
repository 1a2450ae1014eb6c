/* topk.c - the entries of largest magnitude and where they are; the rest waits in the residual.
 *
 *   ratio    share of the entries that is kept, default 0.01
 *   kind     chunk      the largest of every tile; one pass
 *            global     the ceil(ratio * n) largest of the message; two passes
 *            threshold  all above a threshold carried over from the last message, which follows the
 *                       wanted number; one pass; the first message is chosen as by global
 *   values   fp32 | bf16; what rounding to bf16 takes away stays in the residual
 *   tile     entries that share a base, a power of two from 256 to 4096, default 4096
 *
 * Largest: by the bits of |x| as an integer, equal ones by lower index; infinities and NaN come
 * first, and one that was sent leaves 0 behind.
 *
 * Kept of a tile with entries a .. b-1, kind=chunk: ceil(ratio * b) - ceil(ratio * a), at least 1.
 * So a message keeps ceil(ratio * n) at any ratio of 1 / tile or more, each tile its share rounded
 * up or down; below that every tile keeps one entry, or its entries would never be sent.
 *
 * Payload of m entries, little endian, sections padded with zeros to 4 bytes:
 *     uint32 m                        |
 *     uint32 base[ceil(tiles / 64)]   | not for chunk: entries before tile 64 j,
 *     uint16 count[tiles]             |                entries in the tile
 *     value[m]                        float, or uint16 bf16
 *     uint16 offset[m]                place in the tile, ascending
 * An entry costs 6 bytes, or 4; the table n / 2048 + n / 65536 bytes, less than whole indices for
 * any ratio above 0.03 %. Any tile is found by adding up at most 63 counts.
 *
 * Threshold: at most 3/2 of the wanted number is sent, the later entries wait. If f reached the
 * threshold t and w were wanted, then bits(t) += (bits((float)f) - bits((float)w)) / d in integers,
 * d = 2 ln(1 / ratio) rounded: bits are logarithms, and d is the slope of a Gaussian's tail, which
 * heavier tails only approach more slowly. After f < w / 4 or f > 4 w the next message is chosen
 * exactly. State: uint32 threshold, 0 for none.
 *
 * Traffic, bytes an entry with L terms (feedback one of them): chunk and threshold 4L + 4 + 6 m/n,
 * global 4L + 8 + 6 m/n and 1/2 for the maxima.
 */
#include "topk.h"

#include <string.h>

#include "check.h"
#include "draw.h"
#include "kernels.h"
#include "on_cuda.h"

int64_t cog_topk_share(const cog_quantizer *q, int64_t i) { return cog_share(q->ratio, i); }

int64_t cog_topk_n_tiles(const cog_quantizer *q) { return (q->n + q->tile - 1) / q->tile; }

int cog_topk_tile_count(const cog_quantizer *q, int64_t t) {
    const int64_t left = q->n - t * q->tile;
    return (int)(left < q->tile ? left : q->tile);
}

/* Shares of full tiles are all at least 1, or all at most 1 and then taken as 1. The last tile may
 * need the extra entry in either case. */
int64_t cog_topk_chunk_start(const cog_quantizer *q, int64_t t) {
    const bool single = q->ratio * (double)q->tile < 1;
    const int64_t n_tiles = cog_topk_n_tiles(q);
    if (t < n_tiles) return single ? t : cog_topk_share(q, t * q->tile);
    if (n_tiles == 0) return 0;
    const int64_t before = cog_topk_chunk_start(q, n_tiles - 1);
    const int64_t all = single ? n_tiles : cog_topk_share(q, q->n);
    const int64_t last = all > before ? all - before : 1;
    const int64_t room = cog_topk_tile_count(q, n_tiles - 1);
    return before + (last < room ? last : room);
}

static void set_ratio(cog_quantizer *q, double ratio) {
    q->ratio = ratio;
    const int64_t wanted = cog_topk_share(q, q->n), cap = wanted + wanted / 2;
    q->kept = q->kind == TOPK_CHUNK       ? cog_topk_chunk_start(q, cog_topk_n_tiles(q))
              : q->kind == TOPK_THRESHOLD ? (cap < q->n ? cap : q->n)
                                          : wanted;
}

static cog_status configure(cog_quantizer *q, cog_spec *spec) {
    static const char *const kinds[] = {"chunk", "global", "threshold", NULL};
    static const char *const values[] = {"fp32", "bf16", NULL};
    int value;
    COG_TRY(cog_spec_real(spec, "ratio", 0.01, 1e-9, 1, &q->ratio));
    COG_TRY(cog_spec_choice(spec, "kind", kinds, &q->kind));
    COG_TRY(cog_spec_choice(spec, "values", values, &value));
    COG_TRY(cog_spec_int(spec, "tile", COG_TILE, COG_TILE_ROW, COG_TILE, &q->tile));
    COG_CHECK((q->tile & (q->tile - 1)) == 0, COG_ERR_SPEC,
              "'tile' of 'topk' must be a power of two, is %lld", (long long)q->tile);
    q->bf16_values = value == 1;
    set_ratio(q, q->ratio);
    return COG_OK;
}

static size_t padded(int64_t bytes) { return (size_t)(bytes + 3) / 4 * 4; }

cog_topk_layout cog_topk_lay_out(const cog_quantizer *q, int64_t m) {
    const int64_t n_tiles = cog_topk_n_tiles(q);
    cog_topk_layout at = {0};
    if (q->kind != TOPK_CHUNK) {
        at.base = 4;
        at.count = at.base + 4 * (size_t)((n_tiles + TOPK_RUN - 1) / TOPK_RUN);
        at.value = at.count + padded(2 * n_tiles);
    }
    at.offset = at.value + padded(m * (q->bf16_values ? 2 : 4));
    at.end = at.offset + padded(m * 2);
    return at;
}

static uint32_t word_at(const void *payload, size_t byte) {
    uint32_t word;
    memcpy(&word, (const char *)payload + byte, sizeof(word));
    return word;
}

static uint16_t half_at(const void *payload, size_t byte) {
    uint16_t half;
    memcpy(&half, (const char *)payload + byte, sizeof(half));
    return half;
}

static int64_t n_entries(const cog_quantizer *q, const void *payload) {
    return q->kind == TOPK_CHUNK ? q->kept : word_at(payload, 0);
}

static size_t payload_bytes(const cog_quantizer *q) { return cog_topk_lay_out(q, q->kept).end; }

static size_t state_bytes(const cog_quantizer *q) {
    return q->kind == TOPK_THRESHOLD ? sizeof(uint32_t) : 0;
}

static size_t used_bytes(const cog_quantizer *q, const void *payload) {
    return cog_topk_lay_out(q, n_entries(q, payload)).end;
}

/* Entries of tile t: where they start and how many there are. */
static int64_t find_tile(const cog_quantizer *q, const void *payload, const cog_topk_layout *at,
                         int64_t t, int64_t *n) {
    if (q->kind == TOPK_CHUNK) {
        const int64_t start = cog_topk_chunk_start(q, t);
        *n = cog_topk_chunk_start(q, t + 1) - start;
        return start;
    }
    int64_t start = word_at(payload, at->base + 4 * (size_t)(t / TOPK_RUN));
    for (int64_t before = t / TOPK_RUN * TOPK_RUN; before < t; before++)
        start += half_at(payload, at->count + 2 * (size_t)before);
    *n = half_at(payload, at->count + 2 * (size_t)t);
    return start;
}

static cog_status check_padding(const void *payload, size_t used, size_t end) {
    for (size_t byte = used; byte < end; byte++)
        COG_CHECK(((const unsigned char *)payload)[byte] == 0, COG_ERR_FORMAT,
                  "the padding of a top-k payload is not zero");
    return COG_OK;
}

static cog_status check_table(const cog_quantizer *q, const void *payload,
                              const cog_topk_layout *at, int64_t m) {
    const int64_t n_tiles = cog_topk_n_tiles(q);
    int64_t start = 0;
    for (int64_t t = 0; t < n_tiles; t++) {
        if (t % TOPK_RUN == 0)
            COG_CHECK(word_at(payload, at->base + 4 * (size_t)(t / TOPK_RUN)) == start,
                      COG_ERR_FORMAT, "base %lld of a top-k payload is not the sum of the counts",
                      (long long)(t / TOPK_RUN));
        const int64_t count = half_at(payload, at->count + 2 * (size_t)t);
        COG_CHECK(count <= cog_topk_tile_count(q, t), COG_ERR_FORMAT,
                  "tile %lld of a top-k payload has %lld entries of %d", (long long)t,
                  (long long)count, cog_topk_tile_count(q, t));
        start += count;
    }
    COG_CHECK(start == m, COG_ERR_FORMAT, "a top-k payload has %lld entries, its tiles %lld",
              (long long)m, (long long)start);
    return check_padding(payload, at->count + 2 * (size_t)n_tiles, at->value);
}

static cog_status check_offsets(const cog_quantizer *q, const void *payload,
                                const cog_topk_layout *at, int64_t m) {
    const int64_t n_tiles = cog_topk_n_tiles(q);
    size_t entry = at->offset;
    for (int64_t t = 0; t < n_tiles; t++) {
        int64_t n;
        find_tile(q, payload, at, t, &n);
        int least = 0;
        for (int64_t i = 0; i < n; i++, entry += 2) {
            const int offset = half_at(payload, entry);
            COG_CHECK(offset >= least && offset < cog_topk_tile_count(q, t), COG_ERR_FORMAT,
                      "an offset %d in tile %lld of a top-k payload is out of order", offset,
                      (long long)t);
            least = offset + 1;
        }
    }
    const size_t value_end = at->value + (size_t)m * (q->bf16_values ? 2 : 4);
    COG_TRY(check_padding(payload, value_end, at->offset));
    return check_padding(payload, entry, at->end);
}

static cog_status check(const cog_quantizer *q, const void *payload, size_t bytes) {
    COG_CHECK(q->kind == TOPK_CHUNK || bytes >= 4, COG_ERR_FORMAT,
              "a top-k payload of %zu bytes has no header", bytes);
    const int64_t m = n_entries(q, payload);
    COG_CHECK(m <= q->kept && (q->kind != TOPK_GLOBAL || m == q->kept), COG_ERR_FORMAT,
              "a top-k payload has %lld entries, expected %lld", (long long)m, (long long)q->kept);
    const cog_topk_layout at = cog_topk_lay_out(q, m);
    COG_CHECK(bytes == at.end, COG_ERR_FORMAT, "a top-k payload has %zu bytes, expected %zu", bytes,
              at.end);
    if (q->kind != TOPK_CHUNK) COG_TRY(check_table(q, payload, &at, m));
    return check_offsets(q, payload, &at, m);
}

static cog_status add(const cog_quantizer *q, cog_device *device, const void *payload, float weight,
                      int64_t first, int64_t count, float *y) {
    (void)device;
    const cog_topk_layout at = cog_topk_lay_out(q, n_entries(q, payload));
    const char *value = (const char *)payload + at.value;
    const uint16_t *offset = (const uint16_t *)(const void *)((const char *)payload + at.offset);
    for (int64_t i = first; i < first + count; i += q->tile) {
        int64_t n;
        const int64_t start = find_tile(q, payload, &at, i / q->tile, &n);
        while (n > 0 && i + offset[start + n - 1] >= first + count) n--; /* the range ends here */
        if (q->bf16_values)
            q->tile_ops->scatter_bf16((const uint16_t *)(const void *)value + start, offset + start,
                                      weight, n, y + (i - first));
        else
            q->tile_ops->scatter_floats((const float *)(const void *)value + start, offset + start,
                                        weight, n, y + (i - first));
    }
    return COG_OK;
}

static int64_t positions(const cog_quantizer *q, const void *payload, int64_t *out) {
    const cog_topk_layout at = cog_topk_lay_out(q, n_entries(q, payload));
    const int64_t n_tiles = cog_topk_n_tiles(q);
    int64_t found = 0;
    for (int64_t t = 0; t < n_tiles; t++) {
        int64_t n;
        find_tile(q, payload, &at, t, &n);
        for (int64_t i = 0; i < n; i++, found++)
            out[found] = t * q->tile + half_at(payload, at.offset + 2 * (size_t)found);
    }
    return found;
}

static int64_t max_positions(const cog_quantizer *q) { return q->kept; }

static void format(const cog_quantizer *q, cog_kernel_format *out) {
    const cog_topk_layout at = cog_topk_lay_out(q, 0);
    const bool single = q->ratio * (double)q->tile < 1;
    *out =
        (cog_kernel_format){.layout = q->kind == TOPK_CHUNK ? COG_LAYOUT_CHUNKS : COG_LAYOUT_TABLE,
                            .value_bytes = q->bf16_values ? 2 : 4,
                            .part_bits = __builtin_ctzll((uint64_t)q->tile),
                            .n = q->n,
                            .body = (int64_t)at.value,
                            .extra = (int64_t)at.count,
                            .kept = q->kept,
                            .ratio = single ? 0 : q->ratio};
}

static const cog_quantizer_kernels on_cpu = {.pack = cog_topk_pack, .add = add};

const cog_quantizer_ops cog_quantizer_topk = {
    .name = "topk",
    .summary = "the entries of largest magnitude, of each tile or of the message",
    .configure = configure,
    .set_ratio = set_ratio,
    .payload_bytes = payload_bytes,
    .scratch_bytes = cog_topk_scratch_bytes,
    .state_bytes = state_bytes,
    .used_bytes = used_bytes,
    .check = check,
    .format = format,
    .positions = positions,
    .max_positions = max_positions,
    .on = {[COG_CPU] = &on_cpu, [COG_CUDA] = COG_CUDA_KERNELS(cog_topk_on_cuda)},
};
