/* bench_mlp.c - images a second of plain stochastic gradient descent on MNIST: one worker, no
 * code, no compression. What everything else has to be measured against.
 *
 *   cograd-bench-mlp [SECONDS [THREADS [BATCH [BLOCKS]]]]      default 5 1 256 1
 *
 * Network 784-512-256-10, mean loss, rate 0.1. Rows are visited in order; a step is backprop,
 * message and the update of the parameters. bench/torch_mlp.py does the same in PyTorch. The
 * accuracy at the end shows that it is training. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cograd/cograd.h"
#include "device.h"

typedef struct bench {
    double seconds;
    int64_t batch;
    int n_blocks;
    char device_spec[32];
    cog_device *device;
    cog_dataset *train, *test;
    cog_model model;
    float *params, *gradient;
    void *workspace;
} bench;

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static cog_status set_up(bench *b) {
    cog_status status = cog_device_open(b->device_spec, &b->device);
    if (status == COG_OK) status = cog_dataset_open("mnist", &b->train, &b->test);
    if (status == COG_OK)
        status = cog_model_open("mlp:hidden=512x256", b->train->n_features, b->train->n_classes,
                                b->n_blocks, &b->model);
    if (status == COG_OK) status = cog_device_zeros(b->device, b->model.n_params, &b->params);
    if (status == COG_OK) status = cog_device_zeros(b->device, b->model.n_params, &b->gradient);
    if (status == COG_OK) status = b->model.init(b->model.user, 1, b->params);
    if (status != COG_OK) return status;
    const size_t bytes = b->model.workspace_bytes(b->model.user, b->test->n_rows);
    return b->device->ops->alloc(b->device, bytes, &b->workspace);
}

static void tear_down(bench *b) {
    cog_device_free(b->device, b->params);
    cog_device_free(b->device, b->gradient);
    cog_device_free(b->device, b->workspace);
    cog_model_close(&b->model);
    cog_dataset_close(b->train);
    cog_dataset_close(b->test);
    cog_device_close(b->device);
}

/* One step on the rows from `first` on. */
static cog_status step(bench *b, int64_t first) {
    const int64_t segment[] = {0, b->batch};
    const cog_batch batch = {b->batch,
                             b->train->n_features,
                             b->train->x + first * b->train->n_features,
                             b->train->y + first,
                             1,
                             segment};
    const cog_model *m = &b->model;
    cog_status status = m->backprop(m->user, b->device, &batch, b->params, b->workspace);
    for (int a = 0; status == COG_OK && a < b->n_blocks; a++) {
        const cog_slice whole = {0, a, 1};
        status = m->message(m->user, b->device, &batch, b->params, b->workspace, 1, &whole,
                            b->gradient + a * m->block_len);
    }
    if (status != COG_OK) return status;
    const float rate = -0.1f / (float)b->batch;
    return b->device->ops->axpby(b->device, rate, b->gradient, 1, b->params, m->n_params);
}

/* Images in a second of the clock and in a second of the processor, over about `seconds`. */
static cog_status train(bench *b, double seconds, double *rate, double *cpu_rate) {
    int64_t first = 0, n_images = 0;
    const double begin = now(CLOCK_MONOTONIC), cpu_begin = now(CLOCK_PROCESS_CPUTIME_ID);
    double end = begin;
    while (end - begin < seconds) {
        for (int i = 0; i < 16; i++) {
            const cog_status status = step(b, first);
            if (status != COG_OK) return status;
            first = first + 2 * b->batch <= b->train->n_rows ? first + b->batch : 0;
            n_images += b->batch;
        }
        end = now(CLOCK_MONOTONIC);
    }
    *rate = (double)n_images / (end - begin);
    *cpu_rate = (double)n_images / (now(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin);
    return COG_OK;
}

static cog_status run(bench *b) {
    double rate, cpu_rate;
    cog_status status = set_up(b);
    if (status == COG_OK) status = train(b, b->seconds / 5, &rate, &cpu_rate);
    if (status == COG_OK) status = train(b, b->seconds, &rate, &cpu_rate);
    if (status != COG_OK) return status;
    const int64_t segment[] = {0, b->test->n_rows};
    const cog_batch all = {b->test->n_rows, b->test->n_features, b->test->x, b->test->y, 1,
                           segment};
    cog_loss loss;
    status = b->model.evaluate(b->model.user, b->device, &all, b->params, b->workspace, &loss);
    if (status == COG_OK)
        printf("%.0f images/s   %.0f a CPU second, %s, batch %ld, %d blocks, accuracy %.4f\n", rate,
               cpu_rate, b->device_spec, (long)b->batch, b->n_blocks,
               (double)loss.n_correct / (double)all.n_rows);
    return status;
}

static double argument(int argc, char **argv, int i, double fallback) {
    return argc > i ? atof(argv[i]) : fallback;
}

int main(int argc, char **argv) {
    bench b = {.seconds = argument(argc, argv, 1, 5),
               .batch = (int64_t)argument(argc, argv, 3, 256),
               .n_blocks = (int)argument(argc, argv, 4, 1)};
    const int n_threads = (int)argument(argc, argv, 2, 1);
    if (b.seconds <= 0 || b.batch < 1 || b.batch > 10000 || b.n_blocks < 1 || n_threads < 1) {
        fprintf(stderr, "usage: cograd-bench-mlp [SECONDS [THREADS [BATCH [BLOCKS]]]]\n");
        return 2;
    }
    snprintf(b.device_spec, sizeof(b.device_spec), "cpu:threads=%d", n_threads);
    const cog_status status = run(&b);
    if (status != COG_OK) fprintf(stderr, "cograd-bench-mlp: %s\n", cog_last_error());
    tear_down(&b);
    return status == COG_OK ? 0 : 1;
}
