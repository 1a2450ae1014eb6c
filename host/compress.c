/* compress.c - from a spec to a configured quantizer. */
#include "compress.h"

#include "check.h"
#include "tile.h"
#include "registry.h"

/* Entries are numbered in 32 bits within a payload. */
#define MAX_ENTRIES ((int64_t)UINT32_MAX)

cog_status cog_quantizer_configure(cog_spec *spec, int64_t n, cog_quantizer *out) {
    const cog_quantizer_ops *ops;
    COG_TRY(cog_find_quantizer(spec->name, &ops));
    COG_CHECK(n >= 0 && n <= MAX_ENTRIES, COG_ERR_ARGUMENT,
              "a message of %lld entries is not between 0 and %lld", (long long)n,
              (long long)MAX_ENTRIES);
    const cog_tile_ops *sets[4];
    cog_tile_list(sets);
    cog_quantizer q = {.ops = ops, .n = n, .tile_ops = sets[0]};
    COG_TRY(ops->configure(&q, spec));
    COG_TRY(cog_spec_finish(spec));
    *out = q;
    return COG_OK;
}
