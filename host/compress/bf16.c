/* bf16.c - every entry in 16 bits: the upper half of its fp32, rounded to nearest even.
 *
 * Payload: uint16[n], padded with zeros to 4 bytes. Numbers above the largest bf16 are sent as that
 * one, so the residual stays finite and keeps the rest; infinities and NaN are sent as they are and
 * leave 0. One pass; 4L + 6 bytes an entry for L terms.
 */
#include "check.h"
#include "kernels.h"
#include "on_cuda.h"
#include "tile.h"

static cog_status configure(cog_quantizer *q, cog_spec *spec) {
    (void)spec;
    q->tile = COG_TILE;
    q->kept = q->n;
    return COG_OK;
}

static size_t payload_bytes(const cog_quantizer *q) { return (size_t)(q->n + 1) / 2 * 4; }

static cog_status check(const cog_quantizer *q, const void *payload, size_t bytes) {
    COG_CHECK(bytes == payload_bytes(q), COG_ERR_FORMAT,
              "a bf16 payload has %zu bytes, expected %zu", bytes, payload_bytes(q));
    const unsigned char *end = (const unsigned char *)payload + bytes;
    COG_CHECK(q->n % 2 == 0 || (end[-1] == 0 && end[-2] == 0), COG_ERR_FORMAT,
              "the padding of a bf16 payload is not zero");
    return COG_OK;
}

static cog_status pack(const cog_quantizer *q, cog_device *device, int n_terms,
                       const cog_term *terms, float *residual, void *state, void *scratch,
                       void *payload) {
    (void)device, (void)state, (void)scratch;
    uint16_t *out = payload;
    _Alignas(64) float trial[COG_TILE];
    for (int64_t first = 0; first < q->n; first += COG_TILE) {
        const int count = (int)(q->n - first < COG_TILE ? q->n - first : COG_TILE);
        q->tile_ops->combine(n_terms, terms, first, count, trial);
        q->tile_ops->narrow(trial, count, out + first, residual + first);
    }
    if (q->n % 2 != 0) out[q->n] = 0;
    return COG_OK;
}

static cog_status add(const cog_quantizer *q, cog_device *device, const void *payload, float weight,
                      int64_t first, int64_t count, float *y) {
    (void)device;
    q->tile_ops->add_bf16((const uint16_t *)payload + first, weight, count, y);
    return COG_OK;
}

static void format(const cog_quantizer *q, cog_kernel_format *out) {
    *out = (cog_kernel_format){.layout = COG_LAYOUT_BF16, .n = q->n};
}

static const cog_quantizer_kernels on_cpu = {.pack = pack, .add = add};

const cog_quantizer_ops cog_quantizer_bf16 = {
    .name = "bf16",
    .summary = "every entry in 16 bits",
    .configure = configure,
    .payload_bytes = payload_bytes,
    .check = check,
    .format = format,
    .on = {[COG_CPU] = &on_cpu, [COG_CUDA] = COG_CUDA_KERNELS(cog_bf16_on_cuda)},
};
