/* linear.c - the last estimate is the prediction: EF21 (Richtarik, Sokolov, Fatkhullin, NeurIPS
 * 2021).
 *
 *     estimate^t = estimate^(t-1) + C(x - estimate^(t-1))
 *
 * No coefficients travel. With an exact quantizer and a trigger of its own a message is sent only
 * when it is news: lazily aggregated gradients (Chen, Giannakis, Sun, Yin, NeurIPS 2018). */
#include "predict.h"

static cog_status configure(cog_predictor *p, cog_spec *spec) {
    (void)spec;
    p->window = 1;
    p->rate = 1;
    return COG_OK;
}

static cog_status predict(const cog_predictor *p, const cog_memory *memory, const float *coefs,
                          const float *target, float *expected, double *left) {
    (void)p, (void)coefs;
    return cog_memory_repeat(memory, target, expected, left);
}

static cog_status push(const cog_predictor *p, cog_memory *memory, float *expected,
                       const float *estimate) {
    (void)p, (void)expected;
    return cog_memory_push(memory, estimate);
}

const cog_predictor_ops cog_predictor_linear = {
    .name = "linear",
    .summary = "the last estimate (EF21; lazily aggregated gradients)",
    .trigger = COG_TRIGGER_ALWAYS,
    .configure = configure,
    .predict = predict,
    .push = push,
};
