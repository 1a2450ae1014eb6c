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
    cog_late late;
    cog_role role;

    /* Fill code->plan, code->wait_for, and code->state when the family needs memory. */
    cog_status (*build)(cog_code *code, cog_spec *spec);
    /* (optional) default frees code->state */
    void (*destroy)(cog_code *code);
    /* (optional) Coefficient of a term in `round`, same support; a function of the seed alone,
     * so that server and workers agree without talking. Default is plan.coef[term]. */
    double (*coef)(const cog_code *code, int64_t round, int32_t term);
    bool (*ready)(const cog_code *code, const cog_arrivals *arrivals);
    cog_status (*decode)(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out);
} cog_code_ops;

struct cog_code {
    const cog_code_ops *ops;
    cog_plan plan;
    int32_t wait_for;    /* messages that make most families ready */
    bool keeps_messages; /* decode may use messages that arrived in earlier rounds */
    bool bf16;           /* all-reduce codes: the wire carries bf16 */
    void *state;         /* freed with free(); NULL when unused */
};

static inline double cog_code_coef(const cog_code *code, int64_t round, int32_t term) {
    return code->ops->coef != NULL ? code->ops->coef(code, round, term) : code->plan.coef[term];
}

/* Builder used by every family: append messages in the order of their owners, and terms
 * message by message. */
cog_status cog_plan_begin(cog_plan *plan, int n_workers, int n_messages, int n_shards, int n_blocks,
                          int64_t max_terms);
void cog_plan_message(cog_plan *plan, int message, int owner);
void cog_plan_term(cog_plan *plan, int message, int part, double coef);

/* ready() shared by the families that just count: wait_for messages arrived, or every message
 * that is not declined. */
bool cog_ready_when_enough(const cog_code *code, const cog_arrivals *arrivals);

/* decode() for families without a closed form: for every block, the minimum-norm combination of
 * the current (age 0) rows closest to the sum over shards of that block.
 * ERR_UNDECODABLE when the squared miss of some block exceeds tolerance * n_shards; INFINITY
 * accepts any. */
cog_status cog_decode_least_squares(const cog_code *code, const cog_arrivals *arrivals,
                                    double tolerance, cog_decoding *out);

static inline void cog_decoding_add(cog_decoding *out, int block, int message, double weight) {
    out->terms[out->count++] = (cog_decode_term){block, message, weight};
}

#endif
