/* cocoef_linear.c - linear regression of Li, Xiao and Skoglund (2026), figures 2 to 6.
 *
 * 100 devices, 100 subsets of one row each, 100 features; z ~ N(0, 100), y ~ N(<z, theta*>, 1),
 * f_k = (<theta, z_k> - y_k)^2 / 2, theta^0 ~ N(0, I). Each subset on d random devices; each device
 * straggles with probability p. The loss is the sum over the subsets, the mean over the seeds.
 */
#include <math.h>
#include <stdlib.h>

#include "study.h"

enum { N = 100, EVERY = 10, ROUNDS = 1000, N_POINTS = ROUNDS / EVERY + 1 };

typedef struct scheme {
    const char *name, *channel;
    int copies;       /* d */
    double straggle;  /* p */
    double step;      /* gamma, of the sum of the f_k */
    const char *more; /* of the optimizer */
} scheme;

typedef struct problem {
    cog_dataset data;
    float start[N];
} problem;

static problem make_problem(uint64_t seed) {
    problem p = {.data = {.n_rows = N, .n_features = N}};
    float truth[N], noise[N];
    p.data.x = study_alloc((size_t)N * N, sizeof(float));
    p.data.y = study_alloc(N, sizeof(float));
    study_normal(seed, 0, 10, p.data.x, (int64_t)N * N);
    study_normal(seed, 1, 1, truth, N);
    study_normal(seed, 2, 1, noise, N);
    study_normal(seed, 3, 1, p.start, N);
    for (int r = 0; r < N; r++) {
        double mean = 0;
        for (int i = 0; i < N; i++) mean += (double)truth[i] * p.data.x[r * N + i];
        p.data.y[r] = (float)(mean + noise[r]);
    }
    return p;
}

static void free_problem(problem *p) {
    free(p->data.x);
    free(p->data.y);
}

typedef struct trace {
    const cog_dataset *data;
    double *loss; /* [N_POINTS] summed over seeds */
    int64_t bytes_up, rounds;
} trace;

static bool note(cog_engine *engine, const cog_report *report, void *user) {
    trace *t = user;
    double loss, accuracy;
    study_require(cog_engine_evaluate(engine, t->data, &loss, &accuracy));
    t->loss[report->round / EVERY] += N * loss;
    t->bytes_up = report->bytes_up;
    t->rounds = report->round;
    return isfinite(loss) && loss < 1e12;
}

/* The mean over the seeds of the loss, at every tenth round; not finite once a run has diverged.
 * Returns the bytes up a round. */
static int64_t run_scheme(const scheme *c, int n_seeds, double *loss) {
    char code[80], stragglers[48], optimizer[96];
    snprintf(code, sizeof(code), "stochastic:copies=%d,straggle=%g", c->copies, c->straggle);
    snprintf(stragglers, sizeof(stragglers), "bernoulli:probability=%g", c->straggle);
    /* the engine's loss is the mean over the rows */
    snprintf(optimizer, sizeof(optimizer), "sgd:rate=%.9g,inside=1%s", N * c->step,
             c->more != NULL ? c->more : "");
    trace t = {.loss = loss};
    for (int i = 0; i < N_POINTS; i++) loss[i] = 0;
    for (int seed = 1; seed <= n_seeds; seed++) {
        problem p = make_problem((uint64_t)seed);
        cog_engine_config config = cog_engine_config_default();
        config.train = t.data = &p.data;
        config.model = "squared:bias=0";
        config.code = code;
        config.channel = c->channel;
        config.downlink = "fp32";
        config.optimizer = optimizer;
        config.stragglers = c->straggle > 0 ? stragglers : "none";
        config.n_workers = N;
        config.batch = 0;
        config.report_every = EVERY;
        config.max_amplification = INFINITY;
        config.seed = (uint64_t)seed;
        study_train(&config, p.start, ROUNDS, note, &t);
        for (int64_t i = t.rounds / EVERY + 1; i < N_POINTS; i++) loss[i] = INFINITY;
        free_problem(&p);
    }
    for (int i = 0; i < N_POINTS; i++) loss[i] /= n_seeds;
    return t.bytes_up / (t.rounds > 0 ? t.rounds : 1);
}

