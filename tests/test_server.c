/* test_server.c - runs that fail and go on, parameters set while workers are busy, and patience. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cograd/cograd.h"
#include "harness.h"

static cog_dataset *train_part, *test_part;

static cog_engine_config small(void) {
    if (train_part == NULL)
        cr_assert_eq(cog_dataset_open("synthetic:rows=240,features=12,classes=3,seed=5",
                                      &train_part, &test_part),
                     COG_OK, "%s", cog_last_error());
    cog_engine_config c = cog_engine_config_default();
    c.train = train_part;
    c.model = "mlp:hidden=8";
    c.optimizer = "sgd:rate=0.5";
    c.batch = 16;
    c.transport = "sim:threads=1";
    c.channel = "identity";
    c.report_every = 5;
    return c;
}

static cog_engine *open_engine(const cog_engine_config *c) {
    cog_engine *e = NULL;
    cr_assert_eq(cog_engine_create(c, &e), COG_OK, "%s: %s", c->code, cog_last_error());
    return e;
}

/* Whoever answered the round is not asked for it again, so a second attempt waits as the first. */
Test(server, a_round_that_timed_out_times_out_again) {
    static const char *const codes[] = {"lwpd:wait=7", "uncoded", "frc:stragglers=0"};
    static const char *const transports[] = {"sim:threads=1", "threads"};
    for (size_t i = 0; i < 6; i++) {
        cog_engine_config c = small();
        c.code = codes[i / 2];
        c.transport = transports[i % 2];
        c.stragglers = "dead:workers=2,at=3";
        c.timeout = 0.1;
        cog_engine *e = open_engine(&c);
        for (int attempt = 0; attempt < 3; attempt++)
            cr_expect_eq(cog_engine_run(e, 10, NULL, NULL), COG_ERR_TIMEOUT, "%s, attempt %d",
                         c.code, attempt);
        cog_engine_destroy(e);
    }
}

/* Worker 0 is 2 s late in one round, longer than the timeout: the run fails, and goes on when it is
 * asked to. In the end it is the run of a patient server, bit for bit. */
Test(server, a_run_that_timed_out_goes_on_where_it_was) {
    static const char *const codes[] = {"lwpd:wait=8", "uncoded"};
    char path[] = "/tmp/cograd-trace-XXXXXX", spec[64];
    const int file = mkstemp(path);
    cr_assert(file >= 0);
    FILE *trace = fdopen(file, "w");
    fputs("0 0 0 0 0 0 0 0\n0 0 0 0 0 0 0 0\n0 0 0 0 0 0 0 0\n2 0 0 0 0 0 0 0\n", trace);
    for (int i = 0; i < 16; i++) fputs("0 0 0 0 0 0 0 0\n", trace);
    fclose(trace);
    snprintf(spec, sizeof(spec), "trace:file=%s", path);
    for (size_t i = 0; i < 2; i++) {
        cog_engine_config c = small();
        c.code = codes[i];
        c.stragglers = spec;
        c.timeout = 60;
        cog_engine *patient = open_engine(&c);
        c.timeout = 0.3;
        cog_engine *hasty = open_engine(&c);
        const int64_t n = cog_engine_n_params(hasty);
        float *x = malloc((size_t)n * sizeof(float)), *y = malloc((size_t)n * sizeof(float));
        int n_failed = 0;
        for (; n_failed < 20 && cog_engine_run(hasty, 15, NULL, NULL) != COG_OK;) n_failed++;
        cr_expect(n_failed >= 1 && n_failed < 20, "%s failed %d times", codes[i], n_failed);
        cr_assert_eq(cog_engine_run(patient, 15, NULL, NULL), COG_OK, "%s", cog_last_error());
        cr_assert_eq(cog_engine_get_params(patient, x, n), COG_OK);
        cr_assert_eq(cog_engine_get_params(hasty, y, n), COG_OK);
        cr_expect_eq(memcmp(x, y, (size_t)n * sizeof(float)), 0, "%s", codes[i]);
        cog_engine_destroy(hasty);
        cog_engine_destroy(patient);
        free(x);
        free(y);
    }
    remove(path);
}

