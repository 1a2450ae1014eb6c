/* stochastic.c - stochastic gradient coding, with the allocations of COCO-EF (Li, Xiao, Skoglund
 * 2026).
 *
 * Shard k is on d_k of the n workers, and each worker straggles with probability p. Worker i sends
 *     g_i = sum over its shards of grad f_k / (d_k (1-p))
 * and the decoder adds up what arrives: E sum = grad F, whoever holds what. No copy is ever
 * recognised as one, so the gradient is never exact by luck; all answers together give it 1/(1-p)
 * times. A worker that holds no shard sends zeros.
 *
 *   random     each shard on `copies` workers, uniformly
 *   balanced   any two shards share exactly d_k d_l / n workers, which makes the energy of the
 *              messages sum ||g_i||^2 that of the expectation over random allocations. Shard k
 *              is on the workers where row k of a Hadamard matrix of order n has +1, so
 *              d_k = n/2; row 0, everywhere +1, serves shard n-1 when there are that many. A
 *              coin for each row turns its signs around, which changes no intersection and evens
 *              out the loads. (Ours.)
 *
 * Hadamard matrices: order q+1 for q = 3 mod 4 and 2(q+1) for q = 1 mod 4, q a prime power (Paley
 * 1933), and the double of any order (Sylvester).
 *
 *   copies   d, of each shard            shards       k
 *   straggle p                           allocation   random | balanced
 *   wait     answers to wait for         seed         of the allocation */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../check.h"
#include "../code.h"
#include "../rng.h"
#include "field.h"

typedef struct state {
    double straggle;
    int32_t *worker; /* [first[n_shards]] who holds a shard, shard by shard */
    int32_t *first;  /* [n_shards + 1] */
} state;

static void destroy(cog_code *code) {
    state *s = code->state;
    if (s != NULL) {
        free(s->worker);
        free(s->first);
    }
    free(s);
}

/* ------------------------------------------------------------------ Hadamard matrices */

/* A matrix of order 2^doublings * base. */
typedef struct hadamard {
    int32_t n, base;
    int32_t q; /* base = q + 1 or 2 (q + 1); 0: base = 1 */
    cog_field field;
    int8_t *character; /* [q] 0, or 1 for squares and -1 for others */
} hadamard;

/* The base that n is a power of two of; false when none is known. */
static bool find_base(int32_t n, hadamard *out, int32_t *p, int32_t *e) {
    *out = (hadamard){.n = n, .base = n};
    for (;; out->base /= 2) {
        out->q = 0;
        if (out->base == 1) return true;
        out->q = out->base - 1;
        if (out->q % 4 == 3 && cog_is_prime_power(out->q, p, e)) return true;
        out->q = out->base / 2 - 1;
        if (out->base % 2 == 0 && out->q % 4 == 1 && cog_is_prime_power(out->q, p, e)) return true;
        if (out->base % 2 != 0) return false;
    }
}

static cog_status hadamard_open(int32_t n, hadamard *out) {
    int32_t p = 0, e = 0;
    if (!find_base(n, out, &p, &e)) {
        int32_t next = n;
        hadamard larger;
        while (!find_base(next, &larger, &p, &e)) next++;
        COG_FAIL(COG_ERR_ARGUMENT,
                 "allocation=balanced has no Hadamard matrix of %d workers; the next is of %d", n,
                 next);
    }
    if (out->q == 0) return COG_OK;
    COG_TRY(cog_field_open(p, e, &out->field));
    out->character = malloc((size_t)out->q);
    COG_CHECK(out->character != NULL, COG_ERR_MEMORY, "no memory for a Hadamard matrix");
    memset(out->character, 0, (size_t)out->q);
    for (int32_t i = 0; i < out->q - 1; i++)
        out->character[out->field.power[i]] = i % 2 == 0 ? 1 : -1;
    return COG_OK;
}

static void hadamard_close(hadamard *h) {
    cog_field_close(&h->field);
    free(h->character);
}

/* Conference matrix of order q + 1: zero diagonal, symmetric for q = 1 mod 4, else skew. */
static int conference(const hadamard *h, int32_t i, int32_t j) {
    if (i == j) return 0;
    if (i == 0) return 1;
    if (j == 0) return h->q % 4 == 1 ? 1 : -1;
    return h->character[cog_field_subtract(&h->field, i - 1, j - 1)];
}

