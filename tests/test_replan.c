/* test_replan.c - a run goes on with more workers, or with fewer: what they owed is not forgotten.
 */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "checkpoint.h"
#include "engine_parts.h"
#include "engine_rig.h"

enum { SAVED_AT = 9 };

static char folder[] = "/tmp/cograd-replan-XXXXXX", before[64], after[64];

static void make_folder(void) {
    cr_assert(mkdtemp(folder) != NULL);
    snprintf(before, sizeof(before), "%s/before", folder);
    snprintf(after, sizeof(after), "%s/after", folder);
}

static void remove_folder(void) {
    unlink(before);
    unlink(after);
    rmdir(folder);
}

static void save_after(const cog_engine_config *c, int64_t rounds) {
    cog_engine *e = engine_after(c, rounds);
    cr_assert_eq(cog_engine_save(e, before), COG_OK, "%s", cog_last_error());
    cog_engine_destroy(e);
}

static cog_engine *resume(const cog_engine_config *c) {
    cog_engine *e = open_engine(c);
    cr_assert_eq(cog_engine_load(e, before), COG_OK, "%s over %s: %s", c->channel, c->code,
                 cog_last_error());
    return e;
}

/* ---------------------------------------------------------------- what is owed, by hand */

/* What the code makes of message m for block b when all answer, from the publications: groups of
 * frc add one copy of each shard; lwpd multiplies by the transposed code; the others just add. */
static double weight(const char *code, const cog_plan *plan, int32_t m, int32_t b) {
    if (strncmp(code, "frc", 3) == 0) return m < plan->n_workers / 2; /* stragglers=1 */
    if (strncmp(code, "lwpd", 4) != 0) return 1;
    double coef = 0;
    for (int32_t t = plan->row[m]; t < plan->row[m + 1]; t++)
        if (plan->part[t] % plan->n_blocks == b) coef += plan->coef[t];
    return coef * plan->n_blocks * plan->n_shards / plan->n_messages;
}

/* A sender's piece begins with its length and 24 bytes more; then come error and velocity. */
static void add_memory(const cog_piece *piece, int which, double w, int64_t n, double *sum) {
    int64_t its;
    memcpy(&its, piece->data, sizeof(its));
    cr_assert_eq(its, n);
    const float *x = (const float *)((const uint8_t *)piece->data + 32) + which * n;
    for (int64_t i = 0; i < n; i++) sum[i] += w * (double)x[i];
}

static double *owed(const cog_engine_config *c, const char *path, int which, int64_t n_params) {
    double *sum = calloc((size_t)n_params, sizeof(*sum));
    void *file;
    size_t bytes;
    cog_code *code;
    cog_piece piece;
    cr_assert_eq(cog_checkpoint_read(path, &file, &bytes), COG_OK);
    cr_assert_eq(cog_code_create(c->code, c->n_workers, &code), COG_OK);
    const cog_plan *plan = cog_code_plan(code);
    const int64_t n = n_params / plan->n_blocks;
    int found = 0;
    for (size_t at = 0; cog_checkpoint_next(file, &at, &piece);) {
        if (piece.kind != COG_PIECE_SENDER) continue;
        found++;
        for (int32_t b = 0; b < plan->n_blocks; b++)
            add_memory(&piece, which, weight(c->code, plan, piece.index, b), n, sum + b * n);
    }
    cr_assert_eq(found, plan->n_messages, "%d of %d messages", found, plan->n_messages);
    cog_code_destroy(code);
    free(file);
    return sum;
}

static void expect_owed_alike(const cog_engine_config *old, const cog_engine_config *new, int which,
                              int64_t n) {
    double *x = owed(old, before, which, n), *y = owed(new, after, which, n);
    double size = 0, off = 0;
    for (int64_t i = 0; i < n; i++) {
        size = fmax(size, fabs(x[i]));
        off = fmax(off, fabs(x[i] - y[i]));
    }
    cr_expect_gt(size, 1e-4, "nothing is owed");
    cr_expect_leq(off, 1e-6 * size, "%s, %d to %d workers of %s: %g of %g is lost", old->channel,
                  old->n_workers, new->n_workers, new->code, off, size);
    free(x);
    free(y);
}

static void *piece_of(const char *path, uint32_t kind, size_t *bytes) {
    void *file;
    size_t size;
    cog_piece piece;
    cr_assert_eq(cog_checkpoint_read(path, &file, &size), COG_OK);
    for (size_t at = 0; cog_checkpoint_next(file, &at, &piece);)
        if (piece.kind == kind) break;
    void *copy = malloc(piece.bytes + 1);
    memcpy(copy, piece.data, piece.bytes);
    *bytes = piece.bytes;
    free(file);
    return copy;
}

