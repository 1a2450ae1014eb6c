/* on_cuda.c - hands packs and adds to kernels/: formats in the kernels' words, errors in ours.
 *
 * Everything is enqueued on the device's stream; nothing waits or allocates.
 */
#include "on_cuda.h"

#ifdef COG_WITH_CUDA
#include <string.h>

#include "check.h"
#include "kernels.h"
#include "rng.h"
#include "topk.h"

_Static_assert((int)COG_MAX_TERMS <= (int)COG_KERNEL_TERMS, "a kernel takes all terms at once");

/* A launcher on the device's stream, as the last thing a function does. */
#define RETURN_LAUNCH(device, launcher, ...)                                    \
    do {                                                                        \
        COG_CUDA_TRY(device, launcher, cog_device_stream(device), __VA_ARGS__); \
        return COG_OK;                                                          \
    } while (0)

static cog_kernel_terms kernel_terms(int n_terms, const cog_term *terms) {
    cog_kernel_terms out;
    memset(&out, 0, sizeof(out));
    out.n_terms = n_terms;
    for (int t = 0; t < n_terms; t++) {
        out.x[t] = terms[t].x;
        out.coef[t] = terms[t].coef;
    }
    return out;
}

/* ---- identity and bf16 ---------------------------------------------------------------------- */

static cog_status pack_identity(const cog_quantizer *q, cog_device *device, int n_terms,
                                const cog_term *terms, float *residual, void *state, void *scratch,
                                void *payload) {
    (void)state, (void)scratch;
    const cog_kernel_terms all = kernel_terms(n_terms, terms);
    RETURN_LAUNCH(device, cog_cuda_identity_pack, &all, q->n, residual, payload);
}

static cog_status add_identity(const cog_quantizer *q, cog_device *device, const void *payload,
                               float weight, int64_t first, int64_t count, float *y) {
    (void)q;
    RETURN_LAUNCH(device, cog_cuda_add_floats, (const float *)payload + first, weight, count, y);
}

static cog_status pack_bf16(const cog_quantizer *q, cog_device *device, int n_terms,
                            const cog_term *terms, float *residual, void *state, void *scratch,
                            void *payload) {
    (void)state, (void)scratch;
    const cog_kernel_terms all = kernel_terms(n_terms, terms);
    RETURN_LAUNCH(device, cog_cuda_bf16_pack, &all, q->n, residual, payload);
}

static cog_status add_bf16(const cog_quantizer *q, cog_device *device, const void *payload,
                           float weight, int64_t first, int64_t count, float *y) {
    (void)q;
    RETURN_LAUNCH(device, cog_cuda_add_bf16, (const uint16_t *)payload + first, weight, count, y);
}

const cog_quantizer_kernels cog_identity_on_cuda = {
    .pack = pack_identity,
    .add = add_identity,
};

const cog_quantizer_kernels cog_bf16_on_cuda = {
    .pack = pack_bf16,
    .add = add_bf16,
};

/* ---- sign ----------------------------------------------------------------------------------- */

static cog_kernel_format format_of(const cog_quantizer *q) {
    cog_kernel_format format;
    q->ops->format(q, &format);
    return format;
}

static size_t sign_scratch_bytes(const cog_quantizer *q) {
    const cog_kernel_format format = format_of(q);
    return cog_cuda_sign_scratch_bytes(&format);
}

static cog_status pack_sign(const cog_quantizer *q, cog_device *device, int n_terms,
                            const cog_term *terms, float *residual, void *state, void *scratch,
                            void *payload) {
    (void)state;
    const cog_kernel_format format = format_of(q);
    const cog_kernel_terms all = kernel_terms(n_terms, terms);
    RETURN_LAUNCH(device, cog_cuda_sign_pack, &format, &all, residual, scratch, payload);
}

static cog_status add_sign(const cog_quantizer *q, cog_device *device, const void *payload,
                           float weight, int64_t first, int64_t count, float *y) {
    const cog_kernel_format format = format_of(q);
    RETURN_LAUNCH(device, cog_cuda_add_signs, &format, payload, weight, first, count, y);
}

const cog_quantizer_kernels cog_sign_on_cuda = {
    .pack = pack_sign,
    .add = add_sign,
    .scratch_bytes = sign_scratch_bytes,
};

/* ---- topk ----------------------------------------------------------------------------------- */

static size_t topk_scratch_bytes(const cog_quantizer *q) {
    const cog_kernel_format format = format_of(q);
    return q->kind == TOPK_CHUNK ? 0
                                 : cog_cuda_topk_scratch_bytes(&format, cog_topk_share(q, q->n));
}

