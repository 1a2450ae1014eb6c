/* checkpoint.c - the file format, and a file that is the old one or the new one. */
#include "checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "check.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie");

static const char magic[8] = {'C', 'O', 'G', 'S', 'T', 'A', 'T', 'E'};

typedef struct header {
    char magic[8];
    uint32_t version, n_pieces;
    uint64_t bytes, checksum;
} header;

typedef struct piece_header {
    uint32_t kind;
    int32_t index;
    uint64_t bytes;
} piece_header;

enum { ALIGN = 8 };

static size_t padding(uint64_t bytes) { return (size_t)(-bytes % ALIGN); }

/* The two hashes, one seeding the other: the header is hashed with a checksum of 0. */
static uint64_t checksum(const void *file, size_t bytes) {
    header h;
    memcpy(&h, file, sizeof(h));
    h.checksum = 0;
    return XXH64((const uint8_t *)file + sizeof(h), bytes - sizeof(h), XXH64(&h, sizeof(h), 0));
}

/* ---------------------------------------------------------------- writing */

void cog_checkpoint_free(cog_checkpoint *c) {
    cog_blob_free(&c->file);
    *c = (cog_checkpoint){.n_pieces = 0};
}

cog_status cog_checkpoint_begin(cog_checkpoint *c, uint32_t kind, int32_t index) {
    const header empty = {.version = COG_CHECKPOINT_VERSION};
    const piece_header piece = {.kind = kind, .index = index};
    if (c->file.used == 0) COG_TRY(cog_blob_add(&c->file, &empty, sizeof(empty)));
    c->piece = c->file.used;
    return cog_blob_add(&c->file, &piece, sizeof(piece));
}

cog_status cog_checkpoint_end(cog_checkpoint *c) {
    static const uint8_t zeros[ALIGN];
    piece_header piece;
    memcpy(&piece, c->file.data + c->piece, sizeof(piece));
    piece.bytes = c->file.used - c->piece - sizeof(piece);
    memcpy(c->file.data + c->piece, &piece, sizeof(piece));
    c->n_pieces++;
    return cog_blob_add(&c->file, zeros, padding(piece.bytes));
}

cog_status cog_checkpoint_add(cog_checkpoint *c, uint32_t kind, int32_t index, const void *data,
                              size_t bytes) {
    COG_TRY(cog_checkpoint_begin(c, kind, index));
    COG_TRY(cog_blob_add(&c->file, data, bytes));
    return cog_checkpoint_end(c);
}

void cog_checkpoint_seal(cog_checkpoint *c) {
    header h = {.version = COG_CHECKPOINT_VERSION, .n_pieces = c->n_pieces, .bytes = c->file.used};
    memcpy(h.magic, magic, sizeof(magic));
    memcpy(c->file.data, &h, sizeof(h));
    h.checksum = checksum(c->file.data, c->file.used);
    memcpy(c->file.data, &h, sizeof(h));
}

