/* test_channel.c - what a channel owes and forgets, whichever messages are used. */
#include <criterion/criterion.h>

#include "channel.h"
#include "quantizer_reference.h"

static const char *const specs[] = {
    "identity:feedback=1",
    "bf16:feedback=1",
    "topk:ratio=0.01,feedback=1",
    "topk:ratio=0.02,kind=global,values=bf16,feedback=1",
    "topk:ratio=0.01,kind=threshold,feedback=1",
    "sign:feedback=1",
    "sign:scale=group,group=256,feedback=1",
    "qsgd:bits=6,feedback=1",
    "qsgd:bits=2,rounding=nearest,feedback=1",
    "randk:ratio=0.2,feedback=1",
    "randk:ratio=0.1,kind=block,feedback=1",
    "powersgd:rank=4,feedback=1",
};
enum { N_SPECS = sizeof(specs) / sizeof(specs[0]), N = 9001, ROUNDS = 40 };

static cog_device *open_cpu(void) {
    cog_device *device;
    cr_assert_eq(cog_device_open("cpu", &device), COG_OK, "%s", cog_last_error());
    return device;
}

static cog_channel *opened(const char *spec, cog_device *device, int64_t n, cog_channel_end end) {
    cog_channel *channel = NULL;
    cr_assert_eq(cog_channel_open(spec, device, n, end, &channel), COG_OK, "%s", cog_last_error());
    return channel;
}

static size_t pack(cog_channel *channel, const float *x, float coef, const void **payload) {
    size_t bytes = 0;
    cr_assert_eq(cog_channel_pack(channel, 1, &(cog_term){x, coef}, payload, &bytes), COG_OK, "%s",
                 cog_last_error());
    return bytes;
}

static void decode(const cog_channel *receiver, cog_device *device, float *y) {
    const cog_quantizer *q = cog_channel_quantizer(receiver);
    size_t bytes;
    const void *payload = cog_channel_payload(receiver, &bytes);
    cr_assert_not_null(payload);
    cr_assert_eq(bytes, cog_quantizer_used_bytes(q, payload));
    cr_assert_eq(q->ops->on[COG_CPU]->add(q, device, payload, 1.0f, 0, q->n, y), COG_OK);
}

/* Acceptance patterns: all, none, alternate, every third, random. */
static bool used(int pattern, uint32_t round) {
    cog_rng rng = cog_rng_make(5, COG_STREAM_TEST, round, (uint32_t)pattern);
    const bool choice[] = {true, false, round % 2 == 0, round % 3 == 0, cog_rng_u32(&rng) % 2 == 0};
    return choice[pattern];
}
enum { N_PATTERNS = 5 };

/* COCO-EF's virtual iterate: what arrived plus what is owed is what was meant, to rounding. */
Test(channel, accepted_payloads_and_error_add_up_to_the_accepted_messages) {
    cog_device *device = open_cpu();
    float *x = ref_alloc(N, 4), *got = ref_alloc(N, 4);
    double *meant = ref_alloc(N, 8), *arrived = ref_alloc(N, 8);
    for (int s = 0; s < N_SPECS; s++)
        for (int pattern = 0; pattern < N_PATTERNS; pattern++) {
            cog_channel *sender = opened(specs[s], device, N, COG_SENDER);
            cog_channel *receiver = opened(specs[s], device, N, COG_RECEIVER);
            memset(meant, 0, N * sizeof(*meant));
            memset(arrived, 0, N * sizeof(*arrived));
            for (uint32_t round = 0; round < ROUNDS; round++) {
                ref_fill(IN_LAPLACE, round, x, N);
                const void *payload;
                const size_t bytes = pack(sender, x, 0.25f, &payload);
                cr_assert_eq(cog_channel_receive(receiver, payload, bytes), COG_OK);
                cog_channel_settle(sender, used(pattern, round));
                if (!used(pattern, round)) continue;
                memset(got, 0, N * sizeof(*got));
                decode(receiver, device, got);
                for (int i = 0; i < N; i++) arrived[i] += got[i];
                for (int i = 0; i < N; i++) meant[i] += 0.25 * x[i];
            }
            const float *error = cog_channel_error(sender);
            double gap = 0;
            for (int i = 0; i < N; i++) gap = fmax(gap, fabs(meant[i] - arrived[i] - error[i]));
            /* two roundings a round of numbers below 16 */
            cr_expect_leq(gap, 2 * ROUNDS * 0x1p-24 * 16, "%s, pattern %d: %g", specs[s], pattern,
                          gap);
            cog_channel_close(sender);
            cog_channel_close(receiver);
        }
    free(x);
    free(got);
    free(meant);
    free(arrived);
    cog_device_close(device);
}

