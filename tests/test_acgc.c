/* test_acgc.c - approximate gradient codes: exactness, coefficients that change with the round,
 * and unbiased decoding. */
#include <lapacke.h>
#include <time.h>

#include "acgc_rig.h"

/* -------------------------------------------------------------------------- exactness */

Test(acgc, exact_when_all_answer_where_the_publication_says_so) {
    const struct {
        const char *spec;
        int n;
    } cases[] = {{"acgc", 8},
                 {"acgc:degree=5", 54},
                 {"acgc:degree=4,blocks=3,eps=0.3", 27},
                 {"acgc:blocks=1", 9},
                 {"acgc:construction=2", 8},
                 {"acgc:construction=2,structure=biregular", 40},
                 {"acgc:construction=2,structure=biregular,blocks=4", 36},
                 {"acgc:construction=2,structure=biregular,shards=10", 30},
                 {"acgc:construction=2,blocks=1,structure=bibd", 13}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        begin(cases[c].spec, cases[c].n);
        const cog_plan *plan = cog_code_plan(t.code);
        const int k = plan->n_shards * plan->n_blocks;
        silence(0);
        for (t.arrivals.round = 0; t.arrivals.round < 40; t.arrivals.round++) {
            decoded_error();
            const double *sum = combined();
            double worst = 0;
            for (int i = 0; i < k * plan->n_blocks; i++)
                worst = fmax(worst, fabs(sum[i] - target(plan, i / k, i % k)));
            cr_expect_leq(worst, 1e-9, "%s round %lld: %g", cases[c].spec,
                          (long long)t.arrivals.round, worst);
        }
        end();
    }
}

/* Row i of A_u is v_u(H)'/||v_u(H)||^2, so v_u(x) = entry / ||row||^2 whatever shard of worker x it
 * is read from; and B v_u is the target of block u. */
Test(acgc, construction_2_has_the_vectors_that_make_it_exact) {
    const struct {
        const char *spec;
        int n;
    } cases[] = {{"acgc:construction=2", 8},
                 {"acgc:construction=2,structure=biregular", 40},
                 {"acgc:construction=2,structure=biregular,blocks=3,shards=6,degree=4", 21}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        cog_code *code = make(cases[c].spec, cases[c].n);
        const cog_plan *plan = cog_code_plan(code);
        const int m = plan->n_blocks, n_tasks = plan->n_shards * m;
        double square[128] = {0}, v[8][MAX_WORKERS] = {{0}};
        for (int e = 0; e < plan->row[cases[c].n]; e++)
            square[plan->part[e]] += plan->coef[e] * plan->coef[e];
        for (int w = 0; w < cases[c].n; w++)
            for (int e = plan->row[w]; e < plan->row[w + 1]; e++) {
                double *of_worker = &v[plan->part[e] % m][w];
                const double value = plan->coef[e] / square[plan->part[e]];
                if (*of_worker == 0) *of_worker = value;
                cr_expect_float_eq(value, *of_worker, 1e-9 * fabs(value), "%s worker %d: %g, %g",
                                   cases[c].spec, w, value, *of_worker);
            }
        for (int u = 0; u < m; u++) {
            double product[128] = {0};
            for (int w = 0; w < cases[c].n; w++)
                for (int e = plan->row[w]; e < plan->row[w + 1]; e++)
                    product[plan->part[e]] += plan->coef[e] * v[u][w];
            for (int part = 0; part < n_tasks; part++)
                cr_expect_float_eq(product[part], target(plan, u, part), 1e-9, "%s part %d: %g",
                                   cases[c].spec, part, product[part]);
        }
        cog_code_destroy(code);
    }
}

/* The minimum over all combinations, by singular values. */
Test(acgc, decoding_is_the_projection_of_the_target) {
    const struct {
        const char *spec;
        int n;
    } cases[] = {{"acgc", 12}, {"acgc:structure=bibd", 13}, {"acgc:construction=stacked", 12}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        begin(cases[c].spec, cases[c].n);
        const cog_plan *plan = cog_code_plan(t.code);
        const int k = plan->n_shards * plan->n_blocks;
        for (int s = 0; s < cases[c].n; s++) {
            static double columns[64 * 64], left[64 * 64];
            double value[64], spare[64], outside = 0;
            silence(s);
            t.arrivals.round = 5 + s;
            int m = 0;
            memset(columns, 0, sizeof(columns));
            for (int i = 0; i < cases[c].n; i++) {
                if (!t.arrived[i]) continue;
                for (int e = plan->row[i]; e < plan->row[i + 1]; e++)
                    columns[m * k + plan->part[e]] = cog_code_coef(t.code, t.arrivals.round, e);
                m++;
            }
            cr_assert_eq(LAPACKE_dgesvd(LAPACK_COL_MAJOR, 'A', 'N', k, m, columns, k, value, left,
                                        k, NULL, 1, spare),
                         0);
            for (int v = 0; v < k; v++)
                for (int b = 0; b < plan->n_blocks; b++) {
                    double dot = 0;
                    for (int p = b; p < k; p += plan->n_blocks) dot += left[v * k + p];
                    if (v >= m || value[v] < 1e-9 * value[0]) outside += dot * dot;
                }
            cr_expect_float_eq(decoded_error(), outside, 1e-9, "%s s=%d", cases[c].spec, s);
        }
        end();
    }
}

