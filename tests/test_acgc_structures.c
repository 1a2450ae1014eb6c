/* test_acgc_structures.c - assignments are the designs and graphs that they are named after. */
#include "code_check.h"
#include "codes/acgc.h"
#include "codes/field.h"

enum { LARGEST = 200 };

static void assign(cog_structure structure, int n, int degree, cog_assignment *out) {
    *out = (cog_assignment){.structure = structure, .n_workers = n, .degree = degree};
    cr_assert_eq(cog_assign(out, 2, 1), COG_OK, "%d workers: %s", n, cog_last_error());
}

static int shared(const cog_assignment *a, int x, int y) {
    int count = 0;
    for (int i = 0; i < a->degree; i++)
        for (int j = 0; j < a->degree; j++)
            count += a->shard[x * a->degree + i] == a->shard[y * a->degree + j];
    return count;
}

static bool holds(const cog_assignment *a, int x, int shard) {
    for (int i = 0; i < a->degree; i++)
        if (a->shard[x * a->degree + i] == shard) return true;
    return false;
}

/* delta different shards a worker, in order; n delta / k holders a shard. */
static void expect_regular(const cog_assignment *a) {
    int holders[LARGEST * LARGEST] = {0};
    for (int x = 0; x < a->n_workers; x++)
        for (int i = 0; i < a->degree; i++) {
            const int shard = a->shard[x * a->degree + i];
            cr_assert(shard >= 0 && shard < a->n_shards, "shard %d of %d", shard, a->n_shards);
            cr_expect(i == 0 || shard > a->shard[x * a->degree + i - 1], "in order, each once");
            holders[shard]++;
        }
    for (int k = 0; k < a->n_shards; k++)
        cr_expect_eq(holders[k] * a->n_shards, a->n_workers * a->degree,
                     "%d workers: shard %d has %d holders", a->n_workers, k, holders[k]);
}

/* Parameters (v, k, lambda) from the tables of designs; `shards` is v but for pairs. */
Test(structures, any_two_workers_of_a_design_share_lambda_shards) {
    const struct {
        int n, degree, shards, lambda;
    } designs[] = {{7, 3, 7, 1},     {13, 4, 13, 1},     {21, 5, 21, 1},    {31, 6, 31, 1},
                   {57, 8, 57, 1},   {73, 9, 73, 1},     {91, 10, 91, 1},   {133, 12, 133, 1},
                   {15, 7, 15, 3},   {31, 15, 31, 7},    {40, 13, 40, 4},   {85, 21, 85, 5},
                   {63, 31, 63, 15}, {121, 40, 121, 13}, {156, 31, 156, 6}, {11, 5, 11, 2},
                   {19, 9, 19, 4},   {23, 11, 23, 5},    {43, 21, 43, 10},  {3, 2, 3, 1},
                   {8, 7, 28, 1},    {7, 6, 21, 1},      {30, 29, 435, 1}};
    for (size_t c = 0; c < COUNT(designs); c++) {
        cog_assignment a;
        const int n = designs[c].n;
        assign(COG_BIBD, n, designs[c].degree, &a);
        cr_expect_eq(a.n_shards, designs[c].shards, "%d workers", n);
        cr_expect_eq(a.lambda, designs[c].lambda, "%d workers: %d", n, a.lambda);
        expect_regular(&a);
        for (int x = 0; x < n; x++)
            for (int y = 0; y < x; y++)
                cr_expect_eq(shared(&a, x, y), a.lambda, "%d workers: %d and %d share %d", n, x, y,
                             shared(&a, x, y));
        free(a.shard);
    }
}

/* Parameters (v, k, lambda, mu) from the tables of strongly regular graphs: rook, Paley of
 * primes and of 25, 49 and 81, triangular, Kneser (Petersen is the one of 10), and complete
 * multipartite graphs. */
