/* faults.c - specs of faults, and who is struck. */
#include "faults.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "rng.h"

static const double max_seconds = 1e6;

static const char *const kind_names[] = {"kill",          "stop",    "slow",    "drop",
                                         "duplicate",     "reorder", "corrupt", "half-write",
                                         "wrong-version", NULL};
static const char *const worker_points[] = {"before-encode", "mid-send",          "after-send",
                                            "during-decode", "during-checkpoint", NULL};
static const char *const frame_points[] = {"mid-send",      "before-encode",     "after-send",
                                           "during-decode", "during-checkpoint", NULL};

/* --- specs ------------------------------------------------------------------------------------ */

static cog_status read_kind(const char *name, cog_fault_kind *out) {
    char known[128] = "";
    for (int i = 0; kind_names[i] != NULL; i++) {
        if (strcmp(kind_names[i], name) == 0) {
            *out = (cog_fault_kind)i;
            return COG_OK;
        }
        const size_t length = strlen(known);
        snprintf(known + length, sizeof(known) - length, "%s%s", i > 0 ? ", " : "", kind_names[i]);
    }
    COG_FAIL(COG_ERR_SPEC, "no fault is named '%s'; there are: %s", name, known);
}

/* The default comes first: what befalls a worker does so before it encodes, a frame on its way. */
static cog_status read_point(cog_spec *spec, cog_fault *f) {
    const char *const *names = cog_fault_hits_process(f->kind) ? worker_points : frame_points;
    int chosen;
    COG_TRY(cog_spec_choice(spec, "at", names, &chosen));
    for (int i = 0; worker_points[i] != NULL; i++)
        if (strcmp(worker_points[i], names[chosen]) == 0) f->point = (cog_fault_point)i;
    return COG_OK;
}

static cog_status read_number(const char *spec, const char *key, const char *text, int64_t end,
                              int64_t *out) {
    char *rest;
    const long long number = strtoll(text, &rest, 10);
    COG_CHECK(rest != text && *rest == '\0' && number >= 0 && number < end, COG_ERR_SPEC,
              "'%s' of '%s' is '%s', neither any nor in 0..%lld", key, spec, text,
              (long long)end - 1);
    *out = number;
    return COG_OK;
}

static cog_status read_whom(cog_spec *spec, int n_workers, cog_fault *f) {
    const char *worker, *round;
    int64_t number = COG_FAULT_ANY;
    COG_TRY(cog_spec_text(spec, "worker", "any", &worker));
    COG_TRY(cog_spec_text(spec, "round", "any", &round));
    if (strcmp(worker, "server") == 0)
        number = COG_FAULT_SERVER;
    else if (strcmp(worker, "any") != 0)
        COG_TRY(read_number(spec->name, "worker", worker, n_workers, &number));
    f->worker = (int)number;
    f->round = COG_FAULT_ANY;
    return strcmp(round, "any") == 0
               ? COG_OK
               : read_number(spec->name, "round", round, INT64_MAX / 2, &f->round);
}

static cog_status read_keys(cog_spec *spec, int n_workers, cog_fault *f) {
    int64_t seed;
    COG_TRY(read_whom(spec, n_workers, f));
    COG_TRY(cog_spec_real(spec, "probability", 1, 0, 1, &f->probability));
    COG_TRY(cog_spec_int(spec, "seed", 0, 0, INT64_MAX, &seed));
    if (seed != 0) f->seed = (uint64_t)seed;
    COG_TRY(read_point(spec, f));
    if (f->kind == COG_FAULT_SLOW)
        COG_TRY(cog_spec_real(spec, "seconds", 0.1, 0, max_seconds, &f->seconds));
    if (f->kind == COG_FAULT_STOP)
        COG_TRY(cog_spec_real(spec, "seconds", 0, 0, max_seconds, &f->seconds));
    f->back = -1;
    if (f->kind == COG_FAULT_KILL)
        COG_TRY(cog_spec_real(spec, "back", -1, -1, max_seconds, &f->back));
    return cog_spec_finish(spec);
}

