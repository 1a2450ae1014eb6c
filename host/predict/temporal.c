/* temporal.c - a linear combination of past estimates is the prediction: temporal predictive coding
 * (Edin, Chen, Kieffer, Johansson 2024).
 *
 *     G = [estimate^(t-1) .. estimate^(t-s)];   a = argmin ||x - G a||;   expected = G round(a)
 *
 *   window   s, the estimates that are remembered and the coefficients that travel; default 3
 *
 * Successive gradients are nearly parallel, so G is ill-conditioned (1e8 and more at s = 5) and the
 * exact minimiser has huge coefficients. All is done in the Gram matrix of [G x], in double; of
 * that only the rows of x and of the newest estimate are new in a round, which takes one pass over
 * the vectors. With columns scaled to length 1,
 *
 *     ||x - G a||^2 / ||x||^2 = 1 - 2 a.c + a.C a             whatever a is
 *
 * The eigenvectors of C give the minimiser of every rank; each is rounded to floats and judged by
 * what it then leaves. Of that much is lost to cancellation in double, about 1e-16 (sum |a_j|)^2.
 * It is no loss against an orthogonal decomposition, for rounding a_j to floats leaves as much as
 * (2^-25 a_j)^2 = 9e-16 a_j^2 anyhow; and it is added to what a candidate is said to leave. The
 * second pass predicts and measures: should the last estimate alone, or nothing at all, be better
 * than that, it is taken, hence ||residual|| <= ||x - estimate^(t-1)|| and <= ||x||, to rounding.
 */
#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "check.h"
#include "predict.h"

enum { MAX_WINDOW = COG_MAX_WINDOW, MAX_COLUMNS = COG_MAX_WINDOW + 1 };
_Static_assert((int)MAX_COLUMNS == (int)COG_MAX_VECTORS, "a device takes all columns at once");

/* Of a sum of products, in units of the sizes that it is added up from. */
static const double cancellation = 0x1p-50;

/* min ||x - G a|| by inner products. */
typedef struct fit {
    int window;
    double norm;                            /* ||x||^2 */
    double length[MAX_WINDOW];              /* of the estimates, over that of x */
    double c[MAX_WINDOW];                   /* cosines of x and the estimates */
    double cosine[MAX_WINDOW * MAX_WINDOW]; /* of the estimates, column by column */
    double best; /* an upper bound of what `coefs` leaves, over the norm */
    float coefs[MAX_WINDOW];
} fit;

static cog_status configure(cog_predictor *p, cog_spec *spec) {
    int64_t window;
    COG_TRY(cog_spec_int(spec, "window", 3, 1, COG_MAX_WINDOW, &window));
    p->window = p->n_coefs = (int)window;
    return COG_OK;
}

/* ---------------------------------------------------------------- inner products */

/* Vectors from + 0, 1, .. of the memory, behind `n_before` ones; returns how many there are. */
static int list_from(const cog_memory *m, int from, int n_before, const float **x) {
    for (int j = from; j < m->count; j++) x[n_before + j - from] = m->x[j];
    return n_before + m->count - from;
}

/* The rows of estimates that are not known, two at a time: all of them after a state was loaded,
 * none but the newest otherwise, whose row is left to the pass over the message. */
static cog_status learn_old_rows(cog_memory *m) {
    for (int i = 1; i < m->count - m->n_known; i += 2) {
        const float *x[MAX_COLUMNS];
        double out[2 * MAX_COLUMNS];
        const int n = list_from(m, i, 0, x), rows = n < 2 ? n : 2;
        COG_TRY(m->device->ops->products(m->device, rows, n, x, m->n, m->work, out));
        memcpy(m->product[i] + i, out, (size_t)n * sizeof(*out));
        if (rows == 2) memcpy(m->product[i + 1] + i + 1, out + n, (size_t)(n - 1) * sizeof(*out));
    }
    return COG_OK;
}

/* One pass: with_x[0] = ||x||^2, with_x[1 + j] = x . estimate j; and the newest estimate's row. */
static cog_status learn(cog_memory *m, const float *vector, double *with_x) {
    const float *x[MAX_COLUMNS] = {vector};
    double out[2 * MAX_COLUMNS];
    COG_TRY(learn_old_rows(m));
    const int n = list_from(m, 0, 1, x), rows = m->n_known < m->count ? 2 : 1;
    COG_TRY(m->device->ops->products(m->device, rows, n, x, m->n, m->work, out));
    memcpy(with_x, out, (size_t)n * sizeof(*out));
    if (rows == 2) memcpy(m->product[0], out + n, (size_t)(n - 1) * sizeof(*out));
    m->n_known = m->count;
    return COG_OK;
}

