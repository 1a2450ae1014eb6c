/* test_encoder.c - encoding given gradients and decoding the messages gives their sum. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cograd/cograd.h"
#include "rng.h"

enum { WORKERS = 8, MAX_MESSAGES = 64 };

#define OK(call) cr_assert_eq((call), COG_OK, "%s: %s", #call, cog_last_error())

static const char *const codes[] = {
    "uncoded",     "frc:stragglers=1", "crc:stragglers=2", "ye-abbe:stragglers=1,blocks=2",
    "replication", "lwpd:weight=2",    "kasync:k=8",       "acgc:construction=2",
    "stochastic"};

static float *random_floats(int64_t n) {
    float *x = malloc((size_t)n * sizeof(*x));
    cog_rng rng = cog_rng_make(3, COG_STREAM_TEST, 0, 0);
    for (int64_t i = 0; i < n; i++) x[i] = (float)cog_rng_normal(&rng);
    return x;
}

/* ||a - b||^2 / ||b||^2 */
static double difference(const double *a, const double *b, int64_t n) {
    double error = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        error += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
    }
    return error / size;
}

/* The gradient of every block out of all messages, by the code's own weights. */
static double *decoded(const cog_code *code, int64_t length, const float *message) {
    const cog_plan *plan = cog_code_plan(code);
    uint8_t arrived[MAX_MESSAGES];
    memset(arrived, 1, sizeof(arrived));
    const cog_arrivals arrivals = {
        .n_messages = plan->n_messages, .n_arrived = plan->n_messages, .arrived = arrived};
    cog_decoding d = {.capacity = cog_code_max_terms(code)};
    d.terms = malloc((size_t)d.capacity * sizeof(*d.terms));
    double *gradient = calloc((size_t)(plan->n_blocks * length), sizeof(*gradient));
    OK(cog_code_decode(code, &arrivals, &d));
    for (int32_t t = 0; t < d.count; t++)
        for (int64_t i = 0; i < length; i++)
            gradient[d.terms[t].block * length + i] +=
                d.terms[t].weight * message[d.terms[t].message * length + i];
    free(d.terms);
    return gradient;
}

static double *summed(const cog_plan *plan, int64_t length, const float *parts) {
    double *gradient = calloc((size_t)(plan->n_blocks * length), sizeof(*gradient));
    for (int32_t shard = 0; shard < plan->n_shards; shard++)
        for (int64_t i = 0; i < plan->n_blocks * length; i++)
            gradient[i] += parts[shard * plan->n_blocks * length + i];
    return gradient;
}

static void check_code(const char *spec, int64_t length) {
    cog_code *code;
    cog_device *device;
    cog_encoder *encoder;
    OK(cog_code_create(spec, WORKERS, &code));
    OK(cog_device_open("cpu", &device));
    const cog_plan *plan = cog_code_plan(code);
    cr_assert_leq(plan->n_messages, MAX_MESSAGES);
    float *parts = random_floats(plan->n_shards * plan->n_blocks * length);
    float *message = malloc((size_t)(plan->n_messages * length) * sizeof(*message));
    memset(message, 0xff, (size_t)(plan->n_messages * length) * sizeof(*message));
    OK(cog_encoder_create(code, device, length, parts, message, &encoder));
    for (int again = 0; again < 2; again++) OK(cog_encoder_run(encoder));
    double *got = decoded(code, length, message), *expected = summed(plan, length, parts);
    const double error = difference(got, expected, plan->n_blocks * length);
    cr_assert(error <= 1e-10, "%s, parts of %ld: error %g", spec, length, error);
    cog_encoder_destroy(encoder);
    cog_device_close(device);
    cog_code_destroy(code);
    free(parts), free(message), free(got), free(expected);
}

Test(encoder, decoding_what_was_encoded_gives_the_sum_over_shards) {
    static const int64_t lengths[] = {1, 33, 4096, 10007};
    for (size_t c = 0; c < sizeof(codes) / sizeof(*codes); c++)
        for (size_t l = 0; l < sizeof(lengths) / sizeof(*lengths); l++)
            check_code(codes[c], lengths[l]);
}

Test(encoder, a_part_without_numbers_is_refused) {
    cog_code *code;
    cog_device *device;
    cog_encoder *encoder = NULL;
    OK(cog_code_create("uncoded", WORKERS, &code));
    OK(cog_device_open("cpu", &device));
    cr_assert_eq(cog_encoder_create(code, device, 0, NULL, NULL, &encoder), COG_ERR_ARGUMENT);
    cr_assert_null(encoder);
    cog_encoder_destroy(NULL);
    cog_device_close(device);
    cog_code_destroy(code);
}
