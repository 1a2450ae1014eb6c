/* cmd_code.c - `cograd code SPEC`: build a code, analyse it, report. */
#include "cmd_code.h"

#include <argp.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "code_report.h"

enum { OK = 0, FAILED = 1, USAGE = 2 };
enum { MAX_WORKERS = 1 << 20 };

typedef struct options {
    const char *spec;
    const char *json; /* NULL: none */
    int n_workers;
    bool wants_help;
    bool complained; /* the sentence about what is wrong is out */
} options;

__attribute__((format(printf, 2, 3))) static int complain(int exit_status, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fflush(stdout);
    fputs("cograd code: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    return exit_status;
}

/* ------------------------------------------------------------------------ options */

enum { KEY_WORKERS = 'n', KEY_JSON = 'j', KEY_HELP = 'h' };

static const struct argp_option argp_options[] = {
    {"workers", KEY_WORKERS, "N", 0, "number of workers, default 8", 0},
    {"json", KEY_JSON, "FILE", 0, "also write all of it as JSON", 0},
    {"help", KEY_HELP, NULL, 0, "this text", 0},
    {0}};

static error_t refuse(options *o, const char *fmt, const char *what) {
    o->complained = true;
    complain(USAGE, fmt, what); /* NOLINT: formats are literals of this file */
    return EINVAL;
}

static error_t take_workers(options *o, const char *text) {
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < 1 || value > MAX_WORKERS)
        return refuse(o, "--workers must be a whole number in 1..1048576, is '%s'", text);
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
        if (o->spec != NULL) return refuse(o, "one code at a time; what is '%s'?", text);
        o->spec = text;
        return 0;
    case ARGP_KEY_ERROR:
        if (!o->complained)
            refuse(o, "'%s' is no option, or lacks its value; see cograd code --help",
                   state->argv[state->next - 1]);
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
           "frc:stragglers=1, crc:stragglers=3, ye-abbe:stragglers=1,blocks=2, replication, "
           "kasync:k=4, ignore, uncoded. `cograd info` lists names and keys."};

/* ARGP_NO_ERRS: argp's own complaint takes two lines and another exit status. */
static int parse(int argc, char **argv, options *o) {
    const unsigned flags = ARGP_NO_ERRS | ARGP_NO_HELP;
    if (argp_parse(&parser, argc, argv, flags, NULL, o) != 0)
        return o->complained ? USAGE : complain(USAGE, "the options make no sense");
    if (o->wants_help || o->spec != NULL) return OK;
    return complain(USAGE, "which code? For instance: cograd code lwpd:weight=2");
}

/* --------------------------------------------------------------------------- JSON */

/* mkstemp makes files private; give this one the mode that open() would have given it. */
static void apply_umask(int fd) {
    const mode_t mask = umask(0);
    umask(mask);
    if (fchmod(fd, 0666 & ~mask) != 0) errno = 0; /* a stricter mode is no failure */
}

static bool dump(int fd, const json_t *report) {
    FILE *file = fdopen(fd, "w");
    if (file == NULL) {
        close(fd);
        return false;
    }
    const bool written = json_dumpf(report, file, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) == 0 &&
                         fputc('\n', file) != EOF && fflush(file) == 0 && fsync(fd) == 0;
    const int error = errno;
    const bool closed = fclose(file) == 0;
    if (!written) errno = error;
    return written && closed;
}

/* Under a temporary name beside the target, then renamed: the file is complete or not there. */
static int write_json(const char *path, const json_t *report) {
    char *temporary;
    if (report == NULL || asprintf(&temporary, "%s.XXXXXX", path) < 0)
        return complain(FAILED, "out of memory for '%s'", path);
    const int fd = mkstemp(temporary);
    bool done = fd >= 0;
    if (done) {
        apply_umask(fd);
        done = dump(fd, report) && rename(temporary, path) == 0;
        const int error = errno;
        if (!done) unlink(temporary);
        errno = error;
    }
    free(temporary);
    return done ? OK : complain(FAILED, "cannot write '%s': %s", path, strerror(errno));
}

/* ------------------------------------------------------------------------ command */

static int report(const options *o, const cog_code *code, const cog_code_analysis *analysis) {
    cog_code_report_print(stdout, o->spec, code, analysis);
    if (fflush(stdout) != 0 || ferror(stdout))
        return complain(FAILED, "cannot write to standard output: %s", strerror(errno));
    if (o->json == NULL) return OK;
    json_t *object = cog_code_report_json(o->spec, code, analysis);
    const int status = write_json(o->json, object);
    json_decref(object);
    return status;
}

/* What the user wrote wrong is a usage error, the rest a failure. */
static int complain_status(cog_status status) {
    const bool is_usage = status == COG_ERR_SPEC || status == COG_ERR_ARGUMENT;
    return complain(is_usage ? USAGE : FAILED, "%s", cog_last_error());
}

int cog_cmd_code(int argc, char **argv) {
    options o = {.n_workers = 8};
    const int parsed = parse(argc, argv, &o);
    if (parsed != OK) return parsed;
    if (o.wants_help) {
        argp_help(&parser, stdout, ARGP_HELP_STD_HELP & ~ARGP_HELP_EXIT_OK, "cograd code");
        return fflush(stdout) == 0 ? OK : FAILED;
    }
    cog_code *code;
    cog_status status = cog_code_create(o.spec, o.n_workers, &code);
    if (status != COG_OK) return complain_status(status);
    cog_code_analysis *analysis;
    status = cog_code_analyze(code, &analysis);
    const int exit_status = status == COG_OK ? report(&o, code, analysis) : complain_status(status);
    if (status == COG_OK) cog_code_analysis_destroy(analysis);
    cog_code_destroy(code);
    return exit_status;
}
