/* lwpd.c - lightweight projective derivative code (Soto, Ilmer, Guan, Li, ICML 2022).
 *
 * Tasks form a grid of t output groups x q data shards, k = t q; task d t + a is the derivative
 * with respect to output group a on shard d. A worker's codeword c is a unit vector with t
 * entries +-1/sqrt(t); it sends sum of c_j g_j, one group long. The matrix of the authors' public
 * slides, times sqrt(2), for n = 8 workers (a row each), k = 4 tasks, weight t = 2:
 *
 *     1  1  0  0      0  0  1  1      0  1  1  0      1  0  0  1
 *     1 -1  0  0      0  0  1 -1      0  1 -1  0     -1  0  0  1
 *
 * The families for general (n, k, t) are ours, not the authors'. Each gives those eight lines (the
 * first two row for row), holds every output group exactly once in every codeword, and is tight:
 * C'C = (n/k) I. H is a Hadamard matrix of Sylvester, S the cyclic right shift of columns.
 *   ring   C = [B ; B S^(t/2)], B = I (x) H_t/sqrt(t), n = 2k. Coherence 1/2; at most 2 shards
 *          a worker.
 *   kron   from the matrix above by I_2 (x) C and C (x) H_2/sqrt(2). The same two properties; n and
 *          t are powers of two.
 *   net    slope s, line c: the cells (a, (c + s a) mod q), H_t/sqrt(t) on each; n = slopes k.
 *          Coherence 1/t, paid with min(t, q) shards a worker from slope 1 on. t <= q, and with
 *          more than two slopes q is a prime >= slopes, so that two lines meet at most once.
 *
 * Decoders:
 *   transpose      message i updates every group at once with weights (k/K) c_i, K the answers at
 *                  hand: any order, late answers too; exact when all n answer, unbiased for a
 *                  uniformly random K, relative error (k-1)(n-K)/(K(n-1)) - that of uncoded
 *                  blocks: coherence does not help it, it helps rank and worst cases
 *   least-squares  closest combination of the answers to the current round; exact once they span
 *   memory         ours: weights (k/n) c_i over the latest message of every worker
 *
 *   family   ring | kron | net       wait      K, answers to wait for
 *   weight   t, a power of two       decoder   transpose | least-squares | memory
 *   slopes   of net */
#include <math.h>
#include <stdlib.h>

#include "../check.h"
#include "../code.h"

typedef enum family { RING, KRON, NET } family;
typedef enum decoder { TRANSPOSE, LEAST_SQUARES, MEMORY } decoder;

typedef struct state {
    family family;
    decoder decoder;
    int32_t t, q; /* weight = output groups; data shards */
    int32_t slopes;
} state;

/* ------------------------------------------------------------------ what is possible */

static bool is_power_of_two(int x) { return x > 0 && (x & (x - 1)) == 0; }

static bool is_prime(int x) {
    for (int d = 2; d * d <= x; d++)
        if (x % d == 0) return false;
    return x >= 2;
}

static cog_status check_weight(int n, int t) {
    COG_CHECK(n >= 8, COG_ERR_ARGUMENT,
              "lwpd needs 8 workers (2 groups x 2 shards x 2 workers a task), there are %d", n);
    COG_CHECK(t <= n / 4, COG_ERR_ARGUMENT, "weight = %d exceeds a quarter of %d workers", t, n);
    COG_CHECK(is_power_of_two(t), COG_ERR_ARGUMENT, "weight = %d is not a power of two", t);
    return COG_OK;
}

static cog_status check_net(int n, int t, int slopes) {
    COG_CHECK(n % (slopes * t) == 0, COG_ERR_ARGUMENT,
              "slopes x weight = %d x %d = %d must divide %d workers", slopes, t, slopes * t, n);
    const int q = n / (slopes * t);
    COG_CHECK(t <= q, COG_ERR_ARGUMENT,
              "net needs weight <= shards: %d workers / (%d slopes x weight %d) = %d shards", n,
              slopes, t, q);
    COG_CHECK(slopes == 2 || (is_prime(q) && slopes <= q), COG_ERR_ARGUMENT,
              "more than 2 slopes need a prime number of shards, at least slopes: "
              "%d workers / (%d slopes x weight %d) = %d shards",
              n, slopes, t, q);
    return COG_OK;
}

static cog_status check_shape(const state *s, int n) {
    COG_TRY(check_weight(n, s->t));
    COG_CHECK(s->family == NET || s->slopes == 2, COG_ERR_ARGUMENT,
              "slopes = %d is for family=net; ring and kron have two bases", s->slopes);
    if (s->family == NET) return check_net(n, s->t, s->slopes);
    COG_CHECK(n % (2 * s->t) == 0, COG_ERR_ARGUMENT, "2 x weight = %d must divide %d workers",
              2 * s->t, n);
    COG_CHECK(s->family == RING || is_power_of_two(n), COG_ERR_ARGUMENT,
              "kron needs a power of two of workers, not %d; family=ring takes any multiple of %d",
              n, 2 * s->t);
    return COG_OK;
}

/* ------------------------------------------------------------------------- codewords */

/* Entry (r, c) of Sylvester's Hadamard matrix. */
static double hadamard(int r, int c) { return __builtin_parity((unsigned)(r & c)) ? -1 : 1; }

