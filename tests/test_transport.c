/* test_transport.c - the laws of transports, over every one that lives in this process. */
#include "transport_rig.h"

#include "rng.h"

/* --- frames --------------------------------------------------------------------------------- */

enum { MOST = 5000 };

/* What frame `round` to a worker holds, from a formula that both ends know. */
static uint64_t fill(unsigned char *bytes, int worker, int64_t round) {
    cog_rng rng = cog_rng_make(7, COG_STREAM_TEST, (uint32_t)round, (uint32_t)worker);
    const uint64_t n = cog_rng_below(&rng, round % 3 == 0 ? 80 : MOST + 1);
    for (uint64_t i = 0; i < n; i++) bytes[i] = (unsigned char)cog_rng_u32(&rng);
    return n;
}

static void check_traffic(const char *spec, int n_workers, int n_rounds) {
    rig r;
    unsigned char sent[MOST], expected[MOST];
    int64_t bytes = 0;
    rig_open(&r, spec, n_workers, MOST);
    for (int round = 0; round < n_rounds; round++)
        for (int w = 0; w < n_workers; w++) {
            const uint64_t n = fill(sent, w, round);
            rig_order(&r, w, ECHO, 2, round, sent, n);
            memset(sent, 0xee, sizeof(sent)); /* the payload may be reused */
            bytes += 48 + (int64_t)n;
        }
    cr_assert_eq(r.transport->bytes_down, bytes, "%s", spec);
    int answers[16] = {0};
    for (int k = 0; k < 2 * n_rounds * n_workers; k++) {
        const cog_frame frame = rig_receive(&r);
        const int w = frame.header.source - 1;
        const int64_t round = answers[w]++ / 2;
        cr_assert_eq(frame.header.round, round, "%s: worker %d answered %d, not %d", spec, w,
                     (int)frame.header.round, (int)round);
        cr_assert_eq(frame.header.bytes, fill(expected, w, round));
        cr_assert_eq(memcmp(frame.payload, expected, frame.header.bytes), 0, "%s", spec);
    }
    cr_assert_eq(r.transport->bytes_up, 2 * bytes, "%s", spec);
    rig_close(&r);
}

Test(transport, frames_arrive_intact_in_their_senders_order_and_every_byte_is_counted) {
    for (int i = 0; i < N_BOTH; i++) {
        check_traffic(both[i], 1, 40);
        check_traffic(both[i], 7, 150);
    }
}

Test(transport, equal_payloads_to_all_workers_stay_intact) {
    enum { BYTES = 100000 };
    static unsigned char sent[BYTES];
    for (int i = 0; i < N_BOTH; i++) {
        rig r;
        rig_open(&r, both[i], 5, BYTES);
        for (int round = 0; round < 6; round++) {
            memset(sent, round, sizeof(sent));
            for (int w = 0; w < 5; w++) {
                sent[BYTES - 1] = (unsigned char)(w == 3 ? 99 : round); /* almost equal */
                rig_order(&r, w, ECHO, 1, round, sent, BYTES);
            }
        }
        for (int k = 0; k < 30; k++) {
            const cog_frame frame = rig_receive(&r);
            const unsigned char *got = frame.payload;
            const int round = (int)frame.header.round;
            for (int j = 0; j < BYTES - 1; j++) cr_assert_eq(got[j], round, "%s", both[i]);
            cr_assert_eq(got[BYTES - 1], frame.header.source == 4 ? 99 : round, "%s", both[i]);
        }
        rig_close(&r);
    }
}

Test(transport, frames_that_cannot_travel_are_refused_in_words) {
    for (int i = 0; i < N_BOTH; i++) {
        rig r;
        rig_open(&r, both[i], 3, 100);
        cog_frame_header header = cog_frame_make(COG_FRAME_PARAMS, 0, 0);
        rig_expect_refusal(&r, 0, 4, &header, "ranks 1..3; this one from 0 to 4");
        rig_expect_refusal(&r, 0, 0, &header, "from 0 to 0");
        rig_expect_refusal(&r, 0, -1, &header, "from 0 to -1");
        rig_expect_refusal(&r, 1, 2, &header, "from 1 to 2");
        rig_expect_refusal(&r, 2, 0, &header, "rank 2 names 0");
        header.bytes = 101;
        rig_expect_refusal(&r, 0, 1, &header, "101 bytes is larger than the 100");
        header.bytes = 100;
        const char payload[100] = "";
        cr_assert_eq(r.transport->ops->send(r.transport, 0, 1, &header, payload), COG_OK);
        header.magic++;
        rig_expect_refusal(&r, 0, 1, &header, "no proper header");
        cr_assert_eq(r.transport->ops->elapse(r.transport, 1, 1, 1, 0), COG_ERR_ARGUMENT);
        cr_assert_eq(r.transport->ops->allreduce(r.transport, 9, NULL, 0, false), COG_ERR_ARGUMENT);
        rig_close(&r);
    }
}

