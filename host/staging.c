/* staging.c - lays an update out for the decoder of a GPU and copies it there. */
#include "staging.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "kernels.h"

enum { ALIGNMENT = 128 }; /* bytes: what a warp asks for at once */

static size_t rounded_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

static size_t messages_at(int32_t n_blocks) {
    return rounded_up(((size_t)n_blocks + 1) * sizeof(int32_t), sizeof(cog_kernel_message));
}

static size_t payloads_at(int32_t n_blocks, int32_t n_terms) {
    return messages_at(n_blocks) + (size_t)n_terms * sizeof(cog_kernel_message);
}

/* The first place from `at` on where the body of a payload is aligned. */
static size_t place(size_t at, size_t body) { return rounded_up(at + body, ALIGNMENT) - body; }

void cog_staging_free(cog_staging *s) {
    cog_device_free(s->device, s->memory);
    free(s->host);
    *s = (cog_staging){.device = s->device};
}

static cog_status grow(cog_staging *s, size_t bytes) {
    if (bytes <= s->room) return COG_OK;
    const size_t room = bytes > 2 * s->room ? bytes : 2 * s->room;
    cog_staging_free(s);
    COG_TRY(s->device->ops->alloc(s->device, room, &s->memory));
    s->host = malloc(room);
    COG_CHECK(s->host != NULL, COG_ERR_MEMORY, "no memory for an update of %zu bytes", bytes);
    s->room = room;
    return COG_OK;
}

cog_status cog_staging_reserve(cog_staging *s, int32_t n_blocks, int32_t n_messages,
                               int32_t n_terms, size_t payload_bytes) {
    const size_t payload = payload_bytes + ALIGNMENT;
    return grow(s, payloads_at(n_blocks, n_terms) + (size_t)n_messages * payload);
}

static size_t update_bytes(const cog_update *u, int32_t n_blocks, size_t body) {
    size_t at = payloads_at(n_blocks, u->n_terms);
    for (int i = 0; i < u->n_messages; i++) at = place(at, body) + u->messages[i].bytes;
    return at;
}

/* first[b] becomes where the messages of block b begin. */
static void count_blocks(const cog_update *u, int32_t n_blocks, int32_t *first) {
    memset(first, 0, ((size_t)n_blocks + 1) * sizeof(*first));
    for (int t = 0; t < u->n_terms; t++) first[u->terms[t].block + 1]++;
    for (int32_t b = 0; b < n_blocks; b++) first[b + 1] += first[b];
}

/* Lists message m in its blocks; first[b] goes on to the next place of block b. */
static void list_message(const cog_staging *s, const cog_update *u, const cog_update_message *m,
                         size_t at, int32_t *first, cog_kernel_message *messages) {
    uint32_t head = 0;
    if (m->bytes >= sizeof(head)) memcpy(&head, m->payload, sizeof(head));
    for (int t = 0; t < m->n_terms; t++) {
        const cog_update_term *term = &u->terms[m->first_term + t];
        messages[first[term->block]++] =
            (cog_kernel_message){(const char *)s->memory + at, term->weight, head};
    }
}

cog_status cog_staging_put(cog_staging *s, const cog_update *u, cog_kernel_decode *work) {
    const size_t body = (size_t)work->format.body;
    const int32_t n_blocks = work->n_blocks;
    const size_t bytes = update_bytes(u, n_blocks, body);
    COG_TRY(grow(s, bytes));
    int32_t *first = (void *)s->host;
    cog_kernel_message *messages = (void *)(s->host + messages_at(n_blocks));
    count_blocks(u, n_blocks, first);
    size_t at = payloads_at(n_blocks, u->n_terms);
    for (int i = 0; i < u->n_messages; i++) {
        const cog_update_message *m = &u->messages[i];
        const size_t begin = place(at, body);
        memset(s->host + at, 0, begin - at);
        if (m->bytes > 0) memcpy(s->host + begin, m->payload, m->bytes);
        list_message(s, u, m, begin, first, messages);
        at = begin + m->bytes;
    }
    memmove(first + 1, first, (size_t)n_blocks * sizeof(*first)); /* back to the beginnings */
    first[0] = 0;
    work->first = s->memory;
    work->messages = (const void *)((const char *)s->memory + messages_at(n_blocks));
    return s->device->ops->upload(s->device, s->memory, s->host, bytes);
}
