/* acgc.h - who holds which shard in an approximate gradient code. */
#ifndef COG_HOST_CODES_ACGC_H
#define COG_HOST_CODES_ACGC_H

#include <stdint.h>

#include "cograd/status.h"

typedef enum cog_structure { COG_COSET, COG_BIBD, COG_SRG, COG_BIREGULAR } cog_structure;

/* Every worker holds `degree` shards, and all shards have equally many holders. */
typedef struct cog_assignment {
    cog_structure structure;
    int32_t n_workers, n_shards, degree;
    int32_t lambda; /* shards two workers share: any two (bibd), two neighbours (srg) */
    int32_t mu;     /* srg: shards that two workers share who are no neighbours */
    int32_t *shard; /* [n_workers, degree] ascending in each row; freed with free() */
} cog_assignment;

/* structure, n_workers, degree and n_shards are set by the caller, the last two to 0 for what the
 * structure has by itself. The rest is filled in.
 *   n_blocks   the coset structure has n_workers / n_blocks shards
 *   seed       of the bi-regular structure
 * ERR_ARGUMENT names what there is for this number of workers. */
cog_status cog_assign(cog_assignment *assignment, int n_blocks, uint64_t seed);

#endif
