/* settings.c - options that travel from a server to its workers. */
#include <stdio.h>
#include <string.h>

#include "complain.h"
#include "options.h"

enum { MOST = 16384 };

const char *cog_settings_make(const cog_options *options) {
    char text[MOST] = "", value[2048];
    size_t length = 0;
    for (int i = 0; i < COG_N_OPTIONS && length < sizeof(text); i++) {
        const char *name = cog_option_name(i, COG_FOR_SETTINGS);
        if (name == NULL || !cog_option_format(options, i, value, sizeof(value))) continue;
        length += (size_t)snprintf(text + length, sizeof(text) - length, "%s = %s\n", name, value);
    }
    if (length < sizeof(text)) return cog_keep_text(text);
    cog_complain(COG_EXIT_USAGE, "the options are too long to be sent to workers");
    return NULL;
}

int cog_settings_read(const char *settings, cog_options *options) {
    char *copy = cog_keep_text(settings);
    if (copy == NULL) return COG_EXIT_FAILED;
    int status = 0;
    for (char *line, *rest = copy; status == 0 && (line = strtok_r(rest, "\n", &rest)) != NULL;) {
        char *equals = strstr(line, " = ");
        if (equals == NULL)
            return cog_complain(COG_EXIT_FAILED, "the server's settings make no sense: '%s'", line);
        *equals = '\0';
        status = cog_options_set(options, COG_FOR_SETTINGS, COG_FROM_FILE, "the server's ", line,
                                 equals + strlen(" = "));
    }
    return status;
}
