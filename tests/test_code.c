/* test_code.c - laws of gradient codes: exact ones are exact and know when they are not, the others
 * are unbiased, plans are well formed, and impossible requests are refused in words. */
#include <lapacke.h>
#include <stdbool.h>
#include <time.h>

#include "code.h"
#include "code_check.h"

static answers a;

/* ------------------------------------------------------------------- exact codes */

static const struct {
    const char *spec;
    int n, s;
    double tolerance;
} exact[] = {
    {"uncoded", 5, 0, 0},
    {"uncoded:precision=bf16", 1, 0, 0},
    {"frc:stragglers=0", 4, 0, 0},
    {"frc", 6, 1, 0},
    {"frc:stragglers=2", 12, 2, 0},
    {"frc:stragglers=5", 6, 5, 0},
    {"crc:stragglers=0", 5, 0, 1e-14},
    {"crc", 6, 1, 1e-12},
    {"crc:stragglers=3", 10, 3, 1e-12},
    {"crc:stragglers=3,parity=random", 10, 3, 1e-11},
    {"crc:stragglers=3,parity=random,seed=2", 12, 3, 1e-10},
    {"crc:stragglers=2", 10, 2, 1e-11},
    {"crc:stragglers=4", 9, 4, 1e-12},
    {"crc:stragglers=6", 7, 6, 1e-12},
    {"ye-abbe", 7, 1, 1e-11},
    {"ye-abbe:stragglers=2,blocks=3", 10, 2, 1e-10},
    {"ye-abbe:stragglers=0,blocks=1", 4, 0, 1e-12},
    {"ye-abbe:stragglers=2,blocks=3", 5, 2, 1e-12},
};

Test(code, exact_codes_recover_every_straggler_pattern) {
    for (size_t c = 0; c < COUNT(exact); c++) {
        cog_code *code = make(exact[c].spec, exact[c].n);
        const uint64_t all = (1u << exact[c].n) - 1;
        for (uint64_t mask = 0; mask <= all; mask++) {
            if (exact[c].n - popcount(mask) > exact[c].s) continue;
            cr_assert_eq(decode_mask(code, &a, mask), COG_OK, "%s %lx: %s", exact[c].spec, mask,
                         cog_last_error());
            cr_expect_leq(largest_error(cog_code_plan(code), &a), exact[c].tolerance, "%s %lx",
                          exact[c].spec, mask);
            a.arrivals.n_missing = 0;
            cr_expect(cog_code_ready(code, &a.arrivals), "%s %lx", exact[c].spec, mask);
        }
        cog_code_destroy(code);
    }
}

/* Largest squared distance of a block's target from the span of the rows in `mask`, relative to the
 * target: projection by singular values. */
static double distance_by_svd(const cog_plan *plan, uint64_t mask) {
    const int n = plan->n_messages, k = plan->n_shards * plan->n_blocks;
    static double rows[MAX_N * MAX_PARTS], left[MAX_PARTS * MAX_PARTS];
    double value[MAX_PARTS], spare[MAX_PARTS], worst = 0;
    lapack_int m = 0;
    for (int i = 0; i < n; i++)
        if (mask >> i & 1) dense_row(plan, i, rows + m++ * k);
    if (m == 0) return 1;
    cr_assert_eq(
        LAPACKE_dgesvd(LAPACK_COL_MAJOR, 'A', 'N', k, m, rows, k, value, left, k, NULL, 1, spare),
        0);
    for (int b = 0; b < plan->n_blocks; b++) {
        double outside = 0;
        for (int v = 0; v < k; v++) {
            double dot = 0;
            for (int p = 0; p < k; p++) dot += left[v * k + p] * target(plan, b, p);
            if (v >= m || value[v] < 1e-9 * value[0]) outside += dot * dot;
        }
        worst = fmax(worst, outside / plan->n_shards);
    }
    return worst;
}

/* Fewer than n-s answers may determine the gradient by luck (structured coefficients); then, and
 * only then, it is decoded, and right. */
