/* code_bounds.c - bounds on the error of approximate gradient codes.
 *
 * The closed forms are (8) with K = D + c(m-1) diag(D), D = A_F'A_F, worked out. All columns of A
 * sum to delta, so (8) is m k - m delta^2 1'K^-1 1:
 *     bibd        D = (delta - lambda) I + lambda J: 1 is an eigenvector of K
 *     srg         D is a part of A^2 = (delta - mu) I + mu J + (lambda - mu) A; th bounds what A_F
 *                 can add to the eigenvalue of 1, by interlacing
 *     biregular   1'K^-1 1 >= |F|^2 / 1'K 1, and 1'D 1 <= delta * holders * |F|
 * where diag(D) = delta throughout. */
#include "cograd/bounds.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "code.h"

/* -------------------------------------------------------------------- closed forms */

/* c(m-1) delta */
static double redraw_term(const cog_bound_shape *b) {
    const double square = b->eps * b->eps;
    return (1 + square / 3) / (1 - square) * (b->n_blocks - 1) * b->degree;
}

static double n_tasks(const cog_bound_shape *b) { return (double)b->n_blocks * b->n_shards; }

/* delta^2 |F| / eigenvalue: how much of a target of length k the answers reach. */
static double reach(const cog_bound_shape *b, int s, double eigenvalue) {
    return s < b->n_workers ? pow(b->degree, 2) * (b->n_workers - s) / eigenvalue : 0;
}

static double shared_by_all(const cog_bound_shape *b, int lambda, int s) {
    return b->degree + (double)lambda * (b->n_workers - s - 1);
}

double cog_bound_bibd(const cog_bound_shape *b, int lambda, int s) {
    return n_tasks(b) - b->n_blocks * reach(b, s, redraw_term(b) + shared_by_all(b, lambda, s));
}

double cog_bound_bibd_stacked(const cog_bound_shape *b, int lambda, int s) {
    return n_tasks(b) - reach(b, s, shared_by_all(b, lambda, s));
}

double cog_bound_srg(const cog_bound_shape *b, int lambda, int mu, int s) {
    const double gap = lambda - mu, degree = b->degree;
    const double th = gap >= 0 ? degree : (gap - sqrt(gap * gap + 4 * (degree - mu))) / 2;
    const double eigenvalue = degree - mu + mu * (double)(b->n_workers - s) + gap * th;
    return n_tasks(b) - b->n_blocks * reach(b, s, redraw_term(b) + eigenvalue);
}

static double holders_times_degree(const cog_bound_shape *b) {
    return (double)b->n_workers * b->degree / b->n_shards * b->degree;
}

double cog_bound_biregular(const cog_bound_shape *b, int s) {
    return n_tasks(b) - b->n_blocks * reach(b, s, redraw_term(b) + holders_times_degree(b));
}

double cog_bound_biregular_stacked(const cog_bound_shape *b, int s) {
    return n_tasks(b) - reach(b, s, holders_times_degree(b));
}

double cog_bound_any_code(int n_workers, int n_shards, int n_blocks, double load, int s) {
    double best = 0;
    for (int u = 1; u <= n_blocks; u++) {
        const double lost = floor(n_shards * (double)(s + n_blocks - u) / (n_workers * load));
        best = fmax(best, fmin(lost, n_shards) * u);
    }
    return best;
}

/* ------------------------------------------------------------------ one set of answers */

/* A column for each answer, dense, over parts or over shards. */
typedef struct columns {
    int n, height;
    double *entry; /* [n, height] */
} columns;

static cog_status columns_open(const cog_code *code, const cog_arrivals *arrivals, int height,
                               columns *out) {
    COG_CHECK(arrivals->n_messages == code->plan.n_messages, COG_ERR_ARGUMENT,
              "arrivals speak of %d messages, the code '%s' has %d", arrivals->n_messages,
              code->ops->name, code->plan.n_messages);
    *out = (columns){.height = height};
    for (int i = 0; i < arrivals->n_messages; i++) out->n += cog_is_current(arrivals, i);
    out->entry = calloc((size_t)out->n * (size_t)height + 1, sizeof(double));
    COG_CHECK(out->entry != NULL, COG_ERR_MEMORY, "no memory for %d messages of %d parts", out->n,
              height);
    return COG_OK;
}

