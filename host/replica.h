/* replica.h - a copy of the parameters, and the one way they change.
 *
 * The server's parameters and every worker's copy are replicas. Applying the same update gives
 * the same bits on all of them:
 *
 *     for every parameter    g = sum over the update, in order, of weight * decoded value
 *                            one optimizer step along g
 *
 * tile by tile in one pass over the parameters, or over the touched positions alone when the
 * messages are sparse and the optimizer leaves untouched parameters alone (plain SGD). An update
 * without messages is no step. On a GPU that is one copy of the update and one launch, with the
 * same bits.
 */
#ifndef COG_HOST_REPLICA_H
#define COG_HOST_REPLICA_H

#include "optimizer.h"
#include "update.h"

typedef struct cog_replica cog_replica;

/* Block a of the parameters starts at a * quantizer->n. */
cog_status cog_replica_open(const char *optimizer, const cog_quantizer *quantizer,
                            cog_device *device, int32_t n_blocks, cog_replica **out);
void cog_replica_close(cog_replica *replica); /* accepts NULL */

/* Room for updates of so many messages and terms, so that rounds up to there allocate nothing. */
cog_status cog_replica_reserve(cog_replica *replica, int32_t n_messages, int32_t n_terms);

float *cog_replica_params(cog_replica *replica); /* [n_blocks * n] device memory */
int64_t cog_replica_n_params(const cog_replica *replica);
cog_optimizer *cog_replica_optimizer(cog_replica *replica);

cog_status cog_replica_apply(cog_replica *replica, int64_t round, const cog_update *update);

/* One step along a dense gradient [n_params]: the all-reduce's way. */
cog_status cog_replica_step(cog_replica *replica, int64_t round, const float *gradient);

/* The parameters rounded to bf16, out of and into host memory [n_params]. keep: a device rounds
 * them in the pass of every step from now on, into memory that is allocated now. */
cog_status cog_replica_keep_bf16(cog_replica *replica);
cog_status cog_replica_read_bf16(cog_replica *replica, uint16_t *out);
cog_status cog_replica_write_bf16(cog_replica *replica, const uint16_t *values);

/* To be called when the parameters were written otherwise. */
void cog_replica_changed(cog_replica *replica);

#endif
