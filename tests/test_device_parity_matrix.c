/* test_device_parity_matrix.c - operations on matrices: what is exact has the bits of the CPU, sums
 * agree with double precision; for all shapes, alignments and kinds of numbers. */
#include "device_bench.h"

static const double MOST_ERROR = 1e-10; /* squared, relative to the squared size of the result */

/* Rows that are aligned alike (ld a multiple of 4) and rows that are not; wide and narrow. */
static const struct {
    int64_t rows;
    int32_t n_blocks;
    int64_t group, gap; /* ld = n_blocks * group + gap */
} shapes[] = {
    {0, 1, 4, 0},    {1, 1, 1, 0},    {3, 1, 4, 0},     {5, 3, 7, 3},      {1, 1, 33, 0},
    {31, 2, 5, 0},   {257, 1, 10, 0}, {1025, 1, 2, 0},  {33, 4, 64, 0},    {64, 1, 255, 1},
    {7, 1, 1023, 1}, {2, 5, 205, 3},  {100, 2, 128, 4}, {1001, 1, 100, 0}, {40, 8, 33, 0},
};
enum { N_SHAPES = sizeof(shapes) / sizeof(*shapes) };

static void compare_bits(const char *what, const twin *t) {
    float *got = twin_read(t), *expected = t->cpu;
    for (size_t i = 0; i < t->bytes / 4; i++)
        cr_assert(same_float(got[i], expected[i]), "%s: entry %zu of %zu: GPU %a, CPU %a", what, i,
                  t->bytes / 4, got[i], expected[i]);
    free(got);
}

typedef void (*shape_test)(const bench *b, int shape, int offset, family f);

static void check_shapes(shape_test test) {
    const bench b = bench_open();
    for (int s = 0; s < N_SHAPES; s++)
        for (int offset = 0; offset < 8; offset++)
            for (int f = 0; f < N_FAMILIES; f++) test(&b, s, offset, (family)f);
    bench_close(b);
}

/* ---- bias and ReLU: a sum of two ------------------------------------------------------------- */

static void check_bias_relu(const bench *b, int s, int offset, family f) {
    const int64_t n = shapes[s].n_blocks * shapes[s].group, ld = n + shapes[s].gap;
    const cog_panels panels = {shapes[s].n_blocks, shapes[s].group, shapes[s].group + 3};
    float *z = family_make(f, 1, shapes[s].rows * ld);
    float *bias = family_make(f, 2, panels.n_blocks * panels.block_len);
    for (int relu = 0; relu < 2; relu++) {
        twin tz = twin_make(b, z, shapes[s].rows * ld, 4, offset);
        twin tb = twin_make(b, bias, panels.n_blocks * panels.block_len, 4, offset * 3 % 4);
        ON_BOTH(*b, bias_relu, shapes[s].rows, ld, TWIN(tb), panels, relu, TWIN(tz));
        compare_bits("bias_relu", &tz);
        twin_free(&tz), twin_free(&tb);
    }
    free(z), free(bias);
}

Test(device_parity, bias_and_relu_are_the_same_bits) { check_shapes(check_bias_relu); }

/* ---- fold: sums in the order of the terms ---------------------------------------------------- */

/* Columns that are aligned as the output is, and columns that are not. */
static void check_fold(const bench *b, int64_t rows, int64_t group, int64_t ld, int n_terms,
                       bool aligned_columns, int offset, family f) {
    cog_fold_term terms[600];
    for (int k = 0; k < n_terms; k++) {
        const int64_t column = (int64_t)k * 37 % (ld - group + 1);
        terms[k].column = aligned_columns ? column / 4 * 4 : column;
        terms[k].coef = (float)(k % 3 - 1) * 0.7f + 0.1f;
    }
    float *d = family_make(f, 1, rows * ld);
    twin td = twin_make(b, d, rows * ld, 4, offset);
    twin out = twin_make(b, NULL, rows * group, 4, offset);
    ON_BOTH(*b, fold_columns, rows, group, ld, TWIN(td), n_terms, terms, TWIN(out), group);
    compare_bits("fold_columns", &out);
    compare_bits("what fold_columns reads", &td);
    twin_free(&td), twin_free(&out);
    free(d);
}

