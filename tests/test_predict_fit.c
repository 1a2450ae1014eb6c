/* test_predict_fit.c - the predictor 'temporal' against least squares in double. */
#include <lapacke.h>

#include "channel_rig.h"

enum { N = 700 };

/* min ||x - G a|| in double by LAPACK's own driver, with the window of the estimates before. */
static double least_residual(const float *const *window, int count, const float *x) {
    static double matrix[16 * N], right[N];
    double s[16];
    lapack_int rank;
    for (int j = 0; j < count; j++)
        for (int i = 0; i < N; i++) matrix[j * N + i] = window[j][i];
    for (int i = 0; i < N; i++) right[i] = x[i];
    cr_assert_eq(
        LAPACKE_dgelsd(LAPACK_COL_MAJOR, N, count, 1, matrix, N, right, N, s, 1e-14, &rank), 0);
    double sum = 0;
    for (int i = rank; i < N; i++) sum += right[i] * right[i];
    return sqrt(sum);
}

/* ||r|| <= ||g - estimate^(t-1)|| and <= ||g|| whatever the window; with noise in the gradients the
 * fit is that of LAPACK up to what a coefficient loses as a float, and ||r||^2 + ||ghat||^2 is
 * ||g||^2. */
Test(predict_fit, temporal_prediction_is_the_least_squares_fit) {
    static const double noises[] = {0.1, 1e-3, 0};
    float x[N];
    for (int window = 1; window <= 16; window++)
        for (int c = 0; c < 3; c++) {
            char spec[80];
            snprintf(spec, sizeof(spec), "identity:predict=temporal,trigger=always,window=%d",
                     window);
            pair p = open_pair(spec, N);
            float past[16][N];
            const float *newest[16];
            for (uint32_t round = 0; round < 24; round++) {
                const int count = round < (uint32_t)window ? (int)round : window;
                slow_gradient(round, noises[c], x, N);
                size_t bytes;
                const float *estimate = deliver(&p, round, x, &bytes);
                const float *expected = cog_mirror_expected(p.sender->mirror);
                const double norm = norm_of_gap(x, NULL, N), r = norm_of_gap(x, expected, N);
                for (int j = 0; j < count; j++) newest[j] = past[(round - 1 - (unsigned)j) % 16];
                const double before = count > 0 ? norm_of_gap(x, newest[0], N) : norm;
                cr_expect_leq(r, before * (1 + 1e-6) + 1e-7 * norm, "%s round %u", spec, round);
                cr_expect_leq(r, norm * (1 + 1e-6), "%s round %u", spec, round);
                if (count > 0 && noises[c] > 0.01) {
                    const double least = least_residual(newest, count, x);
                    const double h = norm_of_gap(expected, NULL, N);
                    cr_expect_leq(r, least * (1 + 1e-4), "%s round %u: %g against %g", spec, round,
                                  r, least);
                    cr_expect_float_eq(r * r + h * h, norm * norm, 1e-5 * norm * norm,
                                       "%s round %u", spec, round);
                }
                memcpy(past[round % 16], estimate, sizeof(past[0]));
            }
            close_pair(&p);
        }
}

/* Inner products are kept from round to round; those of a memory that was just loaded, with none,
 * give the same bits. */
Test(predict_fit, a_fit_does_not_depend_on_what_is_known_of_the_memory) {
    cog_device *device;
    float x[N], *expected[2];
    OK(cog_device_open("cpu", &device));
    for (int e = 0; e < 2; e++) OK(cog_device_zeros(device, N, &expected[e]));
    for (int window = 1; window <= 16; window++) {
        char text[60];
        cog_spec spec;
        cog_predictor p;
        snprintf(text, sizeof(text), "identity:predict=temporal,window=%d", window);
        OK(cog_spec_parse(text, &spec));
        OK(cog_predictor_configure(&spec, N, &p));
        cog_memory memory = {.device = device, .n = N, .room = window};
        for (int j = 0; j < window; j++) OK(cog_device_zeros(device, N, &memory.x[j]));
        OK(device->ops->alloc(device, cog_device_sums_bytes(N), &memory.work));
        for (uint32_t round = 0; round < 20; round++) {
            float coefs[2][16] = {{0}};
            double norm[2], left[2];
            cog_memory fresh = memory;
            memset(fresh.product, 0xff, sizeof(fresh.product));
            fresh.n_known = 0;
            slow_gradient(round, 0.01, x, N);
            if (round % 5 != 4) /* or the next round knows two rows less */
                OK(p.ops->foresee(&p, &memory, x, coefs[0], expected[0], &norm[0], &left[0]));
            OK(p.ops->foresee(&p, &fresh, x, coefs[1], expected[1], &norm[1], &left[1]));
            if (round % 5 != 4) {
                cr_expect(memcmp(coefs[0], coefs[1], sizeof(coefs[0])) == 0, "window %d round %u",
                          window, round);
                cr_expect(memcmp(expected[0], expected[1], sizeof(x)) == 0);
                cr_expect(norm[0] == norm[1] && left[0] == left[1]);
            }
            OK(p.ops->push(&p, &memory, expected[1], x));
        }
        for (int j = 0; j < window; j++) cog_device_free(device, memory.x[j]);
        cog_device_free(device, memory.work);
    }
    for (int e = 0; e < 2; e++) cog_device_free(device, expected[e]);
    cog_device_close(device);
}

/* Of sequences that obey a recursion of order 2 - a sum of two decays - a window of 2 predicts all
 * but what fp32 rounds, although its columns are nearly parallel. */
Test(predict_fit, a_window_of_two_foresees_two_decays) {
    float x[N];
    pair p = open_pair("identity:predict=temporal,window=2,trigger=always", N);
    for (uint32_t round = 0; round < 40; round++) {
        cog_rng rng = cog_rng_make(1, COG_STREAM_TEST, 0, 0);
        for (int i = 0; i < N; i++)
            x[i] = (float)(cog_rng_normal(&rng) * pow(0.97, round) +
                           cog_rng_normal(&rng) * pow(0.9, round));
        size_t bytes;
        deliver(&p, round, x, &bytes);
        const double r = norm_of_gap(x, cog_mirror_expected(p.sender->mirror), N);
        if (round >= 2) cr_expect_leq(r, 1e-5 * norm_of_gap(x, NULL, N), "round %u: %g", round, r);
    }
    close_pair(&p);
}
