/* tpc_bits.c - bits that logistic regression needs until the gradient is small: temporal predictive
 * coding (Edin, Chen, Kieffer, Johansson 2024) against gradient descent, lazily aggregated
 * gradients and EF21.
 *
 * 10 agents, 50 rows each, 200 standard normal features, step 1/L. The objective is the sum over
 * the agents of their mean losses. Bits are those of the payloads as they travel, without frame
 * headers; both counts are in the table.
 */
#include <math.h>
#include <stdlib.h>

#include "study.h"

enum { AGENTS = 10, ROWS = 500, FEATURES = 200, MAX_ROUNDS = 5000 };
static const double target = 1e-4; /* of ||gradient||^2, summed over the agents */

typedef struct scheme {
    const char *name, *channel;
} scheme;

static const scheme schemes[] = {
    {"gradient descent", "identity"},
    {"LAG, zeta = 1", "identity:predict=linear,trigger=lag,threshold=1"},
    {"LAG, zeta = 10", "identity:predict=linear,trigger=lag,threshold=10"},
    {"TPC s = 1", "identity:predict=temporal,window=1,trigger=relative,threshold=0.05"},
    {"TPC s = 2", "identity:predict=temporal,window=2,trigger=relative,threshold=0.05"},
    {"TPC s = 3", "identity:predict=temporal,window=3,trigger=relative,threshold=0.05"},
    {"TPC s = 5", "identity:predict=temporal,window=5,trigger=relative,threshold=0.05"},
    {"TPC s = 10", "identity:predict=temporal,window=10,trigger=relative,threshold=0.05"},
    {"EF21 top-5", "topk:ratio=0.025,kind=global,predict=linear"},
};
enum { GD, LAG_SMALL, LAG_LARGE, TPC1, TPC2, TPC3, TPC5, TPC10, EF21, N_SCHEMES };

/* Labels by chance, as logistic regression takes them. */
static cog_dataset make_data(void) {
    cog_dataset d = {.n_rows = ROWS, .n_features = FEATURES, .n_classes = 2};
    float truth[FEATURES];
    d.x = study_alloc((size_t)ROWS * FEATURES, sizeof(float));
    d.y = study_alloc(ROWS, sizeof(float));
    study_normal(1, 0, 1, d.x, (int64_t)ROWS * FEATURES);
    study_normal(1, 1, 1, truth, FEATURES);
    study_normal(1, 2, 1, d.y, ROWS);
    for (int r = 0; r < ROWS; r++) {
        double score = 0;
        for (int i = 0; i < FEATURES; i++) {
            score += (double)truth[i] * d.x[r * FEATURES + i];
        }
        d.y[r] = score + (double)d.y[r] > 0;
    }
    return d;
}

/* Smoothness of the mean loss: the largest eigenvalue of X'X / (4 rows), by the power method. */
static double smoothness(const cog_dataset *d) {
    double v[FEATURES], w[FEATURES], norm = 0;
    for (int i = 0; i < FEATURES; i++) v[i] = 1 / sqrt(FEATURES);
    for (int step = 0; step < 200; step++) {
        for (int i = 0; i < FEATURES; i++) w[i] = 0;
        for (int r = 0; r < ROWS; r++) {
            double dot = 0;
            for (int i = 0; i < FEATURES; i++) dot += v[i] * d->x[r * FEATURES + i];
            for (int i = 0; i < FEATURES; i++) w[i] += dot * d->x[r * FEATURES + i];
        }
        norm = 0;
        for (int i = 0; i < FEATURES; i++) norm += w[i] * w[i];
        norm = sqrt(norm);
        for (int i = 0; i < FEATURES; i++) v[i] = w[i] / norm;
    }
    return norm / (4 * ROWS);
}

typedef struct trace {
    const cog_dataset *data;
    double bits, framed; /* when the target is reached; INFINITY */
    int64_t rounds;
    int n_points;
    double norm[MAX_ROUNDS + 1], at[MAX_ROUNDS + 1]; /* ||gradient||^2 and bits, round by round */
} trace;

