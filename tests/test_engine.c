/* test_engine.c - what a whole run must keep true, on small problems in virtual and real time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine_rig.h"

/* Over whole shards the gradient is that of the data, however it is cut: all codes are gradient
 * descent when everybody answers. */
Test(engine, every_code_is_gradient_descent_when_all_answer) {
    static const char *const codes[] = {"ignore:wait=8",
                                        "kasync:k=8",
                                        "frc:stragglers=1",
                                        "frc:stragglers=3",
                                        "crc:stragglers=2",
                                        "replication:wait=8",
                                        "ye-abbe:stragglers=1,blocks=2",
                                        "acgc:eps=0.3",
                                        "stochastic:copies=3",
                                        "stochastic:allocation=balanced",
                                        "acgc:construction=2",
                                        "acgc:construction=2,structure=biregular",
                                        "lwpd:wait=8",
                                        "lwpd:wait=8,decoder=least-squares",
                                        "lwpd:wait=8,decoder=memory",
                                        "lwpd:family=kron,wait=8",
                                        "lwpd:family=net,wait=8",
                                        "uncoded"};
    static const char *const optimizers[] = {"sgd:rate=0.5", "momentum:rate=0.1", "adam:rate=0.01"};
    cog_engine_config c = small();
    c.batch = 0;
    for (size_t o = 0; o < 3; o++) {
        c.optimizer = optimizers[o];
        c.code = "uncoded";
        c.n_workers = 1;
        const double expected = loss_after(&c, 12, NULL);
        c.n_workers = 8;
        for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
            c.code = codes[i];
            const double loss = loss_after(&c, 12, NULL);
            cr_expect_float_eq(loss, expected, 2e-5 * expected, "%s, %s: %.8g, expected %.8g",
                               codes[i], optimizers[o], loss, expected);
        }
    }
}

Test(engine, same_seed_same_bits_whatever_the_thread_pool) {
    cog_engine_config a = small(), b;
    a.code = "lwpd:wait=5";
    a.channel = "topk:ratio=0.05,feedback=1";
    a.stragglers = "exp:mean=0.01";
    b = a;
    expect_same_run(&a, &b, 40);
    b.transport = "sim:threads=2";
    expect_same_run(&a, &b, 40);
    b.seed = 2;
    const int64_t n = n_params_of(&a);
    float *x = params_after(&a, 40, NULL), *y = params_after(&b, 40, NULL);
    cr_expect_neq(memcmp(x, y, (size_t)n * sizeof(float)), 0, "another seed is another run");
    free(x);
    free(y);
}

Test(engine, threads_with_everybody_awaited_give_the_bits_of_sim) {
    static const char *const codes[] = {"uncoded",          "uncoded:precision=bf16",
                                        "lwpd:wait=8",      "kasync:k=8",
                                        "crc:stragglers=0", "lwpd:wait=8,decoder=memory"};
    static const char *const channels[] = {"identity", "topk:ratio=0.05,feedback=1",
                                           "sign:feedback=1"};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        for (size_t j = 0; j < 3; j++) {
            cog_engine_config a = small(), b;
            a.code = codes[i];
            a.channel = channels[j];
            b = a;
            b.transport = "threads";
            expect_same_run(&a, &b, 15);
        }
}

Test(engine, the_delta_downlink_changes_no_bit) {
    static const char *const optimizers[] = {"sgd:rate=0.2", "momentum:rate=0.05",
                                             "adam:rate=0.01"};
    for (size_t o = 0; o < 3; o++) {
        cog_engine_config a = small(), b;
        a.code = "lwpd:wait=3";
        a.channel = "topk:ratio=0.02,feedback=1";
        a.stragglers = "pareto:scale=0.002,shape=1.2";
        a.optimizer = optimizers[o];
        /* arrival order must not depend on how long the parameters travel */
        a.transport = "sim:threads=1,bandwidth=1e15";
        b = a;
        b.downlink = "fp32";
        expect_same_run(&a, &b, 60);
    }
}

