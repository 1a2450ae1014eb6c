/* problem.h - the data of a run: what is trained on, what is tested on. */
#ifndef COG_CLI_PROBLEM_H
#define COG_CLI_PROBLEM_H

#include "cograd/data.h"
#include "options.h"

typedef struct cog_problem {
    cog_dataset *train, *test;
    cog_dataset probe; /* evenly spread training rows, for the loss while training */
} cog_problem;

/* Return exit statuses. */
int cog_problem_open(const cog_options *options, cog_problem *out);
void cog_problem_close(cog_problem *problem); /* accepts a zeroed struct */

#endif
