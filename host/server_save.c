/* server_save.c - the server's part of a checkpoint, and how workers come to rest for it.
 *
 *     server                        worker
 *       SAVE, accepted  ------>       settle, as PARAMS would have it
 *       drop answers    <------       (answers under way)
 *       keep            <------       STATE of every channel; of the replica, or empty
 *
 * Frames of one sender stay in order, so nothing of a worker is under way behind its last STATE. A
 * code that waits for everybody has nothing under way at the end of a round: there a checkpoint
 * changes nothing.
 *
 * Workers that hold parameters of the same version hold the same bits, so one of them speaks for
 * all. Where parameters are sent whole nobody needs to. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "server.h"

static bool is_reduced(const cog_server *s) { return s->code->ops->role == COG_ROLE_ALLREDUCE; }

/* Versions in an all-reduce are those of the round, also for parameters set from outside. */
static int64_t replica_version(const cog_server *s, int worker) {
    if (is_reduced(s)) return s->round;
    return cog_downlink_relays(s->downlink) ? s->version[worker] : -1;
}

static size_t replica_bytes(const cog_server *s) {
    const size_t vectors = 1 + (size_t)cog_optimizer_n_state(cog_replica_optimizer(s->replica));
    return vectors * (size_t)cog_replica_n_params(s->replica) * sizeof(float);
}

/* ---------------------------------------------------------------- coming to rest */

static bool speaks_for_its_version(const cog_server *s, int worker) {
    const int64_t version = replica_version(s, worker);
    for (int w = 0; w < worker; w++)
        if (!s->gone[w] && replica_version(s, w) == version) return false;
    return version >= 0;
}

static cog_status send_free(cog_server *s, int worker, cog_frame_header *header,
                            const void *payload) {
    COG_TRY(s->transport->ops->send(s->transport, 0, worker + 1, header, payload));
    s->transport->bytes_down -= cog_frame_bytes(header);
    return COG_OK;
}

/* As long as nothing of an answer has come its request may have got lost, and with it what that
 * says of the answer before: then that is said again. */
static cog_status ask_for_state(cog_server *s, int worker) {
    const int32_t *first = s->code->plan.first;
    const bool may_be_lost = s->awaited[worker] > 0 && s->due[worker] == UINT64_MAX;
    COG_TRY(cog_server_restore(s, worker));
    cog_frame_header header = cog_frame_make(COG_FRAME_SAVE, 0, s->n_rests);
    header.accepted = may_be_lost ? s->told[worker] : s->accepted[worker];
    header.message = (uint16_t)(s->request[worker] - may_be_lost);
    header.mode = speaks_for_its_version(s, worker);
    s->accepted[worker] = 0;
    s->n_resting += s->resting[worker] == 0;
    s->resting[worker] = first[worker + 1] - first[worker] + 1;
    return send_free(s, worker, &header, NULL);
}

static void is_idle_now(cog_server *s, int worker) {
    s->awaited[worker] = 0;
    s->idle[s->n_idle++] = worker;
}

/* One whose request got lost has older parameters than this server believes. */
static bool holds_its_version(const cog_server *s, const cog_frame_header *h) {
    return is_reduced(s) || (uint16_t)s->version[h->source - 1] == h->mode;
}

static cog_status keep_state(cog_server *s, const cog_frame *frame, cog_checkpoint *out) {
    const cog_frame_header *h = &frame->header;
    const int worker = h->source - 1;
    const int64_t version = replica_version(s, worker);
    if (h->message >= 0) {
        COG_CHECK(h->message < s->code->plan.n_messages &&
                      s->code->plan.owner[h->message] == worker,
                  COG_ERR_FORMAT, "worker %d sent the state of message %d", worker, h->message);
        return cog_checkpoint_add(out, COG_PIECE_SENDER, h->message, frame->payload, h->bytes);
    }
    if (h->bytes == 0 || !holds_its_version(s, h)) return COG_OK;
    COG_CHECK(h->bytes == replica_bytes(s), COG_ERR_FORMAT,
              "worker %d sent a state of %llu bytes, expected %zu", worker,
              (unsigned long long)h->bytes, replica_bytes(s));
    COG_TRY(cog_checkpoint_begin(out, COG_PIECE_REPLICA, worker));
    COG_TRY(cog_blob_add(&out->file, &version, sizeof(version)));
    COG_TRY(cog_blob_add(&out->file, frame->payload, h->bytes));
    return cog_checkpoint_end(out);
}

