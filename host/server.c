/* server.c - rank 0: ask, wait for enough, decode, update.
 *
 * This file is the spine of the engine. It does not know which code, compressor, transport or
 * device it runs with. */
#include "server.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

/* Bring a worker's parameters up to date, and say which of its last messages were used. */
static cog_status ask(cog_server *s, int worker) {
    cog_downlink_mode mode;
    const void *payload;
    size_t bytes;
    COG_TRY(cog_server_restore(s, worker));
    COG_TRY(cog_downlink_encode(s->downlink, s->version[worker], &mode, &payload, &bytes));
    cog_frame_header header = cog_frame_make(COG_FRAME_PARAMS, 0, s->round);
    header.mode = (uint16_t)mode;
    header.bytes = bytes;
    header.accepted = s->accepted[worker];
    header.message = ++s->request[worker];
    s->told[worker] = s->accepted[worker];
    s->accepted[worker] = 0;
    s->version[worker] = s->round;
    s->awaited[worker] = s->code->plan.first[worker + 1] - s->code->plan.first[worker];
    s->answers[worker] = s->round;
    s->due[worker] = UINT64_MAX;
    s->transport->edition = cog_downlink_edition(s->downlink);
    const cog_status status =
        s->transport->ops->send(s->transport, 0, worker + 1, &header, payload);
    s->transport->edition = 0;
    return status;
}

/* Workers still busy with an older round are left alone; and when a round that failed is tried
 * again, so are those who answered it. */
static cog_status ask_idle_workers(cog_server *s) {
    if (s->asked) return COG_OK;
    for (int i = 0; i < s->n_idle; i++) COG_TRY(ask(s, s->idle[i]));
    s->n_idle = 0;
    s->asked = true;
    return COG_OK;
}

/* A worker that owes nothing more waits for the next round - unless all it said was useless now:
 * then it is asked again at once, because it may be the one this round needs. */
static cog_status after_message(cog_server *s, int worker, bool was_useful) {
    if (s->awaited[worker] > 0) return COG_OK;
    if (!was_useful) return ask(s, worker);
    s->idle[s->n_idle++] = worker;
    return COG_OK;
}

static cog_status take_message(cog_server *s, const cog_frame *frame, int worker) {
    const int m = frame->header.message;
    const int64_t age = s->round - frame->header.round;
    const bool too_late = age > s->staleness || (age > 0 && s->code->late == COG_LATE_DROP) ||
                          s->arrived[m] || s->version[worker] < 0;
    cog_server_note(s, 'm', &frame->header);
    s->awaited[worker]--;
    if (too_late) {
        s->report.messages_dropped++;
        return after_message(s, worker, false);
    }
    COG_TRY(cog_server_renew_channel(s, m));
    COG_TRY(cog_channel_receive(s->channel[m], frame->payload, frame->header.bytes));
    s->arrived[m] = s->held[m] = 1;
    s->age[m] = (int32_t)age;
    s->arrivals.n_arrived++;
    return after_message(s, worker, true);
}

/* No answer to an older round is no news for this one. */
static cog_status take_decline(cog_server *s, const cog_frame *frame, int worker) {
    const bool is_current = frame->header.round == s->round;
    cog_server_note(s, 'd', &frame->header);
    if (is_current) cog_server_miss(s, worker, s->awaited[worker]);
    s->awaited[worker] = 0;
    return after_message(s, worker, is_current);
}

/* One that is new is asked for this round, unless its predecessor has answered it. */
static cog_status take_join(cog_server *s, int worker) {
    const int last = s->code->plan.first[worker + 1] - 1;
    COG_TRY(cog_server_admit(s, worker));
    return after_message(s, worker, s->arrived[last]);
}

/* For a checkpoint that was given up. */
static cog_status ignore_state(cog_server *s, const cog_frame *frame) {
    s->transport->bytes_up -= cog_frame_bytes(&frame->header);
    return COG_OK;
}

/* Second copies, and answers to what was never asked, belong to nobody. */
bool cog_server_expects(const cog_server *s, const cog_frame_header *h) {
    const cog_plan *plan = &s->code->plan;
    const int worker = h->source - 1;
    if (worker < 0 || worker >= plan->n_workers || h->message < plan->first[worker] ||
        h->message >= plan->first[worker + 1])
        return false;
    return s->awaited[worker] > 0 && s->answers[worker] == h->round &&
           s->request[worker] == h->mode &&
           (s->due[worker] >> (h->message - plan->first[worker]) & 1);
}

