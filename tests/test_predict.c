/* test_predict.c - predictions that two ends make alone, and what is sent when they do not suffice.
 */
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
        {"trigger=lag", {1, 1, 2, 3, 3.5f}, {0, 1, 0, 0, 1}},
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
               {"topk:warmup=-1", "outside"},
               {"sign:feedback=1,ramp=8", "goes with topk"}};
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
