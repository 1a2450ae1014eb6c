/* test_qsgd.c - rounding at random has the right mean and the published error. */
#include <stdio.h>

#include "quantizer_harness.h"

enum { N = 3000, N_PAYLOADS = 300 };

static const char *const specs[] = {"qsgd",
                                    "qsgd:bits=1",
                                    "qsgd:bits=1,norm=l2,group=256",
                                    "qsgd:bits=2,group=4096",
                                    "qsgd:bits=3,norm=l2",
                                    "qsgd:bits=8,group=1024"};
enum { N_SPECS = sizeof(specs) / sizeof(specs[0]) };

static double energy(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

/* Variance of x rounded at random to one of its two neighbours among levels `step` apart, one of
 * which is `level`: (distance down) (distance up). */
static double variance(double x, double level, double step) {
    const double down = x - (level + floor((x - level) / step) * step);
    return down * (step - down);
}

/* The step, computed here, and whether a level lies at 0. */
static double step_of(const cog_quantizer *q, const char *spec, const float *x, int64_t a) {
    const int64_t b = a + q->tile < q->n ? a + q->tile : q->n;
    double most = 0;
    for (int64_t i = a; i < b; i++) most = fmax(most, fabs((double)x[i]));
    const double norm = strstr(spec, "l2") != NULL ? sqrt(energy(x + a, b - a)) : most;
    return q->bits == 1 ? 2 * norm : norm / (pow(2, q->bits - 1) - 1);
}

/* The mean of m decoded values is normal with variance v / m: the sum of the squared deviations in
 * units of that is chi-square; and the mean error is the sum of v. */
Test(qsgd, decoded_values_have_the_mean_and_the_variance_of_rounding_between_neighbours) {
    cog_device *device = open_cpu();
    float *x = ref_alloc(N, 4), *y = ref_alloc(N, 4);
    double *sum = ref_alloc(N, 8);
    ref_fill(IN_NORMAL, 1, x, N);
    for (int s = 0; s < N_SPECS; s++) {
        const cog_quantizer q = configured(specs[s], N);
        bench b = set_up(&q, device, 0);
        memset(sum, 0, N * sizeof(*sum));
        double left = 0;
        for (int p = 0; p < N_PAYLOADS; p++) {
            pack(&b, 1, &(cog_term){x, 1.0f});
            memset(y, 0, N * sizeof(*y));
            decode(&q, device, b.payload, 1.0f, 0, N, y);
            for (int i = 0; i < N; i++) sum[i] += (double)y[i] - (double)x[i];
            left += energy(b.residual, N) / N_PAYLOADS;
        }
        double chi = 0, expected = 0, spread = 0, bias = 0;
        int n_random = 0;
        for (int i = 0; i < N; i++) {
            const double step = step_of(&q, specs[s], x, i / q.tile * q.tile);
            const double v = variance((double)x[i], q.bits == 1 ? step / 2 : 0, step);
            expected += v;
            spread += v * step * step / N_PAYLOADS; /* of a squared error: at most v step^2 */
            bias += sum[i] / sqrt(N_PAYLOADS);
            if (v < 0.01 * step * step) continue; /* too rare to be normal */
            chi += sum[i] * sum[i] / (v * N_PAYLOADS);
            n_random++;
        }
        cr_assert(n_random > N / 50, "%s: %d", specs[s], n_random);
        cr_expect(fabs(chi - n_random) < 5 * sqrt(2.0 * n_random), "%s: %g for %d", specs[s], chi,
                  n_random);
        cr_expect(fabs(bias) < 5 * sqrt(expected), "%s: %g", specs[s], bias / sqrt(expected));
        cr_expect(fabs(left - expected) < 5 * sqrt(spread) + 1e-6 * expected, "%s: %g, not %g",
                  specs[s], left, expected);
        tear_down(&b);
    }
    free(x);
    free(y);
    free(sum);
    cog_device_close(device);
}

/* The worst group of d entries: one at the norm, the others at a = (sqrt(1 + z) - 1) / (z s) of it,
 * z = (d - 1) / s^2; to nearest, just below half a step; for one bit, at 0. */
Test(qsgd, the_worst_error_is_attained_and_not_exceeded) {
    cog_device *device = open_cpu();
    static const struct {
        const char *spec;
        int64_t d;
        double s;
        int kind; /* 0 random, 1 nearest, 2 one bit */
    } cases[] = {{"qsgd:bits=4", 512, 7, 0},
                 {"qsgd:bits=5", 512, 15, 0},
                 {"qsgd:bits=2,group=4096", 1000, 1, 0},
                 {"qsgd:bits=3,rounding=nearest", 512, 3, 1},
                 {"qsgd:bits=6,rounding=nearest", 300, 31, 1},
                 {"qsgd:bits=1,group=256", 256, 1, 2}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        const int64_t d = cases[c].d;
        const double z = (double)(d - 1) / cases[c].s / cases[c].s;
        const double others[] = {(sqrt(1 + z) - 1) / z / cases[c].s, 0.4999 / cases[c].s, 1e-4};
        const double published[] = {(sqrt(1 + z) - 1) / 2, z / (4 + z), (double)d - 1};
        const cog_quantizer q = configured(cases[c].spec, d);
        const double worst = q.ops->worst_error(&q), stated = published[cases[c].kind];
        bench b = set_up(&q, device, 0);
        float *x = ref_alloc(d, 4);
        for (int64_t i = 0; i < d; i++) x[i] = (float)others[cases[c].kind];
        x[d / 3] = -1;
        double left = 0;
        for (int p = 0; p < N_PAYLOADS; p++) {
            pack(&b, 1, &(cog_term){x, 1.0f});
            left += energy(b.residual, d) / N_PAYLOADS;
        }
        cr_expect_float_eq(worst, stated, 1e-9 * stated, "%s: %g", cases[c].spec, worst);
        cr_expect_float_eq(left / energy(x, d), worst, 0.02 * worst, "%s: %g, not %g",
                           cases[c].spec, left / energy(x, d), worst);
        free(x);
        tear_down(&b);
    }
    cog_device_close(device);
}

/* Lemma 3.1 of QSGD: E ||Q(v) - v||^2 <= min(d / s^2, sqrt(d) / s) ||v||^2. */
Test(qsgd, rounding_against_the_l2_norm_keeps_the_published_bound) {
    cog_device *device = open_cpu();
    enum { D = 4096 };
    float *x = ref_alloc(D, 4);
    for (int bits = 2; bits <= 8; bits++)
        for (int input = 0; input < N_INPUTS; input++) {
            if (input == IN_BROKEN || input == IN_HUGE || input == IN_DENORMAL) continue;
            char spec[64];
            snprintf(spec, sizeof(spec), "qsgd:norm=l2,group=4096,bits=%d", bits);
            const cog_quantizer q = configured(spec, D);
            const double s = pow(2, bits - 1) - 1;
            bench b = set_up(&q, device, 0);
            ref_fill(input, 3, x, D);
            double left = 0;
            for (int p = 0; p < 20; p++) {
                pack(&b, 1, &(cog_term){x, 1.0f});
                left += energy(b.residual, D) / 20;
            }
            const double bound = fmin(D / s / s, sqrt(D) / s);
            cr_expect_float_eq(q.ops->worst_error(&q), bound, 1e-9 * bound);
            cr_expect(left < bound * energy(x, D), "%s of %s: %g of %g", spec,
                      ref_input_name[input], left / energy(x, D), bound);
            tear_down(&b);
        }
    free(x);
    cog_device_close(device);
}

Test(qsgd, feedback_is_refused_where_errors_could_grow) {
    cog_device *device = open_cpu();
    static const struct {
        const char *spec;
        bool stable;
    } cases[] = {{"qsgd:feedback=1", false},
                 {"qsgd:group=256,feedback=1", true},
                 {"qsgd:bits=5,feedback=1", true},
                 {"qsgd:bits=1,feedback=1", false},
                 {"qsgd:bits=1,feedback=0", true},
                 {"qsgd:bits=2,rounding=nearest,feedback=1", true},
                 {"qsgd:bits=2,norm=l2,rounding=nearest,feedback=1", false},
                 {"qsgd:bits=8,norm=l2,rounding=nearest,feedback=1", true},
                 {"qsgd:bits=8,norm=l2,feedback=1", true},
                 {"qsgd:bits=5,norm=l2,feedback=1", false}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        cog_channel *channel = NULL;
        const cog_status status =
            cog_channel_open(cases[c].spec, device, 100000, COG_SENDER, &channel);
        cr_expect_eq(status, cases[c].stable ? COG_OK : COG_ERR_ARGUMENT, "%s", cases[c].spec);
        if (!cases[c].stable)
            cr_expect_not_null(strstr(cog_last_error(), "energy"), "%s", cog_last_error());
        cog_channel_close(channel);
    }
    cog_device_close(device);
}

/* The numbers are the sender's own, and repeat with the seed. */
Test(qsgd, senders_round_independently_of_each_other) {
    cog_device *device = open_cpu();
    float *x = ref_alloc(N, 4);
    ref_fill(IN_NORMAL, 1, x, N);
    const struct {
        uint64_t seed;
        uint32_t message;
        bool same;
    } cases[] = {{7, 3, true}, {7, 4, false}, {8, 3, false}};
    for (size_t c = 0; c < 3; c++) {
        const void *payload[2];
        size_t bytes;
        cog_channel *channel[2];
        for (int e = 0; e < 2; e++) {
            cr_assert_eq(cog_channel_open("qsgd", device, N, COG_SENDER, &channel[e]), COG_OK);
            cog_channel_seed(channel[e], e == 0 ? 7 : cases[c].seed, e == 0 ? 3 : cases[c].message);
            cog_channel_pack(channel[e], 1, &(cog_term){x, 1.0f}, &payload[e], &bytes);
        }
        cr_expect_eq(memcmp(payload[0], payload[1], bytes) == 0, cases[c].same, "case %zu", c);
        cog_channel_close(channel[0]);
        cog_channel_close(channel[1]);
    }
    free(x);
    cog_device_close(device);
}

Test(qsgd, each_rule_of_the_format_is_checked) {
    cog_device *device = open_cpu();
    enum { LENGTH = 40, BITS = 3 };
    const cog_quantizer q = configured("qsgd:bits=3", LENGTH);
    bench b = set_up(&q, device, 0);
    float *x = ref_alloc(LENGTH, 4);
    ref_fill(IN_NORMAL, 4, x, LENGTH);
    x[0] = 0; /* code 3 = 011 */
    const size_t bytes = pack(&b, 1, &(cog_term){x, 1.0f});
    uint32_t *step = (uint32_t *)(void *)b.payload, *code = step + 1;
    cr_assert_eq(bytes, 4 * (1 + 2 * BITS));
    const format_rule rules[] = {{"a step is not negative", step, 0x80000000u},
                                 {"one NaN is allowed", step, *step ^ 0x7fc00001u},
                                 {"no code is above the outer level", code + 2, 1},
                                 {"no code past the end", code + BITS, 1u << 8},
                                 {"no code at the very end", code + 2 * BITS - 1, 1u << 31}};
    expect_rules(&b, bytes, rules, sizeof(rules) / sizeof(rules[0]));
    free(x);
    tear_down(&b);
    cog_device_close(device);
}
