/* channel.h - carries the messages of one row of the plan from its worker to the server.
 *
 *     trial   = message + error                  (error feedback; without it error = 0)
 *     payload = pack(trial)                      leaves  residual = trial - decoded(payload)
 *     accepted:  error = residual                (a pointer swap)
 *     dropped:   nothing happened                (COCO-EF: "error vectors on the stragglers
 *                                                 remain unchanged")
 *
 * A message is settled only when the server has said whether it was used.
 */
#ifndef COG_HOST_CHANNEL_H
#define COG_HOST_CHANNEL_H

#include "compress.h"

typedef struct cog_channel cog_channel;

/* The sending end holds two vectors of n floats, the receiving end one payload. */
typedef enum cog_channel_end { COG_SENDER, COG_RECEIVER } cog_channel_end;

/* spec   quantizer spec plus "feedback=0|1" */
cog_status cog_channel_open(const char *spec, cog_device *device, int64_t n, cog_channel_end end,
                            cog_channel **out);
void cog_channel_close(cog_channel *channel); /* accepts NULL */

/* Sender: rounding and choices at random are a function of the run's seed, the message and how many
 * of its payloads were used. Without this call those of all senders are the same. */
void cog_channel_seed(cog_channel *channel, uint64_t seed, uint32_t message);

const cog_quantizer *cog_channel_quantizer(const cog_channel *channel);

/* Sender: pack sum over terms of coef * x, plus the error. n_terms < COG_MAX_TERMS. The payload
 * lies in host memory, is owned by the channel and stays until the next call. */
cog_status cog_channel_pack(cog_channel *channel, int n_terms, const cog_term *terms,
                            const void **payload, size_t *bytes);

/* Sender: was the pending message used? Without a pending message nothing happens. */
void cog_channel_settle(cog_channel *channel, bool accepted);

/* Sender: what is still owed to the server, [n]; NULL without feedback. */
const float *cog_channel_error(const cog_channel *channel);

/* Receiver: check a payload from the wire and keep a copy. */
cog_status cog_channel_receive(cog_channel *channel, const void *payload, size_t bytes);

/* Receiver: the payload kept, in host memory; NULL before the first. */
const void *cog_channel_payload(const cog_channel *channel, size_t *bytes);

#endif