static void expect_same_piece(uint32_t kind) {
    size_t a, b;
    void *x = piece_of(before, kind, &a), *y = piece_of(after, kind, &b);
    cr_expect(a == b && memcmp(x, y, a) == 0, "piece %u", kind);
    free(x);
    free(y);
}

static double loss_of(cog_engine *e) {
    double loss, accuracy;
    cr_assert_eq(cog_engine_evaluate(e, data(), &loss, &accuracy), COG_OK);
    return loss;
}

/* The workers themselves say what they carry: they are asked for a checkpoint before they begin. */
static void check(const cog_engine_config *old, const cog_engine_config *new, int n_memories) {
    const int64_t n = n_params_of(old);
    save_after(old, SAVED_AT);
    cog_engine *e = resume(new);
    cr_expect_eq(cog_engine_report(e).round, SAVED_AT);
    cr_expect(strstr(cog_engine_news(e), "owed") != NULL, "'%s'", cog_engine_news(e));
    cr_assert_eq(cog_engine_save(e, after), COG_OK, "%s", cog_last_error());
    for (int which = 0; which < n_memories; which++) expect_owed_alike(old, new, which, n);
    expect_same_piece(COG_PIECE_PARAMS);
    expect_same_piece(COG_PIECE_OPTIMIZER);
    cr_assert_eq(cog_engine_run(e, 80, NULL, NULL), COG_OK, "%s", cog_last_error());
    const double loss = loss_of(e), uninterrupted = loss_after(old, 80, NULL);
    cr_expect_lt(loss, 1.1 * uninterrupted + 0.02, "%s to %d: %g, uninterrupted %g", old->code,
                 new->n_workers, loss, uninterrupted);
    cog_engine_destroy(e);
}

Test(replan, the_sum_of_what_workers_owe_survives_a_change_of_their_number) {
    static const struct {
        const char *from, *to, *channel, *optimizer, *transport;
        int n_from, n_to, n_memories;
    } cases[] = {
        {"lwpd", "lwpd", "topk:ratio=0.05,feedback=1", "sgd", "sim:threads=1", 8, 12, 1},
        {"lwpd", "lwpd", "sign:feedback=1", "sgd:rate=0.1", "threads", 16, 8, 1},
        {"ignore:wait=8", "ignore:wait=7", "topk:ratio=0.05,feedback=1", "adam:rate=0.01",
         "sim:threads=1", 8, 7, 1},
        {"ignore:wait=5", "ignore:wait=6", "topk:ratio=0.05,feedback=1,momentum=0.5",
         "sgd:rate=0.1", "sim:threads=1", 5, 6, 2},
        {"kasync:k=2", "kasync:k=2", "topk:kind=threshold,ratio=0.05,values=bf16,feedback=1",
         "momentum:rate=0.02", "sim:threads=1", 3, 4, 1},
        {"frc:stragglers=1", "frc:stragglers=1", "randk:ratio=0.1,feedback=1", "sgd:rate=0.1",
         "sim:threads=1", 6, 8, 1},
        {"ignore", "frc:stragglers=1", "topk:ratio=0.05,feedback=1", "sgd", "threads", 5, 4, 1},
    };
    make_folder();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_engine_config old = small(), new;
        old.code = cases[i].from;
        old.channel = cases[i].channel;
        old.optimizer = cases[i].optimizer;
        old.transport = cases[i].transport;
        old.n_workers = cases[i].n_from;
        new = old;
        new.code = cases[i].to;
        new.n_workers = cases[i].n_to;
        check(&old, &new, cases[i].n_memories);
    }
    remove_folder();
}

/* It is handed back as it was, whoever goes on; without one there is none. */
Test(replan, a_note_of_the_caller_travels_along) {
    static const char note[] = "what the caller wants to know\0 again";
    make_folder();
    cog_engine_config c = small();
    for (int with = 0; with < 2; with++) {
        cog_engine *e = engine_after(&c, 1);
        if (with) cog_engine_set_note(e, note, sizeof(note));
        cr_assert_eq(cog_engine_save(e, before), COG_OK);
        cog_engine_destroy(e);
        for (int n = 8; n <= 12; n += 4) {
            cog_engine_config other = c;
            other.n_workers = n;
            size_t bytes = 1;
            e = resume(&other);
            const void *found = cog_engine_note(e, &bytes);
            cr_assert_eq(bytes, with ? sizeof(note) : 0);
            cr_assert(with ? memcmp(found, note, sizeof(note)) == 0 : found == NULL);
            cog_engine_destroy(e);
        }
    }
    remove_folder();
}

