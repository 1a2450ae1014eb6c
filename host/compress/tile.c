/* tile.c - which loops this processor can run. */
#include "tile.h"

extern const cog_tile_ops cog_tile_plain;

#if defined(__x86_64__)
extern const cog_tile_ops cog_tile_avx2, cog_tile_avx512;

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

void cog_tile_list(const cog_tile_ops *list[4]) {
    int n = 0;
#if defined(__x86_64__)
    if (has_avx512()) list[n++] = &cog_tile_avx512;
    if (has_avx2()) list[n++] = &cog_tile_avx2;
#endif
    list[n++] = &cog_tile_plain;
    list[n] = NULL;
}

/* Shorter vectors are likely to be in cache when they are read again. */
enum { STREAM_FROM = 1 << 20 };

bool cog_tile_streams(const cog_quantizer *q, int n_terms, const cog_term *terms,
                      const float *residual) {
    if (q->n < STREAM_FROM || (uintptr_t)residual % 64 != 0) return false;
    for (int t = 0; t < n_terms; t++)
        if (terms[t].x == residual) return false;
    return true;
}