Test(engine, a_run_in_parts_is_the_whole_run) {
    static const char *const codes[] = {"lwpd:wait=5", "uncoded"};
    for (size_t i = 0; i < 2; i++) {
        cog_engine_config c = small();
        c.code = codes[i];
        c.stragglers = "exp:mean=0.01";
        const int64_t n = n_params_of(&c);
        float *whole = params_after(&c, 23, NULL), *parts = malloc((size_t)n * sizeof(float));
        cog_engine *e = open_engine(&c);
        cr_assert_eq(cog_engine_run(e, 7, NULL, NULL), COG_OK);
        cr_assert_eq(cog_engine_run(e, 23, NULL, NULL), COG_OK);
        cr_assert_eq(cog_engine_get_params(e, parts, n), COG_OK);
        cr_expect_eq(memcmp(whole, parts, (size_t)n * sizeof(float)), 0, "%s", codes[i]);
        cog_engine_destroy(e);
        free(whole);
        free(parts);
    }
}

/* 8 workers, 48 bytes of header. */
Test(engine, bytes_are_counted_to_the_last_header) {
    cog_engine_config c = small();
    cog_report r;
    const int64_t n = n_params_of(&c); /* two blocks, padding included */
    c.downlink = "fp32";
    free(params_after(&c, 10, &r));
    cr_expect_eq(r.bytes_up, 10 * 8 * (48 + n / 2 * 4), "%lld", (long long)r.bytes_up);
    cr_expect_eq(r.messages_used, 80);
    cr_expect_eq(r.bytes_down, 10 * 8 * (48 + n * 4), "%lld", (long long)r.bytes_down);

    c.code = "uncoded";
    const int64_t d = n_params_of(&c);
    free(params_after(&c, 10, &r)); /* two grants of 5 rounds, answered by 8 frames each */
    cr_expect_eq(r.bytes_up, 10 * 7 * d * 4 + 2 * 8 * 48, "%lld", (long long)r.bytes_up);
    cr_expect_eq(r.bytes_down, 10 * 7 * d * 4 + 2 * 8 * 48, "%lld", (long long)r.bytes_down);
    c.code = "uncoded:precision=bf16";
    free(params_after(&c, 10, &r));
    cr_expect_eq(r.bytes_up, 10 * 7 * d * 2 + 2 * 8 * 48, "%lld", (long long)r.bytes_up);
}

Test(engine, dead_workers_stop_only_codes_that_need_them) {
    static const char *const transports[] = {"sim:threads=1", "threads"};
    for (size_t t = 0; t < 2; t++) {
        cog_engine_config c = small();
        c.transport = transports[t];
        c.timeout = 0.5;
        c.stragglers = "dead:workers=2,at=4";
        c.code = "lwpd:wait=6";
        cog_report r;
        free(params_after(&c, 20, &r));
        cr_expect_eq(r.round, 20);

        static const char *const needy[] = {"lwpd:wait=7", "uncoded", "kasync:k=8"};
        for (size_t i = 0; i < 3; i++) {
            c.code = needy[i];
            cog_engine *e = open_engine(&c);
            cr_expect_eq(cog_engine_run(e, 20, NULL, NULL), COG_ERR_TIMEOUT, "%s over %s", needy[i],
                         transports[t]);
            cr_expect_not_null(strstr(cog_last_error(), "0.5 seconds"), "%s", cog_last_error());
            cog_engine_destroy(e);
        }
    }
}

/* Every worker declines with probability 1/2. Fractional repetition with s = 3 cuts the shards in
 * two sets of four copies: it is decodable with probability (1 - 1/16)^2 = 225/256. Other rounds
 * leave the parameters alone and are counted. */
Test(engine, declined_rounds_are_skipped_and_counted) {
    cog_engine_config c = small();
    c.stragglers = "bernoulli:probability=0.5";
    c.code = "frc:stragglers=3";
    cog_report r;
    free(params_after(&c, 400, &r));
    /* standard error of the share: sqrt(.879 * .121 / 400) = 1.6 % */
    cr_expect_float_eq((double)r.rounds_skipped / 400, 31.0 / 256, 5 * 0.0163, "%lld skipped",
                       (long long)r.rounds_skipped);
    cr_expect_eq(r.messages_used, (400 - r.rounds_skipped) * 2);

    c.code = "ignore:wait=8"; /* takes whoever answers: skipped only when nobody does, 1 in 256 */
    free(params_after(&c, 400, &r));
    cr_expect_leq(r.rounds_skipped, 8);
    cr_expect_float_eq((double)r.messages_used / 3200, 0.5, 5 * 0.0089);

    c.code = "uncoded";
    cog_engine *e = open_engine(&c);
    cr_expect_eq(cog_engine_run(e, 20, NULL, NULL), COG_ERR_UNDECODABLE);
    cr_expect_not_null(strstr(cog_last_error(), "every worker"), "%s", cog_last_error());
    cog_engine_destroy(e);
}

