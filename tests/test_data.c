/* test_data.c - data made from a recipe; what all sources have in common. */
#include <math.h>

#include "data_files.h"

TestSuite(data, .init = make_folder, .fini = remove_folder);

/* Gaussian elimination: the truth w from as many noiseless rows as features. */
static void solve(int n, const float *x, const float *y, double *w) {
    double a[8][9];
    for (int r = 0; r < n; r++) {
        for (int c = 0; c < n; c++) a[r][c] = x[r * n + c];
        a[r][n] = y[r];
    }
    for (int p = 0; p < n; p++)
        for (int r = 0; r < n; r++)
            for (int c = n; r != p && c >= p; c--) a[r][c] -= a[r][p] / a[p][p] * a[p][c];
    for (int r = 0; r < n; r++) w[r] = a[r][n] / a[r][r];
}

Test(data, synthetic_targets_are_linear_plus_noise_of_the_stated_size) {
    enum { F = 5 };
    cog_dataset *train, *test, *noisy, *noisy_test;
    cr_assert_eq(cog_dataset_open("synthetic:rows=20000,features=5,noise=0", &train, &test),
                 COG_OK);
    cr_assert_eq(cog_dataset_open("synthetic:rows=20000,features=5,noise=0.5", &noisy, &noisy_test),
                 COG_OK);
    cr_assert(train->n_rows == 20000 && test->n_rows == 2000 && train->n_classes == 0);
    double w[F];
    solve(F, train->x, train->y, w);
    double worst = 0, noise = 0, sum = 0, squares = 0;
    for (int part = 0; part < 2; part++) {
        const cog_dataset *d = part ? test : train;
        for (int64_t r = 0; r < d->n_rows; r++) {
            double y = 0;
            for (int i = 0; i < F; i++) y += w[i] * d->x[r * F + i];
            worst = fmax(worst, fabs(y - d->y[r]));
        }
    }
    cr_assert_lt(worst, 1e-4, "train and test do not share one linear truth: %g", worst);
    for (int64_t r = 0; r < train->n_rows; r++) noise += pow(noisy->y[r] - train->y[r], 2) / 20000;
    for (int i = 0; i < 20000 * F; i++) sum += train->x[i], squares += pow(train->x[i], 2);
    /* within five standard deviations of what normal numbers give */
    cr_assert_float_eq(noise, 0.25, 5 * 0.25 * sqrt(2.0 / 20000));
    cr_assert_float_eq(sum / (20000 * F), 0, 5 / sqrt(20000 * F));
    cr_assert_float_eq(squares / (20000 * F), 1, 5 * sqrt(2.0 / (20000 * F)));
    close_both(train, test);
    close_both(noisy, noisy_test);
}

Test(data, synthetic_sets_repeat_and_classes_all_occur) {
    cog_dataset *a, *b, *small, *t[3];
    cr_assert_eq(cog_dataset_open("synthetic:rows=500,features=20,classes=4,seed=9", &a, &t[0]),
                 COG_OK);
    cr_assert_eq(cog_dataset_open("synthetic:rows=500,features=20,classes=4,seed=10", &b, &t[1]),
                 COG_OK);
    cr_assert_eq(cog_dataset_open("synthetic:rows=3,features=20,classes=4,seed=9", &small, &t[2]),
                 COG_OK);
    cr_assert_eq(memcmp(a->x, small->x, sizeof(float) * 60), 0, "a longer set begins otherwise");
    cr_assert_eq(memcmp(a->y, small->y, sizeof(float) * 3), 0);
    cr_assert_neq(memcmp(a->x, b->x, sizeof(float) * 60), 0, "the seed does nothing");
    cr_assert_neq(memcmp(a->x, t[0]->x, sizeof(float) * 60), 0, "train and test are the same");
    cr_assert_eq(t[2]->n_rows, 1);
    int seen[4] = {0};
    for (int r = 0; r < 500; r++) seen[(int)a->y[r]]++;
    cr_assert(seen[0] > 0 && seen[1] > 0 && seen[2] > 0 && seen[3] > 0 && a->n_classes == 4);
    close_both(a, t[0]), close_both(b, t[1]), close_both(small, t[2]);
}

Test(data, impossible_specs_are_refused_in_words) {
    check_refused("unknown", "cifar", COG_ERR_SPEC, 2, "cifar", "mnist");
    check_refused("one class", "synthetic:classes=1", COG_ERR_SPEC, 1, "classes");
    check_refused("no rows", "synthetic:rows=0", COG_ERR_SPEC, 1, "rows");
    check_refused("typo", "synthetic:row=5", COG_ERR_SPEC, 2, "row", "features");
    check_refused("giant", "synthetic:rows=1000000000,features=10000", COG_ERR_FORMAT, 1,
                  "more than a data set may hold");
    check_refused("giant teacher", "synthetic:classes=65536,features=1000000", COG_ERR_SPEC, 1,
                  "teacher");
    check_refused("NULL", NULL, COG_ERR_ARGUMENT, 1, "data set");
}

Test(data, shards_share_the_rows_evenly) {
    for (int n_rows = 1; n_rows < 30; n_rows++)
        for (int n_shards = 1; n_shards < 12; n_shards++) {
            const cog_dataset d = {.n_rows = n_rows};
            for (int s = 0; s < n_shards; s++) {
                int64_t expected = 0;
                for (int r = 0; r < n_rows; r++) expected += r % n_shards == s;
                cr_assert_eq(cog_shard_rows(&d, n_shards, s), expected);
            }
            cr_assert_eq(cog_shard_rows(&d, n_shards, n_shards), 0);
            cr_assert_eq(cog_shard_rows(&d, n_shards, -1), 0);
        }
}
