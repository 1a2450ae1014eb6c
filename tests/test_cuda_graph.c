/* test_cuda_graph.c - a round of the device is captured in a CUDA graph once and launched again.
 *
 *     gradient -> message -> pack, with error feedback -> decode of the payload and one step
 *
 * The worker's half and the server's run on one GPU here, so that the payload stays where it is;
 * its first word, which a server reads on the host, is copied into the list of messages. */
#include "device_bench.h"

#include <cuda_runtime_api.h>

#include "cograd/model.h"
#include "compress.h"
#include "kernels.h"

enum { ROWS = 40, SEGMENTS = 2, FEATURES = 24, CLASSES = 10, BLOCKS = 2, ROUNDS = 4 };
enum { ALIGNMENT = 128 }; /* of the body of a payload, see kernels.h */

static const int64_t segment[SEGMENTS + 1] = {0, 17, ROWS};
static const cog_slice slices[] = {{0, 0, 1}, {1, 1, -0.5}, {1, 0, 0.25}};
static const cog_kernel_step steps[] = {
    {.rule = COG_RULE_SGD, .rate = 0.01f},
    {.rule = COG_RULE_MOMENTUM, .rate = 0.01f, .beta1 = 0.9f},
    {COG_RULE_ADAM, 0.01f, 0.9f, 0.1f, 0.999f, 0.001f, 1, 1e-8f},
};
enum { N_STEPS = sizeof(steps) / sizeof(*steps) };

static const char *const quantizers[] = {
    "identity",
    "bf16",
    "sign",
    "sign:scale=group,group=256",
    "topk:ratio=0.01",
    "topk:ratio=0.1,values=bf16,tile=256",
    "topk:ratio=0.02,kind=global",
    "topk:ratio=0.02,kind=threshold",
};

