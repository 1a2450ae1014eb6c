/* device.c - opens a device by name, and the few calls that are the same on all of them. */
#include "device.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "registry.h"

/* A device that exists but is not in this build is another error than one nobody knows. */
static cog_status find_device(const char *name, const cog_device_ops **out) {
    const cog_status status = cog_find_device(name, out);
    if (status == COG_OK || strcmp(name, "cuda") != 0) return status;
    COG_FAIL(COG_ERR_UNSUPPORTED, "this library was built without the device 'cuda'");
}

static cog_status open_parsed(cog_spec *spec, cog_device *device) {
    COG_TRY(find_device(spec->name, &device->ops));
    COG_TRY(device->ops->open(device, spec));
    return cog_spec_finish(spec);
}

cog_status cog_device_open(const char *text, cog_device **out) {
    cog_spec spec;
    COG_TRY(cog_spec_parse(text, &spec));
    cog_device *device = calloc(1, sizeof(*device));
    COG_CHECK(device != NULL, COG_ERR_MEMORY, "no memory for a device");
    const cog_status status = open_parsed(&spec, device);
    if (status != COG_OK) {
        cog_device_close(device);
        return status;
    }
    *out = device;
    return COG_OK;
}

void cog_device_close(cog_device *device) {
    if (device == NULL) return;
    if (device->ops != NULL) device->ops->close(device);
    free(device);
}

cog_device_kind cog_device_kind_of(const cog_device *device) { return device->ops->kind; }

void *cog_device_stream(const cog_device *device) {
    return device->ops->stream != NULL ? device->ops->stream(device) : NULL;
}

cog_status cog_device_sync(cog_device *device) { return device->ops->sync(device); }

cog_status cog_device_zeros(cog_device *device, int64_t n, float **out) {
    COG_CHECK(n >= 0 && n <= INT64_MAX / 8, COG_ERR_ARGUMENT,
              "a vector of %" PRId64 " numbers cannot be allocated", n);
    void *memory;
    COG_TRY(device->ops->alloc(device, (size_t)n * sizeof(float), &memory));
    const cog_status status = device->ops->fill(device, 0, memory, n);
    if (status != COG_OK) {
        device->ops->free(device, memory);
        return status;
    }
    *out = memory;
    return COG_OK;
}

void cog_device_free(cog_device *device, void *memory) {
    if (device != NULL) device->ops->free(device, memory);
}

/* On a GPU a sum for each tile of 4096 entries and the results, see kernels/predict.cu; on the CPU
 * 256 for each result. */
size_t cog_device_sums_bytes(int64_t n) {
    const int64_t n_tiles = (n + 4095) / 4096;
    return (size_t)(n_tiles < 256 ? 257 : n_tiles + 1) * 2 * COG_MAX_VECTORS * sizeof(double);
}

cog_status cog_device_gemm(cog_device *device, bool transpose_a, bool transpose_b, int64_t m,
                           int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                           int64_t stride_a, const float *b, int64_t ldb, int64_t stride_b,
                           float beta, float *c, int64_t ldc, int64_t stride_c, int count) {
    device->gemm_flops += 2 * m * n * k * count;
    return device->ops->gemm(device, transpose_a, transpose_b, m, n, k, alpha, a, lda, stride_a, b,
                             ldb, stride_b, beta, c, ldc, stride_c, count);
}