Test(device_parity, folds_are_the_same_bits_for_any_number_of_terms) {
    static const int n_terms[] = {0, 1, 2, 3, 4, 8, 15, 16, 17, 33, 255, 256, 257, 600};
    const bench b = bench_open();
    for (size_t t = 0; t < sizeof(n_terms) / sizeof(*n_terms); t++)
        for (int offset = 0; offset < 4; offset++)
            for (int aligned = 0; aligned < 2; aligned++) {
                check_fold(&b, 33, 12, 64, n_terms[t], aligned, offset, NORMAL);
                check_fold(&b, 5, 133, 401, n_terms[t], aligned, offset, LAPLACE);
            }
    bench_close(b);
}

static void check_fold_shape(const bench *b, int s, int offset, family f) {
    const int64_t ld = shapes[s].n_blocks * shapes[s].group + shapes[s].gap;
    check_fold(b, shapes[s].rows, shapes[s].group, ld, shapes[s].n_blocks, true, offset, f);
}

Test(device_parity, folds_are_the_same_bits_for_any_shape) { check_shapes(check_fold_shape); }

Test(device_parity, a_fold_of_nothing_clears_its_columns_and_no_others) {
    enum { ROWS = 9, LD = 20 };
    const bench b = bench_open();
    for (int first = 0; first < 9; first++)
        for (int group = 0; group <= LD - first; group++) {
            float *x = family_make(NOT_FINITE, 1, ROWS * LD);
            twin t = twin_make(&b, x, ROWS * LD, 4, 1);
            ON_BOTH(b, fold_columns, ROWS, group, LD, TWIN(t), 0, NULL, (float *)TWIN(t) + first,
                    LD);
            compare_bits("fold of no terms", &t);
            for (int i = 0; i < ROWS * LD; i++)
                if (i % LD >= first && i % LD < first + group) cr_assert_eq(((float *)t.cpu)[i], 0);
            twin_free(&t);
            free(x);
        }
    bench_close(b);
}

/* ---- sums over rows -------------------------------------------------------------------------- */

static void check_sum(const bench *b, int64_t rows, int64_t cols, int64_t ld, int offset, family f,
                      float beta) {
    float *d = family_make(f, 1, rows * ld), *y = family_make(f, 2, cols);
    double *expected = calloc((size_t)cols + 1, sizeof(*expected));
    for (int64_t c = 0; c < cols; c++) {
        for (int64_t r = 0; r < rows; r++) expected[c] += d[r * ld + c];
        expected[c] = -2 * expected[c] + (beta == 0 ? 0 : beta * (double)y[c]);
    }
    twin td = twin_make(b, d, rows * ld, 4, offset);
    twin ty = twin_make(b, beta == 0 ? NULL : y, cols, 4, offset * 3 % 4);
    OK(b->gpu->ops->sum_rows(b->gpu, rows, cols, ld, -2, td.gpu, beta, ty.gpu));
    float *got = twin_read(&ty);
    const double error = nmse(got, expected, cols);
    cr_assert(error <= MOST_ERROR, "%ld x %ld of %ld, %d off, %s, beta %g: error %g", rows, cols,
              ld, offset, family_names[f], beta, error);
    free(got), free(d), free(y), free(expected);
    twin_free(&td), twin_free(&ty);
}

/* Rows of FLT_MAX overflow in one order and not in another, so that family is made of the rest. */
static void check_sum_shape(const bench *b, int s, int offset, family f) {
    const int64_t cols = shapes[s].n_blocks * shapes[s].group, ld = cols + shapes[s].gap;
    if (f == NOT_FINITE) return;
    check_sum(b, shapes[s].rows, cols, ld, offset, f, 0);
    check_sum(b, shapes[s].rows, cols, ld, offset, f, 3);
}

Test(device_parity, sums_over_rows_agree_with_double) { check_shapes(check_sum_shape); }

