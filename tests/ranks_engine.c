/* ranks_engine.c - whole runs over processes: with all answers awaited, the bits of 'sim'. */
#include "ranks.h"

#include <math.h>
#include <string.h>

#include "engine_rig.h"

static cog_engine_config tiny(void) {
    cog_engine_config c = small();
    c.n_workers = N_WORKERS;
    c.model = "softmax";
    return c;
}

/* A worker's side of one engine. */
static void serve(const cog_engine_config *c, cog_status expected) {
    cog_engine *e = open_engine(c);
    cr_assert_eq(cog_engine_run(e, 0, NULL, NULL), expected, "worker %d: %s", ranks_self() - 1,
                 cog_last_error());
    double unused;
    cr_assert_eq(cog_engine_evaluate(e, data(), &unused, &unused), COG_ERR_UNSUPPORTED);
    cog_engine_destroy(e);
}

/* On the server: the parameters after so many rounds; NULL on workers. */
static float *run(const cog_engine_config *c, int64_t n_rounds, cog_report *report) {
    if (is_server()) return params_after(c, n_rounds, report);
    serve(c, COG_OK);
    return NULL;
}

static void expect_the_run_of_sim(const cog_engine_config *over, int64_t rounds, double most) {
    cog_report report;
    float *x = run(over, rounds, &report);
    if (is_server()) expect_run_of_sim(over, rounds, x, &report, most);
}

Test(ranks, with_everybody_awaited_every_bit_is_that_of_sim) {
    static const char *const codes[] = {"lwpd:wait=8", "kasync:k=8", "frc:stragglers=0",
                                        "crc:stragglers=0", "lwpd:wait=8,decoder=memory"};
    static const char *const channels[] = {"identity", "topk:ratio=0.1,feedback=1",
                                           "sign:feedback=1"};
    static const char *const optimizers[] = {"sgd:rate=0.5", "adam:rate=0.01"};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 3; j++) {
            cog_engine_config c = tiny();
            c.code = codes[i];
            c.channel = channels[j];
            c.optimizer = optimizers[(i + j) % 2];
            c.transport = ranks_spec("");
            expect_the_run_of_sim(&c, 12, 0);
        }
}

Test(ranks, all_reduces_are_those_of_sim) {
    static const struct {
        const char *code, *keys;
        double most;
    } cases[] = {
        {"uncoded", "ring=1", 0}, {"uncoded:precision=bf16", "", 0}, {"uncoded", "", 1e-5}};
    if (!ranks_can_reduce()) return;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_engine_config c = tiny();
        c.code = cases[i].code;
        c.transport = ranks_spec(cases[i].keys);
        if (cases[i].most == 0 && !ranks_have_ring()) continue;
        expect_the_run_of_sim(&c, 12, cases[i].most);
    }
}

Test(ranks, an_all_reduce_is_refused_where_there_is_none) {
    if (ranks_can_reduce() || !is_server()) return;
    cog_engine_config c = tiny();
    c.code = "uncoded";
    c.transport = ranks_spec("");
    cog_engine *e = NULL;
    cr_assert_eq(cog_engine_create(&c, &e), COG_ERR_ARGUMENT);
    cr_assert(strstr(cog_last_error(), "'uncoded' is an all-reduce"), "%s", cog_last_error());
}

/* Rounds in parts, and parameters set between them. */
Test(ranks, a_run_in_parts_is_that_of_sim) {
    cog_engine_config c = tiny();
    c.code = "ignore:wait=8";
    c.transport = ranks_spec("");
    if (!is_server()) {
        serve(&c, COG_OK);
        return;
    }
    float *params[2];
    const int64_t n = n_params_of(&c);
    for (int i = 0; i < 2; i++) {
        params[i] = malloc((size_t)n * sizeof(float));
        cog_engine *e = open_engine(&c);
        cr_assert_eq(cog_engine_run(e, 5, NULL, NULL), COG_OK, "%s", cog_last_error());
        for (int64_t k = 0; k < n; k++) params[i][k] = 0.01f * (float)(k % 7);
        cr_assert_eq(cog_engine_set_params(e, params[i], n), COG_OK);
        cr_assert_eq(cog_engine_run(e, 9, NULL, NULL), COG_OK, "%s", cog_last_error());
        cr_assert_eq(cog_engine_get_params(e, params[i], n), COG_OK);
        cog_engine_destroy(e);
        c.transport = "sim:threads=1";
    }
    cr_assert_eq(memcmp(params[0], params[1], (size_t)n * sizeof(float)), 0);
    free(params[0]);
    free(params[1]);
}

/* Answers that never come: the run ends in time, and so do those who wait inside an all-reduce. */
Test(ranks, a_silent_worker_is_a_timeout) {
    static const char *const codes[] = {"ignore:wait=8", "uncoded"};
    for (int i = 0; i < 2; i++) {
        cog_engine_config c = tiny();
        c.code = codes[i];
        c.transport = ranks_spec("");
        c.stragglers = "dead:workers=1,at=2";
        c.timeout = 0.3;
        if (i == 1 && !ranks_can_reduce()) return;
        if (is_server()) {
            cog_engine *e = open_engine(&c);
            cr_assert_eq(cog_engine_run(e, 10, NULL, NULL), COG_ERR_TIMEOUT, "%s", codes[i]);
            cog_engine_destroy(e);
        } else
            serve(&c, COG_OK);
    }
}
