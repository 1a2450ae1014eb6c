/* code_check.h - what the tests of codes share: sets of answers as bit masks, the combination of
 * parts that a decoding makes, and exact integer ranks. */
#ifndef COG_TESTS_CODE_CHECK_H
#define COG_TESTS_CODE_CHECK_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cograd/code.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { MAX_N = 64, MAX_PARTS = 128, MAX_TERMS = MAX_N * 32 };

static inline cog_code *make(const char *spec, int n_workers) {
    cog_code *code = NULL;
    cr_assert_eq(cog_code_create(spec, n_workers, &code), COG_OK, "%s for %d workers: %s", spec,
                 n_workers, cog_last_error());
    return code;
}

typedef struct answers {
    cog_arrivals arrivals;
    uint8_t arrived[MAX_N];
    cog_decoding decoding;
    cog_decode_term terms[MAX_TERMS];
} answers;

/* The workers in `mask` answered, the others declined. One message a worker. */
static inline cog_arrivals *answer(answers *a, int n_workers, uint64_t mask) {
    a->arrivals = (cog_arrivals){.n_messages = n_workers, .arrived = a->arrived};
    for (int w = 0; w < n_workers; w++)
        a->arrivals.n_arrived += a->arrived[w] = (uint8_t)(mask >> w & 1);
    a->arrivals.n_missing = n_workers - a->arrivals.n_arrived;
    a->decoding = (cog_decoding){.terms = a->terms, .capacity = MAX_TERMS};
    return &a->arrivals;
}

static inline cog_status decode_mask(const cog_code *code, answers *a, uint64_t mask) {
    return cog_code_decode(code, answer(a, cog_code_plan(code)->n_messages, mask), &a->decoding);
}

/* combination[block][part] of what the decoding adds up to; also: messages come in order, every
 * term names a message that arrived. */
typedef double combination[32][MAX_PARTS];

static inline void combine(const cog_plan *plan, const answers *a, combination sum) {
    memset(sum, 0, sizeof(combination));
    for (int i = 0; i < a->decoding.count; i++) {
        const cog_decode_term *term = &a->terms[i];
        cr_assert(a->arrived[term->message], "message %d was not there", term->message);
        cr_assert(i == 0 || term->message >= a->terms[i - 1].message, "messages out of order");
        for (int t = plan->row[term->message]; t < plan->row[term->message + 1]; t++)
            sum[term->block][plan->part[t]] += term->weight * plan->coef[t];
    }
}

static inline double target(const cog_plan *plan, int block, int part) {
    return part % plan->n_blocks == block;
}

/* Largest deviation from "every shard of this block once, nothing else". */
static inline double largest_error(const cog_plan *plan, const answers *a) {
    static combination sum;
    combine(plan, a, sum);
    double worst = 0;
    for (int b = 0; b < plan->n_blocks; b++)
        for (int p = 0; p < plan->n_shards * plan->n_blocks; p++)
            worst = fmax(worst, fabs(sum[b][p] - target(plan, b, p)));
    return worst;
}

/* Squared, summed over blocks, relative to the target. */
static inline double squared_error(const cog_plan *plan, const answers *a) {
    static combination sum;
    combine(plan, a, sum);
    double total = 0;
    for (int b = 0; b < plan->n_blocks; b++)
        for (int p = 0; p < plan->n_shards * plan->n_blocks; p++)
            total += pow(sum[b][p] - target(plan, b, p), 2);
    return total / (plan->n_shards * plan->n_blocks);
}

static inline void dense_row(const cog_plan *plan, int message, double *row) {
    memset(row, 0, sizeof(double) * (size_t)(plan->n_shards * plan->n_blocks));
    for (int t = plan->row[message]; t < plan->row[message + 1]; t++)
        row[plan->part[t]] += plan->coef[t];
}

/* Rank of an integer matrix, exactly: Bareiss' elimination, in which every division is exact. */
static inline int integer_rank(int n_rows, int n_columns, int64_t a[][16]) {
    int64_t previous = 1;
    int rank = 0;
    for (int c = 0; c < n_columns && rank < n_rows; c++) {
        int pivot = rank;
        while (pivot < n_rows && a[pivot][c] == 0) pivot++;
        if (pivot == n_rows) continue;
        for (int j = 0; j < n_columns; j++) {
            const int64_t swap = a[rank][j];
            a[rank][j] = a[pivot][j];
            a[pivot][j] = swap;
        }
        for (int i = rank + 1; i < n_rows; i++) {
            for (int j = c + 1; j < n_columns; j++)
                a[i][j] = (a[rank][c] * a[i][j] - a[i][c] * a[rank][j]) / previous;
            a[i][c] = 0;
        }
        previous = a[rank][c];
        rank++;
    }
    return rank;
}

static inline double binomial(int n, int k) {
    double product = 1;
    for (int i = 1; i <= k; i++) product = product * (n - k + i) / i;
    return k < 0 || k > n ? 0 : round(product);
}

static inline int popcount(uint64_t mask) { return __builtin_popcountll(mask); }

#endif
