/* draw.h - how many entries of a message a ratio asks for, and which ones by chance. */
#ifndef COG_HOST_COMPRESS_DRAW_H
#define COG_HOST_COMPRESS_DRAW_H

#include <stdint.h>

#include "rng.h"

/* ceil(ratio * i), where a ratio such as 0.07 stands for the decimal number: 7 % of 100 are 7. */
int64_t cog_share(double ratio, int64_t i);

/* A number below n >= 1, floor(w n / 2^32) of the next word w. */
uint32_t cog_draw_below(cog_rng *rng, int64_t n);

/* place[n]: a random subset of 0 .. count-1, all alike, ascending; n <= count <= COG_TILE. Floyd's
 * draw: for j from count - n to count - 1 take a number below j + 1, or j itself when that is taken
 * already. */
void cog_draw_places(cog_rng *rng, int count, int n, uint16_t *place);

#endif
