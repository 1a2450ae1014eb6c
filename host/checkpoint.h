/* checkpoint.h - the file a run is resumed from: pieces behind a sealed header.
 *
 *     char     magic[8]        "COGSTATE"
 *     uint32   version         COG_CHECKPOINT_VERSION
 *     uint32   n_pieces
 *     uint64   bytes           of the whole file
 *     uint64   checksum        xxh64 of the whole file with a checksum of 0
 *     n_pieces times           uint32 kind, int32 index, uint64 bytes, payload padded to 8 bytes
 *
 * Little endian. What the pieces hold is the business of those who write them: engine_save.c and
 * server_save.c. The file is written under another name, brought to the disk and renamed: it is the
 * old one or the new one, whatever happens.
 */
#ifndef COG_HOST_CHECKPOINT_H
#define COG_HOST_CHECKPOINT_H

#include <stdbool.h>

#include "blob.h"

enum { COG_CHECKPOINT_VERSION = 1 };

/* Of a run. Vectors are floats. */
enum {
    COG_PIECE_JOB = 1,   /* text: what a resumed run must have in common */
    COG_PIECE_RUN,       /* where it stands: engine_save.c */
    COG_PIECE_PARAMS,    /* the server's */
    COG_PIECE_OPTIMIZER, /* its optimizer's state */
    COG_PIECE_DOWNLINK,  /* downlink.h */
    COG_PIECE_IDLE,      /* int32[] workers, in the order in which they are asked next */
    COG_PIECE_VERSION,   /* int64[n_workers] of their parameters */
    COG_PIECE_HELD,      /* uint8[n_messages] */
    COG_PIECE_AGE,       /* int32[n_messages] */
    COG_PIECE_RENEWED,   /* uint8[n_messages] */
    COG_PIECE_RECEIVER,  /* of message `index`: the server's end of its channel */
    COG_PIECE_SENDER,    /* and the worker's */
    COG_PIECE_REPLICA,   /* int64 version, parameters and optimizer state of workers that hold it */
    COG_PIECE_SUMS,      /* of block `index`: what the decoder of sums remembers */
    COG_PIECE_NOTE       /* bytes of the caller's own; where there are any */
};

/* ---------------------------------------------------------------- writing */

/* Starts zeroed. */
typedef struct cog_checkpoint {
    cog_blob file;
    uint32_t n_pieces;
    size_t piece; /* where the one begun last starts */
} cog_checkpoint;

void cog_checkpoint_free(cog_checkpoint *checkpoint);

/* Begin a piece, append to checkpoint->file, end it. */
cog_status cog_checkpoint_begin(cog_checkpoint *checkpoint, uint32_t kind, int32_t index);
cog_status cog_checkpoint_end(cog_checkpoint *checkpoint);
/* All three in one. */
cog_status cog_checkpoint_add(cog_checkpoint *checkpoint, uint32_t kind, int32_t index,
                              const void *data, size_t bytes);

/* For those who read it where it lies. */
void cog_checkpoint_seal(cog_checkpoint *checkpoint);

/* Seal it and put it at `path`, in place of what is there. ERR_IO leaves that as it was. */
cog_status cog_checkpoint_write(cog_checkpoint *checkpoint, const char *path);

/* ---------------------------------------------------------------- reading */

typedef struct cog_piece {
    uint32_t kind;
    int32_t index;
    size_t bytes;
    const void *data; /* aligned to 8 bytes when the file is */
} cog_piece;

/* The whole file, to be freed, after cog_checkpoint_check.
 * ERR_IO       it cannot be read
 * ERR_FORMAT   it is none, of another version, cut short or damaged */
cog_status cog_checkpoint_read(const char *path, void **out, size_t *bytes);

/* Are these bytes a checkpoint? A function of the bytes alone. */
cog_status cog_checkpoint_check(const void *file, size_t bytes);

/* The pieces of a checked file, one after the other; *at is 0 before the first call. */
bool cog_checkpoint_next(const void *file, size_t *at, cog_piece *out);

#endif