static int base_entry(const hadamard *h, int32_t i, int32_t j) {
    if (h->q == 0) return 1;
    if (h->base == h->q + 1) return conference(h, i, j) + (i == j);
    static const int outer[2][2] = {{1, 1}, {1, -1}}, diagonal[2][2] = {{1, -1}, {-1, -1}};
    return conference(h, i / 2, j / 2) * outer[i % 2][j % 2] +
           (i / 2 == j / 2) * diagonal[i % 2][j % 2];
}

static int entry(const hadamard *h, int32_t i, int32_t j) {
    const int sylvester = __builtin_popcount((unsigned)(i / h->base & j / h->base)) % 2;
    return (sylvester ? -1 : 1) * base_entry(h, i % h->base, j % h->base);
}

/* ------------------------------------------------------------------------ allocations */

static void allocate_randomly(const state *s, int n, int n_shards, int copies, cog_rng *rng,
                              int32_t *deck) {
    for (int w = 0; w < n; w++) deck[w] = w;
    for (int k = 0; k < n_shards; k++) {
        for (int i = 0; i < copies; i++) {
            const uint32_t pick = (uint32_t)i + cog_rng_below(rng, (uint32_t)(n - i));
            const int32_t worker = deck[pick];
            deck[pick] = deck[i];
            deck[i] = s->worker[(size_t)k * (size_t)copies + (size_t)i] = worker;
        }
        s->first[k + 1] = s->first[k] + copies;
    }
}

/* Columns are turned so that row 0 is all +1. */
static void allocate_balanced(const state *s, const hadamard *h, int n_shards, cog_rng *rng) {
    for (int k = 0; k < n_shards; k++) {
        const int32_t row = k + 1 < h->n ? k + 1 : 0;
        const int wanted = row > 0 && cog_rng_below(rng, 2) == 0 ? -1 : 1;
        s->first[k + 1] = s->first[k];
        for (int w = 0; w < h->n; w++)
            if (entry(h, row, w) * entry(h, 0, w) == wanted) s->worker[s->first[k + 1]++] = w;
    }
}

static cog_status allocate(cog_code *code, bool balanced, int n_shards, int copies, uint64_t seed) {
    state *s = code->state;
    const int n = code->plan.n_workers;
    const int64_t most = (int64_t)n_shards * (balanced ? n : copies);
    COG_CHECK(most + n < INT32_MAX, COG_ERR_ARGUMENT, "%lld copies of shards are too many",
              (long long)most);
    cog_rng rng = cog_rng_make(seed, COG_STREAM_CODE, 0, 4);
    s->worker = malloc(((size_t)most + (size_t)n) * sizeof(int32_t));
    s->first = calloc((size_t)n_shards + 1, sizeof(int32_t));
    COG_CHECK(s->worker != NULL && s->first != NULL, COG_ERR_MEMORY,
              "no memory for %d shards of %d workers", n_shards, n);
    if (!balanced) {
        allocate_randomly(s, n, n_shards, copies, &rng, s->worker + most);
        return COG_OK;
    }
    hadamard h = {0};
    const cog_status status = hadamard_open(n, &h);
    if (status == COG_OK) allocate_balanced(s, &h, n_shards, &rng);
    hadamard_close(&h);
    return status;
}

/* ----------------------------------------------------------------------------- build */

