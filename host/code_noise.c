/* code_noise.c - how much decoding amplifies errors of the messages, and the choice of random
 * coefficients that amplify least. */
#include <math.h>

#include "answers.h"
#include "check.h"
#include "code.h"

/* Sampled sets, and the least-squares operations they may cost: about a second. */
static const int64_t max_sets = 1000;
static const double max_operations = 1e9;
/* While choosing among random draws. */
static const int64_t max_sets_of_a_draw = 300;
static const double max_operations_of_a_draw = 4e7;
/* Messages in single precision carry a relative error of 6e-8; its energy times this leaves the
 * gradient of an exact code wrong by 0.6 %. */
static const double max_of_exact = 1e10;

static double row_energy(const cog_code *code, int64_t round, int message) {
    double sum = 0;
    for (int t = code->plan.row[message]; t < code->plan.row[message + 1]; t++)
        sum += pow(cog_code_coef(code, round, t), 2);
    return sum;
}

static double energy(const cog_code *code, int64_t round, const cog_decoding *decoding) {
    double sum = 0;
    for (int i = 0; i < decoding->count; i++) {
        const cog_decode_term *term = &decoding->terms[i];
        sum += term->weight * term->weight * row_energy(code, round, term->message);
    }
    return sum / ((double)code->plan.n_shards * code->plan.n_blocks);
}

/* Sets that fit in the operations, when decoding solves a system (known after the first). */
static int64_t affordable(const cog_code *code, int64_t sets, double operations) {
    const double m = code->plan.n_messages;
    const double k = (double)code->plan.n_shards * code->plan.n_blocks;
    if (code->solver == NULL) return sets;
    const double cost = 4 * m * k * fmin(m, k), least = cost > max_operations ? 1 : 8;
    return (int64_t)fmax(least, fmin((double)sets, operations / cost));
}

static cog_status include_set(const cog_code *code, cog_answers *answers, double *worst) {
    COG_TRY(cog_code_decode(code, &answers->arrivals, &answers->decoding));
    *worst = fmax(*worst, energy(code, answers->arrivals.round, &answers->decoding));
    return COG_OK;
}

/* Workers whose messages make wait_for. */
static int n_waited(const cog_code *code) {
    const int64_t n = code->plan.n_workers, m = code->plan.n_messages;
    return (int)((code->wait_for * n + m - 1) / m);
}

static cog_status worst_energy(const cog_code *code, cog_answers *answers, int64_t sets,
                               double operations, double *out) {
    const int n = code->plan.n_workers, n_stragglers = n - n_waited(code);
    double worst = 0;
    cog_answers_begin(answers, n - n_stragglers, sets);
    while (cog_answers_next(answers)) {
        const bool is_needed = answers->complete && answers->n_sets <= answers->n_all;
        if (!is_needed && answers->n_sets > affordable(code, sets, operations)) break;
        COG_TRY(include_set(code, answers, &worst));
    }
    const int n_runs = (int)fmin(n, (double)affordable(code, sets, operations));
    for (int run = 0; run < n_runs && !answers->complete; run++) {
        cog_answers_run(answers, (int)((int64_t)run * n / n_runs), n_stragglers);
        COG_TRY(include_set(code, answers, &worst));
    }
    *out = worst;
    return COG_OK;
}

static cog_status amplification(const cog_code *code, int64_t sets, double operations,
                                double *out) {
    cog_answers answers;
    COG_TRY(cog_answers_open(code, &answers));
    const cog_status status = worst_energy(code, &answers, sets, operations, out);
    cog_answers_close(&answers);
    return status;
}

cog_status cog_code_amplification(const cog_code *code, double *out) {
    return amplification(code, max_sets, max_operations, out);
}

cog_status cog_plan_keep_best(cog_code *code, int n_attempts, cog_draw_fn draw) {
    double least = INFINITY;
    uint32_t best = 0;
    for (uint32_t attempt = 0; attempt < (uint32_t)n_attempts; attempt++) {
        double noise = INFINITY;
        cog_status status = draw(code, attempt);
        if (status == COG_OK)
            status = amplification(code, max_sets_of_a_draw, max_operations_of_a_draw, &noise);
        if (status == COG_ERR_UNDECODABLE) continue;
        COG_TRY(status);
        if (noise >= least) continue;
        least = noise;
        best = attempt;
    }
    COG_CHECK(least <= max_of_exact, COG_ERR_ARGUMENT,
              "'%s' for %d workers waiting for %d amplifies rounding %.1g times at best (%d tried, "
              "limit %.0g): ask for fewer stragglers",
              code->ops->name, code->plan.n_workers, code->wait_for, least, n_attempts,
              max_of_exact);
    return draw(code, best);
}
