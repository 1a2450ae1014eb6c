/* cocoef_mnist.c - COCO-EF on subsets of one digit each: the MNIST run of Li, Xiao and Skoglund
 * (2026).
 *
 * 100 devices, 100 subsets, every subset of a single digit; each device straggles with probability
 * 0.6.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "study.h"

enum { N = 100, EVERY = 20, ROUNDS = 1000, N_POINTS = ROUNDS / EVERY + 1, DIGITS = 10 };

typedef struct scheme {
    const char *name, *channel;
} scheme;

static const scheme schemes[] = {
    {"uncompressed", "identity"},
    {"COCO-EF sign", "sign:feedback=1"},
    {"COCO-EF top 1 %", "topk:ratio=0.01,kind=global,feedback=1"},
    {"COCO sign", "sign"},
    {"unbiased sign", "qsgd:bits=1,group=4096,norm=l2"},
    {"unbiased random 1 %", "randk:ratio=0.01,amplify=1"},
};
enum { PLAIN, EF_SIGN, EF_TOP, SIGN_ALONE, UNBIASED_SIGN, UNBIASED_RANDOM, N_SCHEMES };

/* Row r belongs to shard r % 100: rows in turn of the digits 0 .. 9 make every shard one digit. */
static cog_dataset by_digit(const cog_dataset *all) {
    int64_t count[DIGITS] = {0}, least = all->n_rows;
    for (int64_t r = 0; r < all->n_rows; r++) count[(int)all->y[r]]++;
    for (int d = 0; d < DIGITS; d++) least = count[d] < least ? count[d] : least;
    const int64_t each = least / DIGITS * DIGITS, width = all->n_features;
    cog_dataset out = {.n_rows = each * DIGITS, .n_features = width, .n_classes = DIGITS};
    out.x = study_alloc((size_t)(out.n_rows * width), sizeof(float));
    out.y = study_alloc((size_t)out.n_rows, sizeof(float));
    int64_t next[DIGITS] = {0};
    for (int64_t r = 0; r < all->n_rows; r++) {
        const int digit = (int)all->y[r];
        if (next[digit] == each) continue;
        const int64_t to = next[digit]++ * DIGITS + digit;
        memcpy(out.x + to * width, all->x + r * width, (size_t)width * sizeof(float));
        out.y[to] = all->y[r];
    }
    return out;
}

typedef struct trace {
    const cog_dataset *test;
    double *accuracy, loss;
    int64_t bytes_up;
} trace;

static bool watch(cog_engine *engine, const cog_report *r, void *user) {
    trace *t = user;
    study_require(cog_engine_evaluate(engine, t->test, &t->loss, &t->accuracy[r->round / EVERY]));
    t->bytes_up = r->bytes_up;
    return isfinite(t->loss);
}

static void run(study *s) {
    const int rounds = s->quick ? 200 : ROUNDS;
    cog_dataset *train, *test;
    study_require(cog_dataset_open("mnist", &train, &test));
    cog_dataset sorted = by_digit(train);
    cog_dataset_close(train);
    study_curves *curves = study_curves_make("round", rounds / EVERY + 1);
    for (int i = 0; i < curves->n_points; i++) curves->x[i] = i * EVERY;
    double last[N_SCHEMES], bytes[N_SCHEMES];
    printf("%-22s %10s %10s %16s\n", "", "test loss", "accuracy", "MB up");
    for (int k = 0; k < N_SCHEMES; k++) {
        trace t = {.test = test, .accuracy = study_curve(curves, "%s", schemes[k].name)};
        cog_engine_config config = cog_engine_config_default();
        config.train = &sorted;
        config.model = "softmax";
        config.code = "stochastic:copies=5,straggle=0.6";
        config.channel = schemes[k].channel;
        config.downlink = "fp32";
        config.optimizer = "sgd:rate=0.1,inside=1";
        config.stragglers = "bernoulli:probability=0.6";
        config.n_workers = N;
        config.batch = 4;
        config.report_every = EVERY;
        config.max_amplification = INFINITY;
        study_train(&config, NULL, rounds, watch, &t);
        last[k] = t.accuracy[curves->n_points - 1];
        last[k] = isfinite(last[k]) ? last[k] : 0;
        bytes[k] = 1e-6 * (double)t.bytes_up;
        printf("%-22s %10.4g %10.4f %16.4g\n", schemes[k].name, t.loss, last[k], bytes[k]);
    }
    const study_look look = {"MNIST, one digit a subset, p = 0.6", "round", "test accuracy",
                             .log_y = false};
    study_draw(s, "mnist", curves, &look);
    study_curves_free(curves);
    puts("");
    study_state(
        s, last[EF_SIGN] > last[PLAIN] - 0.02,
        "COCO-EF with signs keeps up with the uncompressed run: %.4f against %.4f, at 1/%.0f "
        "of the bytes",
        last[EF_SIGN], last[PLAIN], bytes[PLAIN] / bytes[EF_SIGN]);
    study_state(s, last[EF_SIGN] > fmax(last[UNBIASED_SIGN], last[UNBIASED_RANDOM]),
                "and is ahead of the unbiased compressors: %.4f and %.4f", last[UNBIASED_SIGN],
                last[UNBIASED_RANDOM]);
    study_ours("softmax regression, 5 copies of a subset, 4 rows of each a round, step 0.1");
    study_open("the network, its batch and its step size");
    free(sorted.x);
    free(sorted.y);
    cog_dataset_close(test);
}

const experiment cocoef_mnist = {
    .name = "cocoef-mnist",
    .title = "COCO-EF: MNIST, one digit a device's subset, most devices straggling",
    .run = run,
};
