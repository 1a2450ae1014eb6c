/* acgc.c - communication-efficient approximate gradient codes (Munim & Ramamoorthy 2026).
 *
 * Every worker holds delta shards and sends one message of 1/m of the gradient; any answers decode,
 * to the least-squares estimate of the sum. A [k, n] is 1 where a worker (column) holds a shard;
 * with the gradient of every shard cut in m blocks, the message of worker j is column j of B =
 * [A_1; .. ; A_m],  all A_u zero where A is.
 *
 *   1         A_u = A D_u, D_u diagonal, uniform on +-[1-eps, 1+eps], new in every round: worker j
 *             adds up the gradients it holds and sends a signed fold of the m blocks of that sum.
 *             Server and workers draw the factors themselves, from (seed, round). What error
 *             feedback carries over meets other signs there: construction 2 is the one to compress
 *   2         n >= m k. v_1 random; row i of A_1 is v_1(H)'/||v_1(H)||^2 on the holders H of
 *             shard i; v_u random in the null space of A_1 .. A_{u-1}, and so on. Then B v_u is
 *             the target of block u: exact when all answer. The draw of least amplification is kept
 *   stacked   A_u = A, the baseline: its m decoded blocks are all equal
 *
 * For workers that straggle independently with probability q, E[B_F R] = zeta target, by symmetry,
 * so the published step is eta/zeta. Here `straggle` = q divides the decoded gradient by zeta,
 * found when the code is built, as 1 - E[Err]/(m k) over random sets and rounds: decoding is a
 * projection, so the diagonal of B_F R is on average the share of the target it keeps (ours). That
 * makes the gradient unbiased and its error larger.
 *
 *   construction  1 | 2 | stacked           structure  coset | bibd | srg | biregular
 *   blocks        m                         degree     delta; 0: as the structure has it
 *   shards        k of biregular, others have one; 0: n/m, or n
 *   eps           of construction 1         straggle   q; 0: the gradient is not rescaled
 *   wait          answers to wait for       seed, attempts   of the random draws */
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../answers.h"
#include "../check.h"
#include "../code.h"
#include "../rng.h"
#include "acgc.h"
#include "cograd/bounds.h"

/* Least-squares operations for zeta: less than a second; and sets at most, for an error of 1/60 of
 * the spread of one. */
static const double max_operations = 1e9;
enum { MAX_SETS = 4000, MIN_SETS = 30 };
/* The bound of construction 2 is a mean over sets. */
static const double max_bound_operations = 1e8;

typedef enum construction { REDRAWN, FIXED, STACKED } construction;

typedef struct state {
    construction construction;
    cog_assignment assignment;
    uint64_t seed;
    double eps, straggle;
    double zeta; /* 1 when straggle is 0 */
} state;

static void destroy(cog_code *code) {
    state *s = code->state;
    if (s != NULL) free(s->assignment.shard);
    free(s);
}

/* ----------------------------------------------------------- constructions 1, stacked */

/* D_u(worker) in a round. One random number gives sign and size. */
static double factor(const state *s, int64_t round, int worker, int block) {
    const uint32_t which = (uint32_t)worker << 12 | (uint32_t)block;
    cog_rng rng = cog_rng_make(s->seed, COG_STREAM_CODE, which, (uint32_t)round);
    const double x = 2 * cog_rng_uniform(&rng) - 1;
    return copysign(1 - s->eps + 2 * s->eps * fabs(x), x);
}

static double coef(const cog_code *code, int64_t round, int32_t term) {
    const state *s = code->state;
    const cog_plan *plan = &code->plan;
    const int32_t block = plan->part[term] % plan->n_blocks;
    return factor(s, round, term / plan->row[1], block); /* all rows have one length */
}

/* plan.coef is that of round 0. */
static void fill_factors(cog_code *code) {
    double *out = (double *)code->plan.coef;
    for (int t = 0; t < code->plan.row[code->plan.n_messages]; t++)
        out[t] = code->redraws ? coef(code, 0, t) : 1;
}

/* -------------------------------------------------------------------- construction 2 */

/* Scratch of one draw. */
typedef struct draw_space {
    double *rows;      /* [n, m k] column-major: the rows of A_1 .. A_m, transposed */
    double *factored;  /* the same, for LAPACK to destroy */
    double *v;         /* [n] */
    double *right;     /* [max(n, m k)] */
    lapack_int *pivot; /* [m k] */
} draw_space;

