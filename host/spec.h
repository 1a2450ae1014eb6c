/* spec.h - "name:key=value,key=value" strings, the one way plug-ins are chosen.
 *
 * A plug-in asks for its keys one by one; every question states the default and the range, so
 * that cog_spec_finish() can name the valid keys and `cograd info` can list them without a
 * second table.
 */
#ifndef COG_HOST_SPEC_H
#define COG_HOST_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "cograd/status.h"

#define COG_SPEC_MAX_KEYS 24
#define COG_SPEC_MAX_TEXT 512

/* A key the plug-in understands, as it would be shown to a user. */
typedef struct cog_spec_key {
    char name[24];
    char meaning[72]; /* "2 (1..1024)" or "ring|kron|net": the default first */
} cog_spec_key;

typedef struct cog_spec {
    char text[COG_SPEC_MAX_TEXT]; /* private copy, cut into the pieces below */
    const char *name;
    const char *argument; /* the one value without a key, as in "libsvm:FILE"; NULL without */
    const char *key[COG_SPEC_MAX_KEYS];
    const char *value[COG_SPEC_MAX_KEYS];
    int n_keys;
    cog_spec_key asked[COG_SPEC_MAX_KEYS];
    int n_asked;
} cog_spec;

/* ERR_SPEC for a missing '=', an empty or repeated key, too many keys, or over-long text. A first
 * piece that has no '=' becomes the argument. */
cog_status cog_spec_parse(const char *text, cog_spec *out);

/* The value of `key`, or the default when absent.
 * ERR_SPEC for a value that is not a number, or lies outside [min, max]; the sentence names
 * plug-in, key, value and range. */
cog_status cog_spec_int(cog_spec *spec, const char *key, int64_t fallback, int64_t min, int64_t max,
                        int64_t *out);
cog_status cog_spec_real(cog_spec *spec, const char *key, double fallback, double min, double max,
                         double *out);
cog_status cog_spec_flag(cog_spec *spec, const char *key, bool fallback, bool *out);
cog_status cog_spec_text(cog_spec *spec, const char *key, const char *fallback, const char **out);
/* One of `names` (NULL-terminated, the default first); its index. */
cog_status cog_spec_choice(cog_spec *spec, const char *key, const char *const *names, int *out);

/* ERR_SPEC when some key was never asked for (a typo is an error), naming it and the valid ones;
 * or when there is an argument and the plug-in takes none (it sets spec->argument = NULL when
 * it has used it). */
cog_status cog_spec_finish(const cog_spec *spec);

#endif
