/* config.c - options from a file, and from the text of one --scheme.
 *
 * inih cuts a line that is longer than its buffer in two without a word, so lines are counted and
 * measured here, on their way in.
 */
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "options.h"

typedef struct reader {
    FILE *stream;
    const char *path;
    int place;
    cog_options *options;
    cog_origin scheme_origin; /* of --scheme before the file was read */
    int line;
    bool continues; /* the line goes on with the value above: it begins with a blank */
    int status;     /* exit status of a complaint already made */
} reader;

static char *next_line(char *buffer, int size, void *user) {
    reader *r = user;
    if (r->status != 0 || fgets(buffer, size, r->stream) == NULL) return NULL;
    r->line++;
    r->continues = isblank((unsigned char)buffer[0]);
    if (strchr(buffer, '\n') != NULL || feof(r->stream)) return buffer;
    r->status = cog_complain(COG_EXIT_USAGE, "%s:%d: the line is longer than %d characters",
                             r->path, r->line, size - 2);
    return NULL;
}

/* A scheme may take several lines; anything else is said once. */
static int take_again(reader *r, const char *where, const char *name, const char *value) {
    cog_options *options = r->options;
    if (strcmp(name, "scheme") != 0)
        return cog_complain(COG_EXIT_USAGE, "%s%s is given twice", where, name);
    const char **last = &options->schemes[options->n_schemes - 1];
    char joined[2048];
    const int length = snprintf(joined, sizeof(joined), "%s %s", *last, value);
    if (length >= (int)sizeof(joined))
        return cog_complain(COG_EXIT_USAGE, "%sthe scheme is longer than %zu characters", where,
                            sizeof(joined) - 1);
    *last = cog_keep_text(joined);
    return *last != NULL ? 0 : COG_EXIT_FAILED;
}

static int take_new(reader *r, const char *where, const char *name, const char *value) {
    const char *kept = cog_keep_text(value);
    if (kept == NULL) return COG_EXIT_FAILED;
    return cog_options_set(r->options, COG_FOR_FILE | r->place, COG_FROM_FILE, where, name, kept);
}

/* Called for every `name = value`; 0 stops nothing but makes ini_parse_stream report the line. */
static int take(void *user, const char *section, const char *name, const char *value) {
    reader *r = user;
    if (r->status != 0) return 0;
    char where[512];
    snprintf(where, sizeof(where), "%s:%d: ", r->path, r->line);
    if (section[0] != '\0') {
        r->status = cog_complain(COG_EXIT_USAGE, "%sthere are no sections: [%s]", where, section);
        return 0;
    }
    if (strcmp(name, "scheme") == 0 && r->scheme_origin == COG_FROM_FLAG) return 1;
    const int i = cog_option_find(name);
    const bool seen = i >= 0 && r->options->origin[i] == COG_FROM_FILE;
    const bool again = seen && (r->continues || strcmp(name, "scheme") != 0);
    r->status = (again ? take_again : take_new)(r, where, name, value);
    return r->status == 0;
}

int cog_config_read(const char *path, int place, cog_options *options) {
    reader r = {.path = path,
                .place = place,
                .options = options,
                .scheme_origin = options->origin[cog_option_find("scheme")]};
    r.stream = fopen(path, "r");
    if (r.stream == NULL)
        return cog_complain(COG_EXIT_FAILED, "cannot read '%s': %s", path, strerror(errno));
    const int bad_line = ini_parse_stream(next_line, &r, take, &r);
    const bool unreadable = ferror(r.stream);
    const int error = errno;
    fclose(r.stream);
    if (r.status != 0) return r.status;
    if (unreadable)
        return cog_complain(COG_EXIT_FAILED, "cannot read '%s': %s", path, strerror(error));
    if (bad_line != 0)
        return cog_complain(COG_EXIT_USAGE, "%s:%d: expected `option = value`", path, bad_line);
    return 0;
}

int cog_scheme_parse(const cog_options *base, const char *text, cog_options *out) {
    *out = *base;
    out->name = NULL;
    char where[256];
    snprintf(where, sizeof(where), "--scheme '%s': ", text);
    char *copy = cog_keep_text(text);
    if (copy == NULL) return COG_EXIT_FAILED;
    char *rest = copy;
    for (char *word; (word = strtok_r(rest, " \t\n", &rest)) != NULL;) {
        char *equals = strchr(word, '=');
        if (equals == NULL)
            return cog_complain(COG_EXIT_USAGE, "%sexpected key=value at '%s'", where, word);
        *equals = '\0';
        const bool is_name = strcmp(word, "name") == 0;
        if (is_name && equals[1] == '\0')
            return cog_complain(COG_EXIT_USAGE, "%sname has no value", where);
        int status = 0;
        if (is_name)
            out->name = equals + 1;
        else
            status = cog_options_set(out, COG_FOR_SCHEME, COG_FROM_FLAG, where, word, equals + 1);
        if (status != 0) return status;
    }
    return 0;
}
