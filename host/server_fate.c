/* server_fate.c - what the server does about workers that vanish and come back.
 *
 *     LOST   awaited -> missing     idle -> out     the round goes on with those who are left
 *     JOIN   knows nothing: all parameters, no error feedback, no pending message
 *
 * Whether those who are left can still end rounds is asked of the code itself: would it decode if
 * they all answered? If not, rounds are not skipped for ever in silence: the run fails at once, or
 * waits when the transport says that workers may come. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "server.h"

void cog_server_miss(cog_server *s, int worker, int32_t count) {
    s->missing[worker] += count;
    s->arrivals.n_missing += count;
}

static int32_t n_messages_of(const cog_server *s, int worker) {
    return s->code->plan.first[worker + 1] - s->code->plan.first[worker];
}

void cog_server_miss_next(cog_server *s) {
    const int n = s->code->plan.n_workers;
    s->arrivals.n_missing = 0;
    memset(s->missing, 0, (size_t)n * sizeof(*s->missing));
    for (int w = 0; w < n && s->n_gone > 0; w++)
        if (s->gone[w]) cog_server_miss(s, w, n_messages_of(s, w));
}

/* All of its messages that have not come yet, those it had declined included. */
static void miss_the_rest(cog_server *s, int worker) {
    const int32_t *first = s->code->plan.first;
    int32_t count = 0;
    for (int m = first[worker]; m < first[worker + 1]; m++) count += !s->arrived[m];
    cog_server_miss(s, worker, count - s->missing[worker]);
}

static void remove_from_idle(cog_server *s, int worker) {
    int32_t n = 0;
    for (int i = 0; i < s->n_idle; i++)
        if (s->idle[i] != worker) s->idle[n++] = s->idle[i];
    s->n_idle = n;
}

/* Its answer under way, and what this server believed it to know, are void. */
static void forget_worker(cog_server *s, int worker) {
    s->awaited[worker] = 0;
    s->version[worker] = -1;
    s->accepted[worker] = 0;
    remove_from_idle(s, worker);
}

static cog_status decode_what_may_come(cog_server *s) {
    const cog_plan *plan = &s->code->plan;
    cog_arrivals would = {
        .n_messages = plan->n_messages, .round = s->round, .arrived = s->may_come};
    for (int m = 0; m < plan->n_messages; m++) {
        s->may_come[m] = !s->gone[plan->owner[m]];
        would.n_arrived += s->may_come[m];
    }
    would.n_missing = plan->n_messages - would.n_arrived;
    COG_CHECK(would.n_arrived > 0, COG_ERR_UNDECODABLE, "nobody is left");
    return cog_code_decode(s->code, &would, &s->decoding);
}

/* `news` is what just happened to the worker. */
static cog_status look_for_hope(cog_server *s, int worker, const char *news) {
    const cog_status status = decode_what_may_come(s);
    if (status == COG_ERR_UNDECODABLE)
        snprintf(s->hopeless, sizeof(s->hopeless),
                 "worker %d %s, and without the %d of %d workers that are gone '%s' has no "
                 "update: %s",
                 worker, news, s->n_gone, s->code->plan.n_workers, cog_code_name(s->code),
                 cog_last_error());
    else
        s->hopeless[0] = '\0';
    return status == COG_ERR_UNDECODABLE ? COG_OK : status;
}

cog_status cog_server_lose(cog_server *s, const cog_frame *frame) {
    const int worker = frame->header.source - 1;
    const int length = frame->header.bytes < 256 ? (int)frame->header.bytes : 256;
    if (s->gone[worker]) return COG_OK;
    char news[300];
    snprintf(news, sizeof(news), "%.*s", length, length > 0 ? (const char *)frame->payload : "");
    cog_server_note(s, 'l', &frame->header);
    s->gone[worker] = 1;
    s->n_gone++;
    forget_worker(s, worker);
    miss_the_rest(s, worker);
    return look_for_hope(s, worker, news);
}

cog_status cog_server_admit(cog_server *s, int worker) {
    const cog_plan *plan = &s->code->plan;
    const cog_frame_header news = cog_frame_make(COG_FRAME_JOIN, worker + 1, s->round);
    cog_server_note(s, 'j', &news);
    s->n_gone -= s->gone[worker];
    s->gone[worker] = 0;
    forget_worker(s, worker); /* it may have come back before it was missed */
    s->n_to_restore -= s->to_restore[worker];
    s->to_restore[worker] = 0; /* what a checkpoint knows of it is its predecessor's */
    cog_server_miss(s, worker, -s->missing[worker]);
    for (int m = plan->first[worker]; m < plan->first[worker + 1]; m++) s->renewed[m] = 1;
    return look_for_hope(s, worker, "is back");
}

cog_status cog_server_check_hope(const cog_server *s) {
    const bool others_may_come = s->transport->awaits_joiners || s->retelling != NULL;
    if (s->hopeless[0] == '\0' || others_may_come) return COG_OK;
    COG_FAIL(COG_ERR_TRANSPORT, "%s", s->hopeless);
}

cog_status cog_server_renew_channel(cog_server *s, int message) {
    if (!s->renewed[message]) return COG_OK;
    cog_channel *fresh;
    const int64_t n = cog_channel_quantizer(s->channel[message])->n;
    COG_TRY(cog_channel_open(s->channel_spec, s->device, n, COG_RECEIVER, &fresh));
    cog_channel_close(s->channel[message]);
    s->channel[message] = fresh;
    s->renewed[message] = 0;
    return COG_OK;
}
