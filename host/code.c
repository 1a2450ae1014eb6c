/* code.c - the public face of codes, the plan builder, and the rule that counts answers. */
#include "code.h"

#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "code_solve.h"
#include "registry.h"

/* One bit a message in the frame header that says which were accepted. */
enum { MAX_WORKERS = 1 << 20, MAX_MESSAGES_OF_A_WORKER = 64 };

/* ------------------------------------------------------------------ public face */

static cog_status check_terms(const cog_code *code) {
    const cog_plan *plan = &code->plan;
    const int n_parts = plan->n_shards * plan->n_blocks;
    for (int t = 0; t < plan->row[plan->n_messages]; t++) {
        COG_CHECK(plan->part[t] >= 0 && plan->part[t] < n_parts, COG_ERR_ARGUMENT,
                  "'%s' names part %d of %d", code->ops->name, plan->part[t], n_parts);
        COG_CHECK(isfinite(plan->coef[t]), COG_ERR_ARGUMENT, "'%s' has a coefficient that is %f",
                  code->ops->name, plan->coef[t]);
    }
    return COG_OK;
}

/* What every user of a plan relies on, checked once: families are plug-ins. */
static cog_status check_plan(const cog_code *code) {
    const cog_plan *plan = &code->plan;
    for (int w = 0; w < plan->n_workers; w++) {
        const int count = plan->first[w + 1] - plan->first[w];
        COG_CHECK(count >= 1 && count <= MAX_MESSAGES_OF_A_WORKER, COG_ERR_ARGUMENT,
                  "'%s' gives worker %d %d messages, outside 1..%d", code->ops->name, w, count,
                  MAX_MESSAGES_OF_A_WORKER);
        for (int m = plan->first[w]; m < plan->first[w + 1]; m++)
            COG_CHECK(plan->owner[m] == w && plan->row[m + 1] > plan->row[m], COG_ERR_ARGUMENT,
                      "message %d of '%s' is empty or out of order", m, code->ops->name);
    }
    COG_CHECK(code->wait_for >= 1 && code->wait_for <= plan->n_messages, COG_ERR_ARGUMENT,
              "'%s' waits for %d of %d messages", code->ops->name, code->wait_for,
              plan->n_messages);
    COG_CHECK(!code->redraws || (code->ops->coef != NULL && code->late == COG_LATE_DROP),
              COG_ERR_ARGUMENT, "'%s' changes its coefficients and uses late messages",
              code->ops->name);
    return check_terms(code);
}

static cog_status build(cog_code *code, cog_spec *spec) {
    COG_TRY(code->ops->build(code, spec));
    COG_TRY(cog_spec_finish(spec));
    return check_plan(code);
}

cog_status cog_code_create(const char *text, int n_workers, cog_code **out) {
    COG_CHECK(n_workers >= 1 && n_workers <= MAX_WORKERS, COG_ERR_ARGUMENT,
              "a code is for 1..%d workers, not %d", MAX_WORKERS, n_workers);
    cog_spec spec;
    COG_TRY(cog_spec_parse(text, &spec));
    const cog_code_ops *ops;
    COG_TRY(cog_find_code(spec.name, &ops));

    cog_code *code = calloc(1, sizeof(*code));
    COG_CHECK(code != NULL, COG_ERR_MEMORY, "no memory for a code");
    code->ops = ops;
    code->plan.n_workers = n_workers;
    const cog_status status = build(code, &spec);
    if (status != COG_OK) {
        cog_code_destroy(code);
        return status;
    }
    *out = code;
    return COG_OK;
}

void cog_code_destroy(cog_code *code) {
    if (code == NULL) return;
    if (code->ops->destroy != NULL)
        code->ops->destroy(code);
    else
        free(code->state);
    cog_solver_close(code->solver);
    free((void *)code->plan.owner);
    free((void *)code->plan.first);
    free((void *)code->plan.row);
    free((void *)code->plan.part);
    free((void *)code->plan.coef);
    free(code);
}

const char *cog_code_name(const cog_code *code) { return code->ops->name; }

const cog_plan *cog_code_plan(const cog_code *code) { return &code->plan; }