static cog_status take_state(cog_server *s, const cog_frame *frame, cog_checkpoint *out) {
    const int worker = frame->header.source - 1;
    s->transport->bytes_up -= cog_frame_bytes(&frame->header);
    if (frame->header.round != s->n_rests || s->resting[worker] == 0)
        return COG_OK; /* for a checkpoint that was given up */
    if (out != NULL) COG_TRY(keep_state(s, frame, out));
    if (--s->resting[worker] > 0) return COG_OK;
    s->n_resting--;
    if (!holds_its_version(s, &frame->header)) s->version[worker] = -1;
    if (s->awaited[worker] > 0) is_idle_now(s, worker); /* it will never answer */
    return COG_OK;
}

static void drop_answer(cog_server *s, const cog_frame *frame) {
    const int worker = frame->header.source - 1;
    const bool is_message = frame->header.kind == COG_FRAME_MESSAGE;
    if (!cog_server_expects(s, &frame->header)) {
        s->transport->frames_refused++;
        return;
    }
    s->due[worker] &= ~(1ull << (frame->header.message - s->code->plan.first[worker]));
    s->report.messages_dropped += is_message;
    s->awaited[worker] = is_message ? s->awaited[worker] - 1 : 0;
    if (s->awaited[worker] == 0) is_idle_now(s, worker);
}

/* One that is new has no state to send. */
static cog_status take_fate(cog_server *s, const cog_frame *frame) {
    const int worker = frame->header.source - 1;
    s->n_resting -= s->resting[worker] > 0;
    s->resting[worker] = 0;
    if (frame->header.kind == COG_FRAME_LOST) return cog_server_lose(s, frame);
    COG_TRY(cog_server_admit(s, worker));
    is_idle_now(s, worker);
    return COG_OK;
}

static cog_status take_at_rest(cog_server *s, const cog_frame *frame, cog_checkpoint *out) {
    switch (frame->header.kind) {
    case COG_FRAME_STATE: return take_state(s, frame, out);
    case COG_FRAME_MESSAGE:
    case COG_FRAME_DECLINE: drop_answer(s, frame); return COG_OK;
    case COG_FRAME_LOST:
    case COG_FRAME_JOIN: return take_fate(s, frame);
    default:
        COG_FAIL(COG_ERR_FORMAT, "rank %d sent a frame of kind %d during a checkpoint",
                 frame->header.source, frame->header.kind);
    }
}

static cog_status come_to_rest(cog_server *s, cog_checkpoint *out) {
    for (int w = 0; is_reduced(s) && w < s->code->plan.n_workers; w++)
        COG_CHECK(s->awaited[w] == 0, COG_ERR_ARGUMENT,
                  "rounds of an all-reduce are under way: there is no state to save");
    if (s->asked) cog_server_abandon_round(s);
    for (cog_frame frame; cog_server_take_early(s, &frame);) drop_answer(s, &frame);
    s->n_rests++;
    s->n_resting = 0;
    memset(s->resting, 0, (size_t)s->code->plan.n_workers * sizeof(*s->resting));
    for (int w = 0; w < s->code->plan.n_workers; w++)
        if (!s->gone[w]) COG_TRY(ask_for_state(s, w));
    while (s->n_resting > 0) {
        cog_frame frame;
        const cog_status status = cog_server_receive(s, s->timeout, &frame);
        COG_CHECK(status != COG_ERR_TIMEOUT || s->stopped, COG_ERR_TIMEOUT,
                  "%d workers did not send their state for a checkpoint of round %lld within %g "
                  "seconds",
                  s->n_resting, (long long)s->round, s->timeout);
        COG_TRY(status);
        COG_TRY(take_at_rest(s, &frame, out));
    }
    return COG_OK;
}

