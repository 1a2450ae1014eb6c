/* test_code_lwpd.c - facts of projective derivative codes, from the published matrix and by
 * counting every set of answers. */
#include <lapacke.h>

#include "code.h"
#include "code_check.h"
#include "rng.h"

static answers a;

/* C^(8,4,2) times sqrt(2), from the public slides of Soto, Ilmer, Guan and Li. */
static const int published[8][4] = {{1, 1, 0, 0}, {1, -1, 0, 0}, {0, 0, 1, 1}, {0, 0, 1, -1},
                                    {0, 1, 1, 0}, {0, 1, -1, 0}, {1, 0, 0, 1}, {-1, 0, 0, 1}};

Test(lwpd, the_default_code_of_eight_workers_is_the_published_matrix) {
    const char *specs[] = {"lwpd", "lwpd:family=ring,weight=2", "lwpd:family=kron,weight=2"};
    for (size_t c = 0; c < COUNT(specs); c++) {
        cog_code *code = make(specs[c], 8);
        double row[4];
        for (int i = 0; i < 8; i++) {
            dense_row(cog_code_plan(code), i, row);
            for (int j = 0; j < 4; j++)
                cr_expect_float_eq(row[j] * sqrt(2), published[i][j], 1e-15, "%s [%d][%d]",
                                   specs[c], i, j);
        }
        cog_code_destroy(code);
    }
}

/* Codewords are lines: the net has the same eight, in another order and with other signs. */
Test(lwpd, the_net_of_eight_workers_has_the_published_lines) {
    cog_code *code = make("lwpd:family=net", 8);
    int used[8] = {0};
    for (int i = 0; i < 8; i++) {
        double row[4];
        dense_row(cog_code_plan(code), i, row);
        for (int line = 0; line < 8; line++) {
            double dot = 0;
            for (int j = 0; j < 4; j++) dot += row[j] * published[line][j] / sqrt(2);
            used[line] += fabs(fabs(dot) - 1) < 1e-15;
        }
    }
    for (int line = 0; line < 8; line++) cr_expect_eq(used[line], 1, "line %d", line);
    cog_code_destroy(code);
}

/* Slope s, line c, sign row h: the cells (a, (c + s a) mod q), as (row, group, shard, sign). */
Test(lwpd, the_net_is_laid_out_as_documented) {
    cog_code *code = make("lwpd:family=net,weight=4,slopes=3", 60); /* q = 5 */
    const cog_plan *plan = cog_code_plan(code);
    for (int slope = 0; slope < 3; slope++)
        for (int line = 0; line < 5; line++)
            for (int h = 0; h < 4; h++)
                for (int group = 0; group < 4; group++) {
                    const int sylvester[4][4] = {
                        {1, 1, 1, 1}, {1, -1, 1, -1}, {1, 1, -1, -1}, {1, -1, -1, 1}};
                    double row[20];
                    dense_row(plan, (slope * 5 + line) * 4 + h, row);
                    cr_expect_eq(row[(line + slope * group) % 5 * 4 + group],
                                 sylvester[h][group] * 0.5, "slope %d line %d row %d group %d",
                                 slope, line, h, group);
                }
    cog_code_destroy(code);
}

/* ----------------------------------------------------------------------- families */

static const struct {
    const char *family;
    int n, t, slopes;
    double coherence;
    int shards; /* most that one worker touches */
} families[] = {
    {"ring", 8, 2, 2, 0.5, 2},  {"ring", 12, 2, 2, 0.5, 2},  {"ring", 16, 4, 2, 0.5, 2},
    {"ring", 24, 4, 2, 0.5, 2}, {"ring", 32, 8, 2, 0.5, 2},  {"ring", 48, 8, 2, 0.5, 2},
    {"kron", 8, 2, 2, 0.5, 2},  {"kron", 16, 2, 2, 0.5, 2},  {"kron", 16, 4, 2, 0.5, 2},
    {"kron", 32, 4, 2, 0.5, 2}, {"kron", 64, 16, 2, 0.5, 2}, {"net", 8, 2, 2, 0.5, 2},
    {"net", 20, 2, 2, 0.5, 2},  {"net", 32, 4, 2, 0.25, 4},  {"net", 40, 4, 2, 0.25, 4},
    {"net", 60, 4, 3, 0.25, 4}, {"net", 18, 2, 3, 0.5, 2},   {"net", 50, 2, 5, 0.5, 2},
};

