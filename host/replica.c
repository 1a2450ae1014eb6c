/* replica.c - decode and step in one pass. */
#include "replica.h"

#include <stdlib.h>

#include "check.h"
#include "kernels.h"
#include "range.h"
#include "staging.h"

/* Floats of one tile: gradient and parameters of a tile stay in the first-level cache. */
enum { TILE = COG_ADD_ALIGN };

struct cog_replica {
    cog_quantizer quantizer;
    const cog_quantizer_kernels *kernels;
    cog_optimizer *optimizer;
    cog_device *device;
    int32_t n_blocks;
    float *params;     /* [n_blocks * n] */
    float *gradient;   /* sparse: [n_blocks * n], zero between rounds; dense: one tile */
    int64_t *position; /* sparse: [max_positions] */

    /* where the device decodes, instead of the last two */
    cog_staging staging;
    uint16_t *bf16; /* [n_blocks * n] the parameters rounded, or NULL */
    bool is_rounded;
};

static bool device_decodes(const cog_replica *r) { return r->device->ops->decode != NULL; }

static bool is_sparse(const cog_replica *r) {
    return r->quantizer.ops->positions != NULL && cog_optimizer_is_sparse(r->optimizer);
}

static cog_status allocate(cog_replica *r) {
    const int64_t n = cog_replica_n_params(r);
    COG_TRY(cog_device_zeros(r->device, n, &r->params));
    if (device_decodes(r)) return COG_OK;
    COG_TRY(cog_device_zeros(r->device, is_sparse(r) ? n : TILE, &r->gradient));
    if (!is_sparse(r)) return COG_OK;
    const int64_t room = r->quantizer.ops->max_positions(&r->quantizer);
    r->position = malloc(((size_t)room + 1) * sizeof(*r->position));
    COG_CHECK(r->position != NULL, COG_ERR_MEMORY, "no memory for %lld positions", (long long)room);
    return COG_OK;
}

cog_status cog_replica_open(const char *optimizer, const cog_quantizer *quantizer,
                            cog_device *device, int32_t n_blocks, cog_replica **out) {
    cog_replica *r = calloc(1, sizeof(*r));
    COG_CHECK(r != NULL, COG_ERR_MEMORY, "no memory for a replica");
    r->quantizer = *quantizer;
    r->kernels = quantizer->ops->on[cog_device_kind_of(device)];
    r->device = r->staging.device = device;
    r->n_blocks = n_blocks;
    cog_status status =
        cog_optimizer_open(optimizer, device, n_blocks * quantizer->n, &r->optimizer);
    if (status == COG_OK) status = allocate(r);
    if (status != COG_OK) {
        cog_replica_close(r);
        return status;
    }
    *out = r;
    return COG_OK;
}

void cog_replica_close(cog_replica *r) {
    if (r == NULL) return;
    cog_optimizer_close(r->optimizer);
    cog_device_free(r->device, r->params);
    cog_device_free(r->device, r->gradient);
    cog_device_free(r->device, r->bf16);
    if (r->device != NULL) cog_staging_free(&r->staging);
    free(r->position);
    free(r);
}

cog_status cog_replica_reserve(cog_replica *r, int32_t n_messages, int32_t n_terms) {
    if (!device_decodes(r)) return COG_OK;
    return cog_staging_reserve(&r->staging, r->n_blocks, n_messages, n_terms,
                               r->quantizer.ops->payload_bytes(&r->quantizer));
}

float *cog_replica_params(cog_replica *r) { return r->params; }
int64_t cog_replica_n_params(const cog_replica *r) { return r->n_blocks * r->quantizer.n; }
cog_optimizer *cog_replica_optimizer(cog_replica *r) { return r->optimizer; }

/* Two scatters over the touched positions: sum, then step. */
static cog_status apply_sparse(cog_replica *r, int64_t round, const cog_update *u) {
    const cog_quantizer *q = &r->quantizer;
    for (int i = 0; i < u->n_messages; i++) {
        const cog_update_message *m = &u->messages[i];
        const cog_update_term *terms = u->terms + m->first_term;
        for (int t = 0; t < m->n_terms; t++)
            COG_TRY(r->kernels->add(q, r->device, m->payload, terms[t].weight, 0, q->n,
                                    r->gradient + terms[t].block * q->n));
    }
    for (int i = 0; i < u->n_messages; i++) {
        const cog_update_message *m = &u->messages[i];
        const int64_t count = q->ops->positions(q, m->payload, r->position);
        for (int t = 0; t < m->n_terms; t++) {
            const int64_t block = u->terms[m->first_term + t].block * q->n;
            cog_optimizer_step_at(r->optimizer, round, count, r->position, r->gradient + block,
                                  r->params + block);
        }
    }
    return COG_OK;
}

