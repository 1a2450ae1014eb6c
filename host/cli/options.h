/* options.h - the options that `cograd train` and `cograd compare` share.
 *
 * One list makes the structure, the parser of the command line, of a configuration file and of
 * --scheme, the help text and the record.
 */
#ifndef COG_CLI_OPTIONS_H
#define COG_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where an option may stand. */
enum {
    COG_FOR_TRAIN = 1,
    COG_FOR_COMPARE = 2,
    COG_FOR_SCHEME = 4, /* inside --scheme: what differs between schemes on one problem */
    COG_FOR_FILE = 8,   /* in a configuration file */
    COG_FOR_WORKER = 16,
    COG_FOR_SETTINGS = 32, /* what a server tells its workers: who computes must know it */
};
#define COG_FOR_RUNS    (COG_FOR_TRAIN | COG_FOR_COMPARE | COG_FOR_FILE)
#define COG_FOR_SCHEMES (COG_FOR_RUNS | COG_FOR_SCHEME)
#define COG_FOR_RANKS   (COG_FOR_SCHEMES | COG_FOR_SETTINGS)

typedef enum cog_option_group {
    COG_GROUP_PROBLEM = 1,
    COG_GROUP_SCHEME,
    COG_GROUP_CLUSTER,
    COG_GROUP_STOP,
    COG_GROUP_OUTPUT,
} cog_option_group;

/* TEXT(field, long name, value, group, places, meaning)
 * INT and REAL(field, long name, value, group, places, least, most, meaning) */