Test(transport, bad_specs_and_half_filled_transports_are_refused) {
    static const char *const bad[] = {"carrier-pigeon", "sim:flops=0",     "sim:latency=-1",
                                      "sim:speed=3",    "sim:bandwidth=x", "sim:threads=-2",
                                      "threads:pin=1",  "sim:latency=nan", ""};
    cog_transport *t = NULL;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(cog_transport_create(bad[i], 2, &t), COG_ERR_SPEC, "%s", bad[i]);
    cr_assert_eq(cog_transport_create("sim", 0, &t), COG_ERR_ARGUMENT);
    cr_assert_null(t);
    for (int i = 0; i < N_BOTH; i++) {
        cog_frame frame;
        cog_frame_header header = cog_frame_make(COG_FRAME_PARAMS, 0, 0);
        cr_assert_eq(cog_transport_create(both[i], 2, &t), COG_OK);
        cr_assert_eq(t->ops->start(t), COG_ERR_ARGUMENT, "there are no workers");
        cr_assert_eq(t->ops->receive(t, 0, &frame), COG_ERR_TRANSPORT);
        cr_assert_eq(t->ops->send(t, 0, 1, &header, NULL), COG_ERR_TRANSPORT);
        t->ops->stop(t);
        t->ops->stop(t);
        cog_transport_destroy(t);
    }
    cog_transport_destroy(NULL);
}

/* --- time ----------------------------------------------------------------------------------- */

/* Never too early; on time at least once in three tries, as other processes may be in the way. */
static bool gives_up_on_time(const char *spec) {
    rig r;
    rig_open(&r, spec, 2, 100);
    cog_frame frame = {.payload = &r};
    rig_order(&r, 1, SLEEP, 200, 5, NULL, 0);
    const double begin = r.transport->ops->now(r.transport);
    cr_assert_eq(r.transport->ops->receive(r.transport, 0.05, &frame), COG_ERR_TIMEOUT);
    const double waited = r.transport->ops->now(r.transport) - begin;
    cr_assert(waited >= 0.0499, "%s waited %g s for 0.05", spec, waited);
    cr_assert_eq(frame.payload, &r, "an output was touched");
    cr_assert_eq(rig_receive(&r).header.round, 5);
    const double arrival = r.transport->ops->now(r.transport) - begin;
    cr_assert(arrival >= 0.2, "%s: %g s for 0.2", spec, arrival);
    cr_assert_eq(r.transport->ops->receive(r.transport, 0, &frame), COG_ERR_TIMEOUT);
    rig_close(&r);
    return waited < 0.15 && arrival < 1;
}

Test(transport, receive_gives_up_after_its_timeout_and_goes_on_later) {
    for (int i = 0; i < N_BOTH; i++)
        cr_assert(gives_up_on_time(both[i]) || gives_up_on_time(both[i]) ||
                      gives_up_on_time(both[i]),
                  "%s is far too late", both[i]);
}

#ifndef RIG_TRANSPORT
/* Seconds that 0.15 s of work take, slowed down. */
static double slowed(double factor) {
    rig r;
    rig_open(&r, "threads", 1, 100);
    const double begin = rig_clock();
    rig_order(&r, 0, SPIN, 150, 0, &factor, sizeof(factor));
    rig_receive(&r);
    const double took = rig_clock() - begin;
    rig_close(&r);
    return took;
}

/* Never too early; on time at least once in three tries, as other processes may be in the way. */
Test(transport, slow_workers_on_threads_take_factor_times_as_long) {
    for (double factor = 1; factor <= 2; factor++) {
        bool on_time = false;
        for (int i = 0; i < 3 && !on_time; i++) {
            const double took = slowed(factor);
            cr_assert(took >= 0.1499 * factor, "%g s at factor %g", took, factor);
            on_time = took < 0.15 * factor + 0.1;
        }
        cr_assert(on_time, "far too late at factor %g", factor);
    }
}
#endif

/* --- failures and stops --------------------------------------------------------------------- */

