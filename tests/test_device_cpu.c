/* test_device_cpu.c - every operation of the CPU device against the plainest loop in double. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "device.h"
#include "devices/cpu_loops.h"
#include "rng.h"

static cog_device *open_cpu(void) {
    cog_device *device;
    cr_assert_eq(cog_device_open("cpu", &device), COG_OK, "%s", cog_last_error());
    return device;
}

static float *random_vector(uint32_t stream, int64_t n) {
    float *x = malloc((size_t)(n > 0 ? n : 1) * sizeof(*x));
    cog_rng rng = cog_rng_make(7, COG_STREAM_TEST, stream, 0);
    for (int64_t i = 0; i < n; i++) x[i] = (float)cog_rng_normal(&rng);
    return x;
}

static float *poisoned(int64_t n) {
    float *x = malloc((size_t)n * sizeof(*x));
    for (int64_t i = 0; i < n; i++) x[i] = NAN;
    return x;
}

typedef struct gemm_case {
    bool transpose_a, transpose_b;
    int64_t m, n, k;
    float alpha, beta;
    int count;
} gemm_case;

/* Every matrix lies in a wider one; C starts as NaN where it must not be read. */
static void check_gemm(cog_device *device, const gemm_case *g) {
    const int64_t a_rows = g->transpose_a ? g->k : g->m, a_cols = g->transpose_a ? g->m : g->k;
    const int64_t b_rows = g->transpose_b ? g->n : g->k, b_cols = g->transpose_b ? g->k : g->n;
    const int64_t lda = a_cols + 3, ldb = b_cols + 1, ldc = g->n + 2;
    const int64_t step_a = a_rows * lda + 5, step_b = b_rows * ldb + 7, step_c = g->m * ldc + 9;
    float *a = random_vector(1, step_a * g->count), *b = random_vector(2, step_b * g->count);
    float *c = g->beta == 0 ? poisoned(step_c * g->count) : random_vector(3, step_c * g->count);
    float *before = malloc((size_t)(step_c * g->count) * sizeof(*before));
    memcpy(before, c, (size_t)(step_c * g->count) * sizeof(*c));
    const int64_t flops = device->gemm_flops;
    cr_assert_eq(cog_device_gemm(device, g->transpose_a, g->transpose_b, g->m, g->n, g->k, g->alpha,
                                 a, lda, step_a, b, ldb, step_b, g->beta, c, ldc, step_c, g->count),
                 COG_OK, "%s", cog_last_error());
    cr_assert_eq(device->gemm_flops - flops, 2 * g->m * g->n * g->k * g->count);
    for (int64_t p = 0; p < step_c * g->count; p++) {
        const int64_t which = p / step_c, i = p % step_c / ldc, j = p % step_c % ldc;
        if (i >= g->m || j >= g->n) {
            cr_assert_eq(memcmp(&c[p], &before[p], sizeof(float)), 0, "wrote outside at %ld", p);
            continue;
        }
        double sum = 0, size = 0;
        for (int64_t l = 0; l < g->k; l++) {
            const double x = a[which * step_a + (g->transpose_a ? l * lda + i : i * lda + l)];
            const double y = b[which * step_b + (g->transpose_b ? j * ldb + l : l * ldb + j)];
            sum += x * y;
            size += fabs(x * y);
        }
        const double old = g->beta == 0 ? 0 : g->beta * (double)before[p];
        const double expected = g->alpha * sum + old;
        size = fabs(g->alpha) * size + fabs(old);
        cr_assert(fabs(c[p] - expected) <= 4 * FLT_EPSILON * size,
                  "%ldx%ldx%ld ta=%d tb=%d: C[%ld,%ld] of product %ld is %g, not %g", g->m, g->n,
                  g->k, g->transpose_a, g->transpose_b, i, j, which, c[p], expected);
    }
    free(a), free(b), free(c), free(before);
}

