/* test_qcs.c - Lloyd and Max's levels, Bussgang's gains, and one decoding of a sum. */
#include <stdio.h>

#include "quantizer_harness.h"

/* Published to four digits; see qcs.c. */
static const double levels[3][4] = {{0.7979}, {0.4528, 1.5104}, {0.2451, 0.7560, 1.3439, 2.1519}};
static const double gains[3] = {0.6366, 0.8825, 0.9655};

/* Integral of x^power times the density of a normal variable, from a to b, by Simpson's rule. */
static double moment(int power, double a, double b) {
    enum { STEPS = 20000 };
    const double h = (b - a) / STEPS;
    double sum = 0;
    for (int i = 0; i <= STEPS; i++) {
        const double x = a + h * i, weight = i == 0 || i == STEPS ? 1 : i % 2 != 0 ? 4 : 2;
        sum += weight * pow(x, power) * exp(-x * x / 2);
    }
    return sum * h / 3 / sqrt(2 * M_PI);
}

/* A level is the mean of its cell, cells meet half-way between levels, and the gain is E[v Q(v)].
 */
Test(qcs, levels_and_gains_solve_the_equations_of_lloyd_and_max_and_of_bussgang) {
    for (int bits = 1; bits <= 3; bits++) {
        const int half = 1 << (bits - 1);
        const double *level = levels[bits - 1];
        double gain = 0;
        for (int i = 0; i < half; i++) {
            const double low = i == 0 ? 0 : (level[i - 1] + level[i]) / 2;
            const double high = i + 1 == half ? 12 : (level[i] + level[i + 1]) / 2;
            const double mean = moment(1, low, high) / moment(0, low, high);
            cr_expect(fabs(mean - level[i]) < 1e-4, "%d bits, level %d: %.5f", bits, i, mean);
            gain += 2 * level[i] * moment(1, low, high);
        }
        cr_expect(fabs(gain - gains[bits - 1]) < 1e-4, "%d bits: gain %.5f", bits, gain);
    }
}

static void sum_up(const cog_quantizer *q, int n, const void *const *payloads, const float *weights,
                   float *out) {
    void *scratch = calloc(1, cog_quantizer_scratch_bytes(q, NULL) + 1), *memory = NULL;
    cr_assert_eq(q->ops->aggregate(q, n, payloads, weights, memory, scratch, out), COG_OK);
    free(scratch);
}

