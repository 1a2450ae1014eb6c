/* ignore.c - drop the stragglers: sum what arrived in time and rescale.
 *
 * Weights n/|F| over the answers F make the sum unbiased for a uniformly random F; late answers
 * are thrown away, so a worker that is always slow is never heard and its shard never counts.
 *
 *   wait   K, answers to wait for */
#include "../check.h"
#include "../code.h"

static cog_status build(cog_code *code, cog_spec *spec) {
    const int n = code->plan.n_workers;
    int64_t wait;
    COG_TRY(cog_spec_int(spec, "wait", n, 1, n, &wait));
    code->wait_for = (int32_t)wait;
    return cog_plan_identity(&code->plan, n);
}

static cog_status decode(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out) {
    const int n = code->plan.n_messages;
    int n_current = 0;
    for (int m = 0; m < n; m++) n_current += cog_is_current(arrivals, m);
    COG_CHECK(n_current > 0, COG_ERR_UNDECODABLE, "none of %d workers answered", n);
    for (int m = 0; m < n; m++)
        if (cog_is_current(arrivals, m)) cog_decoding_add(out, 0, m, (double)n / n_current);
    return COG_OK;
}

static double error_bound(const cog_code *code, int n_answers) {
    return cog_sampling_error(code->plan.n_workers, code->plan.n_workers, n_answers);
}

const cog_code_ops cog_code_ignore = {
    .name = "ignore",
    .summary = "uncoded; stragglers are dropped and the sum rescaled",
    .role = COG_ROLE_STAR,
    .build = build,
    .ready = cog_ready_when_enough,
    .decode = decode,
    .error_bound = error_bound,
};
