/* kernels.h - the launchers of kernels/, for C and C++ on the host.
 *
 * Every launcher enqueues on `stream` (a cudaStream_t as void *), never waits or allocates, and
 * returns a cudaError_t as an int: 0 is success. Pointers are device memory, sizes are in entries;
 * any alignment of the entry type will do, and 16 bytes in all vectors alike is fastest.
 */
#ifndef COG_KERNELS_H
#define COG_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { COG_KERNEL_TERMS = 16 };

/* sum over k < n_terms of coef[k] * x[k][i], a parameter of kernels: no upload, no lifetime. */
typedef struct cog_kernel_terms {
    const float *x[COG_KERNEL_TERMS];
    float coef[COG_KERNEL_TERMS];
    int32_t n_terms;
} cog_kernel_terms;

/* ---- vector.cu; meaning: devices/cpu.c ------------------------------------------------------- */

/* y = value */
int cog_cuda_fill(void *stream, float value, float *y, int64_t n);
/* y = a x + b y; y is not read when b is 0. x may be y. */
int cog_cuda_axpby(void *stream, float a, const float *x, float b, float *y, int64_t n);
/* Round to nearest even; NaN stays NaN. */
int cog_cuda_to_bf16(void *stream, const float *x, uint16_t *y, int64_t n);
int cog_cuda_from_bf16(void *stream, const uint16_t *x, float *y, int64_t n);
/* out = the sum of the terms: first a product, then fused multiply-adds in their order; 0 when
 * there are none. out may be any x. */
int cog_cuda_combine(void *stream, const cog_kernel_terms *terms, float *out, int64_t n);

/* ---- mlp.cu; meaning: devices/cpu.c and host/device.h ---------------------------------------- */

enum { COG_KERNEL_COLUMNS = 256 };

/* sum over k < n_terms of coef[k] * d[:, column[k] + c], a parameter of kernels. */
typedef struct cog_kernel_columns {
    int64_t column[COG_KERNEL_COLUMNS];
    float coef[COG_KERNEL_COLUMNS];
    int32_t n_terms;
} cog_kernel_columns;

/* z[r, c] += bias of column c, then max(0, .) when relu; n_blocks * group columns. The bias of
 * column c is bias[c / group * block_len + c % group]. */
int cog_cuda_bias_relu(void *stream, int64_t rows, int64_t ld, const float *bias, int32_t n_blocks,
                       int64_t group, int64_t block_len, int relu, float *z);
int cog_cuda_relu_backward(void *stream, const float *activation, float *delta, int64_t n);
/* out[r, c] = the sum of the terms, c < group, on top of what out holds when accumulate; products
 * and sums are rounded one by one, in the order of the terms. */
int cog_cuda_fold_columns(void *stream, int64_t rows, int64_t group, int64_t ld, const float *d,
                          const cog_kernel_columns *terms, int accumulate, float *out,
                          int64_t ld_out);
/* y[c] = alpha * sum over rows of d[r, c] + beta * y[c], c < cols; y is not read when beta is 0. */
int cog_cuda_sum_rows(void *stream, int64_t rows, int64_t cols, int64_t ld, float alpha,
                      const float *d, float beta, float *y);

/* ---- softmax.cu; meaning: devices/cpu.c and host/device.h ------------------------------------ */

/* delta may be z; row_loss and row_correct may be NULL. */
int cog_cuda_softmax_cross_entropy(void *stream, int64_t rows, int64_t n_classes, int64_t ld,
                                   const float *z, const float *label, float *delta,
                                   float *row_loss, float *row_correct);

/* ---- decode.cu; meaning: host/replica.c and host/optimizer.c ------------------------------- */

/* How the payloads of an update are laid out; host/compress/ *.c tell what the sections hold. */
enum cog_kernel_layout {
    COG_LAYOUT_FP32,   /* identity */
    COG_LAYOUT_BF16,   /* bf16 */
    COG_LAYOUT_SIGNS,  /* sign */
    COG_LAYOUT_CODES,  /* qsgd */
    COG_LAYOUT_CHUNKS, /* topk:kind=chunk, where places follow from the ratio alone */
    COG_LAYOUT_TABLE   /* topk of the other kinds, with counts of the parts */
};

