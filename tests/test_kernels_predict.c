/* test_kernels_predict.c - kernels/predict.cu gives the sums and the bits of the CPU, and moves no
 * byte more than it must. */
#include "kernel_bench.h"

#include <math.h>

#include "device.h"
#include "rng.h"

#ifdef __SANITIZE_ADDRESS__ /* five times slower */
enum { LARGE = 1 << 16 };
#else
enum { LARGE = 1 << 17 };
#endif

static const int64_t sizes[] = {0,   1,   31,   127,  128,  129,  511,
                                512, 513, 4095, 4096, 4097, 9001, 40001};
enum { N_SIZES = sizeof(sizes) / sizeof(*sizes), MAX_VECTORS = COG_KERNEL_VECTORS };

/* Offsets in entries: of vector k it is first + step k. */
static const int offsets[][2] = {{0, 0}, {1, 0}, {0, 1}, {3, 5}, {2, 4}};
enum { N_OFFSETS = sizeof(offsets) / sizeof(*offsets) };

static const int counts[] = {1, 2, 3, 4, 6, 11, 17};
enum { N_COUNTS = sizeof(counts) / sizeof(*counts) };

/* Vectors here and on the device, and memory for sums. */
typedef struct rig {
    int n_vectors;
    int64_t n;
    const float *x[MAX_VECTORS], *there[MAX_VECTORS];
    device_vector vector[MAX_VECTORS], expected, scratch;
} rig;

/* Nearly parallel vectors, as successive gradients are; with `wild` infinities and NaN in them. */
static float *values_of(int k, int64_t n, bool wild) {
    static const float odd[] = {INFINITY, -INFINITY, NAN, 3e38f, 1e-42f, -0.0f};
    cog_rng same = cog_rng_make(5, COG_STREAM_TEST, 0, 0);
    cog_rng own = cog_rng_make(5, COG_STREAM_TEST, 1 + (uint32_t)k, 0);
    float *x = malloc((size_t)(n + 1) * sizeof(*x));
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)(cog_rng_uniform(&same) - 0.3 + 1e-3 * cog_rng_uniform(&own));
        if (wild && cog_rng_below(&own, 5) == 0) x[i] = odd[cog_rng_below(&own, 6)];
    }
    return x;
}

static rig rig_make(int n_vectors, int64_t n, int first, int step, bool wild) {
    rig r = {.n_vectors = n_vectors, .n = n};
    for (int k = 0; k < n_vectors; k++) {
        r.x[k] = values_of(k, n, wild);
        r.vector[k] = device_vector_of(r.x[k], n, 4, first + step * k);
        r.there[k] = r.vector[k].at;
    }
    r.expected = device_vector_make(n, 4, first);
    r.scratch = device_vector_make((int64_t)cog_cuda_sums_bytes(n), 1, 0);
    device_vector_poison(r.expected);
    device_vector_poison(r.scratch);
    return r;
}

static void rig_free(rig *r) {
    for (int k = 0; k < r->n_vectors; k++) {
        device_vector_free(r->vector[k]);
        free((float *)r->x[k]);
    }
    device_vector_free(r->expected);
    device_vector_free(r->scratch);
}

static int sums_of(int n_rows, int n_vectors) { return n_rows * n_vectors - (n_rows - 1); }

static void fetch_sums(const rig *r, int n_sums, double *out) {
    CUDA_OK(cudaMemcpy(out, r->scratch.at, (size_t)n_sums * sizeof(*out), cudaMemcpyDeviceToHost));
}

static void products_there(const rig *r, int n_rows, double *out) {
    cog_kernel_vectors vectors = {.n_vectors = r->n_vectors, .n_rows = n_rows};
    memcpy(vectors.x, r->there, sizeof(r->there));
    CUDA_OK(cog_cuda_products(NULL, &vectors, r->n, r->scratch.at));
    fetch_sums(r, sums_of(n_rows, r->n_vectors), out);
}

/* Coefficients of a fit to nearly parallel vectors: they are large and cancel. */
static float coefficient(int k) { return (float)(k % 2 ? -1 : 1) * (1 + 1e4f * (float)(k + 1)); }

static cog_kernel_terms terms_there(const rig *r) {
    cog_kernel_terms terms = {.n_terms = r->n_vectors - 1};
    for (int k = 1; k < r->n_vectors; k++) {
        terms.x[k - 1] = r->there[k];
        terms.coef[k - 1] = coefficient(k);
    }
    return terms;
}

/* ---- the CPU device, and plain sums ---------------------------------------------------------- */

static cog_device *open_cpu(void) {
    cog_device *cpu;
    cr_assert_eq(cog_device_open("cpu", &cpu), COG_OK);
    return cpu;
}

static void products_here(cog_device *cpu, const rig *r, int n_rows, double *out) {
    void *work = malloc(cog_device_sums_bytes(r->n));
    cr_assert_eq(cpu->ops->products(cpu, n_rows, r->n_vectors, r->x, r->n, work, out), COG_OK);
    free(work);
}

