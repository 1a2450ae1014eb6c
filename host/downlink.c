/* downlink.c - the server's log of recent updates, and what is sent from it.
 *
 * The log is one contiguous buffer: the payload for a worker at version v is the tail that begins
 * at round v, sent from where it lies. It never holds more than the parameters would take,
 * because past that the parameters are sent instead. */
#include "downlink.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

/* Rounds the log can hold: a worker further behind gets all parameters. */
enum { MAX_ROUNDS = 4096 };

typedef enum kind { DELTA, FP32, BF16 } kind;
static const char *const kind_names[] = {"delta", "fp32", "bf16", NULL};

struct cog_downlink {
    kind kind;
    cog_replica *replica;
    cog_device *device;
    int64_t n_params, n_state; /* floats */
    int64_t oldest, newest;    /* the log holds rounds oldest .. newest - 1 */
    size_t begin, end;         /* their bytes in `log` */
    size_t offset[MAX_ROUNDS]; /* where round r begins, at r % MAX_ROUNDS */
    uint8_t *log; /* [2 * dense bytes]: half of it moves at most once per half filled */
    void *dense;  /* host copy of what is sent whole, of version dense_round */
    int64_t dense_round;
    int64_t edition; /* changes so far */
};

static size_t dense_bytes(const cog_downlink *d) {
    const size_t entry = d->kind == BF16 ? sizeof(uint16_t) : sizeof(float);
    return (size_t)(d->n_params + (d->kind == DELTA ? d->n_state : 0)) * entry;
}

bool cog_downlink_relays(const cog_downlink *d) { return d->kind == DELTA; }

static cog_downlink_mode usual(kind k) {
    return k == DELTA ? COG_DOWNLINK_UPDATES : k == FP32 ? COG_DOWNLINK_FP32 : COG_DOWNLINK_BF16;
}

static cog_status choose(const char *text, int64_t n_params, size_t round_bytes, kind *out) {
    cog_spec spec;
    COG_TRY(cog_spec_parse(text, &spec));
    int found = 0;
    while (kind_names[found] != NULL && strcmp(kind_names[found], spec.name) != 0) found++;
    COG_CHECK(kind_names[found] != NULL, COG_ERR_SPEC,
              "no downlink is named '%s'; there are: delta, fp32, bf16", spec.name);
    COG_TRY(cog_spec_finish(&spec));
    const size_t params_bytes = (size_t)n_params * sizeof(float);
    const bool never_pays = round_bytes >= params_bytes || round_bytes > UINT32_MAX;
    *out = found == DELTA && never_pays ? FP32 : (kind)found;
    return COG_OK;
}

cog_status cog_downlink_usual(const char *spec, int64_t n_params, size_t round_bytes,
                              cog_downlink_mode *out) {
    kind chosen;
    COG_TRY(choose(spec, n_params, round_bytes, &chosen));
    *out = usual(chosen);
    return COG_OK;
}

static cog_status allocate(cog_downlink *d) {
    const bool host_params = cog_device_kind_of(d->device) == COG_CPU;
    const bool whole_in_place =
        host_params && (d->kind == FP32 || (d->kind == DELTA && d->n_state == 0));
    if (!whole_in_place) d->dense = malloc(dense_bytes(d) + 1);
    if (d->kind == DELTA) d->log = malloc(2 * dense_bytes(d) + 1);
    if (d->kind == BF16) COG_TRY(cog_replica_keep_bf16(d->replica));
    COG_CHECK((whole_in_place || d->dense != NULL) && (d->kind != DELTA || d->log != NULL),
              COG_ERR_MEMORY, "no memory for the downlink");
    return COG_OK;
}

cog_status cog_downlink_open(const char *spec, cog_replica *replica, cog_device *device,
                             size_t round_bytes, cog_downlink **out) {
    cog_downlink *d = calloc(1, sizeof(*d));
    COG_CHECK(d != NULL, COG_ERR_MEMORY, "no memory for the downlink");
    d->replica = replica;
    d->device = device;
    d->n_params = cog_replica_n_params(replica);
    d->n_state = d->n_params * cog_optimizer_n_state(cog_replica_optimizer(replica));
    d->dense_round = -1;
    cog_status status = choose(spec, d->n_params, round_bytes, &d->kind);
    if (status == COG_OK) status = allocate(d);
    if (status != COG_OK) {
        cog_downlink_close(d);
        return status;
    }
    *out = d;
    return COG_OK;
}

