/* test_model.c - losses and messages against row-by-row references in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "cograd/model.h"
#include "device.h"
#include "reference_model.h"
#include "rng.h"

enum { ROWS = 12, SEGMENTS = 4, FEATURES = 5, MAX_SLICES = 40 };

static const int64_t segment[SEGMENTS + 1] = {0, 4, 4, 9, ROWS}; /* the second has no rows */

/* clang-format off */
static const ref_model models[] = {
    {"mlp:hidden=6x4", REF_SOFTMAX, 0, 3, {6, 4, 10}, FEATURES, 10, 1, false},
    {"mlp:hidden=7", REF_SOFTMAX, 0, 2, {7, 3}, FEATURES, 3, 1, false},
    {"softmax", REF_SOFTMAX, 0, 1, {10}, FEATURES, 10, 1, false},
    {"squared", REF_SQUARED, 0, 1, {1}, FEATURES, 0, 1, false},
    {"logistic", REF_LOGISTIC, 0, 1, {1}, FEATURES, 2, 1, false},
    {"squared:l2=0.1", REF_SQUARED, 0.1, 1, {1}, FEATURES, 0, 1, false},
    {"logistic:l2=0.7", REF_LOGISTIC, 0.7, 1, {1}, FEATURES, 2, 1, false},
    {"squared:bias=0", REF_SQUARED, 0, 1, {1}, FEATURES, 0, 1, true},
    {"logistic:l2=0.7,bias=0", REF_LOGISTIC, 0.7, 1, {1}, FEATURES, 2, 1, true},
};
/* clang-format on */
static const int block_counts[] = {1, 2, 3, 4, 7, 12};

enum { N_MODELS = sizeof(models) / sizeof(*models), N_BLOCK_COUNTS = 6 };

/* A model with random parameters - those of the padding too, for they must not matter - and a
 * batch whose activations are kept in a workspace that began as NaN. */
typedef struct fixture {
    ref_model ref;
    cog_device *device;
    cog_model model;
    float x[ROWS * FEATURES], y[ROWS];
    cog_batch batch;
    float *params, *workspace, *out;
    double *exact; /* params in double */
} fixture;

static float *nans(size_t n) {
    float *x = malloc(n * sizeof(*x));
    for (size_t i = 0; i < n; i++) x[i] = NAN;
    return x;
}

static void set_up(fixture *f, const ref_model *ref, int n_blocks) {
    f->ref = *ref;
    f->ref.n_blocks = n_blocks;
    cr_assert_eq(cog_device_open("cpu", &f->device), COG_OK);
    cr_assert_eq(cog_model_open(ref->spec, FEATURES, ref->n_classes, n_blocks, &f->model), COG_OK,
                 "%s", cog_last_error());
    cr_assert_eq(f->model.block_len, ref_block_len(&f->ref));
    cr_assert_eq(f->model.n_params, n_blocks * f->model.block_len);
    cog_rng rng = cog_rng_make(1, COG_STREAM_TEST, 0, 0);
    for (int i = 0; i < ROWS * FEATURES; i++) f->x[i] = (float)cog_rng_normal(&rng);
    for (int i = 0; i < ROWS; i++)
        f->y[i] = ref->n_classes > 0 ? (float)(i % ref->n_classes) : (float)cog_rng_normal(&rng);
    f->batch = (cog_batch){ROWS, FEATURES, f->x, f->y, SEGMENTS, segment};
    f->params = nans((size_t)f->model.n_params);
    f->exact = malloc((size_t)f->model.n_params * sizeof(double));
    for (int64_t i = 0; i < f->model.n_params; i++)
        f->exact[i] = f->params[i] = (float)(0.7 * cog_rng_normal(&rng));
    f->out = nans((size_t)f->model.block_len + 1);
    f->workspace = nans(f->model.workspace_bytes(f->model.user, ROWS) / sizeof(float));
}

static void tear_down(fixture *f) {
    free(f->params), free(f->exact), free(f->out), free(f->workspace);
    cog_model_close(&f->model);
    cog_device_close(f->device);
}