static cog_code *make_family(size_t c) {
    char spec[96];
    snprintf(spec, sizeof(spec), "lwpd:family=%s,weight=%d,slopes=%d", families[c].family,
             families[c].t, families[c].slopes);
    return make(spec, families[c].n);
}

static int n_tasks(const cog_plan *plan) { return plan->n_shards * plan->n_blocks; }

Test(lwpd, every_family_is_flat_with_unit_rows_and_every_output_group_once) {
    for (size_t c = 0; c < COUNT(families); c++) {
        cog_code *code = make_family(c);
        const cog_plan *plan = cog_code_plan(code);
        const int t = families[c].t;
        cr_expect_eq(n_tasks(plan), families[c].n / families[c].slopes);
        cr_expect_eq(plan->n_blocks, t);
        int most_shards = 0;
        for (int i = 0; i < plan->n_messages; i++) {
            int groups = 0, shards[64] = {0}, n_shards = 0;
            cr_assert_eq(plan->row[i + 1] - plan->row[i], t);
            for (int e = plan->row[i]; e < plan->row[i + 1]; e++) {
                cr_expect_float_eq(fabs(plan->coef[e]), 1 / sqrt(t), 1e-15);
                groups |= 1 << plan->part[e] % t;
                n_shards += shards[plan->part[e] / t]++ == 0;
            }
            cr_expect_eq(groups, (1 << t) - 1, "%s n=%d row %d", families[c].family, families[c].n,
                         i);
            if (n_shards > most_shards) most_shards = n_shards;
        }
        cr_expect_eq(most_shards, families[c].shards, "%s n=%d t=%d: %d shards", families[c].family,
                     families[c].n, t, most_shards);
        cog_code_destroy(code);
    }
}

/* C'C = (n/k) I, and the largest inner product, by brute force on the dense matrix. */
Test(lwpd, every_family_is_tight_with_its_coherence) {
    static double row[MAX_N][MAX_PARTS];
    for (size_t c = 0; c < COUNT(families); c++) {
        cog_code *code = make_family(c);
        const cog_plan *plan = cog_code_plan(code);
        const int n = plan->n_messages, k = n_tasks(plan);
        double coherence = 0;
        for (int i = 0; i < n; i++) dense_row(plan, i, row[i]);
        for (int i = 0; i < k; i++)
            for (int j = 0; j < k; j++) {
                double sum = 0;
                for (int m = 0; m < n; m++) sum += row[m][i] * row[m][j];
                cr_expect_float_eq(sum, i == j ? (double)n / k : 0, 1e-14, "%s n=%d [%d][%d]",
                                   families[c].family, n, i, j);
            }
        for (int i = 0; i < n; i++)
            for (int j = 0; j < i; j++) {
                double dot = 0;
                for (int p = 0; p < k; p++) dot += row[i][p] * row[j][p];
                coherence = fmax(coherence, fabs(dot));
            }
        cr_expect_float_eq(coherence, families[c].coherence, 1e-14, "%s n=%d t=%d: %g",
                           families[c].family, n, families[c].t, coherence);
        cog_code_destroy(code);
    }
}

/* --------------------------------------------------- rank and recovery at (8, 4, 2) */

/* Rank of the chosen rows, with the target of a block below them when block >= 0; in integers. */
static int rank_of(const int rows[8][4], unsigned mask, int block) {
    int64_t matrix[9][16] = {{0}};
    int m = 0;
    for (int i = 0; i < 8; i++) {
        if (!(mask >> i & 1)) continue;
        for (int j = 0; j < 4; j++) matrix[m][j] = rows[i][j];
        m++;
    }
    if (block >= 0) {
        for (int j = 0; j < 4; j++) matrix[m][j] = j % 2 == block;
        m++;
    }
    return integer_rank(m, 4, matrix);
}

