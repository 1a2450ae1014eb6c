/* blob.h - bytes that grow as a state is written, and bytes of a stranger from which it is read. */
#ifndef COG_HOST_BLOB_H
#define COG_HOST_BLOB_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cograd/status.h"

/* Starts zeroed. */
typedef struct cog_blob {
    uint8_t *data;
    size_t used, room;
} cog_blob;

void cog_blob_free(cog_blob *blob);

/* So many bytes more, for the caller to fill; they stay in place until the next call. */
cog_status cog_blob_extend(cog_blob *blob, size_t bytes, void **out);
cog_status cog_blob_add(cog_blob *blob, const void *data, size_t bytes);

/* To read a file; a pipe, which nobody may ever write to, is not waited for. NULL: errno. */
FILE *cog_blob_open(const char *path);

/* What is left to be read. */
typedef struct cog_span {
    const uint8_t *at;
    size_t left;
} cog_span;

/* Copy so many bytes, or look at them where they lie. ERR_FORMAT when fewer are left. */
cog_status cog_span_read(cog_span *span, void *out, size_t bytes);
cog_status cog_span_take(cog_span *span, size_t bytes, const void **out);

/* ERR_FORMAT unless everything was read. */
cog_status cog_span_end(const cog_span *span);

#endif
