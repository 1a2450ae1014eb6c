/* rng.c - streams over Random123's Philox. */
#include "rng.h"

#include <math.h>
#include <string.h>

#include <Random123/philox.h>

cog_rng cog_rng_make(uint64_t seed, cog_stream purpose, uint32_t a, uint32_t b) {
    return (cog_rng){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                     .counter = {0, (uint32_t)purpose, a, b}};
}

static void refill(cog_rng *rng) {
    philox4x32_ctr_t counter;
    philox4x32_key_t key;
    memcpy(counter.v, rng->counter, sizeof(rng->counter));
    memcpy(key.v, rng->key, sizeof(rng->key));
    const philox4x32_ctr_t block = philox4x32(counter, key);
    memcpy(rng->word, block.v, sizeof(rng->word));
    rng->counter[0]++;
    rng->left = 4;
}

uint32_t cog_rng_u32(cog_rng *rng) {
    if (rng->left == 0) refill(rng);
    return rng->word[--rng->left];
}

double cog_rng_uniform(cog_rng *rng) {
    const uint64_t high = cog_rng_u32(rng), low = cog_rng_u32(rng);
    const uint64_t bits = (high << 32 | low) >> 11;
    return ((double)bits + 0.5) * 0x1p-53;
}

/* Lemire's multiplication method: reject the few products that would favour some results. */
uint32_t cog_rng_below(cog_rng *rng, uint32_t n) {
    const uint32_t threshold = -n % n;
    uint64_t product;
    do product = (uint64_t)cog_rng_u32(rng) * n;
    while ((uint32_t)product < threshold);
    return (uint32_t)(product >> 32);
}

double cog_rng_normal(cog_rng *rng) {
    if (rng->has_spare) {
        rng->has_spare = 0;
        return rng->spare;
    }
    const double radius = sqrt(-2 * log(cog_rng_uniform(rng)));
    const double angle = 6.283185307179586 * cog_rng_uniform(rng);
    rng->spare = radius * sin(angle);
    rng->has_spare = 1;
    return radius * cos(angle);
}