Test(device_cpu, gemm_is_the_product_for_all_shapes_strides_and_factors) {
    static const int64_t shape[][3] = {{1, 1, 1},    {3, 5, 7},    {17, 1, 33}, {1, 40, 9},
                                       {64, 10, 31}, {33, 65, 12}, {5, 3, 0},   {128, 70, 130}};
    static const float factor[][2] = {{1, 0}, {-0.5f, 0}, {1, 1}, {2, -3}};
    const char *const specs[] = {"cpu", "cpu:threads=2"};
    for (int s = 0; s < 2; s++) {
        cog_device *device;
        cr_assert_eq(cog_device_open(specs[s], &device), COG_OK);
        for (size_t i = 0; i < sizeof(shape) / sizeof(*shape); i++)
            for (int f = 0; f < 4; f++)
                for (int t = 0; t < 4; t++) {
                    const gemm_case g = {t & 1,       t >> 1,       shape[i][0],  shape[i][1],
                                         shape[i][2], factor[f][0], factor[f][1], 1 + (int)i % 3};
                    check_gemm(device, &g);
                }
        cog_device_close(device);
    }
}

/* -------------------------------------------------------------------------------------------- */

/* exp, softmax and loss of one row, in double. */
static void softmax_in_double(int n, const float *z, int label, double *delta, double *loss) {
    double top = -INFINITY, sum = 0;
    for (int c = 0; c < n; c++) top = fmax(top, z[c]);
    for (int c = 0; c < n; c++) sum += exp(z[c] - top);
    for (int c = 0; c < n; c++) delta[c] = exp(z[c] - top) / sum - (c == label);
    *loss = log(sum) - (z[label] - top);
}

Test(device_cpu, softmax_agrees_with_double_from_tiny_to_huge_scores) {
    enum { ROWS = 40, CLASSES = 10, LD = 12 };
    static const float spread[] = {1e-3f, 1, 10, 80, 1e4f, 1e30f};
    cog_device *device = open_cpu();
    for (size_t s = 0; s < sizeof(spread) / sizeof(*spread); s++) {
        float *z = random_vector(4, ROWS * LD), *delta = poisoned(ROWS * LD);
        float label[ROWS], loss[ROWS], correct[ROWS];
        for (int i = 0; i < ROWS * LD; i++) z[i] *= spread[s];
        for (int r = 0; r < ROWS; r++) label[r] = (float)(r % CLASSES);
        cr_assert_eq(device->ops->softmax_cross_entropy(device, ROWS, CLASSES, LD, z, label, delta,
                                                        loss, correct),
                     COG_OK);
        for (int r = 0; r < ROWS; r++) {
            double expected[CLASSES], expected_loss;
            softmax_in_double(CLASSES, z + r * LD, r % CLASSES, expected, &expected_loss);
            for (int c = 0; c < CLASSES; c++)
                cr_assert_float_eq(delta[r * LD + c], expected[c], 3e-7, "spread %g", spread[s]);
            for (int c = CLASSES; c < LD; c++) cr_assert_eq(delta[r * LD + c], 0);
            cr_assert(fabs(loss[r] - expected_loss) <= 3e-7 * (1 + expected_loss), "%g against %g",
                      loss[r], expected_loss);
            bool is_top = true;
            for (int c = 0; c < CLASSES; c++) is_top &= z[r * LD + r % CLASSES] >= z[r * LD + c];
            cr_assert_eq(correct[r], (float)is_top);
        }
        /* in place, and without the two optional results */
        cr_assert_eq(
            device->ops->softmax_cross_entropy(device, ROWS, CLASSES, LD, z, label, z, NULL, NULL),
            COG_OK);
        cr_assert_eq(memcmp(z, delta, sizeof(float) * ROWS * LD), 0);
        free(z), free(delta);
    }
    cog_device_close(device);
}

