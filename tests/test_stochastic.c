/* test_stochastic.c - allocations are what they claim, messages have the energy of the lemma, and
 * the sum of the answers is unbiased for workers that straggle independently. */
#include "code.h"
#include "code_check.h"
#include "rng.h"

static answers a;

/* Copies of shard k that worker w holds: 0 or 1. */
static bool holds(const cog_plan *plan, int w, int k) {
    int count = 0;
    for (int t = plan->row[w]; t < plan->row[w + 1]; t++)
        count += plan->part[t] == k && plan->coef[t] != 0;
    cr_assert_leq(count, 1, "worker %d holds shard %d %d times", w, k, count);
    return count == 1;
}

static int shared(const cog_plan *plan, int k, int l) {
    int count = 0;
    for (int w = 0; w < plan->n_workers; w++) count += holds(plan, w, k) && holds(plan, w, l);
    return count;
}

/* ------------------------------------------------------------------------ allocations */

/* Sylvester 2, 4, 16, 32; Paley of the fields of 11, 19, 27 elements; 2 (q+1) for q = 5, 9, 25, 49;
 * doubled: 24 and 40 and 56. */
Test(stochastic, balanced_shards_share_workers_in_proportion) {
    const int orders[] = {2, 4, 12, 16, 20, 24, 28, 32, 36, 40, 52, 56, 100};
    for (size_t c = 0; c < COUNT(orders); c++) {
        const int n = orders[c];
        char spec[64];
        snprintf(spec, sizeof(spec), "stochastic:allocation=balanced,shards=%d", n);
        cog_code *code = make(spec, n);
        const cog_plan *plan = cog_code_plan(code);
        for (int k = 0; k < n; k++) {
            const int copies = shared(plan, k, k);
            cr_expect_eq(copies, k + 1 < n ? n / 2 : n, "n=%d shard %d has %d copies", n, k,
                         copies);
            for (int l = 0; l < k && n <= 56; l++)
                cr_expect_eq(shared(plan, k, l) * n, copies * shared(plan, l, l),
                             "n=%d: shards %d and %d share %d workers", n, k, l,
                             shared(plan, k, l));
        }
        for (int i = 0; i < 200 && n > 56; i++) { /* all pairs would take a while */
            const int k = i * 37 % (n - 1), l = (k + 1 + i % 50) % (n - 1);
            cr_expect_eq(shared(plan, k, l), n / 4, "n=%d: %d and %d", n, k, l);
        }
        cog_code_destroy(code);
    }
}

/* Without coins, worker 0 would hold every shard. Loads have mean (n-1)/2 and, row by row coins,
 * standard deviation sqrt(n-1)/2. */
Test(stochastic, balanced_loads_are_even) {
    cog_code *code = make("stochastic:allocation=balanced", 64);
    const cog_plan *plan = cog_code_plan(code);
    double squares = 0;
    for (int w = 0; w < 64; w++) {
        const double load = plan->row[w + 1] - plan->row[w];
        cr_expect_float_eq(load, 31.5, 5 * sqrt(63) / 2, "worker %d holds %g", w, load);
        squares += pow(load - 31.5, 2) / 64;
    }
    cr_expect_lt(squares, 2 * 63 / 4.0);
    cog_code_destroy(code);
}

Test(stochastic, a_balanced_allocation_that_cannot_be_says_why) {
    static const struct {
        int n;
        const char *says;
    } cases[] = {{1, "odd"}, {7, "odd"}, {6, "the next is of 8"}, {92, "the next is of 96"}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        cog_code *code = NULL;
        cr_expect_eq(cog_code_create("stochastic:allocation=balanced", cases[c].n, &code),
                     COG_ERR_ARGUMENT);
        cr_expect(strstr(cog_last_error(), cases[c].says) != NULL, "%d workers: %s", cases[c].n,
                  cog_last_error());
        cog_code_destroy(code);
    }
}

