/* status.c - status text and the per-thread sentence of the last failure. */
#include <stdarg.h>
#include <stdio.h>

#include "check.h"

static _Thread_local char last_error[512];

const char *cog_status_string(cog_status status) {
    switch (status) {
#define X(name, value, text) \
    case COG_##name: return text;
        COG_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

const char *cog_last_error(void) { return last_error; }

cog_status cog_set_error(cog_status status, const char *fmt, ...) {
    char sentence[sizeof(last_error)]; /* the arguments may quote the previous sentence */
    va_list args;
    va_start(args, fmt);
    vsnprintf(sentence, sizeof(sentence), fmt, args);
    va_end(args);
    snprintf(last_error, sizeof(last_error), "%s", sentence);
    return status;
}
