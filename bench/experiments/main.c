/* main.c - cograd-experiment: runs one of the experiments, or lists them.
 *
 *     cograd-experiment NAME [--quick] [--out DIR]      default DIR: results
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "study.h"

#define EXPERIMENT(name) extern const experiment name;
#include "experiments.def"
#undef EXPERIMENT

static const experiment *const experiments[] = {
#define EXPERIMENT(name) &name,
#include "experiments.def"
#undef EXPERIMENT
};

enum { N_EXPERIMENTS = sizeof(experiments) / sizeof(*experiments) };

static int list(FILE *to, int status) {
    fputs("usage: cograd-experiment NAME [--quick] [--out DIR]\n\n", to);
    for (int i = 0; i < N_EXPERIMENTS; i++)
        fprintf(to, "  %-16s %s\n", experiments[i]->name, experiments[i]->title);
    return status;
}

static const experiment *find(const char *name) {
    for (int i = 0; i < N_EXPERIMENTS; i++)
        if (strcmp(experiments[i]->name, name) == 0) return experiments[i];
    return NULL;
}

static bool make_folder(const char *path) {
    if (mkdir(path, 0777) == 0 || errno == EEXIST) return true;
    fprintf(stderr, "cograd-experiment: cannot make '%s': %s\n", path, strerror(errno));
    return false;
}

static int run(const experiment *e, const char *out, bool quick) {
    char folder[4096];
    if (snprintf(folder, sizeof(folder), "%s/%s", out, e->name) >= (int)sizeof(folder)) {
        fprintf(stderr, "cograd-experiment: the path of the results is too long\n");
        return 2;
    }
    if (!make_folder(out) || !make_folder(folder)) return 1;
    printf("%s: %s\n\n", e->name, e->title);
    study s = {.folder = folder, .quick = quick};
    const time_t start = time(NULL);
    e->run(&s);
    printf("\nCSV files and pictures are in %s; %lld s.\n", folder,
           (long long)(time(NULL) - start));
    if (s.n_false > 0) printf("%d statements are not borne out.\n", s.n_false);
    return fflush(stdout) != 0 || s.n_false > 0;
}

int main(int argc, char **argv) {
    const char *out = "results", *name = NULL;
    bool quick = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) return list(stdout, 0);
        if (strcmp(argv[i], "--quick") == 0)
            quick = true;
        else if (strcmp(argv[i], "--out") == 0 && i + 1 < argc)
            out = argv[++i];
        else if (argv[i][0] != '-' && name == NULL)
            name = argv[i];
        else
            return list(stderr, 2);
    }
    const experiment *e = name != NULL ? find(name) : NULL;
    if (name != NULL && e == NULL)
        fprintf(stderr, "cograd-experiment: there is no experiment '%s'\n", name);
    if (e != NULL) return run(e, out, quick);
    return name != NULL ? list(stderr, 2) : list(stdout, 0);
}
