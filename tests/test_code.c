/* test_code.c - exact codes are exact and know when they are not, plans are well formed, and
 * impossible requests are refused in words. */
#include <lapacke.h>
#include <stdbool.h>
#include <time.h>

#include "code.h"
#include "code_check.h"

static answers a;

/* ------------------------------------------------------------------- exact codes */

static const struct {
    const char *spec;
    int n, s;
    double tolerance;
} exact[] = {
    {"uncoded", 5, 0, 0},
    {"uncoded:precision=bf16", 1, 0, 0},
    {"frc:stragglers=0", 4, 0, 0},
    {"frc", 6, 1, 0},
    {"frc:stragglers=2", 12, 2, 0},
    {"frc:stragglers=5", 6, 5, 0},
    {"crc:stragglers=0", 5, 0, 1e-14},
    {"crc", 6, 1, 1e-12},
    {"crc:stragglers=3", 10, 3, 1e-12},
    {"crc:stragglers=3,parity=random", 10, 3, 1e-11},
    {"crc:stragglers=3,parity=random,seed=2", 12, 3, 1e-10},
    {"crc:stragglers=2", 10, 2, 1e-11},
    {"crc:stragglers=4", 9, 4, 1e-12},
    {"crc:stragglers=6", 7, 6, 1e-12},
    {"ye-abbe", 7, 1, 1e-11},
    {"ye-abbe:stragglers=2,blocks=3", 10, 2, 1e-10},
    {"ye-abbe:stragglers=0,blocks=1", 4, 0, 1e-12},
    {"ye-abbe:stragglers=2,blocks=3", 5, 2, 1e-12},
};

Test(code, exact_codes_recover_every_straggler_pattern) {
    for (size_t c = 0; c < COUNT(exact); c++) {
        cog_code *code = make(exact[c].spec, exact[c].n);
        const uint64_t all = (1u << exact[c].n) - 1;
        for (uint64_t mask = 0; mask <= all; mask++) {
            if (exact[c].n - popcount(mask) > exact[c].s) continue;
            cr_assert_eq(decode_mask(code, &a, mask), COG_OK, "%s %lx: %s", exact[c].spec, mask,
                         cog_last_error());
            cr_expect_leq(largest_error(cog_code_plan(code), &a), exact[c].tolerance, "%s %lx",
                          exact[c].spec, mask);
            a.arrivals.n_missing = 0;
            cr_expect(cog_code_ready(code, &a.arrivals), "%s %lx", exact[c].spec, mask);
        }
        cog_code_destroy(code);
    }
}

/* Largest squared distance of a block's target from the span of the rows in `mask`, relative to the
 * target: projection by singular values. */
static double distance_by_svd(const cog_plan *plan, uint64_t mask) {
    const int n = plan->n_messages, k = plan->n_shards * plan->n_blocks;
    static double rows[MAX_N * MAX_PARTS], left[MAX_PARTS * MAX_PARTS];
    double value[MAX_PARTS], spare[MAX_PARTS], worst = 0;
    lapack_int m = 0;
    for (int i = 0; i < n; i++)
        if (mask >> i & 1) dense_row(plan, i, rows + m++ * k);
    if (m == 0) return 1;
    cr_assert_eq(
        LAPACKE_dgesvd(LAPACK_COL_MAJOR, 'A', 'N', k, m, rows, k, value, left, k, NULL, 1, spare),
        0);
    for (int b = 0; b < plan->n_blocks; b++) {
        double outside = 0;
        for (int v = 0; v < k; v++) {
            double dot = 0;
            for (int p = 0; p < k; p++) dot += left[v * k + p] * target(plan, b, p);
            if (v >= m || value[v] < 1e-9 * value[0]) outside += dot * dot;
        }
        worst = fmax(worst, outside / plan->n_shards);
    }
    return worst;
}

/* Fewer than n-s answers may determine the gradient by luck (structured coefficients); then, and
 * only then, it is decoded, and right. */
