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
 * show what was applied, how often and with which weight, whatever the server believes
 *   4. the history of the run, replayed without faults or delays, gives the same bits
 *   5. the run ends: with all rounds when no fault takes an answer away, else maybe with a timeout
 *
 * Laws 1 to 3 are looked at after every round, over channels that send all; the others with
 * feedback, predictors, momentum, too. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "cograd/cograd.h"
#include "engine_parts.h"
#include "rng.h"
#include "worker_parts.h"

enum { MOST_ROUNDS = 12, TEXT = 400, MOST_SECONDS = 20 /* a schedule takes a millisecond */ };

typedef enum plant { NOTHING, APPLIED_TWICE, TOO_OLD, ANOTHER_HISTORY, N_PLANTS } plant;

typedef struct schedule {
    uint64_t seed;
    plant plant;
    cog_rng rng;
    int n_workers;
    int64_t rounds, staleness;
    char code[64], channel[64], transport[96], stragglers[64], faults[TEXT];
    const char *optimizer, *downlink;
    bool is_whole;      /* the channel sends all: laws 1 to 3 are looked at */
    double tolerance;   /* of law 3: a prediction and what it lacks are rounded sums */
    bool takes_answers; /* a fault may: the run may end in a timeout */
    int saves_before;   /* a round before which everybody comes to rest; -1: none */

    /* the model */
    cog_model model;
    int64_t round_of_request; /* what the worker that computes now was asked for */
    int32_t message;          /* the next it makes */
    int32_t n_messages;

    /* the run */
    cog_engine *engine;
    float *expected, *params; /* [n_params] */
    uint8_t *applied;         /* [MOST_ROUNDS * n_messages] */
    char *history;
    size_t history_bytes;
    int64_t n_rounds; /* made */
} schedule;

/* --- what to run ------------------------------------------------------------------------------ */

static uint32_t pick(schedule *s, uint32_t n) { return cog_rng_below(&s->rng, n); }

static void add(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(char *text, const char *format, ...) {
    const size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, TEXT - length, format, arguments);
    va_end(arguments);
}

/* Some codes are for some numbers of workers. */
static void choose_code(schedule *s) {
    static const int8_t workers[] = {0, 0, 0, 0, 8, 8, 4, 4, 0};
    const uint32_t which = pick(s, sizeof(workers));
    if (workers[which] > 0) s->n_workers = workers[which];
    const int n = s->n_workers, wait = 1 + (int)pick(s, (uint32_t)n);
    char *code = s->code;
    const size_t size = sizeof(s->code);
    switch (which) {
    case 0: snprintf(code, size, "kasync:k=%d", wait); break;
    case 1: snprintf(code, size, "ignore:wait=%d", wait); break;
    case 2: snprintf(code, size, "frc:stragglers=%d", n % 2 == 0); break;
    case 3: snprintf(code, size, "crc:stragglers=%d", n > 2); break;
    case 4: snprintf(code, size, "lwpd:weight=2,wait=%d", wait); break;
    case 5: snprintf(code, size, "lwpd:weight=2,wait=%d,decoder=memory", wait); break;
    case 6: snprintf(code, size, "replication:blocks=2,shards=1,wait=%d", wait); break;
    case 7: snprintf(code, size, "acgc:wait=%d", wait); break;
    default: snprintf(code, size, "stochastic:copies=2,shards=%d,wait=%d", n, wait); break;
    }
}

static void choose_channel(schedule *s) {
    static const char *const lossy[] = {"topk:ratio=0.2,feedback=1", "sign:feedback=1",
                                        "topk:ratio=0.3,predict=linear", "qsgd:bits=2",
                                        "identity:predict=difference"};
    static const char *const optimizers[] = {"sgd:rate=0.5", "momentum:rate=0.1", "adam:rate=0.01"};
    static const char *const whole[] = {"identity", "identity", "identity:predict=difference",
                                        "identity:predict=linear"};
    const uint32_t which = pick(s, 4);
    s->is_whole = pick(s, 3) > 0;
    s->tolerance = which > 1 ? 1e-4 : 0;
    snprintf(s->channel, sizeof(s->channel), "%s", s->is_whole ? whole[which] : lossy[pick(s, 5)]);
    s->optimizer = s->is_whole ? "sgd:rate=1" : optimizers[pick(s, 3)];
    s->downlink = pick(s, 3) == 0 ? "fp32" : "delta";
}

