/* rng.h - random numbers that repeat: Philox4x32-10 (Salmon et al., SC 2011), keyed by seed.
 *
 * A stream is named by (seed, purpose, a, b), for instance (seed, BATCH, round, shard); the
 * same stream gives the same numbers on every machine, thread and device, and no two streams
 * overlap. There is no global state.
 */
#ifndef COG_HOST_RNG_H
#define COG_HOST_RNG_H

#include <stdint.h>

typedef enum cog_stream {
    COG_STREAM_INIT = 1,   /* a = layer */
    COG_STREAM_BATCH,      /* a = round, b = shard */
    COG_STREAM_STRAGGLER,  /* a = round, b = worker */
    COG_STREAM_CODE,       /* a = attempt, b = round */
    COG_STREAM_DATA,       /* a = part, b = row */
    COG_STREAM_ANALYSIS,   /* sampled straggler sets */
    COG_STREAM_COMPRESSOR, /* a = message: seed of the streams of its payloads */
    COG_STREAM_TEST,
    COG_STREAM_DITHER, /* a = payload, b = use */
    COG_STREAM_FAULT   /* a = round, b = worker and which fault */
} cog_stream;

typedef struct cog_rng {
    uint32_t key[2];
    uint32_t counter[4]; /* {block, purpose, a, b} */
    uint32_t word[4];    /* the current block */
    int left;            /* words of it not yet given out */
    double spare;        /* second normal of a pair */
    int has_spare;
} cog_rng;

cog_rng cog_rng_make(uint64_t seed, cog_stream purpose, uint32_t a, uint32_t b);

uint32_t cog_rng_u32(cog_rng *rng);
/* Uniform in (0, 1), 53 bits; never 0 or 1, so that its logarithm is finite. */
double cog_rng_uniform(cog_rng *rng);
/* Uniform in 0 .. n-1, without bias; n >= 1. */
uint32_t cog_rng_below(cog_rng *rng, uint32_t n);
/* Standard normal (Box-Muller). */
double cog_rng_normal(cog_rng *rng);

#endif