Test(code, exact_codes_refuse_exactly_what_does_not_determine_the_gradient) {
    for (size_t c = 0; c < COUNT(exact); c++) {
        cog_code *code = make(exact[c].spec, exact[c].n);
        const cog_plan *plan = cog_code_plan(code);
        for (uint64_t mask = 0; mask < 1u << exact[c].n; mask++) {
            if (exact[c].n - popcount(mask) <= exact[c].s) continue;
            const bool determined = distance_by_svd(plan, mask) < 1e-14;
            cr_expect_eq(decode_mask(code, &a, mask), determined ? COG_OK : COG_ERR_UNDECODABLE,
                         "%s %lx: distance %g", exact[c].spec, mask, distance_by_svd(plan, mask));
            if (determined)
                cr_expect_leq(largest_error(plan, &a), 1e-9, "%s %lx", exact[c].spec, mask);
            else
                cr_expect_eq(a.decoding.count, 0);
            cr_expect(cog_code_ready(code, &a.arrivals), "all answered or declined");
            a.arrivals.n_missing = 0;
            if (!determined) cr_expect_not(cog_code_ready(code, &a.arrivals), "%lx", mask);
        }
        cog_code_destroy(code);
    }
}

/* Worker w and w + n/(s+1) hold the same shards: one of each kind is needed, and enough. */
Test(code, fractional_repetition_needs_one_worker_of_every_shard_set) {
    const struct { int n, s; } cases[] = {{6, 1}, {12, 2}, {12, 3}, {8, 0}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        const int n = cases[c].n, copies = cases[c].s + 1, n_sets = n / copies;
        char spec[32];
        snprintf(spec, sizeof(spec), "frc:stragglers=%d", cases[c].s);
        cog_code *code = make(spec, n);
        for (uint64_t mask = 0; mask < 1u << n; mask++) {
            int covered = 0;
            for (int set = 0; set < n_sets; set++) {
                int holders = 0;
                for (int w = set; w < n; w += n_sets) holders += mask >> w & 1;
                covered += holders > 0;
            }
            const cog_status status = decode_mask(code, &a, mask);
            cr_assert_eq(status, covered == n_sets ? COG_OK : COG_ERR_UNDECODABLE, "%d %lx", n,
                         mask);
            a.arrivals.n_missing = 0;
            cr_expect_eq(cog_code_ready(code, &a.arrivals), covered == n_sets, "%lx", mask);
            if (status != COG_OK) continue;
            cr_expect_eq(largest_error(cog_code_plan(code), &a), 0, "%d %lx", n, mask);
            cr_expect_eq(a.decoding.count, n_sets);
            for (int i = 0; i < n_sets; i++) cr_expect_eq(a.terms[i].weight, 1);
        }
        cog_code_destroy(code);
    }
}

Test(code, exact_codes_do_not_mix_rounds) {
    const char *specs[] = {"uncoded", "frc:stragglers=0", "crc", "ye-abbe:stragglers=1,blocks=1"};
    for (size_t c = 0; c < COUNT(specs); c++) {
        cog_code *code = make(specs[c], 6);
        int32_t age[6] = {0, 3, 0, 0, 2, 0};
        answer(&a, 6, 0x3f)->age = age;
        cr_expect_eq(cog_code_decode(code, &a.arrivals, &a.decoding), COG_ERR_UNDECODABLE, "%s",
                     specs[c]);
        cr_expect_eq(code->late, COG_LATE_DROP, "%s", specs[c]);
        cog_code_destroy(code);
    }
}

/* ------------------------------------------------------------------------- plans */

static const struct {
    const char *spec;
    int n, n_shards, n_blocks, weight;
} plans[] = {
    {"uncoded", 5, 5, 1, 1},
    {"ignore:wait=3", 5, 5, 1, 1},
    {"kasync:k=2", 5, 5, 1, 1},
    {"replication:blocks=4,shards=2", 24, 2, 4, 1},
    {"frc:stragglers=3", 12, 12, 1, 4},
    {"crc:stragglers=3", 11, 11, 1, 4},
    {"ye-abbe:stragglers=1,blocks=3", 9, 9, 3, 12},
    {"acgc", 12, 6, 2, 10},
    {"acgc:structure=bibd,blocks=3", 21, 21, 3, 15},
    {"acgc:structure=srg,construction=stacked", 16, 16, 2, 12},
    {"acgc:construction=2,structure=biregular", 40, 20, 2, 6},
    {"stochastic:copies=6", 6, 6, 1, 6},
    {"lwpd:weight=4", 24, 3, 4, 4},
    {"lwpd:family=kron,weight=8", 64, 4, 8, 8},
    {"lwpd:family=net,weight=4,slopes=3", 60, 5, 4, 4},
};