static bool is_the_servers(const cog_fault *f) {
    return f->point == COG_DURING_DECODE ||
           (f->point == COG_DURING_CHECKPOINT && f->worker == COG_FAULT_SERVER);
}

/* What a point offers: a process, a frame, a file. */
static cog_status check_point(const cog_fault *f) {
    const char *name = kind_names[f->kind], *point = worker_points[f->point];
    COG_CHECK(f->point != COG_DURING_DECODE || cog_fault_hits_process(f->kind), COG_ERR_SPEC,
              "no frame is under way during a decode: there is no '%s' at '%s'", name, point);
    COG_CHECK(f->point != COG_DURING_CHECKPOINT || cog_fault_hits_process(f->kind) ||
                  cog_fault_hits_bytes(f->kind),
              COG_ERR_SPEC, "a checkpoint is a file: there is no '%s' at '%s'", name, point);
    COG_CHECK(f->kind != COG_FAULT_DROP || f->point != COG_AFTER_SEND, COG_ERR_SPEC,
              "what was sent has arrived: there is no '%s' at '%s'", name, point);
    COG_CHECK(f->kind != COG_FAULT_REORDER || f->point != COG_BEFORE_ENCODE, COG_ERR_SPEC,
              "a worker has one request at a time: there is no '%s' at '%s'", name, point);
    return COG_OK;
}

static cog_status check_whom(cog_fault *f) {
    const char *name = kind_names[f->kind], *point = worker_points[f->point];
    const bool is_file = f->point == COG_DURING_CHECKPOINT && cog_fault_hits_bytes(f->kind);
    if ((f->point == COG_DURING_DECODE || is_file) && f->worker == COG_FAULT_ANY)
        f->worker = COG_FAULT_SERVER;
    COG_CHECK((f->point != COG_DURING_DECODE && !is_file) || f->worker == COG_FAULT_SERVER,
              COG_ERR_SPEC, "'%s' at '%s' befalls the server, not worker %d", name, point,
              f->worker);
    COG_CHECK(f->worker != COG_FAULT_SERVER || f->point >= COG_DURING_DECODE, COG_ERR_SPEC,
              "'%s' at '%s' befalls a worker, not the server", name, point);
    COG_CHECK(f->kind != COG_FAULT_STOP || !is_the_servers(f) || f->seconds > 0, COG_ERR_SPEC,
              "nobody would continue a server that is stopped at '%s': it needs seconds=S", point);
    COG_CHECK(f->back < 0 || !is_the_servers(f), COG_ERR_SPEC,
              "a server that is killed does not come back");
    return COG_OK;
}

static cog_status parse_one(const char *text, int n_workers, cog_fault *f) {
    cog_spec spec;
    COG_TRY(cog_spec_parse(text, &spec));
    COG_TRY(read_kind(spec.name, &f->kind));
    COG_TRY(read_keys(&spec, n_workers, f));
    COG_TRY(check_point(f));
    return check_whom(f);
}

/* The '+' before the next fault; that of a number, 1e+6, is followed by a digit. */
static char *next_plus(char *text) {
    for (char *c = text; (c = strchr(c, '+')) != NULL; c++)
        if (!isdigit((unsigned char)c[1])) return c;
    return NULL;
}

cog_status cog_faults_parse(const char *text, int n_workers, uint64_t seed, cog_faults *out) {
    char copy[COG_SPEC_MAX_TEXT * 2];
    *out = (cog_faults){.n = 0};
    if (strcmp(text, "none") == 0) return COG_OK;
    COG_CHECK(strlen(text) < sizeof(copy), COG_ERR_SPEC, "faults of more than %zu characters",
              sizeof(copy) - 1);
    strcpy(copy, text);
    for (char *at = copy, *plus; at != NULL; at = plus) {
        plus = next_plus(at);
        if (plus != NULL) *plus++ = '\0';
        COG_CHECK(out->n < COG_MAX_FAULTS, COG_ERR_SPEC, "more than %d faults", COG_MAX_FAULTS);
        out->fault[out->n].seed = seed;
        COG_TRY(parse_one(at, n_workers, &out->fault[out->n]));
        out->n++;
    }
    return COG_OK;
}