/* Of two classes with scores 0 and x the second has probability exp(x) / (1 + exp(x)). */
Test(device_cpu, exponential_keeps_its_relative_accuracy) {
    cog_device *device = open_cpu();
    for (double x = -86.9; x <= 0; x += 0.0137) {
        const float z[2] = {0, (float)x}, label = 0;
        float delta[2];
        device->ops->softmax_cross_entropy(device, 1, 2, 2, z, &label, delta, NULL, NULL);
        const double e = exp((double)z[1]), expected = e / (1 + e);
        cr_assert(fabs(delta[1] / expected - 1) < 4e-7, "exp(%g) is off by %g", x,
                  delta[1] / expected - 1);
    }
    cog_device_close(device);
}

Test(device_cpu, softmax_rules_for_ties_foreign_labels_and_nan) {
    static const struct {
        float z[3], label, correct;
        bool has_loss;
    } cases[] = {
        {{1, 1, 0}, 0, 1, true},    {{1, 1, 0}, 1, 0, true},    {{0, 0, 0}, 0, 1, true},
        {{0, 1, 0}, 3, 0, false},   {{0, 1, 0}, -1, 0, false},  {{0, 1, 0}, NAN, 0, false},
        {{NAN, 1, 0}, 0, 0, false}, {{0, NAN, 0}, 0, 0, false}, {{0, 0, -INFINITY}, 0, 1, true},
    };
    cog_device *device = open_cpu();
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        float delta[3], loss, correct;
        device->ops->softmax_cross_entropy(device, 1, 3, 3, cases[i].z, &cases[i].label, delta,
                                           &loss, &correct);
        cr_assert_eq(correct, cases[i].correct, "case %zu", i);
        cr_assert_eq(!isnan(loss), cases[i].has_loss, "case %zu", i);
    }
    cog_device_close(device);
}

/* -------------------------------------------------------------------------------------------- */

Test(device_cpu, bias_and_relu_follow_the_panels) {
    enum { ROWS = 5, BLOCKS = 3, GROUP = 7, LD = BLOCKS * GROUP, BLOCK_LEN = 40 };
    cog_device *device = open_cpu();
    float *bias = random_vector(5, BLOCKS * BLOCK_LEN);
    for (int relu = 0; relu < 2; relu++) {
        float *before = random_vector(6, ROWS * LD), *z = random_vector(6, ROWS * LD);
        before[3] = z[3] = NAN;
        const cog_panels panels = {BLOCKS, GROUP, BLOCK_LEN};
        device->ops->bias_relu(device, ROWS, LD, bias, panels, relu, z);
        for (int i = 0; i < ROWS * LD; i++) {
            const int c = i % LD;
            const float sum = before[i] + bias[c / GROUP * BLOCK_LEN + c % GROUP];
            if (i == 3)
                cr_assert(isnan(z[i]), "a NaN was hidden");
            else
                cr_assert_eq(z[i], relu && sum < 0 ? 0 : sum);
        }
        free(before), free(z);
    }
    free(bias);
    cog_device_close(device);
}

Test(device_cpu, fold_is_the_weighted_sum_of_column_groups) {
    enum { ROWS = 6, GROUP = 9, LD = 40, LD_OUT = 11 };
    static const cog_fold_term terms[] = {{9, 0.5f}, {0, -1}, {27, 3}};
    cog_device *device = open_cpu();
    float *d = random_vector(8, ROWS * LD);
    for (int n_terms = 0; n_terms <= 3; n_terms++) {
        float *out = poisoned(ROWS * LD_OUT);
        device->ops->fold_columns(device, ROWS, GROUP, LD, d, n_terms, terms, out, LD_OUT);
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < LD_OUT; c++) {
                double sum = 0;
                for (int t = 0; t < n_terms; t++)
                    sum += (double)terms[t].coef * d[r * LD + terms[t].column + c];
                const float got = out[r * LD_OUT + c];
                if (c < GROUP)
                    cr_assert_float_eq(got, sum, 2e-6);
                else
                    cr_assert(isnan(got), "wrote outside");
            }
        free(out);
    }
    free(d);
    cog_device_close(device);
}

