/* status.h - every way a call into the engine can end.
 *
 * Functions that can fail return a cog_status and write results through pointers placed
 * last. On failure outputs are left untouched and cog_last_error() holds one sentence saying
 * what went wrong, recorded by the function that detected it. Nothing in the library prints,
 * exits or aborts.
 */
#ifndef COG_STATUS_H
#define COG_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* clang-format off */
#define COG_STATUS_MAP(X)                                                      \
    X(OK,              0, "success")                                           \
    X(ERR_ARGUMENT,    1, "invalid argument")                                  \
    X(ERR_SPEC,        2, "malformed spec string, or unknown name in it")      \
    X(ERR_MEMORY,      3, "out of host or device memory")                      \
    X(ERR_DEVICE,      4, "a device call failed")                              \
    X(ERR_TRANSPORT,   5, "a peer or the network failed")                      \
    X(ERR_TIMEOUT,     6, "deadline passed before enough workers answered")    \
    X(ERR_UNDECODABLE, 7, "arrived messages do not determine the gradient")    \
    X(ERR_FORMAT,      8, "a file or message is damaged or of another version")\
    X(ERR_UNSUPPORTED, 9, "not built in, or not available on this device")     \
    X(ERR_IO,         10, "a file could not be read or written")
/* clang-format on */

typedef enum cog_status {
#define X(name, value, text) COG_##name = value,
    COG_STATUS_MAP(X)
#undef X
} cog_status;

/* Fixed English text for a status code. Never NULL. */
const char *cog_status_string(cog_status status);

/* Detail for the last failure on the calling thread; "" when there was none.
 * The string is valid until the next failing call on this thread. */
const char *cog_last_error(void);

#ifdef __cplusplus
}
#endif
#endif
