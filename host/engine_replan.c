/* engine_replan.c - the checkpoint of a run with other workers, as if this run had written it.
 *
 * What a worker owes is kept where its sum has a meaning. Let W [n_blocks, n_messages] be the
 * weights by which the code decodes when everybody answers, and e [n_messages, block_len] the
 * errors that the workers' channels carry. Were they all sent, they would change the gradient by
 *
 *     owed = W e        [n_blocks, block_len]
 *
 * With W' of the new plan, its workers begin with the e' of least norm for which W' e' = owed.
 * Momentum correction, which is as linear, is shared out alike.
 *
 *     kept      parameters, optimizer, round, counters; owed, by that rule; what a decoder of sums
 *               remembers of each block; the random choices and carried thresholds of the messages
 *               that there were before
 *     anew      predictors, at both ends; messages that a code uses again; the log of updates:
 *               everybody gets all parameters at first
 *     refused   codes with another number of blocks, for which parameters lie otherwise
 *
 * Who was gone when the checkpoint was written had taken what it owed with it. */
#include <lapacke.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "engine_checks.h"
#include "engine_parts.h"

enum { ERROR, VELOCITY, N_MEMORIES };

typedef struct replan {
    cog_engine *engine;
    const void *old; /* the file */
    int64_t round;
    cog_code *code;           /* of the old plan */
    cog_device *cpu;          /* of the channels here */
    double *owed[N_MEMORIES]; /* [n_params], NULL where nothing is carried */
    double *share; /* [n_blocks, n_messages] of the new plan: its column b is what block b of
                      `owed` gives to each message */
    cog_checkpoint out;
} replan;

/* ---------------------------------------------------------------- which plans */

/* The value in the line "name = value" of a job; NULL without. */
static char *value_of(const char *job, const char *name) {
    const size_t length = strlen(name);
    for (const char *line = job; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) == 0 && strncmp(line + length, " = ", 3) == 0)
            return strndup(line + length + 3, strcspn(line + length + 3, "\n"));
    }
    return NULL;
}

static void drop_line(char *job, const char *name) {
    const size_t length = strlen(name);
    for (char *line = job; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) != 0 || strncmp(line + length, " = ", 3) != 0) continue;
        const char *next = line + strcspn(line, "\n");
        memmove(line, next, strlen(next) + 1);
        return;
    }
}

int32_t cog_engine_workers_of(const char *job) {
    char *text = value_of(job, "workers");
    const long n = text != NULL ? strtol(text, NULL, 10) : 0;
    free(text);
    return n > 0 && n <= COG_ENGINE_MAX_WORKERS ? (int32_t)n : 0;
}

/* Everything but who computes what is as it was. */
cog_status cog_engine_compare_but_workers(const char *mine, const char *theirs) {
    char *a = strdup(mine), *b = strdup(theirs);
    cog_status status = COG_ERR_MEMORY;
    if (a == NULL || b == NULL) {
        cog_set_error(status, "no memory to compare two runs");
    } else {
        static const char *const names[] = {"workers", "code"};
        for (int i = 0; i < 2; i++) {
            drop_line(a, names[i]);
            drop_line(b, names[i]);
        }
        status = cog_engine_compare("checkpoint", a, b);
    }
    free(a);
    free(b);
    return status;
}

static cog_status open_old_code(replan *r, const char *job) {
    const cog_code *mine = r->engine->code;
    char *spec = value_of(job, "code");
    COG_CHECK(spec != NULL, COG_ERR_FORMAT, "a checkpoint does not name its code");
    const cog_status status = cog_code_create(spec, cog_engine_workers_of(job), &r->code);
    free(spec);
    COG_TRY(status);
    const cog_plan *old = &r->code->plan, *new = &mine->plan;
    COG_CHECK(r->code->ops->role == mine->ops->role, COG_ERR_ARGUMENT,
              "the checkpoint is of code '%s', here is '%s': only one of them is an all-reduce",
              cog_code_name(r->code), cog_code_name(mine));
    COG_CHECK(old->n_blocks == new->n_blocks, COG_ERR_ARGUMENT,
              "the checkpoint is of %d workers and %d blocks of parameters, here are %d and %d: "
              "parameters lie otherwise, so it cannot go on",
              old->n_workers, old->n_blocks, new->n_workers, new->n_blocks);
    return COG_OK;
}

