/* frame.c - pure functions over a header and its payload. */
#include "frame.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "check.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "headers are copied as they lie");

uint64_t cog_frame_key(const char *token) {
    return token != NULL && token[0] != '\0' ? XXH64(token, strlen(token), 1) : 0;
}

/* The two hashes, one seeding the other, cost no copy and no state. */
static uint64_t checksum(cog_frame_header header, uint64_t key, const void *payload) {
    header.checksum = 0;
    const uint64_t seed = XXH64(&header, sizeof(header), key);
    return header.bytes > 0 ? XXH64(payload, header.bytes, seed) : seed;
}

void cog_frame_seal(cog_frame_header *header, uint64_t key, const void *payload) {
    header->checksum = checksum(*header, key, payload);
}

cog_status cog_frame_spoil(const cog_frame_header *header, uint64_t key, const void *payload,
                           cog_damage damage, uint8_t **out, size_t *bytes) {
    cog_frame_header sealed = *header;
    const size_t whole = sizeof(sealed) + header->bytes;
    uint8_t *wire = malloc(whole);
    COG_CHECK(wire != NULL, COG_ERR_MEMORY, "no memory to damage %zu bytes", whole);
    if (damage == COG_OTHER_VERSION) sealed.version++;
    cog_frame_seal(&sealed, key, payload);
    memcpy(wire, &sealed, sizeof(sealed));
    if (header->bytes > 0) memcpy(wire + sizeof(sealed), payload, header->bytes);
    if (damage == COG_CORRUPT) wire[whole / 2] ^= 0x10;
    *out = wire;
    *bytes = damage == COG_HALF ? whole / 2 : whole;
    return COG_OK;
}

cog_status cog_frame_read(const void *wire, size_t bytes, size_t max_payload,
                          cog_frame_header *out) {
    cog_frame_header h;
    COG_CHECK(bytes == sizeof(h), COG_ERR_FORMAT, "a frame header has %zu bytes, this one %zu",
              sizeof(h), bytes);
    memcpy(&h, wire, sizeof(h));
    COG_CHECK(h.magic == COG_FRAME_MAGIC, COG_ERR_FORMAT, "this is no frame: it begins with %08x",
              h.magic);
    COG_CHECK(h.version == COG_FRAME_VERSION, COG_ERR_FORMAT,
              "a frame of version %d came, this is version %d", h.version, COG_FRAME_VERSION);
    COG_CHECK(h.kind >= COG_FRAME_PARAMS && h.kind < COG_FRAME_KINDS, COG_ERR_FORMAT,
              "there are no frames of kind %d", h.kind);
    COG_CHECK(h.bytes <= max_payload, COG_ERR_FORMAT,
              "a frame announces %llu bytes, more than the %zu that were agreed on",
              (unsigned long long)h.bytes, max_payload);
    *out = h;
    return COG_OK;
}

cog_status cog_frame_verify(const cog_frame_header *header, uint64_t key, const void *payload,
                            size_t bytes) {
    COG_CHECK(bytes == header->bytes, COG_ERR_FORMAT, "a frame announced %llu bytes, %zu came",
              (unsigned long long)header->bytes, bytes);
    COG_CHECK(checksum(*header, key, payload) == header->checksum, COG_ERR_FORMAT,
              "a frame of rank %d is damaged, or of another job", (int)header->source);
    return COG_OK;
}
