/* progress.h - how a run is going: one line that changes on a terminal, a line a report elsewhere.
 */
#ifndef COG_CLI_PROGRESS_H
#define COG_CLI_PROGRESS_H

#include "experiment.h"

/* Show the last point. Returns an exit status: not 0 when standard output is gone. */
int cog_progress_show(const cog_experiment *experiment);

/* Say how the run ended, on a line that stays. */
void cog_progress_end(const cog_experiment *experiment);

/* Complain if something that was printed did not arrive. Returns an exit status. */
int cog_output_check(void);

#endif
