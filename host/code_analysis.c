/* code_analysis.c - how well a code decodes, straggler count by straggler count. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "check.h"
#include "code_matrix.h"
#include "cograd/analysis.h"
#include "cograd/bounds.h"

/* Sets sampled for one straggler count, and the operations they may cost: about a second. */
static const double max_sets = 1000, least_sets = 10;
static const double max_operations = 1e9;
/* A set that costs more than this, a second or two, is not looked at: there are some 20 rows. */
static const double max_operations_of_a_set = 2e9;
/* Whether rows span the gradient is a least-squares problem; above this it is left open. */
static const double max_span_operations = 1e8;
/* Every straggler count up to this many workers; beyond it 1, 2, 3, 4, 6, 8, 12, 16 ... */
enum { EVERY_COUNT_UP_TO = 16 };

typedef struct survey {
    const cog_code *code;
    cog_answers answers;
    double *miss; /* [n_blocks, n_tasks] */
    bool spans;   /* recoverability is looked at */
    int64_t max_sets;
    double mean_load; /* shards of a worker */
} survey;

/* ------------------------------------------------------------------------ one set */

static double decoding_error(const survey *s) {
    const cog_decoding *decoding = &s->answers.decoding;
    const int64_t round = s->answers.arrivals.round;
    const cog_plan *plan = &s->code->plan;
    const size_t n_tasks = (size_t)plan->n_shards * (size_t)plan->n_blocks;
    memset(s->miss, 0, n_tasks * (size_t)plan->n_blocks * sizeof(double));
    for (size_t part = 0; part < n_tasks; part++)
        s->miss[part % (size_t)plan->n_blocks * n_tasks + part] = -1;
    for (int i = 0; i < decoding->count; i++) {
        const cog_decode_term *term = &decoding->terms[i];
        double *miss = s->miss + (size_t)term->block * n_tasks;
        for (int t = plan->row[term->message]; t < plan->row[term->message + 1]; t++)
            miss[plan->part[t]] += term->weight * cog_code_coef(s->code, round, t);
    }
    double sum = 0;
    for (size_t i = 0; i < n_tasks * (size_t)plan->n_blocks; i++) sum += s->miss[i] * s->miss[i];
    return sum / (double)n_tasks;
}

/* Sums over the sets; look_at divides them at the end. */
static cog_status look_at_set(survey *s, cog_straggler_facts *sum) {
    cog_answers *a = &s->answers;
    double error = 1;
    cog_status status = cog_code_decode(s->code, &a->arrivals, &a->decoding);
    if (status == COG_OK)
        error = decoding_error(s);
    else if (status == COG_ERR_UNDECODABLE)
        sum->refused_share++;
    else
        return status;
    sum->error_mean += error;
    sum->error_worst = fmax(sum->error_worst, error);
    if (!s->spans) return COG_OK;

    a->decoding.count = 0;
    status = cog_decode_least_squares(s->code, &a->arrivals, COG_EXACT_TOLERANCE, &a->decoding);
    if (status == COG_OK) sum->recoverable_share++;
    return status == COG_ERR_UNDECODABLE ? COG_OK : status;
}

/* ------------------------------------------------------------- one straggler count */

/* The argument behind the bound counts silent workers as silent messages. */
static double floor_of_worst(const survey *s, int n_stragglers) {
    const cog_plan *plan = &s->code->plan;
    if (plan->n_messages != plan->n_workers || s->code->keeps_messages) return NAN;
    return cog_bound_any_code(plan->n_workers, plan->n_shards, plan->n_blocks, s->mean_load,
                              n_stragglers) /
           ((double)plan->n_shards * plan->n_blocks);
}

