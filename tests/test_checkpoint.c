/* test_checkpoint.c - a run that goes on from a checkpoint is the run that never stopped. */
#include <math.h>
#include <string.h>

#include "checkpoint.h"
#include "checkpoint_rig.h"

enum { END = 16 };

typedef struct outcome {
    float *params;
    int64_t n;
    cog_report report;
} outcome;

static outcome outcome_of(cog_engine *e) {
    outcome o = {.n = cog_engine_n_params(e), .report = cog_engine_report(e)};
    o.params = malloc((size_t)o.n * sizeof(float));
    cr_assert_eq(cog_engine_get_params(e, o.params, o.n), COG_OK);
    cog_engine_destroy(e);
    return o;
}

/* With a checkpoint at SAVED_AT, or none. */
static outcome run_through(const cog_engine_config *c, bool saves) {
    cog_engine *e = open_engine(c);
    run(e, SAVED_AT);
    if (saves) cr_assert_eq(cog_engine_save(e, path), COG_OK, "%s", cog_last_error());
    run(e, END);
    return outcome_of(e);
}

static outcome run_resumed(const cog_engine_config *c) {
    cog_engine *e = open_engine(c);
    cr_assert_eq(cog_engine_load(e, path), COG_OK, "%s over %s: %s", c->channel, c->code,
                 cog_last_error());
    cr_expect_eq(cog_engine_report(e).round, SAVED_AT);
    run(e, END);
    return outcome_of(e);
}

/* All but the wall clock. */
static void expect_same(const cog_engine_config *c, outcome a, outcome b, bool same_clock) {
    const cog_report *x = &a.report, *y = &b.report;
    const char *about = c->channel;
    cr_expect_eq(memcmp(a.params, b.params, (size_t)a.n * sizeof(float)), 0, "%s over %s, %s, %s",
                 about, c->code, c->optimizer, c->downlink);
    cr_expect_eq(x->round, y->round);
    cr_expect_eq(x->bytes_up, y->bytes_up, "%s over %s: %lld, %lld", about, c->code,
                 (long long)x->bytes_up, (long long)y->bytes_up);
    cr_expect_eq(x->bytes_down, y->bytes_down, "%s over %s: %lld, %lld", about, c->code,
                 (long long)x->bytes_down, (long long)y->bytes_down);
    cr_expect_eq(x->messages_used, y->messages_used, "%s", about);
    cr_expect_eq(x->messages_late, y->messages_late, "%s", about);
    cr_expect_eq(x->messages_dropped, y->messages_dropped, "%s", about);
    cr_expect_eq(x->rounds_skipped, y->rounds_skipped, "%s", about);
    if (same_clock)
        cr_expect_eq(x->virtual_seconds, y->virtual_seconds, "%s over %s: %.17g, %.17g", about,
                     c->code, x->virtual_seconds, y->virtual_seconds);
    cr_expect(isfinite(a.params[0]));
}

static void check(const cog_engine_config *c, bool waits_for_all, bool same_clock) {
    outcome saved = run_through(c, true), resumed = run_resumed(c);
    expect_same(c, saved, resumed, same_clock);
    if (waits_for_all) {
        outcome plain = run_through(c, false);
        expect_same(c, plain, resumed, same_clock);
        free(plain.params);
    }
    free(saved.params);
    free(resumed.params);
}

/* Every kind of memory a channel can have. */
static const char *const channels[] = {"identity",
                                       "bf16",
                                       "topk:ratio=0.05,values=bf16,feedback=1",
                                       "topk:ratio=0.05,feedback=1,momentum=0.5",
                                       "topk:ratio=0.05,feedback=1,warmup=9",
                                       "topk:ratio=0.05,feedback=1,momentum=0.5,ramp=20",
                                       "sign:feedback=1",
                                       "qsgd:bits=4",
                                       "randk:ratio=0.1,feedback=1",
                                       "fosgd",
                                       "powersgd:rank=1,feedback=1",
                                       "topk:ratio=0.05,predict=linear",
                                       "topk:ratio=0.05,predict=difference",
                                       "topk:ratio=0.2,predict=temporal",
                                       "identity:predict=linear,trigger=lag,threshold=0.5",
                                       "wyner-ziv:delta=0.01,predict=linear",
                                       "cs:ratio=0.8,sparsity=0.3",
                                       "qcs:ratio=1,sparsity=0.1,steps=5,feedback=1"};
enum { N_CHANNELS = sizeof(channels) / sizeof(channels[0]) };

Test(checkpoint, rounds_that_wait_for_all_do_not_notice_it) {
    static const char *const codes[] = {"lwpd:wait=8", "lwpd:wait=8,decoder=memory",
                                        "ignore:wait=8"};
    static const char *const transports[] = {"sim:threads=1", "sim:threads=1,server_bandwidth=1e8",
                                             "threads"};
    make_folder();
    for (int i = 0; i < N_CHANNELS; i++)
        for (int t = 0; t < 3; t++) {
            cog_engine_config c = small();
            c.channel = channels[i];
            c.code = codes[(i + t) % 3];
            c.transport = transports[t];
            c.optimizer = "sgd:rate=0.1";
            if (t < 2) c.stragglers = "exp:mean=0.001";
            check(&c, true, t < 2);
        }
    remove_folder();
}