static void choose_cluster(schedule *s) {
    static const char *const stragglers[] = {"none", "exp:mean=0.001", "pareto:scale=0.0003",
                                             "slow:workers=1,factor=9",
                                             "bernoulli:probability=0.1"};
    snprintf(s->transport, sizeof(s->transport), "sim:threads=1,latency=%s,flops=%s%s",
             pick(s, 2) ? "1e-4" : "0", pick(s, 2) ? "1e5" : "1e9",
             pick(s, 3) == 0 ? ",server_bandwidth=1e6" : "");
    snprintf(s->stragglers, sizeof(s->stragglers), "%s", stragglers[pick(s, 5)]);
}

typedef struct choice {
    const char *name;
    const char *points[4]; /* of a worker */
    bool takes_answers;
} choice;

static const choice choices[] = {
    {"kill", {"before-encode", "mid-send", "after-send", "during-checkpoint"}, true},
    {"stop", {"before-encode", "mid-send", "after-send", "during-checkpoint"}, true},
    {"slow", {"before-encode", "mid-send", "after-send", "during-checkpoint"}, false},
    {"drop", {"before-encode", "mid-send"}, true},
    {"duplicate", {"before-encode", "mid-send", "after-send"}, false},
    {"reorder", {"mid-send", "after-send"}, false},
    {"corrupt", {"before-encode", "mid-send", "after-send"}, true},
    {"half-write", {"before-encode", "mid-send", "after-send"}, true},
    {"wrong-version", {"before-encode", "mid-send", "after-send"}, true},
};

static const char *choose_point(schedule *s, const choice *c) {
    uint32_t n = 0;
    while (n < 4 && c->points[n] != NULL) n++;
    return c->points[pick(s, n)];
}

static void add_fault(schedule *s) {
    const choice *c = &choices[pick(s, sizeof(choices) / sizeof(choices[0]))];
    const char *point = choose_point(s, c);
    const bool is_process = c - choices < 3;
    add(s->faults, "%s%s:at=%s", s->faults[0] != '\0' ? "+" : "", c->name, point);
    if (pick(s, 2)) add(s->faults, ",worker=%u", pick(s, (uint32_t)s->n_workers));
    if (pick(s, 2))
        add(s->faults, ",round=%u", pick(s, (uint32_t)s->rounds));
    else
        add(s->faults, ",probability=0.%u", 1 + pick(s, is_process ? 2 : 6));
    bool ends = c->takes_answers && (is_process || strcmp(point, "after-send") != 0);
    if (c == &choices[0] && pick(s, 4) > 0) add(s->faults, ",back=0.00%u", pick(s, 9));
    if (c == &choices[1] && pick(s, 4) > 0) {
        add(s->faults, ",seconds=0.00%u", 1 + pick(s, 9));
        ends = false;
    }
    if (c == &choices[2]) add(s->faults, ",seconds=0.00%u", 1 + pick(s, 9));
    s->takes_answers |= ends;
}

static void choose(schedule *s) {
    s->rng = cog_rng_make(s->seed, COG_STREAM_TEST, 7, 0);
    s->n_workers = 2 + (int)pick(s, 5);
    s->rounds = 4 + pick(s, MOST_ROUNDS - 3);
    s->staleness = pick(s, 5);
    choose_code(s);
    choose_channel(s);
    choose_cluster(s);
    for (uint32_t n = pick(s, 4); n > 0; n--) add_fault(s);
    if (s->faults[0] == '\0') add(s->faults, "none");
    s->saves_before = pick(s, 4) == 0 ? (int)pick(s, (uint32_t)s->rounds) : -1;
}

static void print_plan(const schedule *s) {
    fprintf(stderr,
            "  %d workers, %" PRId64 " rounds, staleness %" PRId64
            ", at rest before %d\n  %s  %s  %s  %s\n  %s  %s\n  %s\n",
            s->n_workers, s->rounds, s->staleness, s->saves_before, s->code, s->channel,
            s->optimizer, s->downlink, s->transport, s->stragglers, s->faults);
}

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
