/* lwpd_table.c - what codes cost: operations of encoding and decoding, entries on the wire.
 *
 * The table of Soto, Ilmer, Guan and Li (2022) gives orders of growth; here everything is counted
 * from the plans and the solver's calls, for n workers:
 *
 *   encoding        multiplications and additions a round, over all workers, per entry of the
 *                   gradient, that exist only because of the code: an uncoded worker would not make
 *                   them. Made on the layers' deltas, before the product that makes the weight
 *                   gradient, they cost 1/inputs of that.
 *   communication   gradient lengths that the server waits for
 *   decoding        finding the weights: measured as time, the best of 30, because a solver's count
 *                   is what its library makes of it; the growth is fitted over the last doublings
 *                   of n
 *   applying        weights found, and with each a message scaled and added
 */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "study.h"

typedef struct family {
    const char *name, *spec; /* %d: workers to wait for, or stragglers */
    int stragglers;
    const char *published; /* encoding, communication, decoding, weight */
} family;

static const family families[] = {
    {"LPDC", "lwpd:weight=2,wait=%d", 2, "0, O(k/t), 0, t in [2, n/4]"},
    {"gradient coding", "crc:stragglers=%d,attempts=1", 2, "O(nk), O(k), O(k^w), t = n-k+1"},
    {"K-async", "kasync:k=%d", 2, "0, O(k), 0, t in [1, n]"},
};
enum { N_FAMILIES = sizeof(families) / sizeof(*families), N_SIZES = 5 };
static const int sizes[N_SIZES] = {8, 16, 32, 64, 128};

typedef struct cost {
    double encoding, communication, decoding_seconds, server;
    int weight;
} cost;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Every set of answers misses another run of neighbours, so that nothing can be remembered. */
static double decode_seconds(const cog_code *code, int n_missing, cog_decoding *out) {
    const cog_plan *plan = cog_code_plan(code);
    const int n = plan->n_messages;
    uint8_t *arrived = study_alloc((size_t)n, 1);
    double best = INFINITY;
    for (int trial = 0; trial < 30; trial++) {
        for (int m = 0; m < n; m++) arrived[m] = (m - 7 * trial % n + n) % n >= n_missing;
        const cog_arrivals a = {
            .n_messages = n, .n_arrived = n - n_missing, .arrived = arrived, .round = trial};
        out->count = 0;
        const double start = seconds();
        study_require(cog_code_decode(code, &a, out));
        best = fmin(best, seconds() - start);
    }
    free(arrived);
    return best;
}

static cost count(const family *f, int n) {
    char spec[96];
    const bool gradient_code = f == &families[1];
    snprintf(spec, sizeof(spec), f->spec, gradient_code ? f->stragglers : n - f->stragglers);
    cog_code *code;
    study_require(cog_code_create(spec, n, &code));
    const cog_plan *plan = cog_code_plan(code);
    cost c = {0};
    for (int m = 0; m < plan->n_messages; m++) {
        const int terms = plan->row[m + 1] - plan->row[m];
        double operations = terms - 1;
        for (int t = plan->row[m]; t < plan->row[m + 1]; t++) {
            /* one common factor of a message belongs to the step size */
            const double ratio = plan->coef[t] / plan->coef[plan->row[m]];
            operations += fabs(fabs(ratio) - 1) > 1e-12;
        }
        c.encoding += operations / plan->n_blocks;
        if (terms > c.weight) c.weight = terms;
    }
    c.communication = (double)(plan->n_messages - f->stragglers) / plan->n_blocks;
    cog_decoding out = {.capacity = cog_code_max_terms(code)};
    out.terms = study_alloc((size_t)out.capacity, sizeof(*out.terms));
    c.decoding_seconds = decode_seconds(code, f->stragglers, &out);
    c.server = (double)out.count / plan->n_blocks;
    free(out.terms);
    cog_code_destroy(code);
    return c;
}

/* Exponent of n over the last two doublings. */
static double growth(const double *y) { return log2(y[N_SIZES - 1] / y[N_SIZES - 3]) / 2; }

static void run(study *s) {
    double decoding[N_FAMILIES][N_SIZES], communication[N_FAMILIES][N_SIZES];
    FILE *csv = study_file(s, "table.csv");
    fputs("code,workers,weight,encoding,communication,decoding_seconds,server\n", csv);
    study_curves *curves = study_curves_make("workers", N_SIZES);
    for (int i = 0; i < N_SIZES; i++) curves->x[i] = sizes[i];
    printf("%-16s %8s %8s %10s %14s %14s %10s\n", "", "workers", "weight", "encoding",
           "communication", "decoding (us)", "applying");
    for (int f = 0; f < N_FAMILIES; f++) {
        double *curve = study_curve(curves, "%s", families[f].name);
        for (int i = 0; i < N_SIZES; i++) {
            const cost c = count(&families[f], sizes[i]);
            decoding[f][i] = c.decoding_seconds;
            communication[f][i] = c.communication;
            curve[i] = 1e6 * c.decoding_seconds;
            printf("%-16s %8d %8d %10.4g %14.4g %14.3g %10.4g\n", families[f].name, sizes[i],
                   c.weight, c.encoding, c.communication, 1e6 * c.decoding_seconds, c.server);
            fprintf(csv, "%s,%d,%d,%.9g,%.9g,%.9g,%.9g\n", families[f].name, sizes[i], c.weight,
                    c.encoding, c.communication, c.decoding_seconds, c.server);
        }
        printf("%-16s published: %s\n", "", families[f].published);
    }
    study_close(csv, "table.csv");
    const study_look look = {"Finding the weights", "workers", "microseconds", true, true};
    study_draw(s, "decoding", curves, &look);
    study_curves_free(curves);

    puts("");
    study_state(s, growth(decoding[0]) < 1.5 && growth(decoding[2]) < 1.5,
                "no system is solved for LPDC and K-async: listing their weights grows as n^%.1f "
                "and n^%.1f",
                growth(decoding[0]), growth(decoding[2]));
    study_state(s, growth(decoding[1]) > 1.5,
                "gradient coding solves for its weights: n^%.1f, %.0f us at n = %d",
                growth(decoding[1]), 1e6 * decoding[1][N_SIZES - 1], sizes[N_SIZES - 1]);
    bool shorter = true;
    for (int i = 0; i < N_SIZES; i++)
        shorter = shorter && communication[0][i] < communication[1][i];
    study_state(s, shorter, "messages of LPDC are 1/t as long");
    study_ours("the additions of LPDC's encoding are counted; the publication's 0 holds because "
               "they are made on the deltas, before the product, at 1/inputs of the cost shown");
    study_ours("two stragglers everywhere; t = 2");
    study_open("the step sizes, data sets and curves of the publication");
}

const experiment lwpd_table = {
    .name = "lwpd-table",
    .title = "LWPD: encoding, communication and decoding, counted (comparison table)",
    .run = run,
};
