/* topk_write.h - what all three ways of choosing do with a chosen entry, and with a tile. */
#ifndef COG_HOST_COMPRESS_TOPK_WRITE_H
#define COG_HOST_COMPRESS_TOPK_WRITE_H

#include <string.h>

#include "select.h"
#include "topk.h"

typedef struct writer {
    const cog_quantizer *q;
    char *value; /* float or uint16 */
    uint16_t *offset;
    int64_t m;
    uint32_t smallest; /* magnitude written */
} writer;

/* What an entry that is sent leaves behind. */
static inline float rest_of(const cog_quantizer *q, float x) {
    if (!q->bf16_values || cog_magnitude_bits(x) >= 0x7f800000u) return 0;
    return x - cog_bf16_value(cog_bf16(x));
}

static inline void write_entry(writer *w, float x, int offset) {
    const uint32_t size = cog_magnitude_bits(x);
    if (w->q->bf16_values)
        ((uint16_t *)(void *)w->value)[w->m] = cog_bf16(x);
    else
        ((float *)(void *)w->value)[w->m] = x;
    w->offset[w->m++] = (uint16_t)offset;
    w->smallest = size < w->smallest ? size : w->smallest;
}

/* Zero the rest of the last word of a section: offsets and narrow values may end in the middle. */
static inline void pad(void *payload, size_t used, size_t end) {
    memset((char *)payload + used, 0, end - used);
}

static inline void pad_sections(const cog_quantizer *q, void *payload, int64_t m) {
    const cog_topk_layout at = cog_topk_lay_out(q, m);
    if (q->kind != TOPK_CHUNK) pad(payload, at.count + 2 * (size_t)cog_topk_n_tiles(q), at.value);
    pad(payload, at.value + (size_t)m * (q->bf16_values ? 2 : 4), at.offset);
    pad(payload, at.offset + 2 * (size_t)m, at.end);
}

/* The table of tiles is filled in the order of the tiles. */
static inline void note_tile(const cog_quantizer *q, void *payload, int64_t t, int64_t before,
                             int64_t n) {
    const cog_topk_layout at = cog_topk_lay_out(q, 0);
    if (t % TOPK_RUN == 0)
        ((uint32_t *)(void *)((char *)payload + at.base))[t / TOPK_RUN] = (uint32_t)before;
    ((uint16_t *)(void *)((char *)payload + at.count))[t] = (uint16_t)n;
}

static inline bool keeps(cog_cut *cut, float x) {
    const uint32_t size = cog_magnitude_bits(x);
    return size > cut->bound || (size == cut->bound && cut->n_equal-- > 0);
}

/* Where a tile's trial is best computed: at once where it will stay, if that can be read in full
 * rows and is not to be written past the caches. */
static inline float *place(const cog_quantizer *q, float *residual, int64_t t, bool stream,
                           float *local) {
    const bool direct = !stream && cog_topk_tile_count(q, t) % COG_TILE_ROW == 0;
    return direct ? residual + t * q->tile : local;
}

static inline void leave(const cog_quantizer *q, float *residual, int64_t t, bool stream,
                         const float *trial) {
    float *to = residual + t * q->tile;
    if (trial != to) q->tile_ops->put(to, trial, cog_topk_tile_count(q, t), stream);
}

#endif
