/* options.c - options from flags, by argp. */
#include "options.h"

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cograd/engine.h"
#include "complain.h"
#include "progress.h"

enum { HELP_KEY = 'h', FIRST_KEY = 256 }; /* above every character: no short options */

typedef enum kind { KIND_TEXT, KIND_INT, KIND_REAL } kind;

typedef struct row {
    const char *name;
    const char *value;
    kind kind;
    cog_option_group group;
    int places;
    size_t offset;
    double least, most;
    const char *meaning;
} row;

#define OFFSET(field) offsetof(cog_options, field)
#define TEXT_ROW(field, name, value, group, places, meaning) \
    {name, value, KIND_TEXT, group, places, OFFSET(field), 0, 0, meaning},
#define INT_ROW(field, name, value, group, places, least, most, meaning) \
    {name, value, KIND_INT, group, places, OFFSET(field), (double)(least), (double)(most), meaning},
#define REAL_ROW(field, name, value, group, places, least, most, meaning) \
    {name, value, KIND_REAL, group, places, OFFSET(field), least, most, meaning},
static const row rows[] = {COG_OPTION_MAP(TEXT_ROW, INT_ROW, REAL_ROW)};

static const char *const group_titles[] = {
    [COG_GROUP_PROBLEM] = "Problem:", [COG_GROUP_SCHEME] = "Scheme:",
    [COG_GROUP_CLUSTER] = "Cluster:", [COG_GROUP_STOP] = "When to stop (the first to happen):",
    [COG_GROUP_OUTPUT] = "Output:",
};

int cog_option_find(const char *name) {
    for (int i = 0; i < COG_N_OPTIONS; i++)
        if (strcmp(rows[i].name, name) == 0) return i;
    return -1;
}

void cog_options_default(cog_options *out) {
    const cog_engine_config config = cog_engine_config_default();
    *out = (cog_options){
        .data = "mnist",
        .model = config.model,
        .batch = config.batch,
        .seed = (int64_t)config.seed,
        .code = config.code,
        .channel = config.channel,
        .downlink = config.downlink,
        .optimizer = config.optimizer,
        .staleness = config.staleness,
        .max_amplification = config.max_amplification,
        .workers = config.n_workers,
        .transport = config.transport,
        .device = config.device,
        .stragglers = config.stragglers,
        .faults = config.faults,
        .timeout = config.timeout,
        .target_accuracy = 0.975,
        .rounds = 5000,
        .epochs = INFINITY,
        .seconds = INFINITY,
        .report_every = config.report_every,
        .checkpoint_every = 100,
        .baseline = "none",
        .jobs = 1,
        .patience = 60,
        .silence = 1,
    };
}

bool cog_options_limited(const cog_options *options) {
    return options->origin[cog_option_find("rounds")] != COG_FROM_DEFAULT ||
           options->origin[cog_option_find("epochs")] != COG_FROM_DEFAULT ||
           options->origin[cog_option_find("seconds")] != COG_FROM_DEFAULT;
}

typedef struct kept {
    struct kept *next;
    char text[];
} kept;

char *cog_keep_text(const char *text) {
    static kept *all; /* keeps the texts reachable: what is kept is not lost */
    kept *copy = malloc(sizeof(*copy) + strlen(text) + 1);
    if (copy == NULL) {
        cog_complain(COG_EXIT_FAILED, "out of memory");
        return NULL;
    }
    strcpy(copy->text, text);
    copy->next = all;
    all = copy;
    return copy->text;
}

static int set_int(const row *r, const char *where, const char *value, int64_t *out) {
    char *end;
    errno = 0;
    const long long number = strtoll(value, &end, 10);
    if (end == value || *end != '\0' || errno != 0 || (double)number < r->least ||
        (double)number > r->most) {
        if (r->most >= (double)INT64_MAX)
            return cog_complain(COG_EXIT_USAGE, "%s%s must be a whole number from %.0f, is '%s'",
                                where, r->name, r->least, value);
        return cog_complain(COG_EXIT_USAGE,
                            "%s%s must be a whole number from %.0f to %.0f, is '%s'", where,
                            r->name, r->least, r->most, value);
    }
    *out = number;
    return 0;
}

static int set_real(const row *r, const char *where, const char *value, double *out) {
    char *end;
    const double number = strtod(value, &end);
    if (end == value || *end != '\0' || !(number >= r->least && number <= r->most))
        return cog_complain(COG_EXIT_USAGE, "%s%s must be a number from %g to %g, is '%s'", where,
                            r->name, r->least, r->most, value);
    *out = number;
    return 0;
}

