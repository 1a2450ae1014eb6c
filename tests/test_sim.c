/* test_sim.c - virtual time: what the formulas of sim.c give by hand, the same in every run. */
#include <stdio.h>

#include "transport_rig.h"

#include "rng.h"

/* A frame that should reach the server next, and when. */
typedef struct expected {
    int source;
    double time;
} expected;

static void expect_all(rig *r, const expected *list, int n) {
    for (int i = 0; i < n; i++) {
        const cog_frame frame = rig_receive(r);
        const double time = r->transport->ops->now(r->transport);
        cr_assert_eq(frame.header.source, list[i].source, "event %d is of rank %d, not %d", i,
                     (int)frame.header.source, list[i].source);
        cr_assert_eq(time, list[i].time, "event %d at %.12g, not %.12g", i, time, list[i].time);
    }
    cog_frame frame;
    cr_assert_eq(r->transport->ops->receive(r->transport, 30, &frame), COG_ERR_TIMEOUT);
    cr_assert_eq(r->transport->ops->now(r->transport), list[n - 1].time,
                 "waiting for nothing took time");
}

/* With 1/16 s of latency, 1024 bytes a second and 10^6 operations a second every time below is a
 * dyadic fraction: 64 bytes take 1/16 s, 56 bytes 7/128 s, 48 bytes 3/64 s. */
static const char cluster[] = "sim:latency=0.0625,bandwidth=1024,flops=1e6";

Test(sim, time_is_latency_transfer_queueing_and_work) {
    const char payload[80] = "";
    const double once = 1, twice = 2;
    rig r;
    rig_open(&r, cluster, 3, 100);
    rig_order(&r, 0, ECHO, 2, 0, payload, 16); /* there at 1/8; answers leave at 3/16, 1/4 */
    /* Waits for the link: passes it from 1/16 to 3/16, there at 1/4, done at 3/4. */
    rig_order(&r, 0, SLEEP, 500, 0, payload, 80);
    rig_order(&r, 1, WORK, 3, 0, &twice, 8); /* there at 15/128, then 3 s, twice */
    rig_order(&r, 2, WORK, 0, 0, &once, 8);
    static const expected list[] = {{3, 15.0 / 128 + 3.0 / 64 + 1.0 / 16},
                                    {1, 3.0 / 16 + 1.0 / 16},
                                    {1, 1.0 / 4 + 1.0 / 16},
                                    {1, 3.0 / 4 + 1.0 / 8 + 1.0 / 16},
                                    {2, 15.0 / 128 + 6 + 3.0 / 64 + 1.0 / 16}};
    expect_all(&r, list, 5);
    const double now = r.transport->ops->now(r.transport);
    rig_order(&r, 0, ECHO, 1, 0, payload, 16); /* all links are idle again */
    const expected later = {1, now + 0.25};
    expect_all(&r, &later, 1);
    rig_close(&r);
}

Test(sim, a_worker_computes_one_frame_after_the_other) {
    const double factor = 1;
    rig r;
    rig_open(&r, cluster, 1, 100);
    for (int k = 0; k < 3; k++) rig_order(&r, 0, WORK, 1, 0, &factor, 8);
    const double first = 15.0 / 128 + 7.0 / 64;
    const expected list[] = {{1, first + 1}, {1, first + 2}, {1, first + 3}};
    expect_all(&r, list, 3);
    rig_close(&r);
}

/* After a thousand seconds 48 bytes at 10^15 a second are less than the clock can show. */
Test(sim, frames_of_one_moment_come_in_their_senders_order_then_by_rank) {
    enum { N = 20 };
    rig r;
    rig_open(&r, "sim:bandwidth=1e15", 2, 100);
    for (int w = 1; w >= 0; w--)
        for (int k = 0; k < N; k++) rig_order(&r, w, SLEEP, k == 0 ? 1000000 : 0, k, NULL, 0);
    for (int k = 0; k < 2 * N; k++) {
        cog_frame frame;
        cr_assert_eq(r.transport->ops->receive(r.transport, INFINITY, &frame), COG_OK);
        cr_assert_eq(frame.header.source, k / N + 1);
        cr_assert_eq(frame.header.round, k % N, "frame %d is number %d", k % N,
                     (int)frame.header.round);
    }
    rig_close(&r);
}