Test(code, exact_codes_refuse_exactly_what_does_not_determine_the_gradient) {
    for (size_t c = 0; c < COUNT(exact); c++) {
        cog_code *code = make(exact[c].spec, exact[c].n);
        const cog_plan *plan = cog_code_plan(code);
        for (uint64_t mask = 0; mask < 1u << exact[c].n; mask++) {
            if (exact[c].n - popcount(mask) <= exact[c].s) continue;
            const bool determined = distance_by_svd(plan, mask) < 1e-14;
            cr_expect_eq(decode_mask(code, &a, mask), determined ? COG_OK : COG_ERR_UNDECODABLE,
                         "%s %lx: distance %g", exact[c].spec, mask, distance_by_svd(plan, mask));
            if (determined)
                cr_expect_leq(largest_error(plan, &a), 1e-9, "%s %lx", exact[c].spec, mask);
            else
                cr_expect_eq(a.decoding.count, 0);
            cr_expect(cog_code_ready(code, &a.arrivals), "all answered or declined");
            a.arrivals.n_missing = 0;
            if (!determined) cr_expect_not(cog_code_ready(code, &a.arrivals), "%lx", mask);
        }
        cog_code_destroy(code);
    }
}

/* Worker w and w + n/(s+1) hold the same shards: one of each kind is needed, and enough. */
Test(code, fractional_repetition_needs_one_worker_of_every_shard_set) {
    const struct { int n, s; } cases[] = {{6, 1}, {12, 2}, {12, 3}, {8, 0}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        const int n = cases[c].n, copies = cases[c].s + 1, n_sets = n / copies;
        char spec[32];
        snprintf(spec, sizeof(spec), "frc:stragglers=%d", cases[c].s);
        cog_code *code = make(spec, n);
        for (uint64_t mask = 0; mask < 1u << n; mask++) {
            int covered = 0;
            for (int set = 0; set < n_sets; set++) {
                int holders = 0;
                for (int w = set; w < n; w += n_sets) holders += mask >> w & 1;
                covered += holders > 0;
            }
            const cog_status status = decode_mask(code, &a, mask);
            cr_assert_eq(status, covered == n_sets ? COG_OK : COG_ERR_UNDECODABLE, "%d %lx", n,
                         mask);
            a.arrivals.n_missing = 0;
            cr_expect_eq(cog_code_ready(code, &a.arrivals), covered == n_sets, "%lx", mask);
            if (status != COG_OK) continue;
            cr_expect_eq(largest_error(cog_code_plan(code), &a), 0, "%d %lx", n, mask);
            cr_expect_eq(a.decoding.count, n_sets);
            for (int i = 0; i < n_sets; i++) cr_expect_eq(a.terms[i].weight, 1);
        }
        cog_code_destroy(code);
    }
}

Test(code, exact_codes_do_not_mix_rounds) {
    const char *specs[] = {"uncoded", "frc:stragglers=0", "crc", "ye-abbe:stragglers=1,blocks=1"};
    for (size_t c = 0; c < COUNT(specs); c++) {
        cog_code *code = make(specs[c], 6);
        int32_t age[6] = {0, 3, 0, 0, 2, 0};
        answer(&a, 6, 0x3f)->age = age;
        cr_expect_eq(cog_code_decode(code, &a.arrivals, &a.decoding), COG_ERR_UNDECODABLE, "%s",
                     specs[c]);
        cr_expect_eq(code->late, COG_LATE_DROP, "%s", specs[c]);
        cog_code_destroy(code);
    }
}

/* ----------------------------------------------------------------- inexact codes */

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

/* ------------------------------------------------------------------ amplification */

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

/* ------------------------------------------------------------------------- plans */

static const struct {
    const char *spec;
    int n, n_shards, n_blocks, weight;
} plans[] = {
    {"uncoded", 5, 5, 1, 1},
    {"ignore:wait=3", 5, 5, 1, 1},
    {"kasync:k=2", 5, 5, 1, 1},
    {"replication:blocks=4,shards=2", 24, 2, 4, 1},
    {"frc:stragglers=3", 12, 12, 1, 4},
    {"crc:stragglers=3", 11, 11, 1, 4},
    {"ye-abbe:stragglers=1,blocks=3", 9, 9, 3, 12},
    {"lwpd:weight=4", 24, 3, 4, 4},
    {"lwpd:family=kron,weight=8", 64, 4, 8, 8},
    {"lwpd:family=net,weight=4,slopes=3", 60, 5, 4, 4},
};

