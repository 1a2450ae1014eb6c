/* difference.c - a running mean is the prediction: gradient differences (DIANA; Mishchenko,
 * Gorbunov, Takac, Richtarik 2019).
 *
 *     expected = h;    h <- h + rate * (estimate - h)
 *
 *   rate   alpha of the paper, default 0.25; at most 1/(1 + omega) for an unbiased quantizer of
 *          variance omega. A rate of 1 is the predictor `linear`
 *
 * estimate - h is what the quantizer decoded, rounded as both ends round it. */
#include <string.h>

#include "check.h"
#include "predict.h"

static cog_status configure(cog_predictor *p, cog_spec *spec) {
    p->window = 1;
    return cog_spec_real(spec, "rate", 0.25, 1e-6, 1, &p->rate);
}

static void predict(const cog_predictor *p, const cog_memory *memory, const float *coefs,
                    float *expected) {
    (void)coefs;
    if (p->n > 0) memcpy(expected, memory->x[0], (size_t)p->n * sizeof(float));
}

static void push(const cog_predictor *p, cog_memory *memory, const float *expected,
                 const float *estimate) {
    const float rate = (float)p->rate;
    float *h = memory->x[0];
    for (int64_t i = 0; i < p->n; i++) h[i] = expected[i] + rate * (estimate[i] - expected[i]);
    memory->count = 1;
}

const cog_predictor_ops cog_predictor_difference = {
    .name = "difference",
    .summary = "a running mean of the estimates (DIANA)",
    .trigger = COG_TRIGGER_ALWAYS,
    .configure = configure,
    .predict = predict,
    .push = push,
};
