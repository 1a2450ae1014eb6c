/* replication.c - block replication: LWPD's comparator with messages of the same size.
 *
 * k = blocks x shards tasks, a task being one output group on one shard; worker w computes task
 * w mod k alone, so a task has r = n/k copies:
 *     n = 8, blocks 2, shards 2     workers 0..3: tasks 0 1 2 3     workers 4..7: tasks 0 1 2 3
 *
 * Which decoder is right for a uniformly random set of K answers? A task is heard with
 * probability P = 1 - C(n-r, K)/C(n, K).
 *   average   mean of the copies that arrived, divided by P: unbiased, mean-square error
 *             (1-P)/P relative to independent task gradients; second copies are not counted twice
 *   sum       (k/K) times every copy, LWPD's transpose decoder with unit codewords: unbiased,
 *             (k-1)(n-K)/(K(n-1)), exactly that of LWPD
 * Both are exact when all answer. The average is never worse, so at equal message size an LWPD
 * code under transpose decoding loses to replication in mean-square error as soon as copies
 * are averaged: n = 8, K = 4: .2727 against .4286.
 *
 * Late answers are applied, as for LWPD.
 *
 *   blocks    output groups                 shards   data shards, default n/(2 blocks): two copies
 *   wait      K, answers to wait for        decoder  average | sum */
#include <math.h>
#include <stdlib.h>

#include "../check.h"
#include "../code.h"

typedef enum decoder { AVERAGE, SUM } decoder;

typedef struct state {
    decoder decoder;
    int32_t n_tasks;
} state;

static int n_copies(const cog_code *code) {
    const state *s = code->state;
    return code->plan.n_workers / s->n_tasks;
}

static cog_status read_keys(cog_code *code, cog_spec *spec, int64_t *blocks, int64_t *shards) {
    static const char *const decoders[] = {"average", "sum", NULL};
    const int n = code->plan.n_workers;
    int64_t wait;
    int kind;
    COG_TRY(cog_spec_int(spec, "blocks", 2, 1, 4096, blocks));
    const int64_t two_copies = n / (2 * *blocks);
    COG_TRY(cog_spec_int(spec, "shards", two_copies > 0 ? two_copies : 1, 1, n, shards));
    COG_TRY(cog_spec_int(spec, "wait", n, 1, n, &wait));
    COG_TRY(cog_spec_choice(spec, "decoder", decoders, &kind));
    COG_CHECK(n % (*blocks * *shards) == 0, COG_ERR_ARGUMENT,
              "blocks x shards = %lld x %lld = %lld tasks must divide %d workers",
              (long long)*blocks, (long long)*shards, (long long)(*blocks * *shards), n);
    state *s = code->state;
    s->decoder = (decoder)kind;
    s->n_tasks = (int32_t)(*blocks * *shards);
    code->wait_for = (int32_t)wait;
    code->late = COG_LATE_APPLY;
    return COG_OK;
}

static cog_status build(cog_code *code, cog_spec *spec) {
    const int n = code->plan.n_workers;
    code->state = calloc(1, sizeof(state));
    COG_CHECK(code->state != NULL, COG_ERR_MEMORY, "no memory for a code");
    int64_t blocks, shards;
    COG_TRY(read_keys(code, spec, &blocks, &shards));
    COG_TRY(cog_plan_begin(&code->plan, n, n, (int)shards, (int)blocks, n));
    for (int w = 0; w < n; w++) {
        cog_plan_message(&code->plan, w, w);
        cog_plan_term(&code->plan, w, w % (int)(blocks * shards), 1.0);
    }
    return COG_OK;
}

/* P: 1 - product over the r copies of the chance that each is among the n - K that miss. */
static double chance_heard(const cog_code *code, int n_answers) {
    const int n = code->plan.n_workers;
    double missed = 1;
    for (int i = 0; i < n_copies(code); i++) missed *= (double)(n - n_answers - i) / (n - i);
    return 1 - fmax(missed, 0);
}

static int copies_arrived(const cog_code *code, const cog_arrivals *arrivals, int task) {
    const state *s = code->state;
    int count = 0;
    for (int m = task; m < code->plan.n_messages; m += s->n_tasks) count += arrivals->arrived[m];
    return count;
}

static cog_status decode(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out) {
    const state *s = code->state;
    const int n = code->plan.n_messages;
    COG_CHECK(arrivals->n_arrived > 0, COG_ERR_UNDECODABLE, "none of %d workers answered", n);
    const double heard = chance_heard(code, arrivals->n_arrived);
    for (int m = 0; m < n; m++) {
        if (!arrivals->arrived[m]) continue;
        const int task = m % s->n_tasks;
        const double weight = s->decoder == SUM
                                  ? (double)s->n_tasks / arrivals->n_arrived
                                  : 1 / (heard * copies_arrived(code, arrivals, task));
        cog_decoding_add(out, task % code->plan.n_blocks, m, weight);
    }
    return COG_OK;
}

static double error_bound(const cog_code *code, int n_answers) {
    const state *s = code->state;
    if (s->decoder == SUM) return cog_sampling_error(code->plan.n_workers, s->n_tasks, n_answers);
    const double heard = chance_heard(code, n_answers);
    return n_answers < 1 ? NAN : (1 - heard) / heard;
}

const cog_code_ops cog_code_replication = {
    .name = "replication",
    .summary = "gradient blocks, each on several workers; copies are averaged",
    .role = COG_ROLE_STAR,
    .build = build,
    .ready = cog_ready_when_enough,
    .decode = decode,
    .error_bound = error_bound,
};
