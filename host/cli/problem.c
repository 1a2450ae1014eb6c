/* problem.c - opens the data set and picks the rows on which the training loss is followed. */
#include "problem.h"

#include <stdlib.h>
#include <string.h>

#include "complain.h"

/* As many as MNIST has test rows: following a run costs two passes over so many. */
enum { PROBE_ROWS = 10000 };

static int make_probe(cog_problem *p) {
    const cog_dataset *train = p->train;
    const int64_t n = train->n_rows < PROBE_ROWS ? train->n_rows : PROBE_ROWS;
    const size_t row = (size_t)train->n_features;
    p->probe = *train;
    p->probe.n_rows = n;
    p->probe.x = malloc((size_t)n * row * sizeof(float));
    p->probe.y = malloc((size_t)n * sizeof(float));
    if (p->probe.x == NULL || p->probe.y == NULL)
        return cog_complain(COG_EXIT_FAILED, "out of memory");
    for (int64_t i = 0; i < n; i++) {
        const int64_t r = i * train->n_rows / n; /* spread over a file that may be sorted */
        memcpy(p->probe.x + (size_t)i * row, train->x + (size_t)r * row, row * sizeof(float));
        p->probe.y[i] = train->y[r];
    }
    return 0;
}

int cog_problem_open(const cog_options *options, cog_problem *out) {
    memset(out, 0, sizeof(*out));
    const cog_status status = cog_dataset_open(options->data, &out->train, &out->test);
    if (status != COG_OK) return cog_complain_status(status, "data");
    int failed = make_probe(out);
    const bool asked = options->origin[cog_option_find("target-accuracy")] != COG_FROM_DEFAULT;
    if (!failed && out->train->n_classes == 0 && asked)
        failed = cog_complain(COG_EXIT_USAGE,
                              "target-accuracy needs data with classes, '%s' has real targets",
                              options->data);
    if (failed) cog_problem_close(out);
    return failed;
}

void cog_problem_close(cog_problem *problem) {
    free(problem->probe.x);
    free(problem->probe.y);
    cog_dataset_close(problem->train);
    cog_dataset_close(problem->test);
    memset(problem, 0, sizeof(*problem));
}
