/* engine_rig.h - a small problem, a small configuration, and runs of it. */
#ifndef COG_TESTS_ENGINE_RIG_H
#define COG_TESTS_ENGINE_RIG_H

#include <stdlib.h>

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

/* Parameters after n_rounds; the caller frees them. */
static inline float *params_after(const cog_engine_config *c, int64_t n_rounds,
                                  cog_report *report) {
    cog_engine *e = open_engine(c);
    cr_assert_eq(cog_engine_run(e, n_rounds, NULL, NULL), COG_OK, "%s over %s: %s", c->code,
                 c->transport, cog_last_error());
    const int64_t n = cog_engine_n_params(e);
    float *params = malloc((size_t)n * sizeof(float));
    cr_assert_eq(cog_engine_get_params(e, params, n), COG_OK);
    if (report != NULL) *report = cog_engine_report(e);
    cog_engine_destroy(e);
    return params;
}

#endif
