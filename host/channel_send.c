/* channel_send.c - the sending end: terms in, a message for the wire out. */
#include <stdlib.h>
#include <string.h>

#include "channel_parts.h"
#include "check.h"
#include "range.h"
#include "tile.h"

static bool packs_on_host(const cog_channel *c) { return cog_device_kind_of(c->packer) == COG_CPU; }

static cog_status zeros(cog_device *device, size_t bytes, void **out) {
    float *memory;
    COG_TRY(cog_device_zeros(device, (int64_t)((bytes + 3) / 4), &memory));
    *out = memory;
    return COG_OK;
}

/* What sends most of the entries. */
static const cog_quantizer *widest(const cog_channel *c) {
    return c->ramp > 0 ? &c->step[0] : &c->quantizer;
}

static cog_status open_state(cog_channel *c) {
    const size_t bytes = cog_quantizer_state_bytes(&c->quantizer);
    COG_TRY(cog_channel_host_memory(bytes, &c->settled));
    memset(c->settled, 0, bytes);
    return zeros(c->packer, bytes, &c->state);
}

static cog_status open_extras(cog_channel *c) {
    const cog_quantizer *q = &c->quantizer;
    if (c->mirror != NULL || c->packer != c->device) COG_TRY(cog_channel_vector(c, &c->message));
    if (c->mirror != NULL) COG_TRY(cog_channel_vector(c, &c->estimate));
    if (c->packer != c->device)
        COG_TRY(cog_channel_host_memory((size_t)q->n * sizeof(float), (void **)&c->incoming));
    if (c->momentum == 0) return COG_OK;
    const size_t positions = (size_t)q->ops->max_positions(widest(c));
    COG_TRY(cog_channel_vector(c, &c->velocity));
    COG_TRY(cog_channel_vector(c, &c->next_velocity));
    return cog_channel_host_memory(positions * sizeof(int64_t), (void **)&c->position);
}

cog_status cog_channel_open_sender(cog_channel *c) {
    const cog_quantizer *q = &c->quantizer;
    const cog_device_ops *dev = c->packer->ops;
    const size_t payload = cog_channel_max_bytes(c) - cog_channel_header_bytes(c);
    const size_t scratch = cog_quantizer_scratch_bytes(widest(c), c->kernels);
    const size_t room = cog_channel_room(c);
    if (c->feedback) COG_TRY(cog_device_zeros(c->packer, q->n, &c->error));
    COG_TRY(cog_device_zeros(c->packer, q->n, &c->residual));
    COG_TRY(dev->alloc(c->packer, room + payload, &c->frame));
    c->payload = (char *)c->frame + room;
    c->fetched = payload < sizeof(uint32_t) ? payload : sizeof(uint32_t);
    COG_TRY(zeros(c->packer, scratch, &c->scratch));
    COG_TRY(open_state(c));
    COG_TRY(open_extras(c));
    return packs_on_host(c) ? COG_OK : cog_channel_host_memory(room + payload, &c->host);
}

/* Have the state of the last accepted message on both sides, host and device. */
static cog_status settle_state(cog_channel *c) {
    const size_t bytes = cog_quantizer_state_bytes(&c->quantizer);
    if (bytes == 0) return COG_OK;
    if (c->ahead) return c->packer->ops->upload(c->packer, c->state, c->settled, bytes);
    COG_TRY(c->packer->ops->download(c->packer, c->settled, c->state, bytes));
    return cog_device_sync(c->packer);
}

static cog_status fetch(cog_channel *c, char *to_host, size_t from, size_t to) {
    if (to <= from) return COG_OK;
    COG_TRY(c->packer->ops->download(c->packer, to_host + from, (const char *)c->payload + from,
                                     to - from));
    return cog_device_sync(c->packer);
}

/* The payload of another device in host memory, and its size: as many bytes are fetched as the last
 * one had; its header then tells whether there are more. */
