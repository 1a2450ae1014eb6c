/* test_custom_model.c - the engine trains a loss that its user wrote. */
#include <string.h>

#include "engine_rig.h"

/* A loss of the user's own: 1/2 ||w - x||^2 for every row. One step of rate 1 from anywhere leads
 * to the mean of the rows. */
static cog_status centre_init(const void *user, uint64_t seed, float *params) {
    (void)seed;
    for (int64_t i = 0; i < *(const int64_t *)user; i++) params[i] = 5;
    return COG_OK;
}
static size_t centre_workspace(const void *user, int64_t n_rows) {
    (void)user, (void)n_rows;
    return 1;
}
static cog_status centre_backprop(const void *user, cog_device *device, const cog_batch *batch,
                                  const float *params, void *workspace) {
    (void)user, (void)device, (void)batch, (void)params, (void)workspace;
    return COG_OK;
}
static cog_status centre_message(const void *user, cog_device *device, const cog_batch *batch,
                                 const float *params, void *workspace, int n_slices,
                                 const cog_slice *slices, float *out) {
    (void)user, (void)device, (void)workspace;
    for (int64_t i = 0; i < batch->n_features; i++) {
        double sum = 0;
        for (int s = 0; s < n_slices; s++)
            for (int64_t r = batch->segment[slices[s].segment];
                 r < batch->segment[slices[s].segment + 1]; r++)
                sum += slices[s].coef * (params[i] - batch->x[r * batch->n_features + i]);
        out[i] = (float)sum;
    }
    return COG_OK;
}
static double centre_flops(const void *user, int64_t n_rows) {
    return (double)(*(const int64_t *)user * n_rows);
}

Test(engine, a_model_of_the_users_own_is_trained) {
    int64_t n = data()->n_features;
    const cog_model centre = {.name = "centre",
                              .user = &n,
                              .n_params = n,
                              .block_len = n,
                              .n_blocks = 1,
                              .init = centre_init,
                              .workspace_bytes = centre_workspace,
                              .backprop = centre_backprop,
                              .message = centre_message,
                              .backprop_flops = centre_flops,
                              .message_flops = centre_flops};
    cog_engine_config c = small();
    c.custom_model = &centre;
    c.code = "frc:stragglers=1";
    c.batch = 0;
    c.optimizer = "sgd:rate=1";
    float *w = params_after(&c, 1, NULL);
    for (int64_t i = 0; i < n; i++) {
        double mean = 0;
        for (int64_t r = 0; r < data()->n_rows; r++) mean += data()->x[r * n + i];
        mean /= (double)data()->n_rows;
        cr_expect_float_eq(w[i], mean, 1e-5, "entry %d: %g, the mean is %g", (int)i, w[i], mean);
    }
    free(w);
    c.code = "lwpd";
    cog_engine *e = NULL;
    cr_expect_eq(cog_engine_create(&c, &e), COG_ERR_ARGUMENT);
    cr_expect_not_null(strstr(cog_last_error(), "the code needs 2"), "%s", cog_last_error());
}
