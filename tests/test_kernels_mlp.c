/* test_kernels_mlp.c - kernels/mlp.cu and softmax.cu move no byte more than they must and give the
 * same bits in every order of threads. That they are the right ones is for
 * test_device_parity_matrix.c. */
#include "kernel_bench.h"

#include <math.h>

#ifdef __SANITIZE_ADDRESS__ /* five times slower */
enum { ROWS = 64 };
#else
enum { ROWS = 512 };
#endif
enum { MAX_COLS = 2048, MAX_LD = MAX_COLS + 8 };

static float *some_floats(int64_t n) {
    float *x = malloc((size_t)(n + 1) * sizeof(*x));
    for (int64_t i = 0; i < n; i++) x[i] = (float)(i * 7919 % 2003 - 1001) / 500;
    return x;
}

/* One launch. `floor` is its bytes for each of the rows * cols entries, `a_column` for each column
 * and `a_row` for each row besides. */
typedef struct kernel_case {
    const char *name;
    double floor, a_column, a_row;
    int n_terms; /* of folds */
} kernel_case;

static const kernel_case kernel_cases[] = {
    {"bias_relu", 8, 4, 0, 0},     {"softmax", 8, 0, 12, 0},       {"relu_backward", 12, 0, 0, 0},
    {"fold_columns", 4, 0, 0, 0},  {"fold_columns", 8, 0, 0, 1},   {"fold_columns", 12, 0, 0, 2},
    {"fold_columns", 20, 0, 0, 4}, {"fold_columns", 72, 0, 0, 17}, {"sum_rows", 4, 4, 0, 0},
    {"add_rows", 4, 8, 0, 0},
};
enum { N_CASES = sizeof(kernel_cases) / sizeof(*kernel_cases), MAX_CASE_TERMS = 17 };

typedef struct operands {
    device_vector d, small, out, rows;
} operands;

/* Terms of a fold lie side by side in d, so no byte is read twice. */
static cog_kernel_columns terms_of(const kernel_case *k, int64_t cols) {
    cog_kernel_columns terms = {.n_terms = k->n_terms};
    for (int t = 0; t < k->n_terms; t++) {
        terms.column[t] = t * cols;
        terms.coef[t] = (float)(t % 3) - 0.7f;
    }
    return terms;
}

/* d is [rows, ld * terms], out [rows, ld], small [ld + rows], rows [2 * rows]. */
static operands make_operands(const kernel_case *k, int64_t rows, int64_t ld, int offset) {
    const int64_t wide = k->n_terms > 1 ? ld * k->n_terms : ld;
    const float *values = some_floats(rows * wide + ld + 2 * rows);
    operands o = {device_vector_of(values, rows * wide, 4, offset),
                  device_vector_of(values, ld + rows, 4, offset),
                  device_vector_of(values, rows * ld, 4, offset),
                  device_vector_of(values, 2 * rows, 4, 0)};
    free((void *)values);
    return o;
}

static void free_operands(operands o) {
    device_vector_free(o.d), device_vector_free(o.small);
    device_vector_free(o.out), device_vector_free(o.rows);
}

/* The result is in `out` (matrices) or `small` (sums). */
static void launch_case(const kernel_case *k, int64_t rows, int64_t cols, int64_t ld, operands o) {
    const int64_t ld_d = k->n_terms > 1 ? ld * k->n_terms : ld;
    const cog_kernel_columns terms = terms_of(k, cols);
    float *losses = o.rows.at;
    if (strcmp(k->name, "bias_relu") == 0)
        CUDA_OK(cog_cuda_bias_relu(NULL, rows, ld, o.small.at, 1, cols, cols, 1, o.out.at));
    if (strcmp(k->name, "softmax") == 0)
        CUDA_OK(cog_cuda_softmax_cross_entropy(NULL, rows, cols, ld, o.d.at, o.small.at, o.out.at,
                                               losses, losses + rows));
    if (strcmp(k->name, "relu_backward") == 0)
        CUDA_OK(cog_cuda_relu_backward(NULL, o.d.at, o.out.at, rows * ld));
    if (strcmp(k->name, "fold_columns") == 0)
        CUDA_OK(cog_cuda_fold_columns(NULL, rows, cols, ld_d, o.d.at, &terms, 0, o.out.at, ld));
    if (strcmp(k->name, "sum_rows") == 0)
        CUDA_OK(cog_cuda_sum_rows(NULL, rows, cols, ld, 1, o.d.at, 0, o.small.at));
    if (strcmp(k->name, "add_rows") == 0)
        CUDA_OK(cog_cuda_sum_rows(NULL, rows, cols, ld, 1, o.d.at, 1, o.small.at));
}

