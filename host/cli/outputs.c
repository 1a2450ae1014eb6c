/* outputs.c - log, record, plot. */
#include "outputs.h"

#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "plot.h"
#include "progress.h"

static int open_in(const char *folder, const char *name, cog_file *out) {
    char *path = cog_path_join(folder, name);
    const int status = path != NULL ? cog_file_open(path, out) : COG_EXIT_FAILED;
    free(path);
    return status;
}

int cog_outputs_open(const cog_options *options, cog_outputs *out) {
    memset(out, 0, sizeof(*out));
    out->folder = options->out;
    int status = 0;
    if (out->folder != NULL) {
        status = cog_folder_make(out->folder);
        if (status == 0) status = open_in(out->folder, "log.jsonl", &out->log);
        if (status == 0) status = open_in(out->folder, "record.json", &out->record);
    }
    if (status == 0 && options->json != NULL) status = cog_file_open(options->json, &out->json);
    if (status != 0) cog_outputs_discard(out);
    return status;
}

int cog_outputs_follow(const cog_experiment *experiment, void *user) {
    cog_outputs *outputs = user;
    int status = outputs->log.stream != NULL ? cog_log_point(experiment, &outputs->log) : 0;
    if (status != 0) /* the record would go to the same full disk: do not complain twice */
        cog_outputs_discard(outputs);
    else if (!experiment->is_past)
        status = cog_progress_show(experiment);
    outputs->lost = outputs->lost || status != 0;
    return status;
}

static int write_record(cog_file *file, const json_t *record) {
    if (file->stream == NULL) return 0;
    const int status = cog_record_write(record, file);
    if (status == 0) return cog_file_commit(file);
    cog_file_discard(file);
    return status;
}

/* --json may lie on another disk than the folder: its failure spoils nothing else. */
int cog_outputs_commit(cog_outputs *outputs, const json_t *record,
                       const cog_experiment *experiments, int n) {
    const bool has_folder = outputs->log.stream != NULL;
    int status = cog_file_commit(&outputs->log);
    if (status == 0) status = write_record(&outputs->record, record);
    if (status == 0 && has_folder) status = cog_plot_write(outputs->folder, experiments, n);
    const int json_status = write_record(&outputs->json, record);
    cog_outputs_discard(outputs);
    return status != 0 ? status : json_status;
}

void cog_outputs_discard(cog_outputs *outputs) {
    cog_file_discard(&outputs->log);
    cog_file_discard(&outputs->record);
    cog_file_discard(&outputs->json);
}
