/* gzip.h - reads a file that may be compressed with gzip, and knows when it is damaged. */
#ifndef COG_HOST_GZIP_H
#define COG_HOST_GZIP_H

#include <stddef.h>
#include <stdint.h>

#include "cograd/status.h"

typedef struct cog_gzip {
    void *stream;     /* gzFile */
    const char *path; /* the caller's, for error sentences */
    int64_t most;     /* bytes that the file can possibly hold once expanded */
} cog_gzip;

/* ERR_IO when there is no such file; ERR_FORMAT when it is empty. */
cog_status cog_gzip_open(const char *path, cog_gzip *out);
void cog_gzip_close(cog_gzip *file); /* accepts a zeroed struct */

/* The next bytes, fewer only at the end. ERR_FORMAT when the compressed data is damaged or
 * ends early. */
cog_status cog_gzip_read(cog_gzip *file, void *to, size_t bytes, size_t *n_read);

#endif
