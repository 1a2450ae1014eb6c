/* suite.h - a few schemes trained on one problem, one after the other, with table and outputs. */
#ifndef COG_CLI_SUITE_H
#define COG_CLI_SUITE_H

#include "experiment.h"
#include "record.h"

typedef struct cog_suite {
    cog_options shared; /* problem and outputs */
    cog_options scheme[COG_MAX_SCHEMES];
    int n;
    int reference; /* the scheme the others are compared with; -1: none */
    json_t *(*make_record)(const struct cog_suite *suite); /* NULL after a complaint */

    cog_experiment experiment[COG_MAX_SCHEMES];
    int n_run; /* schemes that were begun */
} cog_suite;

/* Nothing is trained until all schemes, the data and the outputs have been checked. Returns the
 * exit status of the command. */
int cog_suite_run(cog_suite *suite);

/* The part of its code's spec before ':' names a scheme. Returns an exit status. */
int cog_scheme_name(cog_options *scheme);

#endif