static double predict_here(cog_device *cpu, const rig *r, float *expected) {
    float coef[MAX_VECTORS];
    double square;
    for (int k = 1; k < r->n_vectors; k++) coef[k - 1] = coefficient(k);
    void *work = malloc(cog_device_sums_bytes(r->n));
    cr_assert_eq(cpu->ops->predict(cpu, r->n_vectors - 1, r->x + 1, coef, r->x[0], r->n, expected,
                                   work, &square),
                 COG_OK);
    free(work);
    return square;
}

static bool same(double a, double b) {
    return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b));
}

static long double plain_product(const float *x, const float *y, int64_t n) {
    long double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (long double)x[i] * y[i];
    return sum;
}

/* ---- laws ------------------------------------------------------------------------------------ */

static void check_products(cog_device *cpu, const rig *r, int n_rows, bool wild) {
    double got[2 * MAX_VECTORS], here[2 * MAX_VECTORS];
    products_there(r, n_rows, got);
    products_here(cpu, r, n_rows, here);
    for (int s = 0; s < sums_of(n_rows, r->n_vectors); s++) {
        const int row = s >= r->n_vectors, k = row ? s - r->n_vectors + 1 : s;
        cr_assert(same(got[s], here[s]), "n %ld, %d vectors, (%d, %d): %a, not %a", r->n,
                  r->n_vectors, row, k, got[s], here[s]);
        if (wild) continue;
        const long double plain = plain_product(r->x[row], r->x[k], r->n);
        cr_assert_leq(fabsl(got[s] - plain), 1e-14L * (long double)r->n, "n %ld (%d, %d): %g", r->n,
                      row, k, got[s]);
    }
}

static void check_predict(cog_device *cpu, const rig *r, bool wild) {
    const cog_kernel_terms terms = terms_there(r);
    float *here = malloc((size_t)(r->n + 1) * sizeof(*here));
    double square, of_cpu = predict_here(cpu, r, here);
    long double plain = 0;
    CUDA_OK(cog_cuda_predict(NULL, &terms, r->there[0], r->n, r->expected.at, r->scratch.at));
    fetch_sums(r, 1, &square);
    float *got = device_vector_read(r->expected);
    for (int64_t i = 0; i < r->n; i++) {
        double sum = 0;
        for (int k = 1; k < r->n_vectors; k++) sum += (double)coefficient(k) * r->x[k][i];
        cr_assert(same(got[i], (float)sum) && same(here[i], (float)sum), "n %ld [%ld]: %a, %a",
                  r->n, i, (double)got[i], (double)here[i]);
        plain += powl((long double)r->x[0][i] - (float)sum, 2);
    }
    cr_assert(same(square, of_cpu), "n %ld, %d terms: %a, not %a", r->n, terms.n_terms, square,
              of_cpu);
    if (!wild) cr_assert_leq(fabsl(square - plain), 1e-13L * plain, "n %ld: %g", r->n, square);
    free(got), free(here);
}

Test(kernels_predict, sums_have_the_bits_of_the_cpu_and_the_value_of_a_plain_sum) {
    cog_device *cpu = open_cpu();
    for (int s = 0; s < N_SIZES; s++)
        for (int c = 0; c < N_COUNTS; c++)
            for (int wild = 0; wild < 2; wild++) {
                const int *offset = offsets[(s + c + wild) % N_OFFSETS];
                if (sizes[s] > 1000 && (s + c) % 4 != 2 * wild) continue;
                rig r = rig_make(counts[c], sizes[s], offset[0], offset[1], wild);
                check_products(cpu, &r, 1, wild);
                if (counts[c] > 1) check_products(cpu, &r, 2, wild);
                check_predict(cpu, &r, wild);
                rig_free(&r);
            }
    cog_device_close(cpu);
}

Test(kernels_predict, every_alignment_gives_the_same_bits) {
    cog_device *cpu = open_cpu();
    for (int first = 0; first < 4; first++)
        for (int step = 0; step < 4; step++) {
            rig r = rig_make(4, 4800, first, step, false);
            check_products(cpu, &r, 2, false);
            check_predict(cpu, &r, false);
            rig_free(&r);
        }
    cog_device_close(cpu);
}

/* More tiles than there are columns for their sums. */
Test(kernels_predict, long_sums_have_the_bits_of_the_cpu) {
    cog_device *cpu = open_cpu();
    rig r = rig_make(1, 260 * 4096 + 77, 0, 0, false);
    check_products(cpu, &r, 1, false);
    check_predict(cpu, &r, false);
    rig_free(&r);
    cog_device_close(cpu);
}

