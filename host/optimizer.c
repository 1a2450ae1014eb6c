/* optimizer.c - SGD, momentum and Adam, and the schedules of their rate.
 *
 * Products and sums are rounded one by one (no fused multiply-add): any processor gives the same
 * bits, and the loops vectorise without special instructions. */
#include "optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "kernels.h"

typedef enum rule { SGD, MOMENTUM, ADAM, ONEBIT_ADAM, N_RULES } rule;
typedef enum decay { CONSTANT, INVERSE, INVERSE_SQRT, COSINE, STEP } decay;

static const char *const rule_names[] = {"sgd", "momentum", "adam", "onebit-adam", NULL};
static const char *const decay_names[] = {"constant", "inverse", "inverse-sqrt",
                                          "cosine",   "step",    NULL};
static const double default_rates[N_RULES] = {0.2, 0.05, 0.001, 0.001};

struct cog_optimizer {
    rule rule;
    int decay;
    bool inside;    /* the rate is in the messages */
    int64_t warmup; /* onebit-adam: rounds of plain Adam */
    double rate, scale;
    double beta1, beta2, epsilon;
    int64_t n;
    cog_device *device;
    float *state; /* momentum: m; Adam: m, then v */
};

/* The family's own keys; the rate may be 0 (parameters are then frozen), never negative. */
static cog_status configure(cog_optimizer *o, cog_spec *spec) {
    int found = 0;
    while (rule_names[found] != NULL && strcmp(rule_names[found], spec->name) != 0) found++;
    COG_CHECK(found < N_RULES, COG_ERR_SPEC,
              "no optimizer is named '%s'; there are: sgd, momentum, adam, onebit-adam",
              spec->name);
    o->rule = (rule)found;
    COG_TRY(cog_spec_real(spec, "rate", default_rates[o->rule], 0, 1e6, &o->rate));
    COG_TRY(cog_spec_choice(spec, "decay", decay_names, &o->decay));
    COG_TRY(cog_spec_real(spec, "scale", 1000, 1e-3, 1e12, &o->scale));
    if (o->rule == SGD) COG_TRY(cog_spec_flag(spec, "inside", false, &o->inside));
    if (o->rule == MOMENTUM) COG_TRY(cog_spec_real(spec, "beta", 0.9, 0, 1, &o->beta1));
    if (o->rule == ONEBIT_ADAM)
        COG_TRY(cog_spec_int(spec, "warmup", 100, 1, INT64_MAX / 2, &o->warmup));
    if (o->rule >= ADAM) {
        COG_TRY(cog_spec_real(spec, "beta1", 0.9, 0, 0.999999, &o->beta1));
        COG_TRY(cog_spec_real(spec, "beta2", 0.999, 0, 0.999999, &o->beta2));
        COG_TRY(cog_spec_real(spec, "epsilon", 1e-8, 1e-30, 1, &o->epsilon));
    }
    return cog_spec_finish(spec);
}

const char *cog_optimizer_describe(int i, cog_spec *spec) {
    cog_optimizer unused = {0};
    if (i < 0 || i >= N_RULES || cog_spec_parse(rule_names[i], spec) != COG_OK) return NULL;
    return configure(&unused, spec) == COG_OK ? rule_names[i] : NULL;
}

int cog_optimizer_n_state(const cog_optimizer *o) {
    return o->rule == SGD ? 0 : o->rule == MOMENTUM ? 1 : 2;
}

cog_status cog_optimizer_open(const char *text, cog_device *device, int64_t n,
                              cog_optimizer **out) {
    cog_spec spec;
    COG_TRY(cog_spec_parse(text, &spec));
    cog_optimizer *o = calloc(1, sizeof(*o));
    COG_CHECK(o != NULL, COG_ERR_MEMORY, "no memory for an optimizer");
    o->device = device;
    o->n = n;
    cog_status status = configure(o, &spec);
    const int n_state = status == COG_OK ? cog_optimizer_n_state(o) : 0;
    if (n_state > 0) status = cog_device_zeros(device, n * n_state, &o->state);
    if (status != COG_OK) {
        cog_optimizer_close(o);
        return status;
    }
    *out = o;
    return COG_OK;
}

void cog_optimizer_close(cog_optimizer *o) {
    if (o == NULL) return;
    cog_device_free(o->device, o->state);
    free(o);
}

bool cog_optimizer_is_sparse(const cog_optimizer *o) { return o->rule == SGD; }