/* 64 bytes pass the server's link in 1/8 s, those of the workers in 1/16 s. */
Test(sim, the_servers_link_is_shared_in_order_of_arrival) {
    const char payload[16] = "";
    rig r;
    rig_open(&r, "sim:latency=0.0625,bandwidth=1024,server_bandwidth=512", 2, 100);
    rig_order(&r, 0, ECHO, 2, 0, payload, 16); /* leaves the server at 1/8, there at 1/4 */
    rig_order(&r, 1, ECHO, 1, 0, payload, 16); /* leaves the server at 1/4, there at 3/8 */
    /* At the server's link at 3/8, 7/16 and 1/2. */
    static const expected list[] = {{1, 0.5}, {1, 0.625}, {2, 0.75}};
    expect_all(&r, list, 3);
    rig_close(&r);
}

Test(sim, a_timeout_advances_time_by_itself_and_loses_nothing) {
    const char payload[16] = "";
    cog_frame frame;
    for (int shared = 0; shared <= 1; shared++) {
        rig r;
        rig_open(&r, shared ? "sim:latency=0.0625,bandwidth=1024,server_bandwidth=1e15" : cluster,
                 1, 100);
        rig_order(&r, 0, ECHO, 1, 9, payload, 16);
        for (int k = 1; k <= 3; k++) {
            cr_assert_eq(r.transport->ops->receive(r.transport, 0.0625, &frame), COG_ERR_TIMEOUT);
            cr_assert_eq(r.transport->ops->now(r.transport), 0.0625 * k);
        }
        cr_assert_eq(r.transport->ops->receive(r.transport, 0.0625 + 1e-9, &frame), COG_OK);
        cr_assert_float_eq(r.transport->ops->now(r.transport), 0.25, 1e-9);
        rig_close(&r);
    }
}

/* Four workers, ten floats: chunks of at most three. The last worker is a second late. */
static void check_reduce_time(bool bf16) {
    float x[4][10] = {{0}};
    rig r;
    rig_open(&r, cluster, 4, 100);
    for (int w = 0; w < 4; w++)
        r.workers[w] = (rig_worker){.rig = &r, .rank = w + 1, .x = x[w], .n = 10, .bf16 = bf16};
    const double there = 3.0 / 64 + 1.0 / 16;
    rig_order(&r, 3, SLEEP, 1000, 0, NULL, 0);
    for (int w = 0; w < 4; w++) rig_order(&r, w, SUM, 0, 0, NULL, 0);
    const double end = there + 1 + 2 * 3 * (1.0 / 16 + (bf16 ? 6 : 12) / 1024.0) + there;
    const expected list[] = {{4, there + 1 + there}, {1, end}, {2, end}, {3, end}, {4, end}};
    expect_all(&r, list, 5);
    rig_close(&r);
}

Test(sim, an_all_reduce_ends_after_the_last_worker_and_all_hops) {
    check_reduce_time(false);
    check_reduce_time(true);
}

/* --- the same in every run ------------------------------------------------------------------ */

enum { CROWD = 60, EVENTS = 6000 };

typedef struct event {
    double time;
    int64_t round;
    uint64_t bytes;
    int source, kind;
} event;

/* One of several orders, drawn from (k), to this worker. */
static void random_order(rig *r, int worker, int64_t k) {
    static const char payload[300];
    cog_rng rng = cog_rng_make(3, COG_STREAM_TEST, (uint32_t)k, 0);
    const uint32_t bytes = cog_rng_below(&rng, 300), amount = cog_rng_below(&rng, 20);
    const double factor = 1 + cog_rng_uniform(&rng);
    switch (cog_rng_below(&rng, 4)) {
    case 0: rig_order(r, worker, ECHO, 1 + (int)amount % 3, k, payload, bytes); break;
    case 1: rig_order(r, worker, SLEEP, (int)amount, k, payload, bytes); break;
    case 2: rig_order(r, worker, SLEEP, 0, k, payload, bytes); break;
    default: rig_order(r, worker, WORK, (int)amount, k, &factor, sizeof(factor)); break;
    }
}