static cog_status look_at(survey *s, int n_stragglers, cog_straggler_facts *out) {
    const int n_answers = s->code->plan.n_workers - n_stragglers;
    cog_straggler_facts sum = {.s = n_stragglers, .bound = NAN};
    if (s->max_sets > 0) {
        cog_answers_begin(&s->answers, n_answers, s->max_sets);
        while (cog_answers_next(&s->answers)) COG_TRY(look_at_set(s, &sum));
        sum.n_sets = s->answers.n_sets;
        sum.complete = s->answers.complete;
    } else {
        sum.error_worst = NAN;
    }
    sum.error_mean /= (double)sum.n_sets;
    sum.refused_share /= (double)sum.n_sets;
    sum.recoverable_share = s->spans ? sum.recoverable_share / (double)sum.n_sets : NAN;
    if (s->code->ops->error_bound != NULL)
        sum.bound = s->code->ops->error_bound(s->code, n_answers);
    sum.floor = floor_of_worst(s, n_stragglers);
    *out = sum;
    return COG_OK;
}

static bool is_listed(const cog_code *code, int s) {
    const int n = code->plan.n_workers;
    if (n <= EVERY_COUNT_UP_TO || s <= 1 || n - s == code->wait_for) return true;
    while (s % 2 == 0) s /= 2;
    return s == 1 || s == 3;
}

static cog_status look_at_all(survey *s, cog_code_analysis *out) {
    const int n = s->code->plan.n_workers;
    for (int i = 0; i < n; i++) out->n_rows += is_listed(s->code, i);
    out->stragglers = calloc((size_t)out->n_rows, sizeof(*out->stragglers));
    COG_CHECK(out->stragglers != NULL, COG_ERR_MEMORY, "no memory for %d rows", out->n_rows);
    cog_straggler_facts *row = out->stragglers;
    for (int i = 0; i < n; i++)
        if (is_listed(s->code, i)) COG_TRY(look_at(s, i, row++));
    return COG_OK;
}

/* ------------------------------------------------------------------------ the whole */

/* What one set costs; a code whose decoder solves systems pays for them twice. */
static void plan_effort(survey *s) {
    const cog_plan *plan = &s->code->plan;
    const double n = plan->n_messages, b = plan->n_blocks, k = plan->n_shards * b;
    const double solve = 4 * n * k * fmin(n, k);
    s->spans = solve <= max_span_operations;
    double cost = b * k + (double)plan->row[plan->n_messages] * b;
    cost += solve * (s->spans + (s->code->solver != NULL));
    s->max_sets = (int64_t)fmax(least_sets, fmin(max_sets, max_operations / cost));
    if (cost > max_operations_of_a_set) s->max_sets = 0;
}

static cog_status survey_stragglers(const cog_code *code, cog_code_analysis *out) {
    const cog_plan *plan = &code->plan;
    survey s = {.code = code, .mean_load = out->mean_load};
    plan_effort(&s);
    COG_TRY(cog_answers_open(code, &s.answers));
    s.miss = malloc((size_t)out->n_tasks * (size_t)plan->n_blocks * sizeof(double));
    cog_status status = COG_ERR_MEMORY;
    if (s.miss != NULL)
        status = look_at_all(&s, out);
    else
        cog_set_error(status, "no memory to analyse %d tasks", out->n_tasks);
    cog_answers_close(&s.answers);
    free(s.miss);
    return status;
}

static cog_status analyze(const cog_code *code, cog_code_analysis *out) {
    COG_TRY(cog_code_matrix_facts(&code->plan, out));
    out->n_waited = code->wait_for;
    out->communication = code->wait_for * out->message_share;
    /* first, because it tells by code->solver whether decoding solves a system */
    COG_TRY(cog_code_amplification(code, &out->amplification));
    return survey_stragglers(code, out);
}

cog_status cog_code_analyze(const cog_code *code, cog_code_analysis **out) {
    cog_code_analysis *analysis = calloc(1, sizeof(*analysis));
    COG_CHECK(analysis != NULL, COG_ERR_MEMORY, "no memory for an analysis");
    const cog_status status = analyze(code, analysis);
    if (status != COG_OK) {
        cog_code_analysis_destroy(analysis);
        return status;
    }
    *out = analysis;
    return COG_OK;
}

void cog_code_analysis_destroy(cog_code_analysis *analysis) {
    if (analysis == NULL) return;
    free(analysis->stragglers);
    free(analysis);
}