/* ---------------------------------------------------------------- weights */

/* W of a code when everybody answers, [n_blocks, n_messages] column-major; to be freed. */
static cog_status full_weights(const cog_code *code, int64_t round, double **out) {
    const size_t messages = (size_t)code->plan.n_messages, blocks = (size_t)code->plan.n_blocks;
    cog_decoding d = {.capacity = cog_code_max_terms(code)};
    d.terms = calloc((size_t)d.capacity + 1, sizeof(*d.terms));
    uint8_t *all = malloc(messages);
    *out = calloc(blocks * messages, sizeof(**out));
    cog_status status = COG_ERR_MEMORY;
    if (d.terms == NULL || all == NULL || *out == NULL) {
        cog_set_error(status, "no memory for the weights of %zu messages", messages);
    } else {
        memset(all, 1, messages);
        const cog_arrivals arrivals = {.n_messages = (int32_t)messages,
                                       .n_arrived = (int32_t)messages,
                                       .round = round,
                                       .arrived = all};
        status = cog_code_decode(code, &arrivals, &d);
    }
    for (int i = 0; status == COG_OK && i < d.count; i++)
        (*out)[(size_t)d.terms[i].message * blocks + (size_t)d.terms[i].block] += d.terms[i].weight;
    free(d.terms);
    free(all);
    return status;
}

/* share = the X of least norm with W' X = 1, if there is one. */
static cog_status solve(const cog_code *code, const double *w, double *share) {
    const lapack_int blocks = code->plan.n_blocks, messages = code->plan.n_messages;
    const lapack_int ld = blocks > messages ? blocks : messages;
    double *a = malloc((size_t)blocks * (size_t)messages * sizeof(*a));
    double *x = calloc((size_t)ld * (size_t)blocks, sizeof(*x));
    lapack_int *pivot = calloc((size_t)messages, sizeof(*pivot)), rank = 0, failed = 1;
    if (a != NULL && x != NULL && pivot != NULL) {
        memcpy(a, w, (size_t)blocks * (size_t)messages * sizeof(*a));
        for (lapack_int b = 0; b < blocks; b++) x[b * ld + b] = 1;
        failed = LAPACKE_dgelsy(LAPACK_COL_MAJOR, blocks, messages, blocks, a, blocks, x, ld, pivot,
                                1e-12, &rank);
        for (lapack_int b = 0; b < blocks; b++)
            memcpy(share + b * messages, x + b * ld, (size_t)messages * sizeof(*x));
    }
    free(a);
    free(x);
    free(pivot);
    COG_CHECK(failed == 0, COG_ERR_MEMORY, "what workers owe cannot be shared out");
    COG_CHECK(rank == blocks, COG_ERR_ARGUMENT,
              "what the workers of the checkpoint owe cannot be kept: messages of '%s' reach only "
              "%d of %d blocks",
              cog_code_name(code), (int)rank, (int)blocks);
    return COG_OK;
}

/* ---------------------------------------------------------------- what is owed */

static bool find(const replan *r, uint32_t kind, int32_t index, cog_piece *out) {
    for (size_t at = 0; cog_checkpoint_next(r->old, &at, out);)
        if (out->kind == kind && out->index == index) return true;
    return false;
}

static cog_status open_channel(const replan *r, int32_t message, cog_channel_end end,
                               cog_channel **out) {
    COG_TRY(cog_channel_open(r->engine->job.channel, r->cpu, r->engine->model.block_len, end, out));
    cog_channel_seed(*out, r->engine->config.seed, (uint32_t)message);
    return COG_OK;
}

/* The sending end of an old message; NULL when its worker was gone. */
static cog_status open_old_sender(const replan *r, int32_t message, cog_channel **out) {
    cog_piece piece;
    *out = NULL;
    if (message >= r->code->plan.n_messages || !find(r, COG_PIECE_SENDER, message, &piece))
        return COG_OK;
    COG_TRY(open_channel(r, message, COG_SENDER, out));
    const cog_status status = cog_channel_load(*out, piece.data, piece.bytes);
    if (status == COG_OK) return COG_OK;
    cog_channel_close(*out);
    *out = NULL;
    return status;
}

