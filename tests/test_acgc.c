/* test_acgc.c - approximate gradient codes: published numbers, bounds, exactness, and coefficients
 * that change with the round. */
#include <lapacke.h>
#include <time.h>

#include "code.h"
#include "code_check.h"
#include "cograd/bounds.h"
#include "rng.h"

enum { MAX_WORKERS = 128 };

/* A set of answers of one round, its decoding and the error of that. */
typedef struct trial {
    const cog_code *code;
    cog_arrivals arrivals;
    cog_decoding decoding;
    uint8_t arrived[MAX_WORKERS];
    cog_decode_term terms[MAX_WORKERS * 8];
    cog_rng rng;
} trial;

static trial t;

static void begin(const char *spec, int n) {
    t.code = make(spec, n);
    t.arrivals = (cog_arrivals){.n_messages = n, .arrived = t.arrived};
    t.decoding = (cog_decoding){.terms = t.terms, .capacity = (int32_t)COUNT(t.terms)};
    t.rng = cog_rng_make(7, COG_STREAM_TEST, 0, 0);
}

static void end(void) { cog_code_destroy((cog_code *)t.code); }

static void silence(int s) {
    const int n = t.arrivals.n_messages;
    memset(t.arrived, 1, (size_t)n);
    for (int i = 0; i < s;) {
        const uint32_t w = cog_rng_below(&t.rng, (uint32_t)n);
        i += t.arrived[w];
        t.arrived[w] = 0;
    }
    t.arrivals.n_arrived = n - s;
    t.arrivals.n_missing = s;
}

/* [n_blocks][n_tasks] of what the decoding adds up to in arrivals.round. */
static const double *combined(void) {
    static double sum[8 * 1024];
    const cog_plan *plan = cog_code_plan(t.code);
    const int k = plan->n_shards * plan->n_blocks;
    cr_assert_leq(k * plan->n_blocks, (int)COUNT(sum));
    memset(sum, 0, sizeof(sum));
    for (int i = 0; i < t.decoding.count; i++) {
        const cog_decode_term *term = &t.terms[i];
        cr_assert(t.arrived[term->message], "message %d was not there", term->message);
        for (int e = plan->row[term->message]; e < plan->row[term->message + 1]; e++)
            sum[term->block * k + plan->part[e]] +=
                term->weight * cog_code_coef(t.code, t.arrivals.round, e);
    }
    return sum;
}

/* Err, not relative. */
static double decoded_error(void) {
    const cog_plan *plan = cog_code_plan(t.code);
    const int k = plan->n_shards * plan->n_blocks;
    cr_assert_eq(cog_code_decode(t.code, &t.arrivals, &t.decoding), COG_OK, "%s", cog_last_error());
    const double *sum = combined();
    double error = 0;
    for (int i = 0; i < k * plan->n_blocks; i++)
        error += pow(sum[i] - target(plan, i / k, i % k), 2);
    return error;
}

static double mean_error(int s, int n_sets, double *deviation) {
    double sum = 0, squares = 0;
    for (int i = 0; i < n_sets; i++) {
        silence(s);
        t.arrivals.round = i;
        const double error = decoded_error();
        sum += error / n_sets;
        squares += error * error / n_sets;
    }
    *deviation = sqrt(fmax(0, squares - sum * sum));
    return sum;
}

/* --------------------------------------------------------------------- golden numbers */

#define SHAPE(n, k, m, degree, eps) (&(cog_bound_shape){n, k, m, degree, eps})

