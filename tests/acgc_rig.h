/* acgc_rig.h - a code, a set of answers of one round, its decoding and the error of that. */
#ifndef COG_TESTS_ACGC_RIG_H
#define COG_TESTS_ACGC_RIG_H

#include "code.h"
#include "code_check.h"
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

static trial t; /* of the process */

static inline void begin(const char *spec, int n) {
    t.code = make(spec, n);
    t.arrivals = (cog_arrivals){.n_messages = n, .arrived = t.arrived};
    t.decoding = (cog_decoding){.terms = t.terms, .capacity = (int32_t)COUNT(t.terms)};
    t.rng = cog_rng_make(7, COG_STREAM_TEST, 0, 0);
}

static inline void end(void) { cog_code_destroy((cog_code *)t.code); }

static inline void silence(int s) {
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
static inline const double *combined(void) {
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
static inline double decoded_error(void) {
    const cog_plan *plan = cog_code_plan(t.code);
    const int k = plan->n_shards * plan->n_blocks;
    cr_assert_eq(cog_code_decode(t.code, &t.arrivals, &t.decoding), COG_OK, "%s", cog_last_error());
    const double *sum = combined();
    double error = 0;
    for (int i = 0; i < k * plan->n_blocks; i++)
        error += pow(sum[i] - target(plan, i / k, i % k), 2);
    return error;
}

static inline double mean_error(int s, int n_sets, double *deviation) {
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

#endif
