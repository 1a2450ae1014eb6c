/* test_history.c - a run that was recorded is repeated bit for bit, whatever the transport. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine_rig.h"
#include "history.h"

enum { END = 30 };

static char folder[] = "/tmp/cograd-history-XXXXXX", path[64], state[64];

static void make_folder(void) {
    if (path[0] != '\0') return;
    cr_assert(mkdtemp(folder) != NULL);
    snprintf(path, sizeof(path), "%s/history", folder);
    snprintf(state, sizeof(state), "%s/state", folder);
}

static void remove_folder(void) {
    unlink(path);
    unlink(state);
    rmdir(folder);
}

static void expect_repeated(cog_engine_config c, const char *transport, int64_t saved_at) {
    cog_report first, second;
    c.record = path;
    c.replay = NULL;
    cog_engine *e = open_engine(&c);
    cr_assert_eq(cog_engine_run(e, saved_at, NULL, NULL), COG_OK, "%s", cog_last_error());
    if (saved_at > 0) cr_assert_eq(cog_engine_save(e, state), COG_OK, "%s", cog_last_error());
    cr_assert_eq(cog_engine_run(e, END, NULL, NULL), COG_OK, "%s", cog_last_error());
    const int64_t n = cog_engine_n_params(e);
    float *x = malloc((size_t)n * sizeof(float));
    cr_assert_eq(cog_engine_get_params(e, x, n), COG_OK);
    first = cog_engine_report(e);
    cog_engine_destroy(e);

    c.record = NULL;
    c.replay = path;
    c.transport = transport;
    float *y = params_after(&c, END, &second);
    cr_expect_eq(memcmp(x, y, (size_t)n * sizeof(float)), 0, "%s over %s", c.code, transport);
    cr_expect_eq(first.messages_used, second.messages_used);
    cr_expect_eq(first.messages_late, second.messages_late);
    cr_expect_eq(first.messages_dropped, second.messages_dropped);
    free(x);
    free(y);
}

static const char *const codes[] = {"kasync:k=3", "lwpd:wait=5", "lwpd:wait=5,decoder=memory",
                                    "ignore:wait=6", "frc:stragglers=1"};

Test(history, what_threads_did_is_repeated_in_virtual_time) {
    static const char *const stragglers[] = {"exp:mean=0.002", "bernoulli:probability=0.05",
                                             "slow:workers=2,factor=20"};
    make_folder();
    for (int i = 0; i < 5; i++) {
        cog_engine_config c = small();
        c.code = codes[i];
        c.transport = "threads";
        c.stragglers = stragglers[i % 3];
        c.channel = i % 2 == 0 ? "topk:ratio=0.1,feedback=1" : "topk:ratio=0.1,predict=linear";
        c.optimizer = "momentum:rate=0.05";
        expect_repeated(c, "sim:threads=1", i == 1 ? 11 : 0);
    }
    remove_folder();
}

/* Another cluster: other delays, another order of arrival. */
Test(history, what_virtual_time_did_is_repeated_by_threads) {
    make_folder();
    for (int i = 0; i < 5; i++) {
        cog_engine_config c = small();
        c.code = codes[i];
        c.stragglers = "exp:mean=0.001";
        c.channel = "topk:ratio=0.1,feedback=1";
        expect_repeated(c, "threads", i == 0 ? 11 : 0);
        expect_repeated(c, "sim:threads=1,latency=0.01,bandwidth=1e5", 0);
    }
    remove_folder();
}

/* ---------------------------------------------------------------- files */

static void expect_status(const cog_engine_config *c, int64_t rounds, cog_status status,
                          const char *words) {
    cog_engine *e = open_engine(c);
    const cog_status got = cog_engine_run(e, rounds, NULL, NULL);
    cr_expect_eq(got, status, "%s: %d, %s", words, got, cog_last_error());
    cr_expect(got == COG_OK || strstr(cog_last_error(), words) != NULL, "'%s' lacks '%s'",
              cog_last_error(), words);
    cog_engine_destroy(e);
}

