/* test_code_inexact.c - codes that decode any answers are unbiased, and wait and count as they say.
 */
#include "code.h"
#include "code_check.h"

static answers a;

/* Mean relative squared error over the sets of m of n answers. A sample mean of n vectors without
 * replacement: (n-m)/(m (n-1)) times their spread. Averaged copies: a task is missed when all r
 * copies are among the n - m that stay away, P of them are not; the error is (1-P)/P. */

static double law_identity(int n, int m) { return (double)(n - m) / m; }
static double law_tight(int n, int m) { return (n / 2 - 1.0) * (n - m) / (m * (n - 1.0)); }
static double law_average_2(int n, int m) {
    return binomial(n - 2, m) / (binomial(n, m) - binomial(n - 2, m));
}
static double law_average_3(int n, int m) {
    return binomial(n - 3, m) / (binomial(n, m) - binomial(n - 3, m));
}

static const struct {
    const char *spec;
    int n;
    double (*error)(int n, int m);
} unbiased[] = {
    {"ignore:wait=1", 7, law_identity},
    {"kasync:k=1", 7, law_identity},
    {"replication", 8, law_average_2},
    {"replication:blocks=1", 10, law_average_2},
    {"replication:blocks=2,shards=2", 12, law_average_3},
    {"replication:blocks=4,shards=1,decoder=sum", 8, law_tight},
    {"replication:decoder=sum", 12, law_tight},
    {"lwpd", 8, law_tight},
    {"lwpd:family=net", 12, law_tight},
};

/* Over all sets of m answers the decoded combinations average to the target, and their squared
 * distance to it follows the law. */
Test(code, inexact_codes_are_unbiased_over_random_answers) {
    static combination sum, mean;
    for (size_t c = 0; c < COUNT(unbiased); c++) {
        const int n = unbiased[c].n;
        cog_code *code = make(unbiased[c].spec, n);
        const cog_plan *plan = cog_code_plan(code);
        for (int m = 1; m <= n; m++) {
            double error = 0;
            memset(mean, 0, sizeof(mean));
            for (uint64_t mask = 0; mask < 1u << n; mask++) {
                if (popcount(mask) != m) continue;
                cr_assert_eq(decode_mask(code, &a, mask), COG_OK, "%s", cog_last_error());
                error += squared_error(plan, &a) / binomial(n, m);
                combine(plan, &a, sum);
                for (int b = 0; b < plan->n_blocks; b++)
                    for (int p = 0; p < plan->n_shards * plan->n_blocks; p++)
                        mean[b][p] += sum[b][p] / binomial(n, m);
            }
            for (int b = 0; b < plan->n_blocks; b++)
                for (int p = 0; p < plan->n_shards * plan->n_blocks; p++)
                    cr_expect_float_eq(mean[b][p], target(plan, b, p), 1e-12, "%s m=%d",
                                       unbiased[c].spec, m);
            cr_expect_float_eq(error, unbiased[c].error(n, m), 1e-12, "%s m=%d: %g, law %g",
                               unbiased[c].spec, m, error, unbiased[c].error(n, m));
            cr_expect_float_eq(code->ops->error_bound(code, m), error, 1e-12, "%s m=%d",
                               unbiased[c].spec, m);
        }
        cog_code_destroy(code);
    }
}

Test(code, inexact_codes_are_exact_when_all_answer_and_refuse_when_none_does) {
    for (size_t c = 0; c < COUNT(unbiased); c++) {
        const int n = unbiased[c].n;
        cog_code *code = make(unbiased[c].spec, n);
        cr_expect_eq(decode_mask(code, &a, (1u << n) - 1), COG_OK);
        cr_expect_leq(largest_error(cog_code_plan(code), &a), 1e-14, "%s", unbiased[c].spec);
        cr_expect_eq(decode_mask(code, &a, 0), COG_ERR_UNDECODABLE, "%s", unbiased[c].spec);
        cr_expect_eq(a.decoding.count, 0);
        cog_code_destroy(code);
    }
}

Test(code, late_answers_count_where_the_scheme_says_so) {
    const struct {
        const char *spec;
        cog_late late;
        int used; /* of four messages, two of them late */
    } cases[] = {{"ignore", COG_LATE_DROP, 2},
                 {"kasync", COG_LATE_APPLY, 4},
                 {"replication", COG_LATE_APPLY, 4},
                 {"lwpd", COG_LATE_APPLY, 8},
                 {"acgc", COG_LATE_DROP, 4},
                 {"lwpd:decoder=memory", COG_LATE_APPLY, 8},
                 {"lwpd:decoder=least-squares", COG_LATE_DROP, 4}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        cog_code *code = make(cases[c].spec, 8);
        int32_t age[8] = {0, 1, 0, 5};
        answer(&a, 8, 0x0f)->age = age;
        cr_expect_eq(cog_code_decode(code, &a.arrivals, &a.decoding), COG_OK);
        cr_expect_eq(code->late, cases[c].late, "%s", cases[c].spec);
        cr_expect_eq(a.decoding.count, cases[c].used, "%s uses %d", cases[c].spec,
                     a.decoding.count);
        cog_code_destroy(code);
    }
}

Test(code, counting_families_wait_for_their_number_or_for_everybody_left) {
    const char *specs[] = {"ignore:wait=3", "kasync:k=3", "replication:wait=3", "lwpd:wait=3"};
    for (size_t c = 0; c < COUNT(specs); c++) {
        cog_code *code = make(specs[c], 8);
        cr_expect_eq(code->wait_for, 3);
        for (int arrived = 0; arrived <= 8; arrived++)
            for (int missing = 0; arrived + missing <= 8; missing++) {
                answer(&a, 8, (1u << arrived) - 1)->n_missing = missing;
                cr_expect_eq(cog_code_ready(code, &a.arrivals),
                             arrived >= 3 || arrived + missing == 8, "%s: %d arrived, %d declined",
                             specs[c], arrived, missing);
            }
        cog_code_destroy(code);
    }
}
