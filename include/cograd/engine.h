/* engine.h - coded, compressed, distributed gradient descent in four calls.
 *
 *     dataset -> shards -> gradient -> encode -> pack -> send
 *                                                          |
 *     parameters <- update <- decode <- unpack <- receive <-
 *
 *     cog_engine_config config = cog_engine_config_default();
 *     config.train = train;
 *     cog_engine *engine;
 *     cog_engine_create(&config, &engine);
 *     cog_engine_run(engine, 1000, NULL, NULL);
 *     cog_engine_evaluate(engine, test, &loss, &accuracy);
 *     cog_engine_destroy(engine);
 *
 * With the transports "sim" and "threads" one process plays the server and all workers. `cograd
 * info` lists what the specs may name and the keys each of them takes. An engine is used by one
 * thread at a time.
 */
#ifndef COG_ENGINE_H
#define COG_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cograd/code.h"
#include "cograd/data.h"
#include "cograd/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cog_engine cog_engine;
typedef struct cog_link cog_link;

typedef struct cog_engine_config {
    const cog_dataset *train; /* must outlive the engine */
    const char *model;        /* default "mlp:hidden=512x256" */
    /* A loss of your own instead of `model`, NULL without; its n_blocks is that of the code's plan
     * (cog_code_plan). Borrowed: it must outlive the engine. */
    const cog_model *custom_model;
    const char *device;     /* default "cpu" */
    const char *transport;  /* default "sim" */
    const char *code;       /* default "lwpd:weight=2,wait=6" */
    const char *channel;    /* default "topk:ratio=0.001,values=bf16,feedback=1"; of messages to
                               the server: an all-reduce has none */
    const char *downlink;   /* default "delta"; or "fp32", "bf16" */
    const char *optimizer;  /* default "sgd:rate=0.5" */
    const char *stragglers; /* default "none" */
    /* Faults to inject, joined by '+', as "kill:worker=3,round=20"; default "none", as is NULL.
     * Workers are killed, stopped or slowed down; frames are dropped, duplicated, reordered or
     * damaged. README has the list. A kill at the server, or of a worker that is a process, is the
     * end of this process. */
    const char *faults;
    int32_t n_workers;        /* default 8, at most a million */
    int64_t batch;            /* rows drawn from each shard in a round, default 64; 0: all */
    int64_t staleness;        /* messages older than this many rounds are dropped; default 64 */
    int64_t report_every;     /* rounds between two reports; default 50 */
    double timeout;           /* seconds without a frame from any worker, or for each round of an
                                 all-reduce, before a run gives up; virtual with "sim"; default 60 */
    double max_amplification; /* lossy channels over a code above this are refused; default 16 */
    uint64_t seed;            /* of parameters, rows and stragglers; default 1 */
    /* Files, NULL by default. record: which messages are taken, in which order, is written there.
     * replay: they are taken in that order, whatever the transport does, so a run that was recorded
     * is repeated bit for bit; the rest of the configuration is as it was then. */
    const char *record;
    const char *replay;
    /* May be NULL, the default. Asked often while the server waits, on the thread of
     * cog_engine_run: true ends the wait, and the run. */
    bool (*stop)(void *user);
    void *stop_user;
    /* Processes that come from outside, transport "zmq". A server's: what they are told, any text;
     * NULL is nothing. A worker's: the link through which it was told, in place of `transport`; it
     * must outlive the engine. */
    const char *settings;
    cog_link *link;
} cog_engine_config;

/* Where the run stands. Counters run from the start. */
typedef struct cog_report {
    int64_t round;            /* rounds ended so far, those skipped included */
    double seconds;           /* wall clock since the first run began, on_report included */
    double virtual_seconds;   /* clock of the simulated cluster; equals seconds elsewhere */
    int64_t bytes_up;         /* workers to server, headers included; all-reduce: its reduce half */
    int64_t bytes_down;       /* server to workers, headers included; all-reduce: its gather half */
    int64_t messages_used;    /* messages that entered an update */
    int64_t messages_late;    /* of them, answers to an older round */
    int64_t messages_dropped; /* arrived but not used */
    int64_t rounds_skipped;   /* rounds in which the answers did not determine an update */
    int64_t frames_refused;   /* dropped: of strangers, damaged, or second copies */
} cog_report;

/* Called within cog_engine_run, on its thread, every report_every rounds and after the last; return
 * false to stop. It may call any function of the engine but run and destroy. */
typedef bool (*cog_report_fn)(const cog_report *report, void *user);

/* Everything set but `train`. */
cog_engine_config cog_engine_config_default(void);

/* Call the server named by a transport's spec ("zmq:connect=tcp://host:5600") and be told what the
 * job is. Build an engine with n_workers and whatever the settings say, and run it: it serves.
 * ERR_ARGUMENT    the transport leads to no server
 * ERR_TIMEOUT     nobody answered in time
 * ERR_TRANSPORT   the server let nobody in */