Test(device_parity, long_sums_over_rows_agree_with_double) {
    const bench b = bench_open();
    for (int offset = 0; offset < 2; offset++) {
        check_sum(&b, 100007, 1, 1, offset, NORMAL, 0);
        check_sum(&b, 20001, 10, 10, offset, LAPLACE, 1);
        check_sum(&b, 4097, 36, 40, offset, ONE_EXPONENT, 0);
    }
    bench_close(b);
}

Test(device_parity, sums_over_rows_carry_infinities_and_nan) {
    const bench b = bench_open();
    enum { ROWS = 50, COLS = 13 };
    float *d = family_make(NORMAL, 1, ROWS * COLS), y[COLS];
    d[3 * COLS + 2] = INFINITY, d[9 * COLS + 5] = -INFINITY, d[11 * COLS + 7] = NAN;
    d[4 * COLS + 9] = INFINITY, d[40 * COLS + 9] = -INFINITY;
    twin td = twin_make(&b, d, ROWS * COLS, 4, 0), ty = twin_make(&b, NULL, COLS, 4, 0);
    OK(b.gpu->ops->sum_rows(b.gpu, ROWS, COLS, COLS, 1, td.gpu, 0, ty.gpu));
    float *got = twin_read(&ty);
    memcpy(y, got, sizeof(y));
    for (int c = 0; c < COLS; c++)
        cr_assert(c == 2             ? y[c] == INFINITY
                  : c == 5           ? y[c] == -INFINITY
                  : c == 7 || c == 9 ? isnan(y[c])
                                     : isfinite(y[c]));
    twin_free(&td), twin_free(&ty);
    free(d), free(got);
    bench_close(b);
}

/* ---- products -------------------------------------------------------------------------------- */

typedef struct product {
    bool transpose_a, transpose_b;
    int64_t m, n, k;
    float alpha, beta;
    int count;
    family family;
} product;

/* Every matrix lies in a wider one; C starts poisoned where it must not be read. Underflowing
 * products would leave no bits to compare: only A is of the family. */
static void check_gemm(const bench *b, const product *p) {
    const int64_t a_rows = p->transpose_a ? p->k : p->m, a_cols = p->transpose_a ? p->m : p->k;
    const int64_t b_rows = p->transpose_b ? p->n : p->k, b_cols = p->transpose_b ? p->k : p->n;
    const int64_t lda = a_cols + 3, ldb = b_cols + 1, ldc = p->n;
    const int64_t step_a = a_rows * lda + 5, step_b = b_rows * ldb + 7, step_c = p->m * ldc;
    float *x = family_make(p->family, 1, step_a * p->count);
    float *y = family_make(NORMAL, 2, step_b * p->count);
    float *z = family_make(p->family, 3, step_c * p->count);
    double *expected = calloc((size_t)(step_c * p->count + 1), sizeof(*expected));
    for (int64_t e = 0; e < step_c * p->count; e++) {
        const int64_t which = e / step_c, i = e % step_c / ldc, j = e % ldc;
        double sum = 0;
        for (int64_t l = 0; l < p->k; l++)
            sum += (double)x[which * step_a + (p->transpose_a ? l * lda + i : i * lda + l)] *
                   y[which * step_b + (p->transpose_b ? j * ldb + l : l * ldb + j)];
        expected[e] = (p->k > 0 ? p->alpha * sum : 0) + (p->beta == 0 ? 0 : p->beta * (double)z[e]);
    }
    twin ta = twin_make(b, x, step_a * p->count, 4, 1),
         tb = twin_make(b, y, step_b * p->count, 4, 3);
    twin tc = twin_make(b, p->beta == 0 ? NULL : z, step_c * p->count, 4, 2);
    const int64_t flops = b->gpu->gemm_flops;
    OK(cog_device_gemm(b->gpu, p->transpose_a, p->transpose_b, p->m, p->n, p->k, p->alpha, ta.gpu,
                       lda, step_a, tb.gpu, ldb, step_b, p->beta, tc.gpu, ldc, step_c, p->count));
    cr_assert_eq(b->gpu->gemm_flops - flops, 2 * p->m * p->n * p->k * p->count);
    float *got = twin_read(&tc);
    const double error = nmse(got, expected, step_c * p->count);
    cr_assert(error <= MOST_ERROR, "%ld x %ld x %ld, ta %d, tb %d, alpha %g, beta %g, %s: %g", p->m,
              p->n, p->k, p->transpose_a, p->transpose_b, p->alpha, p->beta,
              family_names[p->family], error);
    twin_free(&ta), twin_free(&tb), twin_free(&tc);
    free(x), free(y), free(z), free(expected), free(got);
}

