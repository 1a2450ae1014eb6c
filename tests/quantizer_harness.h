/* quantizer_harness.h - one quantizer on the CPU with all the memory it needs, poisoned. */
#ifndef COG_TESTS_QUANTIZER_HARNESS_H
#define COG_TESTS_QUANTIZER_HARNESS_H

#include <criterion/criterion.h>

#include "channel.h"
#include "quantizer_reference.h"

static inline cog_device *open_cpu(void) {
    cog_device *device;
    cr_assert_eq(cog_device_open("cpu", &device), COG_OK, "%s", cog_last_error());
    return device;
}

static inline cog_quantizer configured(const char *text, int64_t n) {
    cog_spec spec;
    cog_quantizer q;
    cr_assert_eq(cog_spec_parse(text, &spec), COG_OK);
    cr_assert_eq(cog_quantizer_configure(&spec, n, &q), COG_OK, "%s", cog_last_error());
    return q;
}

/* Everything one pack needs; payload and vectors are poisoned and end where their memory ends. */
typedef struct bench {
    cog_quantizer q;
    cog_device *device;
    unsigned char *payload;
    void *state, *scratch;
    float *memory, *residual; /* residual lies `shift` floats into memory */
} bench;

static inline bench set_up(const cog_quantizer *q, cog_device *device, int shift) {
    bench b = {.q = *q, .device = device};
    b.payload = malloc(q->ops->payload_bytes(q) + 1);
    b.scratch = malloc(cog_quantizer_scratch_bytes(q, NULL) + 1);
    b.state = calloc(cog_quantizer_state_bytes(q) + 1, 1);
    memset(b.payload, 0xa5, q->ops->payload_bytes(q) + 1);
    memset(b.scratch, 0x5a, cog_quantizer_scratch_bytes(q, NULL) + 1);
    const size_t bytes = ((size_t)(q->n + shift) * 4 + 64) / 64 * 64;
    b.memory = aligned_alloc(64, bytes);
    memset(b.memory, 0xff, bytes);
    b.residual = b.memory + shift;
    return b;
}

static inline void tear_down(bench *b) {
    free(b->payload);
    free(b->state);
    free(b->scratch);
    free(b->memory);
}

static inline size_t pack(bench *b, int n_terms, const cog_term *terms) {
    const cog_quantizer *q = &b->q;
    cr_assert_eq(q->ops->on[COG_CPU]->pack(q, b->device, n_terms, terms, b->residual, b->state,
                                           b->scratch, b->payload),
                 COG_OK);
    cr_assert_eq(b->payload[q->ops->payload_bytes(q)], 0xa5, "payload overrun");
    return cog_quantizer_used_bytes(q, b->payload);
}

static inline void decode(const cog_quantizer *q, cog_device *device, const void *payload,
                          float weight, int64_t first, int64_t count, float *y) {
    cr_assert_eq(q->ops->on[COG_CPU]->add(q, device, payload, weight, first, count, y), COG_OK);
}

/* One sentence of a format, and bits of a payload that break it when they are flipped. */
typedef struct format_rule {
    const char *sentence;
    uint32_t *word, flip;
} format_rule;

/* Edits that keep the length: each breaks one sentence, and taken back leaves all of them whole. */
static inline void expect_rules(const bench *b, size_t bytes, const format_rule *rules, int n) {
    const cog_quantizer *q = &b->q;
    cr_assert_eq(q->ops->check(q, b->payload, bytes), COG_OK);
    for (int i = 0; i < n; i++) {
        *rules[i].word ^= rules[i].flip;
        cr_expect_eq(q->ops->check(q, b->payload, bytes), COG_ERR_FORMAT, "%s", rules[i].sentence);
        *rules[i].word ^= rules[i].flip;
        cr_assert_eq(q->ops->check(q, b->payload, bytes), COG_OK);
    }
}

#endif