#define CUDA_OK(call)                                                                   \
    do {                                                                                \
        const cudaError_t error_ = (call);                                              \
        cr_assert_eq(error_, cudaSuccess, "%s: %s", #call, cudaGetErrorString(error_)); \
    } while (0)

/* What a worker and its server hold on the GPU. */
typedef struct rig {
    bench b;
    cudaStream_t stream;
    cog_model model;
    cog_batch batch;
    cog_quantizer q;
    const cog_quantizer_kernels *kernels; /* NULL: what is packed is not taken */
    void *x, *y, *workspace, *message, *residual, *state, *scratch, *memory, *table;
    void *payload; /* in `memory`, its body aligned */
    size_t payload_bytes, state_bytes;
    cog_kernel_decode work;
} rig;

static void *device_memory(const rig *r, size_t bytes) {
    float *memory;
    OK(cog_device_zeros(r->b.gpu, (int64_t)(bytes + 3) / 4, &memory));
    return memory;
}

static void put(const rig *r, void *to, const void *from, size_t bytes) {
    OK(r->b.gpu->ops->upload(r->b.gpu, to, from, bytes));
}

static void open_data(rig *r) {
    float *x = family_make(NORMAL, 1, ROWS * FEATURES), y[ROWS];
    for (int i = 0; i < ROWS; i++) y[i] = (float)(i * 7 % CLASSES);
    r->x = device_memory(r, ROWS * FEATURES * sizeof(*x));
    r->y = device_memory(r, sizeof(y));
    put(r, r->x, x, ROWS * FEATURES * sizeof(*x));
    put(r, r->y, y, sizeof(y));
    r->batch = (cog_batch){ROWS, FEATURES, r->x, r->y, SEGMENTS, segment};
    free(x);
}

/* Both blocks take the one message, each with its weight. */
static void open_table(rig *r) {
    static const int32_t first[BLOCKS + 2] = {0, 1, 2}; /* and padding */
    const cog_kernel_message messages[BLOCKS] = {{r->payload, 0.7f, 0}, {r->payload, -0.3f, 0}};
    r->table = device_memory(r, sizeof(first) + sizeof(messages));
    put(r, r->table, first, sizeof(first));
    put(r, (char *)r->table + sizeof(first), messages, sizeof(messages));
    r->work.n_blocks = BLOCKS;
    r->work.first = r->table;
    r->work.messages = (const void *)((const char *)r->table + sizeof(first));
}

static void open_quantizer(rig *r, const char *text) {
    cog_spec spec;
    OK(cog_spec_parse(text, &spec));
    OK(cog_quantizer_configure(&spec, r->model.block_len, &r->q));
    r->kernels = r->q.ops->on[COG_CUDA];
    r->payload_bytes = r->q.ops->payload_bytes(&r->q);
    r->state_bytes = cog_quantizer_state_bytes(&r->q);
    r->q.ops->format(&r->q, &r->work.format);
    const size_t scratch = cog_quantizer_scratch_bytes(&r->q, r->kernels);
    r->scratch = device_memory(r, scratch);
    r->state = device_memory(r, r->state_bytes);
    r->memory = device_memory(r, r->payload_bytes + ALIGNMENT);
    r->payload = (char *)r->memory + (ALIGNMENT - r->work.format.body % ALIGNMENT) % ALIGNMENT;
}

static rig open_rig(const char *quantizer, const cog_kernel_step *step) {
    rig r = {.b = bench_open()};
    r.stream = cog_device_stream(r.b.gpu);
    OK(cog_model_open("mlp:hidden=32", FEATURES, CLASSES, BLOCKS, &r.model));
    open_data(&r);
    open_quantizer(&r, quantizer);
    open_table(&r);
    const size_t n_params = (size_t)r.model.n_params;
    r.workspace = device_memory(&r, r.model.workspace_bytes(r.model.user, ROWS));
    r.message = device_memory(&r, (size_t)r.model.block_len * sizeof(float));
    r.residual = device_memory(&r, (size_t)r.model.block_len * sizeof(float));
    r.work.params = device_memory(&r, n_params * sizeof(float));
    r.work.state = device_memory(&r, 2 * n_params * sizeof(float));
    r.work.step = *step;
    float *initial = malloc(n_params * sizeof(float));
    OK(r.model.init(r.model.user, 7, initial));
    put(&r, r.work.params, initial, n_params * sizeof(float));
    free(initial);
    return r;
}

static void close_rig(rig *r) {
    void *all[] = {r->x,       r->y,      r->workspace, r->message,     r->residual,  r->state,
                   r->scratch, r->memory, r->table,     r->work.params, r->work.state};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) cog_device_free(r->b.gpu, all[i]);
    cog_model_close(&r->model);
    bench_close(r->b);
}

/* ---- a round --------------------------------------------------------------------------------- */

/* The message, and its payload in the list of the decoder. */
static void enqueue_worker(rig *r) {
    const cog_model *m = &r->model;
    const cog_term trial[] = {{r->message, 1}, {r->residual, 1}};
    OK(m->backprop(m->user, r->b.gpu, &r->batch, r->work.params, r->workspace));
    OK(m->message(m->user, r->b.gpu, &r->batch, r->work.params, r->workspace,
                  sizeof(slices) / sizeof(*slices), slices, r->message));
    OK(r->kernels->pack(&r->q, r->b.gpu, 2, trial, r->residual, r->state, r->scratch, r->payload));
    for (int32_t b = 0; b < BLOCKS; b++)
        CUDA_OK(cudaMemcpyAsync((void *)&r->work.messages[b].head, r->payload, sizeof(uint32_t),
                                cudaMemcpyDeviceToDevice, r->stream));
}

static void enqueue_round(rig *r) {
    enqueue_worker(r);
    OK(r->b.gpu->ops->decode(r->b.gpu, &r->work));
}

static void launch_rounds(rig *r) {
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CUDA_OK(cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeGlobal));
    enqueue_round(r);
    CUDA_OK(cudaStreamEndCapture(r->stream, &graph));
    CUDA_OK(cudaGraphInstantiate(&executable, graph, 0));
    CUDA_OK(cudaGraphDestroy(graph));
    for (int i = 0; i < ROUNDS; i++) CUDA_OK(cudaGraphLaunch(executable, r->stream));
    OK(cog_device_sync(r->b.gpu));
    CUDA_OK(cudaGraphExecDestroy(executable));
}

