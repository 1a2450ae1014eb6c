/* record.h - what a run leaves behind for machines: JSON.
 *
 * A record (--json, record.json) has, besides every option that makes the scheme:
 *
 *     scheme             its name
 *     stopped            "target accuracy" | "rounds" | "seconds" | "diverged" | "interrupted"
 *                        | "output" | "failed", then also error
 *     rounds             updates made; rounds_skipped of them changed nothing
 *     train_loss         mean over all training rows;  test_loss, test_accuracy over the test rows
 *     seconds            wall clock of the training, without evaluation
 *     virtual_seconds    clock of the simulated cluster; equals seconds elsewhere
 *     bytes_up, bytes_down, messages_used, messages_late, messages_dropped, frames_refused
 *     version            of cograd
 *     baseline           the record of the baseline, where one was trained
 *
 * `cograd compare` writes a list of records.
 * A number that does not exist (accuracy of a regression, the loss of a diverged run) is null.
 * log.jsonl has one line for each report, with the loss over at most 10,000 training rows.
 */
#ifndef COG_CLI_RECORD_H
#define COG_CLI_RECORD_H

#include "experiment.h"
#include "file.h"

typedef struct json_t json_t;

/* To be given to cog_record_write or json_decref. NULL when memory runs out. */
json_t *cog_record_make(const cog_experiment *experiment);

/* One line of log.jsonl. Returns an exit status. */
int cog_log_point(const cog_experiment *experiment, cog_file *file);

/* Write JSON to an open file. Returns an exit status. */
int cog_record_write(const json_t *record, cog_file *file);

#endif