Test(engine, late_messages_count_until_the_staleness_bound) {
    cog_engine_config c = small();
    c.code = "lwpd:wait=4";
    c.stragglers = "slow:workers=2,factor=1000";
    c.transport = "sim:threads=1,flops=1e9";
    c.staleness = 1000000;
    cog_report r;
    free(params_after(&c, 3000, &r));
    cr_expect_lt(0, r.messages_late);
    cr_expect_eq(r.messages_dropped, 0);
    c.staleness = 2; /* a factor of 1000 is later than that */
    cog_report strict;
    free(params_after(&c, 3000, &strict));
    cr_expect_lt(0, strict.messages_dropped);
    cr_expect_lt(strict.messages_late, r.messages_late);
}

static bool count_reports(const cog_report *report, void *user) {
    int64_t *last = user;
    cr_expect_eq(report->round, *last + 5);
    *last = report->round;
    return report->round < 15;
}

Test(engine, reports_come_on_time_and_can_stop_the_run) {
    static const char *const codes[] = {"lwpd:wait=8", "uncoded"};
    for (size_t i = 0; i < 2; i++) {
        cog_engine_config c = small();
        c.code = codes[i];
        int64_t last = 0;
        cog_engine *e = open_engine(&c);
        cr_assert_eq(cog_engine_run(e, 100, count_reports, &last), COG_OK);
        cr_expect_eq(last, 15, "%s", codes[i]);
        cog_engine_destroy(e);
    }
}

/* A look is one header there and one back, whatever the size of the parameters that come along. */
Test(engine, looking_at_an_all_reduce_costs_it_two_headers) {
    const int rounds = 20;
    const double bandwidth = 1e6, header = 48;
    cog_engine_config c = small();
    c.code = "uncoded";
    c.transport = "sim:threads=1,latency=0,bandwidth=1e6";
    cog_report often, once;
    c.report_every = 1;
    free(params_after(&c, rounds, &often));
    c.report_every = rounds;
    free(params_after(&c, rounds, &once));
    const double per_look = (often.virtual_seconds - once.virtual_seconds) / (double)(rounds - 1);
    cr_expect_leq(per_look, 2 * header / bandwidth + 1e-9);
    cr_expect_eq(often.bytes_up - once.bytes_up, (rounds - 1) * c.n_workers * (int64_t)header);
}

Test(engine, parameters_set_from_outside_reach_every_worker) {
    static const char *const codes[] = {"lwpd:wait=8", "uncoded"};
    for (size_t i = 0; i < 2; i++) {
        cog_engine_config c = small();
        c.code = codes[i];
        c.batch = 0; /* the gradient depends on the parameters alone */
        c.channel = "identity";
        cog_engine *a = open_engine(&c), *b = open_engine(&c);
        const int64_t n = cog_engine_n_params(a);
        float *x = malloc((size_t)n * sizeof(float)), *y = malloc((size_t)n * sizeof(float));
        cr_assert_eq(cog_engine_run(a, 6, NULL, NULL), COG_OK);
        cr_assert_eq(cog_engine_get_params(a, x, n), COG_OK);
        cr_assert_eq(cog_engine_set_params(b, x, n), COG_OK);
        cr_assert_eq(cog_engine_run(a, 12, NULL, NULL), COG_OK);
        cr_assert_eq(cog_engine_run(b, 6, NULL, NULL), COG_OK);
        cr_assert_eq(cog_engine_get_params(a, x, n), COG_OK);
        cr_assert_eq(cog_engine_get_params(b, y, n), COG_OK);
        cr_expect_eq(memcmp(x, y, (size_t)n * sizeof(float)), 0, "%s", codes[i]);
        cr_expect_eq(cog_engine_set_params(b, x, n - 1), COG_ERR_ARGUMENT);
        cog_engine_destroy(a);
        cog_engine_destroy(b);
        free(x);
        free(y);
    }
}

