/* test_code_analysis.c - the analysis of codes against theory and brute force. */
#include "code_check.h"
#include "code_matrix.h"

static answers a;

static cog_code_analysis *analyze(const cog_code *code) {
    cog_code_analysis *out = NULL;
    cr_assert_eq(cog_code_analyze(code, &out), COG_OK, "%s", cog_last_error());
    return out;
}

static cog_code_analysis *analyze_spec(const char *spec, int n) {
    cog_code *code = make(spec, n);
    cog_code_analysis *out = analyze(code);
    cog_code_destroy(code);
    return out;
}

/* Ranks: replication and identity by counting; cyclic repetition has rank n-s (its rows are the
 * null space of H), fractional repetition one row a shard set, Ye-Abbe n-s. Coherence of lwpd as
 * in its definition; copies have 1, disjoint rows 0. Welch sqrt((n-k)/(k(n-1))) when n > k. */
Test(analysis, facts_of_known_matrices) {
    const struct {
        const char *spec;
        int n, tasks, weight, load, rank;
        bool tight;
        double share, coherence, welch, flat;
    } cases[] = {
        {"lwpd", 8, 4, 2, 2, 4, true, 0.5, 0.5, 0.37796447, 0.5},
        {"lwpd:weight=4", 16, 8, 4, 2, 8, true, 0.25, 0.5, 0.25819889, 0.5},
        {"lwpd:weight=4,family=net", 32, 16, 4, 4, 16, true, 0.25, 0.25, 0.17960530, 0.25},
        {"lwpd:weight=8,family=kron", 32, 16, 8, 2, 16, true, 0.125, 0.5, 0.17960530, 0.25},
        {"lwpd:weight=4,family=net,slopes=3", 60, 20, 4, 4, 20, true, 0.25, 0.25, 0.18411492, 0.25},
        {"replication", 8, 4, 1, 1, 4, true, 0.5, 1, 0.37796447, 1},
        {"uncoded", 6, 6, 1, 1, 6, true, 1, 0, 0, NAN},
        {"kasync:k=2", 6, 6, 1, 1, 6, true, 1, 0, 0, NAN},
        {"frc:stragglers=2", 12, 12, 3, 3, 4, false, 1, 1, 0, NAN},
        {"crc:stragglers=0", 5, 5, 1, 1, 5, true, 1, 0, 0, NAN},
        {"ye-abbe:stragglers=2,blocks=3", 10, 30, 15, 5, 8, false, 1.0 / 3, NAN, 0, NAN},
        {"crc:stragglers=2,parity=random", 9, 9, 3, 3, 7, false, 1, NAN, 0, NAN},
        {"acgc", 8, 8, 6, 3, 8, false, 0.5, NAN, 0, NAN},
        {"acgc:structure=bibd,eps=0", 7, 14, 6, 3, 7, false, 0.5, NAN, 0, NAN},
        {"acgc:construction=stacked", 8, 8, 6, 3, 4, false, 0.5, 1, 0, NAN},
    };
    for (size_t c = 0; c < COUNT(cases); c++) {
        cog_code_analysis *f = analyze_spec(cases[c].spec, cases[c].n);
        const char *spec = cases[c].spec;
        cr_expect_eq(f->n_workers, cases[c].n);
        cr_expect_eq(f->n_tasks, cases[c].tasks, "%s", spec);
        cr_expect_eq(f->n_shards * f->n_blocks, cases[c].tasks, "%s", spec);
        cr_expect_eq(f->weight, cases[c].weight, "%s", spec);
        cr_expect_eq(f->load, cases[c].load, "%s: %d", spec, f->load);
        cr_expect_eq(f->rank, cases[c].rank, "%s: %d", spec, f->rank);
        cr_expect_eq(f->tight, cases[c].tight, "%s", spec);
        cr_expect_float_eq(f->message_share, cases[c].share, 1e-15, "%s", spec);
        cr_expect_float_eq(f->welch, cases[c].welch, 1e-8, "%s: %.9g", spec, f->welch);
        if (!isnan(cases[c].coherence)) {
            cr_expect_float_eq(f->coherence, cases[c].coherence, 1e-12, "%s", spec);
            cr_expect_float_eq(f->chordal, sqrt(1 - f->coherence * f->coherence), 1e-12);
        } else
            cr_expect(f->coherence > 0.01 && f->coherence < 1, "%s: %g", spec, f->coherence);
        cr_expect(isnan(cases[c].flat) ? isnan(f->flat_bound)
                                       : fabs(f->flat_bound - cases[c].flat) < 1e-12,
                  "%s: %g", spec, f->flat_bound);
        cog_code_analysis_destroy(f);
    }
}

