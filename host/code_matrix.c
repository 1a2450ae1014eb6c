/* code_matrix.c - rank, tightness, coherence and bounds of an encode matrix.
 *
 * Works on the sparse rows and on an index of the columns, so that thousands of workers are no
 * trouble; only the rank of a matrix that is not tight takes a dense one.
 *
 * References: Welch 1974 (lower bound on the coherence of n unit vectors in k dimensions). Flat
 * rows: inner products of +-1/sqrt(t) entries are multiples of 1/t, which rounds the bound up;
 * with more rows than columns some pair is not orthogonal, so it is at least 1/t. */
#include "code_matrix.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>

#include "check.h"

static const double rounding = 1e-12;
/* Operations of a dense singular value decomposition: about two seconds. */
static const double max_rank_operations = 4e9;

/* Columns of the matrix, and room for one more row. */
typedef struct columns {
    const cog_plan *plan;
    int n_tasks;
    int32_t *first;   /* [n_tasks + 1] */
    int32_t *message; /* [terms] */
    double *coef;     /* [terms] */
    double *norm;     /* [n_messages] length of each row */
    double *sum;      /* [max(n_tasks, n_messages)] zero between uses */
} columns;

static void columns_close(columns *c) {
    free(c->first);
    free(c->message);
    free(c->coef);
    free(c->norm);
    free(c->sum);
}

static void index_columns(columns *c) {
    const cog_plan *plan = c->plan;
    const int n_terms = plan->row[plan->n_messages];
    for (int t = 0; t < n_terms; t++) c->first[plan->part[t] + 1]++;
    for (int j = 0; j < c->n_tasks; j++) c->first[j + 1] += c->first[j];
    for (int m = 0; m < plan->n_messages; m++)
        for (int t = plan->row[m]; t < plan->row[m + 1]; t++) {
            const int at = c->first[plan->part[t]]++;
            c->message[at] = m;
            c->coef[at] = plan->coef[t];
            c->norm[m] += plan->coef[t] * plan->coef[t];
        }
    for (int j = c->n_tasks; j > 0; j--) c->first[j] = c->first[j - 1];
    c->first[0] = 0;
    for (int m = 0; m < plan->n_messages; m++) c->norm[m] = sqrt(c->norm[m]);
}

static cog_status columns_open(const cog_plan *plan, columns *c) {
    *c = (columns){.plan = plan, .n_tasks = plan->n_shards * plan->n_blocks};
    const size_t n_terms = (size_t)plan->row[plan->n_messages], n = (size_t)plan->n_messages;
    const size_t n_tasks = (size_t)c->n_tasks;
    c->first = calloc(n_tasks + 1, sizeof(int32_t));
    c->message = malloc(n_terms * sizeof(int32_t));
    c->coef = malloc(n_terms * sizeof(double));
    c->norm = calloc(n, sizeof(double));
    c->sum = calloc(n > n_tasks ? n : n_tasks, sizeof(double));
    if (!c->first || !c->message || !c->coef || !c->norm || !c->sum) {
        columns_close(c);
        COG_FAIL(COG_ERR_MEMORY, "no memory to analyse %d messages", plan->n_messages);
    }
    index_columns(c);
    return COG_OK;
}

/* Column by column: C'C from the rows that hold the column. */
static bool is_tight(columns *c) {
    const cog_plan *plan = c->plan;
    const double target = (double)plan->n_messages / c->n_tasks;
    bool tight = true;
    for (int j = 0; j < c->n_tasks && tight; j++) {
        for (int e = c->first[j]; e < c->first[j + 1]; e++) {
            const int m = c->message[e];
            for (int t = plan->row[m]; t < plan->row[m + 1]; t++)
                c->sum[plan->part[t]] += c->coef[e] * plan->coef[t];
        }
        tight = fabs(c->sum[j] - target) <= rounding * target;
        c->sum[j] = 0;
        for (int e = c->first[j]; e < c->first[j + 1]; e++) {
            const int m = c->message[e];
            for (int t = plan->row[m]; t < plan->row[m + 1]; t++) {
                tight = tight && fabs(c->sum[plan->part[t]]) <= rounding * target;
                c->sum[plan->part[t]] = 0;
            }
        }
    }
    return tight;
}

