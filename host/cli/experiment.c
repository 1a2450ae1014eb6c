/* experiment.c - drives the engine: evaluates it, stops it.
 *
 * The engine reports more often than the user asked for, so that signals and time limits are
 * seen soon; only every report_every-th round is evaluated.
 */
#include "experiment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "complain.h"
#include "file.h"
#include "interrupt.h"

enum { LONGEST_STEP = 10 }; /* rounds between two looks at the signals */

/* A loss that grew so many times does not come back. One below 1 at the start counts as 1. */
static const double hopeless_growth = 1e6;

const char cog_checkpoint_name[] = "checkpoint";

/* Seconds for a last checkpoint after a signal. */
static const double last_patience = 5;

typedef struct session {
    cog_experiment *out;
    const char *about;
    const cog_problem *problem;
    cog_engine *engine;
    cog_follow_fn follow;
    void *user;
    double target;
    int64_t first_round, last_round;
    double spent;             /* seconds of evaluation so far */
    char *checkpoint;         /* path, or NULL */
    int64_t checkpoint_round; /* of the one written last */
    double finish_by;         /* what is left to do after a signal has so long; 0 before */
    bool ended;
    int status;
} session;

const char *cog_ending_name(cog_ending ending) {
    switch (ending) {
    case COG_END_TARGET: return "target accuracy";
    case COG_END_ROUNDS: return "rounds";
    case COG_END_SECONDS: return "seconds";
    case COG_END_DIVERGED: return "diverged";
    case COG_END_INTERRUPTED: return "interrupted";
    case COG_END_OUTPUT: return "output";
    case COG_END_FAILED: return "failed";
    }
    return "";
}

