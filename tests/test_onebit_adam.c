/* test_onebit_adam.c - whole runs against the lines of 1-bit Adam (Tang et al. 2021) in double.
 *
 * Worker i has the loss mean ||theta - x_r||^2 / 2 over its rows, and a diagonal weight so that v
 * differs from entry to entry. */
#include <math.h>
#include <string.h>

#include "centre_model.h"
#include "engine_rig.h"

enum { D = 12, WORKERS = 4, WARMUP = 15 };

static double weight_of(int64_t i) { return 1 + (double)i / 3; }

static centre user = {.n = D, .start = 3, .weight = weight_of};

/* C[x] = sign(x) mean|x|; x becomes what is left */
static void one_bit(double *x, double *sent) {
    double scale = 0;
    for (int i = 0; i < D; i++) scale += fabs(x[i]) / D;
    for (int i = 0; i < D; i++) {
        sent[i] = x[i] > 0 ? scale : x[i] < 0 ? -scale : 0;
        x[i] -= sent[i];
    }
}

typedef struct reference {
    double theta[D], m[D], v[D], error[WORKERS][D];
} reference;

/* Algorithm 1 with an exact way back: beta1 m + (1 - beta1) g_i is compressed with what worker i
 * owes, and the sum of what is decoded is the next m. */
static void step(reference *r, int round, double mean[WORKERS][D], bool compresses) {
    double sum[D] = {0};
    for (int w = 0; w < WORKERS; w++) {
        double message[D], sent[D];
        for (int i = 0; i < D; i++) {
            const double g = weight_of(i) * (r->theta[i] - mean[w][i]) / WORKERS;
            message[i] = round < WARMUP ? g : 0.9 * r->m[i] / WORKERS + 0.1 * g + r->error[w][i];
        }
        memcpy(sent, message, sizeof(sent));
        if (round >= WARMUP && compresses) {
            one_bit(message, sent);
            memcpy(r->error[w], message, sizeof(message));
        }
        for (int i = 0; i < D; i++) sum[i] += sent[i];
    }
    for (int i = 0; i < D; i++) {
        const int steps = round < WARMUP ? round + 1 : WARMUP;
        r->m[i] = round < WARMUP ? 0.9 * r->m[i] + 0.1 * sum[i] : sum[i];
        if (round < WARMUP) r->v[i] = 0.99 * r->v[i] + 0.01 * sum[i] * sum[i];
        const double m = round < WARMUP ? r->m[i] / (1 - pow(0.9, steps)) : r->m[i];
        r->theta[i] -= 0.02 * m / (sqrt(r->v[i] / (1 - pow(0.99, steps))) + 1e-8);
    }
}

static cog_engine_config config_of(const char *channel, const char *code) {
    static cog_model model;
    cog_engine_config c = small();
    model = centre_model(&user);
    c.custom_model = &model;
    c.n_workers = WORKERS;
    c.code = code;
    c.channel = channel;
    c.batch = 0;
    c.optimizer = "onebit-adam:rate=0.02,beta2=0.99,warmup=15";
    return c;
}

/* Means over the shards: row r is in shard r mod n. */
static void shard_means(double mean[WORKERS][D]) {
    const int64_t n = data()->n_rows, part = n / WORKERS;
    cr_assert_eq(n % WORKERS, 0);
    memset(mean, 0, WORKERS * sizeof(*mean));
    for (int64_t r = 0; r < n; r++)
        for (int i = 0; i < D; i++) mean[r % WORKERS][i] += data()->x[r * D + i] / (double)part;
}

Test(onebit_adam, runs_follow_the_publication) {
    static const struct {
        const char *channel, *code;
        bool compresses;
        int rounds;
    } cases[] = {{"sign:feedback=1,warmup=15", "ignore:wait=4", true, 60},
                 {"identity", "ignore:wait=4", false, 60},
                 {"identity", "frc:stragglers=1", false, 60},
                 {"identity", "crc:stragglers=1", false, 60}};
    double mean[WORKERS][D];
    shard_means(mean);
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        const cog_engine_config config = config_of(cases[c].channel, cases[c].code);
        reference r = {0};
        for (int i = 0; i < D; i++) r.theta[i] = 3;
        for (int round = 0; round < cases[c].rounds; round++)
            step(&r, round, mean, cases[c].compresses);
        float *theta = params_after(&config, cases[c].rounds, NULL);
        for (int i = 0; i < D; i++)
            cr_expect_float_eq(theta[i], r.theta[i], 2e-4, "%s, %s, entry %d: %g, expected %g",
                               cases[c].channel, cases[c].code, i, theta[i], r.theta[i]);
        free(theta);
    }
}

Test(onebit_adam, momentum_needs_workers_that_know_it) {
    cog_engine *e = NULL;
    cog_engine_config c = config_of("sign:feedback=1,warmup=15", "ignore:wait=4");
    c.downlink = "fp32";
    cr_expect_eq(cog_engine_create(&c, &e), COG_ERR_ARGUMENT);
    cr_expect_not_null(strstr(cog_last_error(), "delta"), "%s", cog_last_error());
    c.downlink = "delta";
    c.code = "uncoded";
    cr_expect_eq(cog_engine_create(&c, &e), COG_ERR_ARGUMENT);
    cr_expect_not_null(strstr(cog_last_error(), "all-reduce"), "%s", cog_last_error());
}