/* owed += W[:, message] x */
static cog_status add_owed(replan *r, int which, const double *column, const float *x) {
    const int64_t n = r->engine->model.block_len;
    if (x == NULL) return COG_OK;
    if (r->owed[which] == NULL)
        r->owed[which] = calloc((size_t)r->engine->model.n_params, sizeof(*r->owed[which]));
    COG_CHECK(r->owed[which] != NULL, COG_ERR_MEMORY, "no memory for what workers owe");
    for (int32_t b = 0; b < r->code->plan.n_blocks; b++)
        for (int64_t i = 0; column[b] != 0 && i < n; i++)
            r->owed[which][b * n + i] += column[b] * (double)x[i];
    return COG_OK;
}

static cog_status sum_up(replan *r) {
    double *w = NULL;
    cog_status status = full_weights(r->code, r->round, &w);
    for (int32_t m = 0; status == COG_OK && m < r->code->plan.n_messages; m++) {
        cog_channel *channel;
        status = open_old_sender(r, m, &channel);
        if (status != COG_OK || channel == NULL) continue;
        float *memory[N_MEMORIES];
        cog_channel_memories(channel, &memory[ERROR], &memory[VELOCITY]);
        for (int k = 0; k < N_MEMORIES && status == COG_OK; k++)
            status = add_owed(r, k, w + (size_t)m * (size_t)r->code->plan.n_blocks, memory[k]);
        cog_channel_close(channel);
    }
    free(w);
    return status;
}

static cog_status find_shares(replan *r) {
    const cog_code *code = r->engine->code;
    const size_t entries = (size_t)code->plan.n_blocks * (size_t)code->plan.n_messages;
    double *w = NULL;
    r->share = calloc(entries, sizeof(*r->share));
    COG_CHECK(r->share != NULL, COG_ERR_MEMORY, "no memory for a plan");
    cog_status status = full_weights(code, r->round, &w);
    if (status == COG_OK) status = solve(code, w, r->share);
    free(w);
    return status;
}

/* ---------------------------------------------------------------- channels of the new plan */

static void take_share(const replan *r, int which, int32_t message, float *x) {
    const int64_t n = r->engine->model.block_len, messages = r->engine->code->plan.n_messages;
    if (x == NULL || r->owed[which] == NULL) return;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t b = 0; b < r->code->plan.n_blocks; b++)
            sum += r->share[b * messages + message] * r->owed[which][b * n + i];
        x[i] = (float)sum;
    }
}

static cog_status save_channel(replan *r, cog_channel *channel, uint32_t kind, int32_t message) {
    COG_TRY(cog_checkpoint_begin(&r->out, kind, message));
    COG_TRY(cog_channel_save(channel, false, &r->out.file));
    return cog_checkpoint_end(&r->out);
}

static cog_status add_sender(replan *r, int32_t message) {
    cog_channel *before = NULL, *channel = NULL;
    float *memory[N_MEMORIES];
    cog_status status = open_old_sender(r, message, &before);
    if (status == COG_OK) status = open_channel(r, message, COG_SENDER, &channel);
    if (status == COG_OK) {
        if (before != NULL) cog_channel_copy_state(channel, before);
        cog_channel_memories(channel, &memory[ERROR], &memory[VELOCITY]);
        for (int k = 0; k < N_MEMORIES; k++) take_share(r, k, message, memory[k]);
        status = save_channel(r, channel, COG_PIECE_SENDER, message);
    }
    cog_channel_close(before);
    cog_channel_close(channel);
    return status;
}

static cog_status add_receiver(replan *r, int32_t message) {
    cog_channel *channel;
    COG_TRY(open_channel(r, message, COG_RECEIVER, &channel));
    const cog_status status = save_channel(r, channel, COG_PIECE_RECEIVER, message);
    cog_channel_close(channel);
    return status;
}

/* ---------------------------------------------------------------- the rest of the server */

static cog_status add_filled(replan *r, uint32_t kind, size_t bytes, int value) {
    void *at;
    COG_TRY(cog_checkpoint_begin(&r->out, kind, 0));
    COG_TRY(cog_blob_extend(&r->out.file, bytes, &at));
    memset(at, value, bytes);
    return cog_checkpoint_end(&r->out);
}