static cog_status write_all(int fd, const uint8_t *data, size_t bytes) {
    while (bytes > 0) {
        const ssize_t written = write(fd, data, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return COG_ERR_IO;
        data += written;
        bytes -= (size_t)written;
    }
    return fsync(fd) == 0 ? COG_OK : COG_ERR_IO;
}

/* So that the new name, too, survives a loss of power. */
static cog_status sync_folder(char *path) {
    const int fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return COG_ERR_IO;
    const int failed = fsync(fd);
    const int error = errno;
    close(fd);
    errno = error;
    return failed && error != EINVAL ? COG_ERR_IO : COG_OK;
}

/* One other name, so that what an end without warning left there is used again. errno says why. */
static cog_status replace(const cog_blob *file, const char *path, char *other) {
    sprintf(other, "%s.partial", path);
    const int fd = open(other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return COG_ERR_IO;
    cog_status status = write_all(fd, file->data, file->used);
    int error = errno;
    if (close(fd) != 0 && status == COG_OK) {
        status = COG_ERR_IO;
        error = errno;
    }
    errno = error;
    if (status == COG_OK && rename(other, path) == 0) return sync_folder(strcpy(other, path));
    error = errno;
    unlink(other);
    errno = error;
    return COG_ERR_IO;
}

cog_status cog_checkpoint_write(cog_checkpoint *c, const char *path) {
    char *other = malloc(strlen(path) + sizeof(".partial"));
    COG_CHECK(other != NULL, COG_ERR_MEMORY, "no memory for a file name");
    cog_checkpoint_seal(c);
    const cog_status status = replace(&c->file, path, other);
    const int error = errno;
    free(other);
    COG_CHECK(status == COG_OK, COG_ERR_IO, "cannot write the checkpoint '%s': %s", path,
              strerror(error));
    return COG_OK;
}

/* ---------------------------------------------------------------- reading */

static cog_status check_header(const header *h, size_t bytes) {
    COG_CHECK(memcmp(h->magic, magic, sizeof(magic)) == 0, COG_ERR_FORMAT, "it is no checkpoint");
    COG_CHECK(h->version == COG_CHECKPOINT_VERSION, COG_ERR_FORMAT,
              "it is a checkpoint of version %u, this program reads version %d", h->version,
              COG_CHECKPOINT_VERSION);
    COG_CHECK(h->bytes == bytes, COG_ERR_FORMAT, "it has %zu bytes, and should have %llu", bytes,
              (unsigned long long)h->bytes);
    return COG_OK;
}

/* Every piece lies within the file, and nothing lies behind the last. */
static cog_status check_pieces(const uint8_t *file, size_t bytes, uint32_t n_pieces) {
    cog_span rest = {file + sizeof(header), bytes - sizeof(header)};
    for (uint32_t i = 0; i < n_pieces; i++) {
        piece_header piece;
        const void *unused;
        COG_TRY(cog_span_read(&rest, &piece, sizeof(piece)));
        COG_CHECK(piece.bytes <= rest.left, COG_ERR_FORMAT, "its piece %u is cut short", i);
        COG_TRY(cog_span_take(&rest, (size_t)piece.bytes + padding(piece.bytes), &unused));
    }
    return cog_span_end(&rest);
}

cog_status cog_checkpoint_check(const void *file, size_t bytes) {
    header h;
    COG_CHECK(bytes >= sizeof(h), COG_ERR_FORMAT, "it has %zu bytes, a checkpoint has more", bytes);
    memcpy(&h, file, sizeof(h));
    COG_TRY(check_header(&h, bytes));
    COG_CHECK(checksum(file, bytes) == h.checksum, COG_ERR_FORMAT,
              "it is damaged: its checksum is wrong");
    return check_pieces(file, bytes, h.n_pieces);
}

bool cog_checkpoint_next(const void *file, size_t *at, cog_piece *out) {
    header h;
    piece_header piece;
    memcpy(&h, file, sizeof(h));
    if (*at == 0) *at = sizeof(h);
    if (*at >= h.bytes) return false;
    const uint8_t *here = (const uint8_t *)file + *at;
    memcpy(&piece, here, sizeof(piece));
    *out = (cog_piece){piece.kind, piece.index, (size_t)piece.bytes, here + sizeof(piece)};
    *at += sizeof(piece) + out->bytes + padding(piece.bytes);
    return true;
}

static cog_status read_all(FILE *stream, uint8_t *out, size_t bytes) {
    const size_t come = fread(out, 1, bytes, stream);
    COG_CHECK(!ferror(stream), COG_ERR_IO, "%s", strerror(errno));
    COG_CHECK(come == bytes, COG_ERR_FORMAT, "it ends after %zu of %zu bytes", come, bytes);
    return COG_OK;
}

/* The header is judged before there is memory for what it announces. */
static cog_status read_stream(FILE *stream, void **out, size_t *bytes) {
    struct stat info;
    header h;
    COG_CHECK(fstat(fileno(stream), &info) == 0, COG_ERR_IO, "%s", strerror(errno));
    COG_CHECK(S_ISREG(info.st_mode), COG_ERR_FORMAT, "it is no regular file");
    const size_t size = (size_t)info.st_size;
    COG_CHECK(size >= sizeof(h), COG_ERR_FORMAT, "it has %zu bytes, a checkpoint has more", size);
    COG_TRY(read_all(stream, (uint8_t *)&h, sizeof(h)));
    COG_TRY(check_header(&h, size));
    uint8_t *file = malloc(size);
    COG_CHECK(file != NULL, COG_ERR_MEMORY, "no memory for its %zu bytes", size);
    memcpy(file, &h, sizeof(h));
    cog_status status = read_all(stream, file + sizeof(h), size - sizeof(h));
    if (status == COG_OK) status = cog_checkpoint_check(file, size);
    if (status != COG_OK) {
        free(file);
        return status;
    }
    *out = file;
    *bytes = size;
    return COG_OK;
}

cog_status cog_checkpoint_read(const char *path, void **out, size_t *bytes) {
    FILE *stream = cog_blob_open(path);
    COG_CHECK(stream != NULL, COG_ERR_IO, "cannot read the checkpoint '%s': %s", path,
              strerror(errno));
    const cog_status status = read_stream(stream, out, bytes);
    fclose(stream);
    char why[512];
    snprintf(why, sizeof(why), "%s", cog_last_error());
    COG_CHECK(status == COG_OK, status, "cannot resume from '%s': %s", path, why);
    return COG_OK;
}