/* COCO-EF: "error vectors on the stragglers remain unchanged", and so does every other memory. A
 * message that is packed over without being settled counts as dropped. */
Test(channel, dropped_messages_leave_no_trace) {
    cog_device *device = open_cpu();
    float *x = ref_alloc(N, 4), *other = ref_alloc(N, 4);
    for (int s = 0; s < N_SPECS; s++)
        for (int settled = 0; settled < 2; settled++) {
            cog_channel *with = opened(specs[s], device, N, COG_SENDER);
            cog_channel *without = opened(specs[s], device, N, COG_SENDER);
            for (uint32_t round = 0; round < 12; round++) {
                const void *a, *b, *ignored;
                for (uint32_t drop = 0; drop < round % 3; drop++) {
                    ref_fill(IN_NORMAL, 100 + round + drop, other, N);
                    pack(with, other, 3.0f, &ignored);
                    if (settled) cog_channel_settle(with, false);
                    if (settled) cog_channel_settle(with, true); /* nothing is pending */
                }
                ref_fill(IN_LAPLACE, round, x, N);
                const size_t bytes = pack(with, x, 1.0f, &a);
                cr_assert_eq(pack(without, x, 1.0f, &b), bytes, "%s round %u", specs[s], round);
                cr_expect(memcmp(a, b, bytes) == 0, "%s round %u", specs[s], round);
                cog_channel_settle(with, true);
                cog_channel_settle(with, true);
                cog_channel_settle(without, true);
                cr_expect(memcmp(cog_channel_error(with), cog_channel_error(without), N * 4) == 0,
                          "%s round %u", specs[s], round);
            }
            cog_channel_close(with);
            cog_channel_close(without);
        }
    free(x);
    free(other);
    cog_device_close(device);
}

Test(channel, without_feedback_messages_do_not_know_each_other) {
    cog_device *device = open_cpu();
    float *x = ref_alloc(N, 4);
    cog_channel *twice = opened("topk:ratio=0.01", device, N, COG_SENDER);
    cog_channel *once = opened("topk:ratio=0.01,feedback=0", device, N, COG_SENDER);
    const void *a, *b;
    cr_expect_null(cog_channel_error(twice));
    ref_fill(IN_NORMAL, 1, x, N);
    pack(twice, x, 1.0f, &a);
    cog_channel_settle(twice, true);
    ref_fill(IN_NORMAL, 2, x, N);
    const size_t bytes = pack(twice, x, 1.0f, &a);
    cr_assert_eq(pack(once, x, 1.0f, &b), bytes);
    cr_expect(memcmp(a, b, bytes) == 0);
    cog_channel_close(twice);
    cog_channel_close(once);
    free(x);
    cog_device_close(device);
}

/* One broken message is seen by the server and forgotten by the sender. */
Test(channel, infinity_and_nan_do_not_stay_in_the_error) {
    cog_device *device = open_cpu();
    float *x = ref_alloc(N, 4);
    for (int s = 0; s < N_SPECS; s++) {
        cog_channel *sender = opened(specs[s], device, N, COG_SENDER);
        const void *payload;
        ref_fill(IN_NORMAL, 1, x, N);
        x[17] = INFINITY;
        x[5000] = NAN;
        pack(sender, x, 1.0f, &payload);
        cog_channel_settle(sender, true);
        int64_t n_broken = 0;
        for (int i = 0; i < N; i++) n_broken += !isfinite(cog_channel_error(sender)[i]);
        cr_expect_eq(n_broken, 0, "%s", specs[s]);
        cog_channel_close(sender);
    }
    free(x);
    cog_device_close(device);
}

