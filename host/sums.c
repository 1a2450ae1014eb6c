/* sums.c - see sums.h. Everything lies in host memory; devices decode the dense result. */
#include "sums.h"

#include <stdlib.h>

#include "check.h"

struct cog_sums {
    cog_quantizer quantizer;
    int32_t n_blocks;
    cog_update update;
    float **sum;   /* [n_blocks][n] */
    void **memory; /* [n_blocks] what the decoder remembers */
    void *scratch;
    const void **payload; /* [n_rows] of one block */
    float *weight;        /* [n_rows] */
};

static cog_status allocate(cog_sums *s, int32_t n_rows) {
    const cog_quantizer *q = &s->quantizer;
    const size_t blocks = (size_t)s->n_blocks, rows = (size_t)n_rows;
    s->sum = calloc(blocks, sizeof(*s->sum));
    s->memory = calloc(blocks, sizeof(*s->memory));
    s->scratch = calloc(1, cog_quantizer_scratch_bytes(q, NULL) + 1);
    s->payload = calloc(rows + 1, sizeof(*s->payload));
    s->weight = calloc(rows + 1, sizeof(*s->weight));
    COG_CHECK(s->sum && s->memory && s->scratch && s->payload && s->weight, COG_ERR_MEMORY,
              "no memory to sum messages of %lld entries", (long long)q->n);
    for (size_t b = 0; b < blocks; b++) {
        s->sum[b] = calloc((size_t)q->n + 1, sizeof(float));
        s->memory[b] = calloc(1, cog_quantizer_memory_bytes(q) + 1);
        COG_CHECK(s->sum[b] && s->memory[b], COG_ERR_MEMORY,
                  "no memory to sum messages of %lld entries", (long long)q->n);
    }
    return COG_OK;
}

cog_status cog_sums_open(const cog_quantizer *quantizer, int32_t n_blocks, int32_t n_rows,
                         cog_sums **out) {
    cog_sums *s = calloc(1, sizeof(*s));
    COG_CHECK(s != NULL, COG_ERR_MEMORY, "no memory for sums");
    s->quantizer = *quantizer;
    s->n_blocks = n_blocks;
    const cog_status status = allocate(s, n_rows);
    if (status != COG_OK) {
        cog_sums_close(s);
        return status;
    }
    *out = s;
    return COG_OK;
}

void cog_sums_close(cog_sums *s) {
    if (s == NULL) return;
    for (int32_t b = 0; b < s->n_blocks; b++) {
        if (s->sum != NULL) free(s->sum[b]);
        if (s->memory != NULL) free(s->memory[b]);
    }
    free(s->sum);
    free(s->memory);
    free(s->scratch);
    free(s->payload);
    free(s->weight);
    cog_update_free(&s->update);
    free(s);
}

/* The messages that speak of a block, each once. */
static int gather(cog_sums *s, const cog_update *in, int32_t block) {
    int n = 0;
    for (int i = 0; i < in->n_messages; i++) {
        const cog_update_message *m = &in->messages[i];
        const cog_update_term *terms = in->terms + m->first_term;
        bool found = false;
        float weight = 0;
        for (int t = 0; t < m->n_terms; t++) {
            if (terms[t].block != block) continue;
            weight += terms[t].weight;
            found = true;
        }
        if (!found) continue;
        s->payload[n] = m->payload;
        s->weight[n++] = weight;
    }
    return n;
}

cog_status cog_sums_decode(cog_sums *s, const cog_update *in, const cog_update **out) {
    const cog_quantizer *q = &s->quantizer;
    cog_update_clear(&s->update);
    for (int32_t block = 0; block < s->n_blocks; block++) {
        const int n = gather(s, in, block);
        if (n == 0) continue;
        COG_TRY(q->ops->aggregate(q, n, s->payload, s->weight, s->memory[block], s->scratch,
                                  s->sum[block]));
        COG_TRY(
            cog_update_message_add(&s->update, block, s->sum[block], (size_t)q->n * sizeof(float)));
        COG_TRY(cog_update_term_add(&s->update, block, 1));
    }
    *out = &s->update;
    return COG_OK;
}

void *cog_sums_memory(cog_sums *s, int32_t block, size_t *bytes) {
    *bytes = cog_quantizer_memory_bytes(&s->quantizer);
    return s->memory[block];
}
