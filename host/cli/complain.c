/* complain.c - errors of the command, one sentence each. */
#include "complain.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

int cog_complain(int exit_status, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fflush(stdout); /* what was said before comes first where both go to one place */
    char *text = NULL;
    if (vasprintf(&text, fmt, args) < 0) text = NULL;
    va_end(args);
    for (char *c = text; c != NULL && *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 127) *c = '?'; /* quoted input: one line, no escapes */
    fprintf(stderr, "%s: %s\n", program_invocation_name, text != NULL ? text : "out of memory");
    free(text);
    return exit_status;
}

const char *cog_sentence(cog_status status) {
    return cog_last_error()[0] != '\0' ? cog_last_error() : cog_status_string(status);
}

int cog_complain_status(cog_status status, const char *about) {
    const bool is_usage = status == COG_ERR_SPEC || status == COG_ERR_ARGUMENT;
    return cog_complain(is_usage ? COG_EXIT_USAGE : COG_EXIT_FAILED, "%s%s%s",
                        about != NULL ? about : "", about != NULL ? ": " : "",
                        cog_sentence(status));
}
