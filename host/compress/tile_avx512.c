/* tile_avx512.c - the loops of tile.h for x86-64 with AVX-512 F, BW, DQ and VL; empty elsewhere. */
#if defined(__AVX512BW__)
#define TILE_OPS      cog_tile_avx512
#define TILE_OPS_NAME "avx512"
#include "tile_loops.h"
#else
typedef int cog_tile_avx512_is_not_built;
#endif
