/* experiment_rank.c - runs of several processes: what those do that are not the server's. */
#include "complain.h"
#include "experiment.h"

int cog_experiment_rank(const cog_options *options) {
    const cog_engine_config config = {.transport = options->transport,
                                      .n_workers = (int32_t)options->workers};
    int rank = 0;
    return cog_engine_rank(&config, &rank) == COG_OK ? rank : 0;
}

static int exit_status_of(cog_status status) {
    const bool is_usage = status == COG_ERR_SPEC || status == COG_ERR_ARGUMENT;
    return status == COG_OK ? COG_EXIT_OK : is_usage ? COG_EXIT_USAGE : COG_EXIT_FAILED;
}

int cog_experiment_serve(const cog_options *options, const cog_problem *problem) {
    const cog_engine_config config = cog_experiment_config(options, problem);
    cog_engine *engine = NULL;
    cog_status status = cog_engine_create(&config, &engine);
    int exit_status = exit_status_of(status); /* what was written wrong is wrong for the server */
    if (exit_status == COG_EXIT_FAILED) cog_complain_status(status, "a worker");
    if (status == COG_OK) {
        status = cog_engine_run(engine, 0, NULL, NULL);
        exit_status = exit_status_of(status);
        /* what it did wrong the server says; but the server may be what it has lost */
        if (status == COG_ERR_TRANSPORT) cog_complain_status(status, "a worker");
    }
    cog_engine_destroy(engine);
    return exit_status;
}

cog_status cog_experiment_work(const cog_options *options, const cog_problem *problem,
                               cog_link *link) {
    cog_engine_config config = cog_experiment_config(options, problem);
    config.link = link;
    cog_engine *engine = NULL;
    cog_status status = cog_engine_create(&config, &engine);
    if (status == COG_OK) status = cog_engine_run(engine, 0, NULL, NULL);
    cog_engine_destroy(engine);
    return status;
}
