/* test_randk.c - entries at random: which, how often, and what is left. */
#include "quantizer_harness.h"

enum { N = 9001, N_PAYLOADS = 600 };

static const struct {
    const char *spec;
    int64_t tile; /* 0: one choice for the message */
    double numerator, denominator;
} cases[] = {{"randk:ratio=0.01", 4096, 1, 100},
             {"randk:ratio=0.25,amplify=1", 4096, 1, 4},
             {"randk:ratio=0.0001", 4096, 1, 10000},
             {"randk:ratio=0.02,kind=block", 0, 1, 50},
             {"randk:ratio=0.6,kind=block,amplify=1", 0, 3, 5}};
enum { N_CASES = sizeof(cases) / sizeof(cases[0]) };

/* Entries of the part that begins at a, and how many of them are sent. */
static void part_of(int c, int64_t a, int64_t *d, int64_t *k) {
    const int64_t tile = cases[c].tile > 0 ? cases[c].tile : N;
    const int64_t b = a + tile < N ? a + tile : N;
    const double ratio = cases[c].numerator / cases[c].denominator;
    *d = b - a;
    *k = (int64_t)(ceil(ratio * (double)b - 1e-9) - ceil(ratio * (double)a - 1e-9));
    if (*k < 1 || ratio * (double)tile < 1) *k = 1;
}

static int64_t places_of(const cog_quantizer *q, const void *payload, int64_t *place) {
    const int64_t n = q->ops->positions(q, payload, place);
    cr_assert_eq(n, q->ops->max_positions(q));
    for (int64_t i = 0; i < n; i++)
        cr_assert(place[i] >= 0 && place[i] < q->n && (i == 0 || place[i] > place[i - 1]));
    return n;
}

/* Each of d entries is among the k chosen with probability k / d, independently over payloads. In
 * parts of 64 neighbours; a block of neighbours makes their counts depend on each other, so there
 * the bound is that of 64 times the variance. */
Test(randk, every_entry_is_chosen_as_often_as_any_other) {
    cog_device *device = open_cpu();
    float *x = ref_alloc(N, 4);
    int64_t *place = ref_alloc(N, 8), *times = ref_alloc(N, 8);
    ref_fill(IN_NORMAL, 1, x, N);
    for (int c = 0; c < N_CASES; c++) {
        const cog_quantizer q = configured(cases[c].spec, N);
        bench b = set_up(&q, device, 0);
        memset(times, 0, N * sizeof(*times));
        for (int p = 0; p < N_PAYLOADS; p++) {
            const size_t bytes = pack(&b, 1, &(cog_term){x, 1.0f});
            const int64_t n = places_of(&q, b.payload, place);
            cr_assert_eq(bytes, (size_t)(8 + 4 * n));
            for (int64_t i = 0; i < n; i++) times[place[i]]++;
        }
        int64_t d, k;
        const int64_t step = cases[c].tile > 0 ? cases[c].tile : N;
        for (int64_t a = 0; a < N; a += step) {
            part_of(c, a, &d, &k);
            int64_t all = 0;
            for (int64_t i = a; i < a + d; i++) all += times[i];
            cr_expect_eq(all, k * N_PAYLOADS, "%s: %lld of part %lld", cases[c].spec,
                         (long long)all, (long long)a);
            for (int64_t i = a; i + 64 <= a + d; i += 64) {
                double sum = 0;
                for (int64_t j = i; j < i + 64; j++) sum += (double)times[j];
                const double share = (double)k / (double)d, mean = 64 * share * N_PAYLOADS;
                const double spread = sqrt(mean * (1 - share) * (cases[c].tile > 0 ? 1 : 64));
                cr_expect(fabs(sum - mean) < 5 * spread + 1, "%s: %g of %g around %lld",
                          cases[c].spec, sum, mean, (long long)i);
            }
        }
        tear_down(&b);
    }
    free(x);
    free(place);
    free(times);
    cog_device_close(device);
}

/* Left of x: (1 - k/d) ||x||^2 on average; amplified the mean of what is decoded is x, and the
 * error (d/k - 1) ||x||^2. Independent entries, so the spread of the first is that of k draws. */
