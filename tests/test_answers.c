/* test_answers.c - sets of answering workers: each once when enumerated, uniform when sampled. */
#include "answers.h"
#include "code_check.h"

static uint64_t mask_of(const cog_answers *sets, int n) {
    uint64_t mask = 0;
    for (int w = 0; w < n; w++) mask |= (uint64_t)sets->worker[w] << w;
    return mask;
}

Test(answers, every_set_is_visited_once) {
    enum { N = 10 };
    cog_code *code = make("kasync", N);
    cog_answers sets;
    cr_assert_eq(cog_answers_open(code, &sets), COG_OK);
    for (int m = 0; m <= N; m++) {
        bool seen[1 << N] = {false};
        int count = 0;
        cog_answers_begin(&sets, m, 5);
        for (; cog_answers_next(&sets); count++) {
            const uint64_t mask = mask_of(&sets, N);
            cr_expect(popcount(mask) == m && !seen[mask], "%lx", mask);
            cr_expect_eq(sets.arrivals.n_arrived, m);
            cr_expect_eq(sets.arrivals.n_missing, N - m);
            cr_expect_eq(memcmp(sets.arrivals.arrived, sets.worker, N), 0);
            seen[mask] = true;
        }
        cr_expect(sets.complete);
        cr_expect_eq(count, (int)binomial(N, m), "%d sets of %d", count, m);
    }
    cog_answers_close(&sets);
    cog_code_destroy(code);
}

/* Every worker in m of n sets, every pair in m (m-1) of n (n-1), within 5 standard errors. */
Test(answers, samples_are_uniform) {
    enum { N = 14, M = 5, SETS = 1900 }; /* of 2002 */
    cog_code *code = make("kasync", N);
    cog_answers sets;
    double together[N][N] = {{0}};
    cr_assert_eq(cog_answers_open(code, &sets), COG_OK);
    cog_answers_begin(&sets, M, SETS);
    cr_expect_not(sets.complete);
    while (cog_answers_next(&sets)) {
        cr_expect_eq(popcount(mask_of(&sets, N)), M);
        for (int i = 0; i < N; i++)
            for (int j = 0; j <= i; j++) together[i][j] += sets.worker[i] && sets.worker[j];
    }
    cr_expect_eq(sets.n_sets, SETS);
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= i; j++) {
            const double chance = i == j ? (double)M / N : M * (M - 1.0) / (N * (N - 1.0));
            const double slack = 5 * sqrt(chance * (1 - chance) / SETS);
            cr_expect_float_eq(together[i][j] / SETS, chance, slack, "%d and %d: %g, expected %g",
                               i, j, together[i][j] / SETS, chance);
        }
    cog_answers_close(&sets);
    cog_code_destroy(code);
}

/* Coefficients drawn anew: every set as often as every other, each time in another round. */
Test(answers, sets_of_codes_that_redraw_are_visited_in_many_rounds) {
    enum { N = 8 };
    cog_code *code = make("acgc", N);
    cog_answers sets;
    cr_assert_eq(cog_answers_open(code, &sets), COG_OK);
    for (int m = 1; m <= N; m++) {
        int seen[1 << N] = {0}, count = 0;
        cog_answers_begin(&sets, m, 300);
        for (; cog_answers_next(&sets); count++) {
            cr_expect_eq(sets.arrivals.round, count);
            seen[mask_of(&sets, N)]++;
        }
        const int n_all = (int)binomial(N, m), repeats = 300 / n_all < 100 ? 300 / n_all : 100;
        cr_expect_eq(count, n_all * repeats, "%d of %d workers: %d", m, N, count);
        for (int mask = 0; mask < 1 << N; mask++)
            cr_expect_eq(seen[mask], popcount((uint64_t)mask) == m ? repeats : 0);
    }
    cog_answers_close(&sets);
    cog_code_destroy(code);
}

Test(answers, a_run_is_of_neighbours_around_the_ring) {
    cog_code *code = make("kasync", 6);
    cog_answers sets;
    cr_assert_eq(cog_answers_open(code, &sets), COG_OK);
    cog_answers_run(&sets, 4, 3); /* workers 4 5 0 are silent */
    cr_expect_eq(mask_of(&sets, 6), 0x0e);
    cr_expect_eq(sets.arrivals.n_arrived, 3);
    cog_answers_close(&sets);
    cog_answers_close(&sets);
    cog_code_destroy(code);
}