static cog_status take(cog_server *s, const cog_frame *frame) {
    const cog_frame_header *h = &frame->header;
    if (h->kind == COG_FRAME_LOST) return cog_server_lose(s, frame);
    if (h->kind == COG_FRAME_JOIN) return take_join(s, h->source - 1);
    if (h->kind == COG_FRAME_STATE) return ignore_state(s, frame);
    COG_CHECK(h->kind == COG_FRAME_MESSAGE || h->kind == COG_FRAME_DECLINE, COG_ERR_FORMAT,
              "the server got a frame of kind %d", h->kind);
    if (!cog_server_expects(s, h)) {
        s->transport->frames_refused++;
        return COG_OK;
    }
    const int worker = h->source - 1;
    s->due[worker] &= ~(1ull << (h->message - s->code->plan.first[worker]));
    if (h->kind == COG_FRAME_MESSAGE) return take_message(s, frame, worker);
    return take_decline(s, frame, worker);
}

static cog_status wait_for_enough(cog_server *s) {
    s->arrivals.round = s->round;
    while (s->hopeless[0] != '\0' || !cog_code_ready(s->code, &s->arrivals)) {
        cog_frame frame;
        COG_TRY(cog_server_check_hope(s));
        const cog_status status = cog_server_next(s, s->timeout, &frame);
        COG_CHECK(status != COG_ERR_TIMEOUT || s->stopped || s->retelling != NULL, COG_ERR_TIMEOUT,
                  "round %lld: %d of %d messages arrived, and nothing more within %g seconds",
                  (long long)s->round, s->arrivals.n_arrived, s->arrivals.n_messages, s->timeout);
        COG_TRY(status);
        COG_TRY(take(s, &frame));
    }
    return COG_OK;
}

/* What workers take from where it lies has been taken, or copied, before the parameters change. */
static cog_status ask_and_hear(cog_server *s) {
    cog_status status = ask_idle_workers(s);
    if (status == COG_OK) status = wait_for_enough(s);
    if (s->transport->ops->settle == NULL) return status;
    const cog_status settled = s->transport->ops->settle(s->transport);
    return status != COG_OK ? status : settled;
}

/* Counting sort of the decoding's terms by message; their order within one stays. */
static void sort_terms(cog_server *s) {
    const cog_decoding *d = &s->decoding;
    memset(s->first, 0, ((size_t)s->arrivals.n_messages + 1) * sizeof(*s->first));
    for (int i = 0; i < d->count; i++) s->first[d->terms[i].message + 1]++;
    for (int m = 0; m < s->arrivals.n_messages; m++) s->first[m + 1] += s->first[m];
    for (int i = 0; i < d->count; i++) s->order[s->first[d->terms[i].message]++] = i;
    for (int m = s->arrivals.n_messages; m > 0; m--) s->first[m] = s->first[m - 1];
    s->first[0] = 0;
}

/* The decoding as an update: message by message, with the payloads the channels hold. */
static cog_status build_update(cog_server *s) {
    sort_terms(s);
    for (int m = 0; m < s->arrivals.n_messages; m++) {
        if (s->first[m] == s->first[m + 1]) continue;
        size_t bytes;
        const void *payload = cog_channel_payload(s->channel[m], &bytes);
        COG_TRY(cog_update_message_add(&s->update, m, payload, bytes));
        for (int i = s->first[m]; i < s->first[m + 1]; i++) {
            const cog_decode_term *term = &s->decoding.terms[s->order[i]];
            COG_TRY(cog_update_term_add(&s->update, term->block, (float)term->weight));
        }
    }
    return COG_OK;
}

/* Answers that do not determine an update (too many workers declined) make an empty one: the
 * round is skipped and counted, and nobody's message is accepted. */
static cog_status decode(cog_server *s) {
    cog_update_clear(&s->update);
    s->applied = &s->update;
    const cog_status status = cog_code_decode(s->code, &s->arrivals, &s->decoding);
    if (status == COG_ERR_UNDECODABLE) {
        s->report.rounds_skipped++;
        return COG_OK;
    }
    COG_TRY(status);
    COG_TRY(build_update(s));
    cog_faults_strike_server(s->faults, COG_DURING_DECODE, s->round);
    if (s->sums != NULL) COG_TRY(cog_sums_decode(s->sums, &s->update, &s->applied));
    return cog_replica_apply(s->replica, s->round, s->applied);
}

