/* engine_parts.h - what the files of an engine share: engine.c and engine_*.c. */
#ifndef COG_HOST_ENGINE_PARTS_H
#define COG_HOST_ENGINE_PARTS_H

#include <time.h>

#include "cograd/engine.h"
#include "faulty.h"
#include "server.h"
#include "worker.h"

struct cog_engine {
    cog_engine_config config;
    cog_model model;
    cog_code *code;
    cog_stragglers *stragglers;
    cog_transport *transport;
    cog_faults faults;
    cog_faulty *faulty; /* around the transport; NULL without faults */
    cog_job job;
    cog_worker **worker; /* [n_workers], those in other processes NULL */
    cog_server server;
    cog_device *device; /* the server's */
    cog_replica *replica;
    cog_downlink *downlink;
    bool started;
    double seconds_before; /* of wall clock, in the run that this one goes on from */
    FILE *record;
    char *record_path, *replay_path; /* or NULL */
    char *description;               /* what that run and this one have in common */
    const void *note;                /* the caller's, for checkpoints */
    void *old_note;                  /* of the one that was loaded, or NULL */
    size_t note_bytes, old_note_bytes;
    char *news; /* what resuming has changed, as a sentence; or NULL */
    struct timespec start;

    void *workspace;
    float *x, *y; /* [EVALUATION_ROWS, n_features], [EVALUATION_ROWS] device */
};

/* Begin to deliver frames, if that was not done yet. */
cog_status cog_engine_start(cog_engine *engine);

/* A line "name = value" for everything on which two runs must agree for one to go on from the
 * other, but for the numbers of the data; to be freed. */
cog_status cog_engine_describe(const cog_engine_config *config, char **out);

/* What two runs have in common, numbers of the data included; to be freed. And the first line in
 * which they differ, as a sentence about `what`. */
cog_status cog_engine_job(const cog_engine *engine, char **out);
cog_status cog_engine_compare(const char *what, const char *mine, const char *theirs);

/* engine_faults.c: those of the configuration; before a checkpoint is written, and after. */
cog_status cog_engine_open_faults(cog_engine *engine);
void cog_engine_strike_checkpoint(const cog_engine *engine, const cog_checkpoint *checkpoint,
                                  const char *path);
cog_status cog_engine_spoil_checkpoint(const cog_engine *engine, const char *path);

/* engine_replan.c: the number of workers in such a text, 0 without; the same comparison but for who
 * computes what; and *file, a checkpoint of other workers, made into one of this run's. */
int32_t cog_engine_workers_of(const char *job);
cog_status cog_engine_compare_but_workers(const char *mine, const char *theirs);
cog_status cog_engine_replan(cog_engine *engine, const char *job, int64_t round, void **file);

/* engine_history.c: note the names of files in config; open them before the first round; close. */
cog_status cog_engine_name_history(cog_engine *engine);
cog_status cog_engine_open_history(cog_engine *engine);
cog_status cog_engine_flush_history(cog_engine *engine);
void cog_engine_close_history(cog_engine *engine);

#endif