float *cog_optimizer_state(cog_optimizer *o) { return o->state; }

static double scheduled_rate(const cog_optimizer *o, int64_t round) {
    const double age = (double)round / o->scale;
    switch ((decay)o->decay) {
    case CONSTANT: return o->rate;
    case INVERSE: return o->rate / (1 + age);
    case INVERSE_SQRT: return o->rate / sqrt(1 + age);
    case COSINE: return o->rate * (1 + cos(M_PI * fmin(age, 1))) / 2;
    case STEP: return o->rate * pow(10, -floor(age));
    }
    return o->rate;
}

bool cog_optimizer_scales_messages(const cog_optimizer *o) { return o->inside; }

double cog_optimizer_message_scale(const cog_optimizer *o, int64_t round) {
    return o->inside ? scheduled_rate(o, round) : 1;
}

/* Of a step along what the messages bring. */
static double rate_at(const cog_optimizer *o, int64_t round) {
    return o->inside ? 1 : scheduled_rate(o, round);
}

bool cog_optimizer_sends_momentum(const cog_optimizer *o) { return o->rule == ONEBIT_ADAM; }

double cog_optimizer_message_momentum(const cog_optimizer *o, int64_t round) {
    return o->rule == ONEBIT_ADAM && round >= o->warmup ? o->beta1 : 0;
}

/* Adam's step with m = g and v as the warm-up left it. */
static void compressed_stage(const cog_optimizer *o, double rate, cog_kernel_step *out) {
    out->rate = (float)rate;
    out->correction = (float)(1 / sqrt(1 - pow(o->beta2, (double)o->warmup)));
    out->beta1 = out->gain2 = 0;
    out->beta2 = out->gain1 = 1;
}

void cog_optimizer_coefficients(const cog_optimizer *o, int64_t round, cog_kernel_step *out) {
    static const int32_t rules[] = {[SGD] = COG_RULE_SGD,
                                    [MOMENTUM] = COG_RULE_MOMENTUM,
                                    [ADAM] = COG_RULE_ADAM,
                                    [ONEBIT_ADAM] = COG_RULE_ADAM};
    const double rate = rate_at(o, round), steps = (double)round + 1;
    *out = (cog_kernel_step){.rule = rules[o->rule], .rate = (float)rate, .beta1 = (float)o->beta1};
    if (o->rule < ADAM) return;
    out->rate = (float)(rate / (1 - pow(o->beta1, steps)));
    out->correction = (float)(1 / sqrt(1 - pow(o->beta2, steps)));
    out->gain1 = (float)(1 - o->beta1);
    out->beta2 = (float)o->beta2;
    out->gain2 = (float)(1 - o->beta2);
    out->epsilon = (float)o->epsilon;
    if (cog_optimizer_message_momentum(o, round) > 0) compressed_stage(o, rate, out);
}

static void adam(cog_kernel_step s, int64_t count, const float *restrict g, float *restrict m,
                 float *restrict v, float *restrict params) {
    for (int64_t i = 0; i < count; i++) {
        m[i] = s.beta1 * m[i] + s.gain1 * g[i];
        v[i] = s.beta2 * v[i] + s.gain2 * (g[i] * g[i]);
        params[i] -= s.rate * (m[i] / (sqrtf(v[i]) * s.correction + s.epsilon));
    }
}

cog_status cog_optimizer_step(cog_optimizer *o, int64_t round, int64_t first, int64_t count,
                              const float *restrict g, float *restrict params) {
    cog_kernel_step s;
    cog_optimizer_coefficients(o, round, &s);
    float *restrict p = params + first;
    if (o->rule >= ADAM) {
        adam(s, count, g, o->state + first, o->state + o->n + first, p);
    } else if (o->rule == MOMENTUM) {
        float *restrict m = o->state + first;
        for (int64_t i = 0; i < count; i++) {
            m[i] = s.beta1 * m[i] + g[i];
            p[i] -= s.rate * m[i];
        }
    } else {
        for (int64_t i = 0; i < count; i++) p[i] -= s.rate * g[i];
    }
    return COG_OK;
}

void cog_optimizer_step_at(cog_optimizer *o, int64_t round, int64_t n_positions,
                           const int64_t *position, float *g, float *params) {
    const float rate = (float)rate_at(o, round);
    for (int64_t i = 0; i < n_positions; i++) {
        const int64_t at = position[i];
        params[at] -= rate * g[at];
        g[at] = 0; /* a position named twice steps once */
    }
}
