/* cpu_loops.c - the loops of the CPU device for plain x86-64, AVX2 and AVX-512. */
#include "cpu_loops.h"

#include <math.h>
#include <string.h>

enum { SUM_TILE = 64 }; /* 4 AVX-512 or 8 AVX2 registers */

/* The order of long sums, see products: what the threads, warps and blocks of a GPU have. */
enum { COLUMNS = 128, SLAB = 4 * COLUMNS, TILE = 8 * SLAB, TILE_COLUMNS = 256 };

#if defined(__x86_64__)
#define HAS_SETS 1
#endif

#define PASTE_(a, b) a##_##b
#define PASTE(a, b)  PASTE_(a, b)
#define LOOP(name)   PASTE(name, SET)

/* Compiled into every loop, so they take on its instruction set. */
#define INLINE __attribute__((always_inline)) static inline

INLINE uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

INLINE float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

#define SET       baseline
#define LOOP_NAME "baseline"
#define TARGET
#include "cpu_loops.inc"
#undef SET
#undef LOOP_NAME
#undef TARGET

#ifdef HAS_SETS
#define SET       avx2
#define LOOP_NAME "avx2"
#define TARGET    __attribute__((target("avx2")))
#include "cpu_loops.inc"
#undef SET
#undef LOOP_NAME
#undef TARGET

#define SET       avx512
#define LOOP_NAME "avx512"
#define TARGET    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#include "cpu_loops.inc"

static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

void cog_cpu_loops_list(const cog_cpu_loops *list[4]) {
    int n = 0;
#ifdef HAS_SETS
    if (has_avx512()) list[n++] = &loops_avx512;
    if (__builtin_cpu_supports("avx2")) list[n++] = &loops_avx2;
#endif
    list[n++] = &loops_baseline;
    list[n] = NULL;
}