Test(device_cpu, sum_rows_and_axpby_do_not_read_what_they_overwrite) {
    enum { ROWS = 50, COLS = 131, LD = 140 };
    cog_device *device = open_cpu();
    float *d = random_vector(9, ROWS * LD);
    for (int beta = 0; beta < 2; beta++) {
        float *y = beta == 0 ? poisoned(COLS) : random_vector(10, COLS);
        float *old = random_vector(10, COLS);
        device->ops->sum_rows(device, ROWS, COLS, LD, 2, d, (float)beta, y);
        for (int c = 0; c < COLS; c++) {
            double sum = 0;
            for (int r = 0; r < ROWS; r++) sum += d[r * LD + c];
            cr_assert_float_eq(y[c], 2 * sum + beta * (double)old[c], 1e-4);
        }
        float *z = beta == 0 ? poisoned(COLS) : random_vector(10, COLS);
        device->ops->axpby(device, 3, d, (float)-beta, z, COLS);
        for (int c = 0; c < COLS; c++)
            cr_assert_float_eq(z[c], 3 * (double)d[c] - beta * (double)old[c], 2e-6);
        free(y), free(old), free(z);
    }
    free(d);
    cog_device_close(device);
}

Test(device_cpu, relu_backward_passes_where_the_unit_was_active) {
    cog_device *device = open_cpu();
    const float activation[] = {0, 1e-30f, 5, 0};
    float delta[] = {1, 2, -3, NAN};
    device->ops->relu_backward(device, activation, delta, 4);
    cr_assert(delta[0] == 0 && delta[1] == 2 && delta[2] == -3 && delta[3] == 0);
    cog_device_close(device);
}

Test(device_cpu, bf16_is_the_nearest_and_even_on_ties) {
    cog_device *device = open_cpu();
    for (uint32_t code = 0; code < 65536; code++) { /* every bf16, and the half way to the next */
        const uint16_t half = (uint16_t)code;
        float value;
        device->ops->from_bf16(device, &half, &value, 1);
        uint16_t back;
        device->ops->to_bf16(device, &value, &back, 1);
        if (isnan(value)) {
            device->ops->from_bf16(device, &back, &value, 1);
            cr_assert(isnan(value), "NaN %x became a number", code);
            continue;
        }
        cr_assert_eq(back, half);
        if (isinf(value)) continue;
        const uint32_t bits = code << 16;
        static const uint32_t offset[] = {0x7fff, 0x8000, 0x8001};
        for (int i = 0; i < 3; i++) {
            const uint32_t between = bits + offset[i];
            memcpy(&value, &between, sizeof(value));
            device->ops->to_bf16(device, &value, &back, 1);
            const uint32_t expected = i == 0 ? code : i == 2 ? code + 1 : code + (code & 1);
            cr_assert_eq(back, expected, "%x + %x gives %x", bits, offset[i], back);
        }
    }
    cog_device_close(device);
}

/* -------------------------------------------------------------------------------------------- */

/* All results of one set of loops on the same input, one after the other. */
static float *run_all(const cog_cpu_loops *loops, int64_t *n_out) {
    enum { ROWS = 23, BLOCKS = 3, GROUP = 37, LD = BLOCKS * GROUP, N = ROWS * LD };
    float *all = calloc(10 * N, sizeof(*all)), *out = all;
    float *x = random_vector(11, N), *label = random_vector(12, ROWS);
    for (int i = 0; i < N; i++) x[i] *= 8;
    for (int r = 0; r < ROWS; r++) label[r] = (float)(r % 100);
    memcpy(out, x, sizeof(float) * N);
    loops->axpby(1.1f, x, 0.3f, out, N), out += N;
    loops->to_bf16(x, (uint16_t *)out, N), out += N;
    loops->from_bf16((const uint16_t *)(out - N), out, N), out += N;
    memcpy(out, x, sizeof(float) * N);
    loops->bias_relu(ROWS, LD, x, (cog_panels){BLOCKS, GROUP, 300}, true, out), out += N;
    loops->softmax_cross_entropy(ROWS, 100, LD, x, label, out, all + 7 * N, all + 7 * N + ROWS);
    out += N;
    const cog_fold_term terms[] = {{0, 0.7f}, {GROUP, -0.3f}, {2 * GROUP, 1.7f}};
    loops->fold_columns(ROWS, GROUP, LD, x, 3, terms, out, GROUP), out += N;
    loops->sum_rows(ROWS, LD, LD, 0.9f, x, 0, out);
    loops->relu_backward(x, out, N);
    const float *vectors[] = {x, all + 5 * N, all + 2 * N}, coefs[] = {1e4f, -0.3f};
    double work[5 * 256], sums[6];
    sums[5] = loops->predict(2, vectors + 1, coefs, x, N, all + 8 * N);
    loops->products(2, 3, vectors, N, work, sums);
    memcpy(all + 9 * N, sums, sizeof(sums));
    free(x), free(label);
    *n_out = 10 * N;
    return all;
}

