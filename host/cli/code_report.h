/* code_report.h - the analysis of a code for people and for machines. */
#ifndef COG_CLI_CODE_REPORT_H
#define COG_CLI_CODE_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "cograd/analysis.h"

/* The matrix when it fits a page, the facts, and a row for each straggler count. */
void cog_code_report_print(FILE *out, const char *spec, const cog_code *code,
                           const cog_code_analysis *analysis);

/* The same as one object: name, spec, workers, messages, tasks, shards, blocks, weight, load,
 * mean_load, wait, message_share, communication, rank, tight, coherence, chordal, welch,
 * flat_bound, amplification, stragglers: [{s, sets, all_sets, error_mean, error_worst, bound,
 * floor, recoverable_share, refused_share}], matrix (a row for each message; null above a million
 * entries). What is not known or not finite is null. NULL when memory ran out. */
json_t *cog_code_report_json(const char *spec, const cog_code *code,
                             const cog_code_analysis *analysis);

#endif
