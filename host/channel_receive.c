/* channel_receive.c - the receiving end: bytes of a stranger in, a message to decode out. */
#include <stdlib.h>
#include <string.h>

#include "channel_parts.h"
#include "check.h"

cog_status cog_channel_open_receiver(cog_channel *c) {
    const size_t most = cog_channel_max_bytes(c);
    COG_TRY(cog_channel_host_memory(most, &c->host));
    COG_TRY(cog_channel_host_memory(most, &c->spare));
    if (!c->dense) return COG_OK;
    COG_TRY(cog_channel_vector(c, &c->estimate));
    return cog_channel_vector(c, &c->next_estimate);
}

/* The header of a framed message, and what is to be read behind it. */
static cog_status read_header(cog_channel *c, const uint8_t *message, size_t bytes, bool *fired,
                              const cog_quantizer **q) {
    const size_t header = cog_channel_header_bytes(c);
    *fired = true;
    *q = &c->quantizer;
    if (!c->framed) return COG_OK;
    COG_CHECK(bytes >= header, COG_ERR_FORMAT, "a message of %zu bytes ends within its header",
              bytes);
    const int flags = message[header - 1];
    *fired = (flags & COG_FLAG_PAYLOAD) != 0;
    *q = cog_channel_format(c, flags / COG_FLAG_FORMAT);
    COG_CHECK(*q != NULL, COG_ERR_FORMAT, "a message has the flags %d", flags);
    COG_CHECK(*fired || (c->mirror != NULL && bytes == header), COG_ERR_FORMAT,
              "a message of %zu bytes says that it has no payload", bytes);
    return c->mirror != NULL ? cog_mirror_check(c->mirror, message) : COG_OK;
}

/* The payload is copied first: what is checked is what is kept, and it is aligned. */
static cog_status take(cog_channel *c, const uint8_t *message, size_t bytes) {
    const size_t header = cog_channel_header_bytes(c);
    const cog_quantizer *q;
    bool fired;
    COG_TRY(read_header(c, message, bytes, &fired, &q));
    if (bytes > header) memcpy(c->spare, message + header, bytes - header);
    if (fired) COG_TRY(q->ops->check(q, c->spare, bytes - header));
    if (!c->dense) return COG_OK;

    c->fired = fired;
    c->pending = false; /* an older message that was not settled is not going to be */
    if (c->mirror != NULL) {
        COG_TRY(cog_mirror_follow(c->mirror, message));
        c->quantizer.side = cog_mirror_expected(c->mirror);
    }
    COG_TRY(cog_channel_estimate(c, q, fired ? c->spare : NULL, c->next_estimate));
    float *kept = c->next_estimate;
    c->next_estimate = c->estimate;
    c->estimate = kept;
    return COG_OK;
}

cog_status cog_channel_receive(cog_channel *c, const void *payload, size_t bytes) {
    const size_t most = cog_channel_max_bytes(c);
    COG_CHECK(c->spare != NULL, COG_ERR_ARGUMENT, "the sending end of a channel receives nothing");
    COG_CHECK(c->lost == COG_OK, c->lost, "the last message was not taken down");
    COG_CHECK(bytes <= most, COG_ERR_FORMAT, "a payload has %zu bytes, at most %zu are expected",
              bytes, most);
    COG_TRY(take(c, payload, bytes));
    void *kept = c->spare;
    c->spare = c->host;
    c->host = kept;
    c->bytes = bytes;
    c->received = c->pending = true;
    return COG_OK;
}

const void *cog_channel_payload(const cog_channel *c, size_t *bytes) {
    if (!c->received) return NULL;
    *bytes = c->dense ? c->fp32.ops->payload_bytes(&c->fp32) : c->bytes;
    return c->dense ? (const void *)c->estimate : c->host;
}
