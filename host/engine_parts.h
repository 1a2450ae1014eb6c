/* engine_parts.h - what engine.c and engine_save.c share. */
#ifndef COG_HOST_ENGINE_PARTS_H
#define COG_HOST_ENGINE_PARTS_H

#include <time.h>

#include "cograd/engine.h"
#include "server.h"
#include "worker.h"

struct cog_engine {
    cog_engine_config config;
    cog_model model;
    cog_code *code;
    cog_stragglers *stragglers;
    cog_transport *transport;
    cog_job job;
    cog_worker **worker; /* [n_workers], those in other processes NULL */
    cog_server server;
    cog_device *device; /* the server's */
    cog_replica *replica;
    cog_downlink *downlink;
    bool started;
    double seconds_before; /* of wall clock, in the run that this one goes on from */
    char *description;     /* what that run and this one have in common */
    struct timespec start;

    void *workspace;
    float *x, *y; /* [EVALUATION_ROWS, n_features], [EVALUATION_ROWS] device */
};

/* Begin to deliver frames, if that was not done yet. */
cog_status cog_engine_start(cog_engine *engine);

/* A line "name = value" for everything on which two runs must agree for one to go on from the
 * other, but for the numbers of the data; to be freed. */
cog_status cog_engine_describe(const cog_engine_config *config, char **out);

#endif
