/* suite.c - from checked options to a table, records and a plot. */
#include "suite.h"

#include <jansson.h>
#include <string.h>

#include "complain.h"
#include "faults.h"
#include "interrupt.h"
#include "outputs.h"
#include "progress.h"
#include "spec.h"
#include "table.h"

int cog_scheme_name(cog_options *scheme) {
    char *name = cog_keep_text(scheme->code);
    if (name == NULL) return COG_EXIT_FAILED;
    name[strcspn(name, ":")] = '\0';
    scheme->name = name;
    return 0;
}

/* A complaint says which scheme it is about when there are several. */
static const char *about(const cog_suite *s, int i) { return s->n > 1 ? s->scheme[i].name : NULL; }

/* Faults of a checkpoint that is never written would strike nobody, and nobody would know. A replay
 * writes none, but comes to rest where its history did. They were parsed before. */
static int check_checkpoints(const cog_options *o) {
    cog_faults faults;
    if (o->checkpoint != NULL && o->replay != NULL)
        return cog_complain(COG_EXIT_USAGE,
                            "--replay writes no checkpoints: leave --checkpoint out");
    if (o->checkpoint != NULL || o->replay != NULL ||
        cog_faults_parse(o->faults, (int)o->workers, 0, &faults) != COG_OK)
        return 0;
    for (int i = 0; i < faults.n; i++)
        if (faults.fault[i].point == COG_DURING_CHECKPOINT)
            return cog_complain(COG_EXIT_USAGE,
                                "faults at=during-checkpoint need a run that writes checkpoints: "
                                "--checkpoint DIR");
    return 0;
}

static int check_schemes(const cog_suite *s, const cog_problem *problem) {
    int status = 0;
    for (int i = 0; i < s->n && status == 0; i++) {
        status = cog_experiment_check(&s->scheme[i], about(s, i), problem);
        if (status == 0) status = check_checkpoints(&s->scheme[i]);
    }
    return status;
}

/* A scheme that fails does not stop the others from being recorded, only from being begun. */
static int train_all(cog_suite *s, const cog_problem *problem, cog_outputs *outputs) {
    int status = 0;
    for (int i = 0; i < s->n && status == 0; i++) {
        cog_experiment *e = &s->experiment[i];
        s->n_run++;
        status =
            cog_experiment_run(&s->scheme[i], about(s, i), problem, cog_outputs_follow, outputs, e);
        cog_progress_end(e);
    }
    return status;
}

static int finish(cog_suite *s, cog_outputs *outputs) {
    if (!outputs->lost)
        cog_table_print(stdout, s->experiment, s->n_run,
                        s->reference < s->n_run && s->n_run > 1 ? s->reference : -1);
    fflush(stdout); /* the record may go to /dev/stdout: after the table */
    json_t *record = s->make_record(s);
    if (record == NULL) return COG_EXIT_FAILED;
    const int status = cog_outputs_commit(outputs, record, s->experiment, s->n_run);
    json_decref(record);
    if (status != 0 || outputs->lost) return status;
    if (outputs->folder != NULL) printf("\nWritten to %s.\n", outputs->folder);
    return cog_output_check();
}

static int run_on(cog_suite *s, const cog_problem *problem, cog_outputs *outputs) {
    const int checked = check_schemes(s, problem);
    if (checked != 0) return checked;
    const int trained = train_all(s, problem, outputs);
    const int finished = finish(s, outputs);
    return trained != 0 ? trained : finished;
}

/* A process that is a worker: it has nothing to print and nothing to write. */
static int serve(const cog_suite *s) {
    cog_problem problem;
    int status = cog_problem_open(&s->shared, &problem);
    if (status != 0) return status;
    for (int i = 0; i < s->n && status == 0; i++)
        status = cog_experiment_serve(&s->scheme[i], &problem);
    cog_problem_close(&problem);
    return status;
}

/* A worker that comes from outside is told what to do. Here it would go by its own options, which
 * nobody compares with the server's. */
static int check_end(const cog_options *o) {
    cog_spec spec;
    const char *address = "none";
    if (cog_spec_parse(o->transport, &spec) != COG_OK || strcmp(spec.name, "zmq") != 0 ||
        cog_spec_text(&spec, "connect", "none", &address) != COG_OK || strcmp(address, "none") == 0)
        return 0;
    return cog_complain(COG_EXIT_USAGE, "a worker begins with: cograd worker --connect %s",
                        address);
}

int cog_suite_run(cog_suite *s) {
    cog_outputs outputs;
    cog_problem problem;
    for (int i = 0; i < s->n; i++)
        if (check_end(&s->scheme[i]) != 0) return COG_EXIT_USAGE;
    cog_interrupt_catch();
    if (s->n > 0 && cog_experiment_rank(&s->scheme[0]) > 0) return serve(s);
    int status = cog_outputs_open(&s->shared, &outputs);
    if (status != 0) return status;
    status = cog_problem_open(&s->shared, &problem);
    if (status == 0) {
        status = run_on(s, &problem, &outputs);
        cog_problem_close(&problem);
    }
    cog_outputs_discard(&outputs);
    for (int i = 0; i < s->n_run; i++) cog_experiment_free(&s->experiment[i]);
    return status;
}