/* To the digits given in advance. */
Test(acgc, bounds_have_their_golden_values) {
    const struct {
        double value, golden;
    } cases[] = {
        {cog_bound_bibd(SHAPE(91, 91, 2, 10, 0), 1, 0), 16.545},
        {cog_bound_bibd(SHAPE(91, 91, 2, 10, 0), 1, 6), 18.538},
        {cog_bound_bibd(SHAPE(91, 91, 2, 10, 0), 1, 12), 20.776},
        {cog_bound_bibd(SHAPE(91, 91, 2, 10, 0), 1, 18), 23.304},
        {cog_bound_bibd(SHAPE(91, 91, 2, 10, 0), 1, 22), 25.182},
        {cog_bound_bibd_stacked(SHAPE(91, 91, 2, 10, 0), 1, 0), 91.0},
        {cog_bound_bibd_stacked(SHAPE(91, 91, 2, 10, 0), 1, 6), 91.574},
        {cog_bound_bibd_stacked(SHAPE(91, 91, 2, 10, 0), 1, 12), 92.227},
        {cog_bound_bibd_stacked(SHAPE(91, 91, 2, 10, 0), 1, 18), 92.976},
        {cog_bound_bibd_stacked(SHAPE(91, 91, 2, 10, 0), 1, 22), 93.538},
        {cog_bound_biregular(SHAPE(54, 27, 2, 5, .1), 0), 4.969},
        {cog_bound_biregular(SHAPE(54, 27, 2, 5, .1), 1), 5.877},
        {cog_bound_biregular(SHAPE(54, 27, 2, 5, .1), 3), 7.693},
        {cog_bound_biregular(SHAPE(54, 27, 2, 5, .1), 6), 10.417},
        {cog_bound_biregular(SHAPE(54, 27, 2, 5, .1), 9), 13.141},
        {cog_bound_biregular(SHAPE(54, 27, 2, 5, .1), 13), 16.773},
        {cog_bound_srg(SHAPE(25, 25, 2, 8, 0), 3, 2, 0), 5.556},
        {cog_bound_srg(SHAPE(25, 25, 2, 8, 0), 3, 2, 1), 6.114},
        {cog_bound_srg(SHAPE(25, 25, 2, 8, 0), 3, 2, 2), 6.706},
        {cog_bound_srg(SHAPE(25, 25, 2, 8, 0), 3, 2, 3), 7.333},
        {cog_bound_srg(SHAPE(13, 13, 2, 6, 0), 2, 3, 0), 7.393},
        {cog_bound_srg(SHAPE(13, 13, 2, 6, 0), 2, 3, 1), 7.735},
        {cog_bound_srg(SHAPE(13, 13, 2, 6, 0), 2, 3, 2), 8.123},
        {cog_bound_srg(SHAPE(13, 13, 2, 6, 0), 2, 3, 3), 8.568},
        {cog_bound_any_code(100, 100, 2, 4, 5), 2},
        {cog_bound_any_code(100, 100, 2, 4, 3), 1},
        {cog_bound_any_code(91, 91, 2, 10, 0), 0},
        {cog_bound_any_code(91, 91, 2, 10, 6), 0},
        {cog_bound_any_code(91, 91, 2, 10, 12), 2},
        {cog_bound_any_code(91, 91, 2, 10, 18), 2},
        {cog_bound_any_code(91, 91, 2, 10, 22), 4},
    };
    for (size_t c = 0; c < COUNT(cases); c++)
        cr_expect_float_eq(cases[c].value, cases[c].golden, 6e-4, "case %zu: %.6g, golden %g", c,
                           cases[c].value, cases[c].golden);
}

/* Golden means come from an independent program and an unknown number of draws, about 30 for the 91
 * workers and some hundred for the others. `slack` is what they may be off by, in deviations of one
 * draw: 91 workers 1 (deviation .3 to .6), graphs .25 (.6 to 1.0), coset .35 (.018 to .17). Of the
 * bi-regular code the golden numbers are one assignment and one draw of coefficients, here it is
 * another: means of six of them ranged over a factor 1.5 at s = 4 and 1.2 at s = 10. */
