/* plot.c - three panels side by side: the same curves against rounds, virtual time and bytes. */
#include "plot.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "complain.h"
#include "file.h"

/* Colours that stay apart for colour-blind readers (Okabe and Ito, 2008). */
static const char *const colours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                      "#E69F00", "#56B4E9", "#000000", "#999999"};
enum { N_COLOURS = sizeof(colours) / sizeof(colours[0]) };

typedef struct panel {
    const char *label;
    int column;
    bool is_log;
} panel;

static const panel panels[] = {
    {"rounds", 1, false},
    {"virtual seconds", 2, false},
    {"MB sent, both directions", 3, true},
};
enum { N_PANELS = sizeof(panels) / sizeof(panels[0]) };

static void write_data(FILE *out, const cog_experiment *e, int index) {
    fprintf(out, "$scheme%d << END\n# round  virtual seconds  MB  %s\n", index,
            e->has_classes ? "test accuracy" : "test loss");
    for (int i = 0; i < e->n_points; i++) {
        const cog_point *p = &e->points[i];
        const double value = e->has_classes ? p->test_accuracy : p->test_loss;
        if (!isfinite(value)) continue;
        fprintf(out, "%lld %.9g %.9g %.9g\n", (long long)p->report.round, p->report.virtual_seconds,
                1e-6 * (double)(p->report.bytes_up + p->report.bytes_down), value);
    }
    fputs("END\n", out);
}

/* Names are the user's: a quote would end the string early. */
static void write_quoted(FILE *out, const char *text) {
    fputc('\'', out);
    for (; *text != '\0'; text++) fputs((char[]){*text, *text == '\'' ? '\'' : '\0', '\0'}, out);
    fputc('\'', out);
}

static void write_panel(FILE *out, const cog_experiment *experiments, int n, const panel *p) {
    fprintf(out, "%sset logscale x\nset xlabel '%s'\nplot \\\n", p->is_log ? "" : "un", p->label);
    for (int i = 0; i < n; i++) {
        /* a point at zero has no place on a logarithmic axis */
        fprintf(out, "  $scheme%d using ", i);
        fprintf(out, p->is_log ? "($%d > 0 ? $%d : NaN):4" : "%d:4", p->column, p->column);
        fprintf(out, " with linespoints lw 2 pt 7 ps 0.4 lc rgb '%s' title ",
                colours[i % N_COLOURS]);
        write_quoted(out, experiments[i].options->name);
        fputs(i + 1 < n ? ", \\\n" : "\n", out);
    }
}

static double best_accuracy(const cog_experiment *experiments, int n) {
    double best = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < experiments[i].n_points; k++)
            best = fmax(best, experiments[i].points[k].test_accuracy);
    return best;
}

static void write_script(FILE *out, const cog_experiment *experiments, int n) {
    const bool has_classes = experiments[0].has_classes;
    fputs("# gnuplot curves.gp writes curves.png\n", out);
    for (int i = 0; i < n; i++) write_data(out, &experiments[i], i);
    fputs("set terminal pngcairo size 1500,520 font 'sans,11' noenhanced\n"
          "if (exists('ARG1') && strlen(ARG1)) set output ARG1; else set output 'curves.png'\n"
          "set grid lt 1 lw 0.5 lc rgb '#cccccc'\nset border 3\nset tics nomirror\n"
          "set lmargin 9\nset rmargin 5\n",
          out);
    fprintf(out, "set key %s right\nset ylabel '%s'\n", has_classes ? "bottom" : "top",
            has_classes ? "test accuracy" : "test loss");
    /* the first reports are far from the rest: let the region that matters fill the panel */
    if (has_classes)
        fprintf(out, "set yrange [%g:1]\n",
                fmax(0, floor(10 * best_accuracy(experiments, n) - 2) / 10));
    else
        fputs("set logscale y\n", out);
    fprintf(out, "set multiplot layout 1,%d\n", N_PANELS);
    for (int i = 0; i < N_PANELS; i++) {
        write_panel(out, experiments, n, &panels[i]);
        fputs("unset key\n", out); /* one for all panels */
    }
    fputs("unset multiplot\n", out);
}

enum { NO_GNUPLOT = -1 };

/* Run gnuplot on curves.gp in the folder. NO_GNUPLOT after saying so, else an exit status. */
static int run_gnuplot(const char *folder, const char *png) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, folder);
    /* its remarks about short axes are not for our user; after an error the script shows them */
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    char *const arguments[] = {"gnuplot", "-c", "curves.gp", (char *)png, NULL};
    pid_t child;
    const int error = posix_spawnp(&child, "gnuplot", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error == ENOENT) {
        printf("No plot: gnuplot is not installed; %s/curves.gp is ready for it.\n", folder);
        return NO_GNUPLOT;
    }
    if (error != 0) return cog_complain(COG_EXIT_FAILED, "cannot run gnuplot: %s", strerror(error));
    int result;
    while (waitpid(child, &result, 0) < 0)
        if (errno != EINTR) return cog_complain(COG_EXIT_FAILED, "gnuplot: %s", strerror(errno));
    if (WIFEXITED(result) && WEXITSTATUS(result) == 0) return 0;
    return cog_complain(COG_EXIT_FAILED, "gnuplot failed on %s/curves.gp", folder);
}

/* gnuplot does not notice a full disk: a PNG is whole when its last chunk is there. */
static bool is_whole_png(const char *path) {
    static const char end[8] = "IEND\xae\x42\x60\x82";
    char last[sizeof(end)];
    FILE *file = fopen(path, "rb");
    if (file == NULL) return false;
    const bool whole = fseek(file, -(long)sizeof(last), SEEK_END) == 0 &&
                       fread(last, sizeof(last), 1, file) == 1 &&
                       memcmp(last, end, sizeof(last)) == 0;
    fclose(file);
    return whole;
}

static int draw(const char *folder, cog_file *png) {
    const char *path = png->temporary != NULL ? png->temporary : png->target;
    const char *slash = strrchr(path, '/'); /* gnuplot runs in the folder */
    const int status = run_gnuplot(folder, path[0] == '/' ? path : slash + 1);
    if (status != 0) return status;
    if (png->temporary != NULL && !is_whole_png(path))
        return cog_complain(COG_EXIT_FAILED, "cannot write '%s': gnuplot left it incomplete",
                            png->target);
    return cog_file_commit(png);
}

static int write_png(const char *folder) {
    char *path = cog_path_join(folder, "curves.png");
    if (path == NULL) return COG_EXIT_FAILED;
    cog_file png;
    int status = cog_file_open(path, &png);
    free(path);
    if (status != 0) return status;
    status = draw(folder, &png);
    cog_file_discard(&png);
    return status == NO_GNUPLOT ? 0 : status;
}

/* Curves need two points; gnuplot takes an empty plot for an error. */
static bool has_curve(const cog_experiment *experiments, int n) {
    for (int i = 0; i < n; i++)
        if (experiments[i].n_points >= 2 && isfinite(experiments[i].points[1].test_loss))
            return true;
    return false;
}

int cog_plot_write(const char *folder, const cog_experiment *experiments, int n) {
    if (!has_curve(experiments, n)) {
        puts("No plot: there are not two reports to join.");
        return 0;
    }
    char *path = cog_path_join(folder, "curves.gp");
    if (path == NULL) return COG_EXIT_FAILED;
    cog_file script;
    int status = cog_file_open(path, &script);
    free(path);
    if (status != 0) return status;
    write_script(script.stream, experiments, n);
    status = cog_file_commit(&script);
    return status != 0 ? status : write_png(folder);
}
