/* channel.c - a quantizer, its memory, and the rule that only an accepted message counts.
 *
 * The residual of a pending message lies in a second vector and becomes the error by a swap, so a
 * dropped message has nothing to undo. A quantizer's own state is small; it is read back before
 * every pack and put back when the message was not used.
 */
#include "channel.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "rng.h"

struct cog_channel {
    cog_quantizer quantizer;
    const cog_quantizer_kernels *kernels;
    cog_device *device;
    bool feedback;
    bool pending;    /* a message waits to be settled */
    bool ahead;      /* the state is that after a message which was not accepted */
    float *error;    /* [n] sender with feedback: what is still owed to the server */
    float *residual; /* [n] sender: the error once the pending message is accepted */
    void *state, *scratch, *payload; /* device memory of the sender */
    void *settled;                   /* host: the state before the pending message */
    void *host;     /* the payload, sent or received; on the CPU of a sender NULL */
    void *spare;    /* receiver: where the next payload is checked */
    size_t bytes;   /* of the payload in use */
    size_t fetched; /* sender on another device: bytes the last payload had, or a header */
    bool received;
};

static cog_status host_memory(size_t bytes, void **out) {
    *out = malloc(bytes > 0 ? bytes : 1);
    COG_CHECK(*out != NULL, COG_ERR_MEMORY, "no memory for %zu bytes of a channel", bytes);
    return COG_OK;
}

static cog_status zeros(cog_device *device, size_t bytes, void **out) {
    float *memory;
    COG_TRY(cog_device_zeros(device, (int64_t)((bytes + 3) / 4), &memory));
    *out = memory;
    return COG_OK;
}

static cog_status open_state(cog_channel *c) {
    const cog_quantizer *q = &c->quantizer;
    const size_t bytes = q->ops->state_bytes(q);
    COG_TRY(host_memory(bytes, &c->settled));
    memset(c->settled, 0, bytes);
    return zeros(c->device, bytes, &c->state);
}

static cog_status open_sender(cog_channel *c) {
    const cog_quantizer *q = &c->quantizer;
    const cog_device_ops *dev = c->device->ops;
    const size_t payload = q->ops->payload_bytes(q);
    const size_t scratch =
        c->kernels->scratch_bytes != NULL ? c->kernels->scratch_bytes(q) : q->ops->scratch_bytes(q);
    if (c->feedback) COG_TRY(cog_device_zeros(c->device, q->n, &c->error));
    COG_TRY(cog_device_zeros(c->device, q->n, &c->residual));
    COG_TRY(dev->alloc(c->device, payload, &c->payload));
    c->fetched = payload < sizeof(uint32_t) ? payload : sizeof(uint32_t);
    COG_TRY(zeros(c->device, scratch, &c->scratch));
    COG_TRY(open_state(c));
    return dev->kind == COG_CPU ? COG_OK : host_memory(payload, &c->host);
}

static cog_status open_receiver(cog_channel *c) {
    const size_t payload = c->quantizer.ops->payload_bytes(&c->quantizer);
    COG_TRY(host_memory(payload, &c->host));
    return host_memory(payload, &c->spare);
}

static cog_status configure(cog_channel *c, const char *text, int64_t n) {
    cog_spec spec;
    COG_TRY(cog_spec_parse(text, &spec));
    COG_TRY(cog_spec_flag(&spec, "feedback", false, &c->feedback));
    COG_TRY(cog_quantizer_configure(&spec, n, &c->quantizer));
    const cog_quantizer_ops *ops = c->quantizer.ops;
    c->kernels = ops->on[c->device->ops->kind];
    COG_CHECK(c->kernels != NULL, COG_ERR_UNSUPPORTED, "'%s' has no kernels for device '%s'",
              ops->name, c->device->ops->name);
    if (!c->feedback || ops->worst_error == NULL) return COG_OK;
    const double worst = ops->worst_error(&c->quantizer);
    COG_CHECK(worst < 1, COG_ERR_SPEC,
              "error feedback over '%s' need not stay bounded: a message of %lld entries may leave "
              "%.3g times its energy behind, where less than 1 is needed",
              ops->name, (long long)n, worst);
    return COG_OK;
}

cog_status cog_channel_open(const char *spec, cog_device *device, int64_t n, cog_channel_end end,
                            cog_channel **out) {
    cog_channel *c = calloc(1, sizeof(*c));
    COG_CHECK(c != NULL, COG_ERR_MEMORY, "no memory for a channel");
    c->device = device;
    cog_status status = configure(c, spec, n);
    if (status == COG_OK) status = end == COG_SENDER ? open_sender(c) : open_receiver(c);
    if (status != COG_OK) {
        cog_channel_close(c);
        return status;
    }
    *out = c;
    return COG_OK;
}

