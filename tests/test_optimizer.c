/* test_optimizer.c - the published update rules, schedules, and the part-wise steps. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "optimizer.h"
#include "rng.h"

enum { N = 37, ROUNDS = 25 };

static cog_optimizer *open_optimizer(cog_device *device, const char *spec) {
    cog_optimizer *o = NULL;
    cr_assert_eq(cog_optimizer_open(spec, device, N, &o), COG_OK, "%s: %s", spec, cog_last_error());
    return o;
}

static cog_device *open_cpu(void) {
    cog_device *device = NULL;
    cr_assert_eq(cog_device_open("cpu", &device), COG_OK, "%s", cog_last_error());
    return device;
}

static void gradient_of(int round, float *g) {
    cog_rng rng = cog_rng_make(7, COG_STREAM_TEST, (uint32_t)round, 0);
    for (int i = 0; i < N; i++) g[i] = (float)cog_rng_normal(&rng);
}

/* One entry stepped in double, straight from the formulas of the references. */
typedef struct reference {
    double theta, m, v;
} reference;

typedef void (*rule_fn)(reference *r, double g, int round);

static void sgd(reference *r, double g, int round) {
    (void)round;
    r->theta -= 0.1 * g;
}
static void sgd_inverse(reference *r, double g, int round) {
    r->theta -= 0.1 / (1 + round / 5.0) * g;
}
static void sgd_inverse_sqrt(reference *r, double g, int round) {
    r->theta -= 0.1 / sqrt(1 + round / 5.0) * g;
}
static void sgd_cosine(reference *r, double g, int round) {
    const double age = round < 20 ? round / 20.0 : 1;
    r->theta -= 0.1 * 0.5 * (1 + cos(acos(-1) * age)) * g;
}
static void sgd_step(reference *r, double g, int round) {
    r->theta -= (round < 10 ? 0.1 : round < 20 ? 0.01 : 0.001) * g;
}
static void momentum(reference *r, double g, int round) {
    (void)round;
    r->m = 0.9 * r->m + g;
    r->theta -= 0.1 * r->m;
}
/* Kingma & Ba 2015, algorithm 1. */
static void adam(reference *r, double g, int round) {
    r->m = 0.9 * r->m + 0.1 * g;
    r->v = 0.99 * r->v + 0.01 * g * g;
    const double m = r->m / (1 - pow(0.9, round + 1)), v = r->v / (1 - pow(0.99, round + 1));
    r->theta -= 0.01 * m / (sqrt(v) + 1e-8);
}

static const struct {
    const char *spec;
    rule_fn rule;
    int n_state;
} cases[] = {
    {"sgd:rate=0.1", sgd, 0},
    {"sgd:rate=0.1,decay=inverse,scale=5", sgd_inverse, 0},
    {"sgd:rate=0.1,decay=inverse-sqrt,scale=5", sgd_inverse_sqrt, 0},
    {"sgd:rate=0.1,decay=cosine,scale=20", sgd_cosine, 0},
    {"sgd:rate=0.1,decay=step,scale=10", sgd_step, 0},
    {"momentum:rate=0.1,beta=0.9", momentum, 1},
    {"adam:rate=0.01,beta1=0.9,beta2=0.99", adam, 2},
};

Test(optimizer, steps_follow_the_published_rules) {
    cog_device *device = open_cpu();
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        cog_optimizer *o = open_optimizer(device, cases[c].spec);
        cr_expect_eq(cog_optimizer_n_state(o), cases[c].n_state, "%s", cases[c].spec);
        reference expected[N] = {0};
        float theta[N] = {0}, g[N];
        for (int round = 0; round < ROUNDS; round++) {
            gradient_of(round, g);
            cr_assert_eq(cog_optimizer_step(o, round, 0, N, g, theta), COG_OK);
            for (int i = 0; i < N; i++) {
                cases[c].rule(&expected[i], g[i], round);
                cr_assert_float_eq(theta[i], expected[i].theta,
                                   2e-6 * (1 + fabs(expected[i].theta)),
                                   "%s round %d entry %d: %g, expected %g", cases[c].spec, round, i,
                                   theta[i], expected[i].theta);
            }
        }
        cog_optimizer_close(o);
    }
    cog_device_close(device);
}

Test(optimizer, a_step_in_parts_is_the_whole_step_bit_for_bit) {
    cog_device *device = open_cpu();
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        cog_optimizer *whole = open_optimizer(device, cases[c].spec);
        cog_optimizer *parts = open_optimizer(device, cases[c].spec);
        float a[N] = {0}, b[N] = {0}, g[N];
        for (int round = 0; round < ROUNDS; round++) {
            gradient_of(round, g);
            cog_optimizer_step(whole, round, 0, N, g, a);
            cog_optimizer_step(parts, round, 0, 11, g, b);
            cog_optimizer_step(parts, round, 11, N - 11, g + 11, b);
            cr_assert_eq(memcmp(a, b, sizeof(a)), 0, "%s round %d", cases[c].spec, round);
        }
        cog_optimizer_close(whole);
        cog_optimizer_close(parts);
    }
    cog_device_close(device);
}

/* A position listed twice, as two messages may both name it, is stepped once by its sum. */
Test(optimizer, steps_at_positions_equal_the_dense_step) {
    cog_device *device = open_cpu();
    cog_optimizer *o = open_optimizer(device, "sgd:rate=0.3");
    const int64_t positions[] = {3, 7, 36, 7, 0};
    float dense[N], sparse[N], g[N] = {0};
    gradient_of(1, dense);
    memcpy(sparse, dense, sizeof(dense));
    g[0] = -1.5f, g[3] = 0.25f, g[7] = 3, g[36] = 1e-3f;
    cog_optimizer_step(o, 4, 0, N, g, dense);
    cog_optimizer_step_at(o, 4, 5, positions, g, sparse);
    cr_expect_eq(memcmp(dense, sparse, sizeof(dense)), 0);
    for (int i = 0; i < N; i++) cr_expect_eq(g[i], 0.0f, "entry %d is left at %g", i, g[i]);
    cog_optimizer_close(o);
    cog_device_close(device);
}

Test(optimizer, impossible_specs_are_refused_with_a_sentence) {
    static const struct {
        const char *spec, *part;
    } bad[] = {{"sgd:rate=-1", "outside"},      {"sgd:rate=nan", "number"},
               {"sgd:rate=1e", "number"},       {"sgd:beta=0.9", "no key 'beta'"},
               {"rmsprop", "no optimizer"},     {"momentum:beta=2", "outside"},
               {"adam:epsilon=0", "outside"},   {"sgd:decay=linear", "one of"},
               {"sgd:rate=0.1,rate=1", "twice"}};
    cog_device *device = open_cpu();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cog_optimizer *o = NULL;
        cr_expect_eq(cog_optimizer_open(bad[i].spec, device, N, &o), COG_ERR_SPEC, "%s",
                     bad[i].spec);
        cr_expect_null(o);
        cr_expect_not_null(strstr(cog_last_error(), bad[i].part), "%s: %s", bad[i].spec,
                           cog_last_error());
    }
    cog_device_close(device);
}
