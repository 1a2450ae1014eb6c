/* ring.c - one pass over each chunk, tile by tile. */
#include "ring.h"

#include <string.h>

#include "check.h"

enum { TILE = 2048 }; /* floats: the partial sums stay in the first-level cache */

static void round_all(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = cog_ring_round(x[i]);
}

static void add_all(float *restrict sum, const float *restrict x, int64_t n) {
    for (int64_t i = 0; i < n; i++) sum[i] += x[i];
}

int64_t cog_ring_begin(int n_workers, int64_t n, int chunk) {
    return n / n_workers * chunk + n % n_workers * chunk / n_workers;
}

cog_status cog_ring_offer(float *x, int64_t n, bool bf16, cog_ring_part *out) {
    COG_CHECK(n >= 0 && (x != NULL || n == 0), COG_ERR_ARGUMENT, "an all-reduce of %lld floats%s",
              (long long)n, x == NULL ? " at no address" : "");
    *out = (cog_ring_part){.x = x, .n = n, .bf16 = bf16};
    return COG_OK;
}

cog_status cog_ring_check(const cog_ring_part *parts, int n_workers) {
    for (int w = 0; w < n_workers; w++) {
        COG_CHECK(parts[w].n == parts[0].n, COG_ERR_ARGUMENT,
                  "worker %d would sum %lld floats and worker 0 would sum %lld", w,
                  (long long)parts[w].n, (long long)parts[0].n);
        COG_CHECK(parts[w].bf16 == parts[0].bf16, COG_ERR_ARGUMENT,
                  "worker %d would sum in %s and worker 0 in %s", w,
                  parts[w].bf16 ? "bf16" : "fp32", parts[0].bf16 ? "bf16" : "fp32");
    }
    return COG_OK;
}

static void reduce_tile(const cog_ring_part *parts, int n_workers, int chunk, int64_t first,
                        int64_t count) {
    float sum[TILE];
    const int owner = (chunk + n_workers - 1) % n_workers;
    const bool bf16 = parts[0].bf16;
    memcpy(sum, parts[chunk].x + first, (size_t)count * sizeof(float));
    for (int hop = 1; hop < n_workers; hop++) {
        if (bf16) round_all(sum, count);
        add_all(sum, parts[(chunk + hop) % n_workers].x + first, count);
    }
    if (bf16) round_all(sum, count);
    memcpy(parts[owner].x + first, sum, (size_t)count * sizeof(float));
}

void cog_ring_reduce(const cog_ring_part *parts, int n_workers, int worker) {
    const int chunk = (worker + 1) % n_workers;
    const int64_t n = parts[0].n, end = cog_ring_begin(n_workers, n, chunk + 1);
    for (int64_t i = cog_ring_begin(n_workers, n, chunk); i < end; i += TILE)
        reduce_tile(parts, n_workers, chunk, i, end - i < TILE ? end - i : TILE);
}

void cog_ring_gather(const cog_ring_part *parts, int n_workers, int worker) {
    const int64_t n = parts[0].n;
    for (int hop = 1; hop < n_workers; hop++) {
        const int owner = (worker + hop) % n_workers, chunk = (owner + 1) % n_workers;
        const int64_t begin = cog_ring_begin(n_workers, n, chunk);
        const int64_t count = cog_ring_begin(n_workers, n, chunk + 1) - begin;
        if (count > 0)
            memcpy(parts[worker].x + begin, parts[owner].x + begin, (size_t)count * sizeof(float));
    }
}

int64_t cog_ring_chunk(int n_workers, int64_t n) { return (n + n_workers - 1) / n_workers; }

int64_t cog_ring_bytes(int n_workers, int64_t n, bool bf16) {
    return (n_workers - 1) * n * (bf16 ? 2 : 4);
}
