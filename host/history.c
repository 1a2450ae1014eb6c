/* history.c - lines of text in and out. */
#include "history.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "blob.h"
#include "check.h"

static const char title[] = "cograd history 1\n";
static const char from_name[] = "from = ";

/* ---------------------------------------------------------------- write */

cog_status cog_history_write_header(FILE *file, const char *job, int64_t from) {
    fprintf(file, "%s%s\n%s%" PRId64 "\n", title, job, from_name, from);
    COG_CHECK(fflush(file) == 0, COG_ERR_IO, "cannot write a history: %s", strerror(errno));
    return COG_OK;
}

void cog_history_write(FILE *file, const cog_taken *t) {
    switch (t->kind) {
    case 'm':
        fprintf(file, "m %" PRId32 " %" PRId32 " %" PRId64 "\n", t->worker, t->message, t->round);
        break;
    case 'd': fprintf(file, "d %" PRId32 " %" PRId64 "\n", t->worker, t->round); break;
    case 'e': fprintf(file, "e %" PRId64 "\n", t->round); break;
    case 'l':
    case 'j': fprintf(file, "%c %" PRId32 "\n", t->kind, t->worker); break;
    default: fputs("s\n", file); break;
    }
}

/* ---------------------------------------------------------------- parse */

typedef struct reader {
    const char *at, *end;
    int64_t line; /* number of the current one */
} reader;

/* The next line without its end; the last one must have an end too. */
static bool next_line(reader *r, const char **line, size_t *length) {
    const char *end = r->at < r->end ? memchr(r->at, '\n', (size_t)(r->end - r->at)) : NULL;
    if (end == NULL) return false;
    *line = r->at;
    *length = (size_t)(end - r->at);
    r->at = end + 1;
    r->line++;
    return true;
}

/* One number from 0 on, and the blank before it. */
static bool take_number(const char **at, const char *end, int64_t most, int64_t *out) {
    if (*at == end || **at != ' ') return false;
    const char *digits = ++*at;
    int64_t value = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
        const int digit = **at - '0';
        if (value > (most - digit) / 10) return false;
        value = 10 * value + digit;
    }
    *out = value;
    return *at > digits;
}

static bool parse_taken(const char *line, size_t length, cog_taken *out) {
    const char *at = line + 1, *end = line + length;
    int64_t worker = 0, message = 0, round = 0;
    if (length == 0 || strchr("mdeslj", line[0]) == NULL || line[0] == '\0') return false;
    const char kind = line[0];
    if (strchr("mdlj", kind) != NULL && !take_number(&at, end, INT32_MAX, &worker)) return false;
    if (kind == 'm' && !take_number(&at, end, INT32_MAX, &message)) return false;
    if (strchr("mde", kind) != NULL && !take_number(&at, end, INT64_MAX / 2, &round)) return false;
    *out = (cog_taken){kind, (int32_t)worker, (int32_t)message, round};
    return at == end;
}

static cog_status add(cog_history *h, const cog_taken *taken) {
    if (h->n == h->room) {
        const size_t room = 2 * h->room + 64;
        cog_taken *all = realloc(h->taken, room * sizeof(*all));
        COG_CHECK(all != NULL, COG_ERR_MEMORY, "no memory for a history of %zu lines", room);
        h->taken = all;
        h->room = room;
    }
    h->taken[h->n++] = *taken;
    return COG_OK;
}

/* Up to the line that says where it begins. */
static cog_status parse_header(reader *r, cog_history *out) {
    const size_t size = (size_t)(r->end - r->at), length = sizeof(title) - 1;
    COG_CHECK(size >= length && memcmp(r->at, title, length) == 0, COG_ERR_FORMAT,
              "it is no history");
    r->at += length;
    r->line = 1;
    const char *job = r->at, *line;
    size_t n;
    while (next_line(r, &line, &n)) {
        const char *at = line + sizeof(from_name) - 2; /* the blank before the number */
        if (n < sizeof(from_name) - 1 || memcmp(line, from_name, sizeof(from_name) - 1) != 0)
            continue;
        COG_CHECK(take_number(&at, line + n, INT64_MAX / 2, &out->from) && at == line + n,
                  COG_ERR_FORMAT, "line %" PRId64 " does not say where it begins", r->line);
        out->job = strndup(job, line > job ? (size_t)(line - job) - 1 : 0);
        COG_CHECK(out->job != NULL, COG_ERR_MEMORY, "no memory for a history");
        return COG_OK;
    }
    COG_FAIL(COG_ERR_FORMAT, "it does not say where it begins");
}

cog_status cog_history_parse(const char *text, size_t bytes, cog_history *out) {
    *out = (cog_history){.job = NULL};
    reader r = {.at = text, .end = text + bytes};
    COG_TRY(parse_header(&r, out));
    const char *line;
    size_t length;
    while (next_line(&r, &line, &length)) {
        cog_taken taken;
        COG_CHECK(parse_taken(line, length, &taken), COG_ERR_FORMAT,
                  "line %" PRId64 " makes no sense: '%.*s'", r.line,
                  (int)(length < 60 ? length : 60), line);
        COG_TRY(add(out, &taken));
    }
    return COG_OK;
}

void cog_history_free(cog_history *h) {
    free(h->job);
    free(h->taken);
    *h = (cog_history){.job = NULL};
}

static cog_status read_stream(FILE *stream, cog_history *out) {
    struct stat info;
    COG_CHECK(fstat(fileno(stream), &info) == 0 && S_ISREG(info.st_mode), COG_ERR_IO,
              "it is no regular file");
    const size_t size = (size_t)info.st_size;
    char *text = malloc(size + 1);
    COG_CHECK(text != NULL, COG_ERR_MEMORY, "no memory for its %zu bytes", size);
    const size_t come = fread(text, 1, size, stream);
    const bool failed = ferror(stream);
    const int error = errno;
    const cog_status status = failed ? COG_ERR_IO : cog_history_parse(text, come, out);
    free(text);
    COG_CHECK(!failed, COG_ERR_IO, "%s", strerror(error));
    return status;
}

cog_status cog_history_read(const char *path, cog_history *out) {
    *out = (cog_history){.job = NULL};
    FILE *stream = cog_blob_open(path);
    COG_CHECK(stream != NULL, COG_ERR_IO, "cannot read the history '%s': %s", path,
              strerror(errno));
    const cog_status status = read_stream(stream, out);
    fclose(stream);
    if (status == COG_OK) return COG_OK;
    char why[512];
    snprintf(why, sizeof(why), "%s", cog_last_error());
    cog_history_free(out);
    COG_FAIL(status, "cannot replay '%s': %s", path, why);
}
