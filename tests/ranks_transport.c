/* ranks_transport.c - the laws of transports where every rank is a process. */
#include "ranks.h"

#include "transport_rig.h"

#include "ring.h"
#include "rng.h"

enum { MOST = 300000 };

/* Every rank opens the same rig; workers serve it until the server closes its own, and must end
 * with `expected`. */
static void open_here(rig *r, const char *keys, size_t max_payload) {
    rig_open(r, ranks_spec(keys), N_WORKERS, max_payload);
    cr_assert_eq(r->transport->self, ranks_self());
}

static void serve_here(rig *r, cog_status expected) {
    const cog_status status = r->transport->ops->serve(r->transport);
    cr_assert_eq(status, expected, "worker %d served with status %d, not %d: %s", ranks_self() - 1,
                 (int)status, (int)expected, cog_last_error());
}

/* The server leads, and workers serve it. */
static void run_here(size_t max_payload, void (*lead)(rig *), cog_status expected) {
    rig r;
    open_here(&r, "", max_payload);
    if (is_server())
        lead(&r);
    else
        serve_here(&r, expected);
    rig_close(&r);
}

/* --- frames --------------------------------------------------------------------------------- */

/* What frame `round` to a worker holds, from a formula that both ends know. */
static uint64_t fill(unsigned char *bytes, int worker, int64_t round) {
    cog_rng rng = cog_rng_make(7, COG_STREAM_TEST, (uint32_t)round, (uint32_t)worker);
    const uint64_t n = cog_rng_below(&rng, round % 3 == 0 ? 80 : MOST + 1);
    for (uint64_t i = 0; i < n; i++) bytes[i] = (unsigned char)(cog_rng_u32(&rng) >> 7);
    return n;
}

static void send_traffic(rig *r) {
    enum { ROUNDS = 25 };
    static unsigned char sent[MOST], expected[MOST];
    int64_t bytes = 0;
    int answers[N_WORKERS] = {0};
    for (int round = 0; round < ROUNDS; round++)
        for (int w = 0; w < N_WORKERS; w++) {
            const uint64_t n = fill(sent, w, round);
            rig_order(r, w, ECHO, 2, round, sent, n);
            memset(sent, 0xee, sizeof(sent)); /* the payload may be reused */
            bytes += 48 + (int64_t)n;
        }
    cr_assert_eq(r->transport->bytes_down, bytes);
    for (int k = 0; k < 2 * ROUNDS * N_WORKERS; k++) {
        const cog_frame frame = rig_receive(r);
        const int w = frame.header.source - 1;
        const int64_t round = answers[w]++ / 2;
        cr_assert_eq(frame.header.round, round, "worker %d answered %d, not %d", w,
                     (int)frame.header.round, (int)round);
        cr_assert_eq(frame.header.bytes, fill(expected, w, round));
        cr_assert_eq(memcmp(frame.payload, expected, frame.header.bytes), 0);
    }
    cr_assert_eq(r->transport->bytes_up, 2 * bytes);
}

Test(ranks, frames_arrive_intact_in_their_senders_order_and_every_byte_is_counted) {
    run_here(MOST, send_traffic, COG_OK);
}

static void settle(rig *r) {
    const cog_transport_ops *ops = r->transport->ops;
    if (ops->settle != NULL) cr_assert_eq(ops->settle(r->transport), COG_OK);
}

/* In every second round the payloads change while most workers have not taken them. */
static void lend_traffic(rig *r) {
    enum { ROUNDS = 8 };
    static unsigned char sent[N_WORKERS][MOST], expected[MOST];
    for (int round = 0; round < ROUNDS; round++) {
        r->transport->edition = round + 1;
        for (int w = 0; w < N_WORKERS; w++) {
            memset(sent[w], 16 * w + round, MOST);
            rig_order(r, w, ECHO, 1, round, sent[w], MOST);
        }
        r->transport->edition = 0;
        if (round % 2 == 1) settle(r);
        if (round % 2 == 1) memset(sent, 0xee, sizeof(sent));
        for (int k = 0; k < N_WORKERS; k++) {
            const cog_frame frame = rig_receive(r);
            const int w = frame.header.source - 1;
            memset(expected, 16 * w + round, MOST);
            cr_assert_eq(frame.header.bytes, MOST);
            cr_assert_eq(memcmp(frame.payload, expected, MOST), 0, "worker %d, round %d", w, round);
        }
        if (round % 2 == 0) settle(r);
    }
    cr_assert_eq(r->transport->bytes_down, r->transport->bytes_up);
}

Test(ranks, what_is_lent_arrives_as_it_was_until_settled) { run_here(MOST, lend_traffic, COG_OK); }

