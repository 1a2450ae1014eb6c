/* schedule_plan.h - what a seed of schedules.c says: a small problem, its cluster, its faults. */
#ifndef COG_TESTS_SCHEDULE_PLAN_H
#define COG_TESTS_SCHEDULE_PLAN_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cograd/cograd.h"
#include "rng.h"

enum { MOST_ROUNDS = 12, TEXT = 400 };

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

#endif