/* Messages that arrived but got no weight (a spare replica) count as never sent. */
static void settle(cog_server *s) {
    const cog_plan *plan = &s->code->plan;
    for (int i = 0; i < s->update.n_messages; i++) {
        const int m = s->update.messages[i].row, worker = plan->owner[m];
        if (!s->arrived[m]) continue; /* held from an earlier round, settled then */
        if (!s->renewed[m]) /* else it is its predecessor's, and no news to the worker of now */
            s->accepted[worker] |= 1ull << (m - plan->first[worker]);
        cog_channel_settle(s->channel[m], true);
        s->report.messages_used++;
        s->report.messages_late += s->age[m] > 0;
        s->arrivals.n_arrived--;
    }
    s->report.messages_dropped += s->arrivals.n_arrived; /* what is left was not used */
    s->arrivals.n_arrived = 0;
    memset(s->arrived, 0, (size_t)s->arrivals.n_messages);
    cog_server_miss_next(s);
}

cog_status cog_server_round(cog_server *s) {
    if (!s->asked) COG_TRY(cog_server_begin_round(s));
    COG_TRY(ask_and_hear(s));
    COG_TRY(cog_server_end_round(s));
    COG_TRY(decode(s));
    COG_TRY(cog_downlink_record(s->downlink, s->round, s->applied));
    settle(s);
    s->round++;
    s->asked = false;
    return COG_OK;
}

/* ---------------------------------------------------------------- all-reduce */

static cog_status grant(cog_server *s, int64_t until) {
    for (int w = 0; w < s->transport->n_workers; w++) {
        cog_downlink_mode mode = COG_DOWNLINK_FP32;
        const void *payload = NULL;
        size_t bytes = 0;
        COG_TRY(cog_server_restore(s, w));
        if (s->version[w] < 0)
            COG_TRY(cog_downlink_encode(s->downlink, -1, &mode, &payload, &bytes));
        cog_frame_header header = cog_frame_make(COG_FRAME_RUN, 0, until);
        header.mode = (uint16_t)mode;
        header.bytes = bytes;
        COG_TRY(s->transport->ops->send(s->transport, 0, w + 1, &header, payload));
        s->version[w] = until;
        s->awaited[w] = 1;
    }
    return COG_OK;
}

/* The server only watches: its copy of the parameters is not part of the all-reduce, so what it
 * costs is taken out of the byte count again. */
static cog_status take_done(cog_server *s, const cog_frame *frame, int64_t until, int *n_left) {
    const size_t bytes = (size_t)cog_replica_n_params(s->replica) * sizeof(float);
    const int worker = frame->header.source - 1;
    if (frame->header.kind == COG_FRAME_STATE) return ignore_state(s, frame);
    COG_CHECK(frame->header.kind != COG_FRAME_LOST && frame->header.kind != COG_FRAME_JOIN,
              COG_ERR_TRANSPORT, "an all-reduce needs the workers it began with: worker %d %s",
              worker, frame->header.kind == COG_FRAME_LOST ? "is gone" : "is another one");
    COG_CHECK(frame->header.kind == COG_FRAME_DONE, COG_ERR_FORMAT,
              "rank %d sent a frame of kind %d during an all-reduce", frame->header.source,
              frame->header.kind);
    if (frame->header.round == until) { /* else it answers a call that gave up waiting */
        *n_left -= s->awaited[worker];
        s->awaited[worker] = 0;
    }
    if (worker != 0) return COG_OK;
    COG_CHECK(frame->header.bytes == bytes, COG_ERR_FORMAT, "rank 1 sent %llu bytes of parameters",
              (unsigned long long)frame->header.bytes);
    s->transport->bytes_up -= (int64_t)bytes;
    return s->device->ops->upload(s->device, cog_replica_params(s->replica), frame->payload, bytes);
}

cog_status cog_server_reduced_rounds(cog_server *s, int64_t until) {
    const double patience = s->timeout * (double)(until - s->round);
    COG_TRY(grant(s, until));
    for (int n_left = s->transport->n_workers; n_left > 0;) {
        cog_frame frame;
        const cog_status status = cog_server_receive(s, patience, &frame);
        COG_CHECK(status != COG_ERR_TIMEOUT || s->stopped, COG_ERR_TIMEOUT,
                  "the all-reduce rounds %lld to %lld did not end within %g seconds each",
                  (long long)s->round, (long long)until - 1, s->timeout);
        COG_TRY(status);
        COG_TRY(take_done(s, &frame, until, &n_left));
    }
    s->report.messages_used += (until - s->round) * s->transport->n_workers;
    s->round = until;
    return COG_OK;
}

