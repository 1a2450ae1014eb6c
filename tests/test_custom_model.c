/* test_custom_model.c - the engine trains a loss that its user wrote. */
#include <string.h>

#include "centre_model.h"
#include "engine_rig.h"

/* One step of rate 1 from anywhere leads to the mean of the rows. */
Test(engine, a_model_of_the_users_own_is_trained) {
    const int64_t n = data()->n_features;
    centre user = {.n = n, .start = 5};
    const cog_model model = centre_model(&user);
    cog_engine_config c = small();
    c.custom_model = &model;
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