static cog_status pack_topk(const cog_quantizer *q, cog_device *device, int n_terms,
                            const cog_term *terms, float *residual, void *state, void *scratch,
                            void *payload) {
    const cog_kernel_format format = format_of(q);
    const cog_kernel_terms all = kernel_terms(n_terms, terms);
    if (q->kind == TOPK_CHUNK)
        RETURN_LAUNCH(device, cog_cuda_topk_chunk, &format, &all, residual, payload);
    const int64_t wanted = cog_topk_share(q, q->n);
    uint32_t *threshold = q->kind == TOPK_THRESHOLD ? state : NULL;
    if (threshold != NULL)
        COG_CUDA_TRY(device, cog_cuda_topk_above, cog_device_stream(device), &format, wanted,
                     cog_topk_slope(q), &all, residual, threshold, scratch, payload);
    RETURN_LAUNCH(device, cog_cuda_topk_exact, &format, wanted, &all, residual, threshold, scratch,
                  payload);
}

static cog_status add_topk(const cog_quantizer *q, cog_device *device, const void *payload,
                           float weight, int64_t first, int64_t count, float *y) {
    const cog_kernel_format format = format_of(q);
    RETURN_LAUNCH(device, cog_cuda_add_topk, &format, payload, weight, first, count, y);
}

const cog_quantizer_kernels cog_topk_on_cuda = {
    .pack = pack_topk,
    .add = add_topk,
    .scratch_bytes = topk_scratch_bytes,
};

/* ---- qsgd ----------------------------------------------------------------------------------- */

_Static_assert((int)COG_KERNEL_DITHER == (int)COG_STREAM_DITHER, "one stream for both");

static cog_kernel_codes codes_of(const cog_quantizer *q) {
    return (cog_kernel_codes){.n = q->n,
                              .group_bits = __builtin_ctzll((uint64_t)q->tile),
                              .bits = q->bits,
                              .l2 = q->kind != 0,
                              .nearest = q->nearest,
                              .stream = q->stream};
}

static size_t qsgd_scratch_bytes(const cog_quantizer *q) {
    (void)q;
    return cog_cuda_qsgd_scratch_bytes();
}

static cog_status pack_qsgd(const cog_quantizer *q, cog_device *device, int n_terms,
                            const cog_term *terms, float *residual, void *state, void *scratch,
                            void *payload) {
    const cog_kernel_codes format = codes_of(q);
    const cog_kernel_terms all = kernel_terms(n_terms, terms);
    RETURN_LAUNCH(device, cog_cuda_qsgd_pack, &format, &all, residual, state, scratch, payload);
}

static cog_status add_qsgd(const cog_quantizer *q, cog_device *device, const void *payload,
                           float weight, int64_t first, int64_t count, float *y) {
    const cog_kernel_codes format = codes_of(q);
    RETURN_LAUNCH(device, cog_cuda_add_codes, &format, payload, weight, first, count, y);
}

const cog_quantizer_kernels cog_qsgd_on_cuda = {
    .pack = pack_qsgd,
    .add = add_qsgd,
    .scratch_bytes = qsgd_scratch_bytes,
};

/* ---- fosgd ---------------------------------------------------------------------------------- */

static cog_kernel_rotation rotation_of(const cog_quantizer *q) {
    return (cog_kernel_rotation){.n = q->n,
                                 .reach = q->reach,
                                 .block_bits = __builtin_ctzll((uint64_t)q->tile),
                                 .stream = q->stream};
}

static size_t fosgd_scratch_bytes(const cog_quantizer *q) {
    (void)q;
    return cog_cuda_fosgd_scratch_bytes();
}

static cog_status pack_fosgd(const cog_quantizer *q, cog_device *device, int n_terms,
                             const cog_term *terms, float *residual, void *state, void *scratch,
                             void *payload) {
    const cog_kernel_rotation format = rotation_of(q);
    const cog_kernel_terms all = kernel_terms(n_terms, terms);
    RETURN_LAUNCH(device, cog_cuda_fosgd_pack, &format, &all, residual, state, scratch, payload);
}

static cog_status add_fosgd(const cog_quantizer *q, cog_device *device, const void *payload,
                            float weight, int64_t first, int64_t count, float *y) {
    const cog_kernel_rotation format = rotation_of(q);
    RETURN_LAUNCH(device, cog_cuda_add_rotated, &format, payload, weight, first, count, y);
}

const cog_quantizer_kernels cog_fosgd_on_cuda = {
    .pack = pack_fosgd,
    .add = add_fosgd,
    .scratch_bytes = fosgd_scratch_bytes,
};

#else
typedef int cog_on_cuda_is_not_built;
#endif