static cog_status apply_tile(cog_replica *r, int64_t round, const cog_update *u, int32_t block,
                             int64_t first, int64_t count) {
    COG_TRY(r->device->ops->fill(r->device, 0, r->gradient, count));
    for (int i = 0; i < u->n_messages; i++) {
        const cog_update_message *m = &u->messages[i];
        const cog_update_term *terms = u->terms + m->first_term;
        for (int t = 0; t < m->n_terms; t++)
            if (terms[t].block == block)
                COG_TRY(r->kernels->add(&r->quantizer, r->device, m->payload, terms[t].weight,
                                        first, count, r->gradient));
    }
    return cog_optimizer_step(r->optimizer, round, block * r->quantizer.n + first, count,
                              r->gradient, r->params);
}

static cog_status apply_tiles(cog_replica *r, int64_t round, const cog_update *u) {
    const int64_t n = r->quantizer.n;
    for (int32_t block = 0; block < r->n_blocks; block++)
        for (int64_t first = 0; first < n; first += TILE)
            COG_TRY(apply_tile(r, round, u, block, first, n - first < TILE ? n - first : TILE));
    return COG_OK;
}

/* Along the messages of an update or, without one, a gradient. */
static cog_status step_on_device(cog_replica *r, int64_t round, const cog_update *u,
                                 const float *gradient) {
    cog_kernel_decode work = {.n_blocks = r->n_blocks,
                              .gradient = gradient,
                              .params = r->params,
                              .state = cog_optimizer_state(r->optimizer),
                              .bf16 = r->bf16};
    r->quantizer.ops->format(&r->quantizer, &work.format);
    cog_optimizer_coefficients(r->optimizer, round, &work.step);
    if (u != NULL) COG_TRY(COG_IN_RANGE("transfer", cog_staging_put(&r->staging, u, &work)));
    r->is_rounded = r->bf16 != NULL;
    return COG_IN_RANGE("update", r->device->ops->decode(r->device, &work));
}

cog_status cog_replica_apply(cog_replica *r, int64_t round, const cog_update *u) {
    if (u->n_messages == 0) return COG_OK;
    if (device_decodes(r)) return step_on_device(r, round, u, NULL);
    return is_sparse(r) ? apply_sparse(r, round, u) : apply_tiles(r, round, u);
}

cog_status cog_replica_step(cog_replica *r, int64_t round, const float *gradient) {
    if (device_decodes(r)) return step_on_device(r, round, NULL, gradient);
    return cog_optimizer_step(r->optimizer, round, 0, cog_replica_n_params(r), gradient, r->params);
}

/* ---------------------------------------------------------------- bf16 */

static size_t bf16_bytes(const cog_replica *r) {
    return (size_t)cog_replica_n_params(r) * sizeof(uint16_t);
}

/* Host memory needs no copy between: what is rounded goes where it is wanted. */
cog_status cog_replica_keep_bf16(cog_replica *r) {
    if (!device_decodes(r) || r->bf16 != NULL) return COG_OK;
    void *memory;
    COG_TRY(r->device->ops->alloc(r->device, bf16_bytes(r), &memory));
    r->bf16 = memory;
    return COG_OK;
}

cog_status cog_replica_read_bf16(cog_replica *r, uint16_t *out) {
    const cog_device_ops *ops = r->device->ops;
    const int64_t n = cog_replica_n_params(r);
    if (!device_decodes(r)) return ops->to_bf16(r->device, r->params, out, n);
    COG_TRY(cog_replica_keep_bf16(r));
    if (!r->is_rounded) COG_TRY(ops->to_bf16(r->device, r->params, r->bf16, n));
    r->is_rounded = true;
    return ops->download(r->device, out, r->bf16, bf16_bytes(r));
}

cog_status cog_replica_write_bf16(cog_replica *r, const uint16_t *values) {
    const cog_device_ops *ops = r->device->ops;
    const int64_t n = cog_replica_n_params(r);
    if (!device_decodes(r)) return ops->from_bf16(r->device, values, r->params, n);
    COG_TRY(cog_replica_keep_bf16(r));
    COG_TRY(ops->upload(r->device, r->bf16, values, bf16_bytes(r)));
    r->is_rounded = true;
    return ops->from_bf16(r->device, r->bf16, r->params, n);
}

void cog_replica_changed(cog_replica *r) { r->is_rounded = false; }
