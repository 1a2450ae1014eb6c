/* predict.h - what both ends of a channel expect of a message before it is sent.
 *
 *     x            the message
 *     expected   = predict(memory, coefs)       coefs: fitted to x by the sender, and sent
 *     fires      = ||x - expected|| is above a threshold; else the prediction stands as it is
 *     estimate   = expected + decoded(pack(x - expected)) when it fires, else expected
 *     accepted:    both ends push the estimate into their memories
 *     dropped:     nothing happened
 *
 * The two ends never exchange memories: they do the same arithmetic in the same order on the same
 * numbers, and hold the same bits. Each end has its vectors on a device, its own; what a device
 * does for predictions has the same bits on all of them.
 */
#ifndef COG_HOST_PREDICT_H
#define COG_HOST_PREDICT_H

#include <stddef.h>

#include "blob.h"
#include "device.h"

enum { COG_MAX_WINDOW = 16 };

/* What an end remembers. */
typedef struct cog_memory {
    cog_device *device;
    int64_t n;
    int room;                 /* vectors there is memory for */
    int count;                /* vectors held; those behind them are zeros */
    float *x[COG_MAX_WINDOW]; /* [n] each, on the device, the newest first */
    void *work;               /* on the device, of its sums */
    /* Inner products of the vectors, [row][column >= row], as far as they are known: those of the
     * `n_known` oldest. */
    double product[COG_MAX_WINDOW][COG_MAX_WINDOW];
    int n_known;
} cog_memory;

/* When a residual is sent, and what of it. */
typedef enum cog_trigger {
    COG_TRIGGER_ALWAYS,
    COG_TRIGGER_RELATIVE, /* ||r|| > threshold ||x|| */
    COG_TRIGGER_ABSOLUTE, /* ||r|| > threshold */
    COG_TRIGGER_DECAYING, /* ||r|| > threshold / (1 + round)^power */
    COG_TRIGGER_LAG       /* ||r||^2 > threshold ||x - last x||^2 (after Chen et al. 2018) */
} cog_trigger;

/* A configured predictor for messages of n entries. */
typedef struct cog_predictor {
    const struct cog_predictor_ops *ops;
    int64_t n;
    int window;  /* vectors that are remembered */
    int n_coefs; /* that travel with every message */
    double rate; /* the share of what is decoded that adds up in the memory, always; 0: none */
    cog_trigger trigger;
    double threshold, power;
    bool push_fired_only; /* a prediction that stood as it was is not remembered */
} cog_predictor;

typedef struct cog_predictor_ops {
    const char *name;
    const char *summary; /* one line for `cograd info` */
    cog_trigger trigger; /* the default */

    /* p->n is set before; sets window, n_coefs and rate. */
    cog_status (*configure)(cog_predictor *p, cog_spec *spec);
    /* (optional, with coefs) Fit coefs [n_coefs], which are zeros, to x and predict it. Then *norm
     * = ||x||^2 and *left = ||x - expected||^2. When x is not finite coefs stay as they are. */
    cog_status (*foresee)(const cog_predictor *p, cog_memory *memory, const float *x, float *coefs,
                          float *expected, double *norm, double *left);
    /* *left = ||target - expected||^2, unless target is NULL */
    cog_status (*predict)(const cog_predictor *p, const cog_memory *memory, const float *coefs,
                          const float *target, float *expected, double *left);
    /* expected may be overwritten */
    cog_status (*push)(const cog_predictor *p, cog_memory *memory, float *expected,
                       const float *estimate);
} cog_predictor_ops;

/* The predictor that a channel's spec names; ops is NULL when it names none. Takes the key
 * `predict` and the keys of that predictor. */
cog_status cog_predictor_configure(cog_spec *spec, int64_t n, cog_predictor *out);

/* The memory with which everything starts, and starts again after a message that is not finite. */
cog_status cog_memory_forget(cog_memory *memory);
/* x[0] = a copy of `newest`; the oldest vector goes when there is no room. */
cog_status cog_memory_push(cog_memory *memory, const float *newest);
/* `predict` of those whose prediction is x[0]. */
cog_status cog_memory_repeat(const cog_memory *memory, const float *target, float *expected,
                             double *left);

/* ---------------------------------------------------------------- one end of a channel */

typedef struct cog_mirror cog_mirror;

/* Vectors, here and below, lie on `device`. The sending end with trigger=lag also holds two
 * messages. */
cog_status cog_mirror_open(const cog_predictor *predictor, cog_device *device, bool is_sender,
                           cog_mirror **out);
void cog_mirror_close(cog_mirror *mirror); /* accepts NULL */

/* Coefs as they travel: float[n_coefs], at any address. */
size_t cog_mirror_header_bytes(const cog_mirror *mirror);

/* Sender: fit to x [n] and predict it; does it fire? Then the residual has to be sent. */
cog_status cog_mirror_foresee(cog_mirror *mirror, int64_t round, const float *x, bool *fires);
void cog_mirror_write(const cog_mirror *mirror, void *header);

/* Receiver: ERR_FORMAT unless these coefs can be used. Then predict from them. */
cog_status cog_mirror_check(const cog_mirror *mirror, const void *header);
cog_status cog_mirror_follow(cog_mirror *mirror, const void *header);

/* The prediction of the last foresee or follow, [n]. */
const float *cog_mirror_expected(const cog_mirror *mirror);

/* Both: the message predicted last was used, and stands as `estimate` [n]. */
cog_status cog_mirror_push(cog_mirror *mirror, bool fired, const float *estimate);

/* Both: what is remembered between messages. load: ERR_FORMAT unless it is of such an end. */
size_t cog_mirror_max_state(const cog_mirror *mirror);
cog_status cog_mirror_save(const cog_mirror *mirror, cog_blob *out);
cog_status cog_mirror_load(cog_mirror *mirror, cog_span *state);

#endif