/* Two equal rows: the columns have the length of a tight code's, but are not orthogonal. */
Test(analysis, facts_of_a_matrix_with_two_equal_rows) {
    const int32_t owner[] = {0, 1, 2}, first[] = {0, 1, 2, 3}, row[] = {0, 2, 4, 5};
    const int32_t part[] = {0, 1, 0, 1, 2};
    const double half = sqrt(0.5), coef[] = {half, half, half, half, 1};
    const cog_plan plan = {.n_workers = 3,
                           .n_messages = 3,
                           .n_shards = 3,
                           .n_blocks = 1,
                           .owner = owner,
                           .first = first,
                           .row = row,
                           .part = part,
                           .coef = coef};
    cog_code_analysis f = {0};
    cr_assert_eq(cog_code_matrix_facts(&plan, &f), COG_OK);
    cr_expect_not(f.tight);
    cr_expect_eq(f.rank, 2);
    cr_expect_float_eq(f.coherence, 1, 1e-12);
    cr_expect(isnan(f.flat_bound), "rows differ");
    cr_expect_eq(f.weight, 2);
    cr_expect_eq(f.load, 2);
}

/* No code beats the bounds; unions of two orthonormal bases stay above 1/sqrt(k) as well. */
Test(analysis, coherence_obeys_its_bounds) {
    const struct {
        const char *spec;
        int n;
        bool two_bases;
    } cases[] = {{"lwpd", 8, true},
                 {"lwpd:weight=4", 24, true},
                 {"lwpd:weight=4,family=net", 40, true},
                 {"lwpd:weight=2,family=net,slopes=5", 50, false},
                 {"replication:blocks=2,shards=2", 12, false}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        cog_code_analysis *f = analyze_spec(cases[c].spec, cases[c].n);
        cr_expect_geq(f->coherence, f->welch - 1e-12, "%s", cases[c].spec);
        cr_expect_geq(f->coherence, f->flat_bound - 1e-12, "%s", cases[c].spec);
        cr_expect_geq(f->flat_bound, f->welch - 1e-12, "%s", cases[c].spec);
        if (cases[c].two_bases)
            cr_expect_geq(f->coherence, 1 / sqrt(f->n_tasks) - 1e-12, "%s", cases[c].spec);
        cog_code_analysis_destroy(f);
    }
}

/* Two values of jointly Gaussian gradients with correlation r share -log(1 - r^2)/2 nats: half the
 * log of the determinant ratio of the published matrix's closest rows, 0 and 4 (r = 1/2). */
Test(analysis, chordal_distance_is_the_information_two_messages_share) {
    cog_code_analysis *f = analyze_spec("lwpd", 8);
    const double determinant = 1 * 1 - 0.5 * 0.5; /* of the covariance [[1, 1/2], [1/2, 1]] */
    cr_expect_float_eq(-log(f->chordal), -0.5 * log(determinant), 1e-12);
    cog_code_analysis_destroy(f);
}

/* The table of the authors' slides: a projective derivative code moves k/t gradients for k
 * messages, K-async k, gradient coding one for every answer; k tasks need k answers of tight codes.
 */
Test(analysis, communication_per_round) {
    const struct {
        const char *spec;
        int n;
        double expected;
    } cases[] = {{"lwpd:wait=4", 8, 4.0 / 2},
                 {"lwpd:weight=4,wait=12", 24, 12.0 / 4},
                 {"lwpd:weight=8,wait=32,family=kron", 64, 32.0 / 8},
                 {"kasync:k=5", 8, 5},
                 {"crc:stragglers=3", 8, 5},
                 {"frc:stragglers=3", 8, 5},
                 {"ye-abbe:stragglers=2,blocks=3", 8, 2},
                 {"uncoded", 8, 8}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        cog_code_analysis *f = analyze_spec(cases[c].spec, cases[c].n);
        cr_expect_float_eq(f->communication, cases[c].expected, 1e-12, "%s: %g", cases[c].spec,
                           f->communication);
        cog_code_analysis_destroy(f);
    }
}

/* ------------------------------------------------------------------- stragglers */

/* Counts of recoverable sets by exact integer algebra; for
 * fractional repetition 3 sets of 2 workers: 2^3 of the 20 sets of three and so on. */
Test(analysis, recoverable_shares_are_the_counted_ones) {
    const struct {
        const char *spec;
        int n;
        int count[9]; /* sets of `index` answers that determine the gradient */
    } cases[] = {
        {"lwpd", 8, {0, 0, 0, 8, 60, 56, 28, 8, 1}},
        {"lwpd:decoder=least-squares", 8, {0, 0, 0, 8, 60, 56, 28, 8, 1}},
        {"lwpd:family=net", 8, {0, 0, 0, 8, 60, 56, 28, 8, 1}},
        {"replication", 8, {0, 0, 0, 0, 16, 32, 24, 8, 1}},
        {"frc", 6, {0, 0, 0, 8, 12, 6, 1}},
        {"crc:parity=random,stragglers=2", 6, {0, 0, 0, 0, 15, 6, 1}},
        {"kasync", 4, {0, 0, 0, 0, 1}},
    };
    for (size_t c = 0; c < COUNT(cases); c++) {
        const int n = cases[c].n;
        cog_code_analysis *f = analyze_spec(cases[c].spec, n);
        cr_assert_eq(f->n_rows, n);
        for (int s = 0; s < n; s++) {
            const cog_straggler_facts *row = &f->stragglers[s];
            const double share = cases[c].count[n - s] / binomial(n, s);
            cr_expect_eq(row->s, s);
            cr_expect(row->complete && row->n_sets == (int64_t)binomial(n, s));
            cr_expect_float_eq(row->recoverable_share, share, 1e-12, "%s s=%d: %g, counted %g",
                               cases[c].spec, s, row->recoverable_share, share);
        }
        cog_code_analysis_destroy(f);
    }
}