static bool watch(cog_engine *engine, const cog_report *r, void *user) {
    trace *t = user;
    /* of the sum over the agents of their mean losses */
    const double norm = AGENTS * AGENTS * study_gradient_norm2(engine, t->data, 0);
    const double bits = 8 * (double)(r->bytes_up - 48 * r->messages_used);
    t->norm[t->n_points] = norm;
    t->at[t->n_points++] = bits;
    if (norm >= target) return isfinite(norm);
    t->bits = bits;
    t->framed = 8 * (double)r->bytes_up;
    t->rounds = r->round;
    return false;
}

static void run_scheme(const cog_dataset *data, const scheme *c, double rate, trace *t) {
    char optimizer[40];
    snprintf(optimizer, sizeof(optimizer), "sgd:rate=%.9g", rate);
    cog_engine_config config = cog_engine_config_default();
    config.train = t->data = data;
    config.model = "logistic:bias=0";
    config.code = "ignore";
    config.channel = c->channel;
    config.downlink = "fp32";
    config.optimizer = optimizer;
    config.n_workers = AGENTS;
    config.batch = 0;
    config.report_every = 1;
    t->bits = t->framed = INFINITY;
    t->n_points = 0;
    study_train(&config, NULL, MAX_ROUNDS, watch, t);
}

/* The smallest norm seen before so many bits were sent, on one axis for all. */
static void draw(const study *s, trace *all) {
    enum { N_POINTS = 120 };
    study_curves *curves = study_curves_make("megabits", N_POINTS);
    for (int i = 0; i < N_POINTS; i++) curves->x[i] = 0.02 * pow(7000, (double)i / (N_POINTS - 1));
    for (int k = 0; k < N_SCHEMES; k++) {
        double *curve = study_curve(curves, "%s", schemes[k].name), best = INFINITY;
        for (int i = 0, at = 0; i < N_POINTS; i++) {
            for (; at < all[k].n_points && all[k].at[at] <= 1e6 * curves->x[i]; at++)
                best = fmin(best, all[k].norm[at]);
            if (at < all[k].n_points || (i > 0 && curve[i - 1] > best)) curve[i] = best;
        }
    }
    const study_look look = {"Logistic regression, 10 agents, d = 200",
                             "megabits sent by the agents", "squared norm of the gradient", true,
                             true};
    study_draw(s, "bits", curves, &look);
    study_curves_free(curves);
}

static void run(study *s) {
    cog_dataset data = make_data();
    const double rate = 1 / smoothness(&data);
    trace *all = study_alloc(N_SCHEMES, sizeof(*all));
    FILE *csv = study_file(s, "table.csv");
    fputs("scheme,rounds,megabits,megabits_with_headers\n", csv);
    printf("%-18s %8s %10s %22s %10s\n", "", "rounds", "megabits", "with frame headers",
           "below GD");
    for (int k = 0; k < N_SCHEMES; k++) {
        run_scheme(&data, &schemes[k], rate, &all[k]);
        printf("%-18s %8lld %10.3f %22.3f %9.1fx\n", schemes[k].name, (long long)all[k].rounds,
               1e-6 * all[k].bits, 1e-6 * all[k].framed, all[GD].bits / all[k].bits);
        fprintf(csv, "\"%s\",%lld,%.9g,%.9g\n", schemes[k].name, (long long)all[k].rounds,
                1e-6 * all[k].bits, 1e-6 * all[k].framed);
    }
    study_close(csv, "table.csv");
    draw(s, all);
    puts("");
    const double worst = fmax(fmax(all[TPC2].bits, all[TPC3].bits), all[TPC5].bits);
    study_state(
        s, worst * 15 <= all[GD].bits,
        "TPC with s = 2 to 5 needs at least 15 times fewer bits than gradient descent: %.1f",
        all[GD].bits / worst);
    study_state(
        s, worst < all[LAG_SMALL].bits && worst < all[LAG_LARGE].bits,
        "it needs fewer bits than lazily aggregated gradients: %.3f against %.3f and %.3f Mbit",
        1e-6 * worst, 1e-6 * all[LAG_SMALL].bits, 1e-6 * all[LAG_LARGE].bits);
    study_ours(
        "data, target, relative trigger of 0.05, thresholds of LAG, whole bytes on the wire");
    study_open("the exact form of the trigger and of the residual's payload");
    free(all);
    free(data.x);
    free(data.y);
}

const experiment tpc_bits = {
    .name = "tpc-bits",
    .title = "TPC: bits until the gradient is small, against GD, LAG and EF21",
    .run = run,
};