Test(device_cpu, every_instruction_set_gives_the_same_bits) {
    const cog_cpu_loops *list[4];
    cog_cpu_loops_list(list);
    int64_t n;
    float *first = run_all(list[0], &n);
    for (int i = 1; list[i] != NULL; i++) {
        float *other = run_all(list[i], &n);
        for (int64_t j = 0; j < n; j++)
            cr_assert_eq(memcmp(&first[j], &other[j], sizeof(float)), 0, "%s and %s differ at %ld",
                         list[0]->name, list[i]->name, j);
        free(other);
    }
    free(first);
}

Test(device_cpu, memory_is_aligned_and_keeps_what_is_put_there) {
    cog_device *device = open_cpu();
    cr_assert_eq(cog_device_kind_of(device), COG_CPU);
    cr_assert_null(cog_device_stream(device));
    static const int64_t sizes[] = {0, 1, 15, 16, 1000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        float *memory, *from = random_vector(13, sizes[i]), *back = poisoned(sizes[i] + 1);
        cr_assert_eq(cog_device_zeros(device, sizes[i], &memory), COG_OK);
        cr_assert_eq((uintptr_t)memory % 64, 0);
        for (int64_t j = 0; j < sizes[i]; j++) cr_assert_eq(memory[j], 0);
        const size_t bytes = (size_t)sizes[i] * sizeof(float);
        cr_assert_eq(device->ops->upload(device, memory, from, bytes), COG_OK);
        cr_assert_eq(device->ops->download(device, back, memory, bytes), COG_OK);
        cr_assert_eq(memcmp(from, back, bytes), 0);
        cog_device_free(device, memory);
        free(from), free(back);
    }
    float *memory;
    cr_assert_eq(cog_device_zeros(device, -1, &memory), COG_ERR_ARGUMENT);
    cr_assert_eq(cog_device_zeros(device, (int64_t)1 << 58, &memory), COG_ERR_MEMORY);
    cr_assert_eq(cog_device_sync(device), COG_OK);
    cog_device_free(device, NULL);
    cog_device_free(NULL, NULL);
    cog_device_close(device);
    cog_device_close(NULL);
}

Test(device_cpu, wrong_specs_are_refused_in_words) {
    static const struct {
        const char *spec;
        cog_status status;
        const char *word;
    } cases[] = {{"cpu:threads=0", COG_ERR_SPEC, "threads"},
                 {"cpu:thread=2", COG_ERR_SPEC, "threads"},
                 {"cpu:2", COG_ERR_SPEC, "2"},
                 {"gpu", COG_ERR_SPEC, "cpu"},
#ifndef COG_WITH_CUDA
                 {"cuda", COG_ERR_UNSUPPORTED, "cuda"}
#endif
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        cog_device *device = NULL;
        cr_assert_eq(cog_device_open(cases[i].spec, &device), cases[i].status, "%s", cases[i].spec);
        cr_assert_not_null(strstr(cog_last_error(), cases[i].word), "%s", cog_last_error());
        cr_assert_null(device);
    }
}
