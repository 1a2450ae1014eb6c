/* ye_abbe.c - communication-efficient exact gradient coding (Ye & Abbe, ICML 2018).
 *
 * Trades load for message length: with s+m shards a worker, messages are m times shorter than the
 * gradient and any s stragglers are tolerated. The gradient is cut in m blocks; g_j = (g_j[0] ..
 * g_j[m-1]) are the pieces of shard j.
 *
 *     V     [n-s, n] random
 *     B_j   [m, n-s] = [X_j | I_m], chosen so that B_j V is 0 in the columns N_j of the n-s-m
 *           workers that do not hold shard j: X_j = -V_bottom(:, N_j) V_top(:, N_j)^-1
 *     Z     = sum over j of g_j B_j, whose last m columns are the blocks of the gradient
 *     worker i sends Z V(:, i), in which only the shards it holds appear
 *
 * n-s messages give Z = Y_F V_F^-1. The weights come from least squares on the rows of the plan,
 * which is the same solve when n-s arrived and uses all when more did. Coefficients are random:
 * several draws are tried and the one that amplifies noise least is kept.
 *
 *   stragglers   s                             seed   of V
 *   blocks       m, with s + m <= n            attempts   draws to choose from */
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>

#include "../check.h"
#include "../code.h"
#include "../rng.h"

typedef struct state {
    uint64_t seed;
    int32_t s, m;
} state;

/* Scratch of one draw; n_out = n-s-m workers do not hold a given shard. */
typedef struct scratch {
    double *v;         /* [n-s, n] column-major */
    double *matrix;    /* [n_out, n_out] column-major: V_top(:, N_j) transposed */
    double *x;         /* [n_out, m] column-major: X_j transposed */
    lapack_int *pivot; /* [n_out] */
    int n, s, m, n_out;
} scratch;

static double *column(const scratch *k, int worker) {
    return k->v + (size_t)worker * (size_t)(k->n - k->s);
}

/* Worker i holds shards i .. i+s+m-1, so shard j is missing at workers j+1 .. j+n_out. */
static int outsider(const scratch *k, int shard, int i) { return (shard + 1 + i) % k->n; }

static cog_status solve_shard(const scratch *k, int shard) {
    for (int i = 0; i < k->n_out; i++) {
        const double *v = column(k, outsider(k, shard, i));
        for (int c = 0; c < k->n_out; c++) k->matrix[c * k->n_out + i] = v[c];
        for (int u = 0; u < k->m; u++) k->x[u * k->n_out + i] = -v[k->n_out + u];
    }
    if (k->n_out == 0) return COG_OK;
    const lapack_int info = LAPACKE_dgesv_work(LAPACK_COL_MAJOR, k->n_out, k->m, k->matrix,
                                               k->n_out, k->pivot, k->x, k->n_out);
    COG_CHECK(info == 0, COG_ERR_UNDECODABLE, "the random matrix of shard %d is singular", shard);
    return COG_OK;
}

/* Entry (u, i) of B_j V, for worker i that holds shard j. */
static double entry(const scratch *k, int u, int worker) {
    const double *v = column(k, worker);
    double sum = v[k->n_out + u];
    for (int c = 0; c < k->n_out; c++) sum += k->x[u * k->n_out + c] * v[c];
    return sum;
}

static cog_status fill(cog_code *code, const scratch *k) {
    double *coef = (double *)code->plan.coef;
    for (int shard = 0; shard < k->n; shard++) {
        COG_TRY(solve_shard(k, shard));
        for (int i = 0; i < k->s + k->m; i++) {
            const int worker = (shard - i + k->n) % k->n;
            double *terms = coef + code->plan.row[worker] + (ptrdiff_t)i * k->m;
            for (int u = 0; u < k->m; u++) terms[u] = entry(k, u, worker);
        }
    }
    return COG_OK;
}

static cog_status draw(cog_code *code, uint32_t attempt) {
    const state *st = code->state;
    const int n = code->plan.n_workers;
    scratch k = {.n = n, .s = st->s, .m = st->m, .n_out = n - st->s - st->m};
    const size_t rows = (size_t)(n - st->s), out = (size_t)k.n_out;
    k.v = malloc((rows * (size_t)n + out * out + out * (size_t)k.m + 1) * sizeof(double));
    k.pivot = malloc((out + 1) * sizeof(lapack_int));
    cog_status status = COG_ERR_MEMORY;
    if (k.v != NULL && k.pivot != NULL) {
        k.matrix = k.v + rows * (size_t)n;
        k.x = k.matrix + out * out;
        cog_rng rng = cog_rng_make(st->seed, COG_STREAM_CODE, attempt, 1);
        for (size_t i = 0; i < rows * (size_t)n; i++) k.v[i] = cog_rng_normal(&rng);
        status = fill(code, &k);
    } else
        cog_set_error(status, "no memory for the random matrix of %d workers", n);
    free(k.v);
    free(k.pivot);
    return status;
}

static cog_status read_keys(cog_code *code, cog_spec *spec, int *attempts) {
    const int n = code->plan.n_workers;
    int64_t s, m, seed, tries;
    COG_TRY(cog_spec_int(spec, "stragglers", 1, 0, n - 1, &s));
    COG_TRY(cog_spec_int(spec, "blocks", 2, 1, n, &m));
    COG_TRY(cog_spec_int(spec, "seed", 1, 0, INT32_MAX, &seed));
    COG_TRY(cog_spec_int(spec, "attempts", 32, 1, 100000, &tries));
    COG_CHECK(s + m <= n, COG_ERR_ARGUMENT,
              "stragglers + blocks = %lld + %lld shards a worker are more than the %d there are",
              (long long)s, (long long)m, n);
    state *st = code->state = calloc(1, sizeof(*st));
    COG_CHECK(st != NULL, COG_ERR_MEMORY, "no memory for a code");
    *st = (state){.seed = (uint64_t)seed, .s = (int32_t)s, .m = (int32_t)m};
    code->wait_for = n - st->s;
    *attempts = (int)tries;
    return COG_OK;
}

static cog_status build(cog_code *code, cog_spec *spec) {
    const int n = code->plan.n_workers;
    int attempts = 0;
    COG_TRY(read_keys(code, spec, &attempts));
    const state *st = code->state;
    const int load = st->s + st->m;
    COG_TRY(cog_plan_begin(&code->plan, n, n, n, st->m, (int64_t)n * load * st->m));
    for (int w = 0; w < n; w++) {
        cog_plan_message(&code->plan, w, w);
        for (int i = 0; i < load; i++)
            for (int u = 0; u < st->m; u++)
                cog_plan_term(&code->plan, w, (w + i) % n * st->m + u, 0.0);
    }
    return cog_plan_keep_best(code, attempts, draw);
}

static cog_status decode(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out) {
    return cog_decode_least_squares(code, arrivals, COG_EXACT_TOLERANCE, out);
}

static double error_bound(const cog_code *code, int n_answers) {
    return n_answers >= code->wait_for ? 0 : NAN;
}

const cog_code_ops cog_code_ye_abbe = {
    .name = "ye-abbe",
    .summary = "exact while s workers straggle, messages 1/blocks as long",
    .role = COG_ROLE_STAR,
    .build = build,
    .ready = cog_ready_when_enough,
    .decode = decode,
    .error_bound = error_bound,
};
