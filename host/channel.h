/* channel.h - carries the messages of one row of the plan from its worker to the server.
 *
 *     trial   = message + error - expected       (each where there is one, else 0)
 *     payload = pack(trial)                      leaves  residual = trial - decoded(payload)
 *     accepted:  error = residual                (a pointer swap)
 *     dropped:   nothing happened                (COCO-EF: "error vectors on the stragglers
 *                                                 remain unchanged")
 *
 * A message is settled, at both ends, only when the server has said whether it was used.
 *
 * A channel is a quantizer and, each if wanted: error feedback; a predictor (predict.h), whose
 * estimate of the message both ends remember; momentum correction with factor masking (DGC; Lin,
 * Han, Mao, Wang, Dally 2018), where u = momentum u + message is sent in place of the message, and
 * what of it was sent is taken out of u as well as out of the error; a warm-up, the rounds in which
 * every entry is sent as fp32.
 *
 * With a predictor or a warm-up a message on the wire is
 *     float coefs[], one byte of flags, the quantizer's payload when the prediction did not suffice
 * and what the receiver hands out is a dense vector, as a payload of the quantizer `identity`.
 *
 * Where the quantizer has no kernels for the device, and with momentum, warm-ups, and predictors
 * whose prediction the quantizer itself wants, messages are brought to host memory and packed
 * there. Other predictions are made on the device, and what does not fire stays there.
 */
#ifndef COG_HOST_CHANNEL_H
#define COG_HOST_CHANNEL_H

#include "blob.h"
#include "compress.h"

typedef struct cog_channel cog_channel;

/* The sending end holds two vectors of n floats, the receiving end one payload; predictors and
 * momentum more. */
typedef enum cog_channel_end { COG_SENDER, COG_RECEIVER } cog_channel_end;

/* spec   quantizer spec plus "feedback=0|1,momentum=B,warmup=ROUNDS,ramp=ROUNDS,predict=NAME" and
 *        the keys of that predictor */
cog_status cog_channel_open(const char *spec, cog_device *device, int64_t n, cog_channel_end end,
                            cog_channel **out);
void cog_channel_close(cog_channel *channel); /* accepts NULL */

/* Sender: rounding and choices at random are a function of the run's seed, the message and how many
 * of its payloads were used. Without this call those of all senders are the same. */
void cog_channel_seed(cog_channel *channel, uint64_t seed, uint32_t message);

/* The quantizer of updates made from messages: that of what the receiver hands out, unless those
 * are measurements to be summed first. */
const cog_quantizer *cog_channel_quantizer(const cog_channel *channel);

/* The quantizer whose `aggregate` makes an update of what the receiver hands out; NULL without. */
const cog_quantizer *cog_channel_summed(const cog_channel *channel);

/* Does the receiver hand out what was meant, to rounding? */
bool cog_channel_is_exact(const cog_channel *channel);

/* Has it a predictor? */
bool cog_channel_predicts(const cog_channel *channel);

/* Of the velocity that senders keep; 0 without. */
double cog_channel_momentum(const cog_channel *channel);

/* Does a message speak of every entry, with an error below its own energy? Not where entries are
 * left out or measured together. */
bool cog_channel_sends_all(const cog_channel *channel);

/* The most a message takes on the wire. */
size_t cog_channel_max_bytes(const cog_channel *channel);

/* Sender: the round of the messages packed from now on; 0 before the first call. */
void cog_channel_begin_round(cog_channel *channel, int64_t round);

/* Sender: pack sum over terms of coef * x, plus the error. n_terms < COG_MAX_TERMS. The payload
 * lies in host memory, is owned by the channel and stays until the next call. */
cog_status cog_channel_pack(cog_channel *channel, int n_terms, const cog_term *terms,
                            const void **payload, size_t *bytes);

/* Either end: was the pending message used? Without a pending message nothing happens. */
void cog_channel_settle(cog_channel *channel, bool accepted);

/* Sender: what is still owed to the server, [n], where the channel packs; NULL without feedback. */
const float *cog_channel_error(const cog_channel *channel);

/* Receiver: check a message from the wire and keep a copy. */
cog_status cog_channel_receive(cog_channel *channel, const void *payload, size_t bytes);

/* Receiver: the message kept, in host memory, to be read by cog_channel_quantizer(); NULL before
 * the first. */
const void *cog_channel_payload(const cog_channel *channel, size_t *bytes);

/* ---- channel_save.c -------------------------------------------------------------------------- */

/* Either end: all that later messages depend on, a pending message excepted: settle it first. What
 * is loaded comes from a stranger. with_payload: a receiver also saves the message it keeps.
 * ERR_FORMAT   it is not the state of such a channel's end */
cog_status cog_channel_save(cog_channel *channel, bool with_payload, cog_blob *out);
cog_status cog_channel_load(cog_channel *channel, const void *state, size_t bytes);

/* Sender, in host memory: what it owes and the velocity of its momentum, [n], to be read or set;
 * NULL where there is none. */
void cog_channel_memories(cog_channel *channel, float **error, float **velocity);

/* Between senders of one kind, in host memory: random choices and carried thresholds go on there.
 */
void cog_channel_copy_state(cog_channel *to, const cog_channel *from);

/* The most that a sender of this kind saves; either end knows. */
size_t cog_channel_max_state(const cog_channel *channel);

#endif
