/* sums.h - decodes the messages of a round together, where they are measurements to be summed.
 *
 *     in    an update whose messages are payloads of a quantizer with `aggregate`
 *     out   an update of one message a block, a dense vector of weight 1, as by `identity`
 *
 * so that whatever applies, records and relays updates need not know of sums.
 */
#ifndef COG_HOST_SUMS_H
#define COG_HOST_SUMS_H

#include "update.h"

typedef struct cog_sums cog_sums;

/* n_rows: messages of the plan. quantizer is copied. */
cog_status cog_sums_open(const cog_quantizer *quantizer, int32_t n_blocks, int32_t n_rows,
                         cog_sums **out);
void cog_sums_close(cog_sums *sums); /* accepts NULL */

/* *out stays until the next call, and moves on what the decoder remembers of every block. Blocks
 * that no message speaks of are left out. */
cog_status cog_sums_decode(cog_sums *sums, const cog_update *in, const cog_update **out);

/* What is remembered of a block, to be saved and loaded. */
void *cog_sums_memory(cog_sums *sums, int32_t block, size_t *bytes);

#endif