/* v less its projection on the first n_rows rows. Twice: what the first leaves is rounding. */
static cog_status leave_row_space(const draw_space *d, int n, int n_rows) {
    for (int pass = 0; pass < 2 && n_rows > 0; pass++) {
        memcpy(d->factored, d->rows, (size_t)n * (size_t)n_rows * sizeof(double));
        memset(d->pivot, 0, (size_t)n_rows * sizeof(*d->pivot));
        memcpy(d->right, d->v, (size_t)n * sizeof(double));
        lapack_int rank;
        const lapack_int info =
            LAPACKE_dgelsy(LAPACK_COL_MAJOR, n, n_rows, 1, d->factored, n, d->right,
                           n > n_rows ? n : n_rows, d->pivot, 1e-12, &rank);
        COG_CHECK(info == 0, COG_ERR_MEMORY, "no memory for a null space of %d workers", n);
        for (int r = 0; r < n_rows; r++)
            for (int w = 0; w < n; w++)
                d->v[w] -= d->right[r] * d->rows[(size_t)r * (size_t)n + (size_t)w];
    }
    return COG_OK;
}

/* Row i of A_u: v on the holders of shard i, divided by its squared length there. */
static cog_status write_rows(const cog_assignment *a, const double *v, double *rows) {
    const size_t n = (size_t)a->n_workers;
    memset(rows, 0, n * (size_t)a->n_shards * sizeof(double));
    for (int w = 0; w < a->n_workers; w++)
        for (int i = 0; i < a->degree; i++)
            rows[(size_t)a->shard[w * a->degree + i] * n + (size_t)w] = v[w];
    for (int k = 0; k < a->n_shards; k++) {
        double *row = rows + (size_t)k * n, square = 0;
        for (size_t w = 0; w < n; w++) square += row[w] * row[w];
        COG_CHECK(square > 1e-20, COG_ERR_UNDECODABLE, "shard %d got no weight", k);
        for (size_t w = 0; w < n; w++) row[w] /= square;
    }
    return COG_OK;
}

static cog_status draw_blocks(cog_code *code, uint32_t attempt, const draw_space *d) {
    const state *s = code->state;
    const cog_plan *plan = &code->plan;
    const cog_assignment *a = &s->assignment;
    const int n = a->n_workers, k = a->n_shards;
    cog_rng rng = cog_rng_make(s->seed, COG_STREAM_CODE, attempt, 3);
    for (int u = 0; u < plan->n_blocks; u++) {
        for (int w = 0; w < n; w++) d->v[w] = cog_rng_normal(&rng);
        COG_TRY(leave_row_space(d, n, u * k));
        COG_TRY(write_rows(a, d->v, d->rows + (size_t)u * (size_t)k * (size_t)n));
    }
    for (int t = 0; t < plan->row[n]; t++) {
        const int u = plan->part[t] % plan->n_blocks, shard = plan->part[t] / plan->n_blocks;
        ((double *)plan->coef)[t] = d->rows[((size_t)u * (size_t)k + (size_t)shard) * (size_t)n +
                                            (size_t)(t / plan->row[1])];
    }
    return COG_OK;
}

static cog_status draw(cog_code *code, uint32_t attempt) {
    const size_t n = (size_t)code->plan.n_workers;
    const size_t parts = (size_t)code->plan.n_shards * (size_t)code->plan.n_blocks;
    draw_space d = {.rows = malloc((2 * n * parts + 2 * n + parts) * sizeof(double)),
                    .pivot = malloc(parts * sizeof(lapack_int))};
    cog_status status = COG_ERR_MEMORY;
    if (d.rows != NULL && d.pivot != NULL) {
        d.factored = d.rows + n * parts;
        d.v = d.factored + n * parts;
        d.right = d.v + n;
        status = draw_blocks(code, attempt, &d);
    } else
        cog_set_error(status, "no memory for the coefficients of %zu workers", n);
    free(d.rows);
    free(d.pivot);
    return status;
}

/* ------------------------------------------------------------------------------ zeta */

/* The share of the target that the decoded combination keeps. */
static double share_kept(const cog_code *code, int64_t round, const cog_decoding *decoding) {
    const cog_plan *plan = &code->plan;
    double sum = 0;
    for (int i = 0; i < decoding->count; i++) {
        const cog_decode_term *term = &decoding->terms[i];
        for (int t = plan->row[term->message]; t < plan->row[term->message + 1]; t++)
            if (plan->part[t] % plan->n_blocks == term->block)
                sum += term->weight * cog_code_coef(code, round, t);
    }
    return sum / ((double)plan->n_shards * plan->n_blocks);
}

