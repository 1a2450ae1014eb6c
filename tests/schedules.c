/* schedules.c - random schedules of faults and delays in virtual time, and what must hold of each.
 *
 *     cograd-schedules N [FIRST SEED]      N schedules; a seed that fails is printed, and its plan
 *     cograd-schedules --self-test         violations are planted, and must be found
 *
 * A seed makes a small problem - code, channel, staleness bound, workers, links, stragglers, up to
 * three faults, checkpoints - and runs it. Then
 *
 *   1. what was applied is a set: each (worker, round, message) at most once
 *   2. nothing is older than the bound
 *   3. the parameters are that set's: message m of round r is a unit vector of its own, so they
 *      show what was applied, how often and with which weight, whatever the server believes
 *   4. the history of the run, replayed without faults or delays, gives the same bits
 *   5. the run ends: with all rounds when no fault takes an answer away, else maybe with a timeout
 *
 * Laws 1 to 3 are looked at after every round, over channels that send all; the others with
 * feedback, predictors, momentum, too. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "cograd/cograd.h"
#include "engine_parts.h"
#include "schedule_plan.h"
#include "worker_parts.h"

enum { MOST_SECONDS = 20 }; /* a schedule takes a millisecond */

/* --- the model: messages that say who they are ------------------------------------------------ */

static cog_status init_params(const void *user, uint64_t seed, float *params) {
    (void)seed;
    memset(params, 0, (size_t)((const schedule *)user)->model.n_params * sizeof(float));
    return COG_OK;
}

static size_t workspace_bytes(const void *user, int64_t n_rows) {
    (void)user, (void)n_rows;
    return 1;
}

static cog_status backprop(const void *user, cog_device *device, const cog_batch *batch,
                           const float *params, void *workspace) {
    (void)user, (void)device, (void)batch, (void)params, (void)workspace;
    return COG_OK;
}

static cog_status message(const void *user, cog_device *device, const cog_batch *batch,
                          const float *params, void *workspace, int n_slices,
                          const cog_slice *slices, float *out) {
    (void)device, (void)batch, (void)params, (void)workspace, (void)n_slices, (void)slices;
    schedule *s = (schedule *)(uintptr_t)user;
    memset(out, 0, (size_t)s->model.block_len * sizeof(float));
    out[s->round_of_request * s->n_messages + s->message++] = 1;
    return COG_OK;
}

static double flops(const void *user, int64_t n_rows) {
    (void)user, (void)n_rows;
    return 30;
}

/* Virtual time hands out one frame after the other: here it is seen who computes next. */
static schedule *current;

static cog_status handle(void *worker, const cog_frame *frame) {
    const cog_worker *w = worker;
    if (frame->header.kind == COG_FRAME_PARAMS) {
        current->round_of_request = frame->header.round;
        current->message = w->first;
    }
    return cog_worker_handle(worker, frame);
}

static cog_status make_model(schedule *s) {
    cog_code *code;
    COG_TRY(cog_code_create(s->code, s->n_workers, &code));
    s->n_messages = cog_code_plan(code)->n_messages;
    const int32_t n_blocks = cog_code_plan(code)->n_blocks;
    cog_code_destroy(code);
    const int64_t block_len = MOST_ROUNDS * (int64_t)s->n_messages;
    s->model = (cog_model){.name = "witness",
                           .user = s,
                           .n_params = block_len * n_blocks,
                           .block_len = block_len,
                           .n_blocks = n_blocks,
                           .init = init_params,
                           .workspace_bytes = workspace_bytes,
                           .backprop = backprop,
                           .message = message,
                           .backprop_flops = flops,
                           .message_flops = flops};
    return COG_OK;
}

/* --- engines ---------------------------------------------------------------------------------- */

static cog_dataset *train, *test;

static cog_engine_config configure(schedule *s) {
    cog_engine_config c = cog_engine_config_default();
    c.train = train;
    c.custom_model = &s->model;
    c.transport = s->transport;
    c.code = s->code;
    c.channel = s->channel;
    c.downlink = s->downlink;
    c.optimizer = s->optimizer;
    c.stragglers = s->stragglers;
    c.faults = s->faults;
    c.n_workers = s->n_workers;
    c.batch = 1;
    c.staleness = s->staleness;
    c.report_every = 1;
    c.timeout = 1;
    c.max_amplification = 1e300;
    c.seed = s->seed;
    return c;
}

static cog_status open_engine(schedule *s, const cog_engine_config *c, cog_engine **out) {
    COG_TRY(cog_engine_create(c, out));
    (*out)->transport->handle = handle;
    current = s;
    return COG_OK;
}

/* --- laws 1 to 3 ------------------------------------------------------------------------------ */

