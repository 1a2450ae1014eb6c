/* engine_checks.h - the parts of a run that do not go together, refused before anything runs. */
#ifndef COG_HOST_ENGINE_CHECKS_H
#define COG_HOST_ENGINE_CHECKS_H

#include "channel.h"
#include "code.h"
#include "cograd/engine.h"
#include "optimizer.h"

enum { COG_ENGINE_MAX_WORKERS = 1000000 };

/* What a server has opened. */
typedef struct cog_engine_parts {
    const cog_engine_config *config;
    const cog_code *code;
    const cog_channel *channel;
    const char *channel_spec; /* for sentences: that of an all-reduce is not the configuration's */
    const cog_optimizer *optimizer;
} cog_engine_parts;

/* Numbers within their ranges, and data to train on. */
cog_status cog_engine_check_config(const cog_engine_config *config);
/* Needs no optimizer yet. */
cog_status cog_engine_check_amplification(const cog_engine_parts *parts);
cog_status cog_engine_check_optimizer(const cog_engine_parts *parts);

#endif