static void expect_refusals(rig *r) {
    cog_frame_header header = cog_frame_make(COG_FRAME_PARAMS, 0, 0);
    rig_expect_refusal(r, 0, N_WORKERS + 1, &header, "from 0 to 9");
    rig_expect_refusal(r, 0, 0, &header, "from 0 to 0");
    rig_expect_refusal(r, 1, 2, &header, "from 1 to 2");
    header.bytes = 101;
    rig_expect_refusal(r, 0, 1, &header, "101 bytes is larger than the 100");
    header = cog_frame_make(COG_FRAME_MESSAGE, 2, 0);
    rig_expect_refusal(r, 2, 0, &header, "cannot send as rank 2");
    cr_assert_eq(r->transport->ops->elapse(r->transport, 1, 1, 1, 0), COG_ERR_ARGUMENT);
    cr_assert_eq(r->transport->ops->start(r->transport), COG_ERR_ARGUMENT);
}

Test(ranks, frames_that_cannot_travel_are_refused_in_words) {
    run_here(100, expect_refusals, COG_OK);
}

/* --- time ------------------------------------------------------------------------------------ */

static void wait_in_vain(rig *r) {
    cog_frame frame = {.payload = r};
    const double begin = r->transport->ops->now(r->transport);
    rig_order(r, 1, SLEEP, 300, 5, NULL, 0);
    cr_assert_eq(r->transport->ops->receive(r->transport, 0.05, &frame), COG_ERR_TIMEOUT);
    const double waited = r->transport->ops->now(r->transport) - begin;
    cr_assert(waited >= 0.0499 && waited < 0.29, "waited %g s for 0.05", waited);
    cr_assert_eq(frame.payload, r, "an output was touched");
    cr_assert_eq(rig_receive(r).header.round, 5);
    const double arrival = r->transport->ops->now(r->transport) - begin;
    cr_assert(arrival >= 0.3 && arrival < 2, "%g s for 0.3", arrival);
    cr_assert_eq(r->transport->ops->receive(r->transport, 0, &frame), COG_ERR_TIMEOUT);
}

Test(ranks, receive_gives_up_after_its_timeout_and_goes_on_later) {
    run_here(100, wait_in_vain, COG_OK);
}

/* --- failures and stops ---------------------------------------------------------------------- */

static void hear_a_failure(rig *r) {
    cog_frame frame;
    rig_order(r, 1, FAIL, 0, 12, NULL, 0);
    cr_assert_eq(r->transport->ops->receive(r->transport, 10, &frame), COG_ERR_FORMAT);
    cr_assert_str_eq(cog_last_error(), "worker 1: the sky fell in round 12");
    for (int w = 0; w < N_WORKERS; w++)
        if (w != 1) rig_order(r, w, ECHO, 1, w, NULL, 0);
    for (int k = 0; k < N_WORKERS - 1; k++) cr_assert_neq(rig_receive(r).header.source, 2);
}

Test(ranks, a_failing_worker_is_heard_and_the_others_go_on) {
    run_here(100, hear_a_failure, ranks_self() == 2 ? COG_ERR_FORMAT : COG_OK);
}

/* Orders that keep workers busy in every way there is; then stop, and begin anew. */
Test(ranks, stop_ends_whatever_workers_do_and_start_begins_anew) {
    static const struct {
        enum order order;
        int amount;
    } busy[] = {{SLEEP, 1000000}, {SPIN, 30}, {ECHO, 50}};
    for (size_t b = 0; b < sizeof(busy) / sizeof(busy[0]); b++) {
        rig r;
        cog_frame frame;
        open_here(&r, "", 100);
        if (!is_server()) {
            serve_here(&r, COG_OK);
            r.transport->ops->stop(r.transport);
            cr_assert_eq(r.transport->ops->start(r.transport), COG_OK, "%s", cog_last_error());
            serve_here(&r, COG_OK);
            rig_close(&r);
            continue;
        }
        for (int w = 0; w < N_WORKERS; w++)
            for (int k = 0; k < 3; k++) rig_order(&r, w, busy[b].order, busy[b].amount, 0, NULL, 0);
        (void)r.transport->ops->receive(r.transport, 0.01, &frame);
        const double begin = rig_clock();
        r.transport->ops->stop(r.transport);
        cr_assert(rig_clock() - begin < 3, "stop took %g s", rig_clock() - begin);
        cr_assert_eq(r.transport->ops->start(r.transport), COG_OK, "%s", cog_last_error());
        rig_order(&r, 2, ECHO, 1, 77, NULL, 0);
        cr_assert_eq(rig_receive(&r).header.round, 77, "an old frame came");
        rig_close(&r);
    }
}

/* --- all-reduce ------------------------------------------------------------------------------ */

static void draw(float *x, int worker, int64_t n) {
    cog_rng rng = cog_rng_make(11, COG_STREAM_TEST, (uint32_t)n, (uint32_t)worker);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(((double)cog_rng_u32(&rng) - 0x1p31) * 0x1p-31 *
                       pow(2, (int)(cog_rng_u32(&rng) % 9)));
}

/* The sum on worker `ranks_self() - 1`, in the arithmetic of a ring. */
static float *expected_sum(int64_t n, bool bf16) {
    cog_ring_part parts[N_WORKERS];
    float *x = calloc(N_WORKERS * (size_t)n + 1, sizeof(*x));
    for (int w = 0; w < N_WORKERS; w++) {
        draw(x + w * n, w, n);
        parts[w] = (cog_ring_part){.x = x + w * n, .n = n, .bf16 = bf16};
    }
    for (int w = 0; w < N_WORKERS; w++) cog_ring_reduce(parts, N_WORKERS, w);
    for (int w = 0; w < N_WORKERS; w++) cog_ring_gather(parts, N_WORKERS, w);
    return x;
}