Test(acgc, the_blocks_of_the_baseline_are_all_equal) {
    begin("acgc:construction=stacked,blocks=3,structure=bibd", 7);
    for (int s = 0; s < 6; s++) {
        silence(s);
        decoded_error();
        const double *sum = combined();
        for (int i = 0; i < 21; i++) {
            cr_expect_float_eq(sum[i], sum[21 + i], 1e-12);
            cr_expect_float_eq(sum[i], sum[42 + i], 1e-12);
        }
    }
    end();
}

/* --------------------------------------------------- coefficients that change with the round */

/* Uniform on +-[1-eps, 1+eps]: size 1 on average, variance eps^2/3 of it, sign a coin; one factor a
 * worker and block, whatever the shard. Within 5 standard errors. */
Test(acgc, factors_are_redrawn_every_round_and_agreed_without_talking) {
    const double eps = 0.25;
    cog_code *server = make("acgc:structure=bibd,eps=0.25", 13);
    cog_code *worker = make("acgc:structure=bibd,eps=0.25", 13);
    cog_code *other = make("acgc:structure=bibd,eps=0.25,seed=2", 13);
    const cog_plan *plan = cog_code_plan(server);
    double n = 0, size = 0, square = 0, sign = 0, next = 0, blocks = 0;
    int same = 0;
    for (int64_t round = 0; round < 400; round++)
        for (int m = 0; m < 13; m++) {
            const int begin_ = plan->row[m];
            for (int e = begin_; e < plan->row[m + 1]; e++) {
                const double x = cog_code_coef(server, round, e);
                cr_assert_eq(x, cog_code_coef(worker, round, e), "both sides");
                cr_assert_eq(x, cog_code_coef(server, round, begin_ + plan->part[e] % 2));
                cr_assert(fabs(x) >= 1 - eps && fabs(x) <= 1 + eps);
                if (round == 0) cr_expect_eq(x, plan->coef[e]);
            }
            const double x = cog_code_coef(server, round, begin_);
            const double y = cog_code_coef(server, round, begin_ + 1);
            same += x == cog_code_coef(other, round, begin_);
            n++;
            size += fabs(x);
            square += pow(fabs(x) - 1, 2);
            sign += x > 0;
            next += x * cog_code_coef(server, round + 1, begin_);
            blocks += x * y;
        }
    cr_expect_float_eq(size / n, 1, 5 * eps / sqrt(3 * n), "%g", size / n);
    cr_expect_float_eq(square / n, eps * eps / 3, 5 * eps * eps * sqrt(4.0 / 45 / n), "%g",
                       square / n);
    cr_expect_float_eq(sign / n, .5, 5 * .5 / sqrt(n), "%g", sign / n);
    cr_expect_float_eq(next / n, 0, 5 * (1 + eps) / sqrt(n), "rounds are independent: %g",
                       next / n);
    cr_expect_float_eq(blocks / n, 0, 5 * (1 + eps) / sqrt(n), "so are blocks: %g", blocks / n);
    cr_expect_eq(same, 0, "another seed");
    cog_code_destroy(server);
    cog_code_destroy(worker);
    cog_code_destroy(other);
}

/* Messages of an older round have other coefficients: with or without them, the same decoding. */
Test(acgc, late_messages_are_never_decoded_with_the_coefficients_of_another_round) {
    begin("acgc:structure=bibd", 13);
    cr_expect_eq(t.code->late, COG_LATE_DROP);
    int32_t age[13] = {0};
    static cog_decode_term expected[MAX_WORKERS];
    for (t.arrivals.round = 3; t.arrivals.round < 20; t.arrivals.round++) {
        silence(4);
        decoded_error();
        const int count = t.decoding.count;
        memcpy(expected, t.terms, sizeof(expected[0]) * (size_t)count);
        for (int m = 0; m < 13; m++) {
            age[m] = t.arrived[m] ? 0 : 1 + m % 3;
            t.arrived[m] = 1;
        }
        t.arrivals.age = age;
        t.arrivals.n_arrived = 13;
        cr_assert_eq(cog_code_decode(t.code, &t.arrivals, &t.decoding), COG_OK);
        cr_assert_eq(t.decoding.count, count);
        for (int i = 0; i < count; i++) {
            cr_expect_eq(t.terms[i].message, expected[i].message);
            cr_expect_eq(t.terms[i].weight, expected[i].weight);
        }
        t.arrivals.age = NULL;
    }
    for (int m = 0; m < 13; m++) age[m] = 1;
    t.arrivals.age = age;
    cr_expect_eq(cog_code_decode(t.code, &t.arrivals, &t.decoding), COG_ERR_UNDECODABLE);
    end();
}

/* ------------------------------------------------------------------------------- zeta */

