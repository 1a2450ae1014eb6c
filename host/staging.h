/* staging.h - an update as a GPU's decoder wants it: one buffer, one copy.
 *
 *     int32 first[n_blocks + 1] | messages by block | payload | payload | ...
 *
 * A message for several blocks is listed in each, with one copy of its payload. Payloads lie so
 * that their longest sections begin at multiples of 128 bytes, which costs less than the requests
 * that it saves.
 */
#ifndef COG_HOST_STAGING_H
#define COG_HOST_STAGING_H

#include "update.h"

struct cog_kernel_decode; /* kernels.h */

/* Starts zeroed, with its device set. Grows to the largest update seen. */
typedef struct cog_staging {
    cog_device *device;
    uint8_t *host; /* [room] */
    void *memory;  /* [room] device memory */
    size_t room;
} cog_staging;

void cog_staging_free(cog_staging *staging);

/* Room for updates of so many messages of at most payload_bytes each, and terms. */
cog_status cog_staging_reserve(cog_staging *staging, int32_t n_blocks, int32_t n_messages,
                               int32_t n_terms, size_t payload_bytes);

/* Bring the update to the device and say in work->first and work->messages where it lies;
 * work->format and work->n_blocks are set before. */
cog_status cog_staging_put(cog_staging *staging, const cog_update *update,
                           struct cog_kernel_decode *work);

#endif
