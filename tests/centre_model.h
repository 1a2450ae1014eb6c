/* centre_model.h - a model of the user's own: the loss of a row x is 1/2 sum_i a_i (w_i - x_i)^2.
 *
 * Its gradient over any rows is a (w - their mean): what a run does with it can be told by hand. */
#ifndef COG_TESTS_CENTRE_MODEL_H
#define COG_TESTS_CENTRE_MODEL_H

#include "cograd/cograd.h"

typedef struct centre {
    int64_t n;                   /* features, and parameters */
    float start;                 /* every parameter in the beginning */
    double (*weight)(int64_t i); /* a_i; NULL: 1 */
} centre;

static inline cog_status centre_init(const void *user, uint64_t seed, float *params) {
    (void)seed;
    const centre *c = user;
    for (int64_t i = 0; i < c->n; i++) params[i] = c->start;
    return COG_OK;
}

static inline size_t centre_workspace(const void *user, int64_t n_rows) {
    (void)user, (void)n_rows;
    return 1;
}

static inline cog_status centre_backprop(const void *user, cog_device *device,
                                         const cog_batch *batch, const float *params,
                                         void *workspace) {
    (void)user, (void)device, (void)batch, (void)params, (void)workspace;
    return COG_OK;
}

static inline cog_status centre_message(const void *user, cog_device *device,
                                        const cog_batch *batch, const float *params,
                                        void *workspace, int n_slices, const cog_slice *slices,
                                        float *out) {
    (void)device, (void)workspace;
    const centre *c = user;
    for (int64_t i = 0; i < c->n; i++) {
        const double weight = c->weight != NULL ? c->weight(i) : 1;
        double sum = 0;
        for (int s = 0; s < n_slices; s++)
            for (int64_t r = batch->segment[slices[s].segment];
                 r < batch->segment[slices[s].segment + 1]; r++)
                sum += slices[s].coef * weight * ((double)params[i] - batch->x[r * c->n + i]);
        out[i] = (float)sum;
    }
    return COG_OK;
}

static inline double centre_flops(const void *user, int64_t n_rows) {
    return (double)(((const centre *)user)->n * n_rows);
}

static inline cog_model centre_model(centre *c) {
    return (cog_model){.name = "centre",
                       .user = c,
                       .n_params = c->n,
                       .block_len = c->n,
                       .n_blocks = 1,
                       .init = centre_init,
                       .workspace_bytes = centre_workspace,
                       .backprop = centre_backprop,
                       .message = centre_message,
                       .backprop_flops = centre_flops,
                       .message_flops = centre_flops};
}

#endif
