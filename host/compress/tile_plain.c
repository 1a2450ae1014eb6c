/* tile_plain.c - the loops of tile.h for any processor. */
#define TILE_OPS      cog_tile_plain
#define TILE_OPS_NAME "plain"
#include "tile_loops.h"
