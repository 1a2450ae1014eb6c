/* test_code_noise.c - how much decoding amplifies errors, and the choice among random codes. */
#include <lapacke.h>

#include "code.h"
#include "code_check.h"

Test(code, amplification_of_known_codes) {
    const struct {
        const char *spec;
        int n;
        double expected;
    } cases[] = {
        {"uncoded", 6, 1},
        {"frc:stragglers=2", 12, 1},
        {"kasync:k=4", 8, 2},
        {"ignore:wait=2", 8, 4},
        {"lwpd:wait=8", 8, 0.5},
        {"lwpd:wait=1,weight=4", 16, 8},
        {"replication:wait=8", 8, 0.5},
        {"kasync:k=5", 20, 4},
    };
    for (size_t c = 0; c < COUNT(cases); c++) {
        cog_code *code = make(cases[c].spec, cases[c].n);
        double value = -1;
        cr_expect_eq(cog_code_amplification(code, &value), COG_OK);
        cr_expect_float_eq(value, cases[c].expected, 1e-12, "%s: %g", cases[c].spec, value);
        cog_code_destroy(code);
    }
}

/* Weights of one set from the pseudo-inverse by singular values, their noise as documented. */
static double noise_by_svd(const cog_plan *plan, uint64_t mask) {
    const int n = plan->n_messages, k = plan->n_shards;
    double rows[MAX_N * MAX_PARTS], right[MAX_PARTS], value[MAX_N], energy = 0;
    double norm[MAX_N];
    lapack_int m = 0, rank;
    for (int i = 0; i < n; i++) {
        if (!(mask >> i & 1)) continue;
        dense_row(plan, i, rows + m * k);
        norm[m] = 0;
        for (int j = 0; j < k; j++) norm[m] += rows[m * k + j] * rows[m * k + j];
        m++;
    }
    for (int j = 0; j < k; j++) right[j] = 1;
    cr_assert_eq(LAPACKE_dgelss(LAPACK_COL_MAJOR, k, m, 1, rows, k, right, k, value, -1, &rank), 0);
    for (int i = 0; i < m; i++) energy += right[i] * right[i] * norm[i];
    return energy / k;
}

Test(code, amplification_of_cyclic_repetition_is_that_of_the_pseudo_inverse) {
    for (int s = 1; s <= 3; s++) {
        char spec[64];
        snprintf(spec, sizeof(spec), "crc:stragglers=%d,parity=random,attempts=3", s);
        cog_code *code = make(spec, 9);
        double worst = 0, value = -1;
        for (uint64_t mask = 0; mask < 1u << 9; mask++)
            if (popcount(mask) == 9 - s)
                worst = fmax(worst, noise_by_svd(cog_code_plan(code), mask));
        cr_expect_eq(cog_code_amplification(code, &value), COG_OK);
        cr_expect_float_eq(value / worst, 1, 1e-6, "s=%d: %g, %g", s, value, worst);
        cog_code_destroy(code);
    }
}

static double amplification(const char *family, int attempts, int seed, int n) {
    char spec[96];
    snprintf(spec, sizeof(spec), "%s,attempts=%d,seed=%d", family, attempts, seed);
    cog_code *code = make(spec, n);
    double value = -1;
    cr_assert_eq(cog_code_amplification(code, &value), COG_OK);
    cog_code_destroy(code);
    return value;
}

/* Worst sets by numpy (lstsq on the real Fourier parity matrix): the published cyclic code
 * is orders of magnitude better than random draws. */
Test(code, fourier_parity_amplifies_as_computed_independently) {
    const struct {
        int n, s;
        double expected;
    } cases[] = {{6, 1, 1},          {12, 1, 1},          {7, 2, 4.028447},
                 {11, 2, 9.504017},  {8, 3, 17.071068},   {10, 3, 43.666253},
                 {12, 3, 93.105118}, {11, 4, 218.201883}, {12, 5, 865.524669}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        char spec[64];
        snprintf(spec, sizeof(spec), "crc:stragglers=%d", cases[c].s);
        const double value = amplification(spec, 1, 1, cases[c].n);
        cr_expect_float_eq(value, cases[c].expected, 1e-6 * cases[c].expected, "n=%d s=%d: %.8g",
                           cases[c].n, cases[c].s, value);
    }
}

/* The worst of all 41,664 sets of three by numpy, one of each orbit under shifts: three neighbours.
 * The next kind has 8890.7, so a sample that misses the 64 runs is off by nine. */
Test(code, runs_of_neighbours_are_never_missed) {
    cr_expect_float_eq(amplification("crc:stragglers=3", 1, 1, 64), 80528.0884, 0.01);
}

/* More attempts are a superset of draws, so never worse; over several seeds they must help. */
Test(code, the_best_of_many_draws_is_kept) {
    const struct {
        const char *family;
        int n;
    } cases[] = {{"crc:stragglers=3,parity=random", 10}, {"ye-abbe:stragglers=2,blocks=2", 8}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        double gain = 0;
        for (int seed = 1; seed <= 4; seed++) {
            const double one = amplification(cases[c].family, 1, seed, cases[c].n);
            const double many = amplification(cases[c].family, 16, seed, cases[c].n);
            cr_expect_leq(many, one * (1 + 1e-9), "%s seed %d", cases[c].family, seed);
            gain += log10(one / many) / 4;
        }
        cr_expect_gt(gain, 1, "%s: 16 draws gain 10^%g", cases[c].family, gain);
    }
}

/* 1e10: float messages would no longer give an exact gradient. One draw in several is that bad. */
Test(code, draws_that_no_precision_survives_are_refused) {
    int n_refused = 0;
    for (int seed = 1; seed <= 30; seed++) {
        char spec[64];
        snprintf(spec, sizeof(spec), "crc:stragglers=6,attempts=1,seed=%d", seed);
        cog_code *code = NULL;
        double value = 0;
        const cog_status status = cog_code_create(spec, 12, &code);
        if (status == COG_OK) {
            cr_expect_eq(cog_code_amplification(code, &value), COG_OK);
            cr_expect_leq(value, 1e10, "seed %d: %g", seed, value);
            cog_code_destroy(code);
            continue;
        }
        n_refused++;
        cr_expect_eq(status, COG_ERR_ARGUMENT);
        cr_expect_not_null(strstr(cog_last_error(), "amplifies rounding"), "%s", cog_last_error());
    }
    cr_expect(n_refused > 0 && n_refused < 30, "%d of 30 refused", n_refused);
}
