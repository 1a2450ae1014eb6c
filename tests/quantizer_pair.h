/* quantizer_pair.h - one sender's quantizer on two devices: the CPU, which is the meaning, and the
 * GPU, whose payload, residual and state must hold the same bytes.
 *
 * Everything goes through the quantizers' tables, so one source runs on the SIMT executor, which
 * demands that what is read was written, and on a GPU. */
#ifndef COG_TESTS_QUANTIZER_PAIR_H
#define COG_TESTS_QUANTIZER_PAIR_H

#include "kernel_bench.h"

#include <stdio.h>

#include "compress.h"
#include "quantizer_reference.h"

#ifdef COG_WITH_SIMT
static const char *const device_name = "simt";
#else
static const char *const device_name = "cuda";
#endif

enum { MAX_TERMS = 5 };
static const float coefficients[MAX_TERMS] = {1.0f, -0.625f, 0.3f, 1.5f, -2.0f};

static inline cog_device *opened(const char *name) {
    cog_device *device = NULL;
    cr_assert_eq(cog_device_open(name, &device), COG_OK, "%s", cog_last_error());
    return device;
}

static inline cog_quantizer configured(const char *text, int64_t n) {
    cog_spec spec;
    cog_quantizer q;
    cr_assert_eq(cog_spec_parse(text, &spec), COG_OK);
    cr_assert_eq(cog_quantizer_configure(&spec, n, &q), COG_OK, "%s", cog_last_error());
    return q;
}

static inline bool has_state(const char *spec) {
    return strstr(spec, "threshold") != NULL || strstr(spec, "sgd") != NULL;
}

/* ---- one sender on both devices -------------------------------------------------------------- */

typedef struct sender {
    cog_quantizer q;
    size_t payload_bytes, state_bytes;
    int n_terms; /* the last is the residual itself when in_place */
    bool in_place;
    float *x[MAX_TERMS], *residual; /* host */
    unsigned char *payload, *state;
    void *scratch;
    device_vector dx[MAX_TERMS], d_residual, d_payload, d_state, d_scratch;
} sender;

/* Vector t lies offset + t * step entries behind a 256-byte boundary, the payload as many words as
 * the residual. */
static inline sender sender_make(const char *spec, int64_t n, int n_terms, bool in_place,
                                 int offset, int step) {
    sender s = {.q = configured(spec, n), .n_terms = n_terms};
    const cog_quantizer_ops *ops = s.q.ops;
    s.in_place = in_place && n_terms > 0;
    s.payload_bytes = ops->payload_bytes(&s.q);
    s.state_bytes = cog_quantizer_state_bytes(&s.q);
    s.payload = malloc(s.payload_bytes + 1);
    s.state = calloc(s.state_bytes + 1, 1);
    s.scratch = malloc(cog_quantizer_scratch_bytes(&s.q, NULL) + 1);
    s.residual = ref_alloc(n, 4);
    for (int t = 0; t < n_terms; t++) {
        s.x[t] = ref_alloc(n, 4);
        s.dx[t] = device_vector_make(n, 4, offset + t * step);
    }
    s.d_residual = device_vector_make(n, 4, offset);
    s.d_payload = device_vector_make((int64_t)s.payload_bytes, 1, 4 * offset);
    s.d_state = device_vector_make((int64_t)s.state_bytes, 1, 0);
    const size_t scratch = cog_quantizer_scratch_bytes(&s.q, ops->on[COG_CUDA]);
    s.d_scratch = device_vector_make((int64_t)scratch, 1, 0);
    CUDA_OK(cudaMemset(s.d_scratch.at, 0, scratch));
    CUDA_OK(cudaMemset(s.d_state.at, 0, s.state_bytes));
    return s;
}

static inline void sender_free(sender *s) {
    for (int t = 0; t < s->n_terms; t++) device_vector_free(s->dx[t]), free(s->x[t]);
    device_vector_free(s->d_residual), device_vector_free(s->d_payload);
    device_vector_free(s->d_state), device_vector_free(s->d_scratch);
    free(s->payload), free(s->state), free(s->scratch), free(s->residual);
}

static inline void upload(device_vector to, const float *from) {
    CUDA_OK(cudaMemcpy(to.at, from, to.bytes, cudaMemcpyHostToDevice));
}

/* New terms: the first of the kind, the others normal, or zero so that the sum is of the kind. The
 * residual of the last message stays where it is a term. */
static inline void sender_fill(sender *s, int input, bool pure, uint32_t stream) {
    const int n_vectors = s->n_terms - s->in_place;
    for (int t = 0; t < n_vectors; t++) {
        memset(s->x[t], 0, (size_t)s->q.n * 4);
        if (t == 0 || !pure)
            ref_fill(t == 0 ? input : IN_NORMAL, 8 * stream + (uint32_t)t, s->x[t], s->q.n);
        upload(s->dx[t], s->x[t]);
    }
    if (s->in_place && stream == 0) {
        if (n_vectors == 0 || !pure)
            ref_fill(n_vectors == 0 ? input : IN_NORMAL, 7, s->residual, s->q.n);
        upload(s->d_residual, s->residual);
    } else if (!s->in_place) {
        device_vector_poison(s->d_residual);
    }
    device_vector_poison(s->d_payload);
}

static inline void pack_on_gpu(sender *s, cog_device *gpu) {
    cog_term terms[MAX_TERMS];
    for (int t = 0; t < s->n_terms; t++) terms[t] = (cog_term){s->dx[t].at, coefficients[t]};
    if (s->in_place) terms[s->n_terms - 1].x = s->d_residual.at;
    const cog_quantizer_kernels *on = s->q.ops->on[COG_CUDA];
    CUDA_OK(cudaDeviceSynchronize()); /* the device has a stream of its own */
    cr_assert_eq(on->pack(&s->q, gpu, s->n_terms, terms, s->d_residual.at, s->d_state.at,
                          s->d_scratch.at, s->d_payload.at),
                 COG_OK, "%s", cog_last_error());
    cr_assert_eq(cog_device_sync(gpu), COG_OK, "%s", cog_last_error());
}