cog_status cog_link_open(const char *transport, cog_link **out);
void cog_link_close(cog_link *link);                 /* accepts NULL */
const char *cog_link_settings(const cog_link *link); /* lives as long as the link */
int32_t cog_link_n_workers(const cog_link *link);
int32_t cog_link_worker(const cog_link *link); /* which of them this one is, from 0 */

/* Build the code, the model, the server and the workers. `config` and its strings are not kept,
 * `train` is.
 * ERR_ARGUMENT      a number out of range, parts that do not fit each other or the data, or a lossy
 *                   channel over a code that amplifies more than max_amplification
 * ERR_SPEC          a spec that names what does not exist
 * ERR_UNSUPPORTED   a part is not built in, or has no kernels for the device */
cog_status cog_engine_create(const cog_engine_config *config, cog_engine **out);
void cog_engine_destroy(cog_engine *engine); /* accepts NULL */

/* The rank this process plays in such a run: 0 is the server, or everything where all ranks live in
 * one process; others are workers. A worker's engine has no parameters to show and no reports: it
 * is created, run and destroyed. Of the configuration, transport and n_workers are looked at. */
cog_status cog_engine_rank(const cog_engine_config *config, int *out);

/* Run until n_rounds rounds have ended in all, or on_report (may be NULL) or config.stop says stop,
 * the latter also within a round. May be called again to go on, also after a timeout.
 * A worker's process serves until the server's engine is destroyed, and calls no on_report.
 * ERR_TIMEOUT     too few workers answered within `timeout`
 * ERR_TRANSPORT   the server is gone, or so many workers that the others determine no update
 *
 * Any error of a worker is returned with its sentence. */
cog_status cog_engine_run(cog_engine *engine, int64_t n_rounds, cog_report_fn on_report,
                          void *user);

/* A checkpoint: all that the run needs to go on, at `path`. It is written under another name and
 * renamed: one that was there before stays until this one is complete on the disk. Between two runs
 * or from on_report, in the server's process.
 *     Answers that are under way are waited for, and dropped; their workers are asked again. So a
 * run with checkpoints goes on, from any of them, as it went on itself, bit for bit, wherever the
 * run repeats at all (transport "sim"; and any other when rounds wait for every worker). And when
 * rounds wait for every worker, nothing is under way, and that is the run without checkpoints.
 * ERR_TIMEOUT       a worker did not send its state within `timeout`, or config.stop says stop; the
 *                   run can go on
 * ERR_ARGUMENT      the run is a replay, or rounds of an all-reduce were left under way
 * ERR_UNSUPPORTED   this process is a worker
 * ERR_IO            it could not be written */
cog_status cog_engine_save(cog_engine *engine, const char *path);

/* Go on from a checkpoint, in an engine that has not run yet. The configuration is that of the run
 * that was saved; transport, device, stragglers, faults, staleness, report_every, timeout and
 * max_amplification may differ. After a failure the engine can only be destroyed.
 *     The number of workers may differ too, and with it the code, as long as its plan has as many
 * blocks. Parameters, optimizer and counters are kept, and the sum of what the workers' error
 * feedback and momentum carry, weighted as the code decodes when all answer: the new workers carry
 * shares of it. Predictors begin anew.
 * ERR_IO            it cannot be read
 * ERR_FORMAT        it is no checkpoint, of another version or damaged
 * ERR_ARGUMENT      it is of a run of another kind, the sentence names both; or this run has begun
 * ERR_UNSUPPORTED   this process is a worker */
cog_status cog_engine_load(cog_engine *engine, const char *path);

/* Bytes of the caller's own, such as its log, which checkpoints carry from now on. They are
 * borrowed and stay in place until the next call, or the engine's end. */
void cog_engine_set_note(cog_engine *engine, const void *note, size_t bytes);
/* Those in the checkpoint that was loaded; NULL without. They live as long as the engine. */
const void *cog_engine_note(const cog_engine *engine, size_t *bytes);

/* What became of a run with another number of workers, as a sentence for its user; "" when nothing
 * is new. It lives as long as the engine. */
const char *cog_engine_news(const cog_engine *engine);

/* Mean loss and share of correct rows (0 for a regression) on a data set, at the server's
 * parameters.
 * ERR_ARGUMENT      no rows, or not as many features as the training data
 * ERR_UNSUPPORTED   this process is a worker */
cog_status cog_engine_evaluate(cog_engine *engine, const cog_dataset *data, double *loss,
                               double *accuracy);

cog_report cog_engine_report(const cog_engine *engine);

/* The server's parameters [n_params], host memory, in the model's layout (model.h). Setting them
 * between two runs, or from on_report, replaces every worker's; answers still under way are
 * dropped, while the round, the state of the optimizer and the workers' error feedback stay.
 * ERR_ARGUMENT      n is not cog_engine_n_params()
 * ERR_UNSUPPORTED   this process is a worker */
int64_t cog_engine_n_params(const cog_engine *engine);
cog_status cog_engine_get_params(cog_engine *engine, float *out, int64_t n);
cog_status cog_engine_set_params(cog_engine *engine, const float *values, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
