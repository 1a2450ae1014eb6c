/* test_model_parity.c - models on the GPU follow the CPU: losses, hits and messages of every shape.
 */
#include "device_bench.h"

#include "cograd/model.h"

enum { ROWS = 70, SEGMENTS = 4, FEATURES = 36, MAX_SLICES = 12 };

static const double MOST_ERROR = 1e-10; /* squared and relative: 1e-5 in length */
static const int64_t segment[SEGMENTS + 1] = {0, 20, 20, 51, ROWS}; /* the second has no rows */

typedef struct model_case {
    const char *spec;
    int n_classes;
} model_case;

static const model_case cases[] = {
    {"mlp:hidden=32x20", 10}, {"mlp:hidden=19", 3},   {"softmax", 10},
    {"squared:l2=0.1", 0},    {"logistic:l2=0.1", 2},
};

/* One device's view of the same model, parameters and rows. */
typedef struct side {
    cog_device *device;
    cog_batch batch;
    const float *params;
    void *workspace;
    float *out;
} side;

typedef struct fixture {
    bench b;
    cog_model model;
    twin x, y, params, workspace, out;
    side cpu, gpu;
} fixture;

static side side_of(const fixture *f, bool on_gpu) {
    return (side){on_gpu ? f->b.gpu : f->b.cpu,
                  {ROWS, FEATURES, TWIN(f->x), TWIN(f->y), SEGMENTS, segment},
                  TWIN(f->params),
                  TWIN(f->workspace),
                  TWIN(f->out)};
}

/* Labels are classes where there are classes. */
static twin make_labels(const bench *b, int n_classes) {
    float *y = family_make(NORMAL, 2, ROWS);
    for (int r = 0; r < ROWS && n_classes > 0; r++) y[r] = (float)(r * 7 % n_classes);
    twin t = twin_make(b, y, ROWS, 4, 0);
    free(y);
    return t;
}

/* The padding's parameters are random too: they must not matter. */
static void set_up(fixture *f, const model_case *c, int n_blocks) {
    f->b = bench_open();
    OK(cog_model_open(c->spec, FEATURES, c->n_classes, n_blocks, &f->model));
    const int64_t n = f->model.n_params;
    float *x = family_make(NORMAL, 1, ROWS * FEATURES), *params = family_make(NORMAL, 3, n);
    for (int64_t i = 0; i < n; i++) params[i] *= 0.3f;
    f->x = twin_make(&f->b, x, ROWS * FEATURES, 4, 0);
    f->y = make_labels(&f->b, c->n_classes);
    f->params = twin_make(&f->b, params, n, 4, 0);
    f->workspace =
        twin_make(&f->b, NULL, (int64_t)f->model.workspace_bytes(f->model.user, ROWS), 1, 0);
    f->out = twin_make(&f->b, NULL, f->model.block_len, 4, 0);
    f->cpu = side_of(f, false);
    f->gpu = side_of(f, true);
    free(x), free(params);
}

static void tear_down(fixture *f) {
    twin *all[] = {&f->x, &f->y, &f->params, &f->workspace, &f->out};
    for (int i = 0; i < 5; i++) twin_free(all[i]);
    cog_model_close(&f->model);
    bench_close(f->b);
}

static void check_message(fixture *f, const char *what, int n_slices, const cog_slice *slices) {
    const cog_model *m = &f->model;
    OK(m->message(m->user, f->cpu.device, &f->cpu.batch, f->cpu.params, f->cpu.workspace, n_slices,
                  slices, f->cpu.out));
    OK(m->message(m->user, f->gpu.device, &f->gpu.batch, f->gpu.params, f->gpu.workspace, n_slices,
                  slices, f->gpu.out));
    float *got = twin_read(&f->out);
    double *expected = malloc((size_t)m->block_len * sizeof(*expected));
    for (int64_t i = 0; i < m->block_len; i++) expected[i] = f->cpu.out[i];
    const double error = nmse(got, expected, m->block_len);
    cr_assert(error <= MOST_ERROR, "%s: %d blocks, %d slices: error %g", what, m->n_blocks,
              n_slices, error);
    free(got), free(expected);
}

/* What codes send: nothing, one part, equal shares of a block (data-subset codes), several blocks
 * of a shard with signs (derivative codes). */
static int make_slices(int kind, int n_blocks, cog_slice *slices) {
    int n = 0;
    if (kind == 1) slices[n++] = (cog_slice){2, n_blocks - 1, 1};
    for (int s = 0; kind == 2 && s < SEGMENTS; s++) slices[n++] = (cog_slice){s, 0, -1.5};
    for (int s = 0; kind == 3 && s < SEGMENTS; s++)
        for (int a = 0; a < 3; a++)
            slices[n++] = (cog_slice){s, (s + a) % n_blocks, a % 2 ? -0.7 : 0.3 + a};
    return n;
}

static void check_messages(fixture *f, const char *what) {
    const cog_model *m = &f->model;
    OK(m->backprop(m->user, f->cpu.device, &f->cpu.batch, f->cpu.params, f->cpu.workspace));
    OK(m->backprop(m->user, f->gpu.device, &f->gpu.batch, f->gpu.params, f->gpu.workspace));
    for (int kind = 0; kind < 4; kind++) {
        cog_slice slices[MAX_SLICES];
        check_message(f, what, make_slices(kind, m->n_blocks, slices), slices);
    }
}

static void check_evaluation(fixture *f, const char *what) {
    const cog_model *m = &f->model;
    cog_loss cpu, gpu;
    OK(m->evaluate(m->user, f->cpu.device, &f->cpu.batch, f->cpu.params, f->cpu.workspace, &cpu));
    OK(m->evaluate(m->user, f->gpu.device, &f->gpu.batch, f->gpu.params, f->gpu.workspace, &gpu));
    cr_assert_eq(cpu.n_correct, gpu.n_correct, "%s", what);
    cr_assert(fabs(gpu.loss - cpu.loss) <= 1e-5 * fabs(cpu.loss), "%s: loss %g on the GPU, %g",
              what, gpu.loss, cpu.loss);
}

Test(model_parity, messages_and_losses_follow_the_cpu_to_1e_5) {
    static const int block_counts[] = {1, 2, 3, 8};
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++)
        for (int n = 0; n < 4; n++) {
            fixture f;
            set_up(&f, &cases[c], block_counts[n]);
            check_messages(&f, cases[c].spec);
            check_evaluation(&f, cases[c].spec);
            tear_down(&f);
        }
}