Test(code, plans_are_well_formed) {
    for (size_t c = 0; c < COUNT(plans); c++) {
        cog_code *code = make(plans[c].spec, plans[c].n);
        const cog_plan *plan = cog_code_plan(code);
        cr_expect_eq(plan->n_workers, plans[c].n);
        cr_expect_eq(plan->n_messages, plans[c].n);
        cr_expect_eq(plan->n_shards, plans[c].n_shards, "%s", plans[c].spec);
        cr_expect_eq(plan->n_blocks, plans[c].n_blocks, "%s", plans[c].spec);
        cr_expect_eq(plan->row[0], 0);
        for (int m = 0; m < plan->n_messages; m++) {
            cr_expect_eq(plan->owner[m], m);
            cr_expect_eq(plan->first[m], m);
            cr_expect_eq(plan->first[m + 1], m + 1);
            cr_expect_eq(plan->row[m + 1] - plan->row[m], plans[c].weight, "%s", plans[c].spec);
            bool seen[256] = {false};
            for (int t = plan->row[m]; t < plan->row[m + 1]; t++) {
                cr_assert(plan->part[t] >= 0 && plan->part[t] < plan->n_shards * plan->n_blocks);
                cr_expect(!seen[plan->part[t]], "%s names a part twice", plans[c].spec);
                cr_expect(plan->coef[t] != 0 && isfinite(plan->coef[t]));
                seen[plan->part[t]] = true;
            }
        }
        char name[16] = "";
        sscanf(plans[c].spec, "%15[^:]", name);
        cr_expect_str_eq(cog_code_name(code), name);
        cog_code_destroy(code);
    }
}

Test(code, uncoded_is_an_all_reduce_and_knows_its_wire) {
    cog_code *fp32 = make("uncoded", 4), *bf16 = make("uncoded:precision=bf16", 4);
    cog_code *star = make("frc", 4);
    cr_expect(!fp32->bf16 && bf16->bf16);
    cr_expect(fp32->ops->role == COG_ROLE_ALLREDUCE && star->ops->role == COG_ROLE_STAR);
    cog_code_destroy(fp32);
    cog_code_destroy(bf16);
    cog_code_destroy(star);
}

/* Building and a round of decoding for 10,000 workers; quadratic work would take 100 times 10,000
 * steps more than the second allowed here. */
Test(code, ten_thousand_workers_are_no_trouble) {
    enum { N = 10000 };
    const char *specs[] = {"kasync:k=10",
                           "ignore:wait=9000",
                           "lwpd:weight=2,wait=100",
                           "lwpd:family=net,weight=4",
                           "frc:stragglers=3",
                           "replication"};
    static uint8_t arrived[N];
    static cog_decode_term terms[N * 4];
    for (int w = 0; w < N; w++) arrived[w] = 1;
    for (size_t c = 0; c < COUNT(specs); c++) {
        const clock_t begin = clock();
        cog_code *code = make(specs[c], N);
        const cog_arrivals arrivals = {.n_messages = N, .n_arrived = N, .arrived = arrived};
        cog_decoding decoding = {.terms = terms, .capacity = N * 4};
        for (int round = 0; round < 10; round++)
            cr_expect_eq(cog_code_decode(code, &arrivals, &decoding), COG_OK);
        cr_expect_leq(decoding.count, cog_code_max_terms(code));
        const double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        cr_expect_lt(seconds, 1, "%s: %g s", specs[c], seconds);
        cog_code_destroy(code);
    }
}

/* ---------------------------------------------------------------------- refusals */