static void backprop(fixture *f) {
    cr_assert_eq(f->model.backprop(f->model.user, f->device, &f->batch, f->params, f->workspace),
                 COG_OK, "%s", cog_last_error());
}

/* The message, in f->out, which is NaN before. */
static void message(fixture *f, int n_slices, const cog_slice *slices) {
    for (int64_t i = 0; i < f->model.block_len; i++) f->out[i] = NAN;
    f->out[f->model.block_len] = 12345; /* not NaN: that would hide an addition */
    cr_assert_eq(f->model.message(f->model.user, f->device, &f->batch, f->params, f->workspace,
                                  n_slices, slices, f->out),
                 COG_OK, "%s", cog_last_error());
    cr_assert_eq(f->out[f->model.block_len], 12345, "wrote past the block");
}

/* Gradients of all rows, [ROWS, n_params]. */
static double *row_gradients(fixture *f) {
    double *g = malloc((size_t)(ROWS * f->model.n_params) * sizeof(*g));
    for (int r = 0; r < ROWS; r++)
        ref_row_gradient(&f->ref, f->exact, f->model.n_params, f->x + r * FEATURES, f->y[r],
                         g + r * f->model.n_params);
    return g;
}

static double expected_entry(const fixture *f, const double *g, int n_slices,
                             const cog_slice *slices, int64_t i) {
    double sum = 0;
    for (int s = 0; s < n_slices; s++)
        for (int64_t r = segment[slices[s].segment]; r < segment[slices[s].segment + 1]; r++)
            sum += slices[s].coef *
                   g[r * f->model.n_params + slices[s].block * f->model.block_len + i];
    return sum;
}

/* The kinds of messages codes send: one part, nothing, equal and unequal shares of a block (data
 * subset codes), one or several blocks of each shard (derivative codes), random ones. */
static int make_slices(int kind, int n_blocks, cog_rng *rng, cog_slice *slices) {
    int n = 0;
    if (kind == 0) return 0;
    if (kind == 1) slices[n++] = (cog_slice){2, n_blocks - 1, 1};
    if (kind == 2)
        for (int s = 0; s < SEGMENTS; s++) slices[n++] = (cog_slice){s, 0, -1.5};
    if (kind == 3)
        for (int s = 0; s < SEGMENTS; s++)
            slices[n++] = (cog_slice){s, n_blocks / 2, 0.3 * s + 0.1};
    if (kind == 4)
        for (int b = 0; b < n_blocks; b++) slices[n++] = (cog_slice){3 * (b % 2), b, b % 3 - 0.6};
    if (kind == 5)
        for (int s = 0; s < SEGMENTS; s++) slices[n++] = (cog_slice){s, s % n_blocks, 0.5};
    if (kind >= 6)
        for (n = 0; n < kind; n++)
            slices[n] =
                (cog_slice){(int32_t)cog_rng_below(rng, SEGMENTS),
                            (int32_t)cog_rng_below(rng, (uint32_t)n_blocks), cog_rng_normal(rng)};
    return n;
}

Test(model, message_is_the_coded_sum_of_row_gradients) {
    cog_rng rng = cog_rng_make(2, COG_STREAM_TEST, 0, 0);
    for (int m = 0; m < N_MODELS; m++)
        for (int b = 0; b < N_BLOCK_COUNTS; b++) {
            fixture f;
            set_up(&f, &models[m], block_counts[b]);
            double *g = row_gradients(&f);
            backprop(&f);
            for (int kind = 0; kind < 12; kind++) {
                cog_slice slices[MAX_SLICES];
                const int n = make_slices(kind, block_counts[b], &rng, slices);
                message(&f, n, slices);
                for (int64_t i = 0; i < f.model.block_len; i++) {
                    const double expected = expected_entry(&f, g, n, slices, i);
                    cr_assert(fabs(f.out[i] - expected) < 2e-5,
                              "%s in %d blocks, message %d, entry %ld: %g, not %g", models[m].spec,
                              block_counts[b], kind, i, f.out[i], expected);
                }
            }
            free(g);
            tear_down(&f);
        }
}

