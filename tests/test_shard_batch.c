/* test_shard_batch.c - what the rows of a round weigh. */
#include <math.h>

#include "cograd/cograd.h"
#include "harness.h"

/* Rows 0, 2 and 4 are copies and make the first of two shards, rows 1 and 3 are copies and make the
 * second: whichever rows are drawn, a shard's mean gradient is known, and a sample of any size must
 * move the parameters as the whole data does. */
Test(shard_batch, a_shard_weighs_as_many_rows_as_it_holds) {
    float x[] = {1, 3, 1, 3, 1}, y[] = {2, -1, 2, -1, 2};
    const cog_dataset data = {.n_rows = 5, .n_features = 1, .x = x, .y = y};
    static const char *const codes[] = {"uncoded", "kasync:k=2", "frc:stragglers=1"};
    for (size_t i = 0; i < 3; i++) {
        float expected[8], found[8];
        for (int64_t batch = 0; batch <= 3; batch++) {
            cog_engine_config c = cog_engine_config_default();
            c.train = &data;
            c.model = "squared";
            c.n_workers = 2;
            c.code = codes[i];
            c.channel = "identity";
            c.optimizer = "sgd:rate=0.1";
            c.batch = batch;
            cog_engine *e = NULL;
            cr_assert_eq(cog_engine_create(&c, &e), COG_OK, "%s", cog_last_error());
            cr_assert_eq(cog_engine_run(e, 3, NULL, NULL), COG_OK, "%s", cog_last_error());
            const int64_t n = cog_engine_n_params(e);
            cr_assert(n <= 8);
            cr_assert_eq(cog_engine_get_params(e, batch == 0 ? expected : found, n), COG_OK);
            for (int64_t j = 0; batch > 0 && j < n; j++)
                cr_expect_float_eq(found[j], expected[j], 1e-6, "%s, batch %d: %g, expected %g",
                                   codes[i], (int)batch, found[j], expected[j]);
            cog_engine_destroy(e);
        }
    }
}