static void check_orders(const kernel_case *k, int64_t cols, int64_t ld, int offset) {
    void *first[3] = {NULL, NULL, NULL};
    for (int order = 0; order < N_ORDERS; order++) {
        const operands o = make_operands(k, 77, ld, offset);
        set_order(order);
        launch_case(k, 77, cols, ld, o);
        void *got[3] = {device_vector_read(o.out), device_vector_read(o.small),
                        device_vector_read(o.rows)};
        const size_t bytes[3] = {o.out.bytes, o.small.bytes, o.rows.bytes};
        for (int i = 0; i < 3; i++) {
            if (order == 0) first[i] = got[i];
            cr_assert_eq(memcmp(first[i], got[i], bytes[i]), 0, "%s, order %d", k->name, order);
            if (order > 0) free(got[i]);
        }
        free_operands(o);
    }
    for (int i = 0; i < 3; i++) free(first[i]);
}

Test(kernels_mlp, every_order_of_threads_gives_the_same_bytes) {
    for (int k = 0; k < N_CASES; k++) {
        check_orders(&kernel_cases[k], 100, 100, 0);
        check_orders(&kernel_cases[k], 150, 152, 1);
        check_orders(&kernel_cases[k], 10, 10, 2);
        check_orders(&kernel_cases[k], 1, 1, 0);
    }
}

Test(kernels_mlp, nothing_is_launched_for_nothing_and_for_wrong_counts) {
    cog_kernel_columns terms = {.n_terms = COG_KERNEL_COLUMNS + 1};
    cr_expect_eq(cog_cuda_fold_columns(NULL, 1, 1, 1, NULL, &terms, 0, NULL, 1),
                 cudaErrorInvalidValue);
    terms.n_terms = -1;
    cr_expect_eq(cog_cuda_fold_columns(NULL, 1, 1, 1, NULL, &terms, 0, NULL, 1),
                 cudaErrorInvalidValue);
    terms.n_terms = 0;
    CUDA_OK(cog_cuda_fold_columns(NULL, 0, 1, 1, NULL, &terms, 0, NULL, 1));
    CUDA_OK(cog_cuda_fold_columns(NULL, 1, 0, 1, NULL, &terms, 0, NULL, 1));
    CUDA_OK(cog_cuda_fold_columns(NULL, 1, 1, 1, NULL, &terms, 1, NULL, 1));
    CUDA_OK(cog_cuda_bias_relu(NULL, 0, 1, NULL, 1, 1, 1, 1, NULL));
    CUDA_OK(cog_cuda_bias_relu(NULL, 1, 1, NULL, 0, 1, 1, 1, NULL));
    CUDA_OK(cog_cuda_softmax_cross_entropy(NULL, 0, 3, 3, NULL, NULL, NULL, NULL, NULL));
    CUDA_OK(cog_cuda_relu_backward(NULL, NULL, NULL, 0));
    CUDA_OK(cog_cuda_sum_rows(NULL, 5, 0, 1, 1, NULL, 0, NULL));
}

#ifdef COG_WITH_SIMT
/* DRAM traffic (unique sectors) against the floor; `most` is the share above it that is allowed for
 * the requests themselves, without any cache. */
static void check_traffic(const kernel_case *k, int64_t rows, int64_t cols, int64_t ld, int offset,
                          double most_unique, double most_sectors) {
    const operands o = make_operands(k, rows, ld, offset);
    simt_counters c;
    simt_reset_counters();
    launch_case(k, rows, cols, ld, o);
    simt_read_counters(&c);
    const double floor =
        k->floor * (double)(rows * cols) + k->a_column * (double)cols + k->a_row * (double)rows;
    const double unique = 32.0 * (double)(c.load_unique + c.store_unique);
    const double sectors = 32.0 * (double)(c.load_sectors + c.store_sectors);
    cr_expect_eq(c.launches, 1);
    cr_expect_eq(c.bank_conflicts, 0, "%s: %g bank conflicts", k->name, (double)c.bank_conflicts);
    cr_expect_leq(unique, most_unique * floor, "%s, %ld x %ld, %d off: %g of the floor", k->name,
                  rows, cols, offset, unique / floor);
    cr_expect_leq(sectors, most_sectors * floor, "%s, %ld x %ld, %d off: %g of the floor", k->name,
                  rows, cols, offset, sectors / floor);
    free_operands(o);
}

/* (Scores that are read again count a sector more a request than they cost: threads that begin in
 * another round of the loop are counted with the wrong ones.) */
Test(kernels_mlp, traffic_stays_within_5_percent_of_the_floor) {
    for (int i = 0; i < N_CASES; i++) {
        const kernel_case *k = &kernel_cases[i];
        const double read_again = strcmp(k->name, "softmax") == 0 ? 2 : 1;
        check_traffic(k, ROWS, 512, 512, 0, 1.05, 1.10 * read_again);
        check_traffic(k, ROWS, 512, 512, 5, 1.05,
                      read_again > 1 ? 2.6 : 1.15);      /* not at a sector */
        check_traffic(k, ROWS, 200, 200, 0, 1.05, 1.10); /* scores stay in registers */
        check_traffic(k, ROWS, 250, 250, 0, 1.05, 1.30 * read_again);
        check_traffic(k, ROWS, 10, 10, 0, 1.10, 1.60);
    }
}
#endif