/* Marks the parameters that exist in the ordinary network. */
static uint8_t *real_parameters(const fixture *f) {
    uint8_t *is_real = calloc((size_t)f->model.n_params, 1);
    for (int l = 0; l < f->ref.n_layers; l++)
        for (int o = 0; o < f->ref.out[l]; o++)
            for (int i = 0; i < ref_terms(&f->ref, l); i++)
                is_real[ref_index(&f->ref, l, o, i)] = 1;
    return is_real;
}

Test(model, gradient_of_padding_is_exactly_zero) {
    for (int m = 0; m < N_MODELS; m++)
        for (int b = 0; b < N_BLOCK_COUNTS; b++) {
            fixture f;
            set_up(&f, &models[m], block_counts[b]);
            uint8_t *is_real = real_parameters(&f);
            backprop(&f);
            for (int a = 0; a < block_counts[b]; a++) {
                const cog_slice slices[] = {{0, a, 0.5}, {2, a, -3}};
                message(&f, 2, slices);
                for (int64_t i = 0; i < f.model.block_len; i++)
                    cr_assert(is_real[a * f.model.block_len + i] || f.out[i] == 0,
                              "%s in %d blocks: padding %ld of block %d moves", models[m].spec,
                              block_counts[b], i, a);
            }
            free(is_real);
            tear_down(&f);
        }
}

Test(model, evaluation_agrees_with_the_rows) {
    for (int m = 0; m < N_MODELS; m++)
        for (int b = 0; b < N_BLOCK_COUNTS; b++) {
            fixture f;
            set_up(&f, &models[m], block_counts[b]);
            double loss = 0;
            int64_t n_correct = 0;
            for (int r = 0; r < ROWS; r++) {
                loss += ref_row_loss(&f.ref, f.exact, f.x + r * FEATURES, f.y[r]);
                n_correct += ref_is_correct(&f.ref, f.exact, f.x + r * FEATURES, f.y[r]);
            }
            cog_loss got;
            cr_assert_eq(
                f.model.evaluate(f.model.user, f.device, &f.batch, f.params, f.workspace, &got),
                COG_OK);
            cr_assert(fabs(got.loss - loss) < 1e-5 * loss, "%s: loss %g, not %g", models[m].spec,
                      got.loss, loss);
            cr_assert_eq(got.n_correct, n_correct, "%s", models[m].spec);
            tear_down(&f);
        }
}

/* ---------------------------------------------------------------------------------------------- */

Test(model, initial_function_does_not_depend_on_the_blocks) {
    for (int m = 0; m < N_MODELS; m++) {
        fixture one;
        set_up(&one, &models[m], 1);
        cr_assert_eq(one.model.init(one.model.user, 5, one.params), COG_OK);
        for (int b = 1; b < N_BLOCK_COUNTS; b++) {
            fixture f;
            set_up(&f, &models[m], block_counts[b]);
            cr_assert_eq(f.model.init(f.model.user, 5, f.params), COG_OK);
            uint8_t *is_real = real_parameters(&f);
            for (int64_t i = 0; i < f.model.n_params; i++)
                cr_assert(is_real[i] || f.params[i] == 0, "padding does not begin as 0");
            for (int l = 0; l < f.ref.n_layers; l++)
                for (int o = 0; o < f.ref.out[l]; o++)
                    for (int i = 0; i < ref_terms(&f.ref, l); i++)
                        cr_assert_eq(f.params[ref_index(&f.ref, l, o, i)],
                                     one.params[ref_index(&one.ref, l, o, i)]);
            free(is_real);
            tear_down(&f);
        }
        tear_down(&one);
    }
}