Test(code, plans_are_well_formed) {
    for (size_t c = 0; c < COUNT(plans); c++) {
        cog_code *code = make(plans[c].spec, plans[c].n);
        const cog_plan *plan = cog_code_plan(code);
        cr_expect_eq(plan->n_workers, plans[c].n);
        cr_expect_eq(plan->n_messages, plans[c].n);
        cr_expect_eq(plan->n_shards, plans[c].n_shards, "%s", plans[c].spec);
        cr_expect_eq(plan->n_blocks, plans[c].n_blocks, "%s", plans[c].spec);
        cr_expect_eq(plan->row[0], 0);
        for (int m = 0; m < plan->n_messages; m++) {
            cr_expect_eq(plan->owner[m], m);
            cr_expect_eq(plan->first[m], m);
            cr_expect_eq(plan->first[m + 1], m + 1);
            cr_expect_eq(plan->row[m + 1] - plan->row[m], plans[c].weight, "%s", plans[c].spec);
            bool seen[256] = {false};
            for (int t = plan->row[m]; t < plan->row[m + 1]; t++) {
                cr_assert(plan->part[t] >= 0 && plan->part[t] < plan->n_shards * plan->n_blocks);
                cr_expect(!seen[plan->part[t]], "%s names a part twice", plans[c].spec);
                cr_expect(plan->coef[t] != 0 && isfinite(plan->coef[t]));
                seen[plan->part[t]] = true;
            }
        }
        char name[16] = "";
        sscanf(plans[c].spec, "%15[^:]", name);
        cr_expect_str_eq(cog_code_name(code), name);
        cog_code_destroy(code);
    }
}

Test(code, uncoded_is_an_all_reduce_and_knows_its_wire) {
    cog_code *fp32 = make("uncoded", 4), *bf16 = make("uncoded:precision=bf16", 4);
    cog_code *star = make("frc", 4);
    cr_expect(!fp32->bf16 && bf16->bf16);
    cr_expect(fp32->ops->role == COG_ROLE_ALLREDUCE && star->ops->role == COG_ROLE_STAR);
    cog_code_destroy(fp32);
    cog_code_destroy(bf16);
    cog_code_destroy(star);
}

/* Building and a round of decoding for 10,000 workers; quadratic work would take 100 times 10,000
 * steps more than the second allowed here. */
Test(code, ten_thousand_workers_are_no_trouble) {
    enum { N = 10000 };
    const char *specs[] = {"kasync:k=10",
                           "ignore:wait=9000",
                           "lwpd:weight=2,wait=100",
                           "lwpd:family=net,weight=4",
                           "frc:stragglers=3",
                           "stochastic:copies=4",
                           "replication"};
    static uint8_t arrived[N];
    static cog_decode_term terms[N * 4];
    for (int w = 0; w < N; w++) arrived[w] = 1;
    for (size_t c = 0; c < COUNT(specs); c++) {
        const clock_t begin = clock();
        cog_code *code = make(specs[c], N);
        const cog_arrivals arrivals = {.n_messages = N, .n_arrived = N, .arrived = arrived};
        cog_decoding decoding = {.terms = terms, .capacity = N * 4};
        for (int round = 0; round < 10; round++)
            cr_expect_eq(cog_code_decode(code, &arrivals, &decoding), COG_OK);
        cr_expect_leq(decoding.count, cog_code_max_terms(code));
        const double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        cr_expect_lt(seconds, 1, "%s: %g s", specs[c], seconds);
        cog_code_destroy(code);
    }
}

/* ---------------------------------------------------------------------- refusals */