/* clang-format off */
#define COG_OPTION_MAP(TEXT, INT, REAL)                                                            \
    TEXT(data, "data", "SPEC", COG_GROUP_PROBLEM,                                                  \
         COG_FOR_RUNS | COG_FOR_SETTINGS | COG_FOR_WORKER,                                         \
         "mnist, a folder with the four IDX files of MNIST, libsvm:FILE, or synthetic:rows=N,...") \
    TEXT(model, "model", "SPEC", COG_GROUP_PROBLEM, COG_FOR_RUNS | COG_FOR_SETTINGS,               \
         "mlp:hidden=512x256, softmax, squared or logistic")                                       \
    INT(batch, "batch", "ROWS", COG_GROUP_PROBLEM, COG_FOR_RANKS, 0, INT64_MAX,                    \
        "rows drawn from each shard in a round, 0 is all of them")                                 \
    INT(seed, "seed", "N", COG_GROUP_PROBLEM, COG_FOR_RANKS, 0, INT64_MAX,                         \
        "everything random follows from it")                                                       \
    TEXT(code, "code", "SPEC", COG_GROUP_SCHEME, COG_FOR_RANKS,                                    \
         "who computes what, and when to stop waiting")                                            \
    TEXT(channel, "channel", "SPEC", COG_GROUP_SCHEME, COG_FOR_RANKS,                              \
         "how a message to the server is compressed, and predicted: see info")                     \
    TEXT(downlink, "downlink", "SPEC", COG_GROUP_SCHEME, COG_FOR_RANKS,                            \
         "how parameters return to the workers: delta, fp32 or bf16")                              \
    TEXT(optimizer, "optimizer", "SPEC", COG_GROUP_SCHEME, COG_FOR_RANKS,                          \
         "sgd, momentum, adam or onebit-adam, with rate=R")                                        \
    INT(staleness, "staleness", "ROUNDS", COG_GROUP_SCHEME, COG_FOR_SCHEMES, 0, INT64_MAX,         \
        "older messages are dropped")                                                              \
    REAL(max_amplification, "max-amplification", "X", COG_GROUP_SCHEME, COG_FOR_SCHEMES, 0, 1e300, \
         "refuse a lossy channel over a code that amplifies errors more than this")                \
    INT(workers, "workers", "N", COG_GROUP_CLUSTER, COG_FOR_RANKS, 1, 65536,                       \
        "number of workers")                                                                       \
    TEXT(transport, "transport", "SPEC", COG_GROUP_CLUSTER, COG_FOR_SCHEMES,                       \
         "sim runs in virtual time, threads in real time, mpi in processes of mpirun, "            \
         "zmq in processes that come and go, nccl on one GPU a rank")                              \
    TEXT(device, "device", "SPEC", COG_GROUP_CLUSTER, COG_FOR_RANKS | COG_FOR_WORKER,              \
         "where vectors live and arithmetic runs")                                                 \
    TEXT(stragglers, "stragglers", "SPEC", COG_GROUP_CLUSTER, COG_FOR_RANKS,                       \
         "slowness to inject, such as exp:mean=0.01 or slow:workers=2,factor=8")                   \
    TEXT(faults, "faults", "SPEC", COG_GROUP_CLUSTER, COG_FOR_RANKS | COG_FOR_WORKER,              \
         "faults to inject, such as kill:worker=3,round=20 or drop:probability=0.01, joined by +") \
    REAL(timeout, "timeout", "S", COG_GROUP_CLUSTER, COG_FOR_SCHEMES, 0, 1e9,                      \
         "give up after so many seconds without progress")                                         \
    TEXT(connect, "connect", "ADDRESS", COG_GROUP_CLUSTER, COG_FOR_WORKER,                         \
         "where the server listens, such as tcp://host:5600 or ipc:///tmp/job")                    \
    TEXT(token, "token", "FILE", COG_GROUP_CLUSTER, COG_FOR_WORKER,                                \
         "the secret that the server holds too")                                                   \
    TEXT(curve_key, "curve-key", "FILE", COG_GROUP_CLUSTER, COG_FOR_WORKER,                        \
         "the public key of a server with curve=: what travels is encrypted")                      \
    INT(rank, "rank", "N", COG_GROUP_CLUSTER, COG_FOR_WORKER, 0, 65536,                            \
        "the rank to ask for, from 1; 0 is any that is free")                                      \
    INT(jobs, "jobs", "N", COG_GROUP_CLUSTER, COG_FOR_WORKER, 0, INT64_MAX,                        \
        "runs to serve, one after the other; 0 is without end")                                    \
    REAL(patience, "patience", "S", COG_GROUP_CLUSTER, COG_FOR_WORKER, 0, 1e6,                     \
         "end when there is no server for so many seconds")                                        \
    REAL(silence, "silence", "S", COG_GROUP_CLUSTER, COG_FOR_WORKER, 0.05, 3600,                   \
         "a server without a sign of life for so long is gone")                                    \
    REAL(target_accuracy, "target-accuracy", "A", COG_GROUP_STOP, COG_FOR_RUNS, 0, 1,              \
         "at this share of correct test rows")                                                     \
    INT(rounds, "rounds", "N", COG_GROUP_STOP, COG_FOR_RUNS, 1, INT64_MAX,                         \
        "after N updates of the parameters")                                                       \
    REAL(epochs, "epochs", "N", COG_GROUP_STOP, COG_FOR_RUNS, 1e-9, 1e12,                          \
         "after N passes over the training rows")                                                  \
    REAL(seconds, "seconds", "S", COG_GROUP_STOP, COG_FOR_RUNS, 0, 1e12,                           \
         "after S seconds of wall-clock time")                                                     \
    INT(report_every, "report-every", "ROUNDS", COG_GROUP_OUTPUT, COG_FOR_RUNS, 1, INT64_MAX,      \
        "evaluate and log this often")                                                             \
    TEXT(out, "out", "DIR", COG_GROUP_OUTPUT, COG_FOR_RUNS,                                        \
         "write record.json, log.jsonl, curves.gp and, with gnuplot, curves.png there")            \
    TEXT(checkpoint, "checkpoint", "DIR", COG_GROUP_OUTPUT, COG_FOR_TRAIN | COG_FOR_FILE,          \
         "keep what the run needs to go on in DIR/checkpoint")                                     \
    INT(checkpoint_every, "checkpoint-every", "ROUNDS", COG_GROUP_OUTPUT,                          \
        COG_FOR_TRAIN | COG_FOR_FILE, 1, INT64_MAX, "write it this often, and at the end")         \
    TEXT(resume, "resume", "DIR", COG_GROUP_OUTPUT, COG_FOR_TRAIN | COG_FOR_FILE,                  \
         "go on from DIR/checkpoint, with the options of the run that wrote it")                   \
    TEXT(record, "record", "FILE", COG_GROUP_OUTPUT, COG_FOR_TRAIN | COG_FOR_FILE,                 \
         "write there which messages are taken, in which order")                                   \
    TEXT(replay, "replay", "FILE", COG_GROUP_OUTPUT, COG_FOR_TRAIN | COG_FOR_FILE,                 \
         "take messages in the order of a run that was recorded")                                  \
    TEXT(json, "json", "FILE", COG_GROUP_OUTPUT, COG_FOR_RUNS, "write the record there")           \
    TEXT(baseline, "baseline", "CODE", COG_GROUP_OUTPUT, COG_FOR_TRAIN | COG_FOR_FILE,             \
         "train the same problem with this code too, uncompressed, and print both; or none")       \
    TEXT(baseline_optimizer, "baseline-optimizer", "SPEC", COG_GROUP_OUTPUT,                       \
         COG_FOR_TRAIN | COG_FOR_FILE, "optimizer of the baseline")                                \
    TEXT(scheme, "scheme", "\"KEY=VALUE ...\"", COG_GROUP_SCHEME, COG_FOR_COMPARE | COG_FOR_FILE,  \
         "one scheme to compare; keys are name and options of this kind; give it several times")   \
    TEXT(config, "config", "FILE", COG_GROUP_OUTPUT, COG_FOR_TRAIN | COG_FOR_COMPARE,              \
         "read options from FILE, one `option = value` a line; flags override it")