/* ---------------------------------------------------------------- open and close */

void cog_server_abandon_round(cog_server *s) {
    cog_update_clear(&s->update);
    settle(s);
    s->asked = false;
}

void cog_server_forget(cog_server *s) {
    for (int w = 0; w < s->transport->n_workers; w++) s->version[w] = -1;
    cog_downlink_forget(s->downlink, s->round);
    memset(s->held, 0, (size_t)s->arrivals.n_messages);
    cog_server_abandon_round(s);
}

cog_status cog_server_open(cog_server *s, const char *channel, int64_t block_len) {
    const cog_plan *plan = &s->code->plan;
    const size_t messages = (size_t)plan->n_messages, workers = (size_t)plan->n_workers;
    const int32_t terms = cog_code_max_terms(s->code);
    s->channel = calloc(messages, sizeof(*s->channel));
    s->arrived = calloc(messages, 1);
    s->held = calloc(messages, 1);
    s->age = calloc(messages, sizeof(*s->age));
    s->awaited = calloc(workers, sizeof(*s->awaited));
    s->version = calloc(workers, sizeof(*s->version));
    s->accepted = calloc(workers, sizeof(*s->accepted));
    s->idle = calloc(workers, sizeof(*s->idle));
    s->missing = calloc(workers, sizeof(*s->missing));
    s->gone = calloc(workers, 1);
    s->renewed = calloc(messages, 1);
    s->may_come = calloc(messages, 1);
    s->answers = calloc(workers, sizeof(*s->answers));
    s->due = calloc(workers, sizeof(*s->due));
    s->request = calloc(workers, sizeof(*s->request));
    s->told = calloc(workers, sizeof(*s->told));
    s->resting = calloc(workers, sizeof(*s->resting));
    s->to_restore = calloc(workers, 1);
    s->channel_spec = strdup(channel);
    s->order = calloc((size_t)terms + 1, sizeof(*s->order));
    s->first = calloc(messages + 1, sizeof(*s->first));
    s->decoding.terms = calloc((size_t)terms + 1, sizeof(*s->decoding.terms));
    s->decoding.capacity = terms;
    COG_CHECK(s->channel && s->arrived && s->held && s->age && s->awaited && s->version &&
                  s->accepted && s->idle && s->missing && s->gone && s->renewed && s->may_come &&
                  s->resting && s->to_restore && s->answers && s->due && s->request && s->told &&
                  s->channel_spec && s->order && s->first && s->decoding.terms,
              COG_ERR_MEMORY, "no memory for a server of %zu messages", messages);
    s->arrivals = (cog_arrivals){
        .n_messages = plan->n_messages, .arrived = s->arrived, .held = s->held, .age = s->age};
    for (int w = 0; w < plan->n_workers; w++) s->idle[s->n_idle++] = w;
    for (size_t m = 0; m < messages; m++)
        COG_TRY(cog_channel_open(channel, s->device, block_len, COG_RECEIVER, &s->channel[m]));
    const cog_quantizer *summed = cog_channel_summed(s->channel[0]);
    if (summed == NULL) return COG_OK;
    return cog_sums_open(summed, plan->n_blocks, plan->n_messages, &s->sums);
}

void cog_server_close(cog_server *s) {
    for (int m = 0; s->channel != NULL && m < s->code->plan.n_messages; m++)
        cog_channel_close(s->channel[m]);
    void *owned[] = {s->channel, s->arrived,    s->held,         s->age,
                     s->awaited, s->version,    s->accepted,     s->idle,
                     s->missing, s->gone,       s->renewed,      s->may_come,
                     s->order,   s->first,      s->channel_spec, s->decoding.terms,
                     s->resting, s->to_restore, s->resumed,      s->answers,
                     s->due,     s->request,    s->told};
    for (size_t i = 0; i < sizeof(owned) / sizeof(owned[0]); i++) free(owned[i]);
    cog_update_free(&s->update);
    cog_server_end_replay(s);
    cog_sums_close(s->sums);
}