static cog_status hand_out(cog_channel *c, const void **payload, size_t *bytes) {
    const cog_quantizer *q = &c->quantizer;
    char *at = (char *)c->host + cog_channel_room(c);
    *payload = at;
    COG_TRY(fetch(c, at, 0, c->fetched));
    *bytes = cog_quantizer_used_bytes(q, at);
    const size_t fetched = c->fetched;
    c->fetched = *bytes;
    return fetch(c, at, fetched, *bytes);
}

/* The bytes of the wire, header first, right before the payload in host memory. */
static void put_header(cog_channel *c, int format, void *host, const void **payload,
                       size_t *bytes) {
    const size_t header = cog_channel_header_bytes(c);
    uint8_t *at = (uint8_t *)host - header;
    if (c->mirror != NULL) cog_mirror_write(c->mirror, at);
    at[header - 1] = (uint8_t)((c->fired ? COG_FLAG_PAYLOAD : 0) + format * COG_FLAG_FORMAT);
    *payload = at;
    *bytes += header;
}

/* ---------------------------------------------------------------- by way of host memory */

/* In float, in the order of the terms, first a product, then fused multiply-adds. */
static void combine(const cog_channel *c, int n_terms, const cog_term *terms, float *out) {
    const cog_tile_ops *loops = c->quantizer.tile_ops;
    for (int64_t first = 0; first < c->quantizer.n; first += COG_TILE) {
        const int64_t left = c->quantizer.n - first;
        loops->combine(n_terms, terms, first, (int)(left < COG_TILE ? left : COG_TILE),
                       out + first);
    }
}

/* The terms of another device in one vector here, with the bits of one combination. */
static cog_status bring_home(cog_channel *c, int *n_terms, cog_term *all) {
    const size_t bytes = (size_t)c->quantizer.n * sizeof(float);
    combine(c, 0, NULL, c->message);
    for (int t = 0; t < *n_terms; t++) {
        COG_TRY(c->device->ops->download(c->device, c->incoming, all[t].x, bytes));
        COG_TRY(cog_device_sync(c->device));
        const cog_term both[] = {{c->message, 1}, {c->incoming, all[t].coef}};
        combine(c, t == 0 ? 1 : 2, t == 0 ? both + 1 : both, c->message);
    }
    *n_terms = 1;
    all[0] = (cog_term){c->message, 1};
    return COG_OK;
}

/* u = momentum u + message, sent in place of the message. */
static void accelerate(cog_channel *c, int *n_terms, cog_term *all) {
    all[(*n_terms)++] = (cog_term){c->velocity, (float)c->momentum};
    combine(c, *n_terms, all, c->next_velocity);
    *n_terms = 1;
    all[0] = (cog_term){c->next_velocity, 1};
}

/* Factor masking: what was sent does not move on. After a warm-up round, which sends everything,
 * momentum goes on as it does without compression. */
static void mask(cog_channel *c, const cog_quantizer *q, const void *payload) {
    const int64_t count = q->ops->positions(q, payload, c->position);
    for (int64_t i = 0; i < count; i++) c->next_velocity[c->position[i]] = 0;
}

/* Leave in the terms what the prediction lacks. */
static cog_status subtract_expected(cog_channel *c, int *n_terms, cog_term *all) {
    combine(c, *n_terms, all, c->message);
    COG_TRY(cog_mirror_foresee(c->mirror, c->round, c->message, &c->fired));
    *n_terms = 1;
    all[0] = (cog_term){c->message, 1};
    c->quantizer.side = cog_mirror_expected(c->mirror);
    if (!c->quantizer.ops->uses_side || c->round < c->warmup)
        all[(*n_terms)++] = (cog_term){c->quantizer.side, -1};
    return COG_OK;
}

