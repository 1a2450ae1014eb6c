/* test_kernels_vector.c - kernels/vector.cu gives the bits of the definitions and moves no byte
 * more than it must. */
#include "kernel_bench.h"

#include <math.h>

#include "device.h"

#ifdef __SANITIZE_ADDRESS__ /* five times slower */
enum { LARGE = 1 << 16 };
#else
enum { LARGE = 1 << 20 };
#endif

static const int64_t sizes[] = {0,   1,   7,    31,   32,   33,   127,    255,
                                256, 257, 1023, 1024, 1025, 9001, 100007, LARGE};
enum { N_SIZES = sizeof(sizes) / sizeof(*sizes), MAX_TERMS = COG_KERNEL_TERMS };

/* Every 32-bit pattern is as likely: huge, tiny, subnormal, infinite and not a number. */
static uint32_t any_bits(uint64_t stream, int64_t i) {
    uint64_t z = stream * 0x9e3779b97f4a7c15u + (uint64_t)i * 0xd1342543de82ef95u + 1;
    z = (z ^ z >> 32) * 0xd6e8feb86659fd93u;
    return (uint32_t)((z ^ z >> 29) * 0xd6e8feb86659fd93u >> 32);
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static float *any_floats(uint64_t stream, int64_t n) {
    float *x = malloc((size_t)(n + 1) * sizeof(*x));
    for (int64_t i = 0; i < n; i++) x[i] = float_of(any_bits(stream, i));
    return x;
}

/* Between -1 and 1: sums that neither overflow nor vanish. */
static float *some_floats(uint64_t stream, int64_t n) {
    float *x = malloc((size_t)(n + 1) * sizeof(*x));
    for (int64_t i = 0; i < n; i++) x[i] = (float)((int32_t)any_bits(stream, i) >> 8) * 0x1p-23f;
    return x;
}

static bool same(float a, float b) {
    return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b));
}

/* Offsets of the vectors in entries: alike and not, in groups of 4 and in sectors. */
static const int offsets[][2] = {{0, 0}, {1, 1}, {3, 7}, {2, 1}, {4, 0}, {0, 5}};
enum { N_OFFSETS = sizeof(offsets) / sizeof(*offsets) };

/* All sizes with aligned vectors; the smaller ones with all offsets and orders of threads. */
static int offsets_for(int64_t n) { return n < 100000 ? N_OFFSETS : n < LARGE ? 3 : 1; }

Test(kernels_vector, fill_writes_the_value_and_nothing_else) {
    for (int s = 0; s < N_SIZES; s++)
        for (int o = 0; o < 2 * offsets_for(sizes[s]) - 1; o++) {
            const device_vector y = device_vector_make(sizes[s], 4, o);
            device_vector_poison(y);
            CUDA_OK(cog_cuda_fill(NULL, 1.5f, y.at, sizes[s]));
            float *got = device_vector_read(y);
            for (int64_t i = 0; i < sizes[s]; i++) cr_assert_eq(got[i], 1.5f);
            free(got);
            device_vector_free(y);
        }
}

static void check_axpby(int64_t n, int x_offset, int y_offset, float a, float b) {
    float *x = any_floats(1, n), *y = any_floats(2, n);
    const device_vector dx = device_vector_of(x, n, 4, x_offset);
    const device_vector dy = device_vector_of(y, n, 4, y_offset);
    if (b == 0) device_vector_poison(dy);
    CUDA_OK(cog_cuda_axpby(NULL, a, dx.at, b, dy.at, n));
    float *got = device_vector_read(dy);
    for (int64_t i = 0; i < n; i++) {
        const float product = a * x[i], other = b * y[i]; /* rounded each */
        const float expected = b == 0 ? product : product + other;
        cr_assert(same(got[i], expected), "n %ld, offsets %d %d: [%ld] is %a, not %a", n, x_offset,
                  y_offset, i, got[i], expected);
    }
    device_vector_free(dx), device_vector_free(dy);
    free(x), free(y), free(got);
}

