/* kasync.c - K-async SGD, uncoded: one shard a worker, move on after any K answers.
 *
 * Late answers are not lost: they count in the round in which they arrive, as gradients of an
 * older iterate (Dutta, Wang, Joshi, "Slow and stale gradients can win the race", 2021). Weights
 * n/|F| over what arrived keep the scale of the sum. K = 1 is fully asynchronous; K = n is
 * synchronous. Fast workers are heard more often than slow ones, so when shards differ the
 * direction is biased towards the shards of the fast.
 *
 *   k   K, answers to wait for */
#include "../check.h"
#include "../code.h"

static cog_status build(cog_code *code, cog_spec *spec) {
    const int n = code->plan.n_workers;
    int64_t k;
    COG_TRY(cog_spec_int(spec, "k", n, 1, n, &k));
    code->wait_for = (int32_t)k;
    code->late = COG_LATE_APPLY;
    return cog_plan_identity(&code->plan, n);
}

static cog_status decode(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out) {
    const int n = code->plan.n_messages;
    COG_CHECK(arrivals->n_arrived > 0, COG_ERR_UNDECODABLE, "none of %d workers answered", n);
    for (int m = 0; m < n; m++)
        if (arrivals->arrived[m]) cog_decoding_add(out, 0, m, (double)n / arrivals->n_arrived);
    return COG_OK;
}

static double error_bound(const cog_code *code, int n_answers) {
    return cog_sampling_error(code->plan.n_workers, code->plan.n_workers, n_answers);
}

const cog_code_ops cog_code_kasync = {
    .name = "kasync",
    .summary = "uncoded; steps after any k answers, late ones count later",
    .role = COG_ROLE_STAR,
    .build = build,
    .ready = cog_ready_when_enough,
    .decode = decode,
    .error_bound = error_bound,
};