Test(model, initial_weights_have_the_variance_of_he_and_biases_are_zero) {
    const int in[] = {300, 200, 100}, out[] = {200, 100, 10};
    cog_model model;
    cr_assert_eq(cog_model_open("mlp:hidden=200x100", 300, 10, 1, &model), COG_OK);
    float *params = malloc((size_t)model.n_params * sizeof(*params)), *at = params;
    cr_assert_eq(model.init(model.user, 11, params), COG_OK);
    for (int l = 0; l < 3; l++) {
        const int n = in[l] * out[l];
        double sum = 0, squares = 0;
        for (int i = 0; i < n; i++) sum += at[i], squares += (double)at[i] * at[i];
        const double variance = (l < 2 ? 2.0 : 1.0) / in[l]; /* 5 standard deviations: */
        cr_assert(fabs(sum / n) < 5 * sqrt(variance / n), "layer %d: mean %g", l, sum / n);
        cr_assert(fabs(squares / n / variance - 1) < 5 * sqrt(2.0 / n), "layer %d: variance %g", l,
                  squares / n);
        at += n;
        for (int o = 0; o < out[l]; o++) cr_assert_eq(*at++, 0);
    }
    float *again = malloc((size_t)model.n_params * sizeof(*again));
    cr_assert_eq(model.init(model.user, 11, again), COG_OK);
    cr_assert_eq(memcmp(params, again, (size_t)model.n_params * sizeof(*again)), 0);
    cr_assert_eq(model.init(model.user, 12, again), COG_OK);
    cr_assert_neq(memcmp(params, again, (size_t)model.n_params * sizeof(*again)), 0);
    free(params), free(again);
    cog_model_close(&model);
}

/* Floating-point operations of the products of one message. */
static int64_t message_cost(fixture *f, int n_slices, const cog_slice *slices) {
    const int64_t before = f->device->gemm_flops;
    message(f, n_slices, slices);
    return f->device->gemm_flops - before;
}

/* 2 * rows * weights of the network: one matrix product per layer. */
Test(model, messages_cost_one_block_and_data_subset_codes_nothing_extra) {
    const ref_model ref = {"mlp:hidden=8x4", REF_SOFTMAX, 0, 3, {8, 4, 4}, FEATURES, 4, 1, false};
    const int64_t n_weights = 8 * FEATURES + 4 * 8 + 4 * 4;
    fixture f;
    set_up(&f, &ref, 1);
    backprop(&f);
    cr_assert_eq(f.device->gemm_flops, 2 * ROWS * (2 * n_weights - 8 * FEATURES));
    cr_assert_eq(f.model.backprop_flops(f.model.user, ROWS), f.device->gemm_flops);
    const cog_slice equal[] = {{0, 0, 1}, {1, 0, 1}, {2, 0, 1}, {3, 0, 1}};
    const cog_slice coded[] = {{0, 0, 0.3}, {1, 0, -2}, {2, 0, 1.7}, {3, 0, 1}};
    cr_assert_eq(message_cost(&f, 4, equal), 2 * ROWS * n_weights);
    cr_assert_eq(message_cost(&f, 4, coded), 2 * ROWS * n_weights);
    cr_assert_eq(f.model.message_flops(f.model.user, ROWS), 2 * ROWS * n_weights);
    cr_assert_eq(message_cost(&f, 1, &coded[2]), 2 * 5 * n_weights, "unused shards cost");
    tear_down(&f);

    set_up(&f, &ref, 4);
    backprop(&f);
    const cog_slice weight_4[] = {{2, 0, 0.5}, {2, 1, -0.5}, {2, 2, 0.5}, {2, 3, 0.5}};
    const cog_slice two_shards[] = {{0, 0, 0.5}, {0, 1, -0.5}, {3, 2, 0.5}, {3, 3, 0.5}};
    cr_assert_eq(message_cost(&f, 4, weight_4), 2 * 5 * n_weights / 4);
    cr_assert_eq(message_cost(&f, 4, two_shards), 2 * (4 + 3) * n_weights / 4);
    tear_down(&f);
}

static cog_status refuse_to_fold(cog_device *device, int64_t rows, int64_t group, int64_t ld,
                                 const float *d, int n_terms, const cog_fold_term *terms,
                                 float *out, int64_t ld_out) {
    (void)device, (void)rows, (void)group, (void)ld, (void)d, (void)n_terms, (void)terms;
    (void)out, (void)ld_out;
    return COG_ERR_DEVICE;
}