void cog_downlink_close(cog_downlink *d) {
    if (d == NULL) return;
    free(d->log);
    free(d->dense);
    free(d);
}

void cog_downlink_forget(cog_downlink *d, int64_t round) {
    cog_replica_changed(d->replica);
    d->oldest = d->newest = round;
    d->begin = d->end = 0;
    d->dense_round = -1;
    d->edition++;
}

int64_t cog_downlink_edition(const cog_downlink *d) { return 1 + d->edition; }

static void drop_oldest(cog_downlink *d) {
    d->oldest++;
    d->begin = d->oldest < d->newest ? d->offset[d->oldest % MAX_ROUNDS] : d->end;
}

/* Move what is left to the front, to make room behind it. */
static void compact(cog_downlink *d) {
    memmove(d->log, d->log + d->begin, d->end - d->begin);
    for (int64_t r = d->oldest; r < d->newest; r++) d->offset[r % MAX_ROUNDS] -= d->begin;
    d->end -= d->begin;
    d->begin = 0;
}

cog_status cog_downlink_record(cog_downlink *d, int64_t round, const cog_update *update) {
    d->edition++;
    if (d->kind != DELTA) {
        d->newest = round + 1;
        return COG_OK;
    }
    COG_CHECK(round == d->newest, COG_ERR_ARGUMENT, "round %lld is recorded after round %lld",
              (long long)round, (long long)d->newest - 1);
    const size_t bytes = cog_update_wire_bytes(update), limit = dense_bytes(d);
    if (bytes > limit) { /* a round larger than the parameters is never relayed */
        cog_downlink_forget(d, round + 1);
        return COG_OK;
    }
    while (d->newest - d->oldest == MAX_ROUNDS || d->end - d->begin + bytes > limit) drop_oldest(d);
    if (d->end + bytes > 2 * limit) compact(d);
    d->offset[round % MAX_ROUNDS] = d->end;
    cog_update_write(update, d->log + d->end);
    d->end += bytes;
    d->newest = round + 1;
    return COG_OK;
}

static cog_status fetch_whole(cog_downlink *d) {
    const cog_device_ops *ops = d->device->ops;
    const size_t n = (size_t)d->n_params;
    if (d->kind == BF16) return cog_replica_read_bf16(d->replica, d->dense);
    COG_TRY(ops->download(d->device, d->dense, cog_replica_params(d->replica), n * sizeof(float)));
    if (d->kind == FP32 || d->n_state == 0) return COG_OK;
    return ops->download(d->device, (float *)d->dense + n,
                         cog_optimizer_state(cog_replica_optimizer(d->replica)),
                         (size_t)d->n_state * sizeof(float));
}

/* Everything, in host memory; made at most once a round. */
static cog_status encode_whole(cog_downlink *d, const void **payload) {
    *payload = d->dense != NULL ? d->dense : cog_replica_params(d->replica);
    if (d->dense == NULL || d->dense_round == d->newest) return COG_OK;
    COG_TRY(fetch_whole(d));
    d->dense_round = d->newest;
    return COG_OK;
}

cog_status cog_downlink_encode(cog_downlink *d, int64_t version, cog_downlink_mode *mode,
                               const void **payload, size_t *bytes) {
    if (d->kind == DELTA && version >= d->oldest) {
        const size_t from = version < d->newest ? d->offset[version % MAX_ROUNDS] : d->end;
        *mode = COG_DOWNLINK_UPDATES;
        *payload = d->log + from;
        *bytes = d->end - from;
        return COG_OK;
    }
    *mode = d->kind == DELTA ? COG_DOWNLINK_STATE : usual(d->kind);
    *bytes = dense_bytes(d);
    return encode_whole(d, payload);
}

/* ---------------------------------------------------------------- save and load */

/* Where each round begins, counted from the first; then where the last ends, and the log. */
cog_status cog_downlink_save(const cog_downlink *d, cog_blob *out) {
    const int64_t rounds[2] = {d->oldest, d->newest};
    COG_TRY(cog_blob_add(out, rounds, sizeof(rounds)));
    if (d->kind != DELTA) return COG_OK;
    for (int64_t r = d->oldest; r <= d->newest; r++) {
        const uint64_t at = (r < d->newest ? d->offset[r % MAX_ROUNDS] : d->end) - d->begin;
        COG_TRY(cog_blob_add(out, &at, sizeof(at)));
    }
    return cog_blob_add(out, d->log + d->begin, d->end - d->begin);
}