Test(acgc, measured_errors_are_the_golden_ones_within_the_noise_of_sampling) {
    const struct {
        const char *spec;
        int n, s, n_sets;
        double golden, slack;
    } cases[] = {
        {"acgc:structure=bibd,eps=0", 91, 0, 12, 15.4, 1},
        {"acgc:structure=bibd,eps=0", 91, 6, 12, 17.1, 1},
        {"acgc:structure=bibd,eps=0", 91, 12, 12, 19.2, 1},
        {"acgc:structure=bibd,eps=0", 91, 18, 12, 21.8, 1},
        {"acgc:structure=bibd,eps=0", 91, 22, 12, 23.9, 1},
        {"acgc:structure=srg,eps=0", 25, 0, 500, 4.11, .25},
        {"acgc:structure=srg,eps=0", 25, 1, 500, 4.44, .25},
        {"acgc:structure=srg,eps=0", 25, 2, 500, 4.84, .25},
        {"acgc:structure=srg,eps=0", 25, 3, 500, 5.12, .25},
        {"acgc:structure=srg,eps=0", 13, 0, 2000, 2.45, .25},
        {"acgc:structure=srg,eps=0", 13, 1, 2000, 2.78, .25},
        {"acgc:structure=srg,eps=0", 13, 2, 2000, 3.18, .25},
        {"acgc:structure=srg,eps=0", 13, 3, 2000, 3.80, .25},
        {"acgc:degree=5", 54, 3, 150, .030, .35},
        {"acgc:degree=5", 54, 6, 150, .093, .35},
        {"acgc:degree=5", 54, 9, 150, .171, .35},
        {"acgc:degree=5", 54, 13, 150, .387, .35},
        {"acgc:construction=2,structure=biregular", 40, 4, 300, .248, .5},
        {"acgc:construction=2,structure=biregular", 40, 7, 300, .957, .5},
        {"acgc:construction=2,structure=biregular", 40, 10, 300, 1.88, .5},
    };
    for (size_t c = 0; c < COUNT(cases); c++) {
        begin(cases[c].spec, cases[c].n);
        double deviation;
        const double mean = mean_error(cases[c].s, cases[c].n_sets, &deviation);
        cr_expect_float_eq(mean, cases[c].golden, cases[c].slack * deviation,
                           "%s, %d workers, s=%d: %g, golden %g, one draw +-%g", cases[c].spec,
                           cases[c].n, cases[c].s, mean, cases[c].golden, deviation);
        end();
    }
    /* every worker alone costs the same, here: .006 to the digits given */
    begin("acgc:degree=5", 54);
    double deviation;
    cr_expect_float_eq(mean_error(1, 30, &deviation), .006, 5e-4);
    cr_expect_lt(deviation, 1e-6);
    end();
}

/* ----------------------------------------------------------------------------- bounds */

/* The bounds of construction 1 are on the mean over the draws, that of row sums on every set: ten
 * thousand sets in all. The baseline meets its number exactly on designs. */
Test(acgc, no_bound_is_ever_violated) {
    const struct {
        const char *spec;
        int n, n_sets, most; /* silent */
    } cases[] = {
        {"acgc", 8, 100, 7},
        {"acgc:degree=5,eps=0.3", 54, 20, 16},
        {"acgc:degree=4,blocks=3", 30, 40, 20},
        {"acgc:structure=bibd", 7, 200, 6},
        {"acgc:structure=bibd,eps=0,blocks=4", 13, 60, 12},
        {"acgc:structure=bibd,eps=0.5,blocks=3", 15, 60, 14},
        {"acgc:structure=bibd", 9, 100, 8},
        {"acgc:structure=srg,eps=0", 25, 30, 23},
        {"acgc:structure=srg,eps=0.4", 13, 80, 12},
        {"acgc:structure=srg,degree=3", 10, 100, 9},
        {"acgc:structure=srg,degree=4", 8, 100, 7},
        {"acgc:structure=biregular,shards=16,degree=4", 20, 50, 19},
        {"acgc:construction=2", 8, 100, 7},
        {"acgc:construction=2,structure=biregular", 40, 30, 30},
        {"acgc:construction=2,structure=biregular,blocks=3", 30, 30, 25},
        {"acgc:construction=stacked,structure=bibd", 7, 50, 6},
        {"acgc:construction=stacked,structure=srg", 16, 30, 15},
        {"acgc:construction=stacked", 12, 50, 11},
    };
    int64_t n_sets = 0;
    for (size_t c = 0; c < COUNT(cases); c++) {
        begin(cases[c].spec, cases[c].n);
        const cog_plan *plan = cog_code_plan(t.code);
        const double k = plan->n_shards * plan->n_blocks;
        for (int s = 0; s <= cases[c].most; s++) {
            double mean = 0, squares = 0, of_rows;
            for (int i = 0; i < cases[c].n_sets; i++, n_sets++) {
                silence(s);
                t.arrivals.round = i;
                const double error = decoded_error();
                cr_assert_eq(cog_bound_row_sums(t.code, &t.arrivals, &of_rows), COG_OK);
                cr_expect_leq(error, of_rows + 1e-9, "%s s=%d: %g above %g", cases[c].spec, s,
                              error, of_rows);
                cr_expect_leq(of_rows, k + 1e-9, "no more than all of it");
                mean += error / cases[c].n_sets;
                squares += error * error / cases[c].n_sets;
            }
            const double spread =
                sqrt(fmax(0, squares - mean * mean) / cases[c].n_sets); /* of the mean */
            const double bound = t.code->ops->error_bound(t.code, cases[c].n - s) * k;
            cr_expect_leq(mean, bound + 4 * spread + 1e-7 * k, "%s s=%d: %g above %g",
                          cases[c].spec, s, mean, bound);
        }
        end();
    }
    cr_expect_geq(n_sets, 10000, "%lld", (long long)n_sets);
}

