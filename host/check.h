/* check.h - the error macros of the host library.
 *
 * The function that first detects an error describes it (COG_FAIL); callers pass it up
 * silently (COG_TRY). Nobody prints, nobody exits.
 */
#ifndef COG_HOST_CHECK_H
#define COG_HOST_CHECK_H

#include "cograd/status.h"

/* Record a sentence for cog_last_error() and hand `status` back. */
cog_status cog_set_error(cog_status status, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The status is returned by name, so that the compiler sees that outputs are not used then. */
#define COG_FAIL(status, ...)                 \
    do {                                      \
        cog_set_error((status), __VA_ARGS__); \
        return (status);                      \
    } while (0)

#define COG_CHECK(cond, status, ...)                  \
    do {                                              \
        if (!(cond)) COG_FAIL((status), __VA_ARGS__); \
    } while (0)

#define COG_TRY(expr)                                  \
    do {                                               \
        cog_status try_status_ = (expr);               \
        if (try_status_ != COG_OK) return try_status_; \
    } while (0)

#endif