static double dot(const columns *c, int i, int j) {
    const double *x = c->entry + (size_t)i * (size_t)c->height;
    const double *y = c->entry + (size_t)j * (size_t)c->height;
    double sum = 0;
    for (int r = 0; r < c->height; r++) sum += x[r] * y[r];
    return sum;
}

static void load_shards(const cog_code *code, const cog_arrivals *arrivals, columns *c) {
    const cog_plan *plan = &code->plan;
    for (int i = 0, at = 0; i < plan->n_messages; i++) {
        if (!cog_is_current(arrivals, i)) continue;
        double *column = c->entry + (size_t)at++ * (size_t)c->height;
        for (int t = plan->row[i]; t < plan->row[i + 1]; t++)
            column[plan->part[t] / plan->n_blocks] = 1;
    }
}

/* 1'A_F K^-1 A_F'1, with K in gram [n, n] and room for two vectors in sum [2 n]. */
static cog_status reach_of_shards(const columns *c, double spread, int m, double *gram, double *sum,
                                  double *out) {
    double *solution = sum + c->n;
    *out = 0;
    for (int j = 0; j < c->n; j++) {
        sum[j] = 0;
        for (int r = 0; r < c->height; r++) sum[j] += c->entry[j * c->height + r];
        for (int i = 0; i < c->n; i++) gram[j * c->n + i] = dot(c, i, j);
        gram[j * c->n + j] *= 1 + spread * (m - 1);
        solution[j] = sum[j];
    }
    if (c->n == 0) return COG_OK;
    const lapack_int info =
        LAPACKE_dposv(LAPACK_COL_MAJOR, 'L', c->n, 1, gram, c->n, solution, c->n);
    COG_CHECK(info == 0, COG_ERR_ARGUMENT,
              "the bound is not defined: %d workers hold dependent sets of shards", c->n);
    for (int j = 0; j < c->n; j++) *out += sum[j] * solution[j];
    return COG_OK;
}

cog_status cog_bound_answers(const cog_code *code, const cog_arrivals *arrivals, double eps,
                             double *out) {
    const cog_plan *plan = &code->plan;
    const double spread = (1 + eps * eps / 3) / (1 - eps * eps);
    columns c;
    COG_TRY(columns_open(code, arrivals, plan->n_shards, &c));
    load_shards(code, arrivals, &c);
    const size_t n = (size_t)c.n;
    double *gram = malloc((n * n + 2 * n + 1) * sizeof(double)), reached = 0;
    cog_status status = COG_ERR_MEMORY;
    if (gram != NULL)
        status = reach_of_shards(&c, spread, plan->n_blocks, gram, gram + n * n, &reached);
    else
        cog_set_error(status, "no memory for a bound on %d answers", c.n);
    free(gram);
    free(c.entry);
    if (status == COG_OK) *out = plan->n_blocks * (plan->n_shards - reached);
    return status;
}

cog_status cog_bound_row_sums(const cog_code *code, const cog_arrivals *arrivals, double *out) {
    const cog_plan *plan = &code->plan;
    const int m = plan->n_blocks;
    columns c;
    COG_TRY(columns_open(code, arrivals, m * plan->n_shards, &c));
    for (int i = 0, at = 0; i < plan->n_messages; i++) {
        if (!cog_is_current(arrivals, i)) continue;
        double *column = c.entry + (size_t)at++ * (size_t)c.height;
        for (int t = plan->row[i]; t < plan->row[i + 1]; t++)
            column[plan->part[t]] += cog_code_coef(code, arrivals->round, t);
    }
    *out = c.height;
    for (int j = 0; j < c.n; j++) {
        const double *column = c.entry + (size_t)j * (size_t)c.height;
        double row_sum = 0, reached = 0;
        for (int i = 0; i < c.n; i++) row_sum += fabs(dot(&c, i, j));
        for (int u = 0; u < m; u++) {
            double sum = 0;
            for (int r = u; r < c.height; r += m) sum += column[r];
            reached += sum * sum;
        }
        if (row_sum > 0) *out -= reached / row_sum;
    }
    free(c.entry);
    return COG_OK;
}