/* One figure: every scheme's curve, and its last value in `last`. */
static void figure(study *s, const char *name, const char *title, int n, const scheme *schemes,
                   double *last, double *bytes) {
    const int n_seeds = s->quick ? 1 : 5;
    study_curves *curves = study_curves_make("round", N_POINTS);
    for (int i = 0; i < N_POINTS; i++) curves->x[i] = i * EVERY;
    printf("\n%s\n%-28s %14s %16s\n", title, "", "loss at 1000", "bytes up a round");
    for (int k = 0; k < n; k++) {
        double *loss = study_curve(curves, "%s", schemes[k].name);
        const int64_t up = run_scheme(&schemes[k], n_seeds, loss);
        last[k] = isfinite(loss[N_POINTS - 1]) ? loss[N_POINTS - 1] : INFINITY;
        if (bytes != NULL) bytes[k] = (double)up;
        printf("%-28s %14.4g %16lld\n", schemes[k].name, last[k], (long long)up);
    }
    const study_look look = {title, "round", "sum of the losses", .log_y = true};
    study_draw(s, name, curves, &look);
    study_curves_free(curves);
}

#define SIGN "sign"
#define TOP2 "topk:ratio=0.02,kind=global"

static void figure_2(study *s) {
    static const scheme schemes[] = {
        {"uncompressed", "identity", 5, 0.2, 1e-5, NULL},
        {"COCO-EF sign", SIGN ":feedback=1", 5, 0.2, 1e-5, NULL},
        {"COCO-EF top-2", TOP2 ",feedback=1", 5, 0.2, 1e-5, NULL},
        {"COCO sign", SIGN, 5, 0.2, 1e-5, NULL},
        {"COCO top-2", TOP2, 5, 0.2, 1e-5, NULL},
        {"unbiased sign, Euclidean", "qsgd:bits=1,group=4096,norm=l2", 5, 0.2, 1e-5, NULL},
        {"unbiased sign, largest", "qsgd:bits=1,group=4096,norm=max", 5, 0.2, 1e-5, NULL},
        {"unbiased random 2", "randk:ratio=0.02,amplify=1", 5, 0.2, 1e-5, NULL},
    };
    enum {
        PLAIN,
        EF_SIGN,
        EF_TOP,
        SIGN_ALONE,
        TOP_ALONE,
        UNBIASED_SIGN,
        UNBIASED_LARGEST,
        UNBIASED_RANDOM,
        ALL
    };
    double last[ALL], bytes[ALL];
    figure(s, "figure2", "Figure 2: d = 5, p = 0.2, K = 2, step 1e-5", ALL, schemes, last, bytes);
    study_state(s, fabs(last[EF_SIGN] / last[PLAIN] - 1) <= 0.1,
                "COCO-EF with signs ends within 10 %% of the uncompressed run: %+.1f %%",
                100 * (last[EF_SIGN] / last[PLAIN] - 1));
    study_state(s, !(last[TOP_ALONE] < 1000 * last[EF_TOP]),
                "top-2 without feedback diverges: %.3g", last[TOP_ALONE]);
    const double best_unbiased = fmin(last[UNBIASED_SIGN], last[UNBIASED_RANDOM]);
    study_state(s, last[EF_SIGN] < last[EF_TOP] && last[EF_TOP] < best_unbiased,
                "order: COCO-EF sign, COCO-EF top-2, the unbiased compressors: %.4g %.4g %.4g",
                last[EF_SIGN], last[EF_TOP], best_unbiased);
    study_state(
        s, last[EF_SIGN] < last[UNBIASED_LARGEST],
        "COCO-EF with signs is also ahead of unbiased signs scaled by the largest entry: %.4g",
        last[UNBIASED_LARGEST]);
    study_state(s, last[EF_SIGN] < last[SIGN_ALONE], "signs alone end above COCO-EF: %.4g",
                last[SIGN_ALONE]);
    printf("ours:    bytes up against uncompressed, frame headers included: 1/%.1f with signs, "
           "1/%.1f with top-2\n",
           bytes[PLAIN] / bytes[EF_SIGN], bytes[PLAIN] / bytes[EF_TOP]);
    study_open(
        "the scale of the unbiased sign: with the Euclidean norm its noise grows with D and the "
        "step is too long for it, with the largest entry it is close to COCO-EF with top-2");
}