/* The update of the round that has just ended enters the table of what should be. */
static cog_status note_update(schedule *s) {
    const cog_server *server = &s->engine->server;
    const cog_update *u = &server->update;
    const int64_t round = server->round - 1;
    for (int i = 0; i < u->n_messages; i++) {
        const cog_update_message *m = &u->messages[i];
        const int64_t age = server->age[m->row], key = (round - age) * s->n_messages + m->row;
        COG_CHECK(age >= 0 && age <= s->staleness, COG_ERR_ARGUMENT,
                  "round %" PRId64 " used message %d of round %" PRId64
                  ", and the bound is %" PRId64,
                  round, m->row, round - age, s->staleness);
        COG_CHECK(key >= 0 && !s->applied[key], COG_ERR_ARGUMENT,
                  "round %" PRId64 " used message %d of round %" PRId64 " a second time", round,
                  m->row, round - age);
        s->applied[key] = 1;
        for (int t = m->first_term; t < m->first_term + m->n_terms; t++)
            s->expected[u->terms[t].block * s->model.block_len + key] -= u->terms[t].weight;
    }
    return COG_OK;
}

static cog_status check_params(schedule *s) {
    const int64_t n = s->model.n_params;
    COG_TRY(cog_engine_get_params(s->engine, s->params, n));
    for (int64_t i = 0; i < n; i++) {
        const int64_t key = i % s->model.block_len;
        COG_CHECK(fabs((double)s->params[i] - s->expected[i]) <= s->tolerance, COG_ERR_ARGUMENT,
                  "after round %" PRId64 " message %d of round %" PRId64
                  " has entered with %g, and its weight is %g",
                  s->engine->server.round - 1, (int)(key % s->n_messages), key / s->n_messages,
                  -(double)s->params[i], -(double)s->expected[i]);
    }
    return COG_OK;
}

static cog_status look(schedule *s) {
    cog_engine *e = s->engine;
    if (!s->is_whole || e->code->keeps_messages) return COG_OK; /* those are used again */
    if (s->plant == APPLIED_TWICE && e->server.round == 3)
        COG_TRY(cog_replica_apply(e->replica, 2, &e->server.update));
    COG_TRY(note_update(s));
    return check_params(s);
}

/* --- the run ---------------------------------------------------------------------------------- */

/* *over: it ended early, as it may. */
static cog_status one_round(schedule *s, bool *over) {
    cog_engine *e = s->engine;
    cog_status status = COG_OK;
    if (s->saves_before == s->n_rounds && s->n_rounds > 0)
        status = cog_server_save(&e->server, NULL);
    if (status == COG_OK) status = cog_engine_run(e, s->n_rounds + 1, NULL, NULL);
    *over = status != COG_OK;
    const bool may_be = status == COG_ERR_TIMEOUT || status == COG_ERR_TRANSPORT;
    if (*over) return s->takes_answers && may_be ? COG_OK : status;
    s->n_rounds++;
    return look(s);
}

static cog_status run_recorded(schedule *s) {
    const cog_engine_config c = configure(s);
    COG_TRY(open_engine(s, &c, &s->engine));
    if (s->plant == TOO_OLD) s->engine->server.staleness += 3;
    FILE *record = open_memstream(&s->history, &s->history_bytes);
    COG_CHECK(record != NULL, COG_ERR_MEMORY, "no memory for a history");
    s->engine->server.record = record;
    cog_status status = cog_history_write_header(record, "a = b", 0);
    for (bool over = false; status == COG_OK && !over && s->n_rounds < s->rounds;)
        status = one_round(s, &over);
    fclose(record);
    s->engine->server.record = NULL;
    if (status == COG_OK) status = cog_engine_get_params(s->engine, s->params, s->model.n_params);
    return status;
}

/* --- law 4 ------------------------------------------------------------------------------------ */

static cog_status begin_replay(schedule *s, cog_engine *e) {
    cog_history h;
    cog_status status = cog_history_parse(s->history, s->history_bytes, &h);
    size_t last = h.n;
    while (status == COG_OK && last > 0 && h.taken[last - 1].kind != 'm') last--;
    if (s->plant == ANOTHER_HISTORY && last > 0)
        h.taken[last - 1] = (cog_taken){'d', h.taken[last - 1].worker, 0, h.taken[last - 1].round};
    if (status == COG_OK) status = cog_server_begin_replay(&e->server, &h);
    cog_history_free(&h);
    return status;
}