static double zeta_of(const char *rescaled, const char *plain, int n) {
    begin(plain, n);
    silence(1);
    t.arrivals.round = 2;
    decoded_error();
    const double weight = t.terms[0].weight;
    end();
    begin(rescaled, n);
    silence(1);
    t.arrivals.round = 2;
    decoded_error();
    const double ratio = weight / t.terms[0].weight;
    end();
    return ratio;
}

/* To the digits given in advance, plus the error of 4000 sets or fewer. */
Test(acgc, zeta_has_its_golden_values) {
    const struct {
        const char *spec;
        double golden;
    } cases[] = {{"0.1", .748}, {"0.25", .679}, {"0.5", .529}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        char spec[80];
        snprintf(spec, sizeof(spec), "acgc:structure=bibd,eps=0,straggle=%s", cases[c].spec);
        const double zeta = zeta_of(spec, "acgc:structure=bibd,eps=0", 7);
        cr_expect_float_eq(zeta, cases[c].golden, .012, "q=%s: %g", cases[c].spec, zeta);
    }
    begin("acgc:structure=bibd,eps=0", 7); /* nobody straggles: 1 - E[Err]/(m k) itself */
    double deviation;
    const double kept = 1 - mean_error(0, 4000, &deviation) / 14;
    cr_expect_float_eq(kept, .7855, 5e-5 + 4 * deviation / 14 / sqrt(4000), "q=0: %g", kept);
    end();
    const double zeta = zeta_of("acgc:degree=5,straggle=0.25", "acgc:degree=5", 54);
    cr_expect_float_eq(zeta, .991, .002, "coset: %g", zeta);
}

/* E[B_F R] = zeta T: after division the decoded combination is the target on average, entry by
 * entry, when workers straggle with the probability that was asked for. */
Test(acgc, rescaled_decoding_is_unbiased) {
    const char *const specs[] = {"acgc:structure=bibd,straggle=0.3",
                                 "acgc:structure=srg,degree=3,straggle=0.2",
                                 "acgc:blocks=3,structure=bibd,straggle=0.5"};
    const double q[] = {.3, .2, .5};
    const int n[] = {7, 10, 7};
    enum { SETS = 6000 };
    for (size_t c = 0; c < COUNT(specs); c++) {
        begin(specs[c], n[c]);
        const cog_plan *plan = cog_code_plan(t.code);
        const int k = plan->n_shards * plan->n_blocks;
        static double mean[128], square[128];
        memset(mean, 0, sizeof(mean));
        memset(square, 0, sizeof(square));
        for (int i = 0; i < SETS; i++) {
            t.arrivals.round = 10000 + i;
            t.arrivals.n_arrived = 0;
            for (int w = 0; w < n[c]; w++)
                t.arrivals.n_arrived += t.arrived[w] = cog_rng_uniform(&t.rng) >= q[c];
            if (t.arrivals.n_arrived == 0) continue;
            decoded_error();
            const double *sum = combined();
            for (int e = 0; e < k * plan->n_blocks; e++) {
                mean[e] += sum[e] / SETS;
                square[e] += sum[e] * sum[e] / SETS;
            }
        }
        for (int e = 0; e < k * plan->n_blocks; e++) {
            const double spread = sqrt((square[e] - mean[e] * mean[e]) / SETS);
            cr_expect_float_eq(mean[e], target(plan, e / k, e % k), 5 * spread + .012,
                               "%s entry %d: %g", specs[c], e, mean[e]);
        }
        end();
    }
}

/* What cog_straggler_facts calls a bound holds for the rescaled gradient too. */
Test(acgc, the_error_of_rescaled_decoding_is_bounded) {
    const char *const specs[] = {"acgc:structure=bibd,straggle=0.25",
                                 "acgc:structure=bibd,straggle=0.75", "acgc:straggle=0.4"};
    for (size_t c = 0; c < COUNT(specs); c++) {
        const int n = 7 + (c == 2);
        begin(specs[c], n);
        const double k = t.code->plan.n_shards * t.code->plan.n_blocks;
        for (int s = 0; s < n; s++) {
            double deviation;
            const double mean = mean_error(s, 400, &deviation);
            const double bound = t.code->ops->error_bound(t.code, n - s) * k;
            cr_expect_leq(mean, bound + 4 * deviation / 20 + 1e-9, "%s s=%d: %g above %g", specs[c],
                          s, mean, bound);
        }
        end();
    }
}

/* ------------------------------------------------------------------------- performance */

/* 0.9 ms of one core were measured, on two cores shared by six; a cubic solve too many would show.
 */
Test(acgc, a_round_of_91_workers_decodes_in_milliseconds) {
    begin("acgc:structure=bibd", 91);
    double best = INFINITY;
    for (t.arrivals.round = 0; t.arrivals.round < 20; t.arrivals.round++) {
        silence(4);
        const clock_t start = clock();
        cr_assert_eq(cog_code_decode(t.code, &t.arrivals, &t.decoding), COG_OK);
        best = fmin(best, (double)(clock() - start) / CLOCKS_PER_SEC);
    }
    cr_expect_lt(best, 0.01, "%g s", best);
    end();
}
