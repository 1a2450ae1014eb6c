/* experiment.h - one scheme trained on one problem, and what came of it. */
#ifndef COG_CLI_EXPERIMENT_H
#define COG_CLI_EXPERIMENT_H

#include <stdio.h>

#include "cograd/engine.h"
#include "options.h"
#include "problem.h"

typedef enum cog_ending {
    COG_END_TARGET,      /* the target accuracy was reached */
    COG_END_ROUNDS,      /* the last round was made */
    COG_END_SECONDS,     /* time was up */
    COG_END_DIVERGED,    /* the loss is no number any more, or beyond hope */
    COG_END_INTERRUPTED, /* by a signal */
    COG_END_OUTPUT,      /* nobody reads the output, or the disk is full */
    COG_END_FAILED,      /* the engine gave up */
} cog_ending;

/* Of the file in the folder that --checkpoint names. */
extern const char cog_checkpoint_name[];

/* Where a run stood at one report. */
typedef struct cog_point {
    cog_report report; /* its clocks are those of the training: evaluation is taken out */
    double train_loss; /* over the probe rows of the problem */
    double test_loss;
    double test_accuracy;
} cog_point;

typedef struct cog_experiment {
    const cog_options *options;
    bool has_classes;
    bool has_target;   /* it ends at an accuracy */
    bool is_virtual;   /* time is that of a simulated cluster */
    cog_point *points; /* [n_points] */
    int n_points, capacity;
    bool is_past; /* the last of them is of the run that this one goes on from */
    cog_ending ending;
    double train_loss; /* over all training rows, at the end */
    char error[512];   /* the engine's sentence when it failed */
} cog_experiment;

/* Called with every point; returns an exit status: not 0 ends the run. */
typedef int (*cog_follow_fn)(const cog_experiment *experiment, void *user);

/* Refuse what can be refused before anything is trained. `about` begins a complaint: the scheme's
 * name when there are several; may be NULL. */
int cog_experiment_check(const cog_options *options, const char *about, const cog_problem *problem);

/* Train. Returns the exit status of the run; on anything but a usage error the experiment holds
 * what was reached. */
int cog_experiment_run(const cog_options *options, const char *about, const cog_problem *problem,
                       cog_follow_fn follow, void *user, cog_experiment *out);

/* What the engine is told, which is interrupted by signals. */
cog_engine_config cog_experiment_config(const cog_options *options, const cog_problem *problem);

/* ---- experiment_rank.c ----------------------------------------------------------------------- */

/* The rank of this process in such a run; 0 also when that cannot be told: trying will say why. */
int cog_experiment_rank(const cog_options *options);

/* A worker's process: serve until the server has ended the run. Speaks up about nothing that the
 * server says as well. Returns an exit status. */
int cog_experiment_serve(const cog_options *options, const cog_problem *problem);

/* The same for a worker that came from outside; says nothing itself. */
cog_status cog_experiment_work(const cog_options *options, const cog_problem *problem,
                               cog_link *link);

/* ---------------------------------------------------------------------------------------------- */

void cog_experiment_free(cog_experiment *experiment); /* accepts a zeroed struct */

const cog_point *cog_experiment_last(const cog_experiment *experiment);
const char *cog_ending_name(cog_ending ending);

#endif
