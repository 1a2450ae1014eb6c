/* test_cs.c - measurements add up, sparse sums come back, and what the decoder misses is kept. */
#include "quantizer_harness.h"
#include "compress/iht.h"

enum { N = 9000, KEPT = 40 };

static double energy(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

/* Sparse in every block of 4096. */
static void fill_sparse(float *x, uint32_t stream) {
    cog_rng rng = cog_rng_make(8, COG_STREAM_TEST, stream, 0);
    memset(x, 0, N * sizeof(*x));
    for (int first = 0; first < N; first += 4096) {
        const uint32_t count = (uint32_t)(N - first < 4096 ? N - first : 4096);
        for (uint32_t k = 0; k < KEPT * count / 4096; k++)
            x[(uint32_t)first + cog_rng_below(&rng, count)] = (float)cog_rng_normal(&rng);
    }
}

static void measure(const cog_quantizer *q, cog_device *device, const float *x, float *y) {
    bench b = set_up(q, device, 0);
    const size_t bytes = pack(&b, 1, &(cog_term){x, 1.0f});
    cr_assert_eq(q->ops->check(q, b.payload, bytes), COG_OK, "%s", cog_last_error());
    memcpy(y, b.payload, bytes);
    cr_expect_eq(energy(b.residual, q->n), 0);
    tear_down(&b);
}

/* Rows of a Hadamard transform: A^T A has the diagonal 1, and A A^T = N / m, whence the share of
 * any energy that is seen is 1 on average. Linear to rounding. */
Test(cs, measurements_are_linear_and_keep_the_energy_on_average) {
    cog_device *device = open_cpu();
    const cog_quantizer q = configured("cs", N);
    const size_t m = q.ops->payload_bytes(&q) / 4;
    cr_expect_eq(m, 1024 + 1024 + 202); /* a quarter of 4096, 4096 and 808 */
    float *x = ref_alloc(N, 4), *z = ref_alloc(N, 4);
    float *ax = ref_alloc((int64_t)m, 4), *az = ref_alloc((int64_t)m, 4);
    ref_fill(IN_NORMAL, 1, x, N);
    ref_fill(IN_LAPLACE, 2, z, N);
    measure(&q, device, x, ax);
    measure(&q, device, z, az);
    /* the energy of m of N nearly Gaussian numbers */
    cr_expect(fabs(energy(ax, (int64_t)m) / energy(x, N) - 1) < 5 * sqrt(2.0 / (double)m));
    for (int i = 0; i < N; i++) x[i] += 3 * z[i];
    for (size_t i = 0; i < m; i++) ax[i] += 3 * az[i];
    measure(&q, device, x, az);
    for (size_t i = 0; i < m; i++) cr_assert(fabsf(ax[i] - az[i]) < 1e-3f, "measurement %zu", i);
    memset(x, 0, N * 4);
    x[5000] = 1;
    measure(&q, device, x, ax);
    cr_expect_float_eq(energy(ax, (int64_t)m), 1, 1e-6);
    free(x);
    free(z);
    free(ax);
    free(az);
    cog_device_close(device);
}

/* 40 of 4096 entries from 1024 measurements: exact but for rounding. */
Test(cs, sparse_sums_come_back_exactly) {
    cog_device *device = open_cpu();
    enum { WORKERS = 3 };
    const cog_quantizer q = configured("cs:steps=200", N);
    const float weights[WORKERS] = {1, -0.5f, 2};
    float *x = ref_alloc(N, 4), *sum = ref_alloc(N, 4), *out = ref_alloc(N, 4);
    void *payloads[WORKERS], *memory = calloc(1, cog_quantizer_memory_bytes(&q));
    for (uint32_t w = 0; w < WORKERS; w++) {
        payloads[w] = malloc(q.ops->payload_bytes(&q));
        fill_sparse(x, w);
        measure(&q, device, x, payloads[w]);
        for (int i = 0; i < N; i++) sum[i] += weights[w] * x[i];
    }
    cr_assert_eq(
        q.ops->aggregate(&q, WORKERS, (const void *const *)payloads, weights, memory, NULL, out),
        COG_OK);
    for (int i = 0; i < N; i++) out[i] -= sum[i];
    cr_expect(energy(out, N) < 1e-9 * energy(sum, N), "%g", energy(out, N) / energy(sum, N));
    for (int w = 0; w < WORKERS; w++) free(payloads[w]);
    free(memory);
    free(x);
    free(sum);
    free(out);
    cog_device_close(device);
}

/* After any number of rounds: sum of A out + e = sum of y. And with dense messages e stays bounded,
 * while without memory what is missed is lost for ever. */
Test(cs, what_the_decoder_misses_is_kept_in_measurements) {
    cog_device *device = open_cpu();
    enum { ROUNDS = 60 };
    for (int remembers = 0; remembers < 2; remembers++) {
        const cog_quantizer q = configured(remembers ? "cs" : "cs:memory=0", N);
        const int64_t m = (int64_t)q.ops->payload_bytes(&q) / 4;
        float *x = ref_alloc(N, 4), *out = ref_alloc(N, 4), *total = ref_alloc(N, 4);
        float *y = ref_alloc(m, 4), *seen = ref_alloc(m, 4), *memory = ref_alloc(m, 4);
        const void *payload = y;
        cr_expect_eq(cog_quantizer_memory_bytes(&q), remembers ? (size_t)m * 4 : 0);
        ref_fill(IN_LAPLACE, 1, x, N); /* the same gradient again and again */
        measure(&q, device, x, y);
        for (int i = 0; i < ROUNDS; i++) {
            cr_assert_eq(q.ops->aggregate(&q, 1, &payload, (float[]){1}, memory, NULL, out),
                         COG_OK);
            for (int j = 0; j < N; j++) total[j] += out[j];
        }
        measure(&q, device, total, seen);
        for (int64_t i = 0; i < m; i++) seen[i] += memory[i] - ROUNDS * y[i];
        const double gap = sqrt(energy(seen, m) / energy(y, m)) / ROUNDS;
        const double owed = sqrt(energy(memory, m) / energy(y, m));
        if (remembers) cr_expect(gap < 1e-5 && owed < 10, "gap %g, owed %g", gap, owed);
        if (!remembers) cr_expect(gap > 0.1, "gap %g", gap);
        free(x);
        free(out);
        free(total);
        free(y);
        free(seen);
        free(memory);
    }
    cog_device_close(device);
}

Test(cs, broken_measurements_are_seen_once) {
    cog_device *device = open_cpu();
    const cog_quantizer q = configured("cs", N);
    float *x = ref_alloc(N, 4), *out = ref_alloc(N, 4);
    void *y = malloc(q.ops->payload_bytes(&q)), *memory = calloc(1, cog_quantizer_memory_bytes(&q));
    const void *payload = y;
    for (int broken = 1; broken >= 0; broken--) {
        fill_sparse(x, 1);
        if (broken) x[4100] = NAN;
        measure(&q, device, x, y);
        q.ops->aggregate(&q, 1, &payload, (float[]){1}, memory, NULL, out);
        cr_expect_eq(isnan(out[4100]) != 0, broken);
        cr_expect(isfinite(out[0]), "a block is by itself");
    }
    free(x);
    free(out);
    free(y);
    free(memory);
    cog_device_close(device);
}

Test(iht, keeps_the_largest_and_of_ties_the_first) {
    const cog_tile_ops *sets[4];
    cog_tile_list(sets);
    for (int input = 0; input < N_INPUTS; input++)
        for (int n = 1; n < 700; n += 137)
            for (int k = 0; k <= n; k += 1 + n / 5) {
                float *x = ref_alloc(n, 4), *y = ref_alloc(n, 4);
                char *chosen = ref_alloc(n, 1);
                ref_fill(input, 1, x, n);
                memcpy(y, x, (size_t)n * 4);
                ref_choose(x, 0, n, k, chosen);
                cog_keep_largest(sets[0], y, n, k);
                for (int i = 0; i < n; i++)
                    cr_assert_eq(ref_bits(y[i]), chosen[i] ? ref_bits(x[i]) : 0, "%s, %d of %d: %d",
                                 ref_input_name[input], k, n, i);
                free(x);
                free(y);
                free(chosen);
            }
}

Test(cs, impossible_settings_are_refused_in_words) {
    cog_device *device = open_cpu();
    static const struct {
        const char *spec, *part;
    } cases[] = {{"cs:feedback=1", "memory=1"},
                 {"cs:sparsity=0.5", "cannot find"},
                 {"qcs:sparsity=0.5", "cannot find"},
                 {"cs:block=1000", "power of two"},
                 {"cs:predict=linear", "decoded as a sum"},
                 {"qcs:warmup=3", "decoded as a sum"}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        cog_channel *channel = NULL;
        cr_expect_neq(cog_channel_open(cases[c].spec, device, N, COG_SENDER, &channel), COG_OK);
        cr_expect_null(channel);
        cr_expect_not_null(strstr(cog_last_error(), cases[c].part), "%s: %s", cases[c].spec,
                           cog_last_error());
    }
    cog_device_close(device);
}