/* Every answer is answered by an order to its sender, sometimes to others as well. */
static void run_crowd(const char *spec, event *log) {
    rig r;
    rig_open(&r, spec, CROWD, 300);
    for (int w = 0; w < CROWD; w++) random_order(&r, w, w);
    for (int k = 0; k < EVENTS; k++) {
        const cog_frame frame = rig_receive(&r);
        memset(&log[k], 0, sizeof(log[k])); /* padding too: logs are compared as bytes */
        log[k].time = r.transport->ops->now(r.transport);
        log[k].round = frame.header.round;
        log[k].bytes = frame.header.bytes;
        log[k].source = frame.header.source;
        log[k].kind = frame.header.kind;
        random_order(&r, frame.header.source - 1, CROWD + k);
        if (k % 50 == 0)
            for (int w = 0; w < 10; w++) random_order(&r, (k + w) % CROWD, EVENTS + 100 * k + w);
    }
    rig_close(&r);
}

Test(sim, logs_are_equal_whatever_the_threads) {
    static const char *const specs[] = {"sim:threads=1", "sim:threads=1", "sim:threads=2",
                                        "sim:threads=4", "sim:threads=4", "sim"};
    event *first = calloc(EVENTS, sizeof(event)), *log = calloc(EVENTS, sizeof(event));
    cr_assert(first != NULL && log != NULL);
    run_crowd(specs[0], first);
    for (int k = 1; k < EVENTS; k++)
        cr_assert(first[k - 1].time <= first[k].time, "time runs backwards at event %d", k);
    for (size_t i = 1; i < sizeof(specs) / sizeof(specs[0]); i++) {
        run_crowd(specs[i], log);
        cr_assert_eq(memcmp(first, log, EVENTS * sizeof(event)), 0, "%s differs", specs[i]);
    }
    free(first), free(log);
}

/* --- crowds --------------------------------------------------------------------------------- */

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of the processor per message when every answer is followed by a new order. All workers
 * are alike, so after k rounds the clock shows k round trips. */
static double seconds_per_message(const char *spec, int n_workers, int n_rounds) {
    rig r;
    rig_open(&r, spec, n_workers, 100);
    const char payload[16] = "";
    const int64_t n = (int64_t)n_workers * n_rounds;
    const double begin = cpu_seconds();
    for (int w = 0; w < n_workers; w++) rig_order(&r, w, ECHO, 1, 1, payload, 16);
    for (int64_t k = 0; k < n; k++) {
        const cog_frame frame = rig_receive(&r);
        cr_assert_eq(frame.header.source, k % n_workers + 1);
        cr_assert_eq(frame.header.round, k / n_workers + 1);
        rig_order(&r, frame.header.source - 1, ECHO, 1, frame.header.round + 1, payload, 16);
    }
    const double took = (cpu_seconds() - begin) / (double)n;
    const double round_trip = 2 * (5e-5 + 64 / 1.25e9);
    cr_assert_float_eq(r.transport->ops->now(r.transport), n_rounds * round_trip, 1e-12);
    cr_assert_eq(r.transport->bytes_up, 64 * n);
    rig_close(&r);
    return took;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
static const bool fast_build = false;
#else
static const bool fast_build = true;
#endif

/* Both figures are of processor time, so that a busy machine does not matter. Scanning the workers
 * would make 100 times as many 100 times as expensive; a heap and colder caches make it a few. */
Test(sim, ten_thousand_workers_pass_200000_messages_a_second) {
    seconds_per_message("sim:threads=1", 100, 10);
    const double few = seconds_per_message("sim:threads=1", 100, 2000);
    const double many = seconds_per_message("sim:threads=1", 10000, 20);
    const double shared = seconds_per_message("sim:threads=2", 10000, 20);
    fprintf(stderr,
            "messages a processor second: %.3g of 100 workers, %.3g of 10,000, %.3g on two "
            "threads\n",
            1 / few, 1 / many, 1 / shared);
    if (!fast_build) return;
    cr_assert(1 / many >= 2e5, "only %.3g messages a second", 1 / many);
    cr_assert(many <= 12 * few, "%g times as expensive as with 100 workers", many / few);
}
