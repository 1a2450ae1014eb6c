/* test_cuda_calls.c - every CUDA call that fails becomes a sentence, and rounds allocate nothing.
 */
#include "cuda_calls.h"
#include "device_bench.h"
#include "engine_rig.h"

#include "channel.h"
#include "check.h"
#include "replica.h"

enum { ROWS = 30, FEATURES = 16, CLASSES = 10, BLOCKS = 2 };

static const int64_t segment[] = {0, ROWS};
static const cog_slice slices[] = {{0, 0, 1}, {0, 1, -0.5}};

/* ---- failing calls --------------------------------------------------------------------------- */

/* A device and what a worker and a server put on it. */
typedef struct machine {
    cog_device *gpu;
    cog_model model;
    cog_channel *sender;
    cog_replica *replica;
    cog_update update;
    float *x, *y, *message;
    void *workspace;
} machine;

static cog_status open_machine(machine *m) {
    COG_TRY(cog_device_open(GPU_NAME, &m->gpu));
    COG_TRY(cog_model_open("mlp:hidden=12", FEATURES, CLASSES, BLOCKS, &m->model));
    COG_TRY(cog_channel_open("topk:ratio=0.1,kind=threshold,feedback=1", m->gpu, m->model.block_len,
                             COG_SENDER, &m->sender));
    COG_TRY(cog_replica_open("momentum:rate=0.1", cog_channel_quantizer(m->sender), m->gpu, BLOCKS,
                             &m->replica));
    COG_TRY(cog_device_zeros(m->gpu, ROWS * FEATURES, &m->x));
    COG_TRY(cog_device_zeros(m->gpu, ROWS, &m->y));
    COG_TRY(cog_device_zeros(m->gpu, m->model.block_len, &m->message));
    const size_t workspace = m->model.workspace_bytes(m->model.user, ROWS);
    return m->gpu->ops->alloc(m->gpu, workspace, &m->workspace);
}

static cog_status round_of(machine *m) {
    const cog_batch batch = {ROWS, FEATURES, m->x, m->y, 1, segment};
    const cog_term term = {m->message, 1};
    const float *params = cog_replica_params(m->replica);
    const void *payload;
    size_t bytes;
    COG_TRY(m->model.backprop(m->model.user, m->gpu, &batch, params, m->workspace));
    COG_TRY(m->model.message(m->model.user, m->gpu, &batch, params, m->workspace, 2, slices,
                             m->message));
    COG_TRY(cog_channel_pack(m->sender, 1, &term, &payload, &bytes));
    cog_update_clear(&m->update);
    COG_TRY(cog_update_message_add(&m->update, 0, payload, bytes));
    for (int b = 0; b < BLOCKS; b++) COG_TRY(cog_update_term_add(&m->update, b, 0.5f));
    COG_TRY(cog_replica_apply(m->replica, 0, &m->update));
    return cog_device_sync(m->gpu);
}

static void close_machine(machine *m) {
    void *all[] = {m->x, m->y, m->message, m->workspace};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) cog_device_free(m->gpu, all[i]);
    cog_update_free(&m->update);
    cog_replica_close(m->replica);
    cog_channel_close(m->sender);
    cog_model_close(&m->model);
    cog_device_close(m->gpu);
}

/* Whether the call to fail came up before the end; the end cleans up undisturbed. */
static bool live(cog_status *status) {
    machine m = {0};
    *status = open_machine(&m);
    if (*status == COG_OK) *status = round_of(&m);
    const bool has_failed = cuda_calls.has_failed;
    cuda_calls.fails = NULL;
    close_machine(&m);
    return has_failed;
}

#define TEXT_OF_(name) #name
#define TEXT_OF(name)  TEXT_OF_(name) /* cuBLAS renames its functions by macros */

static const struct {
    const char *name;
    cudaError_t error;
    cog_status status;
    const char *sentence;
    int at_least; /* calls of it in a life */
} failures[] = {
    {"cudaGetDeviceCount", cudaErrorNoDevice, COG_ERR_DEVICE, "no GPU can be used: ", 1},
    {"cudaGetDeviceProperties", cudaErrorUnknown, COG_ERR_DEVICE, "cudaGetDeviceProperties", 1},
    {"cudaSetDevice", cudaErrorInvalidDevice, COG_ERR_DEVICE, "cudaSetDevice failed on GPU 0", 30},
    {"cudaStreamCreateWithFlags", cudaErrorUnknown, COG_ERR_DEVICE, "cudaStreamCreate", 1},
    {"cudaStreamSynchronize", cudaErrorLaunchFailure, COG_ERR_DEVICE, "cudaStreamSynchr", 3},
    {"cudaMallocAsync", cudaErrorMemoryAllocation, COG_ERR_MEMORY, "", 10},
    {"cudaMallocAsync", cudaErrorUnknown, COG_ERR_DEVICE, "cudaMallocAsync failed", 10},
    {"cudaMemcpyAsync", cudaErrorInvalidValue, COG_ERR_DEVICE, "cudaMemcpyAsync failed", 3},
    {TEXT_OF(cublasCreate), cudaSuccess, COG_ERR_DEVICE, "cublasCreate failed on GPU 0", 1},
    {TEXT_OF(cublasSetStream), cudaSuccess, COG_ERR_DEVICE, "cublasSetStream failed", 1},
    {TEXT_OF(cublasSetWorkspace), cudaSuccess, COG_ERR_DEVICE, "cublasSetWorkspace failed", 1},
    {TEXT_OF(cublasSetMathMode), cudaSuccess, COG_ERR_DEVICE, "cublasSetMathMode failed", 1},
    {TEXT_OF(cublasSgemm_64), cudaSuccess, COG_ERR_DEVICE, "cublasSgemm_64 failed", 3},
    {TEXT_OF(cublasSgemmStridedBatched_64), cudaSuccess, COG_ERR_DEVICE,
     "cublasSgemmStridedBatched_64 failed", 2},
#ifndef COG_WITH_SIMT
    {"cudaGetLastError", cudaErrorInvalidConfiguration, COG_ERR_DEVICE, "cog_cuda_", 10},
#endif
};