static int add_scheme(cog_options *options, const char *where, const char *value) {
    if (options->n_schemes == COG_MAX_SCHEMES)
        return cog_complain(COG_EXIT_USAGE, "%smore than %d schemes", where, COG_MAX_SCHEMES);
    options->schemes[options->n_schemes++] = value;
    return 0;
}

int cog_options_set(cog_options *options, int place, cog_origin origin, const char *where,
                    const char *name, const char *value) {
    const int i = cog_option_find(name);
    if (i < 0 || (rows[i].places & place) != place)
        return cog_complain(COG_EXIT_USAGE, "%sthere is no option '%s' here", where, name);
    if (options->origin[i] > origin) return 0;
    options->origin[i] = origin;

    void *field = (char *)options + rows[i].offset;
    switch (rows[i].kind) {
    case KIND_INT: return set_int(&rows[i], where, value, field);
    case KIND_REAL: return set_real(&rows[i], where, value, field);
    case KIND_TEXT: break;
    }
    if (value[0] == '\0')
        return cog_complain(COG_EXIT_USAGE, "%s%s has no value", where, rows[i].name);
    *(const char **)field = value;
    return rows[i].offset == OFFSET(scheme) ? add_scheme(options, where, value) : 0;
}

/* ---- argp ------------------------------------------------------------------------------------ */

typedef struct parse {
    cog_options *options;
    int place;
    bool wants_help;
    int status; /* exit status of a complaint already made */
} parse;

static error_t parse_one(int key, char *value, struct argp_state *state) {
    parse *p = state->input;
    if (key == ARGP_KEY_ARG) {
        p->status = cog_complain(COG_EXIT_USAGE, "'%s' is not an option; see --help", value);
        return EINVAL;
    }
    if (key == HELP_KEY) {
        p->wants_help = true;
        return 0;
    }
    if (key < FIRST_KEY || key >= FIRST_KEY + COG_N_OPTIONS) return ARGP_ERR_UNKNOWN;
    p->status = cog_options_set(p->options, p->place, COG_FROM_FLAG, "--",
                                rows[key - FIRST_KEY].name, value);
    return p->status == 0 ? 0 : EINVAL;
}

/* The row that `name`, of this length, is or begins; -1 for none, -2 for several. */
static int find_prefix(int place, const char *name, size_t length) {
    int found = -1;
    for (int i = 0; i < COG_N_OPTIONS; i++) {
        if (!(rows[i].places & place) || strncmp(rows[i].name, name, length) != 0) continue;
        if (rows[i].name[length] == '\0') return i;
        found = found == -1 ? i : -2;
    }
    return found;
}

/* getopt's own messages take two lines and are switched off: the first argument it cannot have
 * liked is found here. */
static int complain_of_arguments(int place, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i] + strspn(argv[i], "-");
        const size_t length = strcspn(name, "=");
        const int found = strncmp(argv[i], "--", 2) == 0 ? find_prefix(place, name, length) : -1;
        if (found < 0)
            return cog_complain(COG_EXIT_USAGE, "%s option '%.*s'; see --help",
                                found == -1 ? "unknown" : "ambiguous", (int)strcspn(argv[i], "="),
                                argv[i]);
        if (name[length] == '=') continue;
        if (++i == argc)
            return cog_complain(COG_EXIT_USAGE, "--%s needs a value: %s", rows[found].name,
                                rows[found].value);
    }
    return cog_complain(COG_EXIT_USAGE, "the arguments make no sense; see --help");
}

bool cog_option_format(const cog_options *options, int i, char *out, size_t size) {
    const void *field = (const char *)options + rows[i].offset;
    const double *real = field;
    switch (rows[i].kind) {
    case KIND_TEXT:
        snprintf(out, size, "%s", *(char *const *)field ? *(char *const *)field : "");
        break;
    case KIND_INT: snprintf(out, size, "%lld", (long long)*(const int64_t *)field); break;
    case KIND_REAL: snprintf(out, size, isfinite(*real) ? "%.17g" : "", *real); break;
    }
    return out[0] != '\0';
}

const char *cog_option_name(int i, int place) {
    return rows[i].places & place ? rows[i].name : NULL;
}

/* "meaning (default 8)": the default is read from the options, so it cannot differ from them. */
static void describe(const row *r, const cog_options *defaults, char *out, size_t size) {
    const void *field = (const char *)defaults + r->offset;
    char value[128] = "";
    if (r->kind == KIND_TEXT && *(const char *const *)field != NULL)
        snprintf(value, sizeof(value), "%s", *(const char *const *)field);
    if (r->kind == KIND_INT)
        snprintf(value, sizeof(value), "%lld", (long long)*(const int64_t *)field);
    if (r->kind == KIND_REAL && isfinite(*(const double *)field))
        snprintf(value, sizeof(value), "%g", *(const double *)field);
    if (value[0] != '\0')
        snprintf(out, size, "%s (default %s)", r->meaning, value);
    else
        snprintf(out, size, "%s", r->meaning);
}