/* (8) set by set, against the mean over draws; (10), (12), (17) are (8) made simpler, so never
 * below it; for designs they are the same. */
Test(acgc, closed_bounds_follow_from_the_one_of_a_set) {
    const struct {
        const char *spec;
        int n;
        double eps;
        bool equal;
    } cases[] = {{"acgc:structure=bibd,eps=0", 13, 0, true},
                 {"acgc:structure=bibd,eps=0.4,blocks=3", 21, .4, true},
                 {"acgc:structure=bibd,eps=0.2", 6, .2, true},
                 {"acgc:structure=srg,eps=0", 13, 0, false},
                 {"acgc:structure=srg,eps=0.3", 16, .3, false},
                 {"acgc:structure=srg,degree=3,eps=0", 10, 0, false},
                 {"acgc:eps=0.2", 16, .2, false},
                 {"acgc:structure=biregular,eps=0.2", 24, .2, false}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        begin(cases[c].spec, cases[c].n);
        const double k = t.code->plan.n_shards * t.code->plan.n_blocks;
        for (int s = 1; s < cases[c].n; s++) {
            double of_set, mean = 0, squares = 0;
            enum { DRAWS = 60 };
            silence(s);
            cr_assert_eq(cog_bound_answers(t.code, &t.arrivals, cases[c].eps, &of_set), COG_OK,
                         "%s", cog_last_error());
            const double closed = t.code->ops->error_bound(t.code, cases[c].n - s) * k;
            cr_expect_geq(closed, of_set - 1e-9, "%s s=%d: %g, set %g", cases[c].spec, s, closed,
                          of_set);
            if (cases[c].equal)
                cr_expect_float_eq(closed, of_set, 1e-9, "%s s=%d", cases[c].spec, s);
            for (int i = 0; i < DRAWS; i++) {
                t.arrivals.round = i;
                const double error = decoded_error();
                mean += error / DRAWS;
                squares += error * error / DRAWS;
            }
            const double spread = sqrt(fmax(0, squares - mean * mean) / DRAWS);
            cr_expect_leq(mean, of_set + 4 * spread + 1e-7 * k, "%s s=%d: %g above %g",
                          cases[c].spec, s, mean, of_set);
        }
        end();
    }
}

/* Whatever the code: over all sets of s silent workers the worst is at least (21). */
Test(acgc, no_code_beats_the_bound_on_all_codes) {
    const struct {
        const char *spec;
        int n;
    } cases[] = {{"acgc", 8},
                 {"acgc:structure=bibd", 7},
                 {"acgc:construction=2", 8},
                 {"acgc:construction=2,blocks=3", 9},
                 {"ye-abbe:stragglers=1,blocks=2", 6},
                 {"frc:stragglers=2", 9},
                 {"crc:stragglers=2", 7},
                 {"replication", 8},
                 {"lwpd:decoder=least-squares", 8}};
    static answers a;
    for (size_t c = 0; c < COUNT(cases); c++) {
        const int n = cases[c].n;
        cog_code *code = make(cases[c].spec, n);
        const cog_plan *plan = cog_code_plan(code);
        double load = 0, positive = 0;
        for (int m = 0; m < n; m++)
            for (int e = plan->row[m], last = -1; e < plan->row[m + 1]; e++) {
                load += plan->part[e] / plan->n_blocks != last;
                last = plan->part[e] / plan->n_blocks;
            }
        for (int s = 0; s < n; s++) {
            double worst = 0;
            for (uint64_t mask = 0; mask < 1u << n; mask++) {
                if (popcount(mask) != n - s) continue;
                answer(&a, n, mask);
                cr_assert_eq(cog_decode_least_squares(code, &a.arrivals, INFINITY, &a.decoding),
                             COG_OK);
                worst = fmax(worst, squared_error(plan, &a));
            }
            const double floor_of_all =
                cog_bound_any_code(n, plan->n_shards, plan->n_blocks, load / n, s);
            positive += floor_of_all > 0;
            cr_expect_geq(worst * plan->n_shards * plan->n_blocks, floor_of_all - 1e-9,
                          "%s s=%d: %g below %g", cases[c].spec, s, worst, floor_of_all);
        }
        cr_expect_geq(positive, 1, "%s: says nothing", cases[c].spec);
        cog_code_destroy(code);
    }
}

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