Test(analysis, errors_are_those_of_every_set) {
    const struct {
        const char *spec;
        int n;
    } cases[] = {{"lwpd", 8},
                 {"lwpd:decoder=least-squares", 8},
                 {"replication", 8},
                 {"ignore", 6},
                 {"stochastic:straggle=0.5", 8},
                 {"acgc:construction=2", 8},
                 {"frc", 6},
                 {"ye-abbe", 6},
                 {"uncoded", 4},
                 {"lwpd:family=net", 12}};
    for (size_t c = 0; c < COUNT(cases); c++) {
        const int n = cases[c].n;
        cog_code *code = make(cases[c].spec, n);
        cog_code_analysis *f = analyze(code);
        for (int s = 0; s < n; s++) {
            double mean = 0, worst = 0, refused = 0;
            for (uint64_t mask = 0; mask < 1u << n; mask++) {
                if (popcount(mask) != n - s) continue;
                const bool decoded = decode_mask(code, &a, mask) == COG_OK;
                const double error = decoded ? squared_error(cog_code_plan(code), &a) : 1;
                mean += error / binomial(n, s);
                refused += !decoded / binomial(n, s);
                worst = fmax(worst, error);
            }
            const cog_straggler_facts *row = &f->stragglers[s];
            cr_expect_float_eq(row->error_mean, mean, 1e-12, "%s s=%d", cases[c].spec, s);
            cr_expect_float_eq(row->error_worst, worst, 1e-12, "%s s=%d", cases[c].spec, s);
            cr_expect_float_eq(row->refused_share, refused, 1e-12, "%s s=%d", cases[c].spec, s);
            if (!isnan(row->bound))
                cr_expect_leq(row->error_mean, row->bound + 1e-12, "%s s=%d: %g above %g",
                              cases[c].spec, s, row->error_mean, row->bound);
        }
        cog_code_analysis_destroy(f);
        cog_code_destroy(code);
    }
}

Test(analysis, golden_errors_of_the_published_code) {
    cog_code_analysis *f = analyze_spec("lwpd", 8);
    const struct {
        int answers;
        double error;
    } golden[] = {{1, 3}, {2, 1.2857}, {4, .4286}, {7, .0612}, {8, 0}};
    for (size_t c = 0; c < COUNT(golden); c++) {
        const cog_straggler_facts *row = &f->stragglers[8 - golden[c].answers];
        cr_expect_float_eq(row->error_mean, golden[c].error, 5e-5, "K=%d: %g", golden[c].answers,
                           row->error_mean);
        cr_expect_float_eq(row->bound, golden[c].error, 5e-5, "K=%d: %g", golden[c].answers,
                           row->bound);
    }
    cog_code_analysis_destroy(f);
}

/* 1000 random sets of 24 workers: within a few percent of the closed form, never all of them. */
Test(analysis, large_codes_are_sampled) {
    cog_code_analysis *f = analyze_spec("lwpd:weight=4,wait=19", 24);
    bool waited = false;
    for (int i = 0; i < f->n_rows; i++) {
        const cog_straggler_facts *row = &f->stragglers[i];
        waited = waited || row->s == 24 - 19;
        cr_expect(i == 0 || row->s > f->stragglers[i - 1].s);
        cr_expect_eq(row->complete, binomial(24, row->s) <= 1000, "s=%d", row->s);
        cr_expect_eq(row->n_sets, (int64_t)fmin(1000, binomial(24, row->s)), "s=%d", row->s);
        cr_expect_float_eq(row->error_mean, row->bound, 0.05 * row->bound + 1e-12,
                           "s=%d: %g, law %g", row->s, row->error_mean, row->bound);
        cr_expect(row->recoverable_share >= 0 && row->recoverable_share <= 1);
    }
    cr_expect(waited, "the number of stragglers that the code is meant for is in the table");
    cr_expect_eq(f->stragglers[0].recoverable_share, 1);
    cog_code_analysis_destroy(f);
}

/* What cannot be computed at this size says so instead of taking hours. */
Test(analysis, hundreds_of_workers_are_analysed) {
    cog_code_analysis *f = analyze_spec("lwpd:wait=450", 500);
    cr_expect_eq(f->rank, 250, "tight, so of full rank");
    cr_expect_float_eq(f->coherence, 0.5, 1e-12);
    cr_expect_float_eq(f->amplification, 250.0 / 450, 1e-12);
    cr_expect(isnan(f->stragglers[1].recoverable_share));
    cr_expect_float_eq(f->stragglers[1].error_mean, f->stragglers[1].bound, 1e-9);
    cog_code_analysis_destroy(f);

    f = analyze_spec("frc:stragglers=3", 1200);
    cr_expect_eq(f->rank, -1);
    cr_expect_eq(f->coherence, 1);
    cog_code_analysis_destroy(f);
    cog_code_analysis_destroy(NULL);
}
