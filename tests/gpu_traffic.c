/* gpu_traffic.c - what every operation of a GPU moves, as the machine it runs on counts it: the
 * SIMT executor its loads and stores, a virtual CUDA machine those of the compiled program. A line
 * each:
 *
 *     operation  launches  bytes stored  sectors loaded  sectors stored
 *
 * A sector is 32 bytes and counts once a launch: what crosses the memory's bus. check_traffic.py
 * compares the two machines. On hardware nobody counts: status 77. */
#include <stdio.h>
#include <stdlib.h>

#include "channel.h"
#include "device.h"
#include "replica.h"
#include "rng.h"

typedef struct traffic {
    uint64_t launches, stored, load_sectors, store_sectors;
} traffic;

/* ---- who counts ------------------------------------------------------------------------------ */

#ifdef COG_WITH_SIMT
#include "simt.h"

static const char *const device_name = "simt";
static bool is_counted(void) { return true; }
static void reset(void) { simt_reset_counters(); }
static traffic counted(void) {
    simt_counters c;
    simt_read_counters(&c);
    return (traffic){c.launches, c.store_bytes, c.load_unique, c.store_unique};
}

#else
#include <cuda_runtime_api.h>
#include <dlfcn.h>

/* The first fields of the counters of one launch, as the interpreter of a virtual machine has
 * them. */
typedef struct launch_stats {
    uint64_t warp_instructions, thread_instructions, branches, divergent_branches, barriers;
    uint64_t load_requests, load_sectors, load_bytes, store_requests, store_sectors, store_bytes;
    uint64_t atomic_requests, atomic_sectors, atomic_lanes, load_unique, store_unique;
    uint64_t others[64];
} launch_stats;

static const char *const device_name = "cuda";
static traffic sum;

static void last_stats(launch_stats *out) {
    void (*stats)(launch_stats *);
    *(void **)&stats = dlsym(RTLD_DEFAULT, "ptxr_last_stats");
    if (stats != NULL) stats(out);
}
static bool is_counted(void) { return dlsym(RTLD_DEFAULT, "ptxr_last_stats") != NULL; }
static void reset(void) { sum = (traffic){0}; }
static traffic counted(void) { return sum; }

/* What nvcc's launches call; those of the library arrive here: run, add, go on. */
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args,
                               size_t shared, cudaStream_t stream);
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args,
                               size_t shared, cudaStream_t stream) {
    cudaError_t (*next)(cudaKernel_t, dim3, dim3, void **, size_t, cudaStream_t);
    *(void **)&next = dlsym(RTLD_NEXT, "__cudaLaunchKernel");
    cudaError_t error = next(kernel, grid, block, args, shared, stream);
    if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
    launch_stats s = {0};
    last_stats(&s);
    sum.launches++;
    sum.stored += s.store_bytes;
    sum.load_sectors += s.load_unique;
    sum.store_sectors += s.store_unique;
    return error;
}
#endif

/* ---- operations ------------------------------------------------------------------------------ */

enum { N = 1 << 16, ROWS = 64, COLUMNS = 512, N_VECTORS = 3 };

static cog_device *device;

static void require(cog_status status) {
    if (status == COG_OK) return;
    fprintf(stderr, "gpu_traffic: %s\n", cog_last_error());
    exit(1);
}

static float *vector(int64_t n, uint32_t stream) {
    float *host = calloc((size_t)n, sizeof(*host));
    float *out;
    if (host == NULL) exit(1);
    cog_rng rng = cog_rng_make(1, COG_STREAM_TEST, stream, 0);
    for (int64_t i = 0; i < n; i++) host[i] = (float)cog_rng_normal(&rng);
    require(device->ops->alloc(device, (size_t)n * sizeof(float), (void **)&out));
    require(device->ops->upload(device, out, host, (size_t)n * sizeof(float)));
    free(host);
    return out;
}

static void show(const char *name) {
    require(cog_device_sync(device));
    const traffic t = counted();
    printf("%s\t%llu\t%llu\t%llu\t%llu\n", name, (unsigned long long)t.launches,
           (unsigned long long)t.stored, (unsigned long long)t.load_sectors,
           (unsigned long long)t.store_sectors);
    reset();
}