Test(kernels_vector, axpby_has_the_bits_of_two_products_and_a_sum) {
    for (int s = 0; s < N_SIZES; s++)
        for (int o = 0; o < offsets_for(sizes[s]); o++) {
            check_axpby(sizes[s], offsets[o][0], offsets[o][1], 0.3f, -1.7f);
            check_axpby(sizes[s], offsets[o][0], offsets[o][1], 0.3f, 0);
        }
}

Test(kernels_vector, axpby_works_in_place) {
    enum { N = 1000 };
    float *x = any_floats(3, N);
    const device_vector dx = device_vector_of(x, N, 4, 1);
    CUDA_OK(cog_cuda_axpby(NULL, 2, dx.at, 3, dx.at, N));
    float *got = device_vector_read(dx);
    for (int i = 0; i < N; i++) cr_assert(same(got[i], 2 * x[i] + 3 * x[i]));
    device_vector_free(dx);
    free(x), free(got);
}

/* ---- bf16 ------------------------------------------------------------------------------------ */

/* The two bf16 numbers around x, the nearer of them, the even one of equals: in double, where
 * distances are exact and what follows the largest number is 2^128. */
static uint16_t nearest_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    const uint16_t down = (uint16_t)(bits >> 16), up = (uint16_t)(down + 1);
    if ((bits & 0xffff) == 0) return down;
    const double low = fabs((double)float_of((uint32_t)down << 16));
    double high = fabs((double)float_of((uint32_t)up << 16));
    if (isinf(high)) high = 0x1p128;
    const double to_low = fabs((double)x) - low, to_high = high - fabs((double)x);
    if (to_low != to_high) return to_low < to_high ? down : up;
    return down % 2 == 0 ? down : up;
}

Test(kernels_vector, to_bf16_rounds_to_nearest_even_and_keeps_nan) {
    static const uint32_t special[] = {0,           0x80000000u, 0x7f800000u, 0xff800000u,
                                       0x7fc00000u, 0x7f800001u, 0xffffffffu, 0x7fbfffffu,
                                       0x7f7fffffu, 0x7f7f8000u, 0x7f7f7fffu, 0x3f808000u,
                                       0x3f818000u, 0x3f808001u, 0x00008000u, 0x00018000u};
    for (int s = 0; s < N_SIZES; s++)
        for (int o = 0; o < offsets_for(sizes[s]); o++) {
            const int64_t n = sizes[s];
            float *x = any_floats(4, n);
            for (int64_t i = 0; i < n && i < 16; i++) x[i] = float_of(special[i]);
            const device_vector dx = device_vector_of(x, n, 4, offsets[o][0]);
            const device_vector dy = device_vector_make(n, 2, offsets[o][1]);
            device_vector_poison(dy);
            CUDA_OK(cog_cuda_to_bf16(NULL, dx.at, dy.at, n));
            uint16_t *got = device_vector_read(dy);
            for (int64_t i = 0; i < n; i++) {
                const float back = float_of((uint32_t)got[i] << 16);
                const bool good = isnan(x[i]) ? isnan(back) && signbit(back) == signbit(x[i])
                                              : got[i] == nearest_bf16(x[i]);
                cr_assert(good, "n %ld, case %d: %a becomes %a", n, o, x[i], back);
            }
            device_vector_free(dx), device_vector_free(dy);
            free(x), free(got);
        }
}

Test(kernels_vector, from_bf16_is_exact_for_every_number) {
    for (int o = 0; o < N_OFFSETS; o++) {
        enum { N = 1 << 16 };
        uint16_t *x = malloc(N * sizeof(*x));
        for (int i = 0; i < N; i++) x[i] = (uint16_t)i;
        const device_vector dx = device_vector_of(x, N, 2, offsets[o][0]);
        const device_vector dy = device_vector_make(N, 4, offsets[o][1]);
        device_vector_poison(dy);
        CUDA_OK(cog_cuda_from_bf16(NULL, dx.at, dy.at, N));
        uint32_t *got = device_vector_read(dy);
        for (uint32_t i = 0; i < N; i++) cr_assert_eq(got[i], i << 16);
        device_vector_free(dx), device_vector_free(dy);
        free(x), free(got);
    }
}

