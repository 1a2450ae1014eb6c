/* crc.c - cyclic repetition code (Tandon, Lei, Dimakis, Karampatziakis, ICML 2017).
 *
 * Worker w holds shards w .. w+s (mod n). Coefficients are such that every n-s rows span the
 * all-ones vector: with H [s, n] random and its rows summing to zero, row w is the vector
 * supported on w..w+s, with 1 at shard w, that H maps to zero. All rows then lie in the null
 * space of H, which has dimension n-s and holds the all-ones vector.
 *
 * Exact for any s stragglers and any n > s, at a price fractional repetition does not have: the
 * decoding weights are large and amplify every error of the messages, rounding included
 * (cog_code_amplification). How much is a matter of H, of which only this is asked: any s columns
 * are independent, and its rows sum to zero.
 *   random    normal entries, as published; the best of several draws
 *   fourier   rows cos and sin(2 pi f i/n) at the s consecutive frequencies around n/2, the parity
 *             matrix of a cyclic maximum-distance code (Raviv, Tamo, Tandon, Dimakis, IEEE
 *             Trans. Inf. Theory 2020). They come in conjugate pairs, so the matrix is real, when
 *             n - s is odd.
 * Amplification, worst set, n = 12: s = 3: fourier 93; random, medians over seeds, 1e6 for one
 * draw, 4e4 for the best of 32, 1e4 for the best of 500. s = 1: fourier 1, random 24 for the best
 * of 32.
 *
 *   stragglers   s, tolerated slow workers
 *   parity       auto (fourier where it exists) | fourier | random
 *   attempts     random draws to choose from       seed    of the draws */
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>

#include "../check.h"
#include "../code.h"
#include "../rng.h"

typedef enum parity { AUTO, FOURIER, RANDOM } parity;

typedef struct state {
    uint64_t seed;
    int32_t n_stragglers;
    parity parity;
} state;

/* H column-major [s, n], rows summing to zero. */
static void fourier_parity(int s, int n, double *h) {
    for (int r = 0; r < s; r++) {
        /* n even: n/2 alone, then pairs n/2 - 1, n/2 - 2 ...; n odd: pairs (n-1)/2, (n-3)/2 ... */
        const int pair = n % 2 == 0 ? (r + 1) / 2 : r / 2;
        const bool is_sine = r % 2 == (n % 2 == 0 ? 0 : 1) && !(n % 2 == 0 && r == 0);
        const int64_t frequency = n / 2 - pair;
        for (int c = 0; c < n; c++) {
            const double angle = 2 * M_PI * (double)(frequency * c % n) / n;
            h[c * s + r] = is_sine ? sin(angle) : cos(angle);
        }
    }
}

static void random_parity(uint64_t seed, uint32_t attempt, int s, int n, double *h) {
    cog_rng rng = cog_rng_make(seed, COG_STREAM_CODE, attempt, 0);
    for (int r = 0; r < s; r++) {
        double sum = 0;
        for (int c = 0; c < n - 1; c++) sum += h[c * s + r] = cog_rng_normal(&rng);
        h[(n - 1) * s + r] = -sum;
    }
}

/* Coefficients of worker w behind the leading 1: H(:, w+1..w+s) x = -H(:, w). */
static cog_status solve_row(const double *h, int s, int n, int w, double *matrix, lapack_int *pivot,
                            double *x) {
    for (int i = 0; i < s; i++)
        for (int r = 0; r < s; r++) matrix[i * s + r] = h[(w + 1 + i) % n * s + r];
    for (int r = 0; r < s; r++) x[r] = -h[w * s + r];
    const lapack_int info = LAPACKE_dgesv_work(LAPACK_COL_MAJOR, s, 1, matrix, s, pivot, x, s);
    COG_CHECK(info == 0, COG_ERR_UNDECODABLE, "the parity matrix of worker %d is singular", w);
    return COG_OK;
}