int32_t cog_code_max_terms(const cog_code *code) {
    return code->plan.n_messages * code->plan.n_blocks;
}

bool cog_code_ready(const cog_code *code, const cog_arrivals *arrivals) {
    return code->ops->ready(code, arrivals);
}

cog_status cog_code_decode(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out) {
    COG_CHECK(arrivals->n_messages == code->plan.n_messages, COG_ERR_ARGUMENT,
              "arrivals speak of %d messages, the code '%s' has %d", arrivals->n_messages,
              code->ops->name, code->plan.n_messages);
    COG_CHECK(out->capacity >= cog_code_max_terms(code), COG_ERR_ARGUMENT,
              "decoding needs room for %d terms, there is room for %d", cog_code_max_terms(code),
              out->capacity);
    out->count = 0;
    const cog_status status = code->ops->decode(code, arrivals, out);
    if (status != COG_OK) out->count = 0;
    return status;
}

/* ----------------------------------------------------------------- plan builder */

static cog_status check_size(int n_workers, int n_messages, int n_shards, int n_blocks,
                             int64_t max_terms) {
    COG_CHECK(n_messages >= n_workers && n_shards >= 1 && n_blocks >= 1 && max_terms >= 1,
              COG_ERR_ARGUMENT, "a plan of %d messages of %d workers, %d shards and %d blocks",
              n_messages, n_workers, n_shards, n_blocks);
    COG_CHECK(max_terms < INT32_MAX && (int64_t)n_shards * n_blocks < INT32_MAX &&
                  (int64_t)n_messages * n_blocks < INT32_MAX,
              COG_ERR_ARGUMENT, "a plan of %lld terms and %d x %d parts is too large to number",
              (long long)max_terms, n_shards, n_blocks);
    return COG_OK;
}

cog_status cog_plan_begin(cog_plan *plan, int n_workers, int n_messages, int n_shards, int n_blocks,
                          int64_t max_terms) {
    COG_TRY(check_size(n_workers, n_messages, n_shards, n_blocks, max_terms));
    plan->n_workers = n_workers;
    plan->n_messages = n_messages;
    plan->n_shards = n_shards;
    plan->n_blocks = n_blocks;
    plan->owner = calloc((size_t)n_messages, sizeof(int32_t));
    plan->first = calloc((size_t)n_workers + 1, sizeof(int32_t));
    plan->row = calloc((size_t)n_messages + 1, sizeof(int32_t));
    plan->part = calloc((size_t)max_terms, sizeof(int32_t));
    plan->coef = calloc((size_t)max_terms, sizeof(double));
    COG_CHECK(plan->owner && plan->first && plan->row && plan->part && plan->coef, COG_ERR_MEMORY,
              "no memory for a plan of %lld terms", (long long)max_terms);
    return COG_OK;
}

void cog_plan_message(cog_plan *plan, int message, int owner) {
    ((int32_t *)plan->owner)[message] = owner;
    ((int32_t *)plan->first)[owner + 1] = message + 1;
    ((int32_t *)plan->row)[message + 1] = plan->row[message];
}

void cog_plan_term(cog_plan *plan, int message, int part, double coef) {
    const int32_t at = ((int32_t *)plan->row)[message + 1]++;
    ((int32_t *)plan->part)[at] = part;
    ((double *)plan->coef)[at] = coef;
}

cog_status cog_plan_identity(cog_plan *plan, int n_workers) {
    COG_TRY(cog_plan_begin(plan, n_workers, n_workers, n_workers, 1, n_workers));
    for (int w = 0; w < n_workers; w++) {
        cog_plan_message(plan, w, w);
        cog_plan_term(plan, w, w, 1.0);
    }
    return COG_OK;
}

/* -------------------------------------------------------- shared by the families */

bool cog_ready_when_enough(const cog_code *code, const cog_arrivals *arrivals) {
    return arrivals->n_arrived >= code->wait_for ||
           arrivals->n_arrived + arrivals->n_missing >= arrivals->n_messages;
}

double cog_sampling_error(double n, double k, double n_answers) {
    return n_answers < 1 ? NAN : (k - 1) * (n - n_answers) / (n_answers * (n - 1));
}