const char *cog_faults_describe(int i, cog_spec *spec) {
    const int n_kinds = sizeof(kind_names) / sizeof(kind_names[0]) - 1;
    cog_fault unused;
    if (i < 0 || i >= n_kinds || cog_spec_parse(kind_names[i], spec) != COG_OK) return NULL;
    unused.kind = (cog_fault_kind)i;
    (void)read_keys(spec, 8, &unused);
    return kind_names[i];
}

/* --- who is struck ---------------------------------------------------------------------------- */

static bool draw(const cog_faults *faults, int i, const cog_moment *m) {
    const cog_fault *f = &faults->fault[i];
    if (f->probability >= 1) return true;
    cog_rng rng = cog_rng_make(f->seed, COG_STREAM_FAULT, (uint32_t)m->round,
                               (uint32_t)(m->worker + 2) << 4 | (uint32_t)i);
    return cog_rng_uniform(&rng) < f->probability;
}

void cog_struck_begin(cog_struck *struck) {
    for (int i = 0; i < COG_MAX_FAULTS; i++) struck->in[i] = -1;
}

void cog_struck_end(cog_struck *struck) {
    for (int i = 0; i < COG_MAX_FAULTS; i++)
        if (struck->in[i] >= 0) struck->in[i] = INT64_MAX;
}

/* Of a fault with a round: is this its turn? Who began after that round is not meant. */
static bool is_turn(const cog_fault *f, int i, const cog_moment *m) {
    if (m->struck == NULL) return m->round == f->round;
    int64_t *in = &m->struck->in[i];
    const bool is_successor = m->since > f->round || (m->since == f->round && f->round > 0);
    if (*in < 0 && m->round >= f->round && !(is_successor && cog_fault_hits_process(f->kind)))
        *in = m->round;
    return *in == m->round;
}

static bool strikes(const cog_faults *faults, int i, const cog_moment *m) {
    const cog_fault *f = &faults->fault[i];
    const bool is_server = m->worker == COG_FAULT_SERVER;
    const bool ends = f->kind == COG_FAULT_KILL || f->kind == COG_FAULT_STOP;
    if (f->point != m->point || is_server != (f->worker == COG_FAULT_SERVER)) return false;
    if (f->worker >= 0 && f->worker != m->worker) return false;
    if (f->round >= 0 && !is_turn(f, i, m)) return false;
    if (f->round < 0 && ends && m->since == m->round) return false;
    return draw(faults, i, m);
}

const cog_fault *cog_faults_next(const cog_faults *faults, const cog_moment *moment, int *at) {
    while (*at < faults->n)
        if (strikes(faults, (*at)++, moment)) return &faults->fault[*at - 1];
    return NULL;
}

/* --- processes -------------------------------------------------------------------------------- */

void cog_fault_kill(void) { kill(getpid(), SIGKILL); }

static struct timespec span(double seconds) {
    const time_t whole = (time_t)seconds;
    return (struct timespec){.tv_sec = whole, .tv_nsec = (long)(1e9 * (seconds - (double)whole))};
}

/* A timer's SIGCONT continues a process that is stopped: it needs no other process for that. */
void cog_fault_stop(double seconds) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCONT};
    const struct itimerspec once = {.it_value = span(seconds)};
    timer_t timer;
    const bool ends = seconds > 0;
    if (ends && timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) return;
    if (!ends || timer_settime(timer, 0, &once, NULL) == 0) raise(SIGSTOP);
    if (ends) timer_delete(timer);
}

void cog_faults_strike_server(const cog_faults *faults, cog_fault_point point, int64_t round) {
    const cog_moment moment = {.point = point, .worker = COG_FAULT_SERVER, .round = round};
    const cog_fault *f;
    for (int at = 0; faults != NULL && (f = cog_faults_next(faults, &moment, &at)) != NULL;) {
        const struct timespec nap = span(f->seconds);
        if (f->kind == COG_FAULT_KILL) cog_fault_kill();
        if (f->kind == COG_FAULT_STOP) cog_fault_stop(f->seconds);
        if (f->kind == COG_FAULT_SLOW) nanosleep(&nap, NULL);
    }
}
