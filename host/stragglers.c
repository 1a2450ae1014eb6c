/* stragglers.c - the kinds of slowness, and traces of it. */
#include "stragglers.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "rng.h"
#include "spec.h"

static const double max_seconds = 1e6; /* twelve days: more is a typing error */

struct cog_stragglers {
    const struct kind *kind;
    int n_workers;
    uint64_t seed;
    double shift, scale; /* seconds: the constant part, and the mean or scale of the other */
    double shape;
    double probability;
    double factor;
    bool declines; /* bernoulli without a delay */
    int64_t n_first;
    int64_t at;
    int64_t n_rounds; /* of the trace */
    double *trace;    /* [n_rounds][n_workers] seconds; negative: no answer */
};

typedef struct kind {
    const char *name;
    cog_status (*configure)(cog_stragglers *s, cog_spec *spec);
    cog_straggle (*draw)(const cog_stragglers *s, int worker, int64_t round);
} kind;

static cog_straggle late(double delay) {
    return (cog_straggle){.fate = COG_ANSWERS, .factor = 1, .delay = delay};
}

static cog_straggle silent(cog_fate fate) { return (cog_straggle){.fate = fate, .factor = 1}; }

static double uniform(const cog_stragglers *s, int worker, int64_t round) {
    cog_rng rng = cog_rng_make(s->seed, COG_STREAM_STRAGGLER, (uint32_t)round, (uint32_t)worker);
    return cog_rng_uniform(&rng);
}

static cog_status seconds(cog_spec *spec, const char *key, double fallback, double *out) {
    return cog_spec_real(spec, key, fallback, 0, max_seconds, out);
}

/* --- none, exp, shifted-exp, pareto --------------------------------------------------------- */

static cog_status configure_none(cog_stragglers *s, cog_spec *spec) {
    (void)s, (void)spec;
    return COG_OK;
}

static cog_straggle draw_none(const cog_stragglers *s, int worker, int64_t round) {
    (void)s, (void)worker, (void)round;
    return late(0);
}

static cog_status configure_exp(cog_stragglers *s, cog_spec *spec) {
    return seconds(spec, "mean", 0.01, &s->scale);
}

static cog_status configure_shifted_exp(cog_stragglers *s, cog_spec *spec) {
    COG_TRY(seconds(spec, "shift", 0.005, &s->shift));
    return configure_exp(s, spec);
}

static cog_straggle draw_exp(const cog_stragglers *s, int worker, int64_t round) {
    return late(s->shift - s->scale * log(uniform(s, worker, round)));
}

/* shape <= 1 has no mean; below 0.2 draws are beyond any clock. */
static cog_status configure_pareto(cog_stragglers *s, cog_spec *spec) {
    COG_TRY(seconds(spec, "scale", 0.005, &s->scale));
    return cog_spec_real(spec, "shape", 1.5, 0.2, 100, &s->shape);
}

static cog_straggle draw_pareto(const cog_stragglers *s, int worker, int64_t round) {
    return late(s->scale * pow(uniform(s, worker, round), -1 / s->shape));
}

/* --- bernoulli, slow, dead ------------------------------------------------------------------ */

static cog_status configure_bernoulli(cog_stragglers *s, cog_spec *spec) {
    const char *delay;
    COG_TRY(cog_spec_real(spec, "probability", 0.1, 0, 1, &s->probability));
    COG_TRY(cog_spec_text(spec, "delay", NULL, &delay));
    s->declines = delay == NULL;
    return s->declines ? COG_OK : seconds(spec, "delay", 0, &s->scale);
}

static cog_straggle draw_bernoulli(const cog_stragglers *s, int worker, int64_t round) {
    if (uniform(s, worker, round) >= s->probability) return late(0);
    return s->declines ? silent(COG_DECLINES) : late(s->scale);
}

static cog_status configure_slow(cog_stragglers *s, cog_spec *spec) {
    COG_TRY(cog_spec_int(spec, "workers", 1, 0, s->n_workers, &s->n_first));
    return cog_spec_real(spec, "factor", 5, 1, 1e6, &s->factor);
}

