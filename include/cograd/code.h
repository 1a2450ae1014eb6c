/* code.h - gradient codes: who computes what, when to stop waiting, how to decode.
 *
 * The work of one round is a set of parts. Part (shard, block) is the slice `block` of the
 * parameter gradient over data shard `shard`, and has index shard * n_blocks + block. A code
 * is three things:
 *
 *   plan     a sparse matrix: message m = sum over its terms of coef * part
 *   ready    a stopping rule over the set of messages that arrived
 *   decode   weights w with  gradient[block] = sum over messages m of w * message
 *
 * Gradient coding (fractional and cyclic repetition) uses many shards and one block;
 * derivative coding (LWPD) uses many blocks; K-async is the identity matrix with an early
 * stopping rule. The engine never asks which family it runs.
 */
#ifndef COG_CODE_H
#define COG_CODE_H

#include <stdbool.h>
#include <stdint.h>

#include "cograd/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cog_code cog_code;

/* Sparse encode matrix in CSR form, one row per message. */
typedef struct cog_plan {
    int32_t n_workers;
    int32_t n_messages; /* >= n_workers; the messages of a worker are consecutive */
    int32_t n_shards;
    int32_t n_blocks;
    const int32_t *owner; /* [n_messages] worker that computes the message */
    const int32_t *first; /* [n_workers + 1] first message of each worker */
    const int32_t *row;   /* [n_messages + 1] first term of each message */
    const int32_t *part;  /* [row[n_messages]] */
    const double *coef;   /* [row[n_messages]] double: decoding amplifies rounding */
} cog_plan;

/* What the server has when it looks. */
typedef struct cog_arrivals {
    int32_t n_messages;
    int32_t n_arrived;      /* ones in `arrived` */
    int32_t n_missing;      /* messages that will not come this round: declined by their worker */
    int64_t round;          /* the round being decoded */
    const uint8_t *arrived; /* [n_messages] 1 when it arrived since the last decode */
    const uint8_t *held; /* [n_messages] 1 when any message of this row ever arrived; may be NULL:
                            as arrived */
    const int32_t *age;  /* [n_messages] rounds late, 0 is current; may be NULL: all current */
} cog_arrivals;

/* gradient[block] += weight * message, one entry per (block, message) used. */
typedef struct cog_decode_term {
    int32_t block;
    int32_t message;
    double weight;
} cog_decode_term;

typedef struct cog_decoding {
    cog_decode_term *terms; /* caller's storage */
    int32_t capacity;       /* cog_code_max_terms() always suffices */
    int32_t count;
} cog_decoding;

/* Build the code named by `spec` for `n_workers` workers.
 *   spec   "uncoded" | "ignore:wait=6" | "replication:wait=6" | "frc:stragglers=1"
 *        | "crc:stragglers=2" | "kasync:k=4" | "ye-abbe:stragglers=1,blocks=2"
 *        | "lwpd:family=ring,weight=2,decoder=transpose,wait=6"
 *        | "acgc:construction=1,structure=bibd,blocks=2" | "stochastic:copies=2,straggle=0.1"
 * ERR_SPEC       unknown family or parameter
 * ERR_ARGUMENT   parameters impossible for this number of workers */
cog_status cog_code_create(const char *spec, int n_workers, cog_code **out);
void cog_code_destroy(cog_code *code); /* accepts NULL */

const char *cog_code_name(const cog_code *code);

/* The encode matrix. Owned by the code and immutable while it lives. */
const cog_plan *cog_code_plan(const cog_code *code);

/* Room that any decoding of this code fits in. */
int32_t cog_code_max_terms(const cog_code *code);

/* True when the server may stop waiting. Monotone: stays true as more arrive. */
bool cog_code_ready(const cog_code *code, const cog_arrivals *arrivals);

/* Weights that turn the arrived messages into the gradient summed over shards, in the order of
 * messages.
 * ERR_UNDECODABLE   an exact code was asked before it was ready, or nothing arrived
 * ERR_ARGUMENT      n_messages is not the plan's, or there is not room for cog_code_max_terms()
 * Exact codes reproduce the sum to rounding. Cost is on the host and independent of n_params. */
cog_status cog_code_decode(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out);

/* Energy of independent errors in the messages, of size proportional to the messages, after
 * decoding, relative to the energy of the gradient:
 *     sum over terms of weight^2 * ||row of the message||^2 / (n_shards * n_blocks)
 * the worst over the sets of answers the code waits for: all of them up to n = 12; beyond, at most
 * 1000 random ones and the runs of neighbouring stragglers; over several rounds when coefficients
 * change with them. 1 for fractional repetition; from 10 to many thousands for cyclic repetition
 * with several stragglers, where lossy compression is therefore amplified as much. */
cog_status cog_code_amplification(const cog_code *code, double *out);

#ifdef __cplusplus
}
#endif
#endif