Test(device_parity, products_agree_with_double_for_all_shapes_and_factors) {
    static const int64_t shape[][3] = {{1, 1, 1},    {3, 5, 7},  {17, 1, 33}, {1, 40, 9},
                                       {64, 10, 31}, {5, 3, 0},  {0, 3, 2},   {3, 0, 2},
                                       {33, 65, 12}, {70, 7, 90}};
    static const float factor[][2] = {{1, 0}, {-0.5f, 0}, {1, 1}, {2, -3}};
    const bench b = bench_open();
    for (size_t i = 0; i < sizeof(shape) / sizeof(*shape); i++)
        for (int f = 0; f < 4; f++)
            for (int t = 0; t < 4; t++)
                for (int v = 0; v < NOT_FINITE; v++) {
                    const product p = {t & 1,        t >> 1,         shape[i][0],
                                       shape[i][1],  shape[i][2],    factor[f][0],
                                       factor[f][1], 1 + (int)i % 3, (family)v};
                    check_gemm(&b, &p);
                }
    bench_close(b);
}

/* beta C without a product: rows that lie apart, and nothing between them is touched. */
Test(device_parity, an_empty_product_scales_and_touches_nothing_between_rows) {
    enum { M = 3, N = 5, LDC = 8 };
    const bench b = bench_open();
    for (int beta = 0; beta < 3; beta++) {
        float *c = family_make(NORMAL, 1, M * LDC), nothing = 0;
        twin t = twin_make(&b, c, M * LDC, 4, 0), none = twin_make(&b, &nothing, 1, 4, 0);
        ON_BOTH(b, gemm, false, false, M, N, 0, 1, TWIN(none), 1, 0, TWIN(none), N, 0, (float)beta,
                TWIN(t), LDC, 0, 1);
        compare_bits("empty product", &t);
        for (int i = 0; i < M * LDC; i++)
            cr_assert_eq(((float *)t.cpu)[i], i % LDC < N ? (float)beta * c[i] : c[i]);
        twin_free(&t), twin_free(&none);
        free(c);
    }
    bench_close(b);
}

Test(device_parity, a_product_that_cannot_be_is_refused_in_words) {
    const bench b = bench_open();
    float x = 0;
    twin t = twin_make(&b, &x, 1, 4, 0);
    cr_assert_eq(b.gpu->ops->gemm(b.gpu, false, false, 4, 4, 4, 1, t.gpu, 1, 0, t.gpu, 1, 0, 0,
                                  t.gpu, 1, 0, 1),
                 COG_ERR_DEVICE);
    cr_assert_not_null(strstr(cog_last_error(), "cublasSgemm"), "%s", cog_last_error());
    twin_free(&t);
    bench_close(b);
}

/* ---- softmax cross-entropy ------------------------------------------------------------------- */

/* Probabilities minus the label, and the loss, of one row in double. */
static void softmax_in_double(int64_t n, const float *z, double label, double *delta,
                              double *loss) {
    double top = -INFINITY, sum = 0;
    for (int64_t c = 0; c < n; c++) top = z[c] > top || isnan(z[c]) ? z[c] : top;
    for (int64_t c = 0; c < n; c++) sum += exp(z[c] - top);
    const bool is_class = label >= 0 && label < (double)n;
    for (int64_t c = 0; c < n; c++)
        delta[c] = exp(z[c] - top) / sum - (is_class && c == (int64_t)label);
    *loss = is_class ? log(sum) - (z[(int64_t)label] - top) : NAN;
}