/* clang-format on */

#define COG_COUNT(...) +1
enum { COG_N_OPTIONS = 0 COG_OPTION_MAP(COG_COUNT, COG_COUNT, COG_COUNT) };
#undef COG_COUNT

enum { COG_MAX_SCHEMES = 32 };

typedef enum cog_origin { COG_FROM_DEFAULT, COG_FROM_FILE, COG_FROM_FLAG } cog_origin;

typedef struct cog_options {
#define TEXT_FIELD(field, ...) const char *field;
#define INT_FIELD(field, ...)  int64_t field;
#define REAL_FIELD(field, ...) double field;
    COG_OPTION_MAP(TEXT_FIELD, INT_FIELD, REAL_FIELD)
#undef TEXT_FIELD
#undef INT_FIELD
#undef REAL_FIELD
    const char *name; /* of the scheme, in tables and records */
    const char *schemes[COG_MAX_SCHEMES];
    int n_schemes;
    cog_origin origin[COG_N_OPTIONS];
} cog_options;

/* Index of the option with this long name; -1 when there is none. */
int cog_option_find(const char *name);

/* What `cograd train` starts from: the library's own defaults. */
void cog_options_default(cog_options *out);

/* Set one option from text. `place` is COG_FOR_..., `where` begins the sentence of a complaint
 * ("settings.ini:3: ", "--scheme 'x': "). The text is kept, not copied.
 * Returns an exit status. */
int cog_options_set(cog_options *options, int place, cog_origin origin, const char *where,
                    const char *name, const char *value);

/* The value of option i as text that sets it again; false when it has none. */
bool cog_option_format(const cog_options *options, int i, char *out, size_t size);
/* The name of option i if it may stand in `place`, else NULL. */
const char *cog_option_name(int i, int place);

/* settings.c: what a server's options tell a worker, one `name = value` a line. NULL after a
 * complaint. */
const char *cog_settings_make(const cog_options *options);
/* Options from such a text; those that flags have set stay. Returns an exit status. */
int cog_settings_read(const char *settings, cog_options *options);

/* Parse a command line for `place` (COG_FOR_TRAIN, _COMPARE or _WORKER), then its --config file.
 * --help prints and exits. Returns an exit status. */
int cog_options_parse(int place, int argc, char **argv, cog_options *out);

/* config.c: options from a file; those that flags have set stay. */
int cog_config_read(const char *path, int place, cog_options *options);

/* The options of one scheme: those of `base`, changed by "key=value key=value". Its name stays NULL
 * unless the text has one. */
int cog_scheme_parse(const cog_options *base, const char *text, cog_options *out);

/* Text that lives as long as the process: options point into it. NULL after a complaint. */
char *cog_keep_text(const char *text);

/* Did the user say where to stop, other than by accuracy? */
bool cog_options_limited(const cog_options *options);

#endif
