/* test_powersgd.c - low rank against the singular value decomposition of LAPACK. */
#include <lapacke.h>
#include <stdio.h>

#include "quantizer_harness.h"

enum { ROWS = 48, COLUMNS = 37 };

static double energy(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

/* The energy beyond the first `rank` singular values: no matrix of that rank is nearer. */
static double beyond(const float *m, int64_t rows, int64_t columns, int rank) {
    double *a = ref_alloc(rows * columns, 8), s[COLUMNS], superb[COLUMNS], sum = 0;
    for (int64_t i = 0; i < rows * columns; i++) a[i] = (double)m[i];
    cr_assert_eq(LAPACKE_dgesvd(LAPACK_ROW_MAJOR, 'N', 'N', (int)rows, (int)columns, a,
                                (int)columns, s, NULL, 1, NULL, 1, superb),
                 0);
    for (int64_t k = rank; k < columns && k < rows; k++) sum += s[k] * s[k];
    free(a);
    return sum;
}

/* Random, with singular values that fall by `decay` from one to the next, roughly. */
static void fill(float *m, double decay, int rank) {
    cog_rng rng = cog_rng_make(4, COG_STREAM_TEST, (uint32_t)rank, 0);
    memset(m, 0, (size_t)ROWS * COLUMNS * 4);
    double size = 1;
    for (int k = 0; k < rank; k++, size *= decay) {
        double left[ROWS], right[COLUMNS];
        for (int i = 0; i < ROWS; i++) left[i] = size * cog_rng_normal(&rng);
        for (int j = 0; j < COLUMNS; j++) right[j] = cog_rng_normal(&rng);
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++) m[i * COLUMNS + j] += (float)(left[i] * right[j]);
    }
}

static cog_quantizer with(int rank) {
    char spec[64];
    snprintf(spec, sizeof(spec), "powersgd:columns=%d,rank=%d", COLUMNS, rank);
    return configured(spec, (int64_t)ROWS * COLUMNS);
}

Test(powersgd, a_matrix_of_that_rank_is_sent_whole) {
    cog_device *device = open_cpu();
    float m[ROWS * COLUMNS];
    for (int rank = 1; rank <= 16; rank += 3) {
        const cog_quantizer q = with(rank);
        bench b = set_up(&q, device, 0);
        fill(m, 0.7, rank);
        const size_t bytes = pack(&b, 1, &(cog_term){m, 1.0f});
        cr_expect_eq(bytes, (size_t)(4 * rank * (ROWS + COLUMNS)));
        const double left = energy(b.residual, q.n) / energy(m, q.n);
        cr_expect(left < 1e-10, "rank %d leaves %g", rank, left);
        tear_down(&b);
    }
    cog_device_close(device);
}

/* Iterations over one matrix converge to the best approximation of that rank, and none is nearer
 * (Eckart and Young); every one of them is a projection, so it takes energy away. */
Test(powersgd, messages_that_repeat_converge_to_the_best_approximation) {
    cog_device *device = open_cpu();
    float m[ROWS * COLUMNS];
    fill(m, 0.6, 20);
    const double all = energy(m, ROWS * COLUMNS);
    for (int rank = 1; rank <= 4; rank++) {
        const cog_quantizer q = with(rank);
        bench b = set_up(&q, device, 0);
        const double best = beyond(m, ROWS, COLUMNS, rank);
        double left = all;
        for (int i = 0; i < 40; i++) {
            float y[ROWS * COLUMNS] = {0};
            const double before = left;
            pack(&b, 1, &(cog_term){m, 1.0f});
            decode(&q, device, b.payload, 1.0f, 0, q.n, y);
            left = energy(b.residual, q.n);
            cr_expect(left >= best * (1 - 1e-5) && left <= before * (1 + 1e-5),
                      "rank %d, iteration %d: %g, before %g, best %g", rank, i, left, before, best);
            cr_expect(fabs(energy(y, q.n) + left - all) < 1e-5 * all, "no projection");
        }
        cr_expect(left < best * 1.001, "rank %d: %g, best %g", rank, left, best);
        tear_down(&b);
    }
    cog_device_close(device);
}

/* With feedback whatever is constant arrives, at any rank: the error stays bounded, so the mean of
 * what was decoded tends to the message as 1 / rounds. */
Test(powersgd, feedback_brings_what_is_outside_the_subspace) {
    cog_device *device = open_cpu();
    float m[ROWS * COLUMNS], sum[ROWS * COLUMNS] = {0};
    const cog_quantizer q = with(1);
    bench b = set_up(&q, device, 0);
    fill(m, 0.9, 8);
    memset(b.residual, 0, sizeof(m));
    enum { ROUNDS = 400 };
    for (int i = 0; i < ROUNDS; i++) {
        pack(&b, 2, (cog_term[]){{m, 1.0f}, {b.residual, 1.0f}});
        decode(&q, device, b.payload, 1.0f / ROUNDS, 0, q.n, sum);
    }
    for (int i = 0; i < ROWS * COLUMNS; i++) sum[i] -= m[i];
    /* eight directions take turns: what is owed is some tens of messages */
    cr_expect(energy(sum, q.n) < 0.1 * 0.1 * energy(m, q.n), "%g",
              sqrt(energy(sum, q.n) / energy(m, q.n)));
    tear_down(&b);
    cog_device_close(device);
}

Test(powersgd, one_broken_message_does_not_break_the_next) {
    cog_device *device = open_cpu();
    float m[ROWS * COLUMNS];
    const cog_quantizer q = with(2);
    bench b = set_up(&q, device, 0);
    fill(m, 0.7, 2);
    const float kept = m[77];
    for (int i = 0; i < 2; i++) {
        m[77] = i == 0 ? NAN : INFINITY;
        pack(&b, 1, &(cog_term){m, 1.0f});
        m[77] = kept;
        pack(&b, 1, &(cog_term){m, 1.0f});
        cr_expect(energy(b.residual, q.n) < 1e-10 * energy(m, q.n));
    }
    tear_down(&b);
    cog_device_close(device);
}
