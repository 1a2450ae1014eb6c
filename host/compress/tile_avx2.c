/* tile_avx2.c - the loops of tile.h for x86-64 with AVX2 and FMA; empty elsewhere. */
#if defined(__AVX2__)
#define TILE_OPS      cog_tile_avx2
#define TILE_OPS_NAME "avx2"
#include "tile_loops.h"
#else
typedef int cog_tile_avx2_is_not_built;
#endif