/* ---- combine --------------------------------------------------------------------------------- */

static float coefficient(int k) { return (float)(k % 2 ? -1 : 1) * (0.25f + 0.3f * (float)k); }

typedef struct combination {
    float *x[MAX_TERMS];
    device_vector dx[MAX_TERMS], out;
    cog_kernel_terms terms;
} combination;

/* The offset of term k is offset + k * step. */
static combination combination_make(int64_t n, int n_terms, int offset, int step) {
    combination c;
    memset(&c, 0, sizeof(c));
    c.terms.n_terms = n_terms;
    for (int k = 0; k < n_terms; k++) {
        c.x[k] = some_floats(10 + (uint64_t)k, n);
        c.dx[k] = device_vector_of(c.x[k], n, 4, offset + k * step);
        c.terms.x[k] = c.dx[k].at;
        c.terms.coef[k] = coefficient(k);
    }
    c.out = device_vector_make(n, 4, offset);
    device_vector_poison(c.out);
    return c;
}

static void combination_free(combination *c) {
    for (int k = 0; k < c->terms.n_terms; k++) device_vector_free(c->dx[k]), free(c->x[k]);
    device_vector_free(c->out);
}

static float combined(const combination *c, int64_t i) {
    if (c->terms.n_terms == 0) return 0;
    float sum = coefficient(0) * c->x[0][i];
    for (int k = 1; k < c->terms.n_terms; k++) sum = fmaf(coefficient(k), c->x[k][i], sum);
    return sum;
}

static void check_combine(int64_t n, int n_terms, int offset, int step) {
    combination c = combination_make(n, n_terms, offset, step);
    CUDA_OK(cog_cuda_combine(NULL, &c.terms, c.out.at, n));
    float *got = device_vector_read(c.out);
    for (int64_t i = 0; i < n; i++)
        cr_assert(same(got[i], combined(&c, i)), "n %ld, %d terms, offset %d + %d: [%ld] is %a", n,
                  n_terms, offset, step, i, got[i]);
    combination_free(&c);
    free(got);
}

Test(kernels_vector, combine_is_a_product_and_then_fused_sums_in_order) {
    for (int s = 0; s < N_SIZES; s++) {
        const bool large = sizes[s] > 10000;
        for (int n_terms = 0; n_terms <= MAX_TERMS; n_terms++) {
            if (sizes[s] == LARGE && n_terms > 4) break;
            check_combine(sizes[s], n_terms, 0, 0);
            if (large) continue;
            check_combine(sizes[s], n_terms, 3, 4);
            check_combine(sizes[s], n_terms, 1, 1);
        }
    }
}

Test(kernels_vector, combine_may_overwrite_a_term) {
    combination c = combination_make(1000, 3, 1, 0);
    CUDA_OK(cog_cuda_combine(NULL, &c.terms, c.dx[1].at, 1000));
    float *got = device_vector_read(c.dx[1]);
    for (int64_t i = 0; i < 1000; i++) cr_assert(same(got[i], combined(&c, i)));
    combination_free(&c);
    free(got);
}

