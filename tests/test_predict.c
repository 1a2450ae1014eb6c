/* test_predict.c - predictions that two ends make alone, and what is sent when they do not suffice.
 */
#include <lapacke.h>

#include "channel_rig.h"

static const char *const specs[] = {
    "identity:predict=linear",
    "identity:predict=temporal,trigger=always",
    "identity:predict=temporal,window=5,threshold=0.05",
    "topk:ratio=0.05,predict=linear",
    "topk:ratio=0.05,kind=threshold,predict=linear",
    "topk:ratio=0.05,predict=temporal,window=4,push=fired,threshold=0.3",
    "topk:ratio=0.05,values=bf16,predict=temporal,window=16,trigger=decaying,threshold=9,power=1",
    "sign:predict=difference,rate=0.3",
    "sign:predict=temporal,trigger=lag,threshold=0.5",
    "bf16:predict=temporal,window=2,warmup=4",
};
enum { N_SPECS = sizeof(specs) / sizeof(specs[0]), N = 700, ROUNDS = 30 };

enum { USED, UNUSED, LOST, REPLACED, N_FATES };

/* Every fate a message can have: used, received and not used, never received, and received but
 * replaced by the answer to the next question before anybody settled it. */
static int fate_of(uint32_t round) {
    cog_rng rng = cog_rng_make(3, COG_STREAM_TEST, round, 0);
    return round < 3 ? USED : (int)cog_rng_below(&rng, N_FATES);
}

static void expect_same_bits(const char *spec, uint32_t round, const cog_channel *a,
                             const cog_channel *b) {
    cr_expect(memcmp(cog_mirror_expected(a->mirror), cog_mirror_expected(b->mirror), N * 4) == 0,
              "%s, round %u: the predictions differ", spec, round);
    cr_expect(memcmp(a->estimate, b->estimate, N * 4) == 0, "%s, round %u: the estimates differ",
              spec, round);
}

Test(predict, both_ends_hold_the_same_bits_whatever_is_lost) {
    float x[N];
    for (int s = 0; s < N_SPECS; s++) {
        pair p = open_pair(specs[s], N);
        for (uint32_t round = 0; round < ROUNDS; round++) {
            const void *message;
            const int fate = fate_of(round);
            slow_gradient(round, 0.02, x, N);
            const size_t bytes = send(&p, round, x, &message);
            if (fate != LOST) received(&p, message, bytes);
            if (fate != LOST) expect_same_bits(specs[s], round, p.sender, p.receiver);
            if (fate == REPLACED) continue;
            cog_channel_settle(p.sender, fate == USED);
            if (fate != LOST) cog_channel_settle(p.receiver, fate == USED);
        }
        close_pair(&p);
    }
}