typedef struct patience {
    cog_engine *engine;
    int questions; /* left */
} patience;

static bool lose_patience(void *user) {
    patience *p = user;
    if (cog_engine_report(p->engine).round >= 3) p->questions--;
    return p->questions <= 0;
}

/* Two workers die in round 3, and the server would wait for a minute. The run ends well, and when
 * it goes on it still waits for them. */
Test(server, a_wait_ends_when_the_caller_says_so) {
    static const char *const codes[] = {"lwpd:wait=7", "uncoded"};
    for (size_t i = 0; i < 2; i++) {
        patience p = {.questions = 40};
        cog_engine_config c = small();
        c.code = codes[i];
        c.transport = "threads";
        c.stragglers = "dead:workers=2,at=3";
        c.report_every = 1;
        c.stop = lose_patience;
        c.stop_user = &p;
        cog_engine *e = p.engine = open_engine(&c);
        for (int attempt = 0; attempt < 2; attempt++, p.questions = 3) {
            cr_expect_eq(cog_engine_run(e, 10, NULL, NULL), COG_OK, "%s", cog_last_error());
            cr_expect_eq(p.questions, 0, "%s: %d questions left", codes[i], p.questions);
            const int64_t round = cog_engine_report(e).round; /* 4: with a late answer to round 2 */
            cr_expect(round == 3 || round == 4, "%s: round %lld", codes[i], (long long)round);
        }
        cr_expect(cog_engine_report(e).seconds < 30);
        cog_engine_destroy(e);
    }
}

/* The timeout is about standing still: many slow rounds between two reports are no reason. */
Test(server, an_all_reduce_that_makes_progress_is_waited_for) {
    cog_engine_config c = small();
    c.code = "uncoded";
    c.stragglers = "shifted-exp:shift=0.4,mean=0.01";
    c.timeout = 1;
    c.report_every = 50;
    cog_engine *e = open_engine(&c);
    cr_expect_eq(cog_engine_run(e, 50, NULL, NULL), COG_OK, "%s", cog_last_error());
    cr_expect_eq(cog_engine_report(e).round, 50);
    cog_engine_destroy(e);
}

/* Weights a thousand times too large make gradients that large or more. Nothing of them, neither
 * held by the decoder nor still under way, may touch the parameters that are set next. */
Test(server, answers_at_replaced_parameters_are_dropped) {
    static const char *const codes[] = {"lwpd:wait=2,decoder=memory", "lwpd:wait=2", "kasync:k=2"};
    for (size_t i = 0; i < 3; i++) {
        cog_engine_config c = small();
        c.code = codes[i];
        c.stragglers = "exp:mean=0.01";
        c.optimizer = "sgd:rate=0.01";
        cog_engine *e = open_engine(&c);
        const int64_t n = cog_engine_n_params(e);
        float *start = malloc((size_t)n * sizeof(float)), *x = malloc((size_t)n * sizeof(float));
        cr_assert_eq(cog_engine_get_params(e, start, n), COG_OK);
        for (int64_t j = 0; j < n; j++) x[j] = 1e3f * start[j];
        cr_assert_eq(cog_engine_set_params(e, x, n), COG_OK);
        cr_assert_eq(cog_engine_run(e, 12, NULL, NULL), COG_OK);
        cr_assert_eq(cog_engine_set_params(e, start, n), COG_OK);
        const int64_t dropped = cog_engine_report(e).messages_dropped;
        cr_assert_eq(cog_engine_run(e, 24, NULL, NULL), COG_OK);
        cr_assert_eq(cog_engine_get_params(e, x, n), COG_OK);
        double farthest = 0;
        for (int64_t j = 0; j < n; j++) farthest = fmax(farthest, fabs((double)x[j] - start[j]));
        cr_expect_lt(farthest, 1, "%s moved by %g", codes[i], farthest);
        cr_expect_lt(dropped, cog_engine_report(e).messages_dropped);
        cog_engine_destroy(e);
        free(start);
        free(x);
    }
}
