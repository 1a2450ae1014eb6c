/* compress.h - what a quantizer provides: vectors in, bytes out, and the residual left behind.
 *
 *     trial[i]    = sum over terms of coef * x[i]      message terms, error feedback, -prediction
 *     payload     = pack(trial)
 *     residual[i] = trial[i] - decoded(payload)[i]
 *
 * pack does all of it in the passes its file states. The sum is taken in float, in the order of
 * the terms, first a product, then fused multiply-adds: the same bits on every device.
 */
#ifndef COG_HOST_COMPRESS_H
#define COG_HOST_COMPRESS_H

#include <stddef.h>
#include <stdint.h>

#include "device.h"

enum { COG_MAX_TERMS = 16 };

/* One addend of a trial. */
typedef struct cog_term {
    const float *x; /* [n] */
    float coef;
} cog_term;

/* A configured quantizer for messages of n entries. */
typedef struct cog_quantizer {
    const struct cog_quantizer_ops *ops;
    int64_t n;
    int kind;                            /* the family's own enumeration */
    int64_t tile;                        /* entries that share an index base or a scale */
    int64_t kept;                        /* the most entries a payload speaks of */
    double ratio;                        /* the share that was asked for */
    double reach;                        /* of values that are sent, in the family's own unit */
    bool bf16_values;                    /* values travel as bf16 instead of fp32 */
    bool amplified;                      /* what is sent stands for what is not, too */
    bool nearest;                        /* rounding is to nearest instead of at random */
    bool remembers;                      /* the receiver of sums feeds back its own error */
    int bits;                            /* of an entry */
    int steps;                           /* of an iterative decoder */
    double sparsity;                     /* the share of the entries that it looks for */
    uint32_t seed;                       /* of random numbers that all agree on */
    uint32_t stream;                     /* a sender's own random numbers; no receiver needs it */
    const struct cog_tile_ops *tile_ops; /* hot loops in this processor's instruction set */
    const float *side; /* [n] host memory: what both ends expect of the trial; see uses_side */
} cog_quantizer;

/* The verbs of a quantizer on one kind of device. */
typedef struct cog_quantizer_kernels {
    /* See above. residual [n] may alias any x and may not be NULL. state [state_bytes] is
     * kept between the calls of one sender; scratch is left to pack. Both start as zeros. */
    cog_status (*pack)(const cog_quantizer *q, cog_device *device, int n_terms,
                       const cog_term *terms, float *residual, void *state, void *scratch,
                       void *payload);
    /* y[i - first] += weight * decoded(payload)[i] for first <= i < first + count, one fused
     * multiply-add an entry. first is a multiple of COG_ADD_ALIGN. */
    cog_status (*add)(const cog_quantizer *q, cog_device *device, const void *payload, float weight,
                      int64_t first, int64_t count, float *y);
    /* (optional) Scratch memory that pack needs here, default is that of the family. */
    size_t (*scratch_bytes)(const cog_quantizer *q);
} cog_quantizer_kernels;

enum { COG_ADD_ALIGN = 4096 };

struct cog_kernel_format; /* kernels.h */

typedef struct cog_quantizer_ops {
    const char *name;
    const char *summary; /* one line for `cograd info` */
    bool exact;          /* decoded(payload) equals the trial */
    /* The channel's prediction is not subtracted from the trial but handed to pack and add, as
     * q->side: decoded(payload) is near it. Such a channel needs a predictor. */
    bool uses_side;

    /* q->n is set before. */
    cog_status (*configure)(cog_quantizer *q, cog_spec *spec);
    /* (optional) After configure: send this share of the entries. */
    void (*set_ratio)(cog_quantizer *q, double ratio);
    size_t (*payload_bytes)(const cog_quantizer *q); /* the most a payload can take */
    /* (optional) Default 0; see the functions below. */
    size_t (*scratch_bytes)(const cog_quantizer *q);
    size_t (*state_bytes)(const cog_quantizer *q);
    /* (optional) Bytes of a payload in host memory that are in use: what is sent and counted.
     * Default is payload_bytes: all payloads are as long. */
    size_t (*used_bytes)(const cog_quantizer *q, const void *payload);
    /* ERR_FORMAT unless these bytes, from a stranger, are a payload `add` can take. */
    cog_status (*check)(const cog_quantizer *q, const void *payload, size_t bytes);
    /* (optional) The largest mean of ||trial - decoded||^2 / ||trial||^2 over all trials; default
     * is less than 1. From 1 on error feedback need not stay bounded, and is refused. */
    double (*worst_error)(const cog_quantizer *q);
    /* (optional, sparse families) The positions a payload in host memory speaks of, ascending, and
     * how many; at most max_positions of them. */
    int64_t (*positions)(const cog_quantizer *q, const void *payload, int64_t *out);
    int64_t (*max_positions)(const cog_quantizer *q);
    /* (optional, families of linear measurements) The sum is decoded, not the summands: then there
     * is no `add`, residuals are what was not measured, and out[n], in host memory, is near the sum
     * of weight * trial. memory [memory_bytes] is the receiver's for one sum of every round, and
     * starts as zeros; so does scratch [scratch_bytes], which aggregate may keep tables in. */
    cog_status (*aggregate)(const cog_quantizer *q, int n_payloads, const void *const *payloads,
                            const float *weights, void *memory, void *scratch, float *out);
    size_t (*memory_bytes)(const cog_quantizer *q); /* (optional) default 0 */
    /* How a GPU finds its way in a payload. */
    void (*format)(const cog_quantizer *q, struct cog_kernel_format *out);

    /* [COG_CPU] is required and defines the result; a missing entry falls back to it. */
    const cog_quantizer_kernels *on[COG_N_DEVICE_KINDS];
} cog_quantizer_ops;

/* Table entry for a plug-in's CUDA kernels: NULL in a build without CUDA. */
#ifdef COG_WITH_CUDA
#define COG_CUDA_KERNELS(table) &(table)
#else
#define COG_CUDA_KERNELS(table) NULL
#endif

/* What the table says, or its defaults. kernels may be NULL: the family's own need. */
static inline size_t cog_quantizer_scratch_bytes(const cog_quantizer *q,
                                                 const cog_quantizer_kernels *kernels) {
    if (kernels != NULL && kernels->scratch_bytes != NULL) return kernels->scratch_bytes(q);
    return q->ops->scratch_bytes != NULL ? q->ops->scratch_bytes(q) : 0;
}

static inline size_t cog_quantizer_state_bytes(const cog_quantizer *q) {
    return q->ops->state_bytes != NULL ? q->ops->state_bytes(q) : 0;
}

static inline size_t cog_quantizer_memory_bytes(const cog_quantizer *q) {
    return q->ops->memory_bytes != NULL ? q->ops->memory_bytes(q) : 0;
}

static inline size_t cog_quantizer_used_bytes(const cog_quantizer *q, const void *payload) {
    return q->ops->used_bytes != NULL ? q->ops->used_bytes(q, payload) : q->ops->payload_bytes(q);
}

/* spec without the keys of the channel: "identity" | "bf16" | "topk:ratio=0.01,kind=chunk" ... */
cog_status cog_quantizer_configure(cog_spec *spec, int64_t n, cog_quantizer *out);

#endif
