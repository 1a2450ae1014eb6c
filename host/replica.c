/* replica.c - decode and step in one pass. */
#include "replica.h"

#include <stdlib.h>

#include "check.h"

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
};

static bool is_sparse(const cog_replica *r) {
    return r->quantizer.ops->positions != NULL && cog_optimizer_is_sparse(r->optimizer);
}

static cog_status allocate(cog_replica *r) {
    const int64_t n = cog_replica_n_params(r);
    COG_TRY(cog_device_zeros(r->device, n, &r->params));
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
    r->device = device;
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
    free(r->position);
    free(r);
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

cog_status cog_replica_apply(cog_replica *r, int64_t round, const cog_update *u) {
    if (u->n_messages == 0) return COG_OK;
    if (is_sparse(r)) return apply_sparse(r, round, u);
    const int64_t n = r->quantizer.n;
    for (int32_t block = 0; block < r->n_blocks; block++)
        for (int64_t first = 0; first < n; first += TILE)
            COG_TRY(apply_tile(r, round, u, block, first, n - first < TILE ? n - first : TILE));
    return COG_OK;
}

cog_status cog_replica_step(cog_replica *r, int64_t round, const float *gradient) {
    return cog_optimizer_step(r->optimizer, round, 0, cog_replica_n_params(r), gradient, r->params);
}
