/* interrupt.h - SIGINT, SIGTERM and SIGHUP ask for an orderly end; a second one ends at once. */
#ifndef COG_CLI_INTERRUPT_H
#define COG_CLI_INTERRUPT_H

#include <stdbool.h>

/* Was this process begun to ignore SIGHUP, as by nohup? Then it goes on doing so. */
bool cog_interrupt_outlives_terminal(void);

/* Also ignores SIGPIPE and SIGXFSZ: a closed output and a size limit are write errors like others.
 */
void cog_interrupt_catch(void);

/* The signal that arrived; 0 when none did. */
int cog_interrupt_signal(void);

/* Files to remove if a second signal ends the process. `path` must stay until it is forgotten. */
void cog_interrupt_remember(const char *path);
void cog_interrupt_forget(const char *path);

#endif