Test(structures, neighbours_share_lambda_and_others_mu_shards) {
    const struct {
        int n, degree, lambda, mu;
    } graphs[] = {{4, 2, 0, 2},  {16, 6, 2, 2},  {25, 8, 3, 2},    {36, 10, 4, 2},
                  {5, 2, 0, 1},  {13, 6, 2, 3},  {17, 8, 3, 4},    {29, 14, 6, 7},
                  {9, 4, 1, 2},  {25, 12, 5, 6}, {49, 24, 11, 12}, {81, 40, 19, 20},
                  {6, 4, 2, 4},  {10, 6, 3, 4},  {10, 3, 0, 1},    {15, 8, 4, 4},
                  {15, 6, 1, 3}, {21, 10, 5, 4}, {8, 4, 0, 4},     {8, 6, 4, 6},
                  {12, 9, 6, 9}};
    for (size_t c = 0; c < COUNT(graphs); c++) {
        cog_assignment a;
        const int n = graphs[c].n;
        assign(COG_SRG, n, graphs[c].degree, &a);
        cr_expect(a.lambda == graphs[c].lambda && a.mu == graphs[c].mu, "%d workers: %d, %d", n,
                  a.lambda, a.mu);
        expect_regular(&a);
        for (int x = 0; x < n; x++) {
            cr_expect_not(holds(&a, x, x), "no loops");
            for (int y = 0; y < x; y++) {
                cr_expect_eq(holds(&a, x, y), holds(&a, y, x), "no directions");
                cr_expect_eq(shared(&a, x, y), holds(&a, x, y) ? a.lambda : a.mu,
                             "%d workers: %d and %d share %d", n, x, y, shared(&a, x, y));
            }
        }
        free(a.shard);
    }
}

Test(structures, coset_and_bi_regular_assignments_are_regular) {
    const struct {
        int n, degree, shards;
        cog_structure structure;
    } cases[] = {{54, 5, 27, COG_COSET},      {8, 3, 4, COG_COSET},       {2, 1, 1, COG_COSET},
                 {40, 3, 20, COG_BIREGULAR},  {30, 7, 15, COG_BIREGULAR}, {12, 6, 6, COG_BIREGULAR},
                 {200, 3, 100, COG_BIREGULAR}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        cog_assignment a;
        assign(cases[c].structure, cases[c].n, cases[c].degree, &a);
        cr_expect_eq(a.n_shards, cases[c].shards);
        expect_regular(&a);
        free(a.shard);
    }
}

/* The start has runs of three: neighbouring workers share none, workers n/3 apart all or two. */
Test(structures, bi_regular_assignments_are_random_and_repeat) {
    cog_assignment a = {.structure = COG_BIREGULAR, .n_workers = 40, .degree = 3}, b = a, c = a;
    cr_assert_eq(cog_assign(&a, 2, 1), COG_OK);
    cr_assert_eq(cog_assign(&b, 2, 1), COG_OK);
    cr_assert_eq(cog_assign(&c, 2, 2), COG_OK);
    cr_expect_eq(memcmp(a.shard, b.shard, sizeof(int32_t) * 120), 0);
    cr_expect_neq(memcmp(a.shard, c.shard, sizeof(int32_t) * 120), 0);
    int runs = 0;
    for (int x = 0; x < 40; x++) runs += a.shard[3 * x + 2] - a.shard[3 * x] == 2;
    cr_expect_leq(runs, 8, "%d of 40 workers still hold three neighbours", runs);
    free(a.shard);
    free(b.shard);
    free(c.shard);
}

Test(structures, powers_of_a_primitive_element_are_all_elements_once) {
    const int fields[][2] = {{2, 1}, {2, 12}, {3, 6}, {5, 3}, {7, 2}, {97, 1}, {2, 16}};
    for (size_t c = 0; c < COUNT(fields); c++) {
        cog_field f;
        cr_assert_eq(cog_field_open(fields[c][0], fields[c][1], &f), COG_OK);
        cr_expect_eq(f.size, (int)round(pow(fields[c][0], fields[c][1])));
        uint8_t *seen = calloc((size_t)f.size, 1);
        for (int i = 0; i < f.size - 1; i++) {
            cr_assert(f.power[i] > 0 && f.power[i] < f.size && !seen[f.power[i]]);
            seen[f.power[i]] = 1;
        }
        /* Frobenius: (x + 1)^p = x^p + 1, which pins multiplication and addition to each other */
        if (fields[c][1] > 1) {
            int log_of_next = 0;
            while (f.power[log_of_next] != cog_field_add(&f, f.power[1], 1)) log_of_next++;
            const int64_t left = (int64_t)log_of_next * f.p % (f.size - 1);
            cr_expect_eq(f.power[left], cog_field_add(&f, f.power[f.p % (f.size - 1)], 1));
        }
        cog_field_close(&f);
        free(seen);
    }
    cog_field f;
    cr_expect_eq(cog_field_open(2, 17, &f), COG_ERR_ARGUMENT);
    cr_expect_eq(cog_field_open(6, 1, &f), COG_ERR_ARGUMENT, "6 is no prime");
}
