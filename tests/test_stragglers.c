/* test_stragglers.c - injected delays against the distributions they are named after. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "stragglers.h"

enum { WORKERS = 50, ROUNDS = 4000, DRAWS = WORKERS * ROUNDS };

/* Estimates are compared within five standard errors: one in 1.7 million would fail by chance, and
 * the draws are the same in every run. */
static const double sigmas = 5;

static cog_stragglers *open_ok(const char *spec, int n_workers, uint64_t seed) {
    cog_stragglers *s = NULL;
    cr_assert_eq(cog_stragglers_open(spec, n_workers, seed, &s), COG_OK, "%s: %s", spec,
                 cog_last_error());
    return s;
}

/* --- distributions -------------------------------------------------------------------------- */

typedef struct law {
    const char *spec;
    double smallest;        /* no delay is below */
    double mean, deviation; /* deviation 0: not compared, the variance is infinite */
    double quantile[4];     /* of `share` */
} law;

static const double share[4] = {0.1, 0.5, 0.9, 0.99};

static void check_law(const law *l) {
    cog_stragglers *s = open_ok(l->spec, WORKERS, 11);
    double sum = 0;
    int below[4] = {0};
    for (int round = 0; round < ROUNDS; round++)
        for (int w = 0; w < WORKERS; w++) {
            const cog_straggle d = cog_stragglers_draw(s, w, round);
            cr_assert(d.fate == COG_ANSWERS && d.factor == 1 && d.delay >= l->smallest &&
                      isfinite(d.delay));
            sum += d.delay;
            for (int q = 0; q < 4; q++) below[q] += d.delay <= l->quantile[q];
        }
    for (int q = 0; q < 4; q++)
        cr_assert(fabs((double)below[q] / DRAWS - share[q]) <=
                      sigmas * sqrt(share[q] * (1 - share[q]) / DRAWS),
                  "%s: %.5f of the delays are below the quantile of %g", l->spec,
                  (double)below[q] / DRAWS, share[q]);
    if (l->deviation > 0)
        cr_assert(fabs(sum / DRAWS - l->mean) <= sigmas * l->deviation / sqrt(DRAWS),
                  "%s: mean %g, not %g", l->spec, sum / DRAWS, l->mean);
    cog_stragglers_close(s);
}

/* Exponential: Q(p) = -mean ln(1 - p), deviation = mean. Pareto: Q(p) = scale (1 - p)^(-1/a), mean
 * = scale a / (a - 1), variance = scale^2 a / ((a - 1)^2 (a - 2)) for a > 2. */
Test(stragglers, means_and_quantiles_are_those_of_theory) {
    law laws[] = {
        {.spec = "exp:mean=0.02", .mean = 0.02, .deviation = 0.02},
        {.spec = "exp", .mean = 0.01, .deviation = 0.01},
        {.spec = "shifted-exp:shift=3,mean=0.5", .smallest = 3, .mean = 3.5, .deviation = 0.5},
        {.spec = "pareto:scale=2,shape=5",
         .smallest = 2,
         .mean = 2.5,
         .deviation = 2 * sqrt(5.0 / (16 * 3))},
        {.spec = "pareto", .smallest = 0.005}};
    for (int q = 0; q < 4; q++) {
        laws[0].quantile[q] = -0.02 * log1p(-share[q]);
        laws[1].quantile[q] = -0.01 * log1p(-share[q]);
        laws[2].quantile[q] = 3 - 0.5 * log1p(-share[q]);
        laws[3].quantile[q] = 2 * pow(1 - share[q], -1 / 5.0);
        laws[4].quantile[q] = 0.005 * pow(1 - share[q], -1 / 1.5);
    }
    for (size_t i = 0; i < sizeof(laws) / sizeof(laws[0]); i++) check_law(&laws[i]);
}

