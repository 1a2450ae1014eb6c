/* test_wyner_ziv.c - within its range the decoded point is the sent one; codes know no prediction.
 */
#include <stdio.h>

#include "quantizer_harness.h"
#include "tile.h"

enum { N = 5000 };

static void decode_all(const bench *b, const float *h, float *y) {
    cog_quantizer q = b->q;
    q.side = h;
    memset(y, 0, N * sizeof(*y));
    decode(&q, b->device, b->payload, 1.0f, 0, N, y);
}

/* Theorem: |decoded - x| < step = 2 delta / (K - 2) whenever |x - h| <= delta; at most half a step
 * with rounding to nearest. Predictions may be many ranges away from 0, and x at the very end. */
Test(wyner_ziv, the_error_is_below_a_step_whenever_the_prediction_is_within_the_range) {
    cog_device *device = open_cpu();
    float *x = ref_alloc(N, 4), *h = ref_alloc(N, 4), *y = ref_alloc(N, 4);
    const cog_tile_ops *sets[4];
    cog_tile_list(sets);
    for (int c = 0; c < 5 * 2 * 3; c++) {
        const int levels = (int[]){4, 8, 16, 64, 256}[c % 5], nearest = c / 5 % 2, far = c / 10;
        const double delta = 0.03, offset = (double[]){1, 100, 30000}[far] * delta;
        char spec[96];
        snprintf(spec, sizeof(spec), "wyner-ziv:levels=%d,delta=0.03%s", levels,
                 nearest ? ",rounding=nearest" : "");
        cog_rng rng = cog_rng_make(3, COG_STREAM_TEST, (uint32_t)c, 0);
        for (int i = 0; i < N; i++) {
            const double move = i % 50 == 0 ? 1 : i % 50 == 1 ? -1 : 2 * cog_rng_uniform(&rng) - 1;
            h[i] = (float)(offset * cog_rng_normal(&rng));
            x[i] = (float)((double)h[i] + move * delta);
        }
        const double step = 2 * delta / (levels - 2);
        /* x itself is a float: half of its last place */
        const double limit = (nearest ? step / 2 : step) * (1 + 1e-5) + offset * 6 * 0x1p-24;
        for (int s = 0; sets[s] != NULL; s++) {
            cog_quantizer q = configured(spec, N);
            q.tile_ops = sets[s];
            q.side = h;
            bench b = set_up(&q, device, 0);
            const size_t bytes = pack(&b, 1, &(cog_term){x, 1.0f});
            cr_expect_eq(bytes,
                         (size_t)(N + 31) / 32 * 4 * (size_t)__builtin_ctz((unsigned)levels));
            decode_all(&b, h, y);
            double worst = 0;
            int n_wrong = 0;
            for (int i = 0; i < N; i++) worst = fmax(worst, fabs((double)y[i] - (double)x[i]));
            for (int i = 0; i < N; i++) n_wrong += b.residual[i] != x[i] - y[i];
            cr_expect(worst <= limit && worst > 0.4 * step, "%s, far %d, %s: %g of %g", spec, far,
                      sets[s]->name, worst, step);
            cr_expect_eq(n_wrong, 0);
            tear_down(&b);
        }
    }
    free(x);
    free(h);
    free(y);
    cog_device_close(device);
}

/* The publication's worker does not know h: with a fixed range the payload is the same whatever was
 * expected. What lies beyond the range decodes to another point of the same lattice. */
Test(wyner_ziv, codes_do_not_depend_on_the_prediction_and_wrap_beyond_the_range) {
    cog_device *device = open_cpu();
    enum { LEVELS = 8 };
    float *x = ref_alloc(N, 4), *h = ref_alloc(N, 4), *y = ref_alloc(N, 4);
    ref_fill(IN_NORMAL, 1, x, N);
    for (int i = 0; i < N; i++) h[i] = x[i] + (i % 2 == 0 ? 0.01f : 3.0f);
    cog_quantizer q = configured("wyner-ziv:levels=8,delta=0.3,rounding=nearest", N);
    bench blind = set_up(&q, device, 0);
    q.side = h;
    bench b = set_up(&q, device, 0);
    const size_t bytes = pack(&b, 1, &(cog_term){x, 1.0f});
    cr_assert_eq(pack(&blind, 1, &(cog_term){x, 1.0f}), bytes);
    cr_expect(memcmp(b.payload, blind.payload, bytes) == 0);
    decode_all(&b, h, y);
    const double step = 2 * 0.3 / (LEVELS - 2) * (1 + 0x1p-20);
    for (int i = 0; i < N; i++) {
        const double off = ((double)y[i] - (double)x[i]) / step, wraps = round(off / LEVELS);
        cr_expect(fabs(off - wraps * LEVELS) < 0.501, "entry %d is off by %g steps", i, off);
        cr_expect((wraps != 0) == (i % 2 != 0), "entry %d wraps %g times", i, wraps);
        cr_expect(fabs((double)y[i] - (double)h[i]) <= LEVELS / 2.0 * step * 1.0001);
    }
    tear_down(&b);
    tear_down(&blind);
    free(x);
    free(h);
    free(y);
    cog_device_close(device);
}

