/* acgc_structures.c - assignments of shards to workers for approximate gradient codes.
 *
 *   coset       n = m k. Worker x holds the shards x, x-1 .. x-delta+1 (mod k): m circulants side
 *               by side. For delta prime to k they are invertible.
 *   bibd        balanced design, any two workers share lambda shards:
 *     singer      n = (q^(d+1) - 1)/(q - 1) workers, as many shards: points and hyperplanes of
 *                 PG(d, q), q a prime power; d = 2 gives lambda = 1. Worker x holds x + D, D the
 *                 exponents below n at which the trace of the field of q^(d+1) elements to that of
 *                 q vanishes (Singer 1938).
 *     residues    n = 3 mod 4 prime: D the quadratic residues, (n-1)/2 of them (Paley)
 *     pairs       any n: a shard for every two workers, which both hold it
 *   srg         strongly regular graph, worker = vertex = shard, a worker holds its neighbours:
 *     rook        n = v^2: same row or column of a square
 *     paley       n = 1 mod 4 a prime power: the difference is a square
 *     triangular, kneser   n = v(v-1)/2, pairs of v: sharing an element, or none
 *     parts       n = a b: everybody outside one's own part of b workers
 *   biregular   any n, k with k dividing n delta: start from runs of delta neighbours and swap the
 *               shards of random pairs of workers, which keeps both degrees
 *
 * Where several exist the degree chooses, the first of this list without one. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../check.h"
#include "../rng.h"
#include "acgc.h"
#include "field.h"

/* Swaps for each shard of a worker: far beyond what it takes to forget the start. */
static const int64_t n_swaps_each = 20;
enum { MAX_TABLE = 4096 }; /* workers of a graph or of pairs, whose tables grow with n^2 */

/* A member of a structure for some n. */
typedef struct member {
    int32_t degree, n_shards, lambda, mu;
    cog_status (*fill)(const struct member *member, cog_assignment *out);
    int32_t p, e, d; /* a field of p^e elements, a space of d dimensions over it */
    int32_t v;       /* side of the square; size of a part */
} member;

/* --------------------------------------------------------------------------- tools */

static int32_t gcd(int32_t a, int32_t b) { return b == 0 ? a : gcd(b, a % b); }

