/* code.h - what a code family provides. One family is one file in codes/. */
#ifndef COG_HOST_CODE_H
#define COG_HOST_CODE_H

#include <stddef.h>

#include "cograd/code.h"
#include "spec.h"

/* What the server does with a message that answers an older round. */
typedef enum cog_late { COG_LATE_DROP, COG_LATE_APPLY } cog_late;

/* Who talks to whom: messages to a server, or an all-reduce among the workers. */
typedef enum cog_role { COG_ROLE_STAR, COG_ROLE_ALLREDUCE } cog_role;

typedef struct cog_code_ops {
    const char *name;
    const char *summary; /* one line for `cograd info` */
    cog_role role;

    /* Fill code->plan, code->wait_for, code->late when late messages are of use, and code->state
     * when the family needs memory. */
    cog_status (*build)(cog_code *code, cog_spec *spec);
    /* (optional) default frees code->state */
    void (*destroy)(cog_code *code);
    /* (optional) Coefficient of a term in `round`, same support, plan.coef[term] in round 0; a
     * function of the seed alone, so that server and workers agree without talking. Asked only when
     * code->redraws, else it is plan.coef[term]. */
    double (*coef)(const cog_code *code, int64_t round, int32_t term);
    bool (*ready)(const cog_code *code, const cog_arrivals *arrivals);
    cog_status (*decode)(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out);
    /* (optional) Closed form of the mean decoding error, relative to the target, over uniformly
     * random sets of n_answers workers, or a bound on it; NAN when none is known. */
    double (*error_bound)(const cog_code *code, int n_answers);
} cog_code_ops;

struct cog_code {
    const cog_code_ops *ops;
    cog_plan plan;
    cog_late late;             /* default COG_LATE_DROP */
    int32_t wait_for;          /* messages that make most families ready */
    bool keeps_messages;       /* decode may use messages that arrived in earlier rounds */
    bool redraws;              /* ops->coef depends on the round; then `late` must be DROP */
    bool bf16;                 /* all-reduce codes: the wire carries bf16 */
    void *state;               /* freed with free(); NULL when unused */
    struct cog_solver *solver; /* workspace of cog_decode_least_squares */
};

static inline double cog_code_coef(const cog_code *code, int64_t round, int32_t term) {
    return code->redraws ? code->ops->coef(code, round, term) : code->plan.coef[term];
}

/* Builder used by every family: append messages in the order of their owners, and terms
 * message by message. */
cog_status cog_plan_begin(cog_plan *plan, int n_workers, int n_messages, int n_shards, int n_blocks,
                          int64_t max_terms);
void cog_plan_message(cog_plan *plan, int message, int owner);
void cog_plan_term(cog_plan *plan, int message, int part, double coef);

/* One shard and one message a worker, coefficient 1, full length: the plan of uncoded families. */
cog_status cog_plan_identity(cog_plan *plan, int n_workers);

/* ready() shared by the families that just count: wait_for messages arrived, or every message
 * that is not declined (then decode may refuse, and the round is skipped). */
bool cog_ready_when_enough(const cog_code *code, const cog_arrivals *arrivals);

/* decode() for families without a closed form: for every block, the minimum-norm combination of
 * the current (age 0) rows closest to the sum over shards of that block.
 * ERR_UNDECODABLE when the squared miss of some block exceeds tolerance * n_shards; INFINITY
 * accepts any. The first call allocates its workspace, later ones do not; one call at a time
 * per code. */
cog_status cog_decode_least_squares(const cog_code *code, const cog_arrivals *arrivals,
                                    double tolerance, cog_decoding *out);

/* Mean relative error of (k/K) sum of c c^T over K of n unit codewords c, drawn without
 * replacement, with sum of all c c^T = (n/k) I:  (k-1)(n-K) / (K(n-1)). It does not depend on
 * coherence. Derivation: the terms k c c^T have mean I and spread k(k-1) in squared Frobenius norm;
 * a sample mean without replacement divides that by K and multiplies it by (n-K)/(n-1). NAN for K =
 * 0. */
double cog_sampling_error(double n, double k, double n_answers);

/* The tolerance of exact codes: far above rounding (1e-24 at an amplification of 1e4), far below
 * the miss of a set that does not determine the gradient. */
#define COG_EXACT_TOLERANCE 1e-16

/* Families with random coefficients: draw(code, attempt) fills the coefficients of a finished plan,
 * ERR_UNDECODABLE when they are unusable; the attempt of least amplification is kept. wait_for and
 * state are set before. ERR_ARGUMENT when none of them leaves single-precision messages exact. */
typedef cog_status (*cog_draw_fn)(cog_code *code, uint32_t attempt);
cog_status cog_plan_keep_best(cog_code *code, int n_attempts, cog_draw_fn draw);

/* True when message m arrived and answers the current round. */
static inline bool cog_is_current(const cog_arrivals *arrivals, int m) {
    return arrivals->arrived[m] && (arrivals->age == NULL || arrivals->age[m] == 0);
}

static inline void cog_decoding_add(cog_decoding *out, int block, int message, double weight) {
    out->terms[out->count++] = (cog_decode_term){block, message, weight};
}

#endif