Test(stragglers, bernoulli_hits_its_share_of_workers_and_rounds) {
    static const double probabilities[] = {0, 0.1, 0.5, 1};
    for (int late = 0; late <= 1; late++)
        for (int i = 0; i < 4; i++) {
            const double p = probabilities[i];
            char spec[64];
            snprintf(spec, sizeof(spec), "bernoulli:probability=%g%s", p, late ? ",delay=2.5" : "");
            cog_stragglers *s = open_ok(spec, WORKERS, 4);
            int hit = 0;
            for (int k = 0; k < DRAWS; k++) {
                const cog_straggle d = cog_stragglers_draw(s, k % WORKERS, k / WORKERS);
                const bool is_hit = late ? d.delay > 0 : d.fate == COG_DECLINES;
                cr_assert(d.factor == 1 && d.delay == (is_hit && late ? 2.5 : 0));
                cr_assert(late ? d.fate == COG_ANSWERS : d.fate != COG_DEAD);
                hit += is_hit;
            }
            cr_assert(fabs((double)hit / DRAWS - p) <= sigmas * sqrt(p * (1 - p) / DRAWS),
                      "%s hit %d of %d", spec, hit, DRAWS);
            cog_stragglers_close(s);
        }
}

/* Correlation of neighbours in either direction: zero within five standard errors 1/sqrt(n). */
Test(stragglers, workers_and_rounds_are_independent) {
    cog_stragglers *s = open_ok("exp:mean=1", WORKERS, 5);
    double across = 0, along = 0;
    for (int round = 0; round < ROUNDS; round++)
        for (int w = 0; w < WORKERS; w++) {
            const double here = cog_stragglers_draw(s, w, round).delay - 1;
            across += here * (cog_stragglers_draw(s, w + 1, round).delay - 1);
            along += here * (cog_stragglers_draw(s, w, round + 1).delay - 1);
        }
    cr_assert(fabs(across) / DRAWS <= sigmas / sqrt(DRAWS), "workers: %g", across / DRAWS);
    cr_assert(fabs(along) / DRAWS <= sigmas / sqrt(DRAWS), "rounds: %g", along / DRAWS);
    cog_stragglers_close(s);
}

Test(stragglers, a_draw_depends_on_seed_worker_and_round_alone) {
    static const char *const specs[] = {"exp", "shifted-exp", "pareto", "bernoulli:delay=1"};
    for (int i = 0; i < 4; i++) {
        cog_stragglers *a = open_ok(specs[i], 8, 21), *b = open_ok(specs[i], 500, 21);
        cog_stragglers *other = open_ok(specs[i], 8, 22);
        double forwards[8][40];
        int differ = 0;
        for (int w = 0; w < 8; w++)
            for (int r = 0; r < 40; r++) forwards[w][r] = cog_stragglers_draw(a, w, r).delay;
        for (int r = 39; r >= 0; r--)
            for (int w = 7; w >= 0; w--) {
                cr_assert_eq(cog_stragglers_draw(a, w, r).delay, forwards[w][r]);
                cr_assert_eq(cog_stragglers_draw(b, w, r).delay, forwards[w][r]);
                differ += cog_stragglers_draw(other, w, r).delay != forwards[w][r];
            }
        cr_assert(differ > 20, "%s hardly depends on the seed", specs[i]);
        cog_stragglers_close(a), cog_stragglers_close(b), cog_stragglers_close(other);
    }
}

Test(stragglers, none_slow_and_dead_do_what_they_say) {
    cog_stragglers *none = open_ok("none", 6, 1), *slow = open_ok("slow:workers=2,factor=7", 6, 1);
    cog_stragglers *dead = open_ok("dead:workers=3,at=10", 6, 1), *lone = open_ok("dead", 1, 1);
    for (int r = 0; r < 200; r++)
        for (int w = 0; w < 6; w++) {
            const cog_straggle n = cog_stragglers_draw(none, w, r);
            const cog_straggle s = cog_stragglers_draw(slow, w, r);
            const cog_straggle d = cog_stragglers_draw(dead, w, r);
            cr_assert(n.fate == COG_ANSWERS && n.factor == 1 && n.delay == 0);
            cr_assert(s.fate == COG_ANSWERS && s.factor == (w < 2 ? 7 : 1) && s.delay == 0);
            cr_assert(d.fate == (w < 3 && r >= 10 ? COG_DEAD : COG_ANSWERS) && d.factor == 1);
            cr_assert_eq(cog_stragglers_draw(lone, 0, r).fate, r < 100 ? COG_ANSWERS : COG_DEAD);
        }
    cog_stragglers_close(none), cog_stragglers_close(slow), cog_stragglers_close(dead);
    cog_stragglers_close(lone);
    cog_stragglers_close(NULL);
}

/* --- traces --------------------------------------------------------------------------------- */

