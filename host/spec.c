/* spec.c - parser of "name:argument,key=value,key=value". */
#include "spec.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static cog_status take_piece(cog_spec *spec, char *piece, bool is_first, const char *text) {
    char *equals = strchr(piece, '=');
    if (equals == NULL && is_first && piece[0] != '\0') {
        spec->argument = piece;
        return COG_OK;
    }
    COG_CHECK(equals != NULL && equals != piece, COG_ERR_SPEC, "expected key=value at '%s' in '%s'",
              piece, text);
    COG_CHECK(spec->n_keys < COG_SPEC_MAX_KEYS, COG_ERR_SPEC, "more than %d keys in '%s'",
              COG_SPEC_MAX_KEYS, text);
    *equals = '\0';
    for (int i = 0; i < spec->n_keys; i++)
        COG_CHECK(strcmp(spec->key[i], piece) != 0, COG_ERR_SPEC, "'%s' is given twice in '%s'",
                  piece, text);
    spec->key[spec->n_keys] = piece;
    spec->value[spec->n_keys] = equals + 1;
    spec->n_keys++;
    return COG_OK;
}

/* Cuts `out` in place: its pointers point into itself, so a cog_spec is not to be copied. */
cog_status cog_spec_parse(const char *text, cog_spec *out) {
    COG_CHECK(text != NULL && text[0] != '\0', COG_ERR_SPEC, "a spec is empty");
    COG_CHECK(strlen(text) < COG_SPEC_MAX_TEXT, COG_ERR_SPEC, "a spec is longer than %d characters",
              COG_SPEC_MAX_TEXT - 1);
    memset(out, 0, sizeof(*out));
    strcpy(out->text, text);
    out->name = out->text;

    char *cursor = strchr(out->text, ':');
    bool is_first = true;
    while (cursor != NULL) {
        *cursor++ = '\0';
        char *comma = strchr(cursor, ',');
        if (comma != NULL) *comma = '\0';
        COG_TRY(take_piece(out, cursor, is_first, text));
        cursor = comma;
        is_first = false;
    }
    COG_CHECK(out->name[0] != '\0', COG_ERR_SPEC, "no name before ':' in '%s'", text);
    return COG_OK;
}

static void remember(cog_spec *spec, const char *key, const char *meaning) {
    for (int i = 0; i < spec->n_asked; i++)
        if (strcmp(spec->asked[i].name, key) == 0) return;
    if (spec->n_asked == COG_SPEC_MAX_KEYS) return;
    cog_spec_key *asked = &spec->asked[spec->n_asked++];
    snprintf(asked->name, sizeof(asked->name), "%s", key);
    snprintf(asked->meaning, sizeof(asked->meaning), "%s", meaning);
}

static const char *lookup(const cog_spec *spec, const char *key) {
    for (int i = 0; i < spec->n_keys; i++)
        if (strcmp(spec->key[i], key) == 0) return spec->value[i];
    return NULL;
}

cog_status cog_spec_text(cog_spec *spec, const char *key, const char *fallback, const char **out) {
    remember(spec, key, fallback != NULL ? fallback : "none");
    const char *value = lookup(spec, key);
    *out = value != NULL ? value : fallback;
    return COG_OK;
}

/* "16 (1..1024)"; an open end is not shown. */
static void describe_range(char *out, size_t size, double fallback, double min, double max) {
    char low[32] = "", high[32] = "";
    if (min > -1e18) snprintf(low, sizeof(low), "%.10g", min);
    if (max < 1e18) snprintf(high, sizeof(high), "%.10g", max);
    if (low[0] != '\0' || high[0] != '\0')
        snprintf(out, size, "%.10g (%s..%s)", fallback, low, high);
    else
        snprintf(out, size, "%.10g", fallback);
}

cog_status cog_spec_real(cog_spec *spec, const char *key, double fallback, double min, double max,
                         double *out) {
    char meaning[72];
    describe_range(meaning, sizeof(meaning), fallback, min, max);
    remember(spec, key, meaning);
    const char *value = lookup(spec, key);
    if (value == NULL) {
        *out = fallback;
        return COG_OK;
    }
    char *end;
    errno = 0;
    const double number = strtod(value, &end);
    COG_CHECK(end != value && *end == '\0' && isfinite(number), COG_ERR_SPEC,
              "'%s' of '%s' must be a number, is '%s'", key, spec->name, value);
    COG_CHECK(number >= min && number <= max, COG_ERR_SPEC,
              "'%s' of '%s' is %s, outside %.10g..%.10g", key, spec->name, value, min, max);
    *out = number;
    return COG_OK;
}

cog_status cog_spec_int(cog_spec *spec, const char *key, int64_t fallback, int64_t min, int64_t max,
                        int64_t *out) {
    char meaning[72];
    describe_range(meaning, sizeof(meaning), (double)fallback, (double)min, (double)max);
    remember(spec, key, meaning);
    const char *value = lookup(spec, key);
    if (value == NULL) {
        *out = fallback;
        return COG_OK;
    }
    char *end;
    errno = 0;
    const long long number = strtoll(value, &end, 10);
    COG_CHECK(end != value && *end == '\0' && errno == 0, COG_ERR_SPEC,
              "'%s' of '%s' must be a whole number, is '%s'", key, spec->name, value);
    COG_CHECK(number >= min && number <= max, COG_ERR_SPEC,
              "'%s' of '%s' is %s, outside %lld..%lld", key, spec->name, value, (long long)min,
              (long long)max);
    *out = number;
    return COG_OK;
}

cog_status cog_spec_choice(cog_spec *spec, const char *key, const char *const *names, int *out) {
    char meaning[72] = "";
    size_t length = 0;
    for (int i = 0; names[i] != NULL && length < sizeof(meaning); i++)
        length += (size_t)snprintf(meaning + length, sizeof(meaning) - length, "%s%s",
                                   i > 0 ? "|" : "", names[i]);
    remember(spec, key, meaning);
    const char *value = lookup(spec, key);
    if (value == NULL) value = names[0];
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(names[i], value) != 0) continue;
        *out = i;
        return COG_OK;
    }
    COG_FAIL(COG_ERR_SPEC, "'%s' of '%s' must be one of %s, is '%s'", key, spec->name, meaning,
             value);
}

cog_status cog_spec_flag(cog_spec *spec, const char *key, bool fallback, bool *out) {
    int64_t value;
    COG_TRY(cog_spec_int(spec, key, fallback, 0, 1, &value));
    *out = value != 0;
    return COG_OK;
}

static bool was_asked(const cog_spec *spec, const char *key) {
    for (int i = 0; i < spec->n_asked; i++)
        if (strcmp(spec->asked[i].name, key) == 0) return true;
    return false;
}

cog_status cog_spec_finish(const cog_spec *spec) {
    COG_CHECK(spec->argument == NULL, COG_ERR_SPEC, "expected key=value at '%s' of '%s'",
              spec->argument, spec->name);
    char valid[256] = "";
    size_t length = 0;
    for (int i = 0; i < spec->n_asked && length < sizeof(valid); i++)
        length += (size_t)snprintf(valid + length, sizeof(valid) - length, "%s%s",
                                   i > 0 ? ", " : "", spec->asked[i].name);
    for (int i = 0; i < spec->n_keys; i++)
        COG_CHECK(was_asked(spec, spec->key[i]), COG_ERR_SPEC,
                  spec->n_asked > 0 ? "'%s' has no key '%s'; it has %s"
                                    : "'%s' has no key '%s'; it has none%s",
                  spec->name, spec->key[i], valid);
    return COG_OK;
}