Test(channel, empty_messages_travel) {
    cog_device *device = open_cpu();
    for (int s = 0; s < N_SPECS; s++) {
        cog_channel *sender = opened(specs[s], device, 0, COG_SENDER);
        cog_channel *receiver = opened(specs[s], device, 0, COG_RECEIVER);
        for (int round = 0; round < 3; round++) {
            const void *payload;
            const size_t bytes = pack(sender, NULL, 1.0f, &payload);
            cr_expect_leq(bytes, 4, "%s", specs[s]);
            cr_expect_eq(cog_channel_receive(receiver, payload, bytes), COG_OK, "%s: %s", specs[s],
                         cog_last_error());
            decode(receiver, device, NULL);
            cog_channel_settle(sender, round != 1);
        }
        cog_channel_close(sender);
        cog_channel_close(receiver);
    }
    cog_device_close(device);
}

Test(channel, a_refused_payload_leaves_the_last_one_in_place) {
    cog_device *device = open_cpu();
    float *x = ref_alloc(N, 4);
    const char *spec = "topk:ratio=0.01";
    cog_channel *sender = opened(spec, device, N, COG_SENDER);
    cog_channel *receiver = opened(spec, device, N, COG_RECEIVER);
    const void *payload;
    size_t kept;
    cr_expect_null(cog_channel_payload(receiver, &kept));
    ref_fill(IN_NORMAL, 1, x, N);
    const size_t bytes = pack(sender, x, 1.0f, &payload);
    char *wire = ref_alloc((int64_t)bytes + 9, 1);
    memcpy(wire + 1, payload, bytes); /* frames need not be aligned */
    cr_assert_eq(cog_channel_receive(receiver, wire + 1, bytes), COG_OK);
    memset(wire + 1 + bytes / 2, 0xff, bytes - bytes / 2);
    cr_expect_eq(cog_channel_receive(receiver, wire + 1, bytes), COG_ERR_FORMAT);
    cr_expect_eq(cog_channel_receive(receiver, wire, bytes - 1), COG_ERR_FORMAT);
    cr_expect_eq(cog_channel_receive(receiver, wire, bytes + 8), COG_ERR_FORMAT);
    cr_expect(memcmp(cog_channel_payload(receiver, &kept), payload, bytes) == 0);
    cr_expect_eq(kept, bytes);
    free(wire);
    cog_channel_close(sender);
    cog_channel_close(receiver);
    free(x);
    cog_device_close(device);
}

Test(channel, misuse_is_answered_with_a_sentence) {
    cog_device *device = open_cpu();
    float x[8] = {0};
    cog_term terms[COG_MAX_TERMS];
    for (int t = 0; t < COG_MAX_TERMS; t++) terms[t] = (cog_term){x, 1.0f};
    cog_channel *sender = opened("sign:feedback=1", device, 8, COG_SENDER);
    cog_channel *receiver = opened("sign:feedback=1", device, 8, COG_RECEIVER);
    const void *payload = NULL;
    size_t bytes = 77;
    cr_expect_eq(cog_channel_pack(receiver, 1, terms, &payload, &bytes), COG_ERR_ARGUMENT);
    cr_expect_eq(cog_channel_receive(sender, x, 4), COG_ERR_ARGUMENT);
    cr_expect_eq(cog_channel_pack(sender, COG_MAX_TERMS, terms, &payload, &bytes),
                 COG_ERR_ARGUMENT);
    cr_expect_eq(cog_channel_pack(sender, COG_MAX_TERMS - 1, terms, &payload, &bytes), COG_OK);
    cog_channel *none = NULL;
    cr_expect_eq(cog_channel_open("sign:feedbak=1", device, 8, COG_SENDER, &none), COG_ERR_SPEC);
    cr_expect_eq(cog_channel_open("sign:feedback=2", device, 8, COG_SENDER, &none), COG_ERR_SPEC);
    cr_expect_null(none);
    cog_channel_close(NULL);
    cog_channel_close(sender);
    cog_channel_close(receiver);
    cog_device_close(device);
}