static cog_status solve_rows(cog_code *code, const double *h, double *matrix, lapack_int *pivot) {
    const int n = code->plan.n_workers, s = ((state *)code->state)->n_stragglers;
    double *coef = (double *)code->plan.coef;
    for (int w = 0; w < n; w++) {
        double *row = coef + code->plan.row[w];
        row[0] = 1;
        if (s > 0) COG_TRY(solve_row(h, s, n, w, matrix, pivot, row + 1));
    }
    return COG_OK;
}

static cog_status draw(cog_code *code, uint32_t attempt) {
    const state *st = code->state;
    const int n = code->plan.n_workers, s = st->n_stragglers;
    double *h = malloc(((size_t)s * (size_t)(n + s) + 1) * sizeof(double));
    lapack_int *pivot = malloc(((size_t)s + 1) * sizeof(lapack_int));
    cog_status status = COG_ERR_MEMORY;
    if (h != NULL && pivot != NULL) {
        if (st->parity == FOURIER)
            fourier_parity(s, n, h);
        else
            random_parity(st->seed, attempt, s, n, h);
        status = solve_rows(code, h, h + (size_t)s * (size_t)n, pivot);
    } else
        cog_set_error(status, "no memory for the parity matrix of %d workers", n);
    free(h);
    free(pivot);
    return status;
}

static cog_status read_keys(cog_code *code, cog_spec *spec, int *attempts) {
    static const char *const parities[] = {"auto", "fourier", "random", NULL};
    const int n = code->plan.n_workers;
    int64_t s, seed, draws;
    int which;
    COG_TRY(cog_spec_int(spec, "stragglers", 1, 0, n - 1, &s));
    COG_TRY(cog_spec_choice(spec, "parity", parities, &which));
    COG_TRY(cog_spec_int(spec, "attempts", 32, 1, 100000, &draws));
    COG_TRY(cog_spec_int(spec, "seed", 1, 0, INT32_MAX, &seed));
    const bool has_fourier = (n - s) % 2 == 1;
    COG_CHECK(which != FOURIER || has_fourier, COG_ERR_ARGUMENT,
              "parity=fourier is for an odd workers - stragglers, not %d - %lld", n, (long long)s);
    state *st = code->state = calloc(1, sizeof(*st));
    COG_CHECK(st != NULL, COG_ERR_MEMORY, "no memory for a code");
    *st = (state){.seed = (uint64_t)seed,
                  .n_stragglers = (int32_t)s,
                  .parity = which != RANDOM && has_fourier ? FOURIER : RANDOM};
    code->wait_for = n - st->n_stragglers;
    *attempts = st->parity == FOURIER ? 1 : (int)draws;
    return COG_OK;
}

static cog_status build(cog_code *code, cog_spec *spec) {
    const int n = code->plan.n_workers;
    int attempts = 0;
    COG_TRY(read_keys(code, spec, &attempts));
    const int s = ((state *)code->state)->n_stragglers;
    COG_TRY(cog_plan_begin(&code->plan, n, n, n, 1, (int64_t)n * (s + 1)));
    for (int w = 0; w < n; w++) {
        cog_plan_message(&code->plan, w, w);
        for (int i = 0; i <= s; i++) cog_plan_term(&code->plan, w, (w + i) % n, 0.0);
    }
    return cog_plan_keep_best(code, attempts, draw);
}

static cog_status decode(const cog_code *code, const cog_arrivals *arrivals, cog_decoding *out) {
    return cog_decode_least_squares(code, arrivals, COG_EXACT_TOLERANCE, out);
}

static double error_bound(const cog_code *code, int n_answers) {
    return n_answers >= code->wait_for ? 0 : NAN;
}

const cog_code_ops cog_code_crc = {
    .name = "crc",
    .summary = "cyclic repetition: exact while s workers straggle, any n; amplifies noise",
    .role = COG_ROLE_STAR,
    .build = build,
    .ready = cog_ready_when_enough,
    .decode = decode,
    .error_bound = error_bound,
};
