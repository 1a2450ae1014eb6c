/* engine_save.c - a run as a file, and back. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "check.h"
#include "engine_parts.h"

/* COG_PIECE_RUN */
typedef struct run_state {
    int64_t round;
    int64_t bytes_up, bytes_down;
    int64_t messages_used, messages_late, messages_dropped, rounds_skipped;
    double seconds, virtual_seconds;
} run_state;

/* ---------------------------------------------------------------- what runs have in common */

static uint64_t hash_of(const cog_dataset *data) {
    const size_t rows = (size_t)data->n_rows, features = (size_t)data->n_features;
    const uint64_t x = XXH64(data->x, rows * features * sizeof(float), 0);
    return XXH64(data->y, rows * sizeof(float), x);
}

cog_status cog_engine_describe(const cog_engine_config *c, char **out) {
    const cog_dataset *data = c->train;
    const int length = asprintf(
        out,
        "model = %s\ncode = %s\nworkers = %" PRId32 "\nchannel = %s\ndownlink = %s\n"
        "optimizer = %s\nbatch = %" PRId64 "\nseed = %" PRIu64 "\ndata = %" PRId64
        " rows of %" PRId64 " features",
        c->custom_model != NULL ? "of the caller" : c->model, c->code, c->n_workers, c->channel,
        c->downlink, c->optimizer, c->batch, c->seed, data->n_rows, data->n_features);
    if (length < 0) *out = NULL;
    COG_CHECK(length >= 0, COG_ERR_MEMORY, "no memory to describe a run");
    return COG_OK;
}

/* The numbers are looked at only when a checkpoint is at hand. */
cog_status cog_engine_job(const cog_engine *e, char **out) {
    const int length =
        asprintf(out, "%s, hash %016" PRIx64, e->description, hash_of(e->config.train));
    if (length < 0) *out = NULL;
    COG_CHECK(length >= 0, COG_ERR_MEMORY, "no memory to describe a run");
    return COG_OK;
}

/* The first line in which they differ. */
cog_status cog_engine_compare(const char *what, const char *mine, const char *theirs) {
    for (;;) {
        const int a = (int)strcspn(mine, "\n"), b = (int)strcspn(theirs, "\n");
        COG_CHECK(a == b && memcmp(mine, theirs, (size_t)a) == 0, COG_ERR_ARGUMENT,
                  "the %s is of another run: there '%.*s', here '%.*s'", what, b, theirs, a, mine);
        if (mine[a] == '\0' || theirs[b] == '\0') return COG_OK;
        mine += a + 1;
        theirs += b + 1;
    }
}

/* ---------------------------------------------------------------- save */

static cog_status check_role(const cog_engine *e) {
    COG_CHECK(e->transport->self <= 0, COG_ERR_UNSUPPORTED,
              "this process is worker %d; a checkpoint is the server's", e->transport->self - 1);
    return COG_OK;
}

static cog_status add_job(const cog_engine *e, cog_checkpoint *out) {
    char *text;
    COG_TRY(cog_engine_job(e, &text));
    const cog_status status = cog_checkpoint_add(out, COG_PIECE_JOB, 0, text, strlen(text) + 1);
    free(text);
    return status;
}

static cog_status add_run(const cog_engine *e, cog_checkpoint *out) {
    const cog_report r = cog_engine_report(e);
    const run_state run = {.round = r.round,
                           .bytes_up = r.bytes_up,
                           .bytes_down = r.bytes_down,
                           .messages_used = r.messages_used,
                           .messages_late = r.messages_late,
                           .messages_dropped = r.messages_dropped,
                           .rounds_skipped = r.rounds_skipped,
                           .seconds = r.seconds,
                           .virtual_seconds = r.virtual_seconds};
    return cog_checkpoint_add(out, COG_PIECE_RUN, 0, &run, sizeof(run));
}

static cog_status add_vector(cog_engine *e, uint32_t kind, const float *x, size_t bytes,
                             cog_checkpoint *out) {
    void *at;
    COG_TRY(cog_checkpoint_begin(out, kind, 0));
    COG_TRY(cog_blob_extend(&out->file, bytes, &at));
    if (bytes > 0) COG_TRY(e->device->ops->download(e->device, at, x, bytes));
    COG_TRY(cog_device_sync(e->device));
    return cog_checkpoint_end(out);
}

static size_t params_bytes(const cog_engine *e) {
    return (size_t)e->model.n_params * sizeof(float);
}

static size_t optimizer_bytes(const cog_engine *e) {
    return params_bytes(e) * (size_t)cog_optimizer_n_state(cog_replica_optimizer(e->replica));
}

static cog_status collect(cog_engine *e, cog_checkpoint *out) {
    float *state = cog_optimizer_state(cog_replica_optimizer(e->replica));
    COG_TRY(add_job(e, out));
    COG_TRY(cog_server_save(&e->server, out));
    COG_TRY(add_run(e, out));
    if (e->note_bytes > 0)
        COG_TRY(cog_checkpoint_add(out, COG_PIECE_NOTE, 0, e->note, e->note_bytes));
    COG_TRY(add_vector(e, COG_PIECE_PARAMS, cog_replica_params(e->replica), params_bytes(e), out));
    return add_vector(e, COG_PIECE_OPTIMIZER, state, optimizer_bytes(e), out);
}