const cog_point *cog_experiment_last(const cog_experiment *e) {
    static const cog_point none;
    return e->n_points > 0 ? &e->points[e->n_points - 1] : &none;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The largest step up to LONGEST_STEP on which every report and every checkpoint falls. */
static int64_t step_of(const cog_options *o) {
    int64_t step = LONGEST_STEP;
    const int64_t every = o->checkpoint != NULL ? o->checkpoint_every : o->report_every;
    while (o->report_every % step != 0 || every % step != 0) step--;
    return step;
}

static bool is_interrupted(void *user) {
    const session *s = user;
    if (s != NULL && s->finish_by > 0) return now() > s->finish_by;
    return cog_interrupt_signal() != 0;
}

cog_engine_config cog_experiment_config(const cog_options *o, const cog_problem *problem) {
    return (cog_engine_config){
        .train = problem->train,
        .model = o->model,
        .device = o->device,
        .transport = o->transport,
        .code = o->code,
        .channel = o->channel,
        .downlink = o->downlink,
        .optimizer = o->optimizer,
        .stragglers = o->stragglers,
        .faults = o->faults,
        .n_workers = (int32_t)o->workers,
        .batch = o->batch,
        .staleness = o->staleness,
        .report_every = step_of(o),
        .timeout = o->timeout,
        .max_amplification = o->max_amplification,
        .seed = (uint64_t)o->seed,
        .record = o->record,
        .replay = o->replay,
        .stop = is_interrupted,
    };
}

/* Rounds of an epoch: a round draws `batch` rows from each shard. */
static cog_status count_rounds(const cog_options *o, const cog_problem *problem, int64_t *out) {
    *out = o->origin[cog_option_find("rounds")] != COG_FROM_DEFAULT || !cog_options_limited(o)
               ? o->rounds
               : INT64_MAX;
    if (isinf(o->epochs)) return COG_OK;
    cog_code *code;
    const cog_status status = cog_code_create(o->code, (int)o->workers, &code);
    if (status != COG_OK) return status;
    const double rows = (double)problem->train->n_rows;
    double drawn = (double)o->batch * cog_code_plan(code)->n_shards;
    cog_code_destroy(code);
    if (o->batch == 0 || drawn > rows) drawn = rows;
    const double rounds = ceil(o->epochs * rows / drawn);
    if (rounds < (double)*out) *out = (int64_t)rounds;
    return COG_OK;
}

/* ---- one report ------------------------------------------------------------------------------ */

static int remember(cog_experiment *e, const cog_point *point) {
    if (e->n_points == e->capacity) {
        const int capacity = e->capacity == 0 ? 64 : 2 * e->capacity;
        cog_point *points = realloc(e->points, (size_t)capacity * sizeof(*points));
        if (points == NULL) return cog_complain(COG_EXIT_FAILED, "out of memory");
        e->points = points;
        e->capacity = capacity;
    }
    e->points[e->n_points++] = *point;
    return 0;
}

static void end(session *s, cog_ending ending, int status) {
    if (s->ended) return;
    s->ended = true;
    s->out->ending = ending;
    s->status = status;
}

static void fail(session *s, cog_status status) {
    if (s->ended) return;
    snprintf(s->out->error, sizeof(s->out->error), "%s", cog_sentence(status));
    end(s, COG_END_FAILED, cog_complain_status(status, s->about));
}

static cog_report training_clocks(const session *s, cog_report report) {
    report.seconds = fmax(0, report.seconds - s->spent);
    if (!s->out->is_virtual) report.virtual_seconds = report.seconds;
    return report;
}

static bool is_hopeless(const cog_experiment *e, double loss) {
    return !(loss <= hopeless_growth * fmax(1, e->points[0].train_loss));
}

static int complain_of_loss(const session *s, int64_t round, double loss) {
    const char *name = s->out->options->name;
    if (round == 0)
        return cog_complain(COG_EXIT_FAILED,
                            "%s: the loss is not finite before the first step: the data is too "
                            "large for the model",
                            name);
    return cog_complain(COG_EXIT_FAILED,
                        "%s: the loss is %.3g after %lld rounds; a smaller rate may help", name,
                        isnan(loss) ? NAN : loss, (long long)round);
}

/* Evaluate, remember, tell; ends the run when the target is reached or the loss is lost. Also
 * called once after the end, when the last round was not a reported one. */
static void look(session *s, const cog_report *report) {
    const double begin = now();
    cog_point point = {.report = training_clocks(s, *report)};
    double unused;
    cog_status status =
        cog_engine_evaluate(s->engine, s->problem->test, &point.test_loss, &point.test_accuracy);
    if (status == COG_OK)
        status = cog_engine_evaluate(s->engine, &s->problem->probe, &point.train_loss, &unused);
    s->spent += now() - begin;
    if (status != COG_OK) {
        fail(s, status);
        return;
    }
    int failed = remember(s->out, &point);
    if (!failed && s->out->ending != COG_END_OUTPUT) failed = s->follow(s->out, s->user);
    if (s->ended) return;
    if (failed)
        end(s, COG_END_OUTPUT, failed);
    else if (is_hopeless(s->out, point.train_loss) || !isfinite(point.test_loss))
        end(s, COG_END_DIVERGED, complain_of_loss(s, report->round, point.train_loss));
    else if (s->out->has_classes && point.test_accuracy >= s->target)
        end(s, COG_END_TARGET, 0);
}

/* What was reported so far travels in the checkpoint, as it lies. */
static void note_points(session *s) {
    const cog_experiment *e = s->out;
    cog_engine_set_note(s->engine, e->points, (size_t)e->n_points * sizeof(*e->points));
}

static void keep(session *s, int64_t round) {
    note_points(s);
    const cog_status status = cog_engine_save(s->engine, s->checkpoint);
    if (status == COG_OK) s->checkpoint_round = round;
    if (status != COG_OK && cog_interrupt_signal() == 0) fail(s, status);
}

static bool on_report(const cog_report *report, void *user) {
    session *s = user;
    const cog_options *o = s->out->options;
    if (report->round % o->report_every == 0) look(s, report);
    if (s->checkpoint != NULL && report->round % o->checkpoint_every == 0 && !s->ended)
        keep(s, report->round);
    const int signal = cog_interrupt_signal();
    if (signal != 0)
        end(s, COG_END_INTERRUPTED, COG_EXIT_SIGNAL + signal);
    else if (report->seconds - s->spent >= o->seconds)
        end(s, COG_END_SECONDS, 0);
    return !s->ended;
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

static bool are_points(const cog_point *points, size_t n, int64_t round) {
    for (size_t i = 0; i < n; i++) {
        const cog_report *r = &points[i].report;
        const int64_t before = i > 0 ? points[i - 1].report.round : -1;
        if (r->round <= before || r->round > round || !(r->seconds >= 0)) return false;
    }
    return true;
}

/* The log begins where the run once began. The round of the checkpoint itself is looked at again.
 */
static int recall_points(session *s, int64_t round) {
    size_t bytes;
    const cog_point *points = cog_engine_note(s->engine, &bytes);
    const size_t n = bytes / sizeof(*points);
    if (bytes % sizeof(*points) != 0 || !are_points(points, n, round)) return 0;
    int status = 0;
    s->out->is_past = true;
    for (size_t i = 0; i < n && points[i].report.round < round && status == 0; i++) {
        status = remember(s->out, &points[i]);
        if (status == 0) status = s->follow(s->out, s->user);
    }
    s->out->is_past = false;
    return status;
}

static cog_status resume(cog_engine *engine, const char *folder) {
    char *path = cog_path_join(folder, cog_checkpoint_name);
    if (path == NULL) return COG_ERR_MEMORY;
    const cog_status status = cog_engine_load(engine, path);
    free(path);
    return status;
}

static int prepare_checkpoint(session *s, const char *folder) {
    if (folder == NULL) return 0;
    const int status = cog_folder_make(folder);
    if (status != 0) return status;
    s->checkpoint = cog_path_join(folder, cog_checkpoint_name);
    s->checkpoint_round = -1;
    return s->checkpoint != NULL ? 0 : COG_EXIT_FAILED;
}

/* The last round is worth keeping, unless its loss is lost. After a signal workers that are busy
 * are waited for a little: else the checkpoint before stands. */
static void keep_last(session *s, int64_t round) {
    const cog_ending ending = s->out->ending;
    if (s->checkpoint == NULL || s->checkpoint_round == round) return;
    if (s->ended && (ending == COG_END_FAILED || ending == COG_END_DIVERGED)) return;
    if (cog_interrupt_signal() != 0 && round == s->first_round) return; /* there is nothing new */
    if (cog_interrupt_signal() != 0) s->finish_by = now() + last_patience;
    note_points(s);
    const cog_status status = cog_engine_save(s->engine, s->checkpoint);
    if (status != COG_OK && s->finish_by == 0) fail(s, status);
}

/* ---- the run --------------------------------------------------------------------------------- */

/* A signal also ends the wait for workers at the start: that is no failure. */
static void fail_unless_interrupted(session *s, cog_status status) {
    const int signal = cog_interrupt_signal();
    if (signal != 0 && cog_engine_report(s->engine).round == s->first_round)
        end(s, COG_END_INTERRUPTED, COG_EXIT_SIGNAL + signal);
    else
        fail(s, status);
}

static void train(session *s) {
    const char *news = cog_engine_news(s->engine);
    if (news[0] != '\0') printf("%s: %s.\n", s->out->options->name, news);
    const cog_report start = cog_engine_report(s->engine);
    const int failed = recall_points(s, start.round);
    if (failed != 0) end(s, COG_END_OUTPUT, failed);
    look(s, &start);
    s->first_round = start.round;
    if (cog_interrupt_signal() != 0 && start.round < s->last_round) /* before a wait for workers */
        end(s, COG_END_INTERRUPTED, COG_EXIT_SIGNAL + cog_interrupt_signal());
    if (!s->ended) {
        s->spent = 0; /* the engine's clock starts now */
        const cog_status status = cog_engine_run(s->engine, s->last_round, on_report, s);
        if (status != COG_OK) fail_unless_interrupted(s, status);
    }
    const cog_report last = cog_engine_report(s->engine);
    if (last.round > cog_experiment_last(s->out)->report.round) look(s, &last);
    const int signal = cog_interrupt_signal();
    if (signal != 0 && last.round < s->last_round)
        end(s, COG_END_INTERRUPTED, COG_EXIT_SIGNAL + signal);
    keep_last(s, last.round);
    end(s, COG_END_ROUNDS, 0);
    double unused;
    s->out->train_loss = NAN;
    const cog_status status =
        cog_engine_evaluate(s->engine, s->problem->train, &s->out->train_loss, &unused);
    if (status != COG_OK) fail(s, status);
}

int cog_experiment_check(const cog_options *options, const char *about,
                         const cog_problem *problem) {
    const cog_engine_config config = cog_experiment_config(options, problem);
    cog_engine *engine = NULL;
    int64_t rounds;
    cog_status status = cog_engine_create(&config, &engine);
    if (status == COG_OK && options->resume != NULL) status = resume(engine, options->resume);
    cog_engine_destroy(engine);
    if (status == COG_OK) status = count_rounds(options, problem, &rounds);
    return status == COG_OK ? 0 : cog_complain_status(status, about);
}

int cog_experiment_run(const cog_options *options, const char *about, const cog_problem *problem,
                       cog_follow_fn follow, void *user, cog_experiment *out) {
    *out = (cog_experiment){.options = options,
                            .has_classes = problem->train->n_classes > 0,
                            .is_virtual = strncmp(options->transport, "sim", 3) == 0};
    const bool asked = options->origin[cog_option_find("target-accuracy")] != COG_FROM_DEFAULT;
    session s = {.out = out,
                 .about = about,
                 .problem = problem,
                 .follow = follow,
                 .user = user,
                 .target =
                     asked || !cog_options_limited(options) ? options->target_accuracy : INFINITY};
    out->has_target = out->has_classes && isfinite(s.target);
    cog_engine_config config = cog_experiment_config(options, problem);
    config.stop_user = &s;
    config.settings = cog_settings_make(options);
    out->ending = COG_END_FAILED; /* until something else ends it */
    if (config.settings == NULL) return COG_EXIT_USAGE;
    cog_status status = cog_engine_create(&config, &s.engine);
    if (status == COG_OK && options->resume != NULL) status = resume(s.engine, options->resume);
    if (status == COG_OK) status = count_rounds(options, problem, &s.last_round);
    const int prepared = status == COG_OK ? prepare_checkpoint(&s, options->checkpoint) : 0;
    if (status != COG_OK)
        fail(&s, status);
    else if (prepared != 0)
        end(&s, COG_END_OUTPUT, prepared);
    else
        train(&s);
    cog_engine_destroy(s.engine);
    free(s.checkpoint);
    return s.status;
}

void cog_experiment_free(cog_experiment *experiment) {
    free(experiment->points);
    memset(experiment, 0, sizeof(*experiment));
}
