/* test_composition.c - every code with every channel, predictor and optimizer: it converges, or it
 * is refused with a sentence. Nothing is silently wrong.
 *
 * What is registered must appear below, so a new plug-in is walked from the day it is added. Time
 * and rounds are those of a test: COG_TEST_VERBOSE in the environment prints every refusal. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine_rig.h"
#include "registry.h"

enum { ROUNDS = 30, N_WORKERS = 8 };

/* clang-format off */
static const char *const codes[] = {
    "uncoded", "ignore:wait=8", "ignore:wait=6", "kasync:k=6", "replication:wait=6", "frc:stragglers=1",
    "crc:stragglers=1", "ye-abbe:stragglers=1,blocks=2", "lwpd:wait=6",
    "lwpd:wait=6,decoder=least-squares", "lwpd:wait=6,decoder=memory",
    "acgc:structure=coset,blocks=2,degree=3,wait=8", "acgc:construction=2,structure=biregular,blocks=2,degree=3,shards=4,wait=8",
    "stochastic:copies=2",
};
/* How much of the exact channel's progress is expected of it: unbiased compressors of few entries
 * are noisy, and what is predicted begins from nothing. */
typedef struct channel {
    const char *spec;
    double progress;
} channel;
static const channel channels[] = {
    {"identity", 0.6}, {"bf16", 0.6}, {"topk:ratio=0.2", 0.3}, {"topk:ratio=0.2,kind=global", 0.3},
    {"topk:ratio=0.2,kind=threshold,values=bf16", 0.3}, {"sign", 0.2}, {"sign:scale=group,group=256", 0.2},
    {"qsgd:bits=4", 0.3}, {"randk:ratio=0.3,amplify=1", 0.2}, {"randk:ratio=0.3", 0.1}, {"fosgd:reach=3", 0.05},
    {"wyner-ziv", 0.3}, {"powersgd:rank=2", 0.2}, {"cs", 0.1}, {"qcs", 0.1},
};
static const char *const predictors[] = {"", "feedback=1", "predict=temporal", "predict=linear",
                                         "predict=difference", "feedback=1,momentum=0.5", "feedback=1,warmup=10", "feedback=1,ramp=8"};
static const char *const optimizers[] = {
    "sgd:rate=0.5", "sgd:rate=0.5,inside=1", "momentum:rate=0.1", "adam:rate=0.02", "onebit-adam:rate=0.02,warmup=10",
};
/* clang-format on */

enum {
    N_CODES = sizeof(codes) / sizeof(*codes),
    N_CHANNELS = sizeof(channels) / sizeof(*channels),
    N_PREDICTORS = sizeof(predictors) / sizeof(*predictors),
    N_OPTIMIZERS = sizeof(optimizers) / sizeof(*optimizers)
};

static bool names(const char *spec, const char *name) {
    const size_t n = strlen(name);
    return strncmp(spec, name, n) == 0 && (spec[n] == ':' || spec[n] == '\0');
}

Test(composition, everything_that_is_registered_is_walked) {
    for (int i = 0; cog_codes[i] != NULL; i++) {
        bool found = false;
        for (int c = 0; c < N_CODES; c++) found = found || names(codes[c], cog_codes[i]->name);
        cr_expect(found, "code '%s' is not walked", cog_codes[i]->name);
    }
    for (int i = 0; cog_predictors[i] != NULL; i++) {
        bool found = false;
        for (int p = 0; p < N_PREDICTORS; p++)
            found = found || strstr(predictors[p], cog_predictors[i]->name) != NULL;
        cr_expect(found, "predictor '%s' is not walked", cog_predictors[i]->name);
    }
    for (int i = 0; cog_quantizers[i] != NULL; i++) {
        bool found = false;
        for (int c = 0; c < N_CHANNELS; c++)
            found = found || names(channels[c].spec, cog_quantizers[i]->name);
        cr_expect(found, "quantizer '%s' is not walked", cog_quantizers[i]->name);
    }
}

static void join(const char *quantizer, const char *keys, char *out, size_t room) {
    const char *between = keys[0] == '\0' ? "" : strchr(quantizer, ':') != NULL ? "," : ":";
    snprintf(out, room, "%s%s%s", quantizer, between, keys);
}

/* The loss before and after; false when the combination is refused. */
static bool train(const cog_engine_config *config, double *before, double *after) {
    cog_engine *e = NULL;
    double accuracy;
    const cog_status status = cog_engine_create(config, &e);
    if (status != COG_OK) {
        cr_expect(status == COG_ERR_ARGUMENT || status == COG_ERR_UNSUPPORTED,
                  "'%s' over '%s' with '%s': %s", config->channel, config->code, config->optimizer,
                  cog_last_error());
        cr_expect_gt(strlen(cog_last_error()), 30, "no sentence: '%s'", cog_last_error());
        if (getenv("COG_TEST_VERBOSE") != NULL)
            fprintf(stderr, "refused: %s | %s | %s: %s\n", config->code, config->channel,
                    config->optimizer, cog_last_error());
        return false;
    }
    cr_assert_eq(cog_engine_evaluate(e, data(), before, &accuracy), COG_OK);
    cr_assert_eq(cog_engine_run(e, ROUNDS, NULL, NULL), COG_OK, "'%s' over '%s' with '%s': %s",
                 config->channel, config->code, config->optimizer, cog_last_error());
    cr_assert_eq(cog_engine_evaluate(e, data(), after, &accuracy), COG_OK);
    cog_engine_destroy(e);
    return true;
}

static cog_engine_config problem(const char *optimizer) {
    cog_engine_config c = small();
    c.model = "mlp:hidden=16";
    c.n_workers = N_WORKERS;
    c.batch = 20;
    c.optimizer = optimizer;
    c.downlink = strncmp(optimizer, "onebit", 6) == 0 ? "delta" : "fp32"; /* workers hold m */
    c.stragglers = "exp:mean=0.001";
    return c;
}

static void walk(const char *optimizer) {
    cog_engine_config c = problem(optimizer);
    double before, reference, after;
    int n_run = 0, n_refused = 0;
    c.code = "ignore:wait=8";
    cr_assert(train(&c, &before, &reference));
    for (int code = 0; code < N_CODES; code++)
        for (int q = 0; q < N_CHANNELS; q++)
            for (int p = 0; p < N_PREDICTORS; p++) {
                char spec[160];
                join(channels[q].spec, predictors[p], spec, sizeof(spec));
                c.code = codes[code];
                c.channel = spec;
                if (!train(&c, &before, &after)) {
                    n_refused++;
                    continue;
                }
                n_run++;
                const double share = (before - after) / (before - reference);
                cr_expect(share >= channels[q].progress,
                          "'%s' over '%s' with '%s': loss %.3g to %.3g, %.0f %% of the progress "
                          "without",
                          spec, c.code, optimizer, before, after, 100 * share);
            }
    cr_log_info("%s: %d combinations converge, %d are refused", optimizer, n_run, n_refused);
    cr_expect_gt(4 * n_run, n_run + n_refused, "%d of %d are refused", n_refused,
                 n_run + n_refused);
}

Test(composition, plain_steps_converge_or_are_refused) { walk(optimizers[0]); }
Test(composition, steps_inside_the_channel_converge_or_are_refused) { walk(optimizers[1]); }
Test(composition, momentum_converges_or_is_refused) { walk(optimizers[2]); }
Test(composition, adam_converges_or_is_refused) { walk(optimizers[3]); }
Test(composition, one_bit_adam_converges_or_is_refused) { walk(optimizers[4]); }