static cog_straggle draw_slow(const cog_stragglers *s, int worker, int64_t round) {
    (void)round;
    return (cog_straggle){.fate = COG_ANSWERS, .factor = worker < s->n_first ? s->factor : 1};
}

static cog_status configure_dead(cog_stragglers *s, cog_spec *spec) {
    const int64_t some = s->n_workers < 2 ? s->n_workers : 2;
    COG_TRY(cog_spec_int(spec, "workers", some, 0, s->n_workers, &s->n_first));
    return cog_spec_int(spec, "at", 100, 0, INT64_MAX, &s->at);
}

static cog_straggle draw_dead(const cog_stragglers *s, int worker, int64_t round) {
    return worker < s->n_first && round >= s->at ? silent(COG_DEAD) : late(0);
}

/* --- trace ---------------------------------------------------------------------------------- */

/* Where in which file, for sentences. */
typedef struct trace_line {
    const char *path;
    int64_t number;
    char *text;
} trace_line;

static cog_status parse_delay(const trace_line *line, int worker, const char *text, double *out) {
    if (strcmp(text, "-") == 0) {
        *out = -1;
        return COG_OK;
    }
    char *end;
    const double number = strtod(text, &end);
    COG_CHECK(end != text && *end == '\0' && number >= 0 && number <= max_seconds, COG_ERR_FORMAT,
              "line %lld of trace '%s': delay %d is '%s', not '-' or seconds in 0..%g",
              (long long)line->number, line->path, worker + 1, text, max_seconds);
    *out = number;
    return COG_OK;
}

static cog_status parse_delays(const trace_line *line, int n_workers, double *row, int *found) {
    static const char blanks[] = " \t\r\n";
    char *rest;
    *found = 0;
    for (char *word = strtok_r(line->text, blanks, &rest); word != NULL;
         word = strtok_r(NULL, blanks, &rest)) {
        if (*found < n_workers) COG_TRY(parse_delay(line, *found, word, &row[*found]));
        ++*found;
    }
    return COG_OK;
}

static cog_status add_row(cog_stragglers *s, const double *row, int64_t *capacity) {
    if (s->n_rounds == *capacity) {
        const int64_t grown = *capacity > 0 ? 2 * *capacity : 64;
        double *trace = realloc(s->trace, (size_t)(grown * s->n_workers) * sizeof(double));
        COG_CHECK(trace != NULL, COG_ERR_MEMORY, "no memory for a trace of %lld rounds",
                  (long long)grown);
        s->trace = trace;
        *capacity = grown;
    }
    memcpy(s->trace + s->n_rounds * s->n_workers, row, (size_t)s->n_workers * sizeof(double));
    s->n_rounds++;
    return COG_OK;
}

static cog_status take_line(cog_stragglers *s, const trace_line *line, double *row,
                            int64_t *capacity) {
    line->text[strcspn(line->text, "#")] = '\0';
    int found;
    COG_TRY(parse_delays(line, s->n_workers, row, &found));
    if (found == 0) return COG_OK;
    COG_CHECK(found == s->n_workers, COG_ERR_FORMAT,
              "line %lld of trace '%s' has %d delays for %d workers", (long long)line->number,
              line->path, found, s->n_workers);
    return add_row(s, row, capacity);
}

static cog_status read_lines(cog_stragglers *s, FILE *file, const char *path) {
    double *row = malloc((size_t)s->n_workers * sizeof(double));
    COG_CHECK(row != NULL, COG_ERR_MEMORY, "no memory for a line of %d delays", s->n_workers);
    trace_line line = {.path = path};
    size_t size = 0;
    int64_t capacity = 0;
    cog_status status = COG_OK;
    while (status == COG_OK && getline(&line.text, &size, file) >= 0) {
        line.number++;
        status = take_line(s, &line, row, &capacity);
    }
    free(line.text);
    free(row);
    COG_TRY(status);
    COG_CHECK(!ferror(file), COG_ERR_IO, "trace '%s' cannot be read: %s", path, strerror(errno));
    COG_CHECK(s->n_rounds > 0, COG_ERR_FORMAT, "trace '%s' has no lines", path);
    return COG_OK;
}