/* Every worker holds a shard with probability d/n, any two d(d-1)/(n(n-1)): 5 standard errors. */
Test(stochastic, random_allocations_are_uniform) {
    enum { N = 10, D = 3, SEEDS = 60, SHARDS = 40 };
    double together[N][N] = {{0}};
    for (int seed = 1; seed <= SEEDS; seed++) {
        char spec[64];
        snprintf(spec, sizeof(spec), "stochastic:copies=%d,shards=%d,seed=%d", D, SHARDS, seed);
        cog_code *code = make(spec, N);
        for (int k = 0; k < SHARDS; k++) {
            int copies = 0;
            for (int v = 0; v < N; v++) {
                copies += holds(cog_code_plan(code), v, k);
                for (int w = 0; w <= v; w++)
                    together[v][w] +=
                        holds(cog_code_plan(code), v, k) && holds(cog_code_plan(code), w, k);
            }
            cr_expect_eq(copies, D);
        }
        cog_code_destroy(code);
    }
    for (int v = 0; v < N; v++)
        for (int w = 0; w <= v; w++) {
            const double chance = v == w ? (double)D / N : D * (D - 1.0) / (N * (N - 1.0));
            const double total = SEEDS * SHARDS, slack = 5 * sqrt(chance * (1 - chance) / total);
            cr_expect_float_eq(together[v][w] / total, chance, slack, "%d, %d: %g", v, w,
                               together[v][w] / total);
        }
}

/* One copy of 8 shards on 8 workers leaves somebody without: it sends zeros, and is counted. */
Test(stochastic, workers_without_a_shard_send_zeros) {
    cog_code *code = make("stochastic:copies=1", 8);
    const cog_plan *plan = cog_code_plan(code);
    int n_idle = 0, n_copies = 0;
    for (int w = 0; w < 8; w++) {
        const bool idle = plan->row[w + 1] - plan->row[w] == 1 && plan->coef[plan->row[w]] == 0;
        n_idle += idle;
        if (!idle) n_copies += plan->row[w + 1] - plan->row[w];
    }
    cr_expect_geq(n_idle, 1);
    cr_expect_eq(n_copies, 8);
    cr_expect_eq(decode_mask(code, &a, 0xff), COG_OK);
    cr_expect_leq(largest_error(plan, &a), 1e-15);
    cog_code_destroy(code);
}

/* --------------------------------------------------------------------------- messages */

/* With gradients of 5 numbers: (1-p) sum g_i = grad F for any allocation, and for a balanced one
 * sum ||g_i||^2 = (1-p)^-2 [ sum_k ||grad f_k||^2 (1/d_k - 1/n) + ||grad F||^2 / n ]. */
Test(stochastic, messages_obey_the_lemma) {
    const struct {
        const char *spec;
        int n;
        double p;
        bool balanced;
    } cases[] = {{"stochastic:allocation=balanced,straggle=0.3", 16, .3, true},
                 {"stochastic:allocation=balanced,shards=12,straggle=0.9", 12, .9, true},
                 {"stochastic:allocation=balanced,shards=20,straggle=0.5", 36, .5, true},
                 {"stochastic:allocation=balanced,shards=100", 100, 0, true},
                 {"stochastic:copies=5,straggle=0.2", 100, .2, false},
                 {"stochastic:copies=3,shards=7,straggle=0.4", 20, .4, false}};
    enum { LENGTH = 5 };
    for (size_t c = 0; c < COUNT(cases); c++) {
        cog_code *code = make(cases[c].spec, cases[c].n);
        const cog_plan *plan = cog_code_plan(code);
        const int n = plan->n_workers, k = plan->n_shards;
        cog_rng rng = cog_rng_make(3, COG_STREAM_TEST, (uint32_t)c, 0);
        double f[128][LENGTH], total[LENGTH] = {0}, sent[LENGTH] = {0}, energy = 0, lemma = 0;
        for (int j = 0; j < k; j++)
            for (int i = 0; i < LENGTH; i++) total[i] += f[j][i] = cog_rng_normal(&rng) + 0.3;
        for (int w = 0; w < n; w++) {
            double g[LENGTH] = {0};
            for (int t = plan->row[w]; t < plan->row[w + 1]; t++)
                for (int i = 0; i < LENGTH; i++) g[i] += plan->coef[t] * f[plan->part[t]][i];
            for (int i = 0; i < LENGTH; i++) {
                sent[i] += g[i];
                energy += g[i] * g[i];
            }
        }
        for (int i = 0; i < LENGTH; i++) {
            cr_expect_float_eq((1 - cases[c].p) * sent[i], total[i], 1e-9, "%s", cases[c].spec);
            lemma += total[i] * total[i] / n;
            for (int j = 0; j < k; j++)
                lemma += f[j][i] * f[j][i] * (1.0 / shared(plan, j, j) - 1.0 / n);
        }
        lemma /= pow(1 - cases[c].p, 2);
        if (cases[c].balanced)
            cr_expect_float_eq(energy / lemma, 1, 1e-9, "%s: %.12g, lemma %.12g", cases[c].spec,
                               energy, lemma);
        else
            cr_expect_gt(fabs(energy / lemma - 1), 1e-6, "the lemma needs balance");
        cog_code_destroy(code);
    }
}