Test(kernels_vector, nothing_is_launched_for_nothing_and_for_wrong_counts) {
    cog_kernel_terms terms = {.n_terms = MAX_TERMS + 1};
    cr_expect_eq(cog_cuda_combine(NULL, &terms, NULL, 5), cudaErrorInvalidValue);
    terms.n_terms = -1;
    cr_expect_eq(cog_cuda_combine(NULL, &terms, NULL, 5), cudaErrorInvalidValue);
    terms.n_terms = 2;
    CUDA_OK(cog_cuda_combine(NULL, &terms, NULL, 0));
    CUDA_OK(cog_cuda_fill(NULL, 0, NULL, 0));
    CUDA_OK(cog_cuda_axpby(NULL, 0, NULL, 0, NULL, -1));
    CUDA_OK(cog_cuda_to_bf16(NULL, NULL, NULL, 0));
    CUDA_OK(cog_cuda_from_bf16(NULL, NULL, NULL, 0));
}

/* ---- what every kernel shares ---------------------------------------------------------------- */

/* One call of a launcher on vectors of n entries; returns its bytes an entry by FIELD's count. */
typedef struct kernel_case {
    const char *name;
    double floor; /* bytes an entry */
    int n_terms;  /* of combine */
} kernel_case;

static const kernel_case kernel_cases[] = {
    {"fill", 4, 0},      {"scale", 8, 0},    {"axpby", 12, 0},   {"to_bf16", 6, 0},
    {"from_bf16", 6, 0}, {"combine", 8, 1},  {"combine", 12, 2}, {"combine", 16, 3},
    {"combine", 20, 4},  {"combine", 36, 8},
};
enum { N_CASES = sizeof(kernel_cases) / sizeof(*kernel_cases), MAX_CASE_TERMS = 8 };

/* y, of n * 4 bytes, is the result. */
static void launch_case(const kernel_case *k, const float *x, void *y, int64_t n) {
    cog_kernel_terms terms = {.n_terms = k->n_terms};
    for (int t = 0; t < k->n_terms; t++) {
        terms.x[t] = x + t * n;
        terms.coef[t] = coefficient(t);
    }
    if (strcmp(k->name, "fill") == 0) CUDA_OK(cog_cuda_fill(NULL, 2, y, n));
    if (strcmp(k->name, "scale") == 0) CUDA_OK(cog_cuda_axpby(NULL, 2, x, 0, y, n));
    if (strcmp(k->name, "axpby") == 0) CUDA_OK(cog_cuda_axpby(NULL, 2, x, 3, y, n));
    if (strcmp(k->name, "to_bf16") == 0) CUDA_OK(cog_cuda_to_bf16(NULL, x, y, n));
    if (strcmp(k->name, "from_bf16") == 0)
        CUDA_OK(cog_cuda_from_bf16(NULL, (const uint16_t *)x, y, n));
    if (strcmp(k->name, "combine") == 0) CUDA_OK(cog_cuda_combine(NULL, &terms, y, n));
}

Test(kernels_vector, every_order_of_threads_gives_the_same_bytes) {
    const int64_t n = 20011;
    float *x = some_floats(5, n * MAX_CASE_TERMS);
    for (int k = 0; k < N_CASES; k++) {
        void *first = NULL;
        for (int order = 0; order < N_ORDERS; order++) {
            const device_vector dx = device_vector_of(x, n * MAX_CASE_TERMS, 4, 1);
            const device_vector dy = device_vector_of(x, n, 4, 1);
            set_order(order);
            launch_case(&kernel_cases[k], dx.at, dy.at, n);
            void *got = device_vector_read(dy);
            if (first == NULL) {
                first = got;
                continue;
            }
            cr_assert_eq(memcmp(first, got, dy.bytes), 0, "%s, order %d", kernel_cases[k].name,
                         order);
            free(got);
            device_vector_free(dx), device_vector_free(dy);
        }
        free(first);
    }
    free(x);
}