static int ascending(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static cog_status allocate(cog_assignment *out) {
    out->shard = calloc((size_t)out->n_workers * (size_t)out->degree, sizeof(int32_t));
    COG_CHECK(out->shard != NULL, COG_ERR_MEMORY, "no memory for %d shards of each of %d workers",
              out->degree, out->n_workers);
    return COG_OK;
}

static int32_t *row(const cog_assignment *a, int worker) {
    return a->shard + (size_t)worker * (size_t)a->degree;
}

static void sort_rows(const cog_assignment *a) {
    for (int w = 0; w < a->n_workers; w++)
        qsort(row(a, w), (size_t)a->degree, sizeof(int32_t), ascending);
}

/* Worker x holds the shards x + offset (mod n_shards). */
static void shift_row(const cog_assignment *a, const int32_t *offset) {
    for (int w = 0; w < a->n_workers; w++)
        for (int i = 0; i < a->degree; i++) row(a, w)[i] = (w + offset[i]) % a->n_shards;
}

/* ---------------------------------------------------------------- difference sets */

static int32_t trace(const cog_field *f, int64_t exponent, int64_t q, int d) {
    int32_t sum = 0;
    for (int i = 0; i <= d; i++, exponent = exponent * q % (f->size - 1))
        sum = cog_field_add(f, sum, f->power[exponent]);
    return sum;
}

static cog_status fill_singer(const member *m, cog_assignment *out) {
    cog_field field;
    COG_TRY(cog_field_open(m->p, m->e * (m->d + 1), &field));
    int64_t q = 1;
    for (int i = 0; i < m->e; i++) q *= m->p;
    int32_t *offset = calloc((size_t)out->degree, sizeof(int32_t)), n = 0;
    if (offset != NULL) {
        for (int i = 0; i < out->n_workers && n < out->degree; i++)
            if (trace(&field, i, q, m->d) == 0) offset[n++] = i;
        shift_row(out, offset);
    }
    cog_field_close(&field);
    free(offset);
    COG_CHECK(offset != NULL, COG_ERR_MEMORY, "no memory for a difference set of %d", out->degree);
    return COG_OK;
}

/* A square comes up twice, as v^2 and (-v)^2. */
static cog_status fill_residues(const member *m, cog_assignment *out) {
    (void)m;
    const int n = out->n_workers;
    for (int64_t v = 1; v <= out->degree; v++) row(out, 0)[v - 1] = (int32_t)(v * v % n);
    for (int w = n - 1; w >= 0; w--)
        for (int i = 0; i < out->degree; i++) row(out, w)[i] = (w + row(out, 0)[i]) % n;
    return COG_OK;
}

/* The shard of workers a < b has number b(b-1)/2 + a. */
static cog_status fill_pairs(const member *m, cog_assignment *out) {
    (void)m;
    for (int w = 0; w < out->n_workers; w++)
        for (int i = 0; i < out->degree; i++) {
            const int other = i < w ? i : i + 1, high = other > w ? other : w;
            row(out, w)[i] = high * (high - 1) / 2 + (other < w ? other : w);
        }
    return COG_OK;
}

/* Points and hyperplanes of PG(d, q) when they number n. */
static bool is_projective(int32_t n, int32_t q, int32_t d, member *out) {
    int64_t points = 1, hyperplane = 0, inner = 0, size = q;
    for (int i = 0; i < d && points <= n; i++, size *= q) {
        inner = hyperplane;
        hyperplane = points;
        points = points * q + 1;
    }
    if (points != n || size > 1 << 16) return false;
    *out = (member){.degree = (int32_t)hyperplane,
                    .n_shards = n,
                    .lambda = (int32_t)inner,
                    .fill = fill_singer,
                    .d = d};
    return cog_is_prime_power(q, &out->p, &out->e);
}

/* The design of rank `which`, if there are that many. */
static bool bibd(int32_t n, int which, member *out) {
    int32_t p, e;
    for (int32_t d = 2; d < 16; d++)
        for (int32_t q = 2; q <= 256 && (int64_t)q * q < n; q++)
            if (is_projective(n, q, d, out) && which-- == 0) return true;
    if (n % 4 == 3 && n > 3 && cog_is_prime_power(n, &p, &e) && e == 1 && which-- == 0) {
        *out = (member){
            .degree = (n - 1) / 2, .n_shards = n, .lambda = (n - 3) / 4, .fill = fill_residues};
        return true;
    }
    if (n < 3 || n > MAX_TABLE) return false;
    *out = (member){.degree = n - 1, .n_shards = n * (n - 1) / 2, .lambda = 1, .fill = fill_pairs};
    return which == 0;
}

/* -------------------------------------------------------- strongly regular graphs */

/* Whoever is_neighbour of each vertex. */
static cog_status fill_graph(const member *m, cog_assignment *out,
                             bool (*is_neighbour)(const member *m, int a, int b)) {
    for (int a = 0; a < out->n_workers; a++)
        for (int b = 0, n = 0; b < out->n_workers && n < out->degree; b++)
            if (a != b && is_neighbour(m, a, b)) row(out, a)[n++] = b;
    return COG_OK;
}

static bool rook_move(const member *m, int a, int b) {
    return a / m->v == b / m->v || a % m->v == b % m->v;
}
static cog_status fill_rook(const member *m, cog_assignment *out) {
    return fill_graph(m, out, rook_move);
}

/* Squares are the even powers; -1 is one of them when n = 1 mod 4, so the graph has no direction.
 */
static cog_status fill_paley(const member *m, cog_assignment *out) {
    cog_field field;
    COG_TRY(cog_field_open(m->p, m->e, &field));
    for (int a = 0; a < out->n_workers; a++)
        for (int i = 0; i < out->degree; i++)
            row(out, a)[i] = cog_field_add(&field, a, field.power[2 * i]);
    cog_field_close(&field);
    return COG_OK;
}

/* Vertex a is the pair {low < high} with number high(high-1)/2 + low. */
static bool share_element(int a, int b) {
    int high_a = 1, high_b = 1;
    while ((high_a + 1) * high_a / 2 <= a) high_a++;
    while ((high_b + 1) * high_b / 2 <= b) high_b++;
    const int low_a = a - high_a * (high_a - 1) / 2, low_b = b - high_b * (high_b - 1) / 2;
    return low_a == low_b || low_a == high_b || high_a == low_b || high_a == high_b;
}
static bool triangular(const member *m, int a, int b) { return (void)m, share_element(a, b); }
static bool kneser(const member *m, int a, int b) { return (void)m, !share_element(a, b); }
static cog_status fill_triangular(const member *m, cog_assignment *out) {
    return fill_graph(m, out, triangular);
}
static cog_status fill_kneser(const member *m, cog_assignment *out) {
    return fill_graph(m, out, kneser);
}

static bool other_part(const member *m, int a, int b) { return a / m->v != b / m->v; }
static cog_status fill_parts(const member *m, cog_assignment *out) {
    return fill_graph(m, out, other_part);
}

static int32_t choose_2(int32_t v) { return v * (v - 1) / 2; }

/* The graph of rank `which`, if there are that many. */
static bool srg(int32_t n, int which, member *out) {
    int32_t p = 0, e = 0, v = 2;
    if (n > MAX_TABLE) return false;
    while (v * v < n) v++;
    *out = (member){2 * (v - 1), n, v - 2, 2, fill_rook, 0, 0, 0, v};
    if (v * v == n && which-- == 0) return true;
    const bool has_squares = n % 4 == 1 && cog_is_prime_power(n, &p, &e);
    *out = (member){(n - 1) / 2, n, (n - 5) / 4, (n - 1) / 4, fill_paley, p, e, 0, 0};
    if (has_squares && which-- == 0) return true;
    while (choose_2(v) < n) v++;
    *out = (member){2 * (v - 2), n, v - 2, 4, fill_triangular, 0, 0, 0, v};
    if (v >= 4 && choose_2(v) == n && which-- == 0) return true;
    *out = (member){choose_2(v - 2), n, choose_2(v - 4), choose_2(v - 3), fill_kneser, 0, 0, 0, v};
    if (v >= 5 && choose_2(v) == n && which-- == 0) return true;
    for (int32_t part = n / 2; part >= 2; part--) {
        *out = (member){n - part, n, n - 2 * part, n - part, fill_parts, 0, 0, 0, part};
        if (n % part == 0 && which-- == 0) return true;
    }
    return false;
}

/* ------------------------------------------------------------------- families of one */

static cog_status assign_coset(cog_assignment *a, int n_blocks) {
    const int32_t n = a->n_workers, k = n / n_blocks;
    COG_CHECK(n % n_blocks == 0, COG_ERR_ARGUMENT,
              "structure=coset needs blocks = %d to divide %d workers; structure=biregular does "
              "not, and bibd has blocks of its own",
              n_blocks, n);
    COG_CHECK(a->n_shards == 0 || a->n_shards == k, COG_ERR_ARGUMENT,
              "structure=coset of %d workers and %d blocks has %d shards, not %d", n, n_blocks, k,
              a->n_shards);
    COG_CHECK(a->degree <= k, COG_ERR_ARGUMENT, "degree = %d exceeds the %d shards of %d workers",
              a->degree, k, n);
    a->n_shards = k;
    if (a->degree == 0)
        for (a->degree = k > 3 ? 3 : k > 1 ? k - 1 : 1; gcd(a->degree, k) != 1;) a->degree++;
    COG_TRY(allocate(a));
    for (int w = 0; w < n; w++)
        for (int i = 0; i < a->degree; i++) row(a, w)[i] = (w - i % k + k) % k;
    sort_rows(a);
    return COG_OK;
}

static bool holds(const cog_assignment *a, int worker, int32_t shard) {
    for (int i = 0; i < a->degree; i++)
        if (row(a, worker)[i] == shard) return true;
    return false;
}

static void swap_at_random(const cog_assignment *a, uint64_t seed) {
    cog_rng rng = cog_rng_make(seed, COG_STREAM_CODE, 0, 2);
    const uint32_t n = (uint32_t)a->n_workers, degree = (uint32_t)a->degree;
    for (int64_t i = 0; i < n_swaps_each * a->n_workers * a->degree; i++) {
        const int x = (int)cog_rng_below(&rng, n), y = (int)cog_rng_below(&rng, n);
        int32_t *of_x = row(a, x) + cog_rng_below(&rng, degree);
        int32_t *of_y = row(a, y) + cog_rng_below(&rng, degree);
        if (holds(a, x, *of_y) || holds(a, y, *of_x)) continue;
        const int32_t swap = *of_x;
        *of_x = *of_y;
        *of_y = swap;
    }
}

static cog_status assign_biregular(cog_assignment *a, int n_blocks, uint64_t seed) {
    const int32_t n = a->n_workers;
    if (a->n_shards == 0) a->n_shards = n % n_blocks == 0 ? n / n_blocks : n;
    const int32_t k = a->n_shards;
    if (a->degree == 0) a->degree = k < 3 ? k : 3;
    COG_CHECK(a->degree <= k, COG_ERR_ARGUMENT, "degree = %d exceeds the %d shards", a->degree, k);
    COG_CHECK((int64_t)n * a->degree % k == 0, COG_ERR_ARGUMENT,
              "structure=biregular needs shards = %d to divide workers x degree = %d x %d = %lld",
              k, n, a->degree, (long long)n * a->degree);
    COG_TRY(allocate(a));
    for (int w = 0; w < n; w++)
        for (int i = 0; i < a->degree; i++)
            row(a, w)[i] = (int32_t)(((int64_t)w * a->degree + i) % k);
    swap_at_random(a, seed);
    sort_rows(a);
    return COG_OK;
}

/* ------------------------------------------------------------- families of several */

/* What there is for this number of workers: "has degree 3 (7 shards), 6 (21 shards), not 4". */
static cog_status refuse(const cog_assignment *a, const char *name,
                         bool (*find)(int32_t n, int which, member *out)) {
    char known[160] = "", asked[64];
    size_t length = 0;
    member m, last = {0};
    for (int i = 0; find(a->n_workers, i, &m) && length + 40 < sizeof(known); last = m, i++)
        if (m.degree != last.degree || m.n_shards != last.n_shards)
            length += (size_t)snprintf(known + length, sizeof(known) - length, "%s%d (%d shards)",
                                       length > 0 ? ", " : "", m.degree, m.n_shards);
    COG_CHECK(length > 0, COG_ERR_ARGUMENT, "no structure=%s is known for %d workers", name,
              a->n_workers);
    snprintf(asked, sizeof(asked), a->degree == 0 ? "%d shards" : "%d",
             a->degree == 0 ? a->n_shards : a->degree);
    COG_FAIL(COG_ERR_ARGUMENT, "structure=%s for %d workers has degree %s, not %s", name,
             a->n_workers, known, asked);
}

static cog_status assign_found(cog_assignment *a, const char *name,
                               bool (*find)(int32_t n, int which, member *out)) {
    member m;
    bool found = false;
    for (int i = 0; !found && find(a->n_workers, i, &m); i++)
        found = (a->degree == 0 || a->degree == m.degree) &&
                (a->n_shards == 0 || a->n_shards == m.n_shards);
    if (!found) return refuse(a, name, find);
    a->degree = m.degree;
    a->n_shards = m.n_shards;
    a->lambda = m.lambda;
    a->mu = m.mu;
    COG_TRY(allocate(a));
    COG_TRY(m.fill(&m, a));
    sort_rows(a);
    return COG_OK;
}

cog_status cog_assign(cog_assignment *assignment, int n_blocks, uint64_t seed) {
    switch (assignment->structure) {
    case COG_COSET: return assign_coset(assignment, n_blocks);
    case COG_BIBD: return assign_found(assignment, "bibd", bibd);
    case COG_SRG: return assign_found(assignment, "srg", srg);
    default: return assign_biregular(assignment, n_blocks, seed);
    }
}