static cog_status load_log(cog_downlink *d, int64_t oldest, int64_t newest, cog_span *span) {
    uint64_t at, last = 0;
    const size_t limit = dense_bytes(d);
    COG_CHECK(oldest >= 0 && newest - oldest >= 0 && newest - oldest <= MAX_ROUNDS, COG_ERR_FORMAT,
              "a log of updates claims the rounds %lld to %lld", (long long)oldest,
              (long long)newest);
    for (int64_t r = oldest; r <= newest; r++, last = at) {
        COG_TRY(cog_span_read(span, &at, sizeof(at)));
        COG_CHECK(at >= last && at <= limit && (r > oldest || at == 0), COG_ERR_FORMAT,
                  "a log of updates puts round %lld at byte %llu", (long long)r,
                  (unsigned long long)at);
        if (r < newest) d->offset[r % MAX_ROUNDS] = at;
    }
    d->begin = 0;
    d->end = last;
    return cog_span_read(span, d->log, d->end);
}

cog_status cog_downlink_load(cog_downlink *d, int64_t round, const void *state, size_t bytes) {
    cog_span span = {state, bytes};
    int64_t rounds[2];
    COG_TRY(cog_span_read(&span, rounds, sizeof(rounds)));
    if (d->kind == DELTA) {
        COG_CHECK(rounds[1] == round, COG_ERR_FORMAT,
                  "a log of updates ends in round %lld, not %lld", (long long)rounds[1],
                  (long long)round);
        COG_TRY(load_log(d, rounds[0], rounds[1], &span));
    }
    d->oldest = rounds[0];
    d->newest = round;
    d->dense_round = -1;
    d->edition++;
    return cog_span_end(&span);
}

/* ---------------------------------------------------------------- worker end */

static cog_status apply_updates(cog_replica *replica, const cog_quantizer *q, int32_t n_rows,
                                cog_update *update, int64_t version, int64_t round,
                                const void *payload, size_t bytes) {
    const int32_t n_blocks = (int32_t)(cog_replica_n_params(replica) / q->n);
    size_t at = 0;
    for (; version < round; version++) {
        size_t used;
        COG_TRY(cog_update_read(update, q, n_rows, n_blocks, (const uint8_t *)payload + at,
                                bytes - at, &used));
        COG_TRY(cog_replica_apply(replica, version, update));
        at += used;
    }
    COG_CHECK(at == bytes, COG_ERR_FORMAT, "%zu bytes are left after the updates of %lld rounds",
              bytes - at, (long long)round);
    return COG_OK;
}

cog_status cog_downlink_apply(cog_replica *replica, cog_device *device, const cog_quantizer *q,
                              int32_t n_rows, cog_update *update, cog_downlink_mode mode,
                              int64_t version, int64_t round, const void *payload, size_t bytes) {
    const cog_device_ops *ops = device->ops;
    const size_t n = (size_t)cog_replica_n_params(replica);
    cog_optimizer *optimizer = cog_replica_optimizer(replica);
    const size_t state = n * (size_t)cog_optimizer_n_state(optimizer) * sizeof(float);
    if (mode == COG_DOWNLINK_UPDATES) {
        COG_CHECK(version >= 0 && version <= round, COG_ERR_FORMAT,
                  "no updates lead from version %lld to %lld", (long long)version,
                  (long long)round);
        return apply_updates(replica, q, n_rows, update, version, round, payload, bytes);
    }
    const size_t entry = mode == COG_DOWNLINK_BF16 ? sizeof(uint16_t) : sizeof(float);
    const size_t expected = n * entry + (mode == COG_DOWNLINK_STATE ? state : 0);
    COG_CHECK(mode >= COG_DOWNLINK_STATE && mode <= COG_DOWNLINK_BF16 && bytes == expected,
              COG_ERR_FORMAT, "parameters of %zu bytes in mode %d, expected %zu", bytes, (int)mode,
              expected);
    if (mode == COG_DOWNLINK_BF16) return cog_replica_write_bf16(replica, payload);
    cog_replica_changed(replica);
    COG_TRY(ops->upload(device, cog_replica_params(replica), payload, n * sizeof(float)));
    if (mode != COG_DOWNLINK_STATE || state == 0) return COG_OK;
    return ops->upload(device, cog_optimizer_state(optimizer), (const float *)payload + n, state);
}
