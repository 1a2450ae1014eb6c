/* encoder.c - messages over given gradients: by cuSPARSE on a GPU, elsewhere by sums of vectors, a
 * tile of the output at a time, so that it stays in the cache until all its terms are in. */
#include "cograd/encoder.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "code.h"
#include "device.h"

enum { TILE = 4096 };

struct cog_encoder {
    cog_device *device;
    int64_t length;
    const float *parts;
    float *out;
    int32_t n_messages;
    int32_t *row;  /* [n_messages + 1] */
    int32_t *part; /* [row[n_messages]] */
    float *coef;   /* [row[n_messages]] */
#ifdef COG_WITH_CUDA
    cog_cuda_spmm *product; /* of a GPU, instead of the lists above */
#endif
};

static cog_status copy_plan(cog_encoder *e, const cog_plan *plan) {
    const size_t n_terms = (size_t)plan->row[plan->n_messages];
    e->n_messages = plan->n_messages;
    e->row = malloc(((size_t)plan->n_messages + 1) * sizeof(*e->row));
    e->part = malloc((n_terms + 1) * sizeof(*e->part));
    e->coef = malloc((n_terms + 1) * sizeof(*e->coef));
    COG_CHECK(e->row && e->part && e->coef, COG_ERR_MEMORY, "no memory for an encoder");
    memcpy(e->row, plan->row, ((size_t)plan->n_messages + 1) * sizeof(*e->row));
    memcpy(e->part, plan->part, n_terms * sizeof(*e->part));
    for (size_t t = 0; t < n_terms; t++) e->coef[t] = (float)plan->coef[t];
    return COG_OK;
}

static cog_status open_on(cog_encoder *e, const cog_plan *plan) {
#ifdef COG_WITH_CUDA
    const cog_code_rows rows = {plan->n_messages, plan->n_shards * plan->n_blocks, plan->row,
                                plan->part, plan->coef};
    if (cog_device_kind_of(e->device) == COG_CUDA)
        return cog_cuda_spmm_create(e->device, &rows, e->length, e->parts, e->out, &e->product);
#endif
    return copy_plan(e, plan);
}

cog_status cog_encoder_create(const cog_code *code, cog_device *device, int64_t length,
                              const float *parts, float *out, cog_encoder **encoder) {
    COG_CHECK(length >= 1, COG_ERR_ARGUMENT, "a part of %" PRId64 " numbers cannot be encoded",
              length);
    COG_CHECK(!code->redraws, COG_ERR_UNSUPPORTED,
              "the coefficients of '%s' change from round to round", code->ops->name);
    cog_encoder *e = calloc(1, sizeof(*e));
    COG_CHECK(e != NULL, COG_ERR_MEMORY, "no memory for an encoder");
    *e = (cog_encoder){.device = device, .length = length, .parts = parts, .out = out};
    const cog_status status = open_on(e, &code->plan);
    if (status != COG_OK) {
        cog_encoder_destroy(e);
        return status;
    }
    *encoder = e;
    return COG_OK;
}

/* Entries first .. first + count - 1 of message m. */
static cog_status encode_tile(cog_encoder *e, int32_t m, int64_t first, int64_t count) {
    float *out = e->out + m * e->length + first;
    const int32_t begin = e->row[m], end = e->row[m + 1];
    if (begin == end) return e->device->ops->fill(e->device, 0, out, count);
    for (int32_t t = begin; t < end; t++)
        COG_TRY(e->device->ops->axpby(e->device, e->coef[t],
                                      e->parts + e->part[t] * e->length + first, t > begin, out,
                                      count));
    return COG_OK;
}

cog_status cog_encoder_run(cog_encoder *e) {
#ifdef COG_WITH_CUDA
    if (e->product != NULL) return cog_cuda_spmm_run(e->product);
#endif
    for (int32_t m = 0; m < e->n_messages; m++)
        for (int64_t first = 0; first < e->length; first += TILE)
            COG_TRY(encode_tile(e, m, first, e->length - first < TILE ? e->length - first : TILE));
    return COG_OK;
}

void cog_encoder_destroy(cog_encoder *e) {
    if (e == NULL) return;
#ifdef COG_WITH_CUDA
    cog_cuda_spmm_destroy(e->product);
#endif
    free(e->row);
    free(e->part);
    free(e->coef);
    free(e);
}