static const struct {
    const char *spec;
    int n;
    cog_status status;
    const char *says; /* part of the sentence */
} refused[] = {
    {"", 4, COG_ERR_SPEC, "empty"},
    {"hamming", 4, COG_ERR_SPEC, "no code is named 'hamming'"},
    {"uncoded", 0, COG_ERR_ARGUMENT, "not 0"},
    {"uncoded", -3, COG_ERR_ARGUMENT, "not -3"},
    {"uncoded:precision=fp8", 4, COG_ERR_SPEC, "fp32|bf16"},
    {"uncoded:wait=3", 4, COG_ERR_SPEC, "no key 'wait'"},
    {"ignore:wait=0", 4, COG_ERR_SPEC, "outside 1..4"},
    {"ignore:wait=5", 4, COG_ERR_SPEC, "outside 1..4"},
    {"kasync:k=-1", 4, COG_ERR_SPEC, "outside 1..4"},
    {"kasync:k=two", 4, COG_ERR_SPEC, "whole number"},
    {"kasync:wait=2", 4, COG_ERR_SPEC, "it has k"},
    {"frc:stragglers=3", 6, COG_ERR_ARGUMENT, "stragglers + 1 = 4 must divide 6 workers"},
    {"frc:stragglers=6", 6, COG_ERR_SPEC, "outside 0..5"},
    {"frc:straglers=1", 6, COG_ERR_SPEC, "no key 'straglers'; it has stragglers"},
    {"frc:3", 6, COG_ERR_SPEC, "expected key=value at '3'"},
    {"crc:stragglers=-1", 6, COG_ERR_SPEC, "outside 0..5"},
    {"crc:stragglers=1.5", 6, COG_ERR_SPEC, "whole number"},
    {"crc:attempts=0", 6, COG_ERR_SPEC, "outside 1.."},
    {"crc:parity=fourier", 5, COG_ERR_ARGUMENT, "not 5 - 1"},
    {"crc:parity=even", 5, COG_ERR_SPEC, "auto|fourier|random"},
    {"ye-abbe:stragglers=3,blocks=4", 6, COG_ERR_ARGUMENT, "3 + 4 shards a worker"},
    {"ye-abbe:blocks=0", 6, COG_ERR_SPEC, "outside 1..6"},
    {"replication:blocks=3,shards=2", 8, COG_ERR_ARGUMENT, "3 x 2 = 6 tasks must divide 8"},
    {"replication:shards=0", 8, COG_ERR_SPEC, "outside 1..8"},
    {"replication:decoder=median", 8, COG_ERR_SPEC, "average|sum"},
    {"lwpd", 4, COG_ERR_ARGUMENT, "there are 4"},
    {"lwpd:weight=4", 8, COG_ERR_ARGUMENT, "weight = 4 exceeds a quarter of 8 workers"},
    {"lwpd:weight=3", 24, COG_ERR_ARGUMENT, "weight = 3 is not a power of two"},
    {"lwpd:weight=1", 8, COG_ERR_SPEC, "outside 2.."},
    {"lwpd:weight=-2", 8, COG_ERR_SPEC, "outside 2.."},
    {"lwpd", 10, COG_ERR_ARGUMENT, "2 x weight = 4 must divide 10 workers"},
    {"lwpd:family=kron", 12, COG_ERR_ARGUMENT, "power of two of workers, not 12"},
    {"lwpd:family=star", 8, COG_ERR_SPEC, "ring|kron|net"},
    {"lwpd:decoder=magic", 8, COG_ERR_SPEC, "transpose|least-squares|memory"},
    {"lwpd:slopes=3", 24, COG_ERR_ARGUMENT, "slopes = 3 is for family=net"},
    {"lwpd:family=net,weight=4", 16, COG_ERR_ARGUMENT, "= 2 shards"},
    {"lwpd:family=net", 10, COG_ERR_ARGUMENT, "2 x 2 = 4 must divide 10 workers"},
    {"lwpd:family=net,slopes=3", 24, COG_ERR_ARGUMENT, "prime"},
    {"lwpd:family=net,slopes=5", 30, COG_ERR_ARGUMENT, "= 3 shards"},
    {"lwpd:wait=9", 8, COG_ERR_SPEC, "outside 1..8"},
    {"lwpd:weight=99999999999999999999", 8, COG_ERR_SPEC, "whole number"},
};

Test(code, impossible_requests_are_refused_in_words_with_numbers) {
    for (size_t c = 0; c < COUNT(refused); c++) {
        cog_code *code = NULL;
        const cog_status status = cog_code_create(refused[c].spec, refused[c].n, &code);
        cr_expect_eq(status, refused[c].status, "'%s' for %d: %s", refused[c].spec, refused[c].n,
                     cog_status_string(status));
        cr_expect_null(code);
        cr_expect_not_null(strstr(cog_last_error(), refused[c].says), "'%s' for %d says: %s",
                           refused[c].spec, refused[c].n, cog_last_error());
        cr_expect_null(strchr(cog_last_error(), '\n'));
    }
    cog_code_destroy(NULL);
}

Test(code, decoding_checks_the_room_and_the_shape) {
    cog_code *code = make("lwpd", 8);
    cr_expect_eq(cog_code_max_terms(code), 16);
    answer(&a, 8, 0xff);
    a.decoding.capacity = 15;
    cr_expect_eq(cog_code_decode(code, &a.arrivals, &a.decoding), COG_ERR_ARGUMENT);
    cr_expect_not_null(strstr(cog_last_error(), "room for 16 terms"));
    a.decoding.capacity = 16;
    cr_expect_eq(cog_code_decode(code, &a.arrivals, &a.decoding), COG_OK);
    a.arrivals.n_messages = 7;
    cr_expect_eq(cog_code_decode(code, &a.arrivals, &a.decoding), COG_ERR_ARGUMENT);
    cog_code_destroy(code);
}