static bool is_recoverable(const int rows[8][4], unsigned mask) {
    const int rank = rank_of(rows, mask, -1);
    return rank_of(rows, mask, 0) == rank && rank_of(rows, mask, 1) == rank;
}

Test(lwpd, rank_of_every_subset_of_rows) {
    int full[9] = {0};
    for (unsigned mask = 0; mask < 256; mask++) {
        const int rank = rank_of(published, mask, -1), size = popcount(mask);
        if (size <= 3) cr_expect_eq(rank, size, "%x", mask);
        full[size] += rank == 4;
    }
    const int expected[9] = {0, 0, 0, 0, 58, 56, 28, 8, 1};
    for (int size = 0; size <= 8; size++) cr_expect_eq(full[size], expected[size], "size %d", size);
}

/* The published counts by exact integer algebra; the least-squares decoder finds each of them. */
Test(lwpd, least_squares_recovers_exactly_the_sets_that_span_the_gradient) {
    const int lwpd_counts[9] = {0, 0, 0, 8, 60, 56, 28, 8, 1};
    const int copies_counts[9] = {0, 0, 0, 0, 16, 32, 24, 8, 1};
    const int copies[8][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1},
                              {1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}};
    int lwpd_count[9] = {0}, copies_count[9] = {0};
    cog_code *code = make("lwpd:decoder=least-squares", 8);
    for (unsigned mask = 1; mask < 256; mask++) {
        const bool recoverable = is_recoverable(published, mask);
        lwpd_count[popcount(mask)] += recoverable;
        copies_count[popcount(mask)] += is_recoverable(copies, mask);
        cr_assert_eq(decode_mask(code, &a, mask), COG_OK);
        const double error = largest_error(cog_code_plan(code), &a);
        cr_expect(recoverable ? error < 1e-13 : error > 0.1, "%x: error %g", mask, error);
    }
    for (int size = 0; size <= 8; size++) {
        cr_expect_eq(lwpd_count[size], lwpd_counts[size], "size %d", size);
        cr_expect_eq(copies_count[size], copies_counts[size], "size %d", size);
    }
    cog_code_destroy(code);
}

/* Against LAPACK's solver by singular values, whose solution is the one of least norm. */
Test(lwpd, least_squares_weights_have_minimum_norm) {
    cog_code *code = make("lwpd:decoder=least-squares,weight=4", 16);
    const cog_plan *plan = cog_code_plan(code);
    cog_rng rng = cog_rng_make(1, COG_STREAM_TEST, 0, 0);
    for (int trial = 0; trial < 300; trial++) {
        const uint64_t mask = cog_rng_below(&rng, 0xffff) + 1;
        double rows[16 * 8], right[16 * 4] = {0}, value[16], weight[4][16] = {{0}};
        int m = 0;
        for (int i = 0; i < 16; i++)
            if (mask >> i & 1) dense_row(plan, i, rows + m++ * 8);
        for (int b = 0; b < 4; b++)
            for (int p = 0; p < 8; p++) right[b * 16 + p] = target(plan, b, p);
        lapack_int rank;
        cr_assert_eq(
            LAPACKE_dgelss(LAPACK_COL_MAJOR, 8, m, 4, rows, 8, right, 16, value, 1e-10, &rank), 0);
        cr_assert_eq(decode_mask(code, &a, mask), COG_OK);
        for (int i = 0; i < a.decoding.count; i++)
            weight[a.terms[i].block][a.terms[i].message] = a.terms[i].weight;
        int at = 0;
        for (int i = 0; i < 16; i++) {
            if (!(mask >> i & 1)) continue;
            for (int b = 0; b < 4; b++)
                cr_expect_float_eq(weight[b][i], right[b * 16 + at], 1e-12, "%lx", mask);
            at++;
        }
    }
    cog_code_destroy(code);
}