Test(model, one_slice_a_segment_with_one_coefficient_is_not_folded) {
    fixture f;
    set_up(&f, &models[0], 2);
    backprop(&f);
    cog_device_ops ops = *f.device->ops;
    ops.fold_columns = refuse_to_fold;
    f.device->ops = &ops;
    const cog_slice plain[] = {{2, 1, 0.3}, {3, 1, 0.3}}, mixed[] = {{2, 1, 0.3}, {3, 0, 0.3}};
    message(&f, 2, plain);
    cr_assert_eq(
        f.model.message(f.model.user, f.device, &f.batch, f.params, f.workspace, 2, mixed, f.out),
        COG_ERR_DEVICE);
    tear_down(&f);
}

Test(model, requests_that_make_no_sense_are_refused_in_words) {
    static const struct {
        const char *spec;
        int64_t n_features;
        int32_t n_classes, n_blocks;
        cog_status status;
        const char *word;
    } cases[] = {
        {"resnet", 5, 3, 1, COG_ERR_SPEC, "mlp"},
        {"mlp:hidden=", 5, 3, 1, COG_ERR_SPEC, "512x256"},
        {"mlp:hidden=4x", 5, 3, 1, COG_ERR_SPEC, "4x"},
        {"mlp:hidden=4x-1", 5, 3, 1, COG_ERR_SPEC, "4x-1"},
        {"mlp:hidden=0", 5, 3, 1, COG_ERR_SPEC, "outside"},
        {"mlp:hidden=99999999999999999999", 5, 3, 1, COG_ERR_SPEC, "outside"},
        {"mlp:hidden=1048576x1048576x1048576", 5, 3, 1, COG_ERR_ARGUMENT, "2^40"},
        {"mlp:width=3", 5, 3, 1, COG_ERR_SPEC, "hidden"},
        {"softmax:l2=1", 5, 3, 1, COG_ERR_SPEC, "l2"},
        {"squared:l2=-1", 5, 0, 1, COG_ERR_SPEC, "l2"},
        {"mlp", 5, 0, 1, COG_ERR_ARGUMENT, "0 classes"},
        {"softmax", 5, 1, 1, COG_ERR_ARGUMENT, "1 classes"},
        {"squared", 5, 10, 1, COG_ERR_ARGUMENT, "10 classes"},
        {"logistic", 5, 3, 1, COG_ERR_ARGUMENT, "3"},
        {"logistic", 5, 0, 1, COG_ERR_ARGUMENT, "0"},
        {"mlp", 0, 3, 1, COG_ERR_ARGUMENT, "0 features"},
        {"mlp", 5, 3, 0, COG_ERR_ARGUMENT, "0 blocks"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        cog_model model = {0};
        cr_assert_eq(cog_model_open(cases[i].spec, cases[i].n_features, cases[i].n_classes,
                                    cases[i].n_blocks, &model),
                     cases[i].status, "%s", cases[i].spec);
        cr_assert_not_null(strstr(cog_last_error(), cases[i].word), "%s", cog_last_error());
        cr_assert_null(model.user);
        cog_model_close(&model);
    }
    cog_model_close(NULL);
}

Test(model, batches_and_slices_of_another_shape_are_refused) {
    for (int m = 0; m < N_MODELS; m++) {
        fixture f;
        set_up(&f, &models[m], 2);
        backprop(&f);
        static const cog_slice wrong[] = {{SEGMENTS, 0, 1}, {0, 2, 1}, {-1, 0, 1}, {0, -1, 1}};
        for (int i = 0; i < 4; i++)
            cr_assert_eq(f.model.message(f.model.user, f.device, &f.batch, f.params, f.workspace, 1,
                                         &wrong[i], f.out),
                         COG_ERR_ARGUMENT);
        f.batch.n_features = FEATURES + 1;
        cr_assert_eq(f.model.backprop(f.model.user, f.device, &f.batch, f.params, f.workspace),
                     COG_ERR_ARGUMENT);
        tear_down(&f);
    }
}