Test(engine, impossible_configurations_are_refused_with_a_sentence) {
    struct {
        cog_engine_config config;
        const char *part;
    } bad[10];
    for (size_t i = 0; i < 10; i++) bad[i].config = small();
    bad[0].config.n_workers = 0, bad[0].part = "workers";
    bad[1].config.batch = -1, bad[1].part = "batch";
    bad[2].config.code = "lwpd:weight=8", bad[2].part = "8 workers";
    bad[3].config.channel = "zip", bad[3].part = "no channel is named 'zip'";
    bad[4].config.transport = "pigeon", bad[4].part = "no transport";
    bad[5].config.optimizer = "sgd:rate=-1", bad[5].part = "outside";
    bad[6].config.code = "crc:stragglers=6", bad[6].config.channel = "sign",
    bad[6].config.max_amplification = 2, bad[6].part = "amplifies";
    bad[7].config.model = "squared", bad[7].part = "class";
    bad[8].config.downlink = "morse", bad[8].part = "no downlink";
    bad[9].config.stragglers = "exp:mean=-1", bad[9].part = "outside";
    for (size_t i = 0; i < 10; i++) {
        cog_engine *e = NULL;
        cr_expect_neq(cog_engine_create(&bad[i].config, &e), COG_OK, "case %zu", i);
        cr_expect_null(e);
        cr_expect_not_null(strstr(cog_last_error(), bad[i].part), "case %zu: %s", i,
                           cog_last_error());
    }
}

/* A worker a thousand times slower is heard now and then, always too late: its message was made
 * with the coefficients of an older round. The run is that of a cluster where it is dead. */
Test(engine, codes_that_redraw_coefficients_drop_late_messages) {
    static const char *const codes[] = {"acgc:wait=7", "acgc:structure=srg,degree=4,wait=7"};
    for (size_t i = 0; i < 2; i++) {
        cog_engine_config slow = small(), dead;
        slow.code = codes[i];
        slow.transport = "sim:threads=1,flops=1e9";
        slow.staleness = 1000000;
        dead = slow;
        slow.stragglers = "slow:workers=1,factor=1000";
        dead.stragglers = "dead:workers=1,at=0";
        cog_report r;
        const int64_t rounds = 2500, n = n_params_of(&slow);
        float *x = params_after(&slow, rounds, &r), *y = params_after(&dead, rounds, NULL);
        cr_expect_lt(0, r.messages_dropped);
        cr_expect_eq(r.messages_late, 0);
        cr_expect_eq(memcmp(x, y, (size_t)n * sizeof(float)), 0, "%s", codes[i]);
        free(x);
        free(y);
    }
}

/* Workers decline with probability 1/4. Rescaled approximate codes are unbiased then, so they end
 * where gradient descent does; so do stochastic allocations. The baseline gives both blocks one
 * gradient, which keeps the classes of one as far from those of the other as they were. */
Test(engine, approximate_codes_converge_where_their_baseline_stalls) {
    static const char *const codes[] = {
        "acgc:structure=bibd,straggle=0.25",
        "acgc:structure=srg,degree=2,straggle=0.25",
        "acgc:construction=2,structure=biregular,straggle=0.25",
        "stochastic:copies=3,straggle=0.25",
    };
    static const int n_workers[] = {7, 5, 8, 8};
    cog_engine_config c = small();
    c.batch = 0;
    c.model = "softmax";
    c.optimizer = "sgd:rate=0.1";
    c.code = "uncoded";
    c.n_workers = 1;
    const double expected = loss_after(&c, 300, NULL);
    c.stragglers = "bernoulli:probability=0.25";
    for (size_t i = 0; i < 4; i++) {
        c.code = codes[i];
        c.n_workers = n_workers[i];
        const double loss = loss_after(&c, 300, NULL);
        cr_expect_float_eq(loss, expected, 0.05 * expected, "%s: %g, gradient descent %g", codes[i],
                           loss, expected);
    }
    c.n_workers = 7;
    c.code = "acgc:structure=bibd,construction=stacked,straggle=0.25";
    const double stalled = loss_after(&c, 300, NULL);
    cr_expect_gt(stalled, 1.3 * expected, "%g, gradient descent %g", stalled, expected);
}
