/* update.h - what a round did to the parameters: the messages it used, and their weights.
 *
 * The server builds an update from its decoding, applies it, and may send it on: a worker that
 * applies the same updates to the same parameters holds the same bits.
 *
 * Wire format, little endian, every piece padded to 4 bytes:
 *     int32 n_messages
 *     for each message   int32 row, int32 n_terms, uint32 payload bytes,
 *                        n_terms x { int32 block, float weight }, payload
 */
#ifndef COG_HOST_UPDATE_H
#define COG_HOST_UPDATE_H

#include "compress.h"

typedef struct cog_update_term {
    int32_t block;
    float weight;
} cog_update_term;

typedef struct cog_update_message {
    int32_t row; /* of the plan */
    int32_t n_terms;
    int32_t first_term; /* its terms are terms[first_term ..] of the update */
    const void *payload;
    size_t bytes;
} cog_update_message;

/* Storage grows to the largest round seen and is then reused. Starts zeroed. */
typedef struct cog_update {
    int32_t n_messages, n_terms;
    int32_t message_room, term_room;
    cog_update_message *messages; /* [n_messages] */
    cog_update_term *terms;       /* [n_terms] */
} cog_update;

void cog_update_free(cog_update *update);

static inline void cog_update_clear(cog_update *update) {
    update->n_messages = update->n_terms = 0;
}

/* Begin a message; its payload is borrowed. */
cog_status cog_update_message_add(cog_update *update, int32_t row, const void *payload,
                                  size_t bytes);
/* Add a term to the message begun last. */
cog_status cog_update_term_add(cog_update *update, int32_t block, float weight);

size_t cog_update_wire_bytes(const cog_update *update);
void cog_update_write(const cog_update *update, void *wire);

/* Read one round from bytes of a stranger. The payloads point into `wire`; *used is what it took.
 * ERR_FORMAT when a count, a block or a payload is impossible for this plan and quantizer. */
cog_status cog_update_read(cog_update *update, const cog_quantizer *quantizer, int32_t n_rows,
                           int32_t n_blocks, const void *wire, size_t bytes, size_t *used);

#endif
