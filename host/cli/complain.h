/* complain.h - the one sentence on standard error that goes with a failing exit status. */
#ifndef COG_CLI_COMPLAIN_H
#define COG_CLI_COMPLAIN_H

#include "cograd/status.h"

enum { COG_EXIT_OK = 0, COG_EXIT_FAILED = 1, COG_EXIT_USAGE = 2, COG_EXIT_SIGNAL = 128 };

/* Print "cograd train: SENTENCE" and hand `exit_status` back. The name is glibc's
 * program_invocation_name, which main() sets to the subcommand. */
int cog_complain(int exit_status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The library's sentence for a call that ended with `status`. What the user wrote wrong is a usage
 * error, the rest a failed run. `about` comes first ("data: ..."); may be NULL. */
int cog_complain_status(cog_status status, const char *about);

/* The sentence itself: the library's, or the fixed text when there is none. */
const char *cog_sentence(cog_status status);

#endif