/* Who answers in trial `round`; when nobody does, nothing is kept. */
static cog_status try_set(const cog_code *code, cog_answers *a, int64_t round, double *kept) {
    const state *s = code->state;
    cog_rng rng = cog_rng_make(s->seed, COG_STREAM_ANALYSIS, 1, (uint32_t)round);
    a->arrivals.n_arrived = 0;
    a->arrivals.round = round;
    for (int m = 0; m < a->arrivals.n_messages; m++)
        a->arrivals.n_arrived += a->arrived[m] = cog_rng_uniform(&rng) >= s->straggle;
    a->decoding.count = 0;
    if (a->arrivals.n_arrived == 0) return COG_OK;
    COG_TRY(cog_decode_least_squares(code, &a->arrivals, INFINITY, &a->decoding));
    *kept += share_kept(code, round, &a->decoding);
    return COG_OK;
}

static cog_status find_zeta(cog_code *code) {
    state *s = code->state;
    const cog_plan *plan = &code->plan;
    if (s->straggle == 0) return COG_OK;
    const double n = plan->n_messages, k = (double)plan->n_shards * plan->n_blocks;
    const double solve = 4 * n * k * fmin(n, k);
    const int n_sets = (int)fmax(MIN_SETS, fmin(MAX_SETS, max_operations / solve));
    cog_answers answers;
    double kept = 0;
    COG_TRY(cog_answers_open(code, &answers));
    cog_status status = COG_OK;
    for (int i = 0; i < n_sets && status == COG_OK; i++) status = try_set(code, &answers, i, &kept);
    cog_answers_close(&answers);
    COG_TRY(status);
    s->zeta = kept / n_sets;
    COG_CHECK(s->zeta > 1e-3, COG_ERR_ARGUMENT,
              "with straggle = %g almost nothing of the gradient arrives: %g of it", s->straggle,
              s->zeta);
    return COG_OK;
}

/* ----------------------------------------------------------------------------- build */

static cog_status read_keys(cog_code *code, cog_spec *spec, int64_t *blocks, int64_t *attempts) {
    static const char *const constructions[] = {"1", "2", "stacked", NULL};
    static const char *const structures[] = {"coset", "bibd", "srg", "biregular", NULL};
    const int n = code->plan.n_workers;
    state *s = code->state;
    int which, structure;
    int64_t degree, shards, wait, seed;
    COG_TRY(cog_spec_choice(spec, "construction", constructions, &which));
    COG_TRY(cog_spec_choice(spec, "structure", structures, &structure));
    COG_TRY(cog_spec_int(spec, "blocks", n < 2 ? 1 : 2, 1, n < 4095 ? n : 4095, blocks));
    COG_TRY(cog_spec_int(spec, "degree", 0, 0, 1 << 20, &degree));
    COG_TRY(cog_spec_int(spec, "shards", 0, 0, 1 << 20, &shards));
    COG_TRY(cog_spec_real(spec, "eps", 0.1, 0, 0.99, &s->eps));
    COG_TRY(cog_spec_real(spec, "straggle", 0, 0, 0.99, &s->straggle));
    COG_TRY(cog_spec_int(spec, "wait", n, 1, n, &wait));
    COG_TRY(cog_spec_int(spec, "seed", 1, 0, INT32_MAX, &seed));
    COG_TRY(cog_spec_int(spec, "attempts", 8, 1, 100000, attempts));
    s->construction = (construction)which;
    s->assignment = (cog_assignment){.structure = (cog_structure)structure,
                                     .n_workers = n,
                                     .n_shards = (int32_t)shards,
                                     .degree = (int32_t)degree};
    s->seed = (uint64_t)seed;
    s->zeta = 1;
    code->wait_for = (int32_t)wait;
    code->redraws = s->construction == REDRAWN;
    return COG_OK;
}

static cog_status lay_out(cog_code *code, int m) {
    const cog_assignment *a = &((state *)code->state)->assignment;
    COG_TRY(cog_plan_begin(&code->plan, a->n_workers, a->n_workers, a->n_shards, m,
                           (int64_t)a->n_workers * a->degree * m));
    for (int w = 0; w < a->n_workers; w++) {
        cog_plan_message(&code->plan, w, w);
        for (int i = 0; i < a->degree; i++)
            for (int u = 0; u < m; u++)
                cog_plan_term(&code->plan, w, a->shard[w * a->degree + i] * m + u, 0.0);
    }
    return COG_OK;
}