cog_status cog_engine_save(cog_engine *e, const char *path) {
    cog_checkpoint checkpoint = {.n_pieces = 0};
    COG_TRY(check_role(e));
    COG_CHECK(e->replay_path == NULL, COG_ERR_ARGUMENT,
              "a replay writes no checkpoints: those of its history are among what it repeats");
    COG_TRY(cog_engine_start(e));
    cog_status status = collect(e, &checkpoint);
    if (status == COG_OK) cog_engine_strike_checkpoint(e, &checkpoint, path);
    if (status == COG_OK) status = cog_checkpoint_write(&checkpoint, path);
    if (status == COG_OK) status = cog_engine_spoil_checkpoint(e, path);
    cog_checkpoint_free(&checkpoint);
    return status;
}

/* ---------------------------------------------------------------- load */

static cog_status find_piece(const void *file, uint32_t kind, cog_piece *out) {
    for (size_t at = 0; cog_checkpoint_next(file, &at, out);)
        if (out->kind == kind) return COG_OK;
    COG_FAIL(COG_ERR_FORMAT, "a checkpoint lacks its piece of kind %u", kind);
}

/* *job lies in the file. Who computes what may differ, if the number of workers does. */
static cog_status check_job(const cog_engine *e, const void *file, const char **job) {
    cog_piece piece;
    COG_TRY(find_piece(file, COG_PIECE_JOB, &piece));
    *job = piece.data;
    COG_CHECK(piece.bytes > 0 && (*job)[piece.bytes - 1] == '\0', COG_ERR_FORMAT,
              "a checkpoint does not say of which run it is");
    char *text;
    COG_TRY(cog_engine_job(e, &text));
    const cog_status status = cog_engine_workers_of(*job) == e->config.n_workers
                                  ? cog_engine_compare("checkpoint", text, *job)
                                  : cog_engine_compare_but_workers(text, *job);
    free(text);
    return status;
}

static cog_status load_run(cog_engine *e, const void *file, run_state *run) {
    cog_piece piece;
    COG_TRY(find_piece(file, COG_PIECE_RUN, &piece));
    COG_CHECK(piece.bytes == sizeof(*run), COG_ERR_FORMAT, "a checkpoint's counters are %zu bytes",
              piece.bytes);
    memcpy(run, piece.data, sizeof(*run));
    COG_CHECK(run->round >= 0 && run->seconds >= 0 && run->virtual_seconds >= 0, COG_ERR_FORMAT,
              "a checkpoint is of round %lld, after %g s", (long long)run->round, run->seconds);
    e->server.report = (cog_report){.messages_used = run->messages_used,
                                    .messages_late = run->messages_late,
                                    .messages_dropped = run->messages_dropped,
                                    .rounds_skipped = run->rounds_skipped};
    e->transport->bytes_up = run->bytes_up;
    e->transport->bytes_down = run->bytes_down;
    e->transport->begin = run->virtual_seconds;
    e->seconds_before = run->seconds;
    return COG_OK;
}

static cog_status load_vector(cog_engine *e, const void *file, uint32_t kind, float *out,
                              size_t bytes) {
    cog_piece piece;
    COG_TRY(find_piece(file, kind, &piece));
    COG_CHECK(piece.bytes == bytes, COG_ERR_FORMAT,
              "a checkpoint has %zu bytes of kind %u, this run %zu", piece.bytes, kind, bytes);
    if (bytes > 0) COG_TRY(e->device->ops->upload(e->device, out, piece.data, bytes));
    return cog_device_sync(e->device);
}

static cog_status load_note(cog_engine *e, const void *file) {
    cog_piece piece;
    if (find_piece(file, COG_PIECE_NOTE, &piece) != COG_OK || piece.bytes == 0) return COG_OK;
    e->old_note = malloc(piece.bytes);
    COG_CHECK(e->old_note != NULL, COG_ERR_MEMORY, "no memory for a note of %zu bytes",
              piece.bytes);
    memcpy(e->old_note, piece.data, piece.bytes);
    e->old_note_bytes = piece.bytes;
    return COG_OK;
}

/* *file may become another one on the way. */
static cog_status load_all(cog_engine *e, void **file, int64_t *round) {
    float *state = cog_optimizer_state(cog_replica_optimizer(e->replica));
    const char *job;
    run_state run;
    COG_TRY(check_job(e, *file, &job));
    COG_TRY(load_run(e, *file, &run));
    COG_TRY(load_note(e, *file));
    if (cog_engine_workers_of(job) != e->config.n_workers)
        COG_TRY(cog_engine_replan(e, job, run.round, file));
    COG_TRY(
        load_vector(e, *file, COG_PIECE_PARAMS, cog_replica_params(e->replica), params_bytes(e)));
    COG_TRY(load_vector(e, *file, COG_PIECE_OPTIMIZER, state, optimizer_bytes(e)));
    cog_replica_changed(e->replica);
    *round = run.round;
    return COG_OK;
}

void cog_engine_set_note(cog_engine *e, const void *note, size_t bytes) {
    e->note = note;
    e->note_bytes = note != NULL ? bytes : 0;
}

const void *cog_engine_note(const cog_engine *e, size_t *bytes) {
    *bytes = e->old_note_bytes;
    return e->old_note;
}

const char *cog_engine_news(const cog_engine *e) { return e->news != NULL ? e->news : ""; }

cog_status cog_engine_load(cog_engine *e, const char *path) {
    void *file;
    size_t bytes;
    int64_t round;
    COG_TRY(check_role(e));
    COG_CHECK(!e->started && e->server.resumed == NULL, COG_ERR_ARGUMENT,
              "a run that has begun, or was resumed already, is not resumed");
    COG_TRY(cog_checkpoint_read(path, &file, &bytes));
    const cog_status status = load_all(e, &file, &round);
    if (status == COG_OK) return cog_server_load(&e->server, file, round);
    free(file);
    return status;
}