static void check_same(const rig *a, const rig *b, const char *what, const char *quantizer,
                       const void *of_a, const void *of_b, size_t bytes) {
    unsigned char *x = malloc(bytes + 1), *y = malloc(bytes + 1);
    OK(a->b.gpu->ops->download(a->b.gpu, x, of_a, bytes));
    OK(b->b.gpu->ops->download(b->b.gpu, y, of_b, bytes));
    cr_assert_eq(memcmp(x, y, bytes), 0, "%s: a graph leaves another %s", quantizer, what);
    free(x), free(y);
}

static void check_rigs(const rig *a, const rig *b, const char *quantizer) {
    const size_t n = (size_t)a->model.n_params * sizeof(float), length = n / BLOCKS;
    check_same(a, b, "parameter", quantizer, a->work.params, b->work.params, n);
    check_same(a, b, "momentum", quantizer, a->work.state, b->work.state, 2 * n);
    check_same(a, b, "gradient", quantizer, a->message, b->message, length);
    check_same(a, b, "residual", quantizer, a->residual, b->residual, length);
    check_same(a, b, "state", quantizer, a->state, b->state, a->state_bytes);
}

Test(cuda_graph, a_round_launched_from_a_graph_leaves_the_bits_of_its_calls) {
    for (size_t i = 0; i < sizeof(quantizers) / sizeof(*quantizers); i++) {
        rig called = open_rig(quantizers[i], &steps[i % N_STEPS]);
        rig launched = open_rig(quantizers[i], &steps[i % N_STEPS]);
        cr_assert_not_null(called.kernels, "%s has no kernels", quantizers[i]);
        for (int round = 0; round < ROUNDS; round++) enqueue_round(&called);
        launch_rounds(&launched);
        check_rigs(&called, &launched, quantizers[i]);
        close_rig(&called), close_rig(&launched);
    }
}

/* Launches do not repeat one result: every round goes on from the last. */
Test(cuda_graph, every_launch_is_a_round_of_its_own) {
    rig r = open_rig("identity", &steps[0]);
    const size_t bytes = (size_t)r.model.block_len * sizeof(float);
    float *before = malloc(bytes), *after = malloc(bytes);
    enqueue_round(&r);
    OK(r.b.gpu->ops->download(r.b.gpu, before, r.message, bytes));
    launch_rounds(&r);
    OK(r.b.gpu->ops->download(r.b.gpu, after, r.message, bytes));
    cr_assert_neq(memcmp(before, after, bytes), 0);
    free(before), free(after);
    close_rig(&r);
}

/* Copies from and to the host wait, so they do not belong in a graph: a sentence says so, the
 * capture is over, and the device goes on. */
Test(cuda_graph, what_waits_is_refused_within_a_capture) {
    for (int call = 0; call < 3; call++) {
        rig r = open_rig("identity", &steps[0]);
        cog_device *gpu = r.b.gpu;
        cudaGraph_t graph = NULL;
        float host = 0;
        CUDA_OK(cudaStreamBeginCapture(r.stream, cudaStreamCaptureModeGlobal));
        const cog_status status = call == 0   ? gpu->ops->upload(gpu, r.x, &host, sizeof(host))
                                  : call == 1 ? gpu->ops->download(gpu, &host, r.x, sizeof(host))
                                              : cog_device_sync(gpu);
        cr_assert_eq(status, COG_ERR_DEVICE);
        cr_assert_not_null(strstr(cog_last_error(), "captur"), "%s", cog_last_error());
        cr_assert_neq(cudaStreamEndCapture(r.stream, &graph), cudaSuccess);
        cudaGetLastError();
        OK(gpu->ops->download(gpu, &host, r.x, sizeof(host)));
        close_rig(&r);
    }
}
