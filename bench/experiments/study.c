/* study.c - runs, files and pictures of the experiments. */
#include "study.h"

#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rng.h"

static _Noreturn void give_up(const char *what, const char *why) {
    fflush(stdout);
    fprintf(stderr, "cograd-experiment: %s: %s\n", what, why);
    exit(1);
}

void study_require(cog_status status) {
    if (status != COG_OK) give_up(cog_status_string(status), cog_last_error());
}

void *study_alloc(size_t n, size_t size) {
    void *memory = calloc(n > 0 ? n : 1, size);
    if (memory == NULL) give_up("memory", "there is not enough");
    return memory;
}

/* ---- what is said ---------------------------------------------------------------------------- */

void study_state(study *s, bool holds, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    printf(holds ? "agrees:  " : "DIFFERS: ");
    vprintf(fmt, args);
    putchar('\n');
    va_end(args);
    s->n_false += !holds;
}

void study_ours(const char *text) { printf("ours:    %s\n", text); }
void study_open(const char *text) { printf("open:    %s\n", text); }

/* ---- files ----------------------------------------------------------------------------------- */

static void path_of(const study *s, const char *name, char *out, size_t room) {
    if (snprintf(out, room, "%s/%s", s->folder, name) >= (int)room) give_up(name, "path too long");
}

FILE *study_file(const study *s, const char *name) {
    char path[4200];
    path_of(s, name, path, sizeof(path));
    FILE *file = fopen(path, "w");
    if (file == NULL) give_up(path, strerror(errno));
    return file;
}

void study_close(FILE *file, const char *name) {
    const bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) give_up(name, "cannot be written");
}

/* ---- curves ---------------------------------------------------------------------------------- */

study_curves *study_curves_make(const char *x_name, int n_points) {
    study_curves *c = study_alloc(1, sizeof(*c));
    snprintf(c->x_name, sizeof(c->x_name), "%s", x_name);
    c->n_points = n_points;
    c->x = study_alloc((size_t)n_points, sizeof(*c->x));
    return c;
}

void study_curves_free(study_curves *c) {
    if (c == NULL) return;
    for (int i = 0; i < c->n_curves; i++) free(c->y[i]);
    free(c->x);
    free(c);
}

double *study_curve(study_curves *c, const char *fmt, ...) {
    if (c->n_curves == STUDY_CURVES) give_up("curves", "there are too many for one picture");
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->name[c->n_curves], STUDY_NAME, fmt, args);
    va_end(args);
    double *y = study_alloc((size_t)c->n_points, sizeof(*y));
    for (int i = 0; i < c->n_points; i++) y[i] = NAN;
    return c->y[c->n_curves++] = y;
}

static void write_csv(const study *s, const char *file, const study_curves *c) {
    FILE *out = study_file(s, file);
    fputs(c->x_name, out);
    for (int k = 0; k < c->n_curves; k++) fprintf(out, ",\"%s\"", c->name[k]);
    for (int i = 0; i < c->n_points; i++) {
        fprintf(out, "\n%.9g", c->x[i]);
        for (int k = 0; k < c->n_curves; k++)
            isfinite(c->y[k][i]) ? fprintf(out, ",%.9g", c->y[k][i]) : fputc(',', out);
    }
    fputc('\n', out);
    study_close(out, file);
}

static const char *const colours[] = {"#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd",
                                      "#8c564b", "#e377c2", "#7f7f7f", "#17becf", "#bcbd22"};
enum { N_COLOURS = sizeof(colours) / sizeof(*colours) };