static void show_vectors(void) {
    const cog_device_ops *ops = device->ops;
    float *x = vector(N, 0), *y = vector(N, 1);
    reset();
    require(ops->fill(device, 2, y, N));
    show("fill");
    require(ops->axpby(device, 2, x, 3, y, N));
    show("axpby");
    require(ops->to_bf16(device, x, (uint16_t *)y, N));
    show("to_bf16");
    require(ops->from_bf16(device, (uint16_t *)y, x, N / 2));
    show("from_bf16");
    cog_device_free(device, x);
    cog_device_free(device, y);
}

static void show_layers(void) {
    const cog_device_ops *ops = device->ops;
    float *z = vector(ROWS * COLUMNS, 2), *bias = vector(COLUMNS, 3), *loss = vector(ROWS, 4);
    float *label;
    require(cog_device_zeros(device, ROWS, &label));
    const cog_panels panels = {2, COLUMNS / 2, COLUMNS / 2};
    reset();
    require(ops->bias_relu(device, ROWS, COLUMNS, bias, panels, true, z));
    show("bias_relu");
    require(ops->softmax_cross_entropy(device, ROWS, COLUMNS, COLUMNS, z, label, z, loss, NULL));
    show("softmax_cross_entropy");
    require(ops->sum_rows(device, ROWS, COLUMNS, COLUMNS, 1, z, 1, bias));
    show("sum_rows");
    cog_device_free(device, z);
    cog_device_free(device, bias);
    cog_device_free(device, loss);
    cog_device_free(device, label);
}

/* Two messages with error feedback; the server applies both to two blocks. */
static void show_channel(const char *spec, const char *optimizer, float *const *x) {
    char name[160];
    cog_channel *sender;
    cog_replica *replica;
    cog_update update = {0};
    require(cog_channel_open(spec, device, N, COG_SENDER, &sender));
    require(cog_replica_open(optimizer, cog_channel_quantizer(sender), device, 2, &replica));
    require(cog_replica_reserve(replica, 2, 4));
    reset();
    for (int round = 0; round < 2; round++) {
        const cog_term terms[] = {{x[round], 1}, {x[2], -0.5f}};
        const void *payload;
        size_t bytes;
        require(cog_channel_pack(sender, 2, terms, &payload, &bytes));
        snprintf(name, sizeof(name), "pack %d of %s", round, spec);
        show(name);
        cog_update_clear(&update);
        require(cog_update_message_add(&update, 0, payload, bytes));
        for (int b = 0; b < 2; b++) require(cog_update_term_add(&update, b, 0.5f));
        require(cog_replica_apply(replica, round, &update));
        snprintf(name, sizeof(name), "decode %d of %s, %s", round, spec, optimizer);
        show(name);
        cog_channel_settle(sender, true);
    }
    cog_update_free(&update);
    cog_replica_close(replica);
    cog_channel_close(sender);
}

int main(void) {
    if (!is_counted()) {
        puts("skipped: this machine counts no bytes");
        return 77;
    }
    static const char *const channels[][2] = {
        {"identity:feedback=1", "sgd:rate=0.1"},
        {"bf16:feedback=1", "momentum:rate=0.1"},
        {"sign:feedback=1", "adam:rate=0.1"},
        {"sign:scale=group,feedback=1", "sgd:rate=0.1"},
        {"topk:ratio=0.01,feedback=1", "momentum:rate=0.1"},
        {"topk:ratio=0.01,values=bf16,feedback=1", "sgd:rate=0.1"},
        {"topk:ratio=0.01,kind=global,feedback=1", "adam:rate=0.1"},
        {"topk:ratio=0.01,kind=threshold,feedback=1", "sgd:rate=0.1"},
    };
    require(cog_device_open(device_name, &device));
    float *x[N_VECTORS];
    for (int i = 0; i < N_VECTORS; i++) x[i] = vector(N, 8 + (uint32_t)i);
    show_vectors();
    show_layers();
    for (size_t i = 0; i < sizeof(channels) / sizeof(*channels); i++)
        show_channel(channels[i][0], channels[i][1], x);
    for (int i = 0; i < N_VECTORS; i++) cog_device_free(device, x[i]);
    cog_device_close(device);
    return 0;
}