static void ring_row(cog_plan *plan, const state *s, int w) {
    const int t = s->t, k = t * s->q, row = w % k, shift = w < k ? 0 : t / 2;
    for (int i = 0; i < t; i++)
        cog_plan_term(plan, w, (row / t * t + i + shift) % k, hadamard(row % t, i) / sqrt(t));
}

/* I (x) C^(8,4,2) (x) H_u: t = 2u, and the middle factor is the ring code of 8 workers. */
static void kron_row(cog_plan *plan, const state *s, int w) {
    const int u = s->t / 2, copy = w / (8 * u), middle = w / u % 8, last = w % u;
    const int row = middle % 4, shift = middle / 4;
    for (int i = 0; i < 2; i++) {
        const int column = copy * 4 + (row / 2 * 2 + i + shift) % 4;
        for (int j = 0; j < u; j++)
            cog_plan_term(plan, w, column * u + j,
                          hadamard(row % 2, i) * hadamard(last, j) / sqrt(s->t));
    }
}

static void net_row(cog_plan *plan, const state *s, int w) {
    const int t = s->t, q = s->q, slope = w / (t * q), line = w / t % q, h = w % t;
    for (int a = 0; a < t; a++) {
        const int shard = (int)((line + (int64_t)slope * a) % q);
        cog_plan_term(plan, w, shard * t + a, hadamard(h, a) / sqrt(t));
    }
}

/* ----------------------------------------------------------------------------- table */

static cog_status read_keys(cog_code *code, cog_spec *spec) {
    static const char *const families[] = {"ring", "kron", "net", NULL};
    static const char *const decoders[] = {"transpose", "least-squares", "memory", NULL};
    const int n = code->plan.n_workers;
    int which_family, which_decoder;
    int64_t t, slopes, wait;
    COG_TRY(cog_spec_choice(spec, "family", families, &which_family));
    COG_TRY(cog_spec_int(spec, "weight", 2, 2, 1 << 16, &t));
    COG_TRY(cog_spec_choice(spec, "decoder", decoders, &which_decoder));
    COG_TRY(cog_spec_int(spec, "wait", n, 1, n, &wait));
    COG_TRY(cog_spec_int(spec, "slopes", 2, 2, 1 << 10, &slopes));
    *(state *)code->state = (state){.family = (family)which_family,
                                    .decoder = (decoder)which_decoder,
                                    .t = (int32_t)t,
                                    .slopes = (int32_t)slopes};
    code->wait_for = (int32_t)wait;
    code->late = which_decoder == LEAST_SQUARES ? COG_LATE_DROP : COG_LATE_APPLY;
    code->keeps_messages = which_decoder == MEMORY;
    return COG_OK;
}

static cog_status build(cog_code *code, cog_spec *spec) {
    static void (*const write_row[])(cog_plan *, const state *,
                                     int) = {[RING] = ring_row, [KRON] = kron_row, [NET] = net_row};
    const int n = code->plan.n_workers;
    state *s = code->state = calloc(1, sizeof(*s));
    COG_CHECK(s != NULL, COG_ERR_MEMORY, "no memory for a code");
    COG_TRY(read_keys(code, spec));
    COG_TRY(check_shape(s, n));
    s->q = n / (s->slopes * s->t);
    COG_TRY(cog_plan_begin(&code->plan, n, n, s->q, s->t, (int64_t)n * s->t));
    for (int w = 0; w < n; w++) {
        cog_plan_message(&code->plan, w, w);
        write_row[s->family](&code->plan, s, w);
    }
    return COG_OK;
}

static void add_codeword(const cog_plan *plan, int message, double scale, cog_decoding *out) {
    for (int t = plan->row[message]; t < plan->row[message + 1]; t++)
        cog_decoding_add(out, plan->part[t] % plan->n_blocks, message, scale * plan->coef[t]);
}

static cog_status decode(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out) {
    const state *s = code->state;
    if (s->decoder == LEAST_SQUARES) return cog_decode_least_squares(code, arrivals, INFINITY, out);

    const bool remembers = s->decoder == MEMORY;
    const uint8_t *use = remembers && arrivals->held ? arrivals->held : arrivals->arrived;
    const double k = (double)s->t * s->q;
    const double scale = k / (remembers ? code->plan.n_messages : arrivals->n_arrived);
    COG_CHECK(arrivals->n_arrived > 0, COG_ERR_UNDECODABLE, "none of %d workers answered",
              code->plan.n_workers);
    for (int m = 0; m < code->plan.n_messages; m++)
        if (use[m]) add_codeword(&code->plan, m, scale, out);
    return COG_OK;
}

static double error_bound(const cog_code *code, int n_answers) {
    const state *s = code->state;
    if (s->decoder != TRANSPOSE) return n_answers == code->plan.n_workers ? 0 : NAN;
    return cog_sampling_error(code->plan.n_workers, (double)s->t * s->q, n_answers);
}

const cog_code_ops cog_code_lwpd = {
    .name = "lwpd",
    .summary = "projective derivative code: short messages, any number of answers, decoding free",
    .role = COG_ROLE_STAR,
    .build = build,
    .ready = cog_ready_when_enough,
    .decode = decode,
    .error_bound = error_bound,
};