static cog_status pack_on_host(cog_channel *c, int n_terms, cog_term *all, const void **payload,
                               size_t *bytes) {
    const int format = cog_channel_format_now(c);
    const cog_quantizer *q = cog_channel_format(c, format);
    c->fired = true;
    if (c->packer != c->device) COG_TRY(bring_home(c, &n_terms, all));
    if (c->momentum > 0) accelerate(c, &n_terms, all);
    if (c->feedback) all[n_terms++] = (cog_term){c->error, 1};
    if (c->mirror != NULL) COG_TRY(subtract_expected(c, &n_terms, all));
    *payload = c->payload;
    *bytes = 0;
    if (c->fired) {
        COG_TRY(q->ops->on[COG_CPU]->pack(q, c->packer, n_terms, all, c->residual, c->state,
                                          c->scratch, c->payload));
        *bytes = cog_quantizer_used_bytes(q, c->payload);
    }
    if (c->momentum > 0 && format != COG_FORMAT_FP32) mask(c, q, c->payload);
    if (c->mirror != NULL)
        COG_TRY(cog_channel_estimate(c, q, c->fired ? c->payload : NULL, c->estimate));
    if (c->framed) put_header(c, format, c->payload, payload, bytes);
    return COG_OK;
}

/* ---------------------------------------------------------------- pack */

static cog_status pack_on_device(cog_channel *c, int n_terms, cog_term *all, const void **payload,
                                 size_t *bytes) {
    if (c->feedback) all[n_terms++] = (cog_term){c->error, 1};
    COG_TRY(COG_IN_RANGE("pack", c->kernels->pack(&c->quantizer, c->packer, n_terms, all,
                                                  c->residual, c->state, c->scratch, c->payload)));
    return COG_IN_RANGE("transfer", hand_out(c, payload, bytes));
}

/* The message in one vector: where it lies, or combined in a pass. */
static cog_status gather(cog_channel *c, int n_terms, const cog_term *all, const float **out) {
    const cog_quantizer_kernels *fp32 = c->fp32.ops->on[cog_device_kind_of(c->packer)];
    *out = n_terms == 1 && all[0].coef == 1 ? all[0].x : c->message;
    if (*out != c->message) return COG_OK;
    return fp32->pack(&c->fp32, c->packer, n_terms, all, c->residual, NULL, NULL, c->message);
}

/* What the prediction lacks; a message that does not fire leaves nothing but its header here. */
static cog_status pack_surprise(cog_channel *c, int n_terms, const cog_term *all,
                                const void **payload, size_t *bytes) {
    const float *x;
    COG_TRY(gather(c, n_terms, all, &x));
    COG_TRY(cog_mirror_foresee(c->mirror, c->round, x, &c->fired));
    cog_term left[COG_MAX_TERMS + 1] = {{x, 1}, {cog_mirror_expected(c->mirror), -1}};
    *bytes = 0;
    if (c->fired) COG_TRY(pack_on_device(c, 2, left, payload, bytes));
    COG_TRY(cog_channel_estimate(c, &c->quantizer, c->fired ? c->payload : NULL, c->estimate));
    put_header(c, COG_FORMAT_WIRE, (char *)c->host + COG_FRAME_ROOM, payload, bytes);
    return COG_OK;
}

cog_status cog_channel_pack(cog_channel *c, int n_terms, const cog_term *terms,
                            const void **payload, size_t *bytes) {
    COG_CHECK(c->residual != NULL, COG_ERR_ARGUMENT,
              "the receiving end of a channel packs nothing");
    COG_CHECK(c->lost == COG_OK, c->lost, "the last message was not taken down");
    COG_CHECK(n_terms >= 0 && n_terms < COG_MAX_TERMS, COG_ERR_ARGUMENT,
              "%d terms are not between 0 and %d", n_terms, COG_MAX_TERMS - 1);
    cog_term all[COG_MAX_TERMS + 1];
    if (n_terms > 0) memcpy(all, terms, (size_t)n_terms * sizeof(*all));
    c->pending = false;
    COG_TRY(settle_state(c));
    c->ahead = true;
    if (packs_on_host(c))
        COG_TRY(pack_on_host(c, n_terms, all, payload, &c->bytes));
    else if (c->mirror != NULL)
        COG_TRY(pack_surprise(c, n_terms, all, payload, &c->bytes));
    else
        COG_TRY(pack_on_device(c, n_terms, all, payload, &c->bytes));
    c->pending = true;
    *bytes = c->bytes;
    return COG_OK;
}

const float *cog_channel_error(const cog_channel *c) { return c->error; }