/* ------------------------------------------------------------- transpose decoding */

Test(lwpd, transpose_weights_are_scaled_codewords) {
    cog_code *code = make("lwpd", 8);
    cr_assert_eq(decode_mask(code, &a, 0x2d), COG_OK); /* messages 0 2 3 5: k/K = 1 */
    const struct {
        int message, block;
        double sign;
    } expected[] = {{0, 0, 1}, {0, 1, 1},  {2, 0, 1}, {2, 1, 1},
                    {3, 0, 1}, {3, 1, -1}, {5, 1, 1}, {5, 0, -1}};
    cr_assert_eq(a.decoding.count, 8);
    for (int i = 0; i < 8; i++) {
        bool found = false;
        for (int j = 0; j < 8; j++)
            found = found || (a.terms[j].message == expected[i].message &&
                              a.terms[j].block == expected[i].block &&
                              fabs(a.terms[j].weight - expected[i].sign / sqrt(2)) < 1e-15);
        cr_expect(found, "message %d block %d", expected[i].message, expected[i].block);
    }
    cog_code_destroy(code);
}

/* sum of (k/K) c c' - I over the chosen rows. */
static void task_space_miss(const cog_plan *plan, uint64_t mask, double *out) {
    const int k = n_tasks(plan);
    double row[MAX_PARTS];
    for (int i = 0; i < k * k; i++) out[i] = -(double)(i % k == i / k);
    for (int m = 0; m < plan->n_messages; m++) {
        if (!(mask >> m & 1)) continue;
        dense_row(plan, m, row);
        for (int i = 0; i < k; i++)
            for (int j = 0; j < k; j++) out[i * k + j] += k * row[i] * row[j] / popcount(mask);
    }
}

static const struct {
    int answers;
    double error;
} golden[] = {{1, 3}, {2, 9.0 / 7}, {4, 3.0 / 7}, {7, 3.0 / 49}, {8, 0}};

/* E||(miss) g||^2 = ||g||^2 times the law for EVERY g, so the mean of miss' miss is that times I:
 * stronger than a mean over random g. */
Test(lwpd, mean_square_error_in_task_space_follows_the_closed_form) {
    cr_expect_float_eq(golden[1].error, 1.2857, 5e-5);
    cr_expect_float_eq(golden[2].error, 0.4286, 5e-5);
    cr_expect_float_eq(golden[3].error, 0.0612, 5e-5);
    cog_code *code = make("lwpd", 8);
    for (size_t c = 0; c < COUNT(golden); c++) {
        const int m = golden[c].answers;
        double mean[16] = {0}, miss[16];
        for (uint64_t mask = 0; mask < 256; mask++) {
            if (popcount(mask) != m) continue;
            task_space_miss(cog_code_plan(code), mask, miss);
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++)
                    for (int l = 0; l < 4; l++)
                        mean[i * 4 + j] += miss[l * 4 + i] * miss[l * 4 + j] / binomial(8, m);
        }
        for (int i = 0; i < 16; i++)
            cr_expect_float_eq(mean[i], i % 4 == i / 4 ? golden[c].error : 0, 1e-13, "K=%d", m);
        cr_expect_float_eq(code->ops->error_bound(code, m), golden[c].error, 1e-13, "K=%d", m);
    }
    cog_code_destroy(code);
}