static const struct {
    const char *spec;
    int n;
    cog_status status;
    const char *says; /* part of the sentence */
} refused[] = {
    {"", 4, COG_ERR_SPEC, "empty"},
    {"hamming", 4, COG_ERR_SPEC, "no code is named 'hamming'"},
    {"uncoded", 0, COG_ERR_ARGUMENT, "not 0"},
    {"uncoded", -3, COG_ERR_ARGUMENT, "not -3"},
    {"uncoded:precision=fp8", 4, COG_ERR_SPEC, "fp32|bf16"},
    {"uncoded:wait=3", 4, COG_ERR_SPEC, "no key 'wait'"},
    {"ignore:wait=0", 4, COG_ERR_SPEC, "outside 1..4"},
    {"ignore:wait=5", 4, COG_ERR_SPEC, "outside 1..4"},
    {"kasync:k=-1", 4, COG_ERR_SPEC, "outside 1..4"},
    {"kasync:k=two", 4, COG_ERR_SPEC, "whole number"},
    {"kasync:wait=2", 4, COG_ERR_SPEC, "it has k"},
    {"frc:stragglers=3", 6, COG_ERR_ARGUMENT, "stragglers + 1 = 4 must divide 6 workers"},
    {"frc:stragglers=6", 6, COG_ERR_SPEC, "outside 0..5"},
    {"frc:straglers=1", 6, COG_ERR_SPEC, "no key 'straglers'; it has stragglers"},
    {"frc:3", 6, COG_ERR_SPEC, "expected key=value at '3'"},
    {"crc:stragglers=-1", 6, COG_ERR_SPEC, "outside 0..5"},
    {"crc:stragglers=1.5", 6, COG_ERR_SPEC, "whole number"},
    {"crc:attempts=0", 6, COG_ERR_SPEC, "outside 1.."},
    {"crc:parity=fourier", 5, COG_ERR_ARGUMENT, "not 5 - 1"},
    {"crc:parity=even", 5, COG_ERR_SPEC, "auto|fourier|random"},
    {"ye-abbe:stragglers=3,blocks=4", 6, COG_ERR_ARGUMENT, "3 + 4 shards a worker"},
    {"ye-abbe:blocks=0", 6, COG_ERR_SPEC, "outside 1..6"},
    {"acgc", 7, COG_ERR_ARGUMENT, "blocks = 2 to divide 7 workers"},
    {"acgc:degree=5", 8, COG_ERR_ARGUMENT, "degree = 5 exceeds the 4 shards of 8 workers"},
    {"acgc:shards=3", 8, COG_ERR_ARGUMENT, "has 4 shards, not 3"},
    {"acgc:structure=bibd,degree=4", 7, COG_ERR_ARGUMENT,
     "for 7 workers has degree 3 (7 shards), 6 (21 shards), not 4"},
    {"acgc:structure=bibd", 2, COG_ERR_ARGUMENT, "no structure=bibd is known for 2 workers"},
    {"acgc:structure=bibd,shards=8", 7, COG_ERR_ARGUMENT, "6 (21 shards), not 8 shards"},
    {"acgc:structure=srg", 7, COG_ERR_ARGUMENT, "no structure=srg is known for 7 workers"},
    {"acgc:structure=srg,degree=4", 10, COG_ERR_ARGUMENT,
     "for 10 workers has degree 6 (10 shards), 3 (10"},
    {"acgc:structure=biregular,shards=7", 10, COG_ERR_ARGUMENT, "workers x degree = 10 x 3 = 30"},
    {"acgc:structure=bibd,construction=2", 7, COG_ERR_ARGUMENT,
     "2 x 7 = 14 workers or more, not 7"},
    {"acgc:construction=3", 8, COG_ERR_SPEC, "1|2|stacked"},
    {"acgc:eps=1", 8, COG_ERR_SPEC, "outside 0..0.99"},
    {"acgc:structure=ring", 8, COG_ERR_SPEC, "coset|bibd|srg|biregular"},
    {"acgc:blocks=0", 8, COG_ERR_SPEC, "outside 1..8"},
    {"acgc:straggle=1", 8, COG_ERR_SPEC, "outside 0..0.99"},
    {"stochastic:allocation=balanced", 10, COG_ERR_ARGUMENT, "10 workers; the next is of 12"},
    {"stochastic:allocation=balanced,copies=3", 8, COG_ERR_ARGUMENT,
     "on 4 of 8 workers, not 7 on 3"},
    {"stochastic:allocation=balanced,shards=9", 8, COG_ERR_ARGUMENT, "1..8 shards"},
    {"stochastic:allocation=round-robin", 8, COG_ERR_SPEC, "random|balanced"},
    {"stochastic:copies=9", 8, COG_ERR_SPEC, "outside 1..8"},
    {"stochastic:straggle=1", 8, COG_ERR_SPEC, "outside 0..0.99"},
    {"replication:blocks=3,shards=2", 8, COG_ERR_ARGUMENT, "3 x 2 = 6 tasks must divide 8"},
    {"replication:shards=0", 8, COG_ERR_SPEC, "outside 1..8"},
    {"replication:decoder=median", 8, COG_ERR_SPEC, "average|sum"},
    {"lwpd", 4, COG_ERR_ARGUMENT, "there are 4"},
    {"lwpd:weight=4", 8, COG_ERR_ARGUMENT, "weight = 4 exceeds a quarter of 8 workers"},
    {"lwpd:weight=3", 24, COG_ERR_ARGUMENT, "weight = 3 is not a power of two"},
    {"lwpd:weight=1", 8, COG_ERR_SPEC, "outside 2.."},
    {"lwpd:weight=-2", 8, COG_ERR_SPEC, "outside 2.."},
    {"lwpd", 10, COG_ERR_ARGUMENT, "2 x weight = 4 must divide 10 workers"},
    {"lwpd:family=kron", 12, COG_ERR_ARGUMENT, "power of two of workers, not 12"},
    {"lwpd:family=star", 8, COG_ERR_SPEC, "ring|kron|net"},
    {"lwpd:decoder=magic", 8, COG_ERR_SPEC, "transpose|least-squares|memory"},
    {"lwpd:slopes=3", 24, COG_ERR_ARGUMENT, "slopes = 3 is for family=net"},
    {"lwpd:family=net,weight=4", 16, COG_ERR_ARGUMENT, "= 2 shards"},
    {"lwpd:family=net", 10, COG_ERR_ARGUMENT, "2 x 2 = 4 must divide 10 workers"},
    {"lwpd:family=net,slopes=3", 24, COG_ERR_ARGUMENT, "prime"},
    {"lwpd:family=net,slopes=5", 30, COG_ERR_ARGUMENT, "= 3 shards"},
    {"lwpd:wait=9", 8, COG_ERR_SPEC, "outside 1..8"},
    {"lwpd:weight=99999999999999999999", 8, COG_ERR_SPEC, "whole number"},
};