/* ---------------------------------------------------------------- save */

/* Who is gone now will begin anew. */
static cog_status save_renewed(const cog_server *s, cog_checkpoint *out) {
    const cog_plan *plan = &s->code->plan;
    COG_TRY(cog_checkpoint_begin(out, COG_PIECE_RENEWED, 0));
    for (int m = 0; m < plan->n_messages; m++) {
        const uint8_t renewed = s->renewed[m] || s->gone[plan->owner[m]];
        COG_TRY(cog_blob_add(&out->file, &renewed, 1));
    }
    return cog_checkpoint_end(out);
}

static cog_status save_channels(const cog_server *s, cog_checkpoint *out) {
    for (int m = 0; m < s->code->plan.n_messages; m++) {
        const bool is_used_again = s->code->keeps_messages && s->held[m];
        COG_TRY(cog_checkpoint_begin(out, COG_PIECE_RECEIVER, m));
        COG_TRY(cog_channel_save(s->channel[m], is_used_again, &out->file));
        COG_TRY(cog_checkpoint_end(out));
    }
    return COG_OK;
}

static cog_status save_sums(const cog_server *s, cog_checkpoint *out) {
    for (int32_t b = 0; s->sums != NULL && b < s->code->plan.n_blocks; b++) {
        size_t bytes;
        const void *memory = cog_sums_memory(s->sums, b, &bytes);
        COG_TRY(cog_checkpoint_add(out, COG_PIECE_SUMS, b, memory, bytes));
    }
    return COG_OK;
}

static cog_status save_own(const cog_server *s, cog_checkpoint *out) {
    const size_t workers = (size_t)s->code->plan.n_workers, idle = (size_t)s->n_idle;
    const size_t messages = (size_t)s->code->plan.n_messages;
    COG_TRY(cog_checkpoint_add(out, COG_PIECE_IDLE, 0, s->idle, idle * sizeof(*s->idle)));
    COG_TRY(
        cog_checkpoint_add(out, COG_PIECE_VERSION, 0, s->version, workers * sizeof(*s->version)));
    COG_TRY(cog_checkpoint_add(out, COG_PIECE_HELD, 0, s->held, messages));
    COG_TRY(cog_checkpoint_add(out, COG_PIECE_AGE, 0, s->age, messages * sizeof(*s->age)));
    COG_TRY(save_renewed(s, out));
    COG_TRY(save_channels(s, out));
    COG_TRY(save_sums(s, out));
    COG_TRY(cog_checkpoint_begin(out, COG_PIECE_DOWNLINK, 0));
    COG_TRY(cog_downlink_save(s->downlink, &out->file));
    return cog_checkpoint_end(out);
}

cog_status cog_server_save(cog_server *s, cog_checkpoint *out) {
    cog_server_note(s, 's', NULL);
    COG_TRY(come_to_rest(s, out));
    return out != NULL ? save_own(s, out) : COG_OK;
}

/* ---------------------------------------------------------------- load */

/* The piece of this kind and index; false without. */
static bool find_piece(const void *file, uint32_t kind, int32_t index, cog_piece *out) {
    for (size_t at = 0; cog_checkpoint_next(file, &at, out);)
        if (out->kind == kind && out->index == index) return true;
    return false;
}

/* The same, one after the other: those that lie in the order in which they are asked for are found
 * at once. *hint is 0 before the first. */