Test(randk, what_is_left_is_the_share_that_was_not_chosen) {
    cog_device *device = open_cpu();
    float *x = ref_alloc(N, 4), *y = ref_alloc(N, 4);
    ref_fill(IN_NORMAL, 2, x, N);
    for (int c = 0; c < N_CASES; c++) {
        const cog_quantizer q = configured(cases[c].spec, N);
        bench b = set_up(&q, device, 0);
        double left = 0, expected = 0, inner = 0, norm = 0, worst = 0;
        for (int p = 0; p < N_PAYLOADS; p++) {
            pack(&b, 1, &(cog_term){x, 1.0f});
            memset(y, 0, N * sizeof(*y));
            decode(&q, device, b.payload, 1.0f, 0, N, y);
            for (int i = 0; i < N; i++) left += (double)b.residual[i] * b.residual[i] / N_PAYLOADS;
            for (int i = 0; i < N; i++) inner += (double)y[i] * (double)x[i] / N_PAYLOADS;
        }
        int64_t d, k;
        const int64_t step = cases[c].tile > 0 ? cases[c].tile : N;
        for (int64_t a = 0; a < N; a += step) {
            double part = 0;
            part_of(c, a, &d, &k);
            for (int64_t i = a; i < a + d; i++) part += (double)x[i] * (double)x[i];
            const double ratio = (double)d / (double)k;
            worst = fmax(worst, q.amplified ? ratio - 1 : 0);
            expected += part * (q.amplified ? ratio - 1 : 1 - 1 / ratio);
            norm += part * (q.amplified ? 1 : 1 / ratio);
        }
        /* relative to what is sent: sqrt(2 / entries sent in all) a normal variable, 5 of them */
        const double spread = 5 * sqrt(3.0 / (double)(q.kept * N_PAYLOADS)) * norm * 2;
        cr_expect(fabs(inner - norm) < spread, "%s: mean %g, not %g", cases[c].spec, inner, norm);
        cr_expect(fabs(left - expected) < spread * (q.amplified ? worst + 1 : 1), "%s: %g, not %g",
                  cases[c].spec, left, expected);
        cr_expect_float_eq(q.ops->worst_error(&q), worst, 1e-9 * worst);
        tear_down(&b);
    }
    free(x);
    free(y);
    cog_device_close(device);
}

/* The format's own words, over Random123: words of a block from the last to the first, Floyd. */
Test(randk, places_are_those_of_the_format) {
    cog_device *device = open_cpu();
    enum { K = 41, D = 4096, TILE = 2 };
    const cog_quantizer q = configured("randk:ratio=0.01", 3 * D);
    bench b = set_up(&q, device, 0);
    float *x = ref_alloc(3 * D, 4);
    int64_t *place = ref_alloc(3 * D, 8);
    pack(&b, 1, &(cog_term){x, 1.0f});
    pack(&b, 1, &(cog_term){x, 1.0f}); /* payload 1 of stream 0 */
    const int64_t n = q.ops->positions(&q, b.payload, place);
    const int64_t sent = 123 - 82; /* ceil(122.88) - ceil(81.92) */
    cr_assert_eq(sent, K);
    char chosen[D] = {0};
    for (int j = D - K, used = 0; j < D; j++, used++) {
        const philox4x32_ctr_t counter = {{(uint32_t)used / 4, COG_STREAM_DITHER, 1, TILE}};
        const philox4x32_key_t key = {{0, 0}};
        const uint32_t word = philox4x32(counter, key).v[3 - used % 4];
        const int at = (int)floor(word * ldexp(1, -32) * (j + 1));
        chosen[chosen[at] ? j : at] = 1;
    }
    int64_t m = n - K;
    for (int i = 0; i < D; i++)
        if (chosen[i]) cr_expect_eq(place[m++], TILE * D + i, "%d", i);
    cr_expect_eq(m, n);
    free(x);
    free(place);
    tear_down(&b);
    cog_device_close(device);
}

Test(randk, feedback_needs_entries_as_they_are) {
    cog_device *device = open_cpu();
    cog_channel *channel = NULL;
    cr_expect_eq(cog_channel_open("randk:amplify=1,feedback=1", device, N, COG_SENDER, &channel),
                 COG_ERR_ARGUMENT);
    cr_expect_eq(
        cog_channel_open("randk:amplify=1,ratio=0.6,feedback=1", device, N, COG_SENDER, &channel),
        COG_OK);
    cog_channel_close(channel);
    cr_expect_eq(cog_channel_open("randk:feedback=1", device, N, COG_SENDER, &channel), COG_OK);
    cog_channel_close(channel);
    cog_device_close(device);
}
