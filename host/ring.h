/* ring.h - all-reduce among workers that share memory, in the arithmetic of a ring.
 *
 * Worker w brings x_w [n]. The vector is cut into n_workers chunks; chunk c travels the ring from
 * worker c, every worker adding its own, and ends at worker c - 1, who owns the sum:
 *
 *     reduce   sum_c = (((x_c + x_{c+1}) + x_{c+2}) + ...) + x_{c-1}     modulo n_workers
 *     gather   everybody copies sum_c from its owner
 *
 * In bf16 what travels is rounded: every partial sum before the next addition, and the sum itself.
 * In one memory the hops would only be waits, so the owner adds the whole chunk at once: the same
 * operations in the same order, hence the bits of the ring whatever the timing, in n_workers reads
 * and one write a float instead of two reads and one write for every hop.
 *
 * All reduces come before all gathers: the caller puts a barrier between them.
 */
#ifndef COG_HOST_RING_H
#define COG_HOST_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "cograd/status.h"

/* What one worker brings. */
typedef struct cog_ring_part {
    float *x; /* [n] */
    int64_t n;
    bool bf16;
} cog_ring_part;

/* What a worker asks for, checked by itself. */
cog_status cog_ring_offer(float *x, int64_t n, bool bf16, cog_ring_part *out);

/* ERR_ARGUMENT when the workers do not bring the same. */
cog_status cog_ring_check(const cog_ring_part *parts, int n_workers);

/* Leave the sum of `worker`'s chunk in its vector. */
void cog_ring_reduce(const cog_ring_part *parts, int n_workers, int worker);

/* Copy all other chunks into its vector. */
void cog_ring_gather(const cog_ring_part *parts, int n_workers, int worker);

/* First float of a chunk; that of chunk n_workers is n. */
int64_t cog_ring_begin(int n_workers, int64_t n, int chunk);

/* To bf16, the upper half of a float: to nearest, ties to even; NaN stays NaN. And back. */
static inline uint16_t cog_ring_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    const uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
    return (uint16_t)(((bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x400000u : rounded) >> 16);
}

static inline float cog_ring_whole(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline float cog_ring_round(float value) { return cog_ring_whole(cog_ring_half(value)); }

/* Floats of the largest chunk: what the slowest hop carries. */
int64_t cog_ring_chunk(int n_workers, int64_t n);

/* Payload bytes that all workers together send in one half. */
int64_t cog_ring_bytes(int n_workers, int64_t n, bool bf16);

#endif