static void scale(const cog_memory *m, const double *with_x, fit *f) {
    const int s = f->window;
    f->norm = with_x[0];
    for (int j = 0; j < s; j++) {
        f->length[j] = sqrt(m->product[j][j] / f->norm);
        f->c[j] = f->length[j] > 0 ? with_x[1 + j] / (f->norm * f->length[j]) : 0;
    }
    for (int j = 0; j < s; j++)
        for (int i = 0; i <= j; i++) {
            const double size = f->length[i] * f->length[j] * f->norm;
            f->cosine[j * s + i] = f->cosine[i * s + j] = size > 0 ? m->product[i][j] / size : 0;
        }
}

/* ---------------------------------------------------------------- candidates */

/* What coefs, in floats, leave at most. */
static double left_by(const fit *f, const float *coefs) {
    const int s = f->window;
    double a[MAX_WINDOW], sum = 1, size = 1;
    for (int j = 0; j < s; j++) {
        a[j] = (double)coefs[j] * f->length[j];
        size += fabs(a[j]);
        sum -= 2 * a[j] * f->c[j];
    }
    for (int j = 0; j < s; j++)
        for (int i = 0; i < s; i++) sum += a[i] * a[j] * f->cosine[j * s + i];
    return fmax(sum, 0) + cancellation * size * size;
}

static void judge(fit *f, const float *coefs) {
    const double left = left_by(f, coefs);
    if (!(left < f->best)) return; /* NaN is not better */
    f->best = left;
    memcpy(f->coefs, coefs, sizeof(f->coefs));
}

/* Nothing at all, and the last estimate alone. */
static void judge_simple(fit *f) {
    float coefs[MAX_WINDOW] = {0};
    judge(f, coefs);
    coefs[0] = 1;
    judge(f, coefs);
}

/* The minimisers of rank 1, 2, ..: sum of v_i (v_i . c) / l_i over the largest eigenvalues. */
static void judge_ranks(fit *f) {
    const int s = f->window;
    double v[MAX_WINDOW * MAX_WINDOW], l[MAX_WINDOW], room[3 * MAX_WINDOW], a[MAX_WINDOW] = {0};
    memcpy(v, f->cosine, sizeof(v));
    if (LAPACKE_dsyev_work(LAPACK_COL_MAJOR, 'V', 'U', s, v, s, l, room, 3 * MAX_WINDOW) != 0)
        return;                                               /* what was judged before stands */
    for (int k = s - 1; k >= 0 && l[k] > cancellation; k--) { /* they ascend */
        float coefs[MAX_WINDOW] = {0};
        double along = 0;
        for (int i = 0; i < s; i++) along += v[k * s + i] * f->c[i];
        for (int j = 0; j < s; j++) a[j] += v[k * s + j] * along / l[k];
        for (int j = 0; j < s; j++) coefs[j] = f->length[j] > 0 ? (float)(a[j] / f->length[j]) : 0;
        judge(f, coefs);
    }
}

/* ---------------------------------------------------------------- predict */

/* In double, so that large coefficients cancel; one rounding at the end, the same everywhere. */
static cog_status predict(const cog_predictor *p, const cog_memory *m, const float *coefs,
                          const float *target, float *expected, double *left) {
    return m->device->ops->predict(m->device, m->count, (const float *const *)m->x, coefs, target,
                                   p->n, expected, m->work, left);
}

static cog_status foresee(const cog_predictor *p, cog_memory *m, const float *x, float *coefs,
                          float *expected, double *norm, double *left) {
    double with_x[MAX_COLUMNS];
    fit f = {.window = m->count, .best = INFINITY};
    COG_TRY(learn(m, x, with_x));
    *norm = with_x[0];
    if (m->count == 0 || !isfinite(*norm) || *norm == 0)
        return predict(p, m, coefs, x, expected, left);
    scale(m, with_x, &f);
    judge_simple(&f);
    const fit simple = f;
    judge_ranks(&f);
    memcpy(coefs, f.coefs, (size_t)p->window * sizeof(*coefs));
    COG_TRY(predict(p, m, coefs, x, expected, left));
    if (*left <= simple.best * f.norm) return COG_OK;
    memcpy(coefs, simple.coefs, (size_t)p->window * sizeof(*coefs));
    return predict(p, m, coefs, x, expected, left);
}

static cog_status push(const cog_predictor *p, cog_memory *memory, float *expected,
                       const float *estimate) {
    (void)p, (void)expected;
    return cog_memory_push(memory, estimate);
}

const cog_predictor_ops cog_predictor_temporal = {
    .name = "temporal",
    .summary = "a least-squares combination of past estimates (TPC)",
    .trigger = COG_TRIGGER_RELATIVE,
    .configure = configure,
    .foresee = foresee,
    .predict = predict,
    .push = push,
};
