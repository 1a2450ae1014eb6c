/* complain.c - errors of the command, one sentence each. */
#include "complain.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

int cog_complain(int exit_status, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fflush(stdout); /* what was said before comes first where both go to one place */
    fprintf(stderr, "%s: ", program_invocation_name);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
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