/* ---------------------------------------------------------------------------- decoding */

/* Over all sets of answers with their probabilities the decoded sum is the target. */
Test(stochastic, answers_of_independent_stragglers_add_up_without_bias) {
    const struct {
        const char *spec;
        int n;
        double p;
    } cases[] = {{"stochastic:straggle=0.25", 9, .25},
                 {"stochastic:copies=4,shards=5,straggle=0.6", 8, .6},
                 {"stochastic:copies=1,straggle=0.9", 6, .9},
                 {"stochastic:allocation=balanced,straggle=0.1", 12, .1},
                 {"stochastic:copies=6", 6, 0}};
    static combination sum, mean;
    for (size_t c = 0; c < COUNT(cases); c++) {
        const int n = cases[c].n;
        cog_code *code = make(cases[c].spec, n);
        const cog_plan *plan = cog_code_plan(code);
        memset(mean, 0, sizeof(mean));
        for (uint64_t mask = 1; mask < 1u << n; mask++) {
            const double chance =
                pow(cases[c].p, n - popcount(mask)) * pow(1 - cases[c].p, popcount(mask));
            cr_assert_eq(decode_mask(code, &a, mask), COG_OK);
            for (int i = 0; i < a.decoding.count; i++) cr_expect_eq(a.terms[i].weight, 1);
            combine(plan, &a, sum);
            for (int k = 0; k < plan->n_shards; k++) mean[0][k] += chance * sum[0][k];
        }
        for (int k = 0; k < plan->n_shards; k++)
            cr_expect_float_eq(mean[0][k], 1, 1e-12, "%s shard %d: %g", cases[c].spec, k,
                               mean[0][k]);
        cr_expect_eq(decode_mask(code, &a, 0), COG_ERR_UNDECODABLE, "nobody answered");
        cog_code_destroy(code);
    }
}

Test(stochastic, the_closed_form_is_the_error_of_every_number_of_answers) {
    const struct {
        const char *spec;
        int n;
    } cases[] = {{"stochastic:straggle=0.25", 9},
                 {"stochastic:copies=4,shards=5,straggle=0.6", 8},
                 {"stochastic:allocation=balanced,shards=12", 12},
                 {"stochastic:copies=1", 1}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        const int n = cases[c].n;
        cog_code *code = make(cases[c].spec, n);
        for (int m = 1; m <= n; m++) {
            double error = 0;
            for (uint64_t mask = 0; mask < 1u << n; mask++) {
                if (popcount(mask) != m) continue;
                cr_assert_eq(decode_mask(code, &a, mask), COG_OK);
                error += squared_error(cog_code_plan(code), &a) / binomial(n, m);
            }
            cr_expect_float_eq(code->ops->error_bound(code, m), error, 1e-12, "%s m=%d: %g",
                               cases[c].spec, m, error);
        }
        cog_code_destroy(code);
    }
}

Test(stochastic, waits_for_everybody_who_does_not_decline_and_drops_the_late) {
    cog_code *code = make("stochastic", 8), *hasty = make("stochastic:wait=3", 8);
    for (int arrived = 0; arrived <= 8; arrived++)
        for (int missing = 0; arrived + missing <= 8; missing++) {
            answer(&a, 8, (1u << arrived) - 1)->n_missing = missing;
            cr_expect_eq(cog_code_ready(code, &a.arrivals), arrived + missing == 8);
            cr_expect_eq(cog_code_ready(hasty, &a.arrivals),
                         arrived >= 3 || arrived + missing == 8);
        }
    int32_t age[8] = {0, 1, 0, 0, 4, 0, 0, 0};
    answer(&a, 8, 0x1f)->age = age;
    cr_expect_eq(code->late, COG_LATE_DROP);
    cr_expect_eq(cog_code_decode(code, &a.arrivals, &a.decoding), COG_OK);
    cr_expect_eq(a.decoding.count, 3);
    cog_code_destroy(code);
    cog_code_destroy(hasty);
}
