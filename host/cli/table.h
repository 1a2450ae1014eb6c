/* table.h - the comparison that people read. */
#ifndef COG_CLI_TABLE_H
#define COG_CLI_TABLE_H

#include "experiment.h"

/* Print one row for each experiment; then, for every experiment but the reference, how it compares
 * with experiments[reference] (-1: no comparison). */
void cog_table_print(FILE *out, const cog_experiment *experiments, int n, int reference);

/* "1 100": three significant digits, thousands apart. */
void cog_human_number(double value, char *out, size_t size);

#endif
