/* downlink.h - brings a worker's parameters up to date.
 *
 *   delta   the updates made since the version the worker holds: exact, and with sparse messages
 *           about a hundred times smaller than the parameters. All of the parameters (and of the
 *           optimizer's state, which the worker's own steps need) when that is smaller
 *   fp32    all parameters
 *   bf16    all parameters, rounded: the workers differentiate at the rounded point
 *
 * delta falls back to fp32 for a whole run when a round's messages are as large as the parameters:
 * relaying would never pay. So it does when they exceed 4 GiB, which updates cannot number.
 */
#ifndef COG_HOST_DOWNLINK_H
#define COG_HOST_DOWNLINK_H

#include "blob.h"
#include "replica.h"

/* How a PARAMS payload is to be read. */
typedef enum cog_downlink_mode {
    COG_DOWNLINK_UPDATES = 1, /* rounds in wire format, from the worker's version on */
    COG_DOWNLINK_STATE,       /* fp32 parameters, then optimizer state */
    COG_DOWNLINK_FP32,
    COG_DOWNLINK_BF16
} cog_downlink_mode;

typedef struct cog_downlink cog_downlink;

/* Server end. round_bytes: what the messages of one round take. */
cog_status cog_downlink_open(const char *spec, cog_replica *replica, cog_device *device,
                             size_t round_bytes, cog_downlink **out);
void cog_downlink_close(cog_downlink *downlink); /* accepts NULL */

/* True when workers take the optimizer's steps themselves. */
bool cog_downlink_relays(const cog_downlink *downlink);

/* How parameters will come as a rule (with UPDATES the downlink relays), also where the server's
 * end is not; a worker that is far behind may get them otherwise. */
cog_status cog_downlink_usual(const char *spec, int64_t n_params, size_t round_bytes,
                              cog_downlink_mode *out);

/* `round` was made by `update` (empty when it was skipped); rounds come in order. */
cog_status cog_downlink_record(cog_downlink *downlink, int64_t round, const cog_update *update);

/* The parameters were set from outside: no history leads to them. */
void cog_downlink_forget(cog_downlink *downlink, int64_t round);

/* The rounds recorded so far, so that workers that were known to hold one of them are still served
 * from there. load: into one that has recorded nothing; ERR_FORMAT unless they lead to `round`. */
cog_status cog_downlink_save(const cog_downlink *downlink, cog_blob *out);
cog_status cog_downlink_load(cog_downlink *downlink, int64_t round, const void *state,
                             size_t bytes);

/* Payload that takes a worker from `version` (-1: it knows nothing) to the rounds recorded so far.
 * It stays until the next call. */
cog_status cog_downlink_encode(cog_downlink *downlink, int64_t version, cog_downlink_mode *mode,
                               const void **payload, size_t *bytes);

/* Raised by record, forget and load: in between, what encode made stays, and one address and length
 * stand for the same bytes. Never 0. */
int64_t cog_downlink_edition(const cog_downlink *downlink);

/* Worker end: bring `replica` from `version` to `round`; the payload comes from a stranger.
 * `update` is scratch. ERR_FORMAT when it does not lead there. */
cog_status cog_downlink_apply(cog_replica *replica, cog_device *device,
                              const cog_quantizer *quantizer, int32_t n_rows, cog_update *update,
                              cog_downlink_mode mode, int64_t version, int64_t round,
                              const void *payload, size_t bytes);

#endif
