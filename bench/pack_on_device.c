/* pack_on_device.c - packs on a GPU, timed by its own events, with a cold second-level cache.
 *
 * Before every timed call a buffer of twice that cache is written, so a message of any size comes
 * from memory. Every pack is followed by a copy of the message from device to device, timed alike:
 * xfloor is the bandwidth of floor bytes over that of the copy, which moves 8 bytes an entry. Wrong
 * are entries of the residual and bytes of the payload that differ from the CPU's. */
#include "pack_on_device.h"

#ifndef COG_WITH_CUDA
#include "check.h"

cog_status bench_on_device(cog_device *device, int64_t n, int n_specs, const char *const *specs,
                           int n_warm, int n_runs, FILE *record, int *n_records) {
    (void)device, (void)n, (void)n_specs, (void)specs;
    (void)n_warm, (void)n_runs, (void)record, (void)n_records;
    COG_FAIL(COG_ERR_UNSUPPORTED, "this bench was built without CUDA");
}
#else
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "compress.h"
#include "pack_floor.h"
#include "rng.h"

enum { MAX_RUNS = 1000 };

typedef struct job {
    cog_device *cpu, *gpu;
    cog_quantizer q;
    float *x, *error, *residual; /* on the GPU */
    void *state, *scratch, *payload, *flush;
    int64_t n_flush;
    float *host_x, *host_error;
    cudaEvent_t begin, end;
} job;

typedef struct times {
    double least, median, most; /* us */
} times;

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static times summary(double *us, int n) {
    qsort(us, (size_t)n, sizeof(*us), by_value);
    return (times){us[0], us[n / 2], us[n - 1]};
}

static cog_status zeroed(cog_device *device, size_t bytes, void **out) {
    float *memory;
    COG_TRY(cog_device_zeros(device, (int64_t)(bytes + 3) / 4, &memory));
    *out = memory;
    return COG_OK;
}

static cog_status fill_inputs(job *j) {
    const size_t bytes = (size_t)j->q.n * sizeof(float);
    j->host_x = malloc(bytes);
    j->host_error = malloc(bytes);
    COG_CHECK(j->host_x && j->host_error, COG_ERR_MEMORY, "no memory for %zu bytes", 2 * bytes);
    cog_rng rng = cog_rng_make(1, COG_STREAM_TEST, 0, 0);
    for (int64_t i = 0; i < j->q.n; i++) {
        j->host_x[i] = (float)cog_rng_normal(&rng);
        j->host_error[i] = 0.5f * (float)cog_rng_normal(&rng);
    }
    COG_TRY(j->gpu->ops->upload(j->gpu, j->x, j->host_x, bytes));
    return j->gpu->ops->upload(j->gpu, j->error, j->host_error, bytes);
}

static cog_status open_job(job *j, const char *text, int64_t n) {
    cog_spec spec;
    COG_TRY(cog_spec_parse(text, &spec));
    COG_TRY(cog_quantizer_configure(&spec, n, &j->q));
    const cog_quantizer_ops *ops = j->q.ops;
    const cog_quantizer_kernels *kernels = ops->on[COG_CUDA];
    COG_CHECK(kernels != NULL, COG_ERR_UNSUPPORTED, "'%s' has no kernels", ops->name);
    COG_TRY(cog_device_zeros(j->gpu, n, &j->x));
    COG_TRY(cog_device_zeros(j->gpu, n, &j->error));
    COG_TRY(cog_device_zeros(j->gpu, n, &j->residual));
    COG_TRY(zeroed(j->gpu, cog_quantizer_state_bytes(&j->q), &j->state));
    COG_TRY(zeroed(j->gpu, cog_quantizer_scratch_bytes(&j->q, kernels), &j->scratch));
    COG_TRY(zeroed(j->gpu, ops->payload_bytes(&j->q), &j->payload));
    int cache;
    COG_CUDA_TRY(j->gpu, cudaDeviceGetAttribute, &cache, cudaDevAttrL2CacheSize, 0);
    j->n_flush = 2 * (int64_t)cache / (int64_t)sizeof(float);
    COG_TRY(zeroed(j->gpu, (size_t)j->n_flush * sizeof(float), &j->flush));
    COG_CUDA_TRY(j->gpu, cudaEventCreate, &j->begin);
    COG_CUDA_TRY(j->gpu, cudaEventCreate, &j->end);
    return fill_inputs(j);
}

static void close_job(job *j) {
    void *all[] = {j->x, j->error, j->residual, j->state, j->scratch, j->payload, j->flush};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) cog_device_free(j->gpu, all[i]);
    if (j->begin != NULL) cudaEventDestroy(j->begin);
    if (j->end != NULL) cudaEventDestroy(j->end);
    free(j->host_x);
    free(j->host_error);
}

static cog_status pack(job *j) {
    const cog_term terms[] = {{j->x, 1}, {j->error, 1}};
    return j->q.ops->on[COG_CUDA]->pack(&j->q, j->gpu, 2, terms, j->residual, j->state, j->scratch,
                                        j->payload);
}

static cog_status copy(job *j) {
    COG_CUDA_TRY(j->gpu, cudaMemcpyAsync, j->residual, j->x, (size_t)j->q.n * sizeof(float),
                 cudaMemcpyDeviceToDevice, cog_device_stream(j->gpu));
    return COG_OK;
}

