/* outputs.h - everything a run writes, opened before it begins and completed when it ends. */
#ifndef COG_CLI_OUTPUTS_H
#define COG_CLI_OUTPUTS_H

#include <stdbool.h>

#include "experiment.h"
#include "file.h"
#include "record.h"

typedef struct cog_outputs {
    const char *folder; /* --out; NULL without */
    cog_file log, record, json;
    bool lost; /* the log or standard output failed, and that was said */
} cog_outputs;

/* Return exit statuses. A folder that cannot be written is found out here. */
int cog_outputs_open(const cog_options *options, cog_outputs *out);
/* Complete all files: log, record, --json, and the plot of the experiments. */
int cog_outputs_commit(cog_outputs *outputs, const json_t *record,
                       const cog_experiment *experiments, int n);
void cog_outputs_discard(cog_outputs *outputs); /* accepts committed outputs */

/* Follows an experiment: log and progress. `user` is the cog_outputs. */
int cog_outputs_follow(const cog_experiment *experiment, void *user);

#endif