/* Everybody is idle, knows no parameters, and has sent nothing yet. */
static cog_status add_workers(replan *r) {
    const cog_plan *plan = &r->engine->code->plan;
    const size_t workers = (size_t)plan->n_workers, messages = (size_t)plan->n_messages;
    COG_TRY(cog_checkpoint_begin(&r->out, COG_PIECE_IDLE, 0));
    for (int32_t w = 0; w < plan->n_workers; w++)
        COG_TRY(cog_blob_add(&r->out.file, &w, sizeof(w)));
    COG_TRY(cog_checkpoint_end(&r->out));
    COG_TRY(add_filled(r, COG_PIECE_VERSION, workers * sizeof(int64_t), 0xff));
    COG_TRY(add_filled(r, COG_PIECE_HELD, messages, 0));
    COG_TRY(add_filled(r, COG_PIECE_AGE, messages * sizeof(int32_t), 0));
    return add_filled(r, COG_PIECE_RENEWED, messages, 0);
}

static cog_status add_downlink(replan *r) {
    cog_downlink_forget(r->engine->downlink, r->round);
    COG_TRY(cog_checkpoint_begin(&r->out, COG_PIECE_DOWNLINK, 0));
    COG_TRY(cog_downlink_save(r->engine->downlink, &r->out.file));
    return cog_checkpoint_end(&r->out);
}

/* The server's, those of blocks, and the replica of an all-reduce, which is that of everybody. */
static cog_status copy_pieces(replan *r) {
    const bool is_reduced = r->code->ops->role == COG_ROLE_ALLREDUCE;
    cog_piece piece;
    for (size_t at = 0; cog_checkpoint_next(r->old, &at, &piece);)
        if (piece.kind == COG_PIECE_PARAMS || piece.kind == COG_PIECE_OPTIMIZER ||
            piece.kind == COG_PIECE_SUMS || (is_reduced && piece.kind == COG_PIECE_REPLICA))
            COG_TRY(cog_checkpoint_add(&r->out, piece.kind, piece.index, piece.data, piece.bytes));
    return COG_OK;
}

/* ---------------------------------------------------------------- all of it */

static bool any_held(const replan *r) {
    cog_piece piece;
    if (!r->code->keeps_messages || !find(r, COG_PIECE_HELD, 0, &piece)) return false;
    for (size_t i = 0; i < piece.bytes; i++)
        if (((const uint8_t *)piece.data)[i]) return true;
    return false;
}

/* For the user: nothing is lost in silence. */
static cog_status tell(replan *r) {
    const bool owes = r->owed[ERROR] != NULL || r->owed[VELOCITY] != NULL;
    const int length = asprintf(
        &r->engine->news,
        "resumed with %d workers where there were %d: parameters, optimizer%s are kept%s%s",
        r->engine->code->plan.n_workers, r->code->plan.n_workers,
        owes ? ", and the sum of what workers owed" : "",
        cog_channel_predicts(r->engine->server.channel[0]) ? "; predictors begin anew" : "",
        any_held(r) ? "; messages of earlier rounds are not used again" : "");
    if (length < 0) r->engine->news = NULL;
    COG_CHECK(length >= 0, COG_ERR_MEMORY, "no memory for a sentence");
    return COG_OK;
}

static cog_status make(replan *r, const char *job) {
    COG_TRY(open_old_code(r, job));
    COG_TRY(cog_device_open("cpu", &r->cpu));
    COG_TRY(sum_up(r));
    if (r->owed[ERROR] != NULL || r->owed[VELOCITY] != NULL) COG_TRY(find_shares(r));
    COG_TRY(add_workers(r));
    for (int32_t m = 0; m < r->engine->code->plan.n_messages; m++) {
        COG_TRY(add_sender(r, m));
        COG_TRY(add_receiver(r, m));
    }
    COG_TRY(add_downlink(r));
    COG_TRY(copy_pieces(r));
    cog_checkpoint_seal(&r->out);
    return tell(r);
}

cog_status cog_engine_replan(cog_engine *e, const char *job, int64_t round, void **file) {
    replan r = {.engine = e, .old = *file, .round = round};
    const cog_status status = make(&r, job);
    if (status == COG_OK) {
        free(*file);
        *file = r.out.file.data;
        r.out.file.data = NULL;
    }
    for (int k = 0; k < N_MEMORIES; k++) free(r.owed[k]);
    free(r.share);
    cog_checkpoint_free(&r.out);
    cog_code_destroy(r.code);
    cog_device_close(r.cpu);
    return status;
}