void cog_channel_close(cog_channel *c) {
    if (c == NULL) return;
    void *on_device[] = {c->error, c->residual, c->state, c->scratch, c->payload};
    for (size_t i = 0; i < sizeof(on_device) / sizeof(on_device[0]); i++)
        cog_device_free(c->device, on_device[i]);
    free(c->settled);
    free(c->host);
    free(c->spare);
    free(c);
}

void cog_channel_seed(cog_channel *c, uint64_t seed, uint32_t message) {
    cog_rng rng = cog_rng_make(seed, COG_STREAM_COMPRESSOR, message, 0);
    c->quantizer.stream = cog_rng_u32(&rng);
}

const cog_quantizer *cog_channel_quantizer(const cog_channel *c) { return &c->quantizer; }

/* Have the state of the last accepted message on both sides, host and device. */
static cog_status settle_state(cog_channel *c) {
    const size_t bytes = c->quantizer.ops->state_bytes(&c->quantizer);
    if (bytes == 0) return COG_OK;
    if (c->ahead) return c->device->ops->upload(c->device, c->state, c->settled, bytes);
    COG_TRY(c->device->ops->download(c->device, c->settled, c->state, bytes));
    return cog_device_sync(c->device);
}

static cog_status fetch(cog_channel *c, size_t from, size_t to) {
    if (to <= from) return COG_OK;
    COG_TRY(c->device->ops->download(c->device, (char *)c->host + from,
                                     (const char *)c->payload + from, to - from));
    return cog_device_sync(c->device);
}

/* The payload in host memory and its size. One packed on the CPU is there already. From elsewhere,
 * as many bytes are fetched as the last one had; its header then tells whether there are more. */
static cog_status hand_out(cog_channel *c, const void **payload, size_t *bytes) {
    const cog_quantizer *q = &c->quantizer;
    *payload = c->host != NULL ? c->host : c->payload;
    if (c->host != NULL) COG_TRY(fetch(c, 0, c->fetched));
    *bytes = q->ops->used_bytes(q, *payload);
    if (c->host == NULL) return COG_OK;
    const size_t fetched = c->fetched;
    c->fetched = *bytes;
    return fetch(c, fetched, *bytes);
}

cog_status cog_channel_pack(cog_channel *c, int n_terms, const cog_term *terms,
                            const void **payload, size_t *bytes) {
    const cog_quantizer *q = &c->quantizer;
    COG_CHECK(c->residual != NULL, COG_ERR_ARGUMENT,
              "the receiving end of a channel packs nothing");
    COG_CHECK(n_terms >= 0 && n_terms < COG_MAX_TERMS, COG_ERR_ARGUMENT,
              "%d terms are not between 0 and %d", n_terms, COG_MAX_TERMS - 1);
    cog_term all[COG_MAX_TERMS];
    if (n_terms > 0) memcpy(all, terms, (size_t)n_terms * sizeof(*all));
    if (c->feedback) all[n_terms++] = (cog_term){c->error, 1.0f};
    c->pending = false;
    COG_TRY(settle_state(c));
    c->ahead = true;
    COG_TRY(c->kernels->pack(q, c->device, n_terms, all, c->residual, c->state, c->scratch,
                             c->payload));
    const void *packed;
    COG_TRY(hand_out(c, &packed, &c->bytes));
    c->pending = true;
    *payload = packed;
    *bytes = c->bytes;
    return COG_OK;
}

void cog_channel_settle(cog_channel *c, bool accepted) {
    if (c->pending && accepted) {
        c->ahead = false;
        float *settled = c->residual;
        if (c->feedback) c->residual = c->error;
        if (c->feedback) c->error = settled;
    }
    c->pending = false;
}

const float *cog_channel_error(const cog_channel *c) { return c->error; }

cog_status cog_channel_receive(cog_channel *c, const void *payload, size_t bytes) {
    const cog_quantizer *q = &c->quantizer;
    const size_t most = q->ops->payload_bytes(q);
    COG_CHECK(c->spare != NULL, COG_ERR_ARGUMENT, "the sending end of a channel receives nothing");
    COG_CHECK(bytes <= most, COG_ERR_FORMAT, "a payload has %zu bytes, at most %zu are expected",
              bytes, most);
    /* copied first: what is checked is what is kept, and it is aligned */
    if (bytes > 0) memcpy(c->spare, payload, bytes);
    COG_TRY(q->ops->check(q, c->spare, bytes));
    void *kept = c->spare;
    c->spare = c->host;
    c->host = kept;
    c->bytes = bytes;
    c->received = true;
    return COG_OK;
}

const void *cog_channel_payload(const cog_channel *c, size_t *bytes) {
    if (!c->received) return NULL;
    *bytes = c->bytes;
    return c->host;
}
