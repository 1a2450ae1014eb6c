/* topk.h - what the files of top-k share: the shares of tiles, which random-k has too, and the
 * payload's sections. */
#ifndef COG_HOST_COMPRESS_TOPK_H
#define COG_HOST_COMPRESS_TOPK_H

#include "tile.h"

enum { TOPK_CHUNK, TOPK_GLOBAL, TOPK_THRESHOLD };

/* ceil(ratio * i), the entries that the first i of a message are worth. */
int64_t cog_topk_share(const cog_quantizer *q, int64_t i);

/* kind=chunk: entries kept before tile t. */
int64_t cog_topk_chunk_start(const cog_quantizer *q, int64_t t);

int64_t cog_topk_n_tiles(const cog_quantizer *q);
int cog_topk_tile_count(const cog_quantizer *q, int64_t t);

/* Byte positions in a payload of m entries; sections in this order, see topk.c. */
typedef struct cog_topk_layout {
    size_t base, count; /* not for kind=chunk */
    size_t value, offset, end;
} cog_topk_layout;

cog_topk_layout cog_topk_lay_out(const cog_quantizer *q, int64_t m);

enum { TOPK_RUN = 64 }; /* tiles between two bases */

/* The k largest of the message. Returns the smallest magnitude sent, UINT32_MAX without any. */
uint32_t cog_topk_pack_exactly(const cog_quantizer *q, int64_t k, int n_terms,
                               const cog_term *terms, float *residual, void *scratch,
                               void *payload);

/* kind=threshold: d of topk.c, at least 1. */
int32_t cog_topk_slope(const cog_quantizer *q);

size_t cog_topk_scratch_bytes(const cog_quantizer *q);

cog_status cog_topk_pack(const cog_quantizer *q, cog_device *device, int n_terms,
                         const cog_term *terms, float *residual, void *state, void *scratch,
                         void *payload);

#endif