static inline void pack_on_cpu(sender *s, cog_device *cpu) {
    cog_term terms[MAX_TERMS];
    for (int t = 0; t < s->n_terms; t++) terms[t] = (cog_term){s->x[t], coefficients[t]};
    if (s->in_place) terms[s->n_terms - 1].x = s->residual;
    cr_assert_eq(s->q.ops->on[COG_CPU]->pack(&s->q, cpu, s->n_terms, terms, s->residual, s->state,
                                             s->scratch, s->payload),
                 COG_OK, "%s", cog_last_error());
}

static inline size_t first_difference(const void *a, const void *b, size_t bytes) {
    const unsigned char *x = a, *y = b;
    size_t i = 0;
    while (i < bytes && x[i] == y[i]) i++;
    return i;
}

/* `used` bytes of a payload: the rest was perhaps never written. */
static inline unsigned char *read_payload(const sender *s, size_t used) {
    unsigned char *got = malloc(used + 1);
    CUDA_OK(cudaMemcpy(got, s->d_payload.at, used, cudaMemcpyDeviceToHost));
    return got;
}

static inline void check_guards(device_vector v) {
    unsigned char guard[GUARD];
    CUDA_OK(cudaMemcpy(guard, (char *)v.at + v.bytes, GUARD, cudaMemcpyDeviceToHost));
    for (int i = 0; i < GUARD; i++) cr_assert_eq(guard[i], GUARD_BYTE, "byte %d behind", i);
    CUDA_OK(cudaMemcpy(guard, (char *)v.at - 4, 4, cudaMemcpyDeviceToHost));
    for (int i = 0; i < 4; i++) cr_assert_eq(guard[i], GUARD_BYTE, "byte %d before", 4 - i);
}

static inline void compare(const sender *s, const char *what) {
    const size_t used = cog_quantizer_used_bytes(&s->q, s->payload);
    unsigned char *payload = read_payload(s, used);
    const size_t at = first_difference(payload, s->payload, used);
    cr_assert_eq(at, used, "%s: payload differs in byte %zu of %zu", what, at, used);
    check_guards(s->d_payload);
    unsigned char *residual = device_vector_read(s->d_residual);
    const size_t bytes = (size_t)s->q.n * 4, there = first_difference(residual, s->residual, bytes);
    cr_assert_eq(there, bytes, "%s: residual differs in entry %zu", what, there / 4);
    unsigned char *state = device_vector_read(s->d_state);
    cr_assert_eq(memcmp(state, s->state, s->state_bytes), 0, "%s: state", what);
    free(payload), free(residual), free(state);
}

/* What a case is called in a complaint. */
static const char *named(const char *spec, int64_t n, int n_terms, int input, int offset, int step,
                         bool in_place, int round) {
    static char text[200];
    snprintf(text, sizeof(text), "%s, n=%lld, %d terms%s, %s, offsets %d + %d t, message %d", spec,
             (long long)n, n_terms, in_place ? " in place" : "", ref_input_name[input], offset,
             step, round);
    return text;
}

/* What both decode to, for a part of the message that begins at a tile. */
static inline void compare_adds(const sender *s, cog_device *cpu, cog_device *gpu,
                                const char *what) {
    const cog_quantizer_ops *ops = s->q.ops;
    const int64_t first = s->q.n > 4096 ? 4096 : 0, left = s->q.n - first;
    const int64_t count = left > 50 ? left - 3 : left;
    float *y = ref_alloc(count, 4);
    ref_fill(IN_NORMAL, 3, y, count);
    const device_vector dy = device_vector_make(count, 4, (int)(s->q.n % 4));
    upload(dy, y);
    CUDA_OK(cudaDeviceSynchronize());
    cr_assert_eq(ops->on[COG_CPU]->add(&s->q, cpu, s->payload, -0.7f, first, count, y), COG_OK);
    cr_assert_eq(ops->on[COG_CUDA]->add(&s->q, gpu, s->d_payload.at, -0.7f, first, count, dy.at),
                 COG_OK);
    cr_assert_eq(cog_device_sync(gpu), COG_OK, "%s", cog_last_error());
    unsigned char *got = device_vector_read(dy);
    int64_t n_wrong = 0;
    for (int64_t i = 0; i < count; i++) {
        const float there = ((const float *)(const void *)got)[i];
        n_wrong += isnan(y[i]) ? !isnan(there) : ref_bits(y[i]) != ref_bits(there);
    }
    cr_assert_eq(n_wrong, 0, "%s: %lld sums differ", what, (long long)n_wrong);
    device_vector_free(dy);
    free(got), free(y);
}

static inline void check_case(cog_device *cpu, cog_device *gpu, const char *spec, int64_t n,
                              int n_terms, int input, int offset, int step, bool in_place) {
    const bool pure = (n + n_terms) % 2 == 0;
    sender s = sender_make(spec, n, n_terms, in_place, offset, step);
    const int n_messages = has_state(spec) ? 4 : in_place ? 2 : 1;
    for (int message = 0; message < n_messages; message++) {
        sender_fill(&s, input, pure, (uint32_t)message);
        pack_on_cpu(&s, cpu);
        pack_on_gpu(&s, gpu);
        const char *what = named(spec, n, n_terms, input, offset, step, in_place, message);
        compare(&s, what);
        if (message == 0) compare_adds(&s, cpu, gpu, what);
    }
    sender_free(&s);
}

#endif