static const char train_doc[] =
    "Train one model with coded, compressed gradients and print how it went."
    "\v"
    "Without --rounds, --epochs or --seconds a run ends at the target accuracy or after 5000 "
    "rounds; with one of them it ends there, and at an accuracy only if --target-accuracy is "
    "given.\n\n"
    "Examples:\n"
    "  cograd train --baseline uncoded --out results\n"
    "  cograd train --code frc:stragglers=1 --stragglers exp:mean=0.01 --rounds 500\n"
    "  cograd train --data synthetic:rows=10000,features=100 --model squared \\\n"
    "    --optimizer sgd:rate=0.05\n"
    "  cograd train --config settings.ini --seed 7 --json record.json\n\n"
    "`cograd info` lists every code, channel and transport with its keys.\n"
    "Exit status: 0, 1 when a run failed, 2 for a usage error, 130 after an interrupt.";

static const char compare_doc[] =
    "Train one model with several schemes and print them side by side."
    "\v"
    "Options outside --scheme hold for every scheme that does not say otherwise.\n\n"
    "Example:\n"
    "  cograd compare --out results --stragglers exp:mean=0.01 \\\n"
    "    --scheme \"name=all-reduce code=uncoded\" \\\n"
    "    --scheme \"name=repetition code=frc:stragglers=1 channel=identity\" \\\n"
    "    --scheme \"name=projective code=lwpd:weight=2,wait=6\"\n\n"
    "Exit status: 0, 1 when a run failed, 2 for a usage error, 130 after an interrupt.";

static const char worker_doc[] =
    "Compute for a server that runs `cograd train --transport zmq:bind=ADDRESS`. The server says "
    "what; "
    "the data are opened here."
    "\v"
    "Examples:\n"
    "  cograd train --transport zmq:bind=tcp://127.0.0.1:5600 --workers 8 &\n"
    "  cograd worker --connect tcp://127.0.0.1:5600\n\n"
    "A worker that loses its server looks for it again, and starts anew.\n"
    "Exit status: 0 when the server ended the run, 1 when there is no server or the worker failed, "
    "2 "
    "for a usage error.";

static const char *doc_of(int place) {
    return place == COG_FOR_TRAIN ? train_doc : place == COG_FOR_WORKER ? worker_doc : compare_doc;
}

enum { N_GROUPS = sizeof(group_titles) / sizeof(group_titles[0]), DOC_SIZE = 320 };

/* Option table of argp: a title and then the rows of each group. */
static void list_options(int place, const cog_options *defaults, char (*docs)[DOC_SIZE],
                         struct argp_option *out) {
    int n = 0;
    for (int group = 1; group < N_GROUPS; group++) {
        const int title = n;
        out[n++] = (struct argp_option){.doc = group_titles[group], .group = group};
        for (int i = 0; i < COG_N_OPTIONS; i++) {
            if ((int)rows[i].group != group || !(rows[i].places & place)) continue;
            describe(&rows[i], defaults, docs[i], DOC_SIZE);
            out[n++] = (struct argp_option){.name = rows[i].name,
                                            .key = FIRST_KEY + i,
                                            .arg = rows[i].value,
                                            .doc = docs[i],
                                            .group = group};
        }
        if (n == title + 1) n = title; /* nothing under it */
    }
    out[n++] =
        (struct argp_option){.name = "help", .key = HELP_KEY, .doc = "show this text", .group = -1};
    out[n] = (struct argp_option){0};
}

int cog_options_parse(int place, int argc, char **argv, cog_options *out) {
    cog_options_default(out);
    char docs[COG_N_OPTIONS][DOC_SIZE];
    struct argp_option table[COG_N_OPTIONS + N_GROUPS + 2];
    cog_options shown;
    cog_options_default(&shown);
    if (place == COG_FOR_WORKER) shown.data = shown.device = shown.faults = NULL; /* the server's */
    list_options(place, &shown, docs, table);
    const struct argp argp = {.options = table, .parser = parse_one, .doc = doc_of(place)};
    parse p = {.options = out, .place = place};
    const error_t error = argp_parse(&argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &p);
    if (p.status != 0) return p.status;
    if (error != 0) return complain_of_arguments(place, argc, argv);
    if (p.wants_help) {
        argp_help(&argp, stdout, ARGP_HELP_SHORT_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC, argv[0]);
        exit(cog_output_check());
    }
    return out->config != NULL ? cog_config_read(out->config, place, out) : 0;
}
