/* engine_history.c - the files of a run that is recorded, or replayed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "engine_parts.h"

/* Messages that are too old are dropped: the bound is part of what happened. */
static cog_status describe(const cog_engine *e, char **out) {
    char *job;
    COG_TRY(cog_engine_job(e, &job));
    const int length = asprintf(out, "%s\nstaleness = %lld", job, (long long)e->config.staleness);
    free(job);
    COG_CHECK(length >= 0, COG_ERR_MEMORY, "no memory to describe a run");
    return COG_OK;
}

static cog_status open_record(cog_engine *e, const char *job) {
    const char *path = e->record_path;
    e->record = fopen(path, "we");
    COG_CHECK(e->record != NULL, COG_ERR_IO, "cannot write the history '%s': %s", path,
              strerror(errno));
    e->server.record = e->record;
    return cog_history_write_header(e->record, job, e->server.round);
}

static cog_status open_replay(cog_engine *e, const char *job) {
    cog_history history;
    COG_TRY(cog_history_read(e->replay_path, &history));
    cog_status status = cog_engine_compare("history", job, history.job);
    if (status == COG_OK) status = cog_server_begin_replay(&e->server, &history);
    cog_history_free(&history);
    return status;
}

/* What is replayed would be written over. */
static cog_status check_files(const cog_engine *e) {
    struct stat old, new;
    if (e->record_path == NULL || e->replay_path == NULL) return COG_OK;
    if (stat(e->record_path, &new) != 0 || stat(e->replay_path, &old) != 0) return COG_OK;
    COG_CHECK(old.st_dev != new.st_dev || old.st_ino != new.st_ino, COG_ERR_ARGUMENT,
              "'%s' cannot be replayed and written anew at once", e->replay_path);
    return COG_OK;
}

static cog_status keep(const char *path, char **out) {
    if (path == NULL) return COG_OK;
    *out = strdup(path);
    COG_CHECK(*out != NULL, COG_ERR_MEMORY, "no memory for a file name");
    return COG_OK;
}

cog_status cog_engine_name_history(cog_engine *e) {
    COG_TRY(keep(e->config.record, &e->record_path));
    return keep(e->config.replay, &e->replay_path);
}

/* After a start that failed, what is open stays so. */
cog_status cog_engine_open_history(cog_engine *e) {
    char *job;
    if (e->record_path == NULL && e->replay_path == NULL) return COG_OK;
    COG_CHECK(e->code->ops->role != COG_ROLE_ALLREDUCE, COG_ERR_ARGUMENT,
              "code '%s' is an all-reduce: it takes no messages, in no order",
              cog_code_name(e->code));
    COG_TRY(check_files(e));
    COG_TRY(describe(e, &job));
    const bool replays = e->replay_path != NULL && e->server.retelling == NULL;
    cog_status status = replays ? open_replay(e, job) : COG_OK;
    const bool records = e->record_path != NULL && e->record == NULL;
    if (status == COG_OK && records) status = open_record(e, job);
    free(job);
    return status;
}

cog_status cog_engine_flush_history(cog_engine *e) {
    COG_CHECK(e->record == NULL || fflush(e->record) == 0, COG_ERR_IO,
              "cannot write the history '%s': %s", e->record_path, strerror(errno));
    return COG_OK;
}

void cog_engine_close_history(cog_engine *e) {
    if (e->record != NULL) fclose(e->record);
    free(e->record_path);
    free(e->replay_path);
}
