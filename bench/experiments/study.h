/* study.h - what the experiments share: training runs, tables, pictures, and verdicts.
 *
 * An experiment repeats what a publication reports: it writes a CSV file and a picture for every
 * figure, and prints which of the publication's statements the numbers bear out, what in the
 * setting is our choice, and what the publication leaves open. A statement that is not borne out
 * makes the program fail.
 */
#ifndef COG_BENCH_STUDY_H
#define COG_BENCH_STUDY_H

#include <stdbool.h>
#include <stdio.h>

#include "cograd/cograd.h"

typedef struct study {
    const char *folder; /* results of this experiment */
    bool quick;         /* small enough for a test suite: fewer seeds, rounds or sets */
    int n_false;        /* statements not borne out */
} study;

typedef struct experiment {
    const char *name;
    const char *title;
    void (*run)(study *s);
} experiment;

/* Errors end the program with their sentence: an experiment has nothing to save. */
void study_require(cog_status status);
void *study_alloc(size_t n, size_t size);

/* "agrees:" or "DIFFERS:", and the statement. */
void study_state(study *s, bool holds, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* "ours:" what we chose, "open:" what the publication does not say. */
void study_ours(const char *text);
void study_open(const char *text);

/* A file in the study's folder; close with study_close, which notices a full disk. */
FILE *study_file(const study *s, const char *name);
void study_close(FILE *file, const char *name);

/* ---- curves: one CSV column and one line of a picture each ----------------------------------- */

enum { STUDY_CURVES = 16, STUDY_NAME = 64 };

typedef struct study_curves {
    char x_name[STUDY_NAME];
    int n_points, room, n_curves;
    double *x;               /* [n_points] */
    double *y[STUDY_CURVES]; /* NaN: no value */
    char name[STUDY_CURVES][STUDY_NAME];
} study_curves;

study_curves *study_curves_make(const char *x_name, int n_points);
void study_curves_free(study_curves *c);
/* A new curve, all NaN. */
double *study_curve(study_curves *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* NAME.csv, NAME.gp and, where gnuplot is installed, NAME.png. */
typedef struct study_look {
    const char *title, *x_label, *y_label;
    bool log_x, log_y;
} study_look;
void study_draw(const study *s, const char *name, const study_curves *c, const study_look *look);

/* ---- training -------------------------------------------------------------------------------- */

/* Called before the first round and after every `every`; false ends the run. */
typedef bool (*study_look_fn)(cog_engine *engine, const cog_report *report, void *user);
void study_train(const cog_engine_config *config, const float *start, int64_t rounds,
                 study_look_fn look, void *user);

/* Squared Euclidean norm of the gradient of the mean loss of a linear or logistic model at the
 * engine's parameters, in double. */
double study_gradient_norm2(cog_engine *engine, const cog_dataset *data, double l2);

/* Standard normal numbers that repeat, for data made by an experiment. */
void study_normal(uint64_t seed, uint32_t stream, float scale, float *out, int64_t n);

#endif
