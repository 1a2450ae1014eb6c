/* identity.c - no compression: the payload is the trial, float[n], and nothing is left behind.
 *
 * One pass; 4L + 8 bytes an entry for L terms: the residual is written, too, as zeros.
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

static size_t payload_bytes(const cog_quantizer *q) { return (size_t)q->n * sizeof(float); }

static cog_status check(const cog_quantizer *q, const void *payload, size_t bytes) {
    (void)payload;
    COG_CHECK(bytes == payload_bytes(q), COG_ERR_FORMAT,
              "an fp32 payload has %zu bytes, expected %zu", bytes, payload_bytes(q));
    return COG_OK;
}

static cog_status pack(const cog_quantizer *q, cog_device *device, int n_terms,
                       const cog_term *terms, float *residual, void *state, void *scratch,
                       void *payload) {
    (void)device, (void)state, (void)scratch;
    static const float nothing[COG_TILE];
    const bool stream = cog_tile_streams(q, n_terms, terms, residual);
    float *out = payload;
    _Alignas(64) float trial[COG_TILE];
    for (int64_t first = 0; first < q->n; first += COG_TILE) {
        const int count = (int)(q->n - first < COG_TILE ? q->n - first : COG_TILE);
        float *to = count % COG_TILE_ROW == 0 ? out + first : trial; /* whole rows are written */
        q->tile_ops->combine(n_terms, terms, first, count, to);
        if (to == trial) q->tile_ops->put(out + first, trial, count, false);
        q->tile_ops->put(residual + first, nothing, count, stream);
    }
    q->tile_ops->fence();
    return COG_OK;
}

static cog_status add(const cog_quantizer *q, cog_device *device, const void *payload, float weight,
                      int64_t first, int64_t count, float *y) {
    (void)device;
    q->tile_ops->add_floats((const float *)payload + first, weight, count, y);
    return COG_OK;
}

static void format(const cog_quantizer *q, cog_kernel_format *out) {
    *out = (cog_kernel_format){.layout = COG_LAYOUT_FP32, .n = q->n};
}

static const cog_quantizer_kernels on_cpu = {.pack = pack, .add = add};

const cog_quantizer_ops cog_quantizer_identity = {
    .name = "identity",
    .summary = "every entry as fp32",
    .exact = true,
    .configure = configure,
    .payload_bytes = payload_bytes,
    .check = check,
    .format = format,
    .on = {[COG_CPU] = &on_cpu, [COG_CUDA] = COG_CUDA_KERNELS(cog_identity_on_cuda)},
};