static cog_status build(cog_code *code, cog_spec *spec) {
    state *s = code->state = calloc(1, sizeof(*s));
    COG_CHECK(s != NULL, COG_ERR_MEMORY, "no memory for a code");
    int64_t m, attempts;
    COG_TRY(read_keys(code, spec, &m, &attempts));
    COG_TRY(cog_assign(&s->assignment, (int)m, s->seed));
    const cog_assignment *a = &s->assignment;
    COG_CHECK(s->construction != FIXED || m * a->n_shards <= a->n_workers, COG_ERR_ARGUMENT,
              "construction=2 needs blocks x shards = %lld x %d = %lld workers or more, not %d",
              (long long)m, a->n_shards, (long long)m * a->n_shards, a->n_workers);
    COG_TRY(lay_out(code, (int)m));
    if (s->construction == FIXED)
        COG_TRY(cog_plan_keep_best(code, (int)attempts, draw));
    else
        fill_factors(code);
    return find_zeta(code);
}

/* ---------------------------------------------------------------- decoding and bounds */

static cog_status decode(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out) {
    const state *s = code->state;
    COG_TRY(cog_decode_least_squares(code, arrivals, INFINITY, out));
    for (int i = 0; i < out->count; i++) out->terms[i].weight /= s->zeta;
    return COG_OK;
}

/* Mean of (20) over the sets that an analysis looks at; NAN without memory. */
static double mean_of_row_sums(const cog_code *code, int n_answers) {
    const double n = code->plan.n_workers, k = (double)code->plan.n_shards * code->plan.n_blocks;
    cog_answers answers;
    if (cog_answers_open(code, &answers) != COG_OK) return NAN;
    double sum = 0, bound = 0;
    cog_answers_begin(&answers, n_answers,
                      (int64_t)fmax(10, fmin(1000, max_bound_operations / (n * n * k))));
    while (cog_answers_next(&answers)) {
        if (cog_bound_row_sums(code, &answers.arrivals, &bound) != COG_OK) bound = NAN;
        sum += bound;
    }
    const double mean = sum / (double)answers.n_sets;
    cog_answers_close(&answers);
    return mean;
}

/* Circulants of delta neighbours are invertible for delta prime to k, and then almost surely so is
 * [A D_1; .. ; A D_m] with factors of several sizes. */
static bool is_exact(const state *s, int m) {
    int a = s->assignment.degree, b = s->assignment.n_shards;
    while (b != 0) {
        const int rest = a % b;
        a = b;
        b = rest;
    }
    return s->construction == FIXED ||
           (s->construction == REDRAWN && s->assignment.structure == COG_COSET && a == 1 &&
            (s->eps > 0 || m == 1));
}

static double bound_of(const cog_code *code, int n_answers) {
    const state *s = code->state;
    const cog_assignment *a = &s->assignment;
    const cog_bound_shape shape = {a->n_workers, a->n_shards, code->plan.n_blocks, a->degree,
                                   s->eps};
    const int n_silent = a->n_workers - n_answers;
    if (n_silent == 0 && is_exact(s, code->plan.n_blocks)) return 0;
    if (s->construction == FIXED) return mean_of_row_sums(code, n_answers);
    if (s->construction == STACKED)
        return a->structure == COG_BIBD ? cog_bound_bibd_stacked(&shape, a->lambda, n_silent)
                                        : cog_bound_biregular_stacked(&shape, n_silent);
    switch (a->structure) {
    case COG_BIBD: return cog_bound_bibd(&shape, a->lambda, n_silent);
    case COG_SRG: return cog_bound_srg(&shape, a->lambda, a->mu, n_silent);
    default: return cog_bound_biregular(&shape, n_silent);
    }
}

/* The decoded gradient P T of error e keeps 1 - e of the target's energy; P T / zeta misses
 * 1 + (1 - e)(1/zeta^2 - 2/zeta) of it. A bound on e bounds that from above where the factor is
 * negative; else e >= 0 does. */
static double error_bound(const cog_code *code, int n_answers) {
    const state *s = code->state;
    const double k = (double)code->plan.n_shards * code->plan.n_blocks;
    const double slope = 1 / (s->zeta * s->zeta) - 2 / s->zeta;
    const double bound = slope < 0 ? bound_of(code, n_answers) / k : 0;
    return 1 + (1 - bound) * slope;
}

const cog_code_ops cog_code_acgc = {
    .name = "acgc",
    .summary = "approximate: any answers, messages 1/blocks as long, least-squares decoding",
    .role = COG_ROLE_STAR,
    .build = build,
    .destroy = destroy,
    .coef = coef,
    .ready = cog_ready_when_enough,
    .decode = decode,
    .error_bound = error_bound,
};