Test(checkpoint, downlinks_and_optimizers_go_on) {
    static const char *const downlinks[] = {"delta", "fp32", "bf16"};
    static const char *const optimizers[] = {"sgd:rate=0.5,decay=inverse,scale=5", "momentum",
                                             "adam:rate=0.01", "sgd:rate=0.1,inside=1"};
    make_folder();
    for (int i = 0; i < 12; i++) {
        cog_engine_config c = small();
        c.downlink = downlinks[i % 3];
        c.optimizer = optimizers[i / 3];
        c.channel = "topk:ratio=0.05,feedback=1";
        check(&c, true, true);
    }
    remove_folder();
}

/* The all-reduce has no server in it: the state is the workers'. */
Test(checkpoint, an_all_reduce_goes_on) {
    static const char *const transports[] = {"sim:threads=1", "threads"};
    make_folder();
    for (int i = 0; i < 4; i++) {
        cog_engine_config c = small();
        c.code = "uncoded";
        c.transport = transports[i % 2];
        c.optimizer = i < 2 ? "adam:rate=0.01" : "sgd";
        check(&c, true, i % 2 == 0);
    }
    remove_folder();
}

/* Late answers, dropped ones, workers that decline and workers that are dead. */
Test(checkpoint, runs_with_answers_under_way_go_on_as_they_did) {
    static const char *const codes[] = {"kasync:k=3", "lwpd:wait=5", "lwpd:wait=5,decoder=memory",
                                        "ignore:wait=6", "frc:stragglers=1"};
    static const char *const stragglers[] = {"exp:mean=0.01", "slow:workers=2,factor=50",
                                             "bernoulli:probability=0.1", "dead:workers=1,at=5"};
    make_folder();
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 4; k++) {
            cog_engine_config c = small();
            c.code = codes[i];
            c.stragglers = stragglers[k];
            c.channel = channels[2 + (4 * i + k) % (N_CHANNELS - 2)];
            c.optimizer = "sgd:rate=0.1";
            check(&c, false, true);
        }
    remove_folder();
}

/* A worker that stopped twice, one that never began, and a round that was given up halfway. */
Test(checkpoint, it_may_come_at_any_time) {
    make_folder();
    cog_engine_config c = small();
    c.channel = "topk:ratio=0.05,feedback=1";
    cog_engine *e = open_engine(&c);
    cr_assert_eq(cog_engine_save(e, path), COG_OK, "%s", cog_last_error());
    cog_engine_destroy(e);
    e = open_engine(&c);
    cr_assert_eq(cog_engine_load(e, path), COG_OK, "%s", cog_last_error());
    cr_expect_eq(cog_engine_load(e, path), COG_ERR_ARGUMENT, "once is enough");
    cr_assert_eq(cog_engine_save(e, path), COG_OK, "%s", cog_last_error());
    run(e, END);
    outcome twice = outcome_of(e), plain = run_through(&c, false);
    expect_same(&c, plain, twice, true);
    free(plain.params);
    free(twice.params);

    c.code = "ignore:wait=8";
    c.stragglers = "dead:workers=2,at=3";
    c.timeout = 0.1;
    e = open_engine(&c);
    cr_assert_eq(cog_engine_run(e, END, NULL, NULL), COG_ERR_TIMEOUT);
    cr_assert_eq(cog_engine_save(e, path), COG_OK, "%s", cog_last_error());
    cr_expect_eq(cog_engine_report(e).messages_dropped, 6);
    cog_engine_destroy(e);
    c.stragglers = "none"; /* they are well again */
    e = open_engine(&c);
    cr_assert_eq(cog_engine_load(e, path), COG_OK, "%s", cog_last_error());
    run(e, END);
    outcome healed = outcome_of(e);
    c.stragglers = "none";
    plain = run_through(&c, false);
    cr_expect_eq(memcmp(plain.params, healed.params, (size_t)plain.n * sizeof(float)), 0,
                 "what was dropped must not count");
    free(plain.params);
    free(healed.params);
    remove_folder();
}

/* As a checkpoint is written when worker 3 came back while the others came to rest: idle, but with
 * no parameters, no state, and channels that begin anew. `predecessor`: whose state had come. */
static void have_worker_3_come_back(bool predecessor) {
    void *file;
    size_t bytes;
    cog_piece piece;
    cog_checkpoint changed = {.n_pieces = 0};
    cr_assert_eq(cog_checkpoint_read(path, &file, &bytes), COG_OK);
    for (size_t at = 0; cog_checkpoint_next(file, &at, &piece);) {
        if (piece.kind == COG_PIECE_VERSION) ((int64_t *)(uintptr_t)piece.data)[3] = -1;
        if (piece.kind == COG_PIECE_RENEWED) ((uint8_t *)(uintptr_t)piece.data)[3] = 1;
        if (piece.kind == COG_PIECE_SENDER && piece.index == 3 && !predecessor) continue;
        cr_assert_eq(cog_checkpoint_add(&changed, piece.kind, piece.index, piece.data, piece.bytes),
                     COG_OK);
    }
    cr_assert_eq(cog_checkpoint_write(&changed, path), COG_OK);
    cog_checkpoint_free(&changed);
    free(file);
}

Test(checkpoint, a_worker_that_came_back_during_one_begins_anew) {
    make_folder();
    cog_engine_config c = small();
    c.channel = "topk:ratio=0.05,feedback=1";
    outcome with[2];
    for (int i = 0; i < 2; i++) {
        cog_engine *e = open_engine(&c);
        run(e, SAVED_AT);
        cr_assert_eq(cog_engine_save(e, path), COG_OK, "%s", cog_last_error());
        cog_engine_destroy(e);
        have_worker_3_come_back(i == 1);
        with[i] = run_resumed(&c);
    }
    expect_same(&c, with[0], with[1], true); /* its predecessor's state is nobody's */
    free(with[0].params);
    free(with[1].params);
    remove_folder();
}
