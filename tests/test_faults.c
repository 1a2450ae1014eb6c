/* test_faults.c - injected faults: what is struck, and what a run makes of it. */
#include <stdio.h>
#include <unistd.h>

#include "engine_rig.h"
#include "faults.h"

enum { END = 30 };

/* --- specs ------------------------------------------------------------------------------------ */

Test(faults, what_cannot_be_is_refused_in_words) {
    static const struct {
        const char *spec, *words;
    } cases[] = {
        {"none", NULL},
        {"kill", NULL},
        {"kill:worker=7,round=20,at=mid-send,back=1e+1+drop:probability=0.5,seed=3", NULL},
        {"stop:worker=server,at=during-decode,seconds=1", NULL},
        {"corrupt:at=during-checkpoint,round=10", NULL},
        {"explode", "'explode'"},
        {"kill+explode", "'explode'"},
        {"kill+", "empty"},
        {"kill:worker=8", "'worker' of 'kill'"},
        {"kill:worker=-1", "'worker' of 'kill'"},
        {"kill:worker=x", "'worker' of 'kill'"},
        {"drop:round=-2", "'round' of 'drop'"},
        {"drop:probability=1.5", "'probability' of 'drop'"},
        {"drop:at=lunch", "'at' of 'drop'"},
        {"drop:seconds=1", "no key 'seconds'"},
        {"slow:back=1", "no key 'back'"},
        {"drop:at=after-send", "has arrived"},
        {"reorder:at=before-encode", "one request at a time"},
        {"corrupt:at=during-decode", "during a decode"},
        {"drop:at=during-checkpoint", "is a file"},
        {"kill:worker=server", "befalls a worker"},
        {"kill:worker=3,at=during-decode", "befalls the server"},
        {"corrupt:worker=3,at=during-checkpoint", "befalls the server"},
        {"stop:at=during-decode", "seconds=S"},
        {"kill:at=during-decode,back=1", "does not come back"},
        {"kill+kill+kill+kill+kill+kill+kill+kill+kill+kill+kill+kill+kill+kill+kill+kill+kill",
         "more than 16"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_faults faults;
        const cog_status status = cog_faults_parse(cases[i].spec, 8, 1, &faults);
        cr_expect_eq(status, cases[i].words == NULL ? COG_OK : COG_ERR_SPEC, "'%s': %s",
                     cases[i].spec, cog_last_error());
        if (status != COG_OK && cases[i].words != NULL)
            cr_expect(strstr(cog_last_error(), cases[i].words) != NULL, "'%s': %s", cases[i].spec,
                      cog_last_error());
    }
}

static void expect_refused(const char *code, const char *transport, const char *faults,
                           cog_status status, const char *words) {
    cog_engine_config c = small();
    cog_engine *e = NULL;
    c.code = code;
    c.transport = transport;
    c.faults = faults;
    cr_expect_eq(cog_engine_create(&c, &e), status, "'%s': %s", faults, cog_last_error());
    cr_expect(strstr(cog_last_error(), words) != NULL, "'%s': %s", faults, cog_last_error());
}

Test(faults, what_a_run_cannot_have_is_refused_in_words) {
    expect_refused("uncoded", "sim", "kill", COG_ERR_ARGUMENT, "all-reduce");
    expect_refused("kasync:k=3", "sim", "slow:at=during-decode", COG_ERR_UNSUPPORTED, "no time");
    expect_refused("kasync:k=3", "sim", "stop:at=during-checkpoint,worker=server,seconds=1",
                   COG_ERR_UNSUPPORTED, "no time");
}

/* How often of 8 workers and 1000 rounds. */
static int count_strikes(const cog_faults *faults, int which) {
    int n = 0;
    for (int i = 0; i < 8000; i++) {
        const cog_moment m = {.point = COG_MID_SEND, .worker = i % 8, .round = i / 8, .since = -1};
        const cog_fault *f;
        for (int at = 0; (f = cog_faults_next(faults, &m, &at)) != NULL;)
            n += f == &faults->fault[which];
    }
    return n;
}

/* Binomial, n = 8000: five standard deviations of p = 0.1 are 134, of 0.5 they are 224. */
Test(faults, chances_are_what_was_asked_for) {
    cog_faults faults;
    cr_assert_eq(cog_faults_parse("drop:probability=0.1+duplicate:probability=0.5+reorder:worker=3",
                                  8, 5, &faults),
                 COG_OK, "%s", cog_last_error());
    cr_expect_float_eq(count_strikes(&faults, 0), 800, 134);
    cr_expect_float_eq(count_strikes(&faults, 1), 4000, 224);
    cr_expect_eq(count_strikes(&faults, 2), 1000);
}

/* A fault with a round strikes once, at the first request from then on. Who began after that round
 * is spared by what hits workers. */
Test(faults, a_round_is_the_first_request_from_then_on) {
    static const struct {
        const char *spec;
        int64_t since, round, struck; /* in all, over the rounds from `round` on, every third */
    } cases[] = {{"kill:round=7,at=mid-send", 0, 0, 9},
                 {"kill:round=7,at=mid-send", 6, 6, 9},
                 {"kill:round=7,at=mid-send", 7, 7, -1},
                 {"kill:round=7,at=mid-send", 8, 8, -1},
                 {"kill:round=0,at=mid-send", 0, 0, 0},
                 {"kill:round=0,at=mid-send", 3, 3, -1},
                 {"drop:round=7", 8, 8, 8}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_faults faults;
        cog_struck struck;
        int64_t in = -1;
        int n = 0;
        cr_assert_eq(cog_faults_parse(cases[i].spec, 8, 1, &faults), COG_OK);
        cog_struck_begin(&struck);
        for (int64_t round = cases[i].round; round < 30; round += 3) {
            const cog_moment m = {
                .point = COG_MID_SEND, .round = round, .since = cases[i].since, .struck = &struck};
            int at = 0;
            if (cog_faults_next(&faults, &m, &at) == NULL) continue;
            in = round;
            n++;
        }
        cr_expect_eq(in, cases[i].struck, "case %zu: in round %d", i, (int)in);
        cr_expect_eq(n, cases[i].struck >= 0, "case %zu: %d times", i, n);
    }
}

/* --- runs ------------------------------------------------------------------------------------- */

static void expect_bits(const cog_engine_config *a, const float *x, const float *y,
                        const char *what) {
    const size_t bytes = (size_t)n_params_of(a) * sizeof(float);
    cr_expect_eq(memcmp(x, y, bytes), 0, "%s, '%s' over %s: %s", a->code, a->faults, a->transport,
                 what);
}

/* Rubbish behind answers and second copies of anything are refused, counted, and change nothing.
 * The last round's may not have come when the run ends. */
Test(faults, copies_and_rubbish_change_nothing) {
    static const struct {
        const char *faults;
        int least; /* refused in a round */
    } cases[] = {{"corrupt:at=after-send", 8},       {"half-write:at=after-send", 8},
                 {"wrong-version:at=after-send", 8}, {"duplicate", 8},
                 {"duplicate:at=after-send", 8},     {"duplicate:at=before-encode", 0}};
    static const char *const codes[] = {"lwpd:weight=2,wait=8", "frc:stragglers=0"};
    static const char *const transports[] = {"sim:threads=1", "threads"};
    for (size_t i = 0; i < 12; i++) {
        cog_engine_config c = small();
        c.code = codes[i % 2];
        c.channel = "topk:ratio=0.1,feedback=1";
        float *x = params_after(&c, END, NULL);
        for (size_t k = 0; k < 2; k++) {
            cog_report report;
            c.transport = transports[k];
            c.faults = cases[i / 2].faults;
            float *y = params_after(&c, END, &report);
            expect_bits(&c, x, y, "the run has changed");
            cr_expect_geq(report.frames_refused, cases[i / 2].least * (END - 2), "'%s' over %s",
                          c.faults, c.transport);
            free(y);
        }
        free(x);
    }
}

/* The decoder gets what arrived, and nothing else: with damage instead of a loss, bit for bit. */
Test(faults, a_damaged_answer_is_one_that_never_came) {
    static const char *const kinds[] = {"corrupt", "half-write", "wrong-version"};
    static const char *const points[] = {"mid-send", "before-encode"};
    for (size_t i = 0; i < 6; i++) {
        char lost[80], damaged[80];
        cog_report report;
        cog_engine_config c = small();
        c.code = "lwpd:weight=2,wait=6";
        c.stragglers = "exp:mean=0.001";
        snprintf(lost, sizeof(lost), "drop:worker=2,round=5,at=%s", points[i % 2]);
        snprintf(damaged, sizeof(damaged), "%s:worker=2,round=5,at=%s", kinds[i / 2],
                 points[i % 2]);
        c.faults = lost;
        float *x = params_after(&c, END, NULL);
        c.faults = damaged;
        float *y = params_after(&c, END, &report);
        expect_bits(&c, x, y, "not as if it were lost");
        cr_expect_eq(report.frames_refused, 1, "%s", damaged);
        free(x);
        free(y);
    }
}

/* s silent workers are what a code with stragglers=s is for; one more is the end, in words. */
Test(faults, as_many_silent_workers_as_the_code_allows) {
    static const char *const faults[] = {"stop:worker=0,round=4+stop:worker=1,round=9",
                                         "stop:worker=0,round=4+kill:worker=1,round=9",
                                         "drop:worker=0,round=4+drop:worker=1,round=9"};
    for (size_t i = 0; i < 3; i++) {
        cog_engine_config c = small();
        cog_report report;
        c.code = "crc:stragglers=2";
        c.faults = faults[i];
        free(params_after(&c, END, &report));
        cr_expect_eq(report.rounds_skipped, 0);
        char more[200];
        snprintf(more, sizeof(more), "%s+stop:worker=5,round=11", faults[i]);
        c.faults = more;
        cog_engine *e = open_engine(&c);
        cr_expect_eq(cog_engine_run(e, END, NULL, NULL), COG_ERR_TIMEOUT);
        cr_expect(strstr(cog_last_error(), "round 11: 5 of 8") != NULL, "%s", cog_last_error());
        cog_engine_destroy(e);
    }
}

/* --- workers that come back ------------------------------------------------------------------- */

static char folder[64], path[96], state[96];

static void make_folder(void) {
    strcpy(folder, "/tmp/cograd-faults-XXXXXX");
    cr_assert(mkdtemp(folder) != NULL);
    snprintf(path, sizeof(path), "%s/history", folder);
    snprintf(state, sizeof(state), "%s/state", folder);
}

/* A run with faults is recorded, and repeated without them on the other transport. */
static void expect_repeated(cog_engine_config c, bool saves) {
    cog_report report;
    c.record = path;
    cog_engine *e = open_engine(&c);
    if (saves) {
        cr_assert_eq(cog_engine_run(e, END / 2, NULL, NULL), COG_OK, "%s", cog_last_error());
        cr_assert_eq(cog_engine_save(e, state), COG_OK, "%s", cog_last_error());
    }
    cr_assert_eq(cog_engine_run(e, END, NULL, NULL), COG_OK, "%s: %s", c.faults, cog_last_error());
    const int64_t n = cog_engine_n_params(e);
    float *x = malloc((size_t)n * sizeof(float));
    cr_assert_eq(cog_engine_get_params(e, x, n), COG_OK);
    cog_engine_destroy(e);
    c.record = NULL;
    c.replay = path;
    c.transport = strcmp(c.transport, "threads") == 0 ? "sim:threads=1" : "threads";
    c.stragglers = c.faults = "none";
    float *y = params_after(&c, END, &report);
    cr_expect_eq(memcmp(x, y, (size_t)n * sizeof(float)), 0, "%s over %s", c.code, c.transport);
    free(x);
    free(y);
}

Test(faults, a_run_with_kills_is_repeated_without_them) {
    static const char *const codes[] = {"kasync:k=3", "lwpd:wait=5", "lwpd:wait=5,decoder=memory",
                                        "frc:stragglers=1", "crc:stragglers=2"};
    static const char *const points[] = {"before-encode", "mid-send", "after-send"};
    static const char *const channels[] = {"topk:ratio=0.1,feedback=1",
                                           "topk:ratio=0.1,predict=linear"};
    make_folder();
    for (size_t i = 0; i < 10; i++) {
        char faults[160];
        cog_engine_config c = small();
        snprintf(faults, sizeof(faults),
                 "kill:worker=1,round=4,at=%s,back=0.002+kill:probability=0.03,at=%s,back=0.001",
                 points[i % 3], points[(i + 1) % 3]);
        c.faults = faults;
        c.code = codes[i / 2];
        c.transport = i % 2 == 0 ? "sim:threads=1" : "threads";
        c.channel = i / 2 == 4 ? "identity" : channels[i % 2];
        c.stragglers = "exp:mean=0.001";
        c.optimizer = "momentum:rate=0.05";
        expect_repeated(c, i == 2 || i == 5);
    }
    unlink(path);
    unlink(state);
    rmdir(folder);
}

/* A request that is lost takes along what it says of the answer before and the parameters that it
 * brings: the checkpoint that brings the worker back says so again. */
Test(faults, a_request_lost_before_a_checkpoint_leaves_no_trace) {
    static const char *const faults[] = {
        "drop:at=before-encode,round=14", "half-write:at=before-encode,round=13,worker=2",
        "drop:at=mid-send,round=14",
        "drop:at=before-encode,round=14+kill:at=after-send,round=8,back=0"};
    static const char *const channels[] = {"identity:predict=difference",
                                           "topk:ratio=0.2,predict=linear",
                                           "topk:ratio=0.2,feedback=1"};
    make_folder();
    for (size_t i = 0; i < 12; i++) {
        cog_engine_config c = small();
        c.code = "lwpd:wait=3";
        c.channel = channels[i % 3];
        c.stragglers = "exp:mean=0.001";
        c.optimizer = "momentum:rate=0.05";
        c.downlink = i % 2 == 0 ? "delta" : "fp32";
        c.faults = faults[i / 3];
        expect_repeated(c, true);
    }
    unlink(path);
    unlink(state);
    rmdir(folder);
}

/* What a checkpoint of a run holds is the run's, also when a worker dies while it is asked. */
Test(faults, a_worker_may_die_during_a_checkpoint) {
    make_folder();
    cog_engine_config c = small();
    c.code = "frc:stragglers=1";
    c.faults = "kill:worker=2,at=during-checkpoint,back=0.001";
    expect_repeated(c, true);
    unlink(path);
    unlink(state);
    rmdir(folder);
}

Test(faults, a_damaged_checkpoint_is_refused_in_words) {
    static const struct {
        const char *faults, *words;
    } cases[] = {{"corrupt:at=during-checkpoint", "checksum"},
                 {"half-write:at=during-checkpoint", "bytes"},
                 {"wrong-version:at=during-checkpoint", "version"}};
    make_folder();
    for (size_t i = 0; i < 3; i++) {
        cog_engine_config c = small();
        c.faults = cases[i].faults;
        cog_engine *e = engine_after(&c, 5);
        cr_assert_eq(cog_engine_save(e, state), COG_OK, "%s", cog_last_error());
        cog_engine_destroy(e);
        c.faults = "none";
        e = open_engine(&c);
        cr_expect_eq(cog_engine_load(e, state), COG_ERR_FORMAT);
        cr_expect(strstr(cog_last_error(), cases[i].words) != NULL, "%s", cog_last_error());
        cog_engine_destroy(e);
    }
    unlink(state);
    rmdir(folder);
}
