/* replica.h - a copy of the parameters, and the one way they change: a round's decoded update.
 *
 * The server's parameters and every worker's copy are replicas. A round's update is a list of
 * (message payload, block, weight); applying the same list gives the same bits everywhere, so
 * the server may send a worker the few payloads it used instead of all parameters.
 *
 *     for every parameter      g = sum over the list, in order, of weight * decoded value
 *                              optimizer step along g
 *
 * taken tile by tile: one pass over the parameters, or over the touched positions alone when
 * messages are sparse and the optimizer leaves untouched ones alone.
 *
 * Wire format of one round (little endian, 4-byte aligned): int32 n_messages, then for each message
 * int32 row, int32 n_terms, uint32 payload bytes, n_terms times {int32 block, float weight},
 * payload padded to 4.
 */
#ifndef COG_HOST_REPLICA_H
#define COG_HOST_REPLICA_H

#include "compress.h"
#include "optimizer.h"

typedef struct cog_replica cog_replica;

/* All messages have block_len entries and the quantizer's format; block a of the parameters
 * starts at a * block_len. max_terms bounds the (message, block) pairs of one round. */
cog_status cog_replica_open(const char *optimizer, const cog_quantizer *quantizer,
                            cog_device *device, int64_t block_len, int32_t n_blocks,
                            int32_t max_messages, int32_t max_terms, cog_replica **out);
void cog_replica_close(cog_replica *replica); /* accepts NULL */

float *cog_replica_params(cog_replica *replica); /* [n_blocks * block_len] device memory */

/* Append the wire format of one message to a round under construction. */

/* Apply one round in wire format, from a stranger: checked as it is read. *used is the bytes it
 * took. ERR_FORMAT for a damaged round; the parameters are then undefined. */
cog_status cog_replica_apply(cog_replica *replica, int64_t round, const void *wire, size_t bytes,
                             size_t *used);

/* Apply a dense gradient [n_params] (all-reduce). */
cog_status cog_replica_step(cog_replica *replica, int64_t round, const float *gradient);

#endif