/* Row by row: inner products with the later rows that share a column. */
static double coherence(columns *c) {
    const cog_plan *plan = c->plan;
    double largest = 0;
    for (int m = 0; m < plan->n_messages; m++) {
        for (int t = plan->row[m]; t < plan->row[m + 1]; t++)
            for (int e = c->first[plan->part[t]]; e < c->first[plan->part[t] + 1]; e++)
                c->sum[c->message[e]] += plan->coef[t] * c->coef[e];
        for (int t = plan->row[m]; t < plan->row[m + 1]; t++)
            for (int e = c->first[plan->part[t]]; e < c->first[plan->part[t] + 1]; e++) {
                const int other = c->message[e];
                if (other > m)
                    largest = fmax(largest, fabs(c->sum[other]) / (c->norm[m] * c->norm[other]));
                c->sum[other] = 0;
            }
    }
    return fmin(largest, 1);
}

static cog_status rank_by_svd(const cog_plan *plan, int n_tasks, int32_t *out) {
    const int n = plan->n_messages, least = n < n_tasks ? n : n_tasks;
    double *dense = calloc((size_t)n * (size_t)n_tasks, sizeof(double));
    double *value = malloc((size_t)least * sizeof(double));
    lapack_int info = LAPACK_WORK_MEMORY_ERROR;
    if (dense != NULL && value != NULL) {
        for (int m = 0; m < n; m++)
            for (int t = plan->row[m]; t < plan->row[m + 1]; t++)
                dense[(size_t)m * (size_t)n_tasks + (size_t)plan->part[t]] += plan->coef[t];
        info = LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'N', n_tasks, n, dense, n_tasks, value, NULL, 1,
                              NULL, 1);
    }
    int32_t rank = 0;
    if (info == 0)
        for (int i = 0; i < least; i++) rank += value[i] > 1e-10 * value[0];
    free(dense);
    free(value);
    COG_CHECK(info == 0, info > 0 ? COG_ERR_ARGUMENT : COG_ERR_MEMORY,
              "the singular values of a %d x %d code were not found", n, n_tasks);
    *out = rank;
    return COG_OK;
}

static cog_status rank(const cog_plan *plan, int n_tasks, bool tight, int32_t *out) {
    const double n = plan->n_messages, k = n_tasks;
    *out = tight ? n_tasks : -1;
    if (tight || 4 * n * k * fmin(n, k) > max_rank_operations) return COG_OK;
    return rank_by_svd(plan, n_tasks, out);
}

static double welch(double n, double k) { return n > k ? sqrt((n - k) / (k * (n - 1))) : 0; }

static bool is_flat(const cog_plan *plan) {
    const double size = fabs(plan->coef[0]);
    for (int m = 0; m < plan->n_messages; m++)
        if (plan->row[m + 1] - plan->row[m] != plan->row[1]) return false;
    for (int t = 0; t < plan->row[plan->n_messages]; t++)
        if (fabs(fabs(plan->coef[t]) - size) > rounding * size) return false;
    return true;
}

/* Most tasks in a message, most shards of a worker. */
static cog_status count_load(const cog_plan *plan, cog_code_analysis *out) {
    int32_t *seen = calloc((size_t)plan->n_shards, sizeof(int32_t)); /* last worker + 1 */
    COG_CHECK(seen != NULL, COG_ERR_MEMORY, "no memory to analyse %d shards", plan->n_shards);
    for (int w = 0; w < plan->n_workers; w++) {
        int load = 0;
        for (int m = plan->first[w]; m < plan->first[w + 1]; m++) {
            const int weight = plan->row[m + 1] - plan->row[m];
            if (weight > out->weight) out->weight = weight;
            for (int t = plan->row[m]; t < plan->row[m + 1]; t++) {
                const int shard = plan->part[t] / plan->n_blocks;
                load += seen[shard] != w + 1;
                seen[shard] = w + 1;
            }
        }
        if (load > out->load) out->load = load;
        out->mean_load += (double)load / plan->n_workers;
    }
    free(seen);
    return COG_OK;
}

cog_status cog_code_matrix_facts(const cog_plan *plan, cog_code_analysis *out) {
    out->n_workers = plan->n_workers;
    out->n_messages = plan->n_messages;
    out->n_shards = plan->n_shards;
    out->n_blocks = plan->n_blocks;
    out->n_tasks = plan->n_shards * plan->n_blocks;
    out->message_share = 1.0 / plan->n_blocks;
    COG_TRY(count_load(plan, out));

    columns c;
    COG_TRY(columns_open(plan, &c));
    out->tight = is_tight(&c);
    out->coherence = coherence(&c);
    columns_close(&c);

    out->chordal = sqrt(1 - out->coherence * out->coherence);
    out->welch = welch(out->n_messages, out->n_tasks);
    out->flat_bound = NAN;
    if (is_flat(plan) && out->n_messages > out->n_tasks)
        out->flat_bound = fmax(1, ceil(out->weight * out->welch - rounding)) / out->weight;
    return rank(plan, out->n_tasks, out->tight, &out->rank);
}
