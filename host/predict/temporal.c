/* temporal.c - a linear combination of past estimates is the prediction: temporal predictive coding
 * (Edin, Chen, Kieffer, Johansson 2024).
 *
 *     G = [estimate^(t-1) .. estimate^(t-s)];   a = argmin ||x - G a||;   expected = G round(a)
 *
 *   window   s, the estimates that are remembered and the coefficients that travel; default 3
 *
 * Successive gradients are nearly parallel, so G is ill-conditioned (1e8 and more at s = 5) and the
 * exact minimiser has huge coefficients, which travel as floats. Therefore the fit is a QR
 * decomposition of [G x] in double, one pass, and everything else happens in its triangle R:
 *
 *     ||x - G a|| = ||R (-a, 1)||                             whatever a is
 *
 * The singular value decomposition of R's first columns gives the minimiser of every rank; each is
 * rounded to floats and judged by what it leaves then. So are the last estimate alone and nothing
 * at all, hence ||residual|| <= ||x - estimate^(t-1)|| and <= ||x||, rounding included. */
#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "check.h"
#include "predict.h"

enum { MAX_COLUMNS = COG_MAX_WINDOW + 1, BLOCK = 64 }; /* of LAPACK's QR */

/* The memory of a fit, one after the other. */
typedef struct fit_work {
    double *matrix; /* [columns, n] column by column: G, then x; becomes R */
    double *tau;    /* [MAX_COLUMNS] */
    double *room;   /* [MAX_COLUMNS * BLOCK] */
} fit_work;

/* min ||x - G a|| in the triangle. */
typedef struct triangle {
    int rows, window;                    /* rows = min(n, window + 1) */
    double r[MAX_COLUMNS * MAX_COLUMNS]; /* [rows, window + 1] column by column */
    double best;                         /* square norm that `coefs` leaves */
    float *coefs;                        /* [window] */
} triangle;

static cog_status configure(cog_predictor *p, cog_spec *spec) {
    int64_t window;
    COG_CHECK(p->n <= INT32_MAX, COG_ERR_ARGUMENT, "a message of %lld entries is too long to fit",
              (long long)p->n);
    COG_TRY(cog_spec_int(spec, "window", 3, 1, COG_MAX_WINDOW, &window));
    p->window = p->n_coefs = (int)window;
    return COG_OK;
}

static size_t work_bytes(const cog_predictor *p) {
    const size_t matrix = (size_t)p->n * (size_t)(p->window + 1);
    return (matrix + MAX_COLUMNS + MAX_COLUMNS * BLOCK) * sizeof(double);
}

/* What a leaves, as it will be rounded; kept when that is less than before. */
static void judge(triangle *t, const double *a) {
    double left[MAX_COLUMNS], sum = 0;
    float rounded[COG_MAX_WINDOW];
    memcpy(left, t->r + t->window * t->rows, (size_t)t->rows * sizeof(double));
    for (int j = 0; j < t->window; j++) {
        rounded[j] = (float)a[j];
        for (int i = 0; i < t->rows; i++) left[i] -= t->r[j * t->rows + i] * (double)rounded[j];
    }
    for (int i = 0; i < t->rows; i++) sum += left[i] * left[i];
    if (!(sum < t->best)) return; /* NaN is not better */
    t->best = sum;
    memcpy(t->coefs, rounded, (size_t)t->window * sizeof(float));
}

/* The minimisers of rank 1, 2, ...: sum of v_i (u_i . b) / s_i over the first ranks. */
static void judge_ranks(triangle *t) {
    const int rows = t->rows, window = t->window, ranks = rows < window ? rows : window;
    double matrix[MAX_COLUMNS * MAX_COLUMNS], s[MAX_COLUMNS], room[8 * MAX_COLUMNS];
    double u[MAX_COLUMNS * MAX_COLUMNS], vt[MAX_COLUMNS * MAX_COLUMNS], a[MAX_COLUMNS] = {0};
    memcpy(matrix, t->r, (size_t)(rows * window) * sizeof(double));
    if (LAPACKE_dgesvd_work(LAPACK_COL_MAJOR, 'S', 'S', rows, window, matrix, rows, s, u, rows, vt,
                            ranks, room, 8 * MAX_COLUMNS) != 0)
        return; /* what was judged before stands */
    const double *b = t->r + window * rows;
    for (int k = 0; k < ranks && s[k] > 0; k++) {
        double along = 0;
        for (int i = 0; i < rows; i++) along += u[k * rows + i] * b[i];
        for (int j = 0; j < window; j++) a[j] += vt[j * ranks + k] * along / s[k];
        judge(t, a);
    }
}

/* [G x] in double, and its triangle. */
static cog_status decompose(const cog_predictor *p, const cog_memory *memory, const float *x,
                            fit_work w, triangle *t) {
    const int64_t n = p->n;
    for (int j = 0; j <= t->window; j++) {
        const float *column = j < t->window ? memory->x[j] : x;
        for (int64_t i = 0; i < n; i++) w.matrix[j * n + i] = column[i];
    }
    const lapack_int info =
        LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, (lapack_int)n, t->window + 1, w.matrix, (lapack_int)n,
                            w.tau, w.room, (lapack_int)(MAX_COLUMNS * BLOCK));
    COG_CHECK(info == 0, COG_ERR_ARGUMENT, "a QR decomposition failed (%d)", (int)info);
    for (int j = 0; j <= t->window; j++)
        for (int i = 0; i < t->rows; i++) t->r[j * t->rows + i] = i <= j ? w.matrix[j * n + i] : 0;
    return COG_OK;
}

static cog_status fit(const cog_predictor *p, const cog_memory *memory, const float *x, void *work,
                      float *coefs) {
    const int window = memory->count; /* the first rounds have fewer than p->window */
    if (window == 0 || p->n == 0) return COG_OK;
    fit_work w = {.matrix = work};
    w.tau = w.matrix + p->n * (p->window + 1);
    w.room = w.tau + MAX_COLUMNS;
    triangle t = {.window = window, .best = INFINITY, .coefs = coefs};
    t.rows = p->n <= window ? (int)p->n : window + 1;
    COG_TRY(decompose(p, memory, x, w, &t));
    double simple[MAX_COLUMNS] = {0};
    judge(&t, simple);
    simple[0] = 1;
    judge(&t, simple);
    judge_ranks(&t);
    return COG_OK;
}

/* In double, so that large coefficients cancel; one rounding at the end, the same everywhere. */
static void predict(const cog_predictor *p, const cog_memory *memory, const float *coefs,
                    float *expected) {
    enum { TILE = 256 };
    double sum[TILE];
    for (int64_t first = 0; first < p->n; first += TILE) {
        const int count = (int)(p->n - first < TILE ? p->n - first : TILE);
        for (int i = 0; i < count; i++) sum[i] = 0;
        for (int j = 0; j < memory->count; j++) {
            const double a = coefs[j];
            const float *x = memory->x[j] + first;
            for (int i = 0; i < count; i++) sum[i] += a * x[i];
        }
        for (int i = 0; i < count; i++) expected[first + i] = (float)sum[i];
    }
}

static void push(const cog_predictor *p, cog_memory *memory, const float *expected,
                 const float *estimate) {
    (void)p, (void)expected;
    cog_memory_push(memory, estimate);
}

const cog_predictor_ops cog_predictor_temporal = {
    .name = "temporal",
    .summary = "a least-squares combination of past estimates (TPC)",
    .trigger = COG_TRIGGER_RELATIVE,
    .configure = configure,
    .work_bytes = work_bytes,
    .fit = fit,
    .predict = predict,
    .push = push,
};