static void check_softmax(const bench *b, int64_t rows, int64_t n, int64_t ld, float spread,
                          int offset, family f, bool in_place) {
    float *z = family_make(f, 1, rows * ld), *label = malloc((size_t)(rows + 1) * sizeof(float));
    double *expected = calloc((size_t)(rows * ld + 1), sizeof(double));
    double *losses = malloc((size_t)(rows + 1) * sizeof(double));
    for (int64_t i = 0; i < rows * ld; i++) z[i] *= spread;
    for (int64_t r = 0; r < rows; r++) {
        label[r] = (float)(r * 7 % (n + 1)); /* now and then one that is no class */
        softmax_in_double(n, z + r * ld, label[r], expected + r * ld, &losses[r]);
    }
    twin tz = twin_make(b, z, rows * ld, 4, offset), tl = twin_make(b, label, rows, 4, 1);
    twin td = twin_make(b, NULL, rows * ld, 4, offset * 3 % 4);
    twin loss = twin_make(b, NULL, rows, 4, 2), correct = twin_make(b, NULL, rows, 4, 3);
    twin *delta = in_place ? &tz : &td;
    ON_BOTH(*b, softmax_cross_entropy, rows, n, ld, TWIN(tz), TWIN(tl), TWIN(*delta), TWIN(loss),
            TWIN(correct));
    compare_bits("row_correct", &correct);
    float *got = twin_read(delta), *got_loss = twin_read(&loss);
    const double error = nmse(got, expected, rows * ld), of_loss = nmse(got_loss, losses, rows);
    cr_assert(error <= MOST_ERROR && of_loss <= MOST_ERROR,
              "%ld rows, %ld classes, ld %ld, spread %g, %s: %g, of the loss %g", rows, n, ld,
              spread, family_names[f], error, of_loss);
    twin_free(&tz), twin_free(&tl), twin_free(&td), twin_free(&loss), twin_free(&correct);
    free(z), free(label), free(expected), free(losses), free(got), free(got_loss);
}

Test(device_parity, softmax_agrees_with_double_and_ranks_as_the_cpu) {
    static const int64_t shape[][3] = {{0, 3, 3},    {1, 1, 1},     {5, 2, 2},      {33, 3, 5},
                                       {65, 10, 12}, {257, 10, 10}, {9, 31, 31},    {9, 32, 33},
                                       {7, 33, 33},  {2, 253, 253}, {3, 1024, 1027}};
    static const float spreads[] = {1, 1e-3f, 30, 1e30f};
    const bench b = bench_open();
    for (size_t i = 0; i < sizeof(shape) / sizeof(*shape); i++)
        for (int f = 0; f < N_FAMILIES; f++)
            for (int s = 0; s < 4; s++)
                for (int in_place = 0; in_place < 2; in_place++)
                    check_softmax(&b, shape[i][0], shape[i][1], shape[i][2], spreads[s], s,
                                  (family)f, in_place);
    bench_close(b);
}

Test(device_parity, softmax_needs_no_place_for_losses) {
    enum { ROWS = 10, CLASSES = 7 };
    const bench b = bench_open();
    float *z = family_make(NORMAL, 1, ROWS * CLASSES), label[ROWS] = {0, 1, 2, 3, 4, 5, 6};
    twin tz = twin_make(&b, z, ROWS * CLASSES, 4, 0), tl = twin_make(&b, label, ROWS, 4, 0);
    twin td = twin_make(&b, NULL, ROWS * CLASSES, 4, 0);
    ON_BOTH(b, softmax_cross_entropy, ROWS, CLASSES, CLASSES, TWIN(tz), TWIN(tl), TWIN(td), NULL,
            NULL);
    float *got = twin_read(&td);
    for (int i = 0; i < ROWS * CLASSES; i++) cr_assert_float_eq(got[i], ((float *)td.cpu)[i], 1e-6);
    twin_free(&tz), twin_free(&tl), twin_free(&td);
    free(z), free(got);
    bench_close(b);
}