/* The shards of each worker in order: a counting sort of the copies by worker. */
static cog_status lay_out(cog_code *code, int n_shards) {
    const state *s = code->state;
    const int n = code->plan.n_workers, n_copies = s->first[n_shards];
    int32_t *begin = calloc((size_t)n + 2, sizeof(int32_t));
    int32_t *shard = malloc(((size_t)n_copies + 1) * sizeof(int32_t));
    cog_status status = COG_ERR_MEMORY;
    if (begin != NULL && shard != NULL) {
        for (int i = 0; i < n_copies; i++) begin[s->worker[i] + 2]++;
        for (int w = 0; w < n; w++) begin[w + 2] += begin[w + 1];
        for (int k = 0; k < n_shards; k++)
            for (int i = s->first[k]; i < s->first[k + 1]; i++)
                shard[begin[s->worker[i] + 1]++] = k;
        status = cog_plan_begin(&code->plan, n, n, n_shards, 1, (int64_t)n_copies + n);
    } else
        cog_set_error(status, "no memory for %d copies of shards", n_copies);
    for (int w = 0; w < n && status == COG_OK; w++) {
        cog_plan_message(&code->plan, w, w);
        for (int i = begin[w]; i < begin[w + 1]; i++) {
            const int k = shard[i], copies = s->first[k + 1] - s->first[k];
            cog_plan_term(&code->plan, w, k, 1 / (copies * (1 - s->straggle)));
        }
        if (begin[w] == begin[w + 1]) cog_plan_term(&code->plan, w, w % n_shards, 0);
    }
    free(begin);
    free(shard);
    return status;
}

static cog_status build(cog_code *code, cog_spec *spec) {
    static const char *const allocations[] = {"random", "balanced", NULL};
    const int n = code->plan.n_workers;
    state *s = code->state = calloc(1, sizeof(*s));
    COG_CHECK(s != NULL, COG_ERR_MEMORY, "no memory for a code");
    int which;
    int64_t copies, shards, wait, seed;
    COG_TRY(cog_spec_choice(spec, "allocation", allocations, &which));
    const bool balanced = which == 1;
    COG_TRY(cog_spec_int(spec, "copies", balanced ? (n + 1) / 2 : n < 2 ? 1 : 2, 1, n, &copies));
    COG_TRY(cog_spec_int(spec, "shards", balanced && n > 1 ? n - 1 : n, 1, 1 << 24, &shards));
    COG_TRY(cog_spec_real(spec, "straggle", 0, 0, 0.99, &s->straggle));
    COG_TRY(cog_spec_int(spec, "wait", n, 1, n, &wait));
    COG_TRY(cog_spec_int(spec, "seed", 1, 0, INT32_MAX, &seed));
    COG_CHECK(!balanced || n % 2 == 0, COG_ERR_ARGUMENT,
              "allocation=balanced puts every shard on half of the workers; there are %d, which is "
              "odd",
              n);
    COG_CHECK(!balanced || (2 * copies == n && shards <= n), COG_ERR_ARGUMENT,
              "allocation=balanced is for 1..%d shards on %d of %d workers, not %lld on %lld", n,
              n / 2, n, (long long)shards, (long long)copies);
    code->wait_for = (int32_t)wait;
    COG_TRY(allocate(code, balanced, (int)shards, (int)copies, (uint64_t)seed));
    return lay_out(code, (int)shards);
}

/* -------------------------------------------------------------------------- decoding */

static cog_status decode(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out) {
    for (int m = 0; m < code->plan.n_messages; m++)
        if (cog_is_current(arrivals, m)) cog_decoding_add(out, 0, m, 1.0);
    COG_CHECK(out->count > 0, COG_ERR_UNDECODABLE, "none of %d workers answered",
              code->plan.n_workers);
    return COG_OK;
}

/* The rows c_i add up to 1/(1-p) everywhere. K of n of them without replacement have the mean K/n
 * of that, and the spread of a sample: K (n-K) / (n (n-1)) (sum ||c_i||^2 - ||sum c_i||^2 / n). */
static double error_bound(const cog_code *code, int n_answers) {
    const state *s = code->state;
    const double n = code->plan.n_workers, k = code->plan.n_shards, K = n_answers;
    const double scale = 1 / (1 - s->straggle);
    double energy = 0;
    for (int shard = 0; shard < code->plan.n_shards; shard++)
        energy += scale * scale / (s->first[shard + 1] - s->first[shard]);
    const double spread =
        n > 1 ? K * (n - K) / (n * (n - 1)) * (energy - k * scale * scale / n) : 0;
    return pow(K / n * scale - 1, 2) + spread / k;
}

const cog_code_ops cog_code_stochastic = {
    .name = "stochastic",
    .summary =
        "copies of shards at random; answers are added up, unbiased for stragglers at random",
    .role = COG_ROLE_STAR,
    .build = build,
    .destroy = destroy,
    .ready = cog_ready_when_enough,
    .decode = decode,
    .error_bound = error_bound,
};