static void write_script(const study *s, const char *file, const char *name, const study_curves *c,
                         const study_look *look) {
    FILE *out = study_file(s, file);
    fprintf(out,
            "# gnuplot %s writes %s.png\n"
            "set terminal pngcairo size 900,600 font 'sans,11' noenhanced\n"
            "set output '%s.png'\nset datafile separator ','\n"
            "set title \"%s\"\nset xlabel \"%s\"\nset ylabel \"%s\"\n"
            "set grid lt 1 lw 0.5 lc rgb '#cccccc'\nset border 3\nset tics nomirror\n"
            "set format '%%g'\nset key below\n%s%splot ",
            file, name, name, look->title, look->x_label, look->y_label,
            look->log_x ? "set logscale x\n" : "", look->log_y ? "set logscale y\n" : "");
    for (int k = 0; k < c->n_curves; k++)
        fprintf(out,
                "%s'%s.csv' skip 1 using 1:%d with linespoints lw 2 pt 7 ps 0.4 lc rgb '%s' title "
                "\"%s\"",
                k > 0 ? ", \\\n  " : "", name, k + 2, colours[k % N_COLOURS], c->name[k]);
    fputc('\n', out);
    study_close(out, file);
}

/* Without gnuplot the script is there for later. */
static void run_gnuplot(const study *s, const char *script) {
    char *const arguments[] = {"gnuplot", (char *)script, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, s->folder);
    pid_t child;
    const int error = posix_spawnp(&child, "gnuplot", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error == ENOENT) {
        printf("no picture: gnuplot is not installed; %s/%s is ready for it\n", s->folder, script);
        return;
    }
    int status;
    if (error != 0) give_up("gnuplot", strerror(error));
    if (waitpid(child, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        give_up(script, "gnuplot failed");
}

void study_draw(const study *s, const char *name, const study_curves *c, const study_look *look) {
    char csv[STUDY_NAME + 8], script[STUDY_NAME + 8];
    snprintf(csv, sizeof(csv), "%s.csv", name);
    snprintf(script, sizeof(script), "%s.gp", name);
    write_csv(s, csv, c);
    write_script(s, script, name, c, look);
    run_gnuplot(s, script);
}

/* ---- training -------------------------------------------------------------------------------- */

typedef struct watch {
    cog_engine *engine;
    study_look_fn look;
    void *user;
} watch;

static bool on_report(const cog_report *report, void *user) {
    const watch *w = user;
    return w->look(w->engine, report, w->user);
}

void study_train(const cog_engine_config *config, const float *start, int64_t rounds,
                 study_look_fn look, void *user) {
    watch w = {NULL, look, user};
    study_require(cog_engine_create(config, &w.engine));
    if (start != NULL)
        study_require(cog_engine_set_params(w.engine, start, cog_engine_n_params(w.engine)));
    const cog_report none = cog_engine_report(w.engine);
    if (look(w.engine, &none, user)) study_require(cog_engine_run(w.engine, rounds, on_report, &w));
    cog_engine_destroy(w.engine);
}

/* Derivative of a row's loss with respect to its score, x.w + b. */
static double slope(const cog_dataset *data, double score, float y) {
    if (data->n_classes == 0) return score - y;
    const double sign = 2 * (double)y - 1;
    return -sign / (1 + exp(sign * score));
}

double study_gradient_norm2(cog_engine *engine, const cog_dataset *data, double l2) {
    const int64_t d = data->n_features, n = cog_engine_n_params(engine);
    float *w = study_alloc((size_t)n, sizeof(*w));
    double *g = study_alloc((size_t)n, sizeof(*g)), sum = 0;
    study_require(cog_engine_get_params(engine, w, n));
    for (int64_t r = 0; r < data->n_rows; r++) {
        const float *x = data->x + r * d;
        double score = n > d ? w[d] : 0;
        for (int64_t i = 0; i < d; i++) score += (double)w[i] * x[i];
        const double share = slope(data, score, data->y[r]) / (double)data->n_rows;
        for (int64_t i = 0; i < d; i++) g[i] += share * x[i];
        if (n > d) g[d] += share;
    }
    for (int64_t i = 0; i < n; i++) {
        if (i < d) g[i] += l2 * w[i];
        sum += g[i] * g[i];
    }
    free(w);
    free(g);
    return sum;
}

void study_normal(uint64_t seed, uint32_t stream, float scale, float *out, int64_t n) {
    cog_rng rng = cog_rng_make(seed, COG_STREAM_TEST, stream, 0);
    for (int64_t i = 0; i < n; i++) out[i] = scale * (float)cog_rng_normal(&rng);
}