static cog_status configure_trace(cog_stragglers *s, cog_spec *spec) {
    const char *path;
    COG_TRY(cog_spec_text(spec, "file", NULL, &path));
    COG_CHECK(path != NULL && path[0] != '\0', COG_ERR_SPEC, "'trace' needs file=PATH");
    FILE *file = fopen(path, "r");
    COG_CHECK(file != NULL, COG_ERR_IO, "trace '%s' cannot be opened: %s", path, strerror(errno));
    const cog_status status = read_lines(s, file, path);
    fclose(file);
    return status;
}

static cog_straggle draw_trace(const cog_stragglers *s, int worker, int64_t round) {
    const int64_t row = (round % s->n_rounds + s->n_rounds) % s->n_rounds;
    const double delay = s->trace[row * s->n_workers + worker];
    return delay < 0 ? silent(COG_DECLINES) : late(delay);
}

/* -------------------------------------------------------------------------------------------- */

static const kind kinds[] = {
    {"none", configure_none, draw_none},
    {"exp", configure_exp, draw_exp},
    {"shifted-exp", configure_shifted_exp, draw_exp},
    {"pareto", configure_pareto, draw_pareto},
    {"bernoulli", configure_bernoulli, draw_bernoulli},
    {"slow", configure_slow, draw_slow},
    {"dead", configure_dead, draw_dead},
    {"trace", configure_trace, draw_trace},
};

static cog_status find_kind(const char *name, const kind **out) {
    char known[128] = "";
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            *out = &kinds[i];
            return COG_OK;
        }
        const size_t length = strlen(known);
        snprintf(known + length, sizeof(known) - length, "%s%s", i > 0 ? ", " : "", kinds[i].name);
    }
    COG_FAIL(COG_ERR_SPEC, "no kind of stragglers is named '%s'; there are: %s", name, known);
}

static cog_status configure(cog_stragglers *s, cog_spec *spec) {
    COG_TRY(s->kind->configure(s, spec));
    return cog_spec_finish(spec);
}

cog_status cog_stragglers_open(const char *text, int n_workers, uint64_t seed,
                               cog_stragglers **out) {
    cog_spec spec;
    const kind *found;
    COG_TRY(cog_spec_parse(text, &spec));
    COG_TRY(find_kind(spec.name, &found));
    COG_CHECK(n_workers >= 1, COG_ERR_ARGUMENT, "stragglers among %d workers", n_workers);
    cog_stragglers *s = calloc(1, sizeof(*s));
    COG_CHECK(s != NULL, COG_ERR_MEMORY, "no memory for stragglers");
    s->kind = found;
    s->n_workers = n_workers;
    s->seed = seed;
    const cog_status status = configure(s, &spec);
    if (status != COG_OK) {
        cog_stragglers_close(s);
        return status;
    }
    *out = s;
    return COG_OK;
}

const char *cog_stragglers_describe(int i, cog_spec *spec) {
    const int n_kinds = sizeof(kinds) / sizeof(kinds[0]);
    if (i < 0 || i >= n_kinds || cog_spec_parse(kinds[i].name, spec) != COG_OK) return NULL;
    cog_stragglers unused = {.n_workers = 8};
    kinds[i].configure(&unused, spec); /* `trace` refuses to go without a file; it has asked */
    free(unused.trace);
    return kinds[i].name;
}

void cog_stragglers_close(cog_stragglers *s) {
    if (s == NULL) return;
    free(s->trace);
    free(s);
}

cog_straggle cog_stragglers_draw(const cog_stragglers *s, int worker, int64_t round) {
    return s->kind->draw(s, worker, round);
}