Test(cuda_calls, a_call_that_fails_becomes_a_sentence_and_leaves_nothing_behind) {
    for (size_t i = 0; i < sizeof(failures) / sizeof(*failures); i++) {
        const char *text = failures[i].error != cudaSuccess
                               ? cudaGetErrorString(failures[i].error)
                               : cublasGetStatusString(CUBLAS_STATUS_EXECUTION_FAILED);
        int at = 0;
        for (cog_status status;; at++) {
            cuda_calls.n_allocated = cuda_calls.n_freed = 0;
            cuda_call_fails(failures[i].name, at, failures[i].error);
            if (!live(&status)) break;
            const char *said = cog_last_error();
            cr_assert_eq(status, failures[i].status, "%s, call %d: status %d, %s", failures[i].name,
                         at, status, said);
            cr_assert_not_null(strstr(said, failures[i].sentence), "%s, call %d: %s",
                               failures[i].name, at, said);
            cr_assert(status == COG_ERR_MEMORY ? strstr(said, "memory") : strstr(said, text),
                      "%s, call %d: %s", failures[i].name, at, said);
            cr_assert_eq(cuda_calls.n_allocated, cuda_calls.n_freed, "%s, call %d: %d of %d freed",
                         failures[i].name, at, cuda_calls.n_freed, cuda_calls.n_allocated);
        }
        cr_assert_geq(at, failures[i].at_least, "%s came up %d times", failures[i].name, at);
    }
}

Test(cuda_calls, a_device_works_after_one_that_failed) {
    cog_status status;
    cuda_call_fails("cudaMemcpyAsync", 1, cudaErrorUnknown);
    cr_assert(live(&status));
    cuda_call_fails(NULL, 0, cudaSuccess);
    cr_assert(!live(&status));
    cr_assert_eq(status, COG_OK, "%s", cog_last_error());
}

Test(cuda_calls, a_gpu_older_than_the_kernels_is_refused) {
    cog_device *gpu = NULL;
    cuda_calls.compute_major = 7;
    cr_assert_eq(cog_device_open(GPU_NAME, &gpu), COG_ERR_DEVICE);
    cr_assert_not_null(strstr(cog_last_error(), "compute capability 7."), "%s", cog_last_error());
    cr_assert_null(gpu);
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static const struct {
    const char *code, *channel, *downlink, *optimizer;
} schemes[] = {
    {"uncoded", "identity", "fp32", "momentum:rate=0.05"},
    {"frc:stragglers=1", "topk:ratio=0.05,feedback=1", "delta", "sgd:rate=0.1"},
    {"kasync:k=4", "topk:ratio=0.05,kind=threshold,feedback=1", "delta", "sgd:rate=0.1"},
    {"lwpd:weight=2,wait=6", "sign:scale=group", "bf16", "adam:rate=0.01"},
    {"replication:blocks=2,wait=6", "topk:ratio=0.1,kind=global,feedback=1", "delta",
     "momentum:rate=0.05"},
};

Test(cuda_calls, rounds_allocate_nothing_on_the_device) {
    for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
        cog_engine_config c = small();
        c.device = GPU_NAME;
        c.code = schemes[i].code;
        c.channel = schemes[i].channel;
        c.downlink = schemes[i].downlink;
        c.optimizer = schemes[i].optimizer;
        c.stragglers = "exp:mean=0.01";
        cuda_calls.n_allocated = cuda_calls.n_freed = 0;
        cog_engine *e = open_engine(&c);
        cr_assert_gt(cuda_calls.n_allocated, 0, "allocations are not counted");
        const int allocated = cuda_calls.n_allocated, freed = cuda_calls.n_freed;
        OK(cog_engine_run(e, 8, NULL, NULL));
        cr_expect_eq(cuda_calls.n_allocated, allocated, "%s, %s: %d allocations in 8 rounds",
                     c.code, c.channel, cuda_calls.n_allocated - allocated);
        cr_expect_eq(cuda_calls.n_freed, freed);
        cog_engine_destroy(e);
        cr_expect_eq(cuda_calls.n_freed, cuda_calls.n_allocated);
    }
}