Test(kernels_vector, bits_are_those_of_the_cpu_device) {
    enum { N = 4099 };
    cog_device *cpu;
    cr_assert_eq(cog_device_open("cpu", &cpu), COG_OK);
    float *x = any_floats(7, N), *y = any_floats(8, N);
    uint16_t *half = malloc(N * sizeof(*half));
    const device_vector dx = device_vector_of(x, N, 4, 0), dy = device_vector_of(y, N, 4, 0);
    const device_vector dhalf = device_vector_make(N, 2, 0);
    CUDA_OK(cog_cuda_axpby(NULL, 0.7f, dx.at, -1.9f, dy.at, N));
    CUDA_OK(cog_cuda_to_bf16(NULL, dx.at, dhalf.at, N));
    cr_assert_eq(cpu->ops->axpby(cpu, 0.7f, x, -1.9f, y, N), COG_OK);
    cr_assert_eq(cpu->ops->to_bf16(cpu, x, half, N), COG_OK);
    float *sum = device_vector_read(dy);
    uint16_t *rounded = device_vector_read(dhalf);
    cr_expect_eq(memcmp(rounded, half, N * sizeof(*half)), 0, "to_bf16");
    for (int i = 0; i < N; i++) cr_expect(same(sum[i], y[i]), "axpby: %a, not %a", sum[i], y[i]);
    CUDA_OK(cog_cuda_from_bf16(NULL, dhalf.at, dy.at, N));
    cr_assert_eq(cpu->ops->from_bf16(cpu, half, y, N), COG_OK);
    float *back = device_vector_read(dy);
    cr_expect_eq(memcmp(back, y, N * sizeof(*y)), 0, "from_bf16");
    device_vector_free(dx), device_vector_free(dy), device_vector_free(dhalf);
    free(x), free(y), free(half), free(sum), free(rounded), free(back);
    cog_device_close(cpu);
}

#ifdef COG_WITH_SIMT
/* 2^20 entries: the requests themselves, without any cache, stay within 5 % of the floor, and
 * 95 % of the bytes of their sectors are asked for. Vectors that are aligned alike, though not to
 * 16 bytes, lose nothing; others cost one sector more a request, and no DRAM traffic. */
static void check_traffic(const kernel_case *k, int x_offset, int y_offset, bool alike) {
    const int64_t n = LARGE;
    float *x = some_floats(6, n * MAX_CASE_TERMS);
    const device_vector dx = device_vector_of(x, n * MAX_CASE_TERMS, 4, x_offset);
    const device_vector dy = device_vector_of(x, n, 4, y_offset);
    simt_counters c;
    simt_reset_counters();
    launch_case(k, dx.at, dy.at, n);
    simt_read_counters(&c);
    const double sectors = 32.0 * (double)(c.load_sectors + c.store_sectors);
    const double unique = 32.0 * (double)(c.load_unique + c.store_unique);
    const double asked = (double)(c.load_bytes + c.store_bytes), entries = (double)n;
    cr_expect_eq(c.launches, 1);
    cr_expect_eq(asked / entries, k->floor, "%s: %g bytes an entry", k->name, asked / entries);
    cr_expect_leq(unique / entries, 1.05 * k->floor, "%s: %g", k->name, unique / entries);
    cr_expect_leq(sectors / entries, (alike ? 1.05 : 1.25) * k->floor, "%s at %d, %d: %g", k->name,
                  x_offset, y_offset, sectors / entries);
    cr_expect_geq(asked / sectors, alike ? 0.95 : 0.80, "%s at %d, %d: %g", k->name, x_offset,
                  y_offset, asked / sectors);
    device_vector_free(dx), device_vector_free(dy);
    free(x);
}

Test(kernels_vector, traffic_stays_within_5_percent_of_the_floor) {
    for (int k = 0; k < N_CASES && kernel_cases[k].n_terms <= 4; k++) {
        check_traffic(&kernel_cases[k], 0, 0, true);
        const char *name = kernel_cases[k].name;
        if (strcmp(name, "axpby") != 0 && strcmp(name, "to_bf16") != 0) continue;
        check_traffic(&kernel_cases[k], strcmp(name, "axpby") == 0 ? 3 : 6, 3, true);
        check_traffic(&kernel_cases[k], 1, 0, false);
    }
}
#endif
