/* bounds.h - what is known about the error of approximate gradient codes before decoding anything.
 *
 * n workers hold delta of k shards each and send one message of 1/m of the gradient. B [m k, n] has
 * the message of worker j as column j, and a row for each part. The error of an answering set F is
 *     Err = min over R of || B_F R - T ||^2,   T [m k, m] the sums over shards of the m blocks,
 * between 0 and m k; cog_straggler_facts has it divided by m k. s = n - |F| workers are silent.
 *
 * Numbers in brackets are those of the formulas in: Munim & Ramamoorthy, communication-efficient
 * approximate gradient coding, 2026. What goes beyond them is marked as ours.
 */
#ifndef COG_BOUNDS_H
#define COG_BOUNDS_H

#include "cograd/code.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cog_bound_shape {
    int32_t n_workers; /* n */
    int32_t n_shards;  /* k */
    int32_t n_blocks;  /* m */
    int32_t degree;    /* delta */
    double eps; /* Construction 1 draws its factors from +-[1 - eps, 1 + eps], 0 <= eps < 1 */
} cog_bound_shape;

/* ------------------------------------------------------------ for any s silent workers
 *
 * Construction 1: each is at least the mean of Err over the random factors, for every set of s
 * silent workers. With c = E[X^2] E[1/X^2] = (1 + eps^2/3) / (1 - eps^2); (10) and (12) were
 * published for eps = 0, where c = 1: for eps > 0 m delta becomes delta (1 + c (m-1)), ours. */

/* (10) Any two workers share lambda shards. */
double cog_bound_bibd(const cog_bound_shape *shape, int lambda, int s);

/* (12) Workers are the vertices of a strongly regular graph and hold their neighbours' shards. */
double cog_bound_srg(const cog_bound_shape *shape, int lambda, int mu, int s);

/* (17) Every shard has n delta / k holders; published for the coset structure, where that is
 * m delta, and as good for all of them. */
double cog_bound_biregular(const cog_bound_shape *shape, int s);

/* The baseline that sends m times the same: Err itself, exactly, when any two workers share lambda
 * shards. Never below m k - k. */
double cog_bound_bibd_stacked(const cog_bound_shape *shape, int lambda, int s);

/* Ours: the same for any structure with n delta / k holders of every shard; at least Err. */
double cog_bound_biregular_stacked(const cog_bound_shape *shape, int s);

/* (21) Whatever the coefficients and the decoder, some set of s silent workers leaves Err at least
 * this large; `load` is the mean number of shards of a worker. */
double cog_bound_any_code(int n_workers, int n_shards, int n_blocks, double load, int s);

/* --------------------------------------------------------------- for one set of answers */

/* (8) At least the mean of Err over the factors of Construction 1 on the plan's shards.
 * One message a worker. O(n^3) for n answers. */
cog_status cog_bound_answers(const cog_code *code, const cog_arrivals *arrivals, double eps,
                             double *out);

/* (20) At least Err, whatever the coefficients: B_F'B_F is replaced by the diagonal of its absolute
 * row sums. With the coefficients of arrivals->round. */
cog_status cog_bound_row_sums(const cog_code *code, const cog_arrivals *arrivals, double *out);

#ifdef __cplusplus
}
#endif
#endif
