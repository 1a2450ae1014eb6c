/* answers.c - sets of answering workers, in lexicographic order or by Floyd's sampling. */
#include "answers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

/* Draws of coefficients that every set is looked at with, when there is time. */
static const double max_repeats = 100;

cog_status cog_answers_open(const cog_code *code, cog_answers *out) {
    const cog_plan *plan = &code->plan;
    memset(out, 0, sizeof(*out));
    out->plan = plan;
    out->redraws = code->redraws;
    out->worker = malloc((size_t)plan->n_workers);
    out->arrived = malloc((size_t)plan->n_messages);
    out->arrivals.n_messages = plan->n_messages;
    out->arrivals.arrived = out->arrived;
    out->decoding.capacity = cog_code_max_terms(code);
    out->decoding.terms = malloc((size_t)out->decoding.capacity * sizeof(cog_decode_term));
    if (out->worker == NULL || out->arrived == NULL || out->decoding.terms == NULL) {
        cog_answers_close(out);
        COG_FAIL(COG_ERR_MEMORY, "no memory to try sets of %d messages", plan->n_messages);
    }
    return COG_OK;
}

void cog_answers_close(cog_answers *answers) {
    free(answers->worker);
    free(answers->arrived);
    free(answers->decoding.terms);
    memset(answers, 0, sizeof(*answers));
}

static double binomial(int n, int k) {
    double product = 1;
    for (int i = 1; i <= k; i++) product *= (double)(n - k + i) / i;
    return round(product);
}

void cog_answers_begin(cog_answers *answers, int n_answers, int64_t max_sets) {
    const int n = answers->plan->n_workers;
    const double n_all = binomial(n, n_answers);
    answers->n_answers = n_answers;
    answers->n_sets = 0;
    answers->complete = n <= COG_ANSWERS_ALL_UP_TO || n_all <= (double)max_sets;
    answers->n_all = answers->complete ? (int64_t)n_all : max_sets;
    answers->max_sets = answers->n_all;
    if (answers->redraws)
        answers->max_sets *= (int64_t)fmax(1, fmin(max_repeats, (double)max_sets / n_all));
    answers->arrivals.round = 0;
    answers->rng = cog_rng_make(0, COG_STREAM_ANALYSIS, (uint32_t)n_answers, 0);
}

static void first_in_order(cog_answers *answers) {
    const size_t n = (size_t)answers->plan->n_workers, n_answers = (size_t)answers->n_answers;
    memset(answers->worker, 0, n - n_answers);
    memset(answers->worker + (n - n_answers), 1, n_answers);
}

/* The next arrangement of zeros and ones in lexicographic order: move the last one that has a zero
 * before it one place up, and turn the falling tail behind it around. */
static void next_in_order(uint8_t *worker, int n) {
    int i = n - 2;
    while (i >= 0 && !(worker[i] == 0 && worker[i + 1] == 1)) i--;
    if (i < 0) return;
    worker[i] = 1;
    worker[i + 1] = 0;
    for (int low = i + 2, high = n - 1; low < high; low++, high--) {
        const uint8_t swap = worker[low];
        worker[low] = worker[high];
        worker[high] = swap;
    }
}

static void sample(cog_rng *rng, uint8_t *worker, int n, int n_answers) {
    memset(worker, 0, (size_t)n);
    for (int last = n - n_answers; last < n; last++) {
        const uint32_t pick = cog_rng_below(rng, (uint32_t)last + 1);
        worker[worker[pick] ? (uint32_t)last : pick] = 1;
    }
}

static void update_arrivals(cog_answers *answers) {
    const cog_plan *plan = answers->plan;
    answers->arrivals.n_arrived = 0;
    for (int m = 0; m < plan->n_messages; m++)
        answers->arrivals.n_arrived += answers->arrived[m] = answers->worker[plan->owner[m]];
    answers->arrivals.n_missing = plan->n_messages - answers->arrivals.n_arrived;
}

bool cog_answers_next(cog_answers *answers) {
    const int n = answers->plan->n_workers;
    if (answers->n_sets == answers->max_sets) return false;
    if (!answers->complete)
        sample(&answers->rng, answers->worker, n, answers->n_answers);
    else if (answers->n_sets % answers->n_all == 0)
        first_in_order(answers);
    else
        next_in_order(answers->worker, n);
    if (answers->redraws) answers->arrivals.round = answers->n_sets;
    answers->n_sets++;
    update_arrivals(answers);
    return true;
}

void cog_answers_run(cog_answers *answers, int first, int n_stragglers) {
    const int n = answers->plan->n_workers;
    memset(answers->worker, 1, (size_t)n);
    for (int i = 0; i < n_stragglers; i++) answers->worker[(first + i) % n] = 0;
    update_arrivals(answers);
}