static double energy(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

/* One block, dense enough for statistics: the payload's levels against A x / sigma in double, A
 * drawn here from its description. Correlation gives the gain, and what is left is 1 - gain as
 * large. */
Test(qcs, measurements_are_gaussian_and_their_levels_have_the_gain_of_bussgang) {
    cog_device *device = open_cpu();
    enum { N = 4096, M = 2048 };
    float *x = ref_alloc(N, 4);
    double *v = ref_alloc(M, 8);
    ref_fill(IN_NORMAL, 1, x, N);
    for (int j = 0; j < N; j++) {
        cog_rng rng = cog_rng_make(7, COG_STREAM_DITHER, 0, (uint32_t)j);
        for (int i = 0; i < M; i++) v[i] += cog_rng_normal(&rng) * (double)x[j];
    }
    for (int i = 0; i < M; i++) v[i] /= sqrt(energy(x, N));
    for (int bits = 1; bits <= 3; bits++) {
        char spec[96];
        snprintf(spec, sizeof(spec), "qcs:ratio=0.5,sparsity=0.5,block=4096,seed=7,bits=%d", bits);
        cog_quantizer q = configured(spec, N);
        q.sparsity = 1; /* everything is measured */
        bench b = set_up(&q, device, 0);
        memset(b.scratch, 0, cog_quantizer_scratch_bytes(&q, NULL));
        const size_t bytes = pack(&b, 1, &(cog_term){x, 1.0f});
        cr_expect_eq(bytes, (size_t)(4 + M / 8 * bits));
        cr_expect_eq(energy(b.residual, N), 0);
        const uint32_t *words = (const uint32_t *)(void *)b.payload;
        cr_expect_float_eq((double)ref_float(words[0]), sqrt(energy(x, N) / M), 1e-5);
        double product = 0, square = 0;
        int n_wrong = 0;
        for (int i = 0; i < M; i++) {
            int code = 0;
            for (int p = 0; p < bits; p++)
                code |= (int)(words[1 + i / 32 * bits + p] >> i % 32 & 1) << p;
            const int half = 1 << (bits - 1);
            const double level =
                code >= half ? levels[bits - 1][code - half] : -levels[bits - 1][half - 1 - code];
            product += level * v[i] / M;
            square += level * level / M;
            double nearest = 99;
            for (int l = 0; l < 2 * half; l++) {
                const double other =
                    l >= half ? levels[bits - 1][l - half] : -levels[bits - 1][half - 1 - l];
                nearest = fmin(nearest, fabs(other - v[i]));
            }
            n_wrong += fabs(level - v[i]) > nearest + 1e-4;
        }
        /* standard errors of products of normal variables: sqrt(2 / M) at most */
        cr_expect_eq(n_wrong, 0, "%d bits: %d codes", bits, n_wrong);
        cr_expect(fabs(product - gains[bits - 1]) < 5 * sqrt(2.0 / M), "%d: %g", bits, product);
        cr_expect(fabs(square - gains[bits - 1]) < 5 * sqrt(2.0 / M), "%d: %g", bits, square);
        tear_down(&b);
    }
    free(x);
    free(v);
    cog_device_close(device);
}

/* Workers whose gradients share their large entries: the decoded sum is near the weighted sum, ever
 * nearer with more bits. Nearly equal gradients have nearly equal errors, which do not average out:
 * the noise of the sum is (1 - gain) / gain of its energy. */
Test(qcs, the_sum_is_decoded_once_and_more_bits_bring_it_nearer) {
    cog_device *device = open_cpu();
    enum { N = 2048, WORKERS = 8, LARGE = 16 };
    float *x[WORKERS], *sum = ref_alloc(N, 4), *out = ref_alloc(N, 4);
    const float weights[WORKERS] = {1, 1, 0.5f, 2, 1, -1, 1, 0.25f};
    for (uint32_t w = 0; w < WORKERS; w++) {
        x[w] = ref_alloc(N, 4);
        cog_rng rng = cog_rng_make(5, COG_STREAM_TEST, w, 0);
        for (int i = 0; i < N; i += 512)
            for (int k = 0; k < LARGE; k++) {
                const int at = i + 31 * k + 5;
                x[w][at] = (float)((k % 2 != 0 ? 2 : -2) + 0.3 * cog_rng_normal(&rng));
                sum[at] += weights[w] * x[w][at];
            }
    }
    double last = 1;
    for (int bits = 1; bits <= 3; bits++) {
        char spec[96];
        snprintf(spec, sizeof(spec), "qcs:ratio=0.5,sparsity=0.03125,bits=%d", bits);
        const cog_quantizer q = configured(spec, N);
        bench b[WORKERS];
        const void *payloads[WORKERS];
        for (int w = 0; w < WORKERS; w++) {
            b[w] = set_up(&q, device, 0);
            memset(b[w].scratch, 0, cog_quantizer_scratch_bytes(&q, NULL));
            pack(&b[w], 1, &(cog_term){x[w], 1.0f});
            cr_expect_eq(energy(b[w].residual, N), 0);
            payloads[w] = b[w].payload;
        }
        sum_up(&q, WORKERS, payloads, weights, out);
        double slope = 0;
        for (int i = 0; i < N; i++) slope += (double)out[i] * (double)sum[i] / energy(sum, N);
        cr_expect(fabs(slope - 1) < 0.25, "%d bits: decoded %g of the sum", bits, slope);
        for (int i = 0; i < N; i++) out[i] -= sum[i];
        const double error = energy(out, N) / energy(sum, N);
        const double noise = (1 - gains[bits - 1]) / gains[bits - 1];
        cr_expect(error < 1.5 * noise && error < last, "%d bits: %g, noise %g", bits, error, noise);
        last = error;
        for (int w = 0; w < WORKERS; w++) tear_down(&b[w]);
    }
    for (int w = 0; w < WORKERS; w++) free(x[w]);
    free(sum);
    free(out);
    cog_device_close(device);
}

/* What is not among the largest of its block waits. */
Test(qcs, the_residual_is_what_was_not_measured) {
    cog_device *device = open_cpu();
    enum { N = 5000 };
    const cog_quantizer q = configured("qcs:sparsity=0.1", N);
    float *x = ref_alloc(N, 4);
    ref_fill(IN_LAPLACE, 1, x, N);
    bench b = set_up(&q, device, 0);
    memset(b.scratch, 0, cog_quantizer_scratch_bytes(&q, NULL));
    pack(&b, 1, &(cog_term){x, 1.0f});
    for (int a = 0; a < N; a += 512) {
        const int count = N - a < 512 ? N - a : 512, kept = (count + 9) / 10;
        float most_left = 0, least_sent = INFINITY;
        int n_sent = 0;
        for (int i = a; i < a + count; i++) {
            const bool is_sent = b.residual[i] == 0 && x[i] != 0;
            cr_assert(is_sent || b.residual[i] == x[i]);
            n_sent += is_sent;
            if (is_sent) least_sent = fminf(least_sent, fabsf(x[i]));
            if (!is_sent) most_left = fmaxf(most_left, fabsf(x[i]));
        }
        cr_expect_eq(n_sent, kept, "%d of %d", n_sent, count);
        cr_expect(most_left <= least_sent);
    }
    free(x);
    tear_down(&b);
    cog_device_close(device);
}