/* There is nothing to owe; Adam's state is the workers' own. */
Test(replan, an_all_reduce_goes_on_with_other_workers) {
    make_folder();
    cog_engine_config c = small();
    c.code = "uncoded";
    c.optimizer = "adam:rate=0.01";
    save_after(&c, SAVED_AT);
    c.n_workers = 5;
    cog_engine *e = resume(&c);
    cr_assert_eq(cog_engine_save(e, after), COG_OK, "%s", cog_last_error());
    expect_same_piece(COG_PIECE_PARAMS);
    expect_same_piece(COG_PIECE_OPTIMIZER);
    expect_same_piece(COG_PIECE_REPLICA);
    const double start = loss_of(e);
    cr_assert_eq(cog_engine_run(e, 60, NULL, NULL), COG_OK, "%s", cog_last_error());
    cr_expect_lt(loss_of(e), start);
    cr_expect(strstr(cog_engine_news(e), "owed") == NULL);
    cog_engine_destroy(e);
    remove_folder();
}

Test(replan, what_begins_anew_is_said) {
    static const struct {
        const char *code, *channel, *words;
    } cases[] = {
        {"lwpd", "topk:ratio=0.05,predict=linear", "predictors begin anew"},
        {"lwpd", "identity:predict=temporal,window=3", "predictors begin anew"},
        {"lwpd:decoder=memory", "identity", "not used again"},
        {"lwpd", "qcs:ratio=1,sparsity=0.1,steps=5,feedback=1", "the sum of what workers owed"},
    };
    make_folder();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_engine_config c = small();
        c.code = cases[i].code;
        c.channel = cases[i].channel;
        c.optimizer = "sgd:rate=0.1";
        save_after(&c, SAVED_AT);
        c.n_workers = 12;
        cog_engine *e = resume(&c);
        cr_expect(strstr(cog_engine_news(e), cases[i].words) != NULL, "'%s' lacks '%s'",
                  cog_engine_news(e), cases[i].words);
        const double start = loss_of(e);
        cr_assert_eq(cog_engine_run(e, 60, NULL, NULL), COG_OK, "%s", cog_last_error());
        cr_expect_lt(loss_of(e), start, "%s", cases[i].channel);
        cog_engine_destroy(e);
        c.n_workers = 8;
        e = resume(&c);
        cr_expect_str_empty(cog_engine_news(e));
        cog_engine_destroy(e);
    }
    remove_folder();
}

Test(replan, what_cannot_be_kept_is_refused_in_words) {
    make_folder();
    cog_engine_config c = small();
    c.code = "ignore";
    save_after(&c, 2);
    static const struct {
        const char *code, *channel, *words;
        int n;
    } cases[] = {
        {"lwpd", "identity", "8 workers and 1 blocks of parameters, here are 12 and 2", 12},
        {"uncoded", "identity", "only one of them is an all-reduce", 7},
        {"ignore", "bf16", "channel = identity", 7},
        {"kasync:k=3", "identity", "code = ignore", 8}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cog_engine_config other = c;
        other.code = cases[i].code;
        other.channel = cases[i].channel;
        other.n_workers = cases[i].n;
        cog_engine *e = open_engine(&other);
        cr_expect_eq(cog_engine_load(e, before), COG_ERR_ARGUMENT, "%s", cases[i].words);
        cr_expect(strstr(cog_last_error(), cases[i].words) != NULL, "'%s' lacks '%s'",
                  cog_last_error(), cases[i].words);
        cog_engine_destroy(e);
    }
    remove_folder();
}

/* As many as an engine may have; else a run could not go on from its own checkpoint. */
Test(replan, a_checkpoint_names_as_many_workers_as_a_run_may_have) {
    static const struct {
        const char *job;
        int32_t n;
    } cases[] = {{"code = ignore\nworkers = 65537\nseed = 1", 65537},
                 {"workers = 1000000", 1000000},
                 {"workers = 1000001", 0},
                 {"workers = -1", 0},
                 {"worker = 3", 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        cr_expect_eq(cog_engine_workers_of(cases[i].job), cases[i].n, "'%s'", cases[i].job);
}