Test(predict, dropped_messages_leave_no_trace) {
    float x[N];
    for (int s = 0; s < N_SPECS; s++) {
        pair with = open_pair(specs[s], N), without = open_pair(specs[s], N);
        for (uint32_t round = 0; round < ROUNDS; round++) {
            const void *a, *b;
            slow_gradient(round, 0.02, x, N);
            const size_t bytes = send(&with, round, x, &a);
            if (fate_of(round) == USED) {
                cr_assert_eq(send(&without, round, x, &b), bytes, "%s round %u", specs[s], round);
                cr_expect(memcmp(a, b, bytes) == 0, "%s round %u", specs[s], round);
                received(&with, a, bytes);
                received(&without, b, bytes);
                settle(&without, true);
            }
            settle(&with, fate_of(round) == USED);
        }
        close_pair(&with);
        close_pair(&without);
    }
}

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
Test(predict, temporal_prediction_is_the_least_squares_fit) {
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
Test(predict, a_fit_does_not_depend_on_what_is_known_of_the_memory) {
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
Test(predict, a_window_of_two_foresees_two_decays) {
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

/* A message (c, 0, ..) a round, so that norms are plain numbers: is its residual sent? */
Test(predict, triggers_fire_when_they_say) {
    static const struct {
        const char *keys;
        float value[5];
        bool fires[5];
    } cases[] = {
        {"trigger=always", {1, 1, 1, 1, 1}, {1, 1, 1, 1, 1}},
        {"trigger=absolute,threshold=0.5", {1, 1.5f, 1.75f, 1.0f, 0.5f}, {1, 0, 1, 1, 0}},
        {"trigger=relative,threshold=0.25", {4, 5, 6, 8, 8}, {1, 0, 1, 0, 0}},
        {"trigger=decaying,threshold=4,power=1", {3, 3, 3, 3, 3}, {0, 1, 0, 0, 0}},
        {"trigger=decaying,threshold=4,power=2", {4, 1, 1, 0.75f, 0.625f}, {0, 0, 1, 0, 1}},
        /* (x - estimate)^2 > 4 (x - last)^2:  1 > 4, 1 > 0, 1 > 4, 4 > 4, 6.25 > 1 */
        {"trigger=lag,threshold=4", {1, 1, 2, 3, 3.5f}, {0, 1, 0, 0, 1}},
        /* after a message that was sent the estimate is the last message: below 1 all are news */
        {"trigger=lag,threshold=0.75", {1, 1.25f, 2, 2.125f, 3}, {1, 1, 1, 1, 1}},
        {"trigger=lag,threshold=1", {1, 1.25f, 2, 2.125f, 3}, {0, 1, 0, 1, 0}},
        {"trigger=absolute,threshold=0", {0, 1, 1, 1, 2}, {0, 1, 0, 0, 1}},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        char spec[120];
        snprintf(spec, sizeof(spec), "identity:predict=linear,%s", cases[c].keys);
        pair p = open_pair(spec, 3);
        float estimate = 0;
        for (int round = 0; round < 5; round++) {
            const float x[3] = {cases[c].value[round], 0, 0};
            size_t bytes;
            const float *got = deliver(&p, round, x, &bytes);
            if (cases[c].fires[round]) estimate = x[0];
            cr_expect_eq(bytes, cases[c].fires[round] ? 1 + 3 * 4 : 1, "%s round %d: %zu bytes",
                         cases[c].keys, round, bytes);
            cr_expect_eq(got[0], estimate, "%s round %d: %g", cases[c].keys, round, got[0]);
        }
        close_pair(&p);
    }
}

/* EF21 and DIANA from their papers' lines, with top-k by a sort, in double. */
static void top_k(const double *x, double *out, int k) {
    bool taken[N] = {false};
    memset(out, 0, N * sizeof(*out));
    for (int found = 0; found < k; found++) {
        int best = -1;
        for (int i = 0; i < N; i++)
            if (!taken[i] && (best < 0 || fabs(x[i]) > fabs(x[best]))) best = i;
        taken[best] = true;
        out[best] = x[best];
    }
}

Test(predict, memories_follow_the_published_recursions) {
    static const struct {
        const char *spec;
        double rate;
    } cases[] = {{"topk:ratio=0.05,kind=global,predict=linear", 1},
                 {"topk:ratio=0.05,kind=global,predict=difference,rate=0.5", 0.5}};
    static double h[N], gap[N], sent[N];
    float x[N];
    for (size_t c = 0; c < 2; c++) {
        pair p = open_pair(cases[c].spec, N);
        memset(h, 0, sizeof(h));
        for (uint32_t round = 0; round < 60; round++) {
            slow_gradient(round, 0, x, N);
            size_t bytes;
            const float *estimate = deliver(&p, round, x, &bytes);
            for (int i = 0; i < N; i++) gap[i] = x[i] - h[i];
            top_k(gap, sent, N / 20);
            for (int i = 0; i < N; i++)
                cr_assert_float_eq(estimate[i], h[i] + sent[i], 2e-5,
                                   "%s round %u entry %d: %g, %g", cases[c].spec, round, i,
                                   estimate[i], h[i] + sent[i]);
            for (int i = 0; i < N; i++) h[i] += cases[c].rate * sent[i];
        }
        close_pair(&p);
    }
}

/* 32 bits a coefficient, one for the flag - a byte on the wire - and the payload when it fires. */
Test(predict, every_bit_on_the_wire_is_accounted_for) {
    static const struct {
        const char *spec;
        size_t header;
    } cases[] = {{"predict=temporal,window=1", 5},   {"predict=temporal,window=7", 29},
                 {"predict=temporal,window=16", 65}, {"predict=linear", 1},
                 {"predict=difference", 1},          {"warmup=3", 1}};
    float x[N];
    slow_gradient(0, 1, x, N);
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        char spec[80];
        snprintf(spec, sizeof(spec), "bf16:%s", cases[c].spec);
        pair p = open_pair(spec, N);
        size_t bytes;
        deliver(&p, 5, x, &bytes);
        cr_expect_eq(bytes, cases[c].header + N * 2, "%s: %zu bytes", spec, bytes);
        cr_expect_leq(bytes, cog_channel_max_bytes(p.receiver));
        if (strncmp(cases[c].spec, "warmup", 6) == 0) {
            deliver(&p, 2, x, &bytes);
            cr_expect_eq(bytes, cases[c].header + N * 4, "%s: %zu bytes", spec, bytes);
        } else {
            deliver(&p, 6, x, &bytes); /* what was just seen */
            const bool fires = strstr(cases[c].spec, "temporal") == NULL;
            cr_expect_eq(bytes, cases[c].header + (fires ? N * 2 : 0), "%s: %zu bytes", spec,
                         bytes);
        }
        close_pair(&p);
    }
}

/* One broken message is seen by the server and forgotten by both ends. */
Test(predict, infinity_and_nan_do_not_stay_in_the_memories) {
    float x[N];
    for (int s = 0; s < N_SPECS; s++) {
        pair p = open_pair(specs[s], N);
        size_t bytes;
        for (uint32_t round = 0; round < 12; round++) {
            slow_gradient(round, 0.02, x, N);
            if (round == 6) x[17] = INFINITY;
            if (round == 7) x[5] = NAN;
            const float *estimate = deliver(&p, round, x, &bytes);
            if (round < 6 || round > 7)
                for (int i = 0; i < N; i++)
                    cr_assert(isfinite(estimate[i]), "%s round %u entry %d", specs[s], round, i);
            expect_same_bits(specs[s], round, p.sender, p.receiver);
        }
        close_pair(&p);
    }
}

/* Cut, lengthened and damaged messages are refused, or taken without harm; what is refused changes
 * nothing at the receiver. */
Test(predict, malformed_messages_are_refused) {
    float x[N], kept[N];
    cog_rng rng = cog_rng_make(9, COG_STREAM_TEST, 0, 0);
    for (int s = 0; s < N_SPECS; s++) {
        pair p = open_pair(specs[s], N);
        const size_t most = cog_channel_max_bytes(p.receiver);
        uint8_t *wire = malloc(most + 9);
        for (uint32_t round = 0; round < 12; round++) {
            slow_gradient(round, 0.5, x, N);
            const void *message;
            size_t taken;
            const size_t bytes = send(&p, round, x, &message);
            memcpy(kept, received(&p, message, bytes), sizeof(kept));
            for (int attempt = 0; attempt < 60; attempt++) {
                size_t length = bytes;
                memcpy(wire + 1, message, bytes);
                const int kind = attempt % 3;
                if (kind == 0) length = cog_rng_below(&rng, (uint32_t)bytes);
                if (kind == 1) length = bytes + 1 + cog_rng_below(&rng, 8);
                if (kind == 1) memset(wire + 1 + bytes, 0, length - bytes);
                if (kind == 2) wire[1 + cog_rng_below(&rng, (uint32_t)bytes)] ^= 1 << attempt % 8;
                const cog_status status = cog_channel_receive(p.receiver, wire + 1, length);
                if (kind == 2 && status == COG_OK)
                    memcpy(kept, cog_channel_payload(p.receiver, &taken), sizeof(kept));
                else
                    cr_expect_eq(status, COG_ERR_FORMAT, "%s: %zu of %zu bytes taken", specs[s],
                                 length, bytes);
                cr_expect(memcmp(kept, cog_channel_payload(p.receiver, &taken), N * 4) == 0);
            }
            received(&p, message, bytes);
            expect_same_bits(specs[s], round, p.sender, p.receiver);
            settle(&p, true);
        }
        free(wire);
        close_pair(&p);
    }
}

Test(predict, coefficients_and_flags_from_strangers_are_checked) {
    pair p = open_pair("identity:predict=temporal,window=2", 1);
    struct __attribute__((packed)) {
        float coefs[2];
        uint8_t flags;
        float payload;
    } message = {{1, 2}, 1, 3};
    const size_t header = 9, whole = 13;
    OK(cog_channel_receive(p.receiver, &message, whole));
    cr_expect_eq(cog_channel_receive(p.receiver, &message, header), COG_ERR_FORMAT);
    message.flags = 0;
    OK(cog_channel_receive(p.receiver, &message, header));
    cr_expect_eq(cog_channel_receive(p.receiver, &message, whole), COG_ERR_FORMAT);
    message.flags = 3; /* no warm-up was agreed upon */
    cr_expect_eq(cog_channel_receive(p.receiver, &message, whole), COG_ERR_FORMAT);
    message.flags = 0x81;
    cr_expect_eq(cog_channel_receive(p.receiver, &message, whole), COG_ERR_FORMAT);
    message.flags = 1;
    message.coefs[1] = NAN;
    cr_expect_eq(cog_channel_receive(p.receiver, &message, whole), COG_ERR_FORMAT);
    cr_expect_not_null(strstr(cog_last_error(), "coefficient 1"), "%s", cog_last_error());
    cr_expect_eq(cog_channel_receive(p.receiver, &message, 0), COG_ERR_FORMAT);
    close_pair(&p);
}

Test(predict, parts_that_do_not_compose_are_refused_with_a_sentence) {
    static const struct {
        const char *spec, *part;
    } bad[] = {{"topk:predict=linear,feedback=1", "do not compose"},
               {"topk:predict=temporal,feedback=1", "do not compose"},
               {"topk:predict=oracle", "temporal, linear, difference"},
               {"topk:window=3", "no key 'window'"},
               {"topk:predict=linear,window=3", "no key 'window'"},
               {"topk:predict=temporal,window=0", "outside"},
               {"topk:predict=temporal,window=17", "outside"},
               {"topk:predict=temporal,trigger=never", "one of"},
               {"topk:predict=temporal,threshold=-1", "outside"},
               {"topk:momentum=0.9", "feedback=1"},
               {"sign:momentum=0.9,feedback=1", "topk"},
               {"topk:momentum=0.9,predict=linear", "does not go"},
               {"topk:momentum=1,feedback=1", "outside"},
               {"topk:warmup=-1", "outside"}};
    cog_device *device;
    OK(cog_device_open("cpu", &device));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cog_channel *channel = NULL;
        cr_expect_neq(cog_channel_open(bad[i].spec, device, N, COG_SENDER, &channel), COG_OK, "%s",
                      bad[i].spec);
        cr_expect_null(channel);
        cr_expect_not_null(strstr(cog_last_error(), bad[i].part), "%s: %s", bad[i].spec,
                           cog_last_error());
    }
    cog_device_close(device);
}

Test(predict, messages_of_every_length_travel) {
    static const int64_t lengths[] = {0, 1, 2, 255, 257};
    float x[257];
    for (int s = 0; s < N_SPECS; s++)
        for (size_t l = 0; l < 5; l++) {
            pair p = open_pair(specs[s], lengths[l]);
            for (uint32_t round = 0; round < 20; round++) {
                size_t bytes;
                slow_gradient(round, 0.1, x, lengths[l]);
                deliver(&p, round, x, &bytes);
            }
            close_pair(&p);
        }
}

/* Lin et al. 2018 from its lines: u = m u + g, v = v + u, the k largest of v are sent and taken out
 * of both. Messages that are not used change neither. */
Test(predict, momentum_correction_follows_deep_gradient_compression) {
    static double u[N], v[N], next_u[N], next_v[N], sent[N];
    float x[N];
    pair p = open_pair("topk:ratio=0.1,kind=global,feedback=1,momentum=0.75", N);
    for (uint32_t round = 0; round < 60; round++) {
        slow_gradient(round, 0.1, x, N);
        for (int i = 0; i < N; i++) {
            next_u[i] = 0.75 * u[i] + x[i];
            next_v[i] = v[i] + next_u[i];
        }
        top_k(next_v, sent, N / 10);
        for (int i = 0; i < N; i++) next_v[i] -= sent[i];
        for (int i = 0; i < N; i++) next_u[i] *= sent[i] == 0;
        const void *message;
        size_t bytes = send(&p, round, x, &message);
        OK(cog_channel_receive(p.receiver, message, bytes));
        const bool used = fate_of(round) == USED;
        settle(&p, used);
        if (used) memcpy(u, next_u, sizeof(u));
        if (used) memcpy(v, next_v, sizeof(v));
        for (int i = 0; i < N; i++) {
            cr_assert_float_eq(cog_channel_error(p.sender)[i], v[i], 1e-4, "round %u entry %d",
                               round, i);
            cr_assert_float_eq(p.sender->velocity[i], u[i], 1e-4, "round %u entry %d", round, i);
        }
    }
    close_pair(&p);
}

/* All rounds of a warm-up are momentum SGD, and leave nothing behind. */
Test(predict, a_warm_up_sends_everything) {
    static double u[N];
    float x[N];
    pair p = open_pair("topk:ratio=0.1,feedback=1,momentum=0.75,warmup=8", N);
    for (uint32_t round = 0; round < 8; round++) {
        slow_gradient(round, 0.1, x, N);
        size_t bytes;
        const float *got = deliver(&p, round, x, &bytes);
        for (int i = 0; i < N; i++) {
            u[i] = 0.75 * u[i] + x[i];
            cr_assert_float_eq(got[i], u[i], 1e-4, "round %u entry %d", round, i);
            cr_assert_eq(cog_channel_error(p.sender)[i], 0);
        }
    }
    close_pair(&p);
}

/* A window of two holds a and b. A message near b needs no residual; if it is remembered all the
 * same, a has gone, and a + b cannot be foreseen any more. */
Test(predict, only_what_fired_is_remembered_where_asked) {
    static const float messages[][3] = {{1, 0, 0}, {0, 1, 0}, {0, 1, 0}, {1, 1, 0}};
    static const char *const policies[] = {"always", "fired"};
    for (int policy = 0; policy < 2; policy++) {
        char spec[100];
        snprintf(spec, sizeof(spec),
                 "identity:predict=temporal,window=2,trigger=absolute,threshold=0.1,push=%s",
                 policies[policy]);
        pair p = open_pair(spec, 3);
        size_t bytes = 0;
        for (int round = 0; round < 4; round++) deliver(&p, round, messages[round], &bytes);
        cr_expect_eq(bytes, policy == 1 ? 9 : 9 + 3 * 4, "%s: %zu bytes", policies[policy], bytes);
        close_pair(&p);
    }
}
