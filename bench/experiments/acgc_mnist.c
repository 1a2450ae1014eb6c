/* acgc_mnist.c - training over approximate codes: Munim and Ramamoorthy (2026), figure 6, and the
 * same without a hidden layer.
 *
 * MNIST, 784-128(ReLU)-10, every worker silent with probability 0.25, m = 2, 300 iterations; the
 * mean over initialisations. Construction 1 on cosets (27 subsets, 54 workers, load 5, eps = 0.1)
 * and on the Fano plane (7 workers, load 3), each next to the baseline that stacks the same
 * assignment.
 */

#include "study.h"

enum { ROUNDS = 300, EVERY = 10, N_POINTS = ROUNDS / EVERY + 1 };

typedef struct scheme {
    const char *name, *code;
    int n_workers;
    int64_t batch;
} scheme;

static const scheme schemes[] = {
    {"coset(27, 2, 5)",
     "acgc:construction=1,structure=coset,blocks=2,degree=5,eps=0.1,straggle=0.25", 54, 20},
    {"coset, stacked", "acgc:construction=stacked,structure=coset,blocks=2,degree=5", 54, 20},
    {"BIBD(7, 7, 3, 3, 1)", "acgc:construction=1,structure=bibd,blocks=2,degree=3,straggle=0.25", 7,
     77},
    {"BIBD, stacked", "acgc:construction=stacked,structure=bibd,blocks=2,degree=3", 7, 77},
};
enum { COSET, COSET_STACKED, BIBD, BIBD_STACKED, N_SCHEMES };

typedef struct trace {
    const cog_dataset *test;
    double *loss, *accuracy; /* [N_POINTS] summed */
} trace;

static bool watch(cog_engine *engine, const cog_report *r, void *user) {
    const trace *t = user;
    double loss, accuracy;
    study_require(cog_engine_evaluate(engine, t->test, &loss, &accuracy));
    t->loss[r->round / EVERY] += loss;
    t->accuracy[r->round / EVERY] += accuracy;
    return true;
}

typedef struct network {
    const char *model, *file, *title;
    double gap; /* of the loss, that the baseline is at least behind */
} network;

/* A block is a group of outputs of every layer: behind a hidden layer, equal steps for both groups
 * still train a network of half the width, without one they train half of the classes. */
static const network networks[] = {
    {"mlp:hidden=128", "figure6", "MNIST over approximate codes, 784-128-10, q = 0.25", 1.1},
    {"softmax", "softmax", "MNIST over approximate codes, no hidden layer, q = 0.25", 1.8},
};

static void run_scheme(const study *s, const network *n, const scheme *c, const cog_dataset *train,
                       trace *t) {
    const int n_seeds = s->quick ? 1 : 20;
    for (int seed = 1; seed <= n_seeds; seed++) {
        cog_engine_config config = cog_engine_config_default();
        config.train = train;
        config.model = n->model;
        config.code = c->code;
        config.channel = "identity";
        config.downlink = "fp32";
        config.optimizer = "sgd:rate=0.2";
        config.stragglers = "bernoulli:probability=0.25";
        config.n_workers = c->n_workers;
        config.batch = s->quick ? c->batch / 4 : c->batch;
        config.report_every = EVERY;
        config.seed = (uint64_t)seed;
        study_train(&config, NULL, ROUNDS, watch, t);
    }
    for (int i = 0; i < N_POINTS; i++) {
        t->loss[i] /= n_seeds;
        t->accuracy[i] /= n_seeds;
    }
}

static void draw(const study *s, const network *n, const char *what, study_curves *curves) {
    char file[STUDY_NAME], label[STUDY_NAME];
    snprintf(file, sizeof(file), "%s-%s", n->file, what);
    snprintf(label, sizeof(label), "test %s", what);
    const study_look look = {n->title, "iteration", label, .log_y = what[0] == 'l'};
    study_draw(s, file, curves, &look);
    study_curves_free(curves);
}

static void run_network(study *s, const network *n, const cog_dataset *train,
                        const cog_dataset *test) {
    study_curves *losses = study_curves_make("round", N_POINTS);
    study_curves *accuracies = study_curves_make("round", N_POINTS);
    const int first = s->quick ? BIBD : COSET;
    double last[N_SCHEMES];
    for (int i = 0; i < N_POINTS; i++) losses->x[i] = accuracies->x[i] = i * EVERY;
    printf("%s\n%-22s %12s %14s %14s\n", n->title, "", "loss at 100", "loss at 300",
           "accuracy at 300");
    for (int k = first; k < N_SCHEMES; k++) {
        trace t = {.test = test,
                   .loss = study_curve(losses, "%s", schemes[k].name),
                   .accuracy = study_curve(accuracies, "%s", schemes[k].name)};
        for (int i = 0; i < N_POINTS; i++) t.loss[i] = t.accuracy[i] = 0;
        run_scheme(s, n, &schemes[k], train, &t);
        last[k] = t.loss[N_POINTS - 1];
        printf("%-22s %12.4g %14.4g %14.4f\n", schemes[k].name, t.loss[100 / EVERY], last[k],
               t.accuracy[N_POINTS - 1]);
    }
    draw(s, n, "loss", losses);
    draw(s, n, "accuracy", accuracies);
    for (int k = first; k < N_SCHEMES; k += 2)
        study_state(s, last[k] * n->gap < last[k + 1],
                    "%s is ahead of the stacked baseline: loss %.3g against %.3g", schemes[k].name,
                    last[k], last[k + 1]);
    puts("");
}

static void run(study *s) {
    cog_dataset *train, *test;
    study_require(cog_dataset_open("mnist", &train, &test));
    for (int i = 0; i < 2; i++)
        if (!s->quick || i == 1) run_network(s, &networks[i], train, test);
    study_ours("540 rows a round for both assignments, step 0.2, of the gradient divided by zeta; "
               "blocks are groups of outputs; the runs without a hidden layer, where the baseline, "
               "whose decoded blocks are all equal, cannot learn");
    study_open("batch and step size of the publication, and how its workers draw their rows");
    cog_dataset_close(train);
    cog_dataset_close(test);
}

const experiment acgc_mnist = {
    .name = "acgc-mnist",
    .title = "ACGC: MNIST with stragglers over approximate codes (figure 6)",
    .run = run,
};
