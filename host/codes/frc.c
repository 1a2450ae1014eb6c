/* frc.c - fractional repetition code (Tandon, Lei, Dimakis, Karampatziakis, ICML 2017).
 *
 * Workers form s+1 groups of n/(s+1). Inside a group every worker holds s+1 different shards and
 * the group together holds all of them, so any complete group gives the gradient by addition:
 *
 *     n = 6, s = 1     group 0 (workers 0 1 2):  {0,1} {2,3} {4,5}
 *                      group 1 (workers 3 4 5):  {0,1} {2,3} {4,5}
 *
 * The groups are copies, so a complete one may be put together from workers of several: one
 * answer for every shard set is enough. n-s answers always are; lucky n/(s+1) may be; and when a
 * shard set is missing nothing can replace it, so the code refuses exactly when it must.
 *
 *   stragglers   s, slow workers that never matter; s+1 must divide n */
#include <math.h>

#include "../check.h"
#include "../code.h"

static int n_sets(const cog_code *code) {
    const int copies = code->plan.row[1]; /* s+1 shards a worker, and as many groups */
    return code->plan.n_workers / copies;
}

static cog_status build(cog_code *code, cog_spec *spec) {
    const int n = code->plan.n_workers;
    int64_t stragglers;
    COG_TRY(cog_spec_int(spec, "stragglers", 1, 0, n - 1, &stragglers));
    const int copies = (int)stragglers + 1;
    COG_CHECK(n % copies == 0, COG_ERR_ARGUMENT, "stragglers + 1 = %d must divide %d workers",
              copies, n);
    code->wait_for = n - (int)stragglers;
    COG_TRY(cog_plan_begin(&code->plan, n, n, n, 1, (int64_t)n * copies));
    for (int w = 0; w < n; w++) {
        cog_plan_message(&code->plan, w, w);
        for (int i = 0; i < copies; i++)
            cog_plan_term(&code->plan, w, w % (n / copies) * copies + i, 1.0);
    }
    return COG_OK;
}

/* The first message at hand of a shard set, or -1. */
static int first_of_set(const cog_code *code, const cog_arrivals *arrivals, int set) {
    for (int m = set; m < code->plan.n_messages; m += n_sets(code))
        if (cog_is_current(arrivals, m)) return m;
    return -1;
}

static int missing_set(const cog_code *code, const cog_arrivals *arrivals) {
    for (int set = 0; set < n_sets(code); set++)
        if (first_of_set(code, arrivals, set) < 0) return set;
    return -1;
}

static bool ready(const cog_code *code, const cog_arrivals *arrivals) {
    const bool may_suffice =
        arrivals->n_arrived >= n_sets(code); /* else there is no need to look */
    return (may_suffice && missing_set(code, arrivals) < 0) ||
           arrivals->n_arrived + arrivals->n_missing >= arrivals->n_messages;
}

static cog_status decode(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out) {
    const int missing = missing_set(code, arrivals);
    COG_CHECK(missing < 0, COG_ERR_UNDECODABLE, "nobody who holds shards %d..%d answered",
              missing * code->plan.row[1], (missing + 1) * code->plan.row[1] - 1);
    for (int m = 0; m < code->plan.n_messages; m++)
        if (first_of_set(code, arrivals, m % n_sets(code)) == m) cog_decoding_add(out, 0, m, 1.0);
    return COG_OK;
}

static double error_bound(const cog_code *code, int n_answers) {
    return n_answers >= code->wait_for ? 0 : NAN;
}

const cog_code_ops cog_code_frc = {
    .name = "frc",
    .summary = "fractional repetition: exact while s workers straggle, groups of copies",
    .role = COG_ROLE_STAR,
    .build = build,
    .ready = ready,
    .decode = decode,
    .error_bound = error_bound,
};
