/* analysis.h - what a gradient code is worth, before anything is trained with it. */
#ifndef COG_ANALYSIS_H
#define COG_ANALYSIS_H

#include <stdbool.h>
#include <stdint.h>

#include "cograd/code.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Decoding when s workers stay silent: over all sets of s stragglers up to 12 workers (or when
 * there are few), else over a random sample of 1000, fewer where sets are expensive.
 *
 * The error is || sum of weight * row - target ||^2 summed over the blocks, divided by
 * ||target||^2 = n_shards * n_blocks: the mean-square error of the gradient, relative, when the
 * parts are independent and of one size. A set that the decoder refuses counts as 1: the round
 * makes no update. Where a single set would cost seconds (systems of some 1000 workers) none is
 * looked at: n_sets is 0, and what comes from sets is NAN. Decoders that remember earlier rounds
 * are judged by what this one brought. */
typedef struct cog_straggler_facts {
    int32_t s;
    int64_t n_sets; /* looked at; all again in another round, for codes that redraw coefficients */
    bool complete;  /* they are all there are */
    double error_mean;
    double error_worst;
    double bound;             /* closed form or bound of error_mean; NAN: none known */
    double floor;             /* no code of this load, message length and n has a smaller
                                 error_worst: cog_bound_any_code; NAN: does not apply */
    double recoverable_share; /* sets whose rows span the exact gradient; NAN: too large to tell */
    double refused_share;     /* sets the decoder refuses */
} cog_straggler_facts;

/* The encode matrix C has a row a message and a column a task (part). NAN and -1 stand for "not
 * defined here" or "too large to compute". */
typedef struct cog_code_analysis {
    int32_t n_workers, n_messages, n_shards, n_blocks;
    int32_t n_tasks;      /* n_shards * n_blocks */
    int32_t n_waited;     /* messages the server waits for */
    int32_t weight;       /* most tasks in one message */
    int32_t load;         /* most shards of one worker */
    double mean_load;     /* shards of a worker on average */
    double message_share; /* length of a message over that of the gradient */
    double communication; /* gradient lengths on the wire per round: n_waited * message_share */
    int32_t rank;         /* numerical; -1: unknown */
    bool tight;           /* C'C = (n_messages / n_tasks) I */
    double coherence;     /* largest |cosine| between two rows */
    double chordal;       /* least chordal distance of two rows, sqrt(1 - coherence^2); two coded
                             values of Gaussian gradients share -log(distance) nats */
    double welch;         /* no n unit rows in k < n dimensions have a smaller coherence */
    double flat_bound;    /* the same for rows of `weight` entries of one size; NAN otherwise */
    double amplification; /* cog_code_amplification */
    int32_t n_rows;
    cog_straggler_facts *stragglers; /* [n_rows] in the order of s */
} cog_code_analysis;

/* Cost: milliseconds up to 12 workers, about a second for each row of the table beyond. */
cog_status cog_code_analyze(const cog_code *code, cog_code_analysis **out);
void cog_code_analysis_destroy(cog_code_analysis *analysis); /* accepts NULL */

#ifdef __cplusplus
}
#endif
#endif