static cog_status compare_replay(schedule *s, cog_engine *e) {
    const size_t bytes = (size_t)s->model.n_params * sizeof(float);
    COG_TRY(begin_replay(s, e));
    COG_TRY(cog_engine_run(e, s->n_rounds, NULL, NULL));
    COG_TRY(cog_engine_get_params(e, s->expected, s->model.n_params));
    COG_CHECK(memcmp(s->expected, s->params, bytes) == 0, COG_ERR_ARGUMENT,
              "the replay ends with other parameters");
    const cog_report a = s->engine->server.report, b = e->server.report;
    COG_CHECK(a.messages_used == b.messages_used && a.rounds_skipped == b.rounds_skipped,
              COG_ERR_ARGUMENT, "the replay used %" PRId64 " messages, not %" PRId64,
              b.messages_used, a.messages_used);
    return COG_OK;
}

/* Who declines does so again; nobody is late, and nothing comes to harm. */
static cog_status replay(schedule *s) {
    cog_engine_config c = configure(s);
    cog_engine *e = NULL;
    if (s->n_rounds == 0) return COG_OK;
    c.faults = NULL;
    c.transport = "sim:threads=1,latency=0.01";
    if (strncmp(s->stragglers, "bernoulli", 9) != 0) c.stragglers = "none";
    cog_status status = open_engine(s, &c, &e);
    if (status == COG_OK) status = compare_replay(s, e);
    cog_engine_destroy(e);
    return status;
}

/* --- one schedule, and many ------------------------------------------------------------------- */

static cog_status try_schedule(schedule *s) {
    choose(s);
    COG_TRY(make_model(s));
    const size_t n = (size_t)s->model.n_params;
    s->expected = calloc(n, sizeof(*s->expected));
    s->params = calloc(n, sizeof(*s->params));
    s->applied = calloc((size_t)MOST_ROUNDS * (size_t)s->n_messages, 1);
    COG_CHECK(s->expected && s->params && s->applied, COG_ERR_MEMORY, "no memory");
    COG_TRY(run_recorded(s));
    return replay(s);
}

/* Law 5. */
static void complain_of_time(int signal) {
    (void)signal;
    char text[64];
    const int n =
        snprintf(text, sizeof(text), "seed %" PRIu64 ": it does not end\n", current->seed);
    if (write(STDERR_FILENO, text, (size_t)n) == n) print_plan(current);
    _exit(1);
}

/* True when all laws hold. */
static bool holds(uint64_t seed, plant planted, bool tells, int64_t *n_rounds) {
    static schedule s;
    s = (schedule){.seed = seed, .plant = planted};
    current = &s;
    alarm(MOST_SECONDS);
    const cog_status status = try_schedule(&s);
    if (status != COG_OK && tells) {
        fprintf(stderr, "seed %" PRIu64 ": %s\n", seed, cog_last_error());
        print_plan(&s);
    }
    *n_rounds += s.n_rounds;
    cog_engine_destroy(s.engine);
    free(s.expected);
    free(s.params);
    free(s.applied);
    free(s.history);
    return status == COG_OK;
}

static int run_many(uint64_t n, uint64_t first) {
    struct timespec begin, end;
    uint64_t n_failed = 0;
    int64_t n_rounds = 0;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (uint64_t i = 0; i < n && n_failed < 20; i++)
        n_failed += !holds(first + i, NOTHING, true, &n_rounds);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%" PRIu64 " schedules from seed %" PRIu64 ", %" PRId64 " rounds, %.1f s: %" PRIu64
           " failed\n",
           n, first, n_rounds,
           (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec),
           n_failed);
    return n_failed > 0;
}

static int test_itself(void) {
    static const char *const names[] = {"nothing", "an update that is applied twice",
                                        "messages beyond the bound", "another history"};
    int failed = 0;
    for (int p = 0; p < N_PLANTS; p++) {
        int64_t n_rounds = 0;
        int n_found = 0;
        for (uint64_t seed = 1; seed <= 300; seed++)
            n_found += !holds(seed, (plant)p, false, &n_rounds);
        printf("%s: found in %d of 300 schedules\n", names[p], n_found);
        failed |= (n_found > 0) != (p != NOTHING);
    }
    return failed;
}

int main(int argc, char **argv) {
    signal(SIGALRM, complain_of_time);
    const bool is_test = argc == 2 && strcmp(argv[1], "--self-test") == 0;
    char *end = argc > 1 ? argv[1] : NULL;
    const uint64_t n = argc > 1 ? strtoull(argv[1], &end, 10) : 0;
    if (!is_test && (argc < 2 || argc > 3 || *end != '\0' || n == 0)) {
        fprintf(stderr, "usage: cograd-schedules N [FIRST SEED] | --self-test\n");
        return 2;
    }
    if (cog_dataset_open("synthetic:rows=24,features=2,seed=5", &train, &test) != COG_OK) {
        fprintf(stderr, "%s\n", cog_last_error());
        return 1;
    }
    const int status =
        is_test ? test_itself() : run_many(n, argc > 2 ? strtoull(argv[2], NULL, 10) : 1);
    cog_dataset_close(train);
    cog_dataset_close(test);
    return status;
}
