/* code_solve.c - decoding without a closed form: minimum-norm least squares.
 *
 * With A [n_parts, m] holding the rows of the m current messages as columns and T [n_parts,
 * n_blocks] the target (T[part, b] = 1 when the part belongs to block b), the weights are the
 * W [m, n_blocks] of least norm among those that minimise ||A W - T||. LAPACK's dgelsy finds them
 * by QR with column pivoting and a complete orthogonal factorisation: about 4 m n_parts min(m,
 * n_parts) operations, several times fewer than by singular values.
 *
 * All is in double: the rows that survive may be nearly dependent (condition 1e5 in cyclic
 * repetition of 12 workers), and an error here is an error of the gradient. */
#include "code_solve.h"

#include <lapacke.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "code.h"

/* Directions of A below this share of its size count as absent. Rounding leaves 1e-16; the worst
 * conditioned sets worth decoding lie near 1e-8. */
static const double rank_tolerance = 1e-12;

struct cog_solver {
    int32_t n_rows;   /* parts */
    int32_t ld_right; /* max(parts, messages) */
    int32_t n_right;  /* blocks */
    int32_t n_work;
    double *a;         /* [n_rows, messages] column-major */
    double *right;     /* [ld_right, n_right] column-major: targets in, weights out */
    double *work;      /* [n_work] */
    lapack_int *pivot; /* [messages] */
    int32_t *message;  /* [messages] the message behind each column */
};

void cog_solver_close(cog_solver *solver) {
    if (solver == NULL) return;
    free(solver->a);
    free(solver->right);
    free(solver->work);
    free(solver->pivot);
    free(solver->message);
    free(solver);
}

static int32_t work_needed(const cog_solver *s, int n_columns) {
    double size = 0;
    lapack_int rank;
    LAPACKE_dgelsy_work(LAPACK_COL_MAJOR, s->n_rows, n_columns, s->n_right, NULL, s->n_rows, NULL,
                        s->ld_right, NULL, rank_tolerance, &rank, &size, -1);
    return (int32_t)size;
}

static cog_status solver_open(const cog_plan *plan, cog_solver **out) {
    const int n = plan->n_messages, n_parts = plan->n_shards * plan->n_blocks;
    cog_solver *s = calloc(1, sizeof(*s));
    COG_CHECK(s != NULL, COG_ERR_MEMORY, "no memory to decode by least squares");
    s->n_rows = n_parts;
    s->ld_right = n_parts > n ? n_parts : n;
    s->n_right = plan->n_blocks;
    s->n_work = work_needed(s, n);
    s->a = malloc((size_t)n_parts * (size_t)n * sizeof(double));
    s->right = malloc((size_t)s->ld_right * (size_t)s->n_right * sizeof(double));
    s->work = malloc((size_t)s->n_work * sizeof(double));
    s->pivot = malloc((size_t)n * sizeof(lapack_int));
    s->message = malloc((size_t)n * sizeof(int32_t));
    if (!s->a || !s->right || !s->work || !s->pivot || !s->message) {
        cog_solver_close(s);
        COG_FAIL(COG_ERR_MEMORY, "no memory to decode %d messages of %d parts by least squares", n,
                 n_parts);
    }
    *out = s;
    return COG_OK;
}

/* Columns and targets; returns the number of columns. */
static int load_system(cog_solver *s, const cog_code *code, const cog_arrivals *arrivals) {
    const cog_plan *plan = &code->plan;
    int m = 0;
    for (int i = 0; i < plan->n_messages; i++) {
        if (!cog_is_current(arrivals, i)) continue;
        double *column = s->a + (size_t)m * (size_t)s->n_rows;
        memset(column, 0, (size_t)s->n_rows * sizeof(double));
        for (int t = plan->row[i]; t < plan->row[i + 1]; t++)
            column[plan->part[t]] += cog_code_coef(code, arrivals->round, t);
        s->pivot[m] = 0;
        s->message[m++] = i;
    }
    memset(s->right, 0, (size_t)s->ld_right * (size_t)s->n_right * sizeof(double));
    for (int part = 0; part < s->n_rows; part++)
        s->right[(size_t)(part % s->n_right) * (size_t)s->ld_right + (size_t)part] = 1;
    return m;
}

/* ||sum of weight * row - target||^2 of one block, from the plan itself. The factored matrix is no
 * longer needed: its memory holds the difference. */
static double squared_miss(cog_solver *s, const cog_code *code, int64_t round, int m, int block) {
    const cog_plan *plan = &code->plan;
    const double *weight = s->right + (size_t)block * (size_t)s->ld_right;
    double *miss = s->a;
    for (int part = 0; part < s->n_rows; part++) miss[part] = -(double)(part % s->n_right == block);
    for (int c = 0; c < m; c++)
        for (int t = plan->row[s->message[c]]; t < plan->row[s->message[c] + 1]; t++)
            miss[plan->part[t]] += weight[c] * cog_code_coef(code, round, t);
    double sum = 0;
    for (int part = 0; part < s->n_rows; part++) sum += miss[part] * miss[part];
    return sum;
}

static void write_terms(const cog_solver *s, int m, cog_decoding *out) {
    for (int c = 0; c < m; c++)
        for (int b = 0; b < s->n_right; b++) {
            const double weight = s->right[(size_t)b * (size_t)s->ld_right + (size_t)c];
            if (weight != 0) cog_decoding_add(out, b, s->message[c], weight);
        }
}

cog_status cog_decode_least_squares(const cog_code *code, const cog_arrivals *arrivals,
                                    double tolerance, cog_decoding *out) {
    const cog_plan *plan = &code->plan;
    /* The only thing that changes in a code after it was built, and not part of what it means. */
    if (code->solver == NULL) COG_TRY(solver_open(plan, &((cog_code *)code)->solver));
    cog_solver *s = code->solver;
    const int m = load_system(s, code, arrivals);
    COG_CHECK(m > 0, COG_ERR_UNDECODABLE, "no message of round %lld arrived",
              (long long)arrivals->round);

    lapack_int rank;
    const lapack_int info =
        LAPACKE_dgelsy_work(LAPACK_COL_MAJOR, s->n_rows, m, s->n_right, s->a, s->n_rows, s->right,
                            s->ld_right, s->pivot, rank_tolerance, &rank, s->work, s->n_work);
    COG_CHECK(info == 0, COG_ERR_ARGUMENT, "dgelsy refuses argument %d", -(int)info);

    for (int b = 0; b < plan->n_blocks; b++) {
        const double miss = squared_miss(s, code, arrivals->round, m, b);
        COG_CHECK(miss <= tolerance * plan->n_shards, COG_ERR_UNDECODABLE,
                  "%d of %d messages do not determine the gradient: the closest combination is "
                  "%.2g of it away",
                  m, plan->n_messages, miss / plan->n_shards);
    }
    write_terms(s, m, out);
    return COG_OK;
}
