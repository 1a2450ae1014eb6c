/* bench_engine.c - what the engine costs around the model: the same network, batch and number of
 * steps once in a plain loop and once as a run with one worker, turn about.
 *
 *   cograd-bench-engine [PAIRS [STEPS [BATCH]]]      default 9 60 256
 *
 * The plain loop takes its rows where they lie, in order; the engine draws them at random and
 * gathers them, asks, sends and reports. Processor time, so that a shared machine spoils less;
 * medians and extremes over the pairs. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cograd/cograd.h"
#include "device.h"

enum { MAX_PAIRS = 99 };

static const char *const transports[] = {"sim:threads=1", "threads"};

typedef struct bench {
    cog_dataset *train, *test;
    int64_t batch, n_steps;
} bench;

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct loop {
    cog_device *device;
    cog_model model;
    float *params, *gradient;
    void *workspace;
} loop;

static cog_status open_loop(const bench *b, loop *l) {
    cog_status status = cog_device_open("cpu", &l->device);
    if (status == COG_OK)
        status = cog_model_open("mlp:hidden=512x256", b->train->n_features, b->train->n_classes, 1,
                                &l->model);
    if (status == COG_OK) status = cog_device_zeros(l->device, l->model.n_params, &l->params);
    if (status == COG_OK) status = cog_device_zeros(l->device, l->model.n_params, &l->gradient);
    if (status == COG_OK) status = l->model.init(l->model.user, 1, l->params);
    if (status != COG_OK) return status;
    return l->device->ops->alloc(l->device, l->model.workspace_bytes(l->model.user, b->batch),
                                 &l->workspace);
}

static void close_loop(loop *l) {
    cog_device_free(l->device, l->params);
    cog_device_free(l->device, l->gradient);
    cog_device_free(l->device, l->workspace);
    cog_model_close(&l->model);
    cog_device_close(l->device);
}

static cog_status plain_steps(const bench *b, loop *l, double *seconds) {
    const cog_model *m = &l->model;
    const int64_t segment[] = {0, b->batch};
    const cog_slice whole = {0, 0, 1.0 / (double)b->batch};
    const double begin = cpu_seconds();
    for (int64_t i = 0, first = 0; i < b->n_steps; i++) {
        const cog_batch rows = {b->batch,
                                b->train->n_features,
                                b->train->x + first * b->train->n_features,
                                b->train->y + first,
                                1,
                                segment};
        cog_status status = m->backprop(m->user, l->device, &rows, l->params, l->workspace);
        if (status == COG_OK)
            status = m->message(m->user, l->device, &rows, l->params, l->workspace, 1, &whole,
                                l->gradient);
        if (status == COG_OK)
            status =
                l->device->ops->axpby(l->device, -0.1f, l->gradient, 1, l->params, m->n_params);
        if (status != COG_OK) return status;
        first = first + 2 * b->batch <= b->train->n_rows ? first + b->batch : 0;
    }
    *seconds = cpu_seconds() - begin;
    return COG_OK;
}

static cog_status engine_steps(const bench *b, cog_engine *engine, double *seconds) {
    const double begin = cpu_seconds();
    const cog_status status =
        cog_engine_run(engine, cog_engine_report(engine).round + b->n_steps, NULL, NULL);
    *seconds = cpu_seconds() - begin;
    return status;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The first pair warms up and does not count. */
static cog_status compare(const bench *b, loop *l, const char *transport, int n_pairs) {
    cog_engine_config config = cog_engine_config_default();
    config.train = b->train;
    config.transport = transport;
    config.code = "uncoded";
    config.optimizer = "sgd:rate=0.1";
    config.n_workers = 1;
    config.batch = b->batch;
    config.report_every = b->n_steps;
    cog_engine *engine = NULL;
    cog_status status = cog_engine_create(&config, &engine);
    double plain[MAX_PAIRS + 1], around[MAX_PAIRS + 1], ratio[MAX_PAIRS + 1];
    for (int i = 0; status == COG_OK && i <= n_pairs; i++) {
        status = plain_steps(b, l, &plain[i]);
        if (status == COG_OK) status = engine_steps(b, engine, &around[i]);
        ratio[i] = around[i] / plain[i];
    }
    cog_engine_destroy(engine);
    if (status != COG_OK) return status;
    qsort(plain + 1, (size_t)n_pairs, sizeof(*plain), by_value);
    qsort(around + 1, (size_t)n_pairs, sizeof(*around), by_value);
    qsort(ratio + 1, (size_t)n_pairs, sizeof(*ratio), by_value);
    const double images = (double)(b->batch * b->n_steps);
    const int middle = 1 + n_pairs / 2;
    printf("%-14s plain %6.0f images a CPU second, engine %6.0f, time ratio %.3f (%.3f..%.3f)\n",
           transport, images / plain[middle], images / around[middle], ratio[middle], ratio[1],
           ratio[n_pairs]);
    return COG_OK;
}

int main(int argc, char **argv) {
    const int n_pairs = argc > 1 ? atoi(argv[1]) : 9;
    bench b = {.n_steps = argc > 2 ? atoi(argv[2]) : 60, .batch = argc > 3 ? atoi(argv[3]) : 256};
    if (n_pairs < 1 || n_pairs > MAX_PAIRS || b.n_steps < 1 || b.batch < 1 || b.batch > 10000) {
        fprintf(stderr, "usage: cograd-bench-engine [PAIRS [STEPS [BATCH]]]\n");
        return 2;
    }
    loop l = {0};
    cog_status status = cog_dataset_open("mnist", &b.train, &b.test);
    if (status == COG_OK) status = open_loop(&b, &l);
    for (size_t t = 0; status == COG_OK && t < 2; t++)
        status = compare(&b, &l, transports[t], n_pairs);
    if (status != COG_OK) fprintf(stderr, "cograd-bench-engine: %s\n", cog_last_error());
    close_loop(&l);
    cog_dataset_close(b.train);
    cog_dataset_close(b.test);
    return status == COG_OK ? 0 : 1;
}
