/* uncoded.c - plain data parallelism: every worker sends its shard's gradient, nobody is spared.
 *
 * The baseline of every comparison, and a real all-reduce among the workers instead of messages to
 * a server.
 *
 *   precision   fp32 | bf16, of the wire */
#include <math.h>

#include "../check.h"
#include "../code.h"

static cog_status build(cog_code *code, cog_spec *spec) {
    static const char *const precisions[] = {"fp32", "bf16", NULL};
    int precision;
    COG_TRY(cog_spec_choice(spec, "precision", precisions, &precision));
    code->bf16 = precision == 1;
    code->wait_for = code->plan.n_workers;
    return cog_plan_identity(&code->plan, code->plan.n_workers);
}

static cog_status decode(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out) {
    for (int m = 0; m < code->plan.n_messages; m++) {
        COG_CHECK(cog_is_current(arrivals, m), COG_ERR_UNDECODABLE,
                  "worker %d of %d did not answer, and nobody else holds its shard", m,
                  code->plan.n_workers);
        cog_decoding_add(out, 0, m, 1.0);
    }
    return COG_OK;
}

static double error_bound(const cog_code *code, int n_answers) {
    return n_answers == code->plan.n_workers ? 0 : NAN;
}

const cog_code_ops cog_code_uncoded = {
    .name = "uncoded",
    .summary = "all-reduce of every worker's gradient; waits for all",
    .role = COG_ROLE_ALLREDUCE,
    .build = build,
    .ready = cog_ready_when_enough,
    .decode = decode,
    .error_bound = error_bound,
};
