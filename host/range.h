/* range.h - names for stretches of work in NVIDIA's profilers; nothing without COG_NVTX.
 *
 *     COG_TRY(COG_IN_RANGE("gradient", differentiate(w)));
 *
 * Ranges nest and belong to the thread of the host: "gradient", "pack", "transfer" and "update" of
 * a round, and within them a range for every call of CUDA. */
#ifndef COG_HOST_RANGE_H
#define COG_HOST_RANGE_H

#include "cograd/status.h"

#ifdef COG_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

static inline void cog_range_begin(const char *name) {
#ifdef COG_NVTX
    nvtxRangePushA(name);
#else
    (void)name;
#endif
}

static inline void cog_range_end(void) {
#ifdef COG_NVTX
    nvtxRangePop();
#endif
}

static inline cog_status cog_range_passed(cog_status status) {
    cog_range_end();
    return status;
}

#define COG_IN_RANGE(name, call) (cog_range_begin(name), cog_range_passed(call))

#endif
