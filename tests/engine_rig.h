/* engine_rig.h - a small problem, a small configuration, and runs of it. */
#ifndef COG_TESTS_ENGINE_RIG_H
#define COG_TESTS_ENGINE_RIG_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cograd/cograd.h"
#include "harness.h"

static cog_dataset *train_part, *test_part;

/* Opened once for all tests of the process. */
static inline const cog_dataset *data(void) {
    if (train_part == NULL)
        cr_assert_eq(cog_dataset_open("synthetic:rows=480,features=12,classes=3,seed=5",
                                      &train_part, &test_part),
                     COG_OK, "%s", cog_last_error());
    return train_part;
}

static inline cog_engine_config small(void) {
    cog_engine_config c = cog_engine_config_default();
    c.train = data();
    c.model = "mlp:hidden=8";
    c.batch = 16;
    c.transport = "sim:threads=1";
    c.code = "lwpd:weight=2,wait=8";
    c.channel = "identity";
    c.report_every = 5;
    c.timeout = 20;
    return c;
}

static inline cog_engine *open_engine(const cog_engine_config *c) {
    cog_engine *e = NULL;
    cr_assert_eq(cog_engine_create(c, &e), COG_OK, "%s: %s", c->code, cog_last_error());
    return e;
}

static inline int64_t n_params_of(const cog_engine_config *c) {
    cog_engine *e = open_engine(c);
    const int64_t n = cog_engine_n_params(e);
    cog_engine_destroy(e);
    return n;
}

static inline cog_engine *engine_after(const cog_engine_config *c, int64_t n_rounds) {
    cog_engine *e = open_engine(c);
    cr_assert_eq(cog_engine_run(e, n_rounds, NULL, NULL), COG_OK, "%s, %s over %s: %s", c->code,
                 c->channel, c->transport, cog_last_error());
    return e;
}

/* Parameters after n_rounds; the caller frees them. report may be NULL. */
static inline float *params_after(const cog_engine_config *c, int64_t n_rounds,
                                  cog_report *report) {
    cog_engine *e = engine_after(c, n_rounds);
    const int64_t n = cog_engine_n_params(e);
    float *params = malloc((size_t)n * sizeof(float));
    cr_assert_eq(cog_engine_get_params(e, params, n), COG_OK);
    if (report != NULL) *report = cog_engine_report(e);
    cog_engine_destroy(e);
    return params;
}

/* Loss over the training data after n_rounds. report may be NULL. */
static inline double loss_after(const cog_engine_config *c, int64_t n_rounds, cog_report *report) {
    cog_engine *e = engine_after(c, n_rounds);
    double loss, accuracy;
    cr_assert_eq(cog_engine_evaluate(e, data(), &loss, &accuracy), COG_OK);
    if (report != NULL) *report = cog_engine_report(e);
    cog_engine_destroy(e);
    return loss;
}

/* Parameters x, which are freed, and counts of a run of real ranks are those of virtual time.
 * `most` is the largest difference allowed; 0: the same bits. */
static inline void expect_run_of_sim(const cog_engine_config *over, int64_t rounds, float *x,
                                     const cog_report *a, double most) {
    cog_report b;
    cog_engine_config sim = *over;
    sim.transport = "sim:threads=1";
    float *y = params_after(&sim, rounds, &b);
    const int64_t n = n_params_of(&sim);
    double worst = 0;
    for (int64_t i = 0; i < n; i++) worst = fmax(worst, fabs((double)x[i] - y[i]));
    cr_assert(most > 0 ? worst <= most : memcmp(x, y, (size_t)n * sizeof(float)) == 0,
              "%s, %s over %s on %s differ from sim by up to %g", over->code, over->channel,
              over->transport, over->device, worst);
    cr_assert_eq(a->bytes_up, b.bytes_up, "%s: %lld bytes up, %lld in sim", over->code,
                 (long long)a->bytes_up, (long long)b.bytes_up);
    cr_assert_eq(a->bytes_down, b.bytes_down);
    cr_assert_eq(a->messages_used, b.messages_used);
    free(x);
    free(y);
}

static inline void expect_same_run(const cog_engine_config *a, const cog_engine_config *b,
                                   int64_t rounds) {
    const int64_t n = n_params_of(a);
    float *x = params_after(a, rounds, NULL), *y = params_after(b, rounds, NULL);
    cr_expect_eq(memcmp(x, y, (size_t)n * sizeof(float)), 0,
                 "%s, %s: '%s' '%s' differs from '%s' '%s'", a->code, a->channel, a->transport,
                 a->downlink, b->transport, b->downlink);
    free(x);
    free(y);
}

#endif