Test(history, another_configuration_is_refused_in_words) {
    make_folder();
    cog_engine_config c = small();
    c.code = "kasync:k=3";
    c.record = path;
    free(params_after(&c, 10, NULL));
    c.record = NULL;
    c.replay = path;
    expect_status(&c, 10, COG_OK, "it is that run");
    expect_status(&c, 11, COG_ERR_ARGUMENT, "ends before round 10");
    cog_engine_config other = c;
    other.seed = 9;
    expect_status(&other, 10, COG_ERR_ARGUMENT, "'seed = 1', here 'seed = 9'");
    other = c;
    other.staleness = 3;
    expect_status(&other, 10, COG_ERR_ARGUMENT, "staleness = 64");
    other = c;
    other.code = "uncoded";
    expect_status(&other, 10, COG_ERR_ARGUMENT, "all-reduce");
    other = c;
    other.stragglers = "dead:workers=8,at=0";
    other.timeout = 0.2;
    expect_status(&other, 10, COG_ERR_TIMEOUT, "does not come");
    other.replay = "/nonexistent";
    expect_status(&other, 10, COG_ERR_IO, "/nonexistent");
    other.replay = folder;
    expect_status(&other, 10, COG_ERR_IO, "no regular file");
    unlink(path);
    cr_assert_eq(mkfifo(path, 0600), 0); /* nobody will ever write there */
    other.replay = path;
    expect_status(&other, 10, COG_ERR_IO, "no regular file");
    remove_folder();
}

/* What is replayed is no record's to write over; nor is a good record a refused replay's. */
Test(history, a_refused_replay_costs_no_record) {
    struct stat before, after;
    make_folder();
    cog_engine_config c = small();
    c.code = "kasync:k=3";
    c.record = path;
    free(params_after(&c, 10, NULL));
    cr_assert_eq(stat(path, &before), 0);
    c.replay = path;
    expect_status(&c, 10, COG_ERR_ARGUMENT, "written anew");
    c.replay = "/nonexistent";
    expect_status(&c, 10, COG_ERR_IO, "/nonexistent");
    cr_assert_eq(stat(path, &after), 0);
    cr_expect_eq(after.st_size, before.st_size);
    remove_folder();
}

Test(history, lines_that_make_no_sense_are_refused_with_their_number) {
    static const struct {
        const char *text, *words;
        int n;
    } cases[] = {
        {"cograd history 1\na = b\nfrom = 7\nm 1 2 3\nd 0 4\ne 7\ns\nl 2\nj 2\n", NULL, 6},
        {"cograd history 1\nfrom = 0\n", NULL, 0},
        {"cograd history 1\nfrom = 0\ne 1\nm 1 2", NULL, 1}, /* cut short: a shorter run */
        {"cograd history 2\nfrom = 0\n", "no history", 0},
        {"", "no history", 0},
        {"cograd history 1\na = b\n", "where it begins", 0},
        {"cograd history 1\nfrom = -1\n", "where it begins", 0},
        {"cograd history 1\nfrom = 0\nm 1 2\n", "line 3", 0},
        {"cograd history 1\nfrom = 0\ne 1\nm 1 2 3 \n", "line 4", 0},
        {"cograd history 1\nfrom = 0\nm 99999999999 2 3\n", "line 3", 0},
        {"cograd history 1\nfrom = 0\ne 99999999999999999999\n", "line 3", 0},
        {"cograd history 1\nfrom = 0\n\n", "line 3", 0},
        {"cograd history 1\nfrom = 0\nx\n", "line 3", 0},
        {"cograd history 1\nfrom = 0\nl\n", "line 3", 0},
        {"cograd history 1\nfrom = 0\nj 1 2\n", "line 3", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_history h;
        const size_t bytes = strlen(cases[i].text);
        char *exact = malloc(bytes + 1); /* its end is known to AddressSanitizer */
        exact = realloc(exact, bytes > 0 ? bytes : 1);
        memcpy(exact, cases[i].text, bytes);
        const cog_status status = cog_history_parse(exact, bytes, &h);
        cr_expect_eq(status, cases[i].words == NULL ? COG_OK : COG_ERR_FORMAT, "case %zu", i);
        if (status == COG_OK) cr_expect_eq((int)h.n, cases[i].n, "case %zu", i);
        if (status != COG_OK && cases[i].words != NULL)
            cr_expect(strstr(cog_last_error(), cases[i].words) != NULL, "case %zu: %s", i,
                      cog_last_error());
        cog_history_free(&h);
        free(exact);
    }
}
