/* difference.c - a running mean is the prediction: gradient differences (DIANA; Mishchenko,
 * Gorbunov, Takac, Richtarik 2019).
 *
 *     expected = h;    h <- h + rate * (estimate - h)
 *
 *   rate   alpha of the paper, default 0.25; at most 1/(1 + omega) for an unbiased quantizer of
 *          variance omega. A rate of 1 is the predictor `linear`
 *
 * estimate - h is what the quantizer decoded, rounded as both ends round it. */
#include "check.h"
#include "predict.h"

static cog_status configure(cog_predictor *p, cog_spec *spec) {
    p->window = 1;
    return cog_spec_real(spec, "rate", 0.25, 1e-6, 1, &p->rate);
}

static cog_status predict(const cog_predictor *p, const cog_memory *memory, const float *coefs,
                          const float *target, float *expected, double *left) {
    (void)p, (void)coefs;
    return cog_memory_repeat(memory, target, expected, left);
}

/* h is what was expected; the difference takes its place. */
static cog_status push(const cog_predictor *p, cog_memory *memory, float *expected,
                       const float *estimate) {
    cog_device *device = memory->device;
    COG_TRY(device->ops->axpby(device, 1, estimate, -1, expected, p->n));
    memory->count = 1;
    return device->ops->axpby(device, (float)p->rate, expected, 1, memory->x[0], p->n);
}

const cog_predictor_ops cog_predictor_difference = {
    .name = "difference",
    .summary = "a running mean of the estimates (DIANA)",
    .trigger = COG_TRIGGER_ALWAYS,
    .configure = configure,
    .predict = predict,
    .push = push,
};
