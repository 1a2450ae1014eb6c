/* blob.c - bytes that grow, and bytes that are read. */
#include "blob.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

void cog_blob_free(cog_blob *blob) {
    free(blob->data);
    *blob = (cog_blob){.data = NULL};
}

cog_status cog_blob_extend(cog_blob *b, size_t bytes, void **out) {
    if (bytes > b->room - b->used || b->data == NULL) {
        const size_t needed = b->used + bytes, room = needed + needed / 2 + 64;
        uint8_t *data = room > bytes ? realloc(b->data, room) : NULL;
        COG_CHECK(data != NULL, COG_ERR_MEMORY, "no memory for a state of %zu bytes", needed);
        b->data = data;
        b->room = room;
    }
    *out = b->data + b->used;
    b->used += bytes;
    return COG_OK;
}

cog_status cog_blob_add(cog_blob *blob, const void *data, size_t bytes) {
    void *at;
    COG_TRY(cog_blob_extend(blob, bytes, &at));
    if (bytes > 0) memcpy(at, data, bytes);
    return COG_OK;
}

FILE *cog_blob_open(const char *path) {
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    FILE *stream = fd >= 0 ? fdopen(fd, "rb") : NULL;
    const int error = errno;
    if (stream == NULL && fd >= 0) close(fd);
    errno = error;
    return stream;
}

cog_status cog_span_take(cog_span *span, size_t bytes, const void **out) {
    COG_CHECK(bytes <= span->left, COG_ERR_FORMAT, "a state ends %zu bytes too early",
              bytes - span->left);
    *out = span->at;
    span->at += bytes;
    span->left -= bytes;
    return COG_OK;
}

cog_status cog_span_read(cog_span *span, void *out, size_t bytes) {
    const void *at;
    COG_TRY(cog_span_take(span, bytes, &at));
    if (bytes > 0) memcpy(out, at, bytes);
    return COG_OK;
}

cog_status cog_span_end(const cog_span *span) {
    COG_CHECK(span->left == 0, COG_ERR_FORMAT, "a state is %zu bytes too long", span->left);
    return COG_OK;
}