Test(kernels_predict, what_nobody_wants_is_not_computed) {
    rig r = rig_make(3, 1000, 0, 1, false);
    const cog_kernel_terms terms = terms_there(&r);
    double all, square;
    CUDA_OK(cog_cuda_predict(NULL, &terms, r.there[0], r.n, NULL, r.scratch.at));
    fetch_sums(&r, 1, &all);
    CUDA_OK(cog_cuda_predict(NULL, &terms, NULL, r.n, r.expected.at, NULL));
    free(device_vector_read(r.expected));
    CUDA_OK(cog_cuda_predict(NULL, &terms, r.there[0], r.n, r.expected.at, r.scratch.at));
    fetch_sums(&r, 1, &square);
    cr_expect_eq(all, square);
    rig_free(&r);
}

Test(kernels_predict, wrong_counts_are_refused) {
    cog_kernel_vectors vectors = {.n_vectors = MAX_VECTORS + 1, .n_rows = 1};
    cog_kernel_terms terms = {.n_terms = COG_KERNEL_TERMS + 1};
    cr_expect_eq(cog_cuda_products(NULL, &vectors, 5, NULL), cudaErrorInvalidValue);
    vectors.n_vectors = 1, vectors.n_rows = 2;
    cr_expect_eq(cog_cuda_products(NULL, &vectors, 5, NULL), cudaErrorInvalidValue);
    vectors.n_rows = 0;
    cr_expect_eq(cog_cuda_products(NULL, &vectors, 5, NULL), cudaErrorInvalidValue);
    cr_expect_eq(cog_cuda_predict(NULL, &terms, NULL, 5, NULL, NULL), cudaErrorInvalidValue);
    terms.n_terms = -1;
    cr_expect_eq(cog_cuda_predict(NULL, &terms, NULL, 5, NULL, NULL), cudaErrorInvalidValue);
}

Test(kernels_predict, every_order_of_threads_gives_the_same_bytes) {
    double first[2 * MAX_VECTORS], got[2 * MAX_VECTORS], first_square = 0, square;
    char *first_bytes = NULL;
    for (int order = 0; order < N_ORDERS; order++) {
        set_order(order);
        rig r = rig_make(5, 9001, 1, 0, false);
        const cog_kernel_terms terms = terms_there(&r);
        products_there(&r, 2, order == 0 ? first : got);
        CUDA_OK(cog_cuda_predict(NULL, &terms, r.there[0], r.n, r.expected.at, r.scratch.at));
        fetch_sums(&r, 1, order == 0 ? &first_square : &square);
        char *bytes = device_vector_read(r.expected);
        if (order > 0) {
            cr_assert_eq(memcmp(first, got, 9 * sizeof(*got)), 0, "order %d", order);
            cr_assert_eq(first_square, square, "order %d", order);
            cr_assert_eq(memcmp(first_bytes, bytes, r.expected.bytes), 0, "order %d", order);
            free(bytes);
        } else {
            first_bytes = bytes;
        }
        rig_free(&r);
    }
    free(first_bytes);
    set_order(0);
}

#ifdef COG_WITH_SIMT
/* The requests, without any cache, stay within 5 % of the floor and ask for 95 % of the bytes of
 * their sectors; shared memory has no conflicts. */
static void check_traffic(const char *name, const rig *r, double floor) {
    simt_counters c;
    simt_read_counters(&c);
    const double sectors = 32.0 * (double)(c.load_sectors + c.store_sectors);
    const double asked = (double)(c.load_bytes + c.store_bytes), n = (double)r->n;
    cr_log_info("%s of %d vectors: %g bytes an entry, floor %g, %g %% of sectors", name,
                r->n_vectors, asked / n, floor, 100 * asked / sectors);
    cr_expect_eq(c.launches, 2);
    cr_expect_eq(c.bank_conflicts, 0, "%s: %lu conflicts", name, c.bank_conflicts);
    cr_expect_geq(asked / n, floor, "%s: %g", name, asked / n);
    cr_expect_leq(asked / n, 1.05 * floor, "%s of %d: %g", name, r->n_vectors, asked / n);
    cr_expect_leq(sectors / n, 1.05 * floor, "%s of %d: %g", name, r->n_vectors, sectors / n);
    cr_expect_geq(asked / sectors, 0.95, "%s of %d: %g", name, r->n_vectors, asked / sectors);
}

Test(kernels_predict, traffic_stays_within_5_percent_of_the_floor) {
    for (int c = 1; c < N_COUNTS; c++) {
        double out[2 * MAX_VECTORS];
        rig r = rig_make(counts[c], c < 4 ? LARGE : LARGE / 4, 0, 0, false);
        const cog_kernel_terms terms = terms_there(&r);
        simt_reset_counters();
        products_there(&r, 2, out);
        check_traffic("products", &r, 4.0 * counts[c]);
        simt_reset_counters();
        CUDA_OK(cog_cuda_predict(NULL, &terms, r.there[0], r.n, r.expected.at, r.scratch.at));
        check_traffic("predict", &r, 4.0 * counts[c] + 4);
        rig_free(&r);
    }
}
#endif