/* Rounded at random, the mean over payloads is x: its deviation has the variance of a fraction. */
Test(wyner_ziv, the_mean_of_what_is_decoded_is_right) {
    cog_device *device = open_cpu();
    enum { N_PAYLOADS = 400 };
    float *x = ref_alloc(N, 4), *h = ref_alloc(N, 4), *y = ref_alloc(N, 4);
    double *sum = ref_alloc(N, 8);
    ref_fill(IN_NORMAL, 1, x, N);
    ref_fill(IN_NORMAL, 2, h, N);
    for (int i = 0; i < N; i++) h[i] = x[i] + 0.1f * h[i];
    cog_quantizer q = configured("wyner-ziv:levels=8,delta=0.6", N);
    q.side = h;
    bench b = set_up(&q, device, 0);
    for (int p = 0; p < N_PAYLOADS; p++) {
        pack(&b, 1, &(cog_term){x, 1.0f});
        decode_all(&b, h, y);
        for (int i = 0; i < N; i++) sum[i] += (double)y[i] - (double)x[i];
    }
    const double step = 0.2 * (1 + 0x1p-20);
    double chi = 0, n_random = 0;
    for (int i = 0; i < N; i++) {
        const double part = (double)x[i] / step - floor((double)x[i] / step);
        if (part * (1 - part) < 0.01) continue;
        chi += sum[i] * sum[i] / (step * step * part * (1 - part) * N_PAYLOADS);
        n_random++;
    }
    cr_expect(fabs(chi - n_random) < 5 * sqrt(2 * n_random), "%g for %g", chi, n_random);
    tear_down(&b);
    free(x);
    free(h);
    free(y);
    free(sum);
    cog_device_close(device);
}

/* With a measured range every group is in range: error below 2 / (K - 2) of the largest distance.
 */
Test(wyner_ziv, a_measured_range_contracts_towards_any_prediction) {
    cog_device *device = open_cpu();
    float *x = ref_alloc(N, 4), *h = ref_alloc(N, 4), *y = ref_alloc(N, 4);
    for (int input = 0; input < N_INPUTS; input++) {
        if (input == IN_BROKEN || input == IN_HUGE || input == IN_DENORMAL) continue;
        cog_quantizer q = configured("wyner-ziv:levels=16,group=1024", N);
        q.side = h;
        bench b = set_up(&q, device, 0);
        ref_fill(input, 1, x, N);
        ref_fill(IN_LAPLACE, 2, h, N);
        pack(&b, 1, &(cog_term){x, 1.0f});
        decode_all(&b, h, y);
        for (int a = 0; a < N; a += 1024) {
            double distance = 0, left = 0;
            for (int i = a; i < N && i < a + 1024; i++) {
                distance = fmax(distance, fabs((double)x[i] - (double)h[i]));
                left = fmax(left, fabs((double)x[i] - (double)y[i]));
            }
            cr_expect(left <= q.ops->worst_error(&q) * distance * (1 + 1e-5), "%s: %g of %g",
                      ref_input_name[input], left, distance);
        }
        tear_down(&b);
    }
    free(x);
    free(h);
    free(y);
    cog_device_close(device);
}

/* Through channels: a message that moves by 1 % a round is known ever better, at 4 bits an entry.
 */
Test(wyner_ziv, both_ends_of_a_channel_remember_the_same) {
    cog_device *device = open_cpu();
    cog_channel *end[2] = {NULL};
    float *x = ref_alloc(N, 4), *move = ref_alloc(N, 4);
    const char *spec = "wyner-ziv:predict=linear";
    cr_expect_eq(cog_channel_open("wyner-ziv", device, N, COG_SENDER, &end[0]), COG_ERR_ARGUMENT);
    cr_expect_not_null(strstr(cog_last_error(), "predict=linear"), "%s", cog_last_error());
    cr_assert_eq(cog_channel_open(spec, device, N, COG_SENDER, &end[0]), COG_OK, "%s",
                 cog_last_error());
    cr_assert_eq(cog_channel_open(spec, device, N, COG_RECEIVER, &end[1]), COG_OK);
    ref_fill(IN_NORMAL, 1, x, N);
    double off = 0, size = 0;
    for (uint32_t round = 0; round < 12; round++) {
        const void *payload;
        size_t bytes;
        ref_fill(IN_NORMAL, 10 + round, move, N);
        for (int i = 0; i < N; i++) x[i] += 0.01f * move[i];
        cr_assert_eq(cog_channel_pack(end[0], 1, &(cog_term){x, 1.0f}, &payload, &bytes), COG_OK);
        cr_assert_eq(cog_channel_receive(end[1], payload, bytes), COG_OK, "%s", cog_last_error());
        const float *got = cog_channel_payload(end[1], &bytes);
        off = size = 0;
        for (int i = 0; i < N; i++) off += ((double)got[i] - x[i]) * ((double)got[i] - x[i]);
        for (int i = 0; i < N; i++) size += (double)x[i] * x[i];
        for (int e = 0; e < 2; e++) cog_channel_settle(end[e], round % 5 != 3);
    }
    /* distance at most 4.5 * 0.01 and a step; step at most 1/7 of it; uniform within two of them */
    cr_expect(off / size < 0.0085 * 0.0085, "relative error %g", sqrt(off / size));
    cog_channel_close(end[0]);
    cog_channel_close(end[1]);
    free(x);
    free(move);
    cog_device_close(device);
}
