/* test_topk.c - the shares of tiles, the threshold's course, and the rules of the sparse format. */
#include "quantizer_harness.h"

/* Edits that keep the length: each breaks one sentence of the format. */
Test(topk, each_rule_of_the_sparse_format_is_checked) {
    cog_device *device = open_cpu();
    enum { N = 8192 }; /* two tiles, one base; 82 entries */
    const cog_quantizer q = configured("topk:ratio=0.01,kind=global", N);
    bench b = set_up(&q, device, 0);
    float *x = ref_alloc(N, 4);
    ref_fill(IN_NORMAL, 4, x, N);
    const size_t bytes = pack(&b, 1, &(cog_term){x, 1.0f});
    uint32_t *word = (uint32_t *)(void *)b.payload;
    uint16_t *count = (uint16_t *)(word + 2), *offset = (uint16_t *)(word + 3 + 82);
    cr_assert_eq(bytes, 12 + 82 * 4 + 82 * 2);
    cr_assert_eq(q.ops->check(&q, b.payload, bytes), COG_OK);
#define BREAKS(edit, undo)                                                       \
    do {                                                                         \
        edit;                                                                    \
        cr_expect_eq(q.ops->check(&q, b.payload, bytes), COG_ERR_FORMAT, #edit); \
        undo;                                                                    \
        cr_assert_eq(q.ops->check(&q, b.payload, bytes), COG_OK, #undo);         \
    } while (0)
    BREAKS(word[0]++, word[0]--);
    BREAKS(word[1] = 1, word[1] = 0);
    BREAKS((count[0]++, count[1]--), (count[0]--, count[1]++));
    BREAKS(count[1]++, count[1]--);
    const uint16_t first = offset[0];
    BREAKS(offset[0] = offset[1], offset[0] = first);
    const uint16_t last = offset[81];
    BREAKS(offset[81] = 4096, offset[81] = last);
    free(x);
    tear_down(&b);
    cog_device_close(device);
}

static int64_t kept_of(const cog_quantizer *q, const void *payload, int64_t *at) {
    const int64_t found = q->ops->positions(q, payload, at);
    cr_assert_leq(found, q->ops->max_positions(q));
    return found;
}

Test(topk, chunks_meet_the_ratio_over_the_message_and_starve_no_tile) {
    cog_device *device = open_cpu();
    static const struct {
        const char *spec;
        int64_t n, total, low, high;
    } cases[] = {
        {"topk:ratio=0.001", 1 << 20, 1049, 4, 5}, /* 4.096 of a tile, ceil(1048.576) */
        {"topk:ratio=0.01", 1 << 20, 10486, 40, 41},
        {"topk:ratio=0.0001", 1 << 20, 256, 1, 1}, /* 0.41 of a tile: one each */
        {"topk:ratio=0.07", 100, 7, 7, 7},         /* not 8: 0.07 * 100 > 7 in double */
        {"topk:ratio=1,tile=256", 1000, 1000, 232, 256},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        const int64_t n = cases[c].n;
        const cog_quantizer q = configured(cases[c].spec, n);
        bench b = set_up(&q, device, 0);
        float *x = ref_alloc(n, 4);
        int64_t *at = ref_alloc(n, sizeof(*at)), *of_tile = ref_alloc(n, sizeof(*of_tile));
        ref_fill(IN_SORTED, 0, x, n);
        pack(&b, 1, &(cog_term){x, 1.0f});
        cr_expect_eq(kept_of(&q, b.payload, at), cases[c].total, "%s", cases[c].spec);
        for (int64_t i = 0; i < cases[c].total; i++) of_tile[at[i] / q.tile]++;
        for (int64_t t = 0; t * q.tile < n; t++)
            cr_expect(of_tile[t] >= cases[c].low && of_tile[t] <= cases[c].high,
                      "%s tile %lld: %lld", cases[c].spec, (long long)t, (long long)of_tile[t]);
        free(x);
        free(at);
        free(of_tile);
        tear_down(&b);
    }
    cog_device_close(device);
}

/* First message exact, then the number sent follows the wanted one, never above 3/2 of it, through
 * feedback, a jump of the scale by a thousand, and back. */
Test(topk, threshold_follows_the_wanted_number_under_a_hard_cap) {
    cog_device *device = open_cpu();
    enum { N = 300000, WANTED = 3000, ROUNDS = 60 };
    const cog_quantizer q = configured("topk:ratio=0.01,kind=threshold", N);
    bench b = set_up(&q, device, 0);
    float *x = ref_alloc(N, 4);
    int64_t *at = ref_alloc(N, sizeof(*at));
    memset(b.residual, 0, N * 4);
    double sum = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const float size = round >= 30 && round < 40 ? 1000.0f : 1.0f;
        ref_fill(round % 2 == 0 ? IN_LAPLACE : IN_NORMAL, round, x, N);
        pack(&b, 2, (cog_term[]){{x, size}, {b.residual, 1.0f}});
        const int64_t sent = kept_of(&q, b.payload, at);
        if (round == 0) {
            float smallest = INFINITY, threshold;
            for (int64_t i = 0; i < sent; i++) smallest = fminf(smallest, fabsf(x[at[i]]));
            memcpy(&threshold, b.state, 4);
            cr_expect_eq(sent, WANTED);
            cr_expect_eq(threshold, smallest);
        }
        cr_expect_leq(sent, WANTED + WANTED / 2, "round %u", round);
        if (round >= 10 && round < 30) {
            sum += (double)sent / WANTED / 20;
            cr_expect(sent > WANTED / 3, "round %u: %lld", round, (long long)sent);
        }
    }
    cr_expect(sum > 0.8 && sum < 1.2, "mean of rounds 10..29 is %.3f of the wanted number", sum);
    free(x);
    free(at);
    tear_down(&b);
    cog_device_close(device);
}

/* With a threshold in its state, the message is: all that reach it, the first `cap` of them. */
Test(topk, threshold_sends_what_reaches_it_lowest_index_first) {
    cog_device *device = open_cpu();
    enum { N = 20000, CAP = 300 };
    const cog_quantizer q = configured("topk:ratio=0.01,kind=threshold", N);
    bench b = set_up(&q, device, 0);
    float *x = ref_alloc(N, 4);
    int64_t *at = ref_alloc(N, sizeof(*at));
    ref_fill(IN_NORMAL, 5, x, N);
    static const float thresholds[] = {1.0f, 2.5f, 9.0f};
    for (size_t c = 0; c < 3; c++) {
        memcpy(b.state, &thresholds[c], 4);
        pack(&b, 1, &(cog_term){x, 1.0f});
        const int64_t sent = kept_of(&q, b.payload, at);
        int64_t expected = 0;
        for (int64_t i = 0; i < N; i++) {
            if (fabsf(x[i]) < thresholds[c] || expected == CAP) continue;
            cr_assert(expected < sent && at[expected] == i, "threshold %g", thresholds[c]);
            expected++;
        }
        cr_expect_eq(sent, expected, "threshold %g", thresholds[c]);
        uint32_t next;
        memcpy(&next, b.state, 4);
        if (c != 1) cr_expect_eq(next, 0, "far off: the next message is exact");
        /* bits(t) += (bits(found) - bits(200)) / round(2 ln 100) */
        const int64_t step = ((int64_t)ref_bits((float)sent) - ref_bits(200.0f)) / 9;
        if (c == 1) cr_expect_eq((int64_t)next, (int64_t)ref_bits(2.5f) + step);
    }
    free(x);
    free(at);
    tear_down(&b);
    cog_device_close(device);
}
