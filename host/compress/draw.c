/* draw.c - shares and random subsets, the same for every family that sends a part. */
#include "draw.h"

#include <math.h>

#include "tile.h"

int64_t cog_share(double ratio, int64_t i) {
    const double share = ratio * (double)i;
    return (int64_t)ceil(share - share * 0x1p-51);
}

uint32_t cog_draw_below(cog_rng *rng, int64_t n) {
    return (uint32_t)((uint64_t)cog_rng_u32(rng) * (uint64_t)n >> 32);
}

void cog_draw_places(cog_rng *rng, int count, int n, uint16_t *place) {
    uint64_t taken[COG_TILE_WORDS] = {0};
    for (int j = count - n; j < count; j++) {
        uint32_t i = cog_draw_below(rng, j + 1);
        if ((taken[i / 64] >> i % 64 & 1) != 0) i = (uint32_t)j;
        taken[i / 64] |= (uint64_t)1 << i % 64;
    }
    for (int w = 0; w < COG_TILE_WORDS; w++)
        for (uint64_t left = taken[w]; left != 0; left &= left - 1)
            *place++ = (uint16_t)(w * 64 + __builtin_ctzll(left));
}
