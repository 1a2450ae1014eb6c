/* cmd_code.c - `cograd code SPEC`: build a code, analyse it, report. */
#include "cmd_code.h"

#include <argp.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "code_report.h"
#include "complain.h"
#include "file.h"
#include "progress.h"
#include "record.h"

enum { MAX_WORKERS = 1 << 20 };

typedef struct options {
    const char *spec;
    const char *json; /* NULL: none */
    int n_workers;
    bool wants_help;
    bool complained; /* the sentence about what is wrong is out */
} options;

/* ------------------------------------------------------------------------ options */

enum { KEY_WORKERS = 'n', KEY_JSON = 'j', KEY_HELP = 'h' };

static const struct argp_option argp_options[] = {
    {"workers", KEY_WORKERS, "N", 0, "number of workers, default 8", 0},
    {"json", KEY_JSON, "FILE", 0, "also write all of it as JSON", 0},
    {"help", KEY_HELP, NULL, 0, "this text", 0},
    {0}};

/* Ends the parsing after a complaint. */
static error_t refuse(options *o, int complaint) {
    o->complained = complaint != COG_EXIT_OK;
    return EINVAL;
}

static error_t take_workers(options *o, const char *text) {
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < 1 || value > MAX_WORKERS)
        return refuse(o, cog_complain(COG_EXIT_USAGE,
                                      "--workers must be a whole number in 1..%d, is '%s'",
                                      MAX_WORKERS, text));
    o->n_workers = (int)value;
    return 0;
}

static error_t take(int key, char *text, struct argp_state *state) {
    options *o = state->input;
    switch (key) {
    case KEY_WORKERS: return take_workers(o, text);
    case KEY_JSON: o->json = text; return 0;
    case KEY_HELP: o->wants_help = true; return 0;
    case ARGP_KEY_ARG:
        if (o->spec != NULL)
            return refuse(o,
                          cog_complain(COG_EXIT_USAGE, "one code at a time; what is '%s'?", text));
        o->spec = text;
        return 0;
    case ARGP_KEY_ERROR:
        if (!o->complained)
            refuse(o,
                   cog_complain(COG_EXIT_USAGE, "'%s' is no option, or lacks its value; see --help",
                                state->argv[state->next - 1]));
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options = argp_options,
    .parser = take,
    .args_doc = "SPEC",
    .doc = "Show the matrix of a gradient code, its rank, coherence and bounds, and how well it "
           "decodes for each number of stragglers.\v"
           "SPEC is NAME or NAME:KEY=VALUE,KEY=VALUE. Examples: lwpd:weight=2, "
           "frc:stragglers=1, crc:stragglers=3, ye-abbe:stragglers=1,blocks=2, "
           "acgc:structure=bibd, stochastic:copies=2, replication, "
           "kasync:k=4, ignore, uncoded. `cograd info` lists names and keys."};

/* ARGP_NO_ERRS: argp's own complaint takes two lines and another exit status. */
static int parse(int argc, char **argv, options *o) {
    const unsigned flags = ARGP_NO_ERRS | ARGP_NO_HELP;
    if (argp_parse(&parser, argc, argv, flags, NULL, o) != 0)
        return o->complained ? COG_EXIT_USAGE
                             : cog_complain(COG_EXIT_USAGE, "the options make no sense");
    if (o->wants_help || o->spec != NULL) return COG_EXIT_OK;
    return cog_complain(COG_EXIT_USAGE, "which code? For instance: cograd code lwpd:weight=2");
}

/* ------------------------------------------------------------------------ command */

static int write_json(const options *o, const cog_code *code, const cog_code_analysis *analysis,
                      cog_file *file) {
    json_t *report = cog_code_report_json(o->spec, code, analysis);
    if (report == NULL) return cog_complain(COG_EXIT_FAILED, "out of memory");
    int status = cog_record_write(report, file);
    if (status == COG_EXIT_OK) status = cog_file_commit(file);
    json_decref(report);
    return status;
}

static int report(const options *o, const cog_code *code, const cog_code_analysis *analysis,
                  cog_file *file) {
    cog_code_report_print(stdout, o->spec, code, analysis);
    const int status = cog_output_check();
    if (status != COG_EXIT_OK) return status;
    return o->json != NULL ? write_json(o, code, analysis, file) : COG_EXIT_OK;
}

/* The file is opened before the work, which may be long, so that it cannot be for nothing. */
static int analyse_and_report(const options *o, const cog_code *code) {
    cog_file file = {0};
    int exit_status = o->json != NULL ? cog_file_open(o->json, &file) : COG_EXIT_OK;
    if (exit_status != COG_EXIT_OK) return exit_status;
    cog_code_analysis *analysis = NULL;
    const cog_status status = cog_code_analyze(code, &analysis);
    exit_status =
        status == COG_OK ? report(o, code, analysis, &file) : cog_complain_status(status, NULL);
    cog_code_analysis_destroy(analysis);
    cog_file_discard(&file);
    return exit_status;
}

int cog_cmd_code(int argc, char **argv) {
    options o = {.n_workers = 8};
    const int parsed = parse(argc, argv, &o);
    if (parsed != COG_EXIT_OK) return parsed;
    if (o.wants_help) {
        argp_help(&parser, stdout, ARGP_HELP_SHORT_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC, argv[0]);
        return cog_output_check();
    }
    cog_code *code;
    const cog_status status = cog_code_create(o.spec, o.n_workers, &code);
    if (status != COG_OK) return cog_complain_status(status, NULL);
    const int exit_status = analyse_and_report(&o, code);
    cog_code_destroy(code);
    return exit_status;
}
