/* device_bench.h - one operation on two devices: the CPU, which is the meaning, and the GPU.
 *
 * A twin is a vector on both. Around the GPU's lie guards, and a vector that is an output starts
 * poisoned: as NaN, and on the SIMT executor as memory that was never written. */
#ifndef COG_TESTS_DEVICE_BENCH_H
#define COG_TESTS_DEVICE_BENCH_H

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "device.h"
#include "need_gpu.h"
#include "rng.h"

#ifdef COG_WITH_SIMT
#include "simt.h"
#define GPU_NAME "simt"
#else
#define GPU_NAME "cuda"
#endif

enum { GUARD = 64, GUARD_BYTE = 0x5a }; /* bytes around every vector of the GPU */

typedef struct bench {
    cog_device *cpu, *gpu;
} bench;

#define OK(call) cr_assert_eq((call), COG_OK, "%s: %s", #call, cog_last_error())

static inline bench bench_open(void) {
    bench b;
    OK(cog_device_open("cpu", &b.cpu));
    OK(cog_device_open(GPU_NAME, &b.gpu));
    return b;
}

static inline void bench_close(bench b) {
    cog_device_close(b.cpu);
    cog_device_close(b.gpu);
}

typedef struct twin {
    const bench *owner;
    char *host, *memory; /* with what lies around */
    void *cpu, *gpu;     /* the vectors */
    size_t bytes, before;
} twin;

/* `offset` entries of `size` bytes behind a boundary of 256 bytes. NULL values: poisoned. */
static inline twin twin_make(const bench *owner, const void *values, int64_t n, size_t size,
                             int offset) {
    twin t = {.owner = owner, .bytes = (size_t)n * size};
    t.before = 256 + (size_t)offset * size;
    const size_t total = t.before + t.bytes + GUARD;
    void *memory;
    OK(owner->gpu->ops->alloc(owner->gpu, total, &memory));
    t.host = malloc(total);
    t.memory = memory;
    t.cpu = t.host + t.before;
    t.gpu = t.memory + t.before;
    memset(t.host, GUARD_BYTE, total);
    if (values != NULL && n > 0) memcpy(t.cpu, values, t.bytes);
    if (values == NULL) memset(t.cpu, 0xff, t.bytes);
    OK(owner->gpu->ops->upload(owner->gpu, t.memory, t.host, total));
#ifdef COG_WITH_SIMT
    if (values == NULL) simt_forget(t.gpu, t.bytes);
#endif
    return t;
}

/* What the GPU holds, malloc'ed; nothing around it has changed. */
static inline void *twin_read(const twin *t) {
    const size_t total = t->before + t->bytes + GUARD;
    char *all = malloc(total), *values = malloc(t->bytes + 1);
    OK(t->owner->gpu->ops->download(t->owner->gpu, all, t->memory, total));
    for (size_t i = 0; i < total; i++)
        if (i < t->before || i >= t->before + t->bytes)
            cr_assert_eq(all[i], GUARD_BYTE, "byte %ld of %zu was overwritten",
                         (long)i - (long)t->before, t->bytes);
    memcpy(values, all + t->before, t->bytes);
    free(all);
    return values;
}

static inline void twin_free(twin *t) {
    cog_device_free(t->owner->gpu, t->memory);
    free(t->host);
}

/* call(device, arguments) on both devices; TWIN(t) in the arguments is the vector on each. */
#define ON_BOTH(b, operation, ...)                         \
    for (int on_gpu = 0; on_gpu < 2; on_gpu++) {           \
        cog_device *device_ = on_gpu ? (b).gpu : (b).cpu;  \
        OK(device_->ops->operation(device_, __VA_ARGS__)); \
    }
#define TWIN(t) (on_gpu ? (t).gpu : (t).cpu)

/* ---- values ---------------------------------------------------------------------------------- */

typedef enum family {
    NORMAL,
    LAPLACE,
    ALL_EQUAL,
    ONE_EXPONENT,
    SORTED,
    DENORMAL,
    SIGNED_ZERO,
    NOT_FINITE,
    N_FAMILIES
} family;

static const char *const family_names[] = {"normal", "Laplace",   "all equal",    "one exponent",
                                           "sorted", "denormals", "signed zeros", "not finite"};

static inline float family_value(family f, cog_rng *rng, int64_t i, int64_t n) {
    const double u = cog_rng_uniform(rng);
    const float sign = cog_rng_below(rng, 2) ? -1.0f : 1.0f;
    static const float odd[] = {INFINITY, -INFINITY, NAN, FLT_MAX};
    switch (f) {
    case LAPLACE: return (float)-log(u) * sign;
    case ALL_EQUAL: return 0.7f;
    case ONE_EXPONENT: return (float)(1 + u) * sign;
    case SORTED: return (float)(3 * i - n) / (float)(n + 1); /* sums do not vanish */
    case DENORMAL: return (float)(u * 1e-38) * sign;
    case SIGNED_ZERO: return 0.0f * sign;
    case NOT_FINITE:
        return cog_rng_below(rng, 8) == 0 ? odd[cog_rng_below(rng, 4)] : (float)cog_rng_normal(rng);
    default: return (float)cog_rng_normal(rng);
    }
}

/* malloc'ed, never empty. */
static inline float *family_make(family f, uint32_t stream, int64_t n) {
    float *x = malloc((size_t)(n + 1) * sizeof(*x));
    cog_rng rng = cog_rng_make(11, COG_STREAM_TEST, stream, (uint32_t)f);
    for (int64_t i = 0; i < n; i++) x[i] = family_value(f, &rng, i, n);
    return x;
}

/* ---- comparisons ----------------------------------------------------------------------------- */

/* The payload of a NaN is a processor's own. */
static inline bool same_float(float a, float b) {
    return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b));
}

/* sum (got - expected)^2 / sum expected^2 over the finite ones; the others must agree in kind. */
static inline double nmse(const float *got, const double *expected, int64_t n) {
    double error = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        const double e = expected[i];
        if (!isfinite(e) || fabs(e) > FLT_MAX) {
            if (isnan(e) ? !isnan(got[i]) : isfinite(got[i]) || (got[i] > 0) != (e > 0))
                return INFINITY;
            continue;
        }
        error += (got[i] - e) * (got[i] - e);
        size += e * e;
    }
    return error == 0 ? 0 : error / size;
}

#endif
