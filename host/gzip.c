/* gzip.c - zlib's gzip reader, with its failures put in words. */
#include "gzip.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include <zlib.h>

#include "check.h"

enum { MAX_EXPANSION = 1032 }; /* of deflate: 258 bytes for 2 bits */
enum { LEAST_BUFFER = 1 << 12, MOST_BUFFER = 1 << 17 };

cog_status cog_gzip_open(const char *path, cog_gzip *out) {
    struct stat info;
    COG_CHECK(stat(path, &info) == 0, COG_ERR_IO, "%s cannot be read: %s", path, strerror(errno));
    COG_CHECK(S_ISREG(info.st_mode), COG_ERR_IO, "%s is not a file", path);
    COG_CHECK(info.st_size > 0, COG_ERR_FORMAT, "%s is empty", path);
    gzFile stream = gzopen(path, "rb");
    COG_CHECK(stream != NULL, COG_ERR_IO, "%s cannot be read: %s", path, strerror(errno));
    const int64_t whole = info.st_size < MOST_BUFFER ? info.st_size : MOST_BUFFER;
    gzbuffer(stream, whole > LEAST_BUFFER ? (unsigned)whole : LEAST_BUFFER);
    const int64_t expansion = gzdirect(stream) ? 1 : MAX_EXPANSION;
    *out = (cog_gzip){stream, path, info.st_size * expansion};
    return COG_OK;
}

void cog_gzip_close(cog_gzip *file) {
    if (file->stream != NULL) gzclose(file->stream);
    file->stream = NULL;
}

cog_status cog_gzip_read(cog_gzip *file, void *to, size_t bytes, size_t *n_read) {
    char *at = to;
    size_t left = bytes;
    while (left > 0) {
        const unsigned ask = left < INT_MAX ? (unsigned)left : INT_MAX;
        const int got = gzread(file->stream, at, ask);
        int code;
        const char *detail = gzerror(file->stream, &code);
        /* a stream that ends early is reported only beside its last bytes */
        COG_CHECK(got >= 0 && (code == Z_OK || code == Z_STREAM_END), COG_ERR_FORMAT,
                  "%s is damaged: %s", file->path,
                  code == Z_BUF_ERROR ? "the compressed data ends early" : detail);
        if (got == 0) break;
        at += got;
        left -= (size_t)got;
    }
    *n_read = bytes - left;
    return COG_OK;
}