static void figure_3(study *s) {
    static const scheme schemes[] = {
        {"p = 0.1", SIGN ":feedback=1", 2, 0.1, 1e-5, NULL},
        {"p = 0.5", SIGN ":feedback=1", 2, 0.5, 1e-5, NULL},
        {"p = 0.9", SIGN ":feedback=1", 2, 0.9, 1e-5, NULL},
    };
    double last[3];
    figure(s, "figure3", "Figure 3: COCO-EF with signs, d = 2", 3, schemes, last, NULL);
    study_state(s, last[0] < last[1] && last[1] < last[2],
                "more stragglers, slower: %.4g %.4g %.4g", last[0], last[1], last[2]);
}

static void figure_4(study *s) {
    static const scheme schemes[] = {
        {"d = 1", SIGN ":feedback=1", 1, 0.9, 1e-5, NULL},
        {"d = 5", SIGN ":feedback=1", 5, 0.9, 1e-5, NULL},
        {"d = 10", SIGN ":feedback=1", 10, 0.9, 1e-5, NULL},
        {"d = 15", SIGN ":feedback=1", 15, 0.9, 1e-5, NULL},
        {"d = 20", SIGN ":feedback=1", 20, 0.9, 1e-5, NULL},
    };
    double last[5];
    figure(s, "figure4", "Figure 4: COCO-EF with signs, p = 0.9", 5, schemes, last, NULL);
    study_state(s, last[0] > last[1] && last[1] > last[2] && last[2] > last[4],
                "more copies, faster, with smaller and smaller gains: %.4g %.4g %.4g %.4g %.4g",
                last[0], last[1], last[2], last[3], last[4]);
}

static void figure_5(study *s) {
    static const scheme schemes[] = {
        {"sign with feedback", SIGN ":feedback=1", 2, 0.5, 1e-5, NULL},
        {"sign without", SIGN, 2, 0.5, 1e-5, NULL},
        {"top-2 with feedback", TOP2 ",feedback=1", 2, 0.5, 1e-5, NULL},
        {"top-2 without", TOP2, 2, 0.5, 1e-5, NULL},
    };
    double last[4];
    figure(s, "figure5", "Figure 5: error feedback, d = 2, p = 0.5", 4, schemes, last, NULL);
    study_state(s, last[0] < last[1] && last[2] < last[3],
                "feedback helps: %.4g < %.4g, %.4g < %.4g", last[0], last[1], last[2], last[3]);
}

static void figure_6(study *s) {
    static const scheme schemes[] = {
        {"step 2e-5", SIGN ":feedback=1", 2, 0.5, 2e-5, NULL},
        {"step 2e-5/sqrt(t+1)", SIGN ":feedback=1", 2, 0.5, 2e-5, ",decay=inverse-sqrt,scale=1"},
    };
    double last[2];
    figure(s, "figure6", "Figure 6: COCO-EF with signs, p = 0.5, d = 2", 2, schemes, last, NULL);
    study_state(s, last[0] < last[1], "a constant step is faster than a decaying one: %.4g < %.4g",
                last[0], last[1]);
}

static void run(study *s) {
    figure_2(s);
    if (!s->quick) {
        figure_3(s);
        figure_4(s);
        figure_5(s);
        figure_6(s);
    }
    study_ours("five seeds of data, start and allocation; theta* ~ N(0, I)");
    study_ours("d = 2, p = 0.5 in figure 5, which names neither");
    study_open("how many runs the curves average, and which numbers the curves end at");
}

const experiment cocoef_linear = {
    .name = "cocoef-linear",
    .title = "COCO-EF: linear regression with compressed, coded gradients (figures 2 to 6)",
    .run = run,
};