/* Opens "trace:file=..." over a file with this text. */
static cog_status open_trace(const char *text, int n_workers, cog_stragglers **out) {
    char path[] = "/tmp/cograd-trace-XXXXXX", spec[64];
    const int descriptor = mkstemp(path);
    cr_assert(descriptor >= 0);
    cr_assert_eq(write(descriptor, text, strlen(text)), (ssize_t)strlen(text));
    close(descriptor);
    snprintf(spec, sizeof(spec), "trace:file=%s", path);
    const cog_status status = cog_stragglers_open(spec, n_workers, 1, out);
    unlink(path);
    return status;
}

Test(stragglers, a_trace_says_every_delay_and_repeats) {
    cog_stragglers *s;
    cr_assert_eq(open_trace("# measured\n0.5 1e-3\t-\r\n\n0 2 3 # tail\n-  - 1000000", 3, &s),
                 COG_OK, "%s", cog_last_error());
    static const double rows[3][3] = {{0.5, 1e-3, -1}, {0, 2, 3}, {-1, -1, 1e6}};
    for (int r = 0; r < 12; r++)
        for (int w = 0; w < 3; w++) {
            const cog_straggle d = cog_stragglers_draw(s, w, r);
            const double delay = rows[r % 3][w];
            cr_assert_eq(d.fate, delay < 0 ? COG_DECLINES : COG_ANSWERS);
            cr_assert(d.delay == (delay < 0 ? 0 : delay) && d.factor == 1);
        }
    cog_stragglers_close(s);
}

Test(stragglers, a_long_trace_is_kept_whole) {
    char *text = malloc(300000), *end = text;
    for (int r = 0; r < 5000; r++) end += sprintf(end, "%d %d\n", r, 2 * r);
    cog_stragglers *s;
    cr_assert_eq(open_trace(text, 2, &s), COG_OK);
    for (int r = 0; r < 5000; r++) {
        cr_assert_eq(cog_stragglers_draw(s, 0, r).delay, r);
        cr_assert_eq(cog_stragglers_draw(s, 1, r + 5000).delay, 2 * r);
    }
    cog_stragglers_close(s);
    free(text);
}

Test(stragglers, damaged_traces_are_refused_in_words) {
    static const struct {
        const char *text, *words;
    } bad[] = {{"1 2\n1 2 3\n", "line 2 of trace"},
               {"1 2\n\n1\n", "line 3 of trace"},
               {"1 2\n1 2 3\n", "3 delays for 2 workers"},
               {"1 x\n", "delay 2 is 'x'"},
               {"-1 2\n", "delay 1 is '-1'"},
               {"1 nan\n", "'nan'"},
               {"1 inf\n", "'inf'"},
               {"1 1e9\n", "seconds in 0..1e+06"},
               {"1 2s\n", "'2s'"},
               {"", "has no lines"},
               {"# only this\n\n", "has no lines"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cog_stragglers *s = NULL;
        cr_assert_eq(open_trace(bad[i].text, 2, &s), COG_ERR_FORMAT, "'%s'", bad[i].text);
        cr_assert(strstr(cog_last_error(), bad[i].words), "'%s' lacks '%s'", cog_last_error(),
                  bad[i].words);
        cr_assert_null(s);
    }
}

Test(stragglers, absurd_specs_are_refused) {
    static const char *const bad[] = {"exp:mean=-1",
                                      "exp:mean=1e7",
                                      "exp:mean=nan",
                                      "exp:shift=1",
                                      "shifted-exp:shift=-0.1",
                                      "pareto:shape=0",
                                      "pareto:scale=-2",
                                      "bernoulli:probability=1.01",
                                      "bernoulli:probability=-0.1",
                                      "bernoulli:delay=-1",
                                      "slow:factor=0.5",
                                      "slow:workers=5",
                                      "slow:workers=-1",
                                      "dead:workers=5",
                                      "dead:at=-1",
                                      "trace",
                                      "trace:file=",
                                      "normal",
                                      "none:mean=1",
                                      ""};
    cog_stragglers *s = NULL;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(cog_stragglers_open(bad[i], 4, 1, &s), COG_ERR_SPEC, "'%s'", bad[i]);
    cr_assert_eq(cog_stragglers_open("trace:file=/no/such/file", 4, 1, &s), COG_ERR_IO);
    cr_assert(strstr(cog_last_error(), "/no/such/file"));
    cr_assert_eq(cog_stragglers_open("none", 0, 1, &s), COG_ERR_ARGUMENT);
    cr_assert_null(s);
}
