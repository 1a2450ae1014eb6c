/* acgc_error.c - decoding error against the number of stragglers: Munim and Ramamoorthy (2026),
 * the kind of curves of figures 3 to 5.
 *
 * Each picture: the mean error of Construction 1 or 2 over random sets, the bound that the engine
 * states for the mean, the stacked baseline on the same assignment, and the lower bound (21) for
 * any code. The error is || B_F R - target ||_F^2, of m k.
 */

#include "cograd/bounds.h"
#include "study.h"

typedef struct subject {
    const char *file, *title, *code, *stacked;
    int n_workers, most; /* stragglers shown */
    int every;
} subject;

static const subject subjects[] = {
    {"bibd91", "Construction 1 on the projective plane of order 9: 91 workers, load 10, m = 2",
     "acgc:construction=1,structure=bibd,blocks=2,degree=10,eps=0",
     "acgc:construction=stacked,structure=bibd,blocks=2,degree=10", 91, 22, 2},
    {"coset54", "Construction 1 on cosets: 54 workers, 27 subsets, load 5, m = 2, eps = 0.1",
     "acgc:construction=1,structure=coset,blocks=2,degree=5,eps=0.1",
     "acgc:construction=stacked,structure=coset,blocks=2,degree=5", 54, 13, 1},
    {"biregular40", "Construction 2, bi-regular: 40 workers, 20 subsets, load 3, m = 2",
     "acgc:construction=2,structure=biregular,blocks=2,degree=3,shards=20",
     "acgc:construction=stacked,structure=biregular,blocks=2,degree=3,shards=20", 40, 10, 1},
    {"rook25", "Construction 1 on the rook's graph: 25 workers, load 8, m = 2",
     "acgc:construction=1,structure=srg,blocks=2,degree=8,eps=0",
     "acgc:construction=stacked,structure=srg,blocks=2,degree=8", 25, 8, 1},
};
enum { N_SUBJECTS = sizeof(subjects) / sizeof(*subjects) };

typedef struct facts {
    cog_code *code;
    cog_code_analysis *analysis;
} facts;

static facts look_at(const char *spec, int n_workers) {
    facts f;
    study_require(cog_code_create(spec, n_workers, &f.code));
    study_require(cog_code_analyze(f.code, &f.analysis));
    return f;
}

static void forget(facts *f) {
    cog_code_analysis_destroy(f->analysis);
    cog_code_destroy(f->code);
}

static const cog_straggler_facts *row(const facts *f, int s) {
    for (int i = 0; i < f->analysis->n_rows; i++)
        if (f->analysis->stragglers[i].s == s) return &f->analysis->stragglers[i];
    return NULL;
}

static void show(study *s, const subject *u) {
    facts coded = look_at(u->code, u->n_workers), stacked = look_at(u->stacked, u->n_workers);
    const cog_code_analysis *a = coded.analysis;
    const double parts = a->n_tasks; /* m k */
    const int n_points = u->most / u->every + 1;
    study_curves *curves = study_curves_make("stragglers", n_points);
    double *error = study_curve(curves, "mean error"), *bound = study_curve(curves, "bound");
    double *base = study_curve(curves, "stacked baseline");
    double *least = study_curve(curves, "the worst set, of any code (21)");
    bool bounded = true, better = true, possible = true;
    printf("\n%s\n%10s %12s %12s %18s %14s\n", u->title, "stragglers", "mean error", "bound",
           "stacked baseline", "worst set (21)");
    for (int i = 0; i < n_points; i++) {
        const int n_silent = i * u->every;
        const cog_straggler_facts *mine = row(&coded, n_silent), *other = row(&stacked, n_silent);
        curves->x[i] = n_silent;
        if (mine == NULL || other == NULL) continue;
        error[i] = parts * mine->error_mean;
        bound[i] = parts * mine->bound;
        base[i] = parts * other->error_mean;
        least[i] = cog_bound_any_code(a->n_workers, a->n_shards, a->n_blocks, a->load, n_silent);
        printf("%10d %12.4g %12.4g %18.5g %14.4g\n", n_silent, error[i], bound[i], base[i],
               least[i]);
        bounded = bounded && !(error[i] > bound[i] + 1e-9);
        better = better && error[i] < base[i];
        possible = possible && parts * mine->error_worst >= least[i] * (mine->complete ? 1 : 0);
    }
    const study_look look = {u->title, "stragglers", "squared error, of m k", .log_y = false};
    study_draw(s, u->file, curves, &look);
    study_curves_free(curves);
    study_state(s, bounded, "the mean error is never above the bound");
    study_state(s, better, "the code is better than the stacked baseline at every point");
    study_state(s, possible, "no worst set that was looked at in full is below (21)");
    forget(&coded);
    forget(&stacked);
}

static void run(study *s) {
    for (int i = 0; i < N_SUBJECTS; i++)
        if (!s->quick || subjects[i].n_workers <= 25) show(s, &subjects[i]);
    study_ours("means over random sets of stragglers (`cograd code` says how many); the bi-regular "
               "graph is a random one");
    study_open("the seeds of the random assignments and factors");
}

const experiment acgc_error = {
    .name = "acgc-error",
    .title = "ACGC: decoding error and bounds against stragglers (figures 3 to 5)",
    .run = run,
};