Test(code, impossible_requests_are_refused_in_words_with_numbers) {
    for (size_t c = 0; c < COUNT(refused); c++) {
        cog_code *code = NULL;
        const cog_status status = cog_code_create(refused[c].spec, refused[c].n, &code);
        cr_expect_eq(status, refused[c].status, "'%s' for %d: %s", refused[c].spec, refused[c].n,
                     cog_status_string(status));
        cr_expect_null(code);
        cr_expect_not_null(strstr(cog_last_error(), refused[c].says), "'%s' for %d says: %s",
                           refused[c].spec, refused[c].n, cog_last_error());
        cr_expect_null(strchr(cog_last_error(), '\n'));
    }
    cog_code_destroy(NULL);
}

Test(code, decoding_checks_the_room_and_the_shape) {
    cog_code *code = make("lwpd", 8);
    cr_expect_eq(cog_code_max_terms(code), 16);
    answer(&a, 8, 0xff);
    a.decoding.capacity = 15;
    cr_expect_eq(cog_code_decode(code, &a.arrivals, &a.decoding), COG_ERR_ARGUMENT);
    cr_expect_not_null(strstr(cog_last_error(), "room for 16 terms"));
    a.decoding.capacity = 16;
    cr_expect_eq(cog_code_decode(code, &a.arrivals, &a.decoding), COG_OK);
    a.arrivals.n_messages = 7;
    cr_expect_eq(cog_code_decode(code, &a.arrivals, &a.decoding), COG_ERR_ARGUMENT);
    cog_code_destroy(code);
}