static bool find_next_piece(const void *file, size_t *hint, uint32_t kind, int32_t index,
                            cog_piece *out) {
    const size_t begin = *hint;
    for (size_t at = begin; cog_checkpoint_next(file, &at, out);) {
        *hint = at;
        if (out->kind == kind && out->index == index) return true;
    }
    for (size_t at = 0; at < begin && cog_checkpoint_next(file, &at, out);) {
        *hint = at;
        if (out->kind == kind && out->index == index) return true;
    }
    return false;
}

static bool find_replica(const void *file, int64_t version, cog_piece *out) {
    for (size_t at = 0; cog_checkpoint_next(file, &at, out);) {
        int64_t its = -1;
        if (out->kind == COG_PIECE_REPLICA && out->bytes >= sizeof(its))
            memcpy(&its, out->data, sizeof(its));
        if (its >= 0 && its == version) return true;
    }
    return false;
}

static cog_status read_array(const void *file, uint32_t kind, void *out, size_t bytes) {
    cog_piece piece;
    COG_CHECK(find_piece(file, kind, 0, &piece) && piece.bytes == bytes, COG_ERR_FORMAT,
              "a checkpoint's piece of kind %u is missing or not of %zu bytes", kind, bytes);
    if (bytes > 0) memcpy(out, piece.data, bytes);
    return COG_OK;
}

/* One that came while the others came to rest had nothing to send; what lies there of its messages,
 * if anything, is its predecessor's. */
static bool began_anew(const cog_server *s, int worker) {
    return s->version[worker] < 0 && s->renewed[s->code->plan.first[worker]];
}

/* In the order of then; who was gone comes last and knows nothing. */
static cog_status load_idle(cog_server *s, const void *file) {
    const int n = s->code->plan.n_workers;
    cog_piece piece;
    COG_CHECK(find_piece(file, COG_PIECE_IDLE, 0, &piece) &&
                  piece.bytes <= (size_t)n * sizeof(*s->idle),
              COG_ERR_FORMAT, "a checkpoint does not say which workers are idle");
    s->n_idle = (int32_t)(piece.bytes / sizeof(*s->idle));
    memcpy(s->idle, piece.data, (size_t)s->n_idle * sizeof(*s->idle));
    for (int i = 0; i < s->n_idle; i++) {
        const int32_t w = s->idle[i];
        COG_CHECK(w >= 0 && w < n && !s->to_restore[w], COG_ERR_FORMAT,
                  "a checkpoint names worker %d among %d idle ones of %d", w, s->n_idle, n);
        s->to_restore[w] = 1;
    }
    s->n_to_restore = s->n_idle;
    for (int w = 0; w < n; w++) {
        if (s->to_restore[w]) continue;
        s->idle[s->n_idle++] = w;
        s->version[w] = -1;
    }
    for (int w = 0; w < n; w++) {
        const bool knew_nothing = s->to_restore[w] && began_anew(s, w);
        s->to_restore[w] -= knew_nothing;
        s->n_to_restore -= knew_nothing;
    }
    return COG_OK;
}

static cog_status load_channels(cog_server *s, const void *file) {
    cog_piece piece;
    size_t hint = 0;
    for (int m = 0; m < s->code->plan.n_messages; m++) {
        COG_CHECK(find_next_piece(file, &hint, COG_PIECE_RECEIVER, m, &piece), COG_ERR_FORMAT,
                  "a checkpoint has nothing on message %d", m);
        COG_TRY(cog_channel_load(s->channel[m], piece.data, piece.bytes));
        size_t unused;
        const bool is_used_again = s->code->keeps_messages && s->held[m];
        COG_CHECK(!is_used_again || cog_channel_payload(s->channel[m], &unused) != NULL,
                  COG_ERR_FORMAT, "a checkpoint lacks message %d, which is used again", m);
    }
    return COG_OK;
}