static cog_status time_once(job *j, cog_status (*work)(job *), double *us) {
    float ms = 0;
    COG_TRY(j->gpu->ops->fill(j->gpu, 1, j->flush, j->n_flush));
    COG_CUDA_TRY(j->gpu, cudaEventRecord, j->begin, cog_device_stream(j->gpu));
    COG_TRY(work(j));
    COG_CUDA_TRY(j->gpu, cudaEventRecord, j->end, cog_device_stream(j->gpu));
    COG_TRY(cog_device_sync(j->gpu));
    COG_CUDA_TRY(j->gpu, cudaEventElapsedTime, &ms, j->begin, j->end);
    *us = 1e3 * (double)ms;
    return COG_OK;
}

/* The first pack, compared with the CPU's; its payload stays in host memory. */
static cog_status check(job *j, void *payload, int64_t *n_wrong) {
    const cog_quantizer_ops *ops = j->q.ops;
    const size_t bytes = ops->payload_bytes(&j->q), n = (size_t)j->q.n;
    const cog_term terms[] = {{j->host_x, 1}, {j->host_error, 1}};
    float *residual = malloc(n * sizeof(*residual)), *got = malloc(n * sizeof(*got));
    unsigned char *got_payload = malloc(bytes + 1);
    void *state = calloc(cog_quantizer_state_bytes(&j->q) + 1, 1);
    void *scratch = calloc(cog_quantizer_scratch_bytes(&j->q, NULL) + 1, 1);
    cog_status status = COG_ERR_MEMORY;
    if (residual && got && got_payload && state && scratch)
        status = ops->on[COG_CPU]->pack(&j->q, j->cpu, 2, terms, residual, state, scratch, payload);
    if (status == COG_OK) status = pack(j);
    if (status == COG_OK) status = j->gpu->ops->download(j->gpu, got, j->residual, n * 4);
    if (status == COG_OK) status = j->gpu->ops->download(j->gpu, got_payload, j->payload, bytes);
    *n_wrong = 0;
    if (status == COG_OK) {
        const size_t used = cog_quantizer_used_bytes(&j->q, payload);
        for (size_t i = 0; i < n; i++) *n_wrong += memcmp(&got[i], &residual[i], 4) != 0;
        for (size_t i = 0; i < used; i++)
            *n_wrong += got_payload[i] != ((unsigned char *)payload)[i];
    }
    free(residual), free(got), free(got_payload), free(state), free(scratch);
    return status;
}

static cog_status measure(job *j, const char *spec, int n_warm, int n_runs, FILE *record,
                          int *n_records) {
    double us[MAX_RUNS], copy_us[MAX_RUNS];
    int64_t n_wrong;
    void *payload = malloc(j->q.ops->payload_bytes(&j->q) + 1);
    COG_CHECK(payload != NULL, COG_ERR_MEMORY, "no memory for a payload");
    const cog_status status = check(j, payload, &n_wrong);
    const double floor = status == COG_OK ? floor_bytes(&j->q, spec, payload) : 0;
    free(payload);
    COG_TRY(status);
    for (int i = -n_warm; i < n_runs; i++) {
        COG_TRY(time_once(j, pack, &us[i < 0 ? 0 : i]));
        COG_TRY(time_once(j, copy, &copy_us[i < 0 ? 0 : i]));
    }
    const times t = summary(us, n_runs), c = summary(copy_us, n_runs);
    const double moved = 8 * (double)j->q.n;
    const double rate = floor / t.median * 1e-3, copied = moved / c.median * 1e-3;
    printf("%12lld %12lld %5s %10.1f %10.1f %10.1f %9.2f %9.2f %7.2f %6lld  %s\n",
           (long long)j->q.n * 4, (long long)j->q.n, "float", t.median, t.least, t.most, rate,
           copied, rate / copied, (long long)n_wrong, spec);
    fflush(stdout);
    if (record == NULL) return COG_OK;
    fprintf(record,
            "%s  {\"channel\": \"%s\", \"entries\": %lld, \"runs\": %d, \"us\": {\"median\": %g, "
            "\"least\": %g, \"most\": %g}, \"copy_us\": {\"median\": %g, \"least\": %g, \"most\": "
            "%g}, \"floor_bytes\": %g, \"copy_bytes\": %g, \"xfloor\": %g, \"wrong\": %lld}",
            (*n_records)++ > 0 ? ",\n" : "", spec, (long long)j->q.n, n_runs, t.median, t.least,
            t.most, c.median, c.least, c.most, floor, moved, rate / copied, (long long)n_wrong);
    return COG_OK;
}

cog_status bench_on_device(cog_device *device, int64_t n, int n_specs, const char *const *specs,
                           int n_warm, int n_runs, FILE *record, int *n_records) {
    cog_device *cpu;
    COG_TRY(cog_device_open("cpu", &cpu));
    cog_status status = COG_OK;
    for (int i = 0; i < n_specs && status == COG_OK; i++) {
        job j = {.cpu = cpu, .gpu = device};
        status = open_job(&j, specs[i], n);
        if (status == COG_OK) status = measure(&j, specs[i], n_warm, n_runs, record, n_records);
        close_job(&j);
    }
    cog_device_close(cpu);
    return status;
}
#endif
