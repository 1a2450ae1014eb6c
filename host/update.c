/* update.c - the wire format of a round. */
#include "update.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

typedef struct message_header {
    int32_t row;
    int32_t n_terms;
    uint32_t bytes;
} message_header;

static size_t padded(size_t bytes) { return (bytes + 3) / 4 * 4; }

void cog_update_free(cog_update *update) {
    free(update->messages);
    free(update->terms);
    *update = (cog_update){0};
}

/* Room for one more in an array of `count`. */
static cog_status make_room(void **array, int32_t count, int32_t *room, size_t size) {
    if (count < *room) return COG_OK;
    const int32_t more = *room > 0 ? 2 * *room : 8;
    void *grown = realloc(*array, (size_t)more * size);
    COG_CHECK(grown != NULL, COG_ERR_MEMORY, "no memory for an update of %d pieces", more);
    *array = grown;
    *room = more;
    return COG_OK;
}

static cog_status make_room_for_term(cog_update *u) {
    void *terms = u->terms;
    const cog_status status = make_room(&terms, u->n_terms, &u->term_room, sizeof(*u->terms));
    u->terms = terms;
    return status;
}

/* Also one without terms has a place where they would be. */
cog_status cog_update_message_add(cog_update *u, int32_t row, const void *payload, size_t bytes) {
    void *messages = u->messages;
    COG_TRY(make_room_for_term(u));
    COG_TRY(make_room(&messages, u->n_messages, &u->message_room, sizeof(*u->messages)));
    u->messages = messages;
    u->messages[u->n_messages++] = (cog_update_message){
        .row = row, .first_term = u->n_terms, .payload = payload, .bytes = bytes};
    return COG_OK;
}

cog_status cog_update_term_add(cog_update *u, int32_t block, float weight) {
    COG_TRY(make_room_for_term(u));
    u->terms[u->n_terms++] = (cog_update_term){block, weight};
    u->messages[u->n_messages - 1].n_terms++;
    return COG_OK;
}

size_t cog_update_wire_bytes(const cog_update *u) {
    size_t bytes = sizeof(int32_t) + (size_t)u->n_messages * sizeof(message_header) +
                   (size_t)u->n_terms * sizeof(cog_update_term);
    for (int i = 0; i < u->n_messages; i++) bytes += padded(u->messages[i].bytes);
    return bytes;
}

void cog_update_write(const cog_update *u, void *wire) {
    uint8_t *to = wire;
    memcpy(to, &u->n_messages, sizeof(int32_t));
    to += sizeof(int32_t);
    for (int i = 0; i < u->n_messages; i++) {
        const cog_update_message *m = &u->messages[i];
        const message_header header = {m->row, m->n_terms, (uint32_t)m->bytes};
        const size_t terms = (size_t)m->n_terms * sizeof(*u->terms);
        memcpy(to, &header, sizeof(header));
        memcpy(to + sizeof(header), u->terms + m->first_term, terms);
        to += sizeof(header) + terms;
        memcpy(to, m->payload, m->bytes);
        memset(to + m->bytes, 0, padded(m->bytes) - m->bytes);
        to += padded(m->bytes);
    }
}

static cog_status read_message(cog_update *u, const cog_quantizer *q, int32_t n_rows,
                               int32_t n_blocks, const uint8_t *from, size_t left, size_t *used) {
    message_header header;
    COG_CHECK(left >= sizeof(header), COG_ERR_FORMAT, "an update ends within a message header");
    memcpy(&header, from, sizeof(header));
    COG_CHECK(header.row >= 0 && header.row < n_rows, COG_ERR_FORMAT,
              "an update names message %d of %d", header.row, n_rows);
    COG_CHECK(header.n_terms >= 0 && header.n_terms <= n_blocks, COG_ERR_FORMAT,
              "a message of an update has %d terms for %d blocks", header.n_terms, n_blocks);
    const size_t terms = (size_t)header.n_terms * sizeof(cog_update_term);
    *used = sizeof(header) + terms + padded(header.bytes);
    COG_CHECK(*used <= left, COG_ERR_FORMAT, "an update ends within a message");

    const uint8_t *payload = from + sizeof(header) + terms;
    COG_TRY(q->ops->check(q, payload, header.bytes));
    COG_TRY(cog_update_message_add(u, header.row, payload, header.bytes));
    for (int i = 0; i < header.n_terms; i++) {
        cog_update_term term;
        memcpy(&term, from + sizeof(header) + (size_t)i * sizeof(term), sizeof(term));
        COG_CHECK(term.block >= 0 && term.block < n_blocks, COG_ERR_FORMAT,
                  "an update names block %d of %d", term.block, n_blocks);
        COG_TRY(cog_update_term_add(u, term.block, term.weight));
    }
    return COG_OK;
}

cog_status cog_update_read(cog_update *u, const cog_quantizer *q, int32_t n_rows, int32_t n_blocks,
                           const void *wire, size_t bytes, size_t *used) {
    int32_t n_messages;
    COG_CHECK(bytes >= sizeof(n_messages), COG_ERR_FORMAT, "an update ends within its count");
    memcpy(&n_messages, wire, sizeof(n_messages));
    COG_CHECK(n_messages >= 0 && n_messages <= n_rows, COG_ERR_FORMAT,
              "an update has %d messages, the plan %d", n_messages, n_rows);
    cog_update_clear(u);
    size_t at = sizeof(n_messages);
    while (u->n_messages < n_messages) {
        size_t taken;
        COG_TRY(
            read_message(u, q, n_rows, n_blocks, (const uint8_t *)wire + at, bytes - at, &taken));
        at += taken;
    }
    *used = at;
    return COG_OK;
}
