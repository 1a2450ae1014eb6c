/* plot.h - curves of a few experiments, by gnuplot. */
#ifndef COG_CLI_PLOT_H
#define COG_CLI_PLOT_H

#include "experiment.h"

/* Write FOLDER/curves.gp, which holds its data, and run gnuplot on it for FOLDER/curves.png.
 * Without gnuplot a sentence says so, and the script stays. Returns an exit status. */
int cog_plot_write(const char *folder, const cog_experiment *experiments, int n);

#endif