Test(transport, a_failing_worker_is_heard_once_and_the_others_go_on) {
    for (int i = 0; i < N_BOTH; i++) {
        rig r;
        cog_frame frame;
        rig_open(&r, both[i], 5, 100);
        rig_order(&r, 3, FAIL, 0, 12, NULL, 0);
        cr_assert_eq(r.transport->ops->receive(r.transport, 10, &frame), COG_ERR_FORMAT);
        cr_assert_str_eq(cog_last_error(), "worker 3: the sky fell in round 12");
        for (int w = 0; w < 5; w++) rig_order(&r, w, ECHO, 1, w, NULL, 0);
        for (int k = 0; k < 4; k++) cr_assert_neq(rig_receive(&r).header.source, 4);
        cr_assert_eq(r.transport->ops->receive(r.transport, 0.03, &frame), COG_ERR_TIMEOUT);
        rig_close(&r);
    }
}

Test(transport, a_failure_during_an_all_reduce_is_heard_too) {
    for (int i = 0; i < N_BOTH; i++) {
        rig r;
        cog_frame frame;
        rig_open(&r, both[i], 3, 100);
        for (int w = 0; w < 3; w++) rig_order(&r, w, w == 1 ? FAIL : SUM, 0, 1, NULL, 0);
        cr_assert_eq(r.transport->ops->receive(r.transport, 10, &frame), COG_ERR_FORMAT);
        cr_assert(strstr(cog_last_error(), "worker 1:"));
        cr_assert_eq(r.transport->ops->receive(r.transport, 0.03, &frame), COG_ERR_TIMEOUT);
        rig_close(&r);
    }
}

Test(transport, workers_that_would_sum_different_vectors_all_fail) {
    float x[16] = {0};
    for (int i = 0; i < N_BOTH; i++) {
        rig r;
        cog_frame frame;
        rig_open(&r, both[i], 3, 100);
        for (int w = 0; w < 3; w++) {
            r.workers[w].x = x + 5 * w;
            r.workers[w].n = w == 2 ? 3 : 4;
            rig_order(&r, w, SUM, 0, 0, NULL, 0);
        }
        for (int k = 0; k < 3; k++) {
            cr_assert_eq(r.transport->ops->receive(r.transport, 10, &frame), COG_ERR_ARGUMENT);
            cr_assert(strstr(cog_last_error(), "worker 2 would sum 3 floats and worker 0 would "
                                               "sum 4"),
                      "%s", cog_last_error());
        }
        rig_close(&r);
    }
}

/* Orders that keep workers busy in every way there is; then stop. */
Test(transport, stop_ends_whatever_workers_do_and_start_begins_anew) {
    static const struct {
        enum order order;
        int amount, n_workers;
    } busy[] = {{SLEEP, 1000000, 3}, {SPIN, 30, 3}, {SUM, 0, 2}, {ECHO, 50, 3}};
    for (int i = 0; i < N_BOTH; i++)
        for (size_t b = 0; b < sizeof(busy) / sizeof(busy[0]); b++) {
            rig r;
            cog_frame frame;
            float x[3] = {1, 2, 3};
            rig_open(&r, both[i], 3, 100);
            for (int w = 0; w < 3; w++) r.workers[w].x = &x[w], r.workers[w].n = 1;
            for (int w = 0; w < busy[b].n_workers; w++)
                for (int k = 0; k < 3; k++)
                    rig_order(&r, w, busy[b].order, busy[b].amount, 0, NULL, 0);
            (void)r.transport->ops->receive(r.transport, 0.01, &frame);
            const double begin = rig_clock();
            r.transport->ops->stop(r.transport);
            cr_assert(rig_clock() - begin < 2, "%s, %zu: stop took %g s", both[i], b,
                      rig_clock() - begin);
            cr_assert_eq(atomic_load(&r.n_handling), 0, "a handler runs on");
            cr_assert_eq(r.transport->ops->start(r.transport), COG_OK);
            rig_order(&r, 2, ECHO, 1, 77, NULL, 0);
            cr_assert_eq(rig_receive(&r).header.round, 77, "%s: an old frame came", both[i]);
            rig_close(&r);
        }
}

#ifndef RIG_TRANSPORT
Test(transport, stop_on_threads_does_not_wait_for_frames_not_yet_begun) {
    rig r;
    rig_open(&r, "threads", 2, 100);
    for (int k = 0; k < 1000; k++) rig_order(&r, k % 2, SPIN, 10, 0, NULL, 0);
    const double begin = rig_clock();
    r.transport->ops->stop(r.transport);
    cr_assert(rig_clock() - begin < 1, "%g s for two frames of 0.01 s", rig_clock() - begin);
    rig_close(&r);
}
#endif