/* A few ulp of the largest partial sum: the library adds in an order of its own. */
static void compare(const float *x, const float *expected, int64_t n, bool exact) {
    for (int64_t i = 0; i < n; i++)
        cr_assert(x[i] == expected[i] || (!exact && fabsf(x[i] - expected[i]) <= 1e-3f),
                  "float %lld of %lld is %.9g, expected %.9g", (long long)i, (long long)n,
                  (double)x[i], (double)expected[i]);
}

static void check_sum(const char *keys, int64_t n, bool bf16, bool exact) {
    rig r;
    open_here(&r, keys, (size_t)n * sizeof(float) + 100);
    if (is_server()) {
        const int64_t size = bf16 ? 2 : 4, half = (N_WORKERS - 1) * n * size;
        for (int w = 0; w < N_WORKERS; w++) rig_order(&r, w, SUM, 0, 3, NULL, 0);
        for (int w = 0; w < N_WORKERS; w++)
            cr_assert_eq(rig_receive(&r).header.kind, COG_FRAME_DONE);
        cr_assert_eq(r.transport->bytes_up, 48 * N_WORKERS + half);
        cr_assert_eq(r.transport->bytes_down, 48 * N_WORKERS + half);
    } else {
        rig_worker *w = &r.workers[ranks_self() - 1];
        float *x = calloc((size_t)n + 1, sizeof(*x)), *sum = expected_sum(n, bf16);
        draw(x, ranks_self() - 1, n);
        w->x = x, w->n = n, w->bf16 = bf16;
        serve_here(&r, COG_OK);
        compare(x, sum, n, exact);
        free(x);
        free(sum);
    }
    rig_close(&r);
}

Test(ranks, sums_are_those_of_a_ring) {
    static const int64_t sizes[] = {0, 1, 2, 3, 1000, 70001};
    if (!ranks_can_reduce()) return;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        check_sum("", sizes[i], false, false);
        if (!ranks_have_ring()) continue;
        check_sum("ring=1", sizes[i], false, true);
        check_sum("", sizes[i], true, true);
    }
}

static void hear_of_the_mismatch(rig *r) {
    cog_frame frame;
    for (int w = 0; w < N_WORKERS; w++) rig_order(r, w, SUM, 0, 0, NULL, 0);
    for (int k = 0; k < N_WORKERS; k++) {
        const cog_status status = r->transport->ops->receive(r->transport, 10, &frame);
        cr_assert_eq(status, COG_ERR_ARGUMENT, "status %d, frame %d: %s", status, frame.header.kind,
                     status == COG_OK ? (const char *)frame.payload : cog_last_error());
        cr_assert(strstr(cog_last_error(), "worker 2 would sum 3 floats and worker 0 would sum 4"),
                  "%s", cog_last_error());
    }
}

Test(ranks, workers_that_would_sum_different_vectors_all_fail) {
    if (!ranks_can_reduce()) return;
    float x[4] = {0};
    rig r;
    open_here(&r, "", 100);
    if (is_server())
        hear_of_the_mismatch(&r);
    else {
        r.workers[ranks_self() - 1].x = x;
        r.workers[ranks_self() - 1].n = ranks_self() == 3 ? 3 : 4;
        serve_here(&r, COG_ERR_ARGUMENT);
    }
    rig_close(&r);
}

/* Two have asked for an all-reduce and wait: a stop lets them out, and the next one is
 * whole. */
Test(ranks, a_stop_ends_an_all_reduce_that_not_all_have_joined) {
    if (!ranks_can_reduce()) return;
    rig r;
    cog_frame frame;
    float x = 1;
    open_here(&r, "", 100);
    for (int w = 0; w < N_WORKERS; w++) r.workers[w].x = &x, r.workers[w].n = 1;
    if (is_server()) {
        for (int w = 0; w < 2; w++) rig_order(&r, w, SUM, 0, 0, NULL, 0);
        cr_assert_eq(r.transport->ops->receive(r.transport, 0.05, &frame), COG_ERR_TIMEOUT);
        r.transport->ops->stop(r.transport);
        cr_assert_eq(r.transport->ops->start(r.transport), COG_OK);
        for (int w = 0; w < N_WORKERS; w++) rig_order(&r, w, SUM, 0, 0, NULL, 0);
        for (int w = 0; w < N_WORKERS; w++)
            cr_assert_eq(rig_receive(&r).header.kind, COG_FRAME_DONE);
    } else {
        serve_here(&r, COG_OK);
        r.transport->ops->stop(r.transport);
        cr_assert_eq(x, 1);
        cr_assert_eq(r.transport->ops->start(r.transport), COG_OK);
        serve_here(&r, COG_OK);
        cr_assert_eq(x, N_WORKERS);
    }
    rig_close(&r);
}