/* Through the decoder, with Gaussian gradients of two groups on two shards; 4 standard errors. */
Test(lwpd, mean_square_error_by_monte_carlo) {
    enum { TRIALS = 20000 };
    cog_code *code = make("lwpd", 8);
    const cog_plan *plan = cog_code_plan(code);
    for (size_t c = 0; c < COUNT(golden); c++) {
        cog_rng rng = cog_rng_make(7, COG_STREAM_TEST, (uint32_t)c, 0);
        double sum = 0, squares = 0;
        for (int trial = 0; trial < TRIALS; trial++) {
            uint64_t mask = 0;
            while (popcount(mask) < golden[c].answers) mask |= 1u << cog_rng_below(&rng, 8);
            cr_assert_eq(decode_mask(code, &a, mask), COG_OK);
            double g[4], message[8] = {0}, miss[2];
            for (int j = 0; j < 4; j++) g[j] = cog_rng_normal(&rng);
            for (int m = 0; m < 8; m++)
                for (int t = plan->row[m]; t < plan->row[m + 1]; t++)
                    message[m] += plan->coef[t] * g[plan->part[t]];
            for (int b = 0; b < 2; b++) miss[b] = -(g[b] + g[2 + b]);
            for (int i = 0; i < a.decoding.count; i++)
                miss[a.terms[i].block] += a.terms[i].weight * message[a.terms[i].message];
            const double error = (miss[0] * miss[0] + miss[1] * miss[1]) / 4;
            sum += error;
            squares += error * error;
        }
        const double mean = sum / TRIALS;
        const double deviation = sqrt((squares / TRIALS - mean * mean) / TRIALS);
        cr_expect_float_eq(mean, golden[c].error, 4 * deviation + 1e-12, "K=%d: %g +- %g",
                           golden[c].answers, mean, deviation);
    }
    cog_code_destroy(code);
}

/* Coherence 1/2, 1/2 and 1/4, and uncoded blocks: one error. */
Test(lwpd, mean_square_error_does_not_depend_on_coherence) {
    const char *specs[] = {"lwpd:weight=4", "lwpd:weight=4,family=kron", "lwpd:weight=4,family=net",
                           "replication:blocks=4,decoder=sum"};
    for (int m = 1; m <= 32; m += 5) {
        const double law = 15.0 * (32 - m) / (m * 31.0);
        for (size_t c = 0; c < COUNT(specs); c++) {
            cog_code *code = make(specs[c], 32);
            cog_rng rng = cog_rng_make(3, COG_STREAM_TEST, (uint32_t)m, 0);
            double sum = 0, squares = 0;
            for (int trial = 0; trial < 400; trial++) {
                uint64_t mask = 0;
                while (popcount(mask) < m) mask |= 1ull << cog_rng_below(&rng, 32);
                cr_assert_eq(decode_mask(code, &a, mask), COG_OK);
                const double error = squared_error(cog_code_plan(code), &a);
                sum += error / 400;
                squares += error * error / 400;
            }
            const double deviation = sqrt(fmax(0, squares - sum * sum) / 400);
            cr_expect_float_eq(sum, law, 4 * deviation + 1e-12, "%s K=%d: %g, law %g", specs[c], m,
                               sum, law);
            cog_code_destroy(code);
        }
    }
}

/* ---------------------------------------------------------------- memory decoding */

Test(lwpd, memory_decoding_uses_the_latest_message_of_everybody) {
    cog_code *code = make("lwpd:decoder=memory,wait=1", 8);
    cr_expect(code->keeps_messages);
    uint8_t held[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    answer(&a, 8, 0x04)->held = held;
    cr_assert_eq(cog_code_decode(code, &a.arrivals, &a.decoding), COG_OK);
    cr_expect_eq(a.decoding.count, 16);
    memset(a.arrived, 1, 8);
    cr_expect_leq(largest_error(cog_code_plan(code), &a), 1e-15, "all held: exact but for age");

    held[6] = 0;
    answer(&a, 8, 0x04)->held = held;
    cr_assert_eq(cog_code_decode(code, &a.arrivals, &a.decoding), COG_OK);
    cr_expect_eq(a.decoding.count, 14);
    for (int i = 0; i < 14; i++) {
        cr_expect_neq(a.terms[i].message, 6);
        cr_expect_float_eq(fabs(a.terms[i].weight), 0.5 / sqrt(2), 1e-15, "(k/n) c");
    }
    cr_expect_eq(decode_mask(code, &a, 0), COG_ERR_UNDECODABLE, "nothing new");
    cog_code_destroy(code);
}