typedef struct cog_kernel_format {
    int32_t layout;
    int32_t value_bytes; /* of an entry of topk: 4, or 2 for bf16; codes: their bits */
    int32_t part_bits; /* 2^part_bits entries share a scale or an index base, 256 to 4096; one scale
                        * for all: 63 */
    int64_t n;         /* entries of a message: parameters of a block */
    int64_t
        body; /* byte where a payload's longest section begins: numbers, negative, code, value */
    int64_t extra; /* byte of another: zero, count */
    int64_t kept;  /* chunks: entries of a payload; table: the most of them */
    double ratio;  /* chunks: share of the entries; 0 when every part keeps one */
} cog_kernel_format;

/* weight * decoded(payload) for one block. payload + body is a multiple of 16, and of 128 where
 * that costs nothing. */
typedef struct cog_kernel_message {
    const void *payload;
    float weight;
    uint32_t head; /* the first 4 bytes of the payload: flags of signs, entries of a table */
} cog_kernel_message;

/* The coefficients of one step, as host/optimizer.c computes them in double for a round:
 *     SGD        p -= rate g
 *     momentum   m = beta1 m + g;  p -= rate m
 *     Adam       m = beta1 m + gain1 g;  v = beta2 v + gain2 g g
 *                p -= rate (m / (sqrt(v) correction + epsilon))
 * Every operation is rounded by itself. */
enum cog_kernel_rule { COG_RULE_SGD, COG_RULE_MOMENTUM, COG_RULE_ADAM };
typedef struct cog_kernel_step {
    int32_t rule;
    float rate, beta1, gain1, beta2, gain2, correction, epsilon;
} cog_kernel_step;

typedef struct cog_kernel_decode {
    cog_kernel_format format; /* without gradient */
    int32_t n_blocks;         /* block a of the parameters starts at a * format.n */
    const int32_t *first;     /* [n_blocks + 1] first message of every block, in `messages` */
    const cog_kernel_message *messages; /* by block, those of a block in the order of the sum */
    const float *gradient; /* [n_blocks * format.n] instead of messages; NULL otherwise */
    float *params;         /* [n_blocks * format.n] */
    float *state;          /* as many m, then v, as the rule wants */
    uint16_t *bf16;        /* [n_blocks * format.n] the parameters rounded to bf16; may be NULL */
    cog_kernel_step step;
} cog_kernel_decode;

/* g = sum over the messages of weight * decoded, fused multiply-adds from 0 on in their order; one
 * step along g; the bits of the CPU. One launch. */
int cog_cuda_decode(void *stream, const cog_kernel_decode *work);

/* ---- packs: dense.cu, sign.cu, topk.cu, topk_exact.cu; meaning: host/compress/ --------------- */

/* residual may be any x. Payloads are aligned to 4 bytes, scratch memory to 16; scratch is zeros
 * before the first call and then belongs to the kernels of one sender. */

/* payload is the sum, residual 0 */
int cog_cuda_identity_pack(void *stream, const cog_kernel_terms *terms, int64_t n, float *residual,
                           float *payload);
/* payload [n rounded up to even] */
int cog_cuda_bf16_pack(void *stream, const cog_kernel_terms *terms, int64_t n, float *residual,
                       uint16_t *payload);

size_t cog_cuda_sign_scratch_bytes(const cog_kernel_format *format);
int cog_cuda_sign_pack(void *stream, const cog_kernel_format *format, const cog_kernel_terms *terms,
                       float *residual, void *scratch, void *payload);

/* The largest of every tile. */
int cog_cuda_topk_chunk(void *stream, const cog_kernel_format *format,
                        const cog_kernel_terms *terms, float *residual, void *payload);

size_t cog_cuda_topk_scratch_bytes(const cog_kernel_format *format, int64_t wanted);
/* The `wanted` largest of the message. threshold may be NULL; else it becomes the smallest
 * magnitude sent, and only what topk_above left over is done where that sufficed. */
int cog_cuda_topk_exact(void *stream, const cog_kernel_format *format, int64_t wanted,
                        const cog_kernel_terms *terms, float *residual, uint32_t *threshold,
                        void *scratch, void *payload);
