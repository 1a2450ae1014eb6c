/* channel_save.c - the memory of one end of a channel as bytes.
 *
 *     sender     head, error [n], velocity [n], the quantizer's state, the predictor's
 *     receiver   head, the predictor's, the payload or the dense vector handed out last
 *
 * each where there is one. Random choices are a function of the quantizer's state and of the seed,
 * so nothing else need be kept of them. */
#include <string.h>

#include "channel_parts.h"
#include "check.h"

typedef struct head {
    int64_t n;
    int32_t end;          /* cog_channel_end */
    int32_t received;     /* a payload follows */
    uint64_t state_bytes; /* of the quantizer */
    uint64_t payload;     /* bytes */
} head;

static bool is_sender(const cog_channel *c) { return c->residual != NULL; }

static head head_of(const cog_channel *c, bool with_payload) {
    head h = {.n = c->quantizer.n, .end = is_sender(c) ? COG_SENDER : COG_RECEIVER};
    if (is_sender(c)) h.state_bytes = cog_quantizer_state_bytes(&c->quantizer);
    h.received = !is_sender(c) && with_payload && c->received;
    if (h.received) h.payload = c->bytes;
    return h;
}

size_t cog_channel_max_state(const cog_channel *c) {
    const size_t vectors = (size_t)c->feedback + (c->momentum > 0);
    return sizeof(head) + vectors * (size_t)c->quantizer.n * sizeof(float) +
           cog_quantizer_state_bytes(&c->quantizer) +
           (c->mirror != NULL ? cog_mirror_max_state(c->mirror) : 0);
}

/* ---------------------------------------------------------------- save */

static cog_status fetch(cog_channel *c, const void *packed, size_t bytes, cog_blob *out) {
    void *at;
    if (packed == NULL || bytes == 0) return COG_OK;
    COG_TRY(cog_blob_extend(out, bytes, &at));
    COG_TRY(c->packer->ops->download(c->packer, at, packed, bytes));
    return cog_device_sync(c->packer);
}

/* After a message that was not accepted the state before it counts. */
static cog_status save_sender(cog_channel *c, const head *h, cog_blob *out) {
    const size_t vector = (size_t)h->n * sizeof(float);
    COG_TRY(fetch(c, c->error, vector, out));
    COG_TRY(fetch(c, c->velocity, vector, out));
    if (c->ahead) return cog_blob_add(out, c->settled, h->state_bytes);
    return fetch(c, c->state, h->state_bytes, out);
}

cog_status cog_channel_save(cog_channel *c, bool with_payload, cog_blob *out) {
    const head h = head_of(c, with_payload);
    COG_CHECK(!is_sender(c) || !c->pending, COG_ERR_ARGUMENT,
              "a channel is saved while a message is under way");
    COG_TRY(cog_blob_add(out, &h, sizeof(h)));
    if (is_sender(c)) COG_TRY(save_sender(c, &h, out));
    if (c->mirror != NULL) COG_TRY(cog_mirror_save(c->mirror, out));
    if (!h.received) return COG_OK;
    if (c->dense) return cog_blob_add(out, c->estimate, (size_t)h.n * sizeof(float));
    return cog_blob_add(out, c->host, h.payload);
}

/* ---------------------------------------------------------------- load */

static cog_status put(cog_channel *c, void *packed, size_t bytes, cog_span *state) {
    const void *at;
    if (packed == NULL || bytes == 0) return COG_OK;
    COG_TRY(cog_span_take(state, bytes, &at));
    COG_TRY(c->packer->ops->upload(c->packer, packed, at, bytes));
    return cog_device_sync(c->packer);
}

static cog_status load_sender(cog_channel *c, const head *h, cog_span *state) {
    const size_t vector = (size_t)h->n * sizeof(float);
    COG_TRY(put(c, c->error, vector, state));
    COG_TRY(put(c, c->velocity, vector, state));
    return put(c, c->state, h->state_bytes, state);
}

/* A payload is judged as one from the wire. */
static cog_status load_payload(cog_channel *c, const head *h, cog_span *state) {
    if (!h->received) return COG_OK;
    if (c->dense) {
        COG_TRY(cog_span_read(state, c->estimate, (size_t)h->n * sizeof(float)));
    } else {
        COG_TRY(cog_span_read(state, c->host, h->payload));
        COG_TRY(c->quantizer.ops->check(&c->quantizer, c->host, h->payload));
    }
    c->bytes = h->payload;
    c->received = true;
    return COG_OK;
}

cog_status cog_channel_load(cog_channel *c, const void *state, size_t bytes) {
    cog_span span = {state, bytes};
    const head mine = head_of(c, false);
    head h;
    COG_TRY(cog_span_read(&span, &h, sizeof(h)));
    COG_CHECK(h.n == mine.n && h.end == mine.end && h.state_bytes == mine.state_bytes &&
                  h.payload <= cog_channel_max_bytes(c) && (h.received == 0 || !is_sender(c)),
              COG_ERR_FORMAT, "the state of a channel of %lld entries does not fit one of %lld",
              (long long)h.n, (long long)mine.n);
    c->pending = c->ahead = c->received = false;
    c->lost = COG_OK;
    if (is_sender(c)) COG_TRY(load_sender(c, &h, &span));
    if (c->mirror != NULL) COG_TRY(cog_mirror_load(c->mirror, &span));
    if (!is_sender(c)) COG_TRY(load_payload(c, &h, &span));
    return cog_span_end(&span);
}

/* ---------------------------------------------------------------- in parts */

void cog_channel_memories(cog_channel *c, float **error, float **velocity) {
    *error = c->error;
    *velocity = c->velocity;
}

void cog_channel_copy_state(cog_channel *to, const cog_channel *from) {
    const size_t bytes = cog_quantizer_state_bytes(&to->quantizer);
    if (bytes > 0) memcpy(to->state, from->state, bytes);
}