static cog_status load_sums(cog_server *s, const void *file) {
    for (int32_t b = 0; s->sums != NULL && b < s->code->plan.n_blocks; b++) {
        size_t bytes;
        void *memory = cog_sums_memory(s->sums, b, &bytes);
        cog_piece piece;
        COG_CHECK(find_piece(file, COG_PIECE_SUMS, b, &piece) && piece.bytes == bytes,
                  COG_ERR_FORMAT, "a checkpoint lacks the %zu bytes remembered of sums of block %d",
                  bytes, b);
        if (bytes > 0) memcpy(memory, piece.data, bytes);
    }
    return COG_OK;
}

static cog_status check_versions(const cog_server *s, int64_t round) {
    for (int w = 0; w < s->code->plan.n_workers; w++)
        COG_CHECK(s->version[w] >= -1 && s->version[w] <= round, COG_ERR_FORMAT,
                  "a checkpoint of round %lld puts worker %d at version %lld", (long long)round, w,
                  (long long)s->version[w]);
    return COG_OK;
}

cog_status cog_server_load(cog_server *s, void *file, int64_t round) {
    const size_t messages = (size_t)s->code->plan.n_messages;
    cog_piece piece;
    s->resumed = file;
    s->round = round;
    COG_TRY(read_array(file, COG_PIECE_VERSION, s->version,
                       (size_t)s->code->plan.n_workers * sizeof(*s->version)));
    COG_TRY(check_versions(s, round));
    COG_TRY(read_array(file, COG_PIECE_HELD, s->held, messages));
    COG_TRY(read_array(file, COG_PIECE_AGE, s->age, messages * sizeof(*s->age)));
    COG_TRY(read_array(file, COG_PIECE_RENEWED, s->renewed, messages));
    COG_TRY(load_idle(s, file));
    COG_TRY(load_channels(s, file));
    COG_TRY(load_sums(s, file));
    COG_CHECK(find_piece(file, COG_PIECE_DOWNLINK, 0, &piece), COG_ERR_FORMAT,
              "a checkpoint has no log of updates");
    return cog_downlink_load(s->downlink, round, piece.data, piece.bytes);
}

/* ---------------------------------------------------------------- workers */

static cog_status send_channels(cog_server *s, int worker) {
    const int32_t *first = s->code->plan.first;
    for (int32_t m = first[worker]; m < first[worker + 1]; m++) {
        cog_piece piece;
        COG_CHECK(find_next_piece(s->resumed, &s->resumed_at, COG_PIECE_SENDER, m, &piece),
                  COG_ERR_FORMAT, "a checkpoint lacks what worker %d remembers of message %d",
                  worker, m);
        cog_frame_header header = cog_frame_make(COG_FRAME_LOAD, 0, s->round);
        header.message = m;
        header.bytes = piece.bytes;
        COG_TRY(send_free(s, worker, &header, piece.data));
    }
    return COG_OK;
}

/* Without a replica of its version a worker gets all parameters when it is asked. */
static cog_status send_replica(cog_server *s, int worker) {
    const int64_t version = replica_version(s, worker);
    cog_piece piece;
    if (!find_replica(s->resumed, version, &piece)) {
        s->version[worker] = -1;
        return COG_OK;
    }
    cog_frame_header header = cog_frame_make(COG_FRAME_LOAD, 0, version);
    header.message = -1;
    header.bytes = piece.bytes - sizeof(version);
    return send_free(s, worker, &header, (const uint8_t *)piece.data + sizeof(version));
}

cog_status cog_server_restore(cog_server *s, int worker) {
    if (s->n_to_restore == 0 || !s->to_restore[worker]) return COG_OK;
    COG_TRY(send_channels(s, worker));
    if (replica_version(s, worker) >= 0) COG_TRY(send_replica(s, worker));
    s->to_restore[worker] = 0;
    if (--s->n_to_restore > 0) return COG_OK;
    free(s->resumed);
    s->resumed = NULL;
    return COG_OK;
}