/* All that reach *threshold, in device memory; then it is adapted to the wanted number, slope as d
 * in topk.c. Nothing when it is 0. topk_exact has to follow with the same arguments. */
int cog_cuda_topk_above(void *stream, const cog_kernel_format *format, int64_t wanted,
                        int32_t slope, const cog_kernel_terms *terms, float *residual,
                        uint32_t *threshold, void *scratch, void *payload);

/* ---- predict.cu; meaning: host/devices/cpu_loops.inc ----------------------------------------- */

enum { COG_KERNEL_VECTORS = COG_KERNEL_TERMS + 1 };

/* Vectors, the first one or two of which are multiplied with all. */
typedef struct cog_kernel_vectors {
    const float *x[COG_KERNEL_VECTORS];
    int32_t n_vectors;
    int32_t n_rows; /* 1 or 2 */
} cog_kernel_vectors;

/* Scratch memory of both launchers, aligned to 16 bytes; it begins with their results. */
size_t cog_cuda_sums_bytes(int64_t n);
/* scratch: double [n_rows n_vectors - (n_rows - 1)], the sums over the entries of x[0] x[k], k >=
 * 0, then of x[1] x[k], k >= 1. */
int cog_cuda_products(void *stream, const cog_kernel_vectors *vectors, int64_t n, void *scratch);
/* expected = the sum of the terms, in double, rounded once; expected may be NULL.
 * scratch: double [1], the sum of (x - expected)^2; without scratch x is not read. */
int cog_cuda_predict(void *stream, const cog_kernel_terms *terms, const float *x, int64_t n,
                     float *expected, void *scratch);

/* ---- qsgd.cu; meaning: host/compress/qsgd.c -------------------------------------------------- */

enum { COG_KERNEL_DITHER = 9 }; /* COG_STREAM_DITHER of host/rng.h */

typedef struct cog_kernel_codes {
    int64_t n;
    int32_t group_bits; /* 2^group_bits entries share a norm, 256 to 4096 */
    int32_t bits;       /* of a code */
    int32_t l2, nearest;
    uint32_t stream; /* of the sender's random numbers */
} cog_kernel_codes;

/* *n_used counts the payloads, unless `nearest`. */
size_t cog_cuda_qsgd_scratch_bytes(void);
int cog_cuda_qsgd_pack(void *stream, const cog_kernel_codes *format, const cog_kernel_terms *terms,
                       float *residual, uint32_t *n_used, void *scratch, void *payload);
int cog_cuda_add_codes(void *stream, const cog_kernel_codes *format, const void *payload,
                       float weight, int64_t first, int64_t count, float *y);

/* ---- fosgd.cu; meaning: host/compress/fosgd.c ------------------------------------------------ */

typedef struct cog_kernel_rotation {
    int64_t n;
    double reach;
    int32_t block_bits; /* 2^block_bits entries are transformed together, 256 to 4096 */
    uint32_t stream;    /* of the sender's random numbers */
} cog_kernel_rotation;

/* *n_used counts the payloads. */
size_t cog_cuda_fosgd_scratch_bytes(void);
int cog_cuda_fosgd_pack(void *stream, const cog_kernel_rotation *format,
                        const cog_kernel_terms *terms, float *residual, uint32_t *n_used,
                        void *scratch, void *payload);
int cog_cuda_add_rotated(void *stream, const cog_kernel_rotation *format, const void *payload,
                         float weight, int64_t first, int64_t count, float *y);

/* ---- add.cu; meaning: `add` of host/compress/ ------------------------------------------------ */

/* y[i - first] += weight * decoded(payload)[i] for first <= i < first + count, or all of a dense
 * one's n; first is a multiple of 4096. */
int cog_cuda_add_floats(void *stream, const float *x, float weight, int64_t n, float *y);
int cog_cuda_add_bf16(void *stream, const uint16_t *x, float weight, int64_t n, float *y);
int cog_cuda_add_signs(void *stream, const cog_kernel_format *format, const void *payload,
                       float weight, int64_t first, int64_t count, float *y);
int cog_cuda_add_topk(void *stream, const cog_kernel_format *format, const void *payload,
                      float weight, int64_t first, int64_t count, float *y);

#ifdef __cplusplus
}
#endif
#endif
