/* test_server_fate.c - workers that vanish and come back, as a scripted transport tells it.
 *
 * The transport answers for the workers by a plan: the server's round is driven with real codes,
 * channels and parameters, while every arrival, loss and return is chosen by the test. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "harness.h"
#include "server.h"

enum { BLOCK = 6, MOST_FRAMES = 64, MOST_ASKED = 256 };

/* What the transport says next. Messages answer the last round their worker was asked for. */
typedef struct line {
    int kind, worker;
} line;

typedef struct stage {
    cog_transport transport;
    cog_code *code;
    cog_device *device;
    cog_replica *replica;
    cog_downlink *downlink;
    cog_server server;
    line script[MOST_FRAMES];
    int n_lines, n_read;
    int64_t asked_for[64];          /* round a worker was last asked for; -1: never */
    uint16_t request[64];           /* number of that */
    int asked[MOST_ASKED], n_asked; /* workers in the order in which they were asked */
    cog_downlink_mode mode[64];     /* what they were last sent */
    const char *channel;
    cog_channel *sender[64]; /* the workers' ends */
} stage;

static cog_status send(cog_transport *t, int from, int to, const cog_frame_header *header,
                       const void *payload) {
    stage *g = t->state;
    (void)from, (void)payload;
    cr_assert(g->n_asked < MOST_ASKED);
    g->asked[g->n_asked++] = to - 1;
    g->asked_for[to - 1] = header->round;
    g->request[to - 1] = (uint16_t)header->message;
    cog_channel_settle(g->sender[to - 1], header->accepted & 1);
    g->mode[to - 1] = (cog_downlink_mode)header->mode;
    return COG_OK;
}

static void begin_sender(stage *g, int worker) {
    cog_channel_close(g->sender[worker]);
    cr_assert_eq(cog_channel_open(g->channel, g->device, BLOCK, COG_SENDER, &g->sender[worker]),
                 COG_OK, "%s", cog_last_error());
}

/* A vector of 2^worker. */
static void pack(stage *g, int worker, cog_frame *out) {
    float x[BLOCK];
    const cog_term term = {x, 1};
    size_t bytes;
    for (int i = 0; i < BLOCK; i++) x[i] = (float)(1 << worker);
    cog_channel_begin_round(g->sender[worker], g->asked_for[worker]);
    cr_assert_eq(cog_channel_pack(g->sender[worker], 1, &term, &out->payload, &bytes), COG_OK);
    out->header.bytes = bytes;
}

static cog_status receive(cog_transport *t, double timeout, cog_frame *out) {
    stage *g = t->state;
    (void)timeout;
    COG_CHECK(g->n_read < g->n_lines, COG_ERR_TIMEOUT, "the script is over");
    const line l = g->script[g->n_read++];
    out->header = cog_frame_make((cog_frame_kind)l.kind, l.worker + 1, g->asked_for[l.worker]);
    out->header.message = l.worker;
    out->header.mode = g->request[l.worker];
    if (l.kind == COG_FRAME_MESSAGE) pack(g, l.worker, out);
    if (l.kind == COG_FRAME_JOIN) begin_sender(g, l.worker);
    if (l.kind == COG_FRAME_LOST) {
        out->payload = "was struck by lightning";
        out->header.bytes = strlen(out->payload);
    }
    return COG_OK;
}

static const cog_transport_ops scripted = {.name = "scripted", .send = send, .receive = receive};

/* Codes of one block and one message a worker; the optimizer steps by minus the sum. */
static stage *stage_open_with(const char *code, int n_workers, bool awaits_joiners,
                              const char *channel) {
    stage *g = calloc(1, sizeof(*g));
    cr_assert(g != NULL);
    g->transport = (cog_transport){
        .ops = &scripted, .n_workers = n_workers, .awaits_joiners = awaits_joiners, .state = g};
    cr_assert_eq(cog_code_create(code, n_workers, &g->code), COG_OK, "%s", cog_last_error());
    cr_assert_eq(cog_device_open("cpu", &g->device), COG_OK);
    g->server = (cog_server){.transport = &g->transport,
                             .code = g->code,
                             .device = g->device,
                             .timeout = 1,
                             .staleness = 100};
    cr_assert_eq(cog_server_open(&g->server, channel, BLOCK), COG_OK, "%s", cog_last_error());
    const cog_quantizer *q = cog_channel_quantizer(g->server.channel[0]);
    cr_assert_eq(cog_replica_open("sgd:rate=1", q, g->device, 1, &g->replica), COG_OK);
    cr_assert_eq(cog_downlink_open("fp32", g->replica, g->device, 1, &g->downlink), COG_OK);
    g->server.replica = g->replica;
    g->server.downlink = g->downlink;
    g->channel = channel;
    for (int w = 0; w < n_workers; w++) {
        g->asked_for[w] = -1;
        begin_sender(g, w);
    }
    return g;
}

static stage *stage_open(const char *code, int n_workers, bool awaits_joiners) {
    return stage_open_with(code, n_workers, awaits_joiners, "identity");
}

static void stage_close(stage *g) {
    for (int w = 0; w < g->transport.n_workers; w++) cog_channel_close(g->sender[w]);
    cog_server_close(&g->server);
    cog_downlink_close(g->downlink);
    cog_replica_close(g->replica);
    cog_device_close(g->device);
    cog_code_destroy(g->code);
    free(g);
}

/* "m0 m1 l2 j2 d3": messages, losses, returns (joins) and declines of workers. */
static void say(stage *g, const char *script) {
    g->n_lines = g->n_read = 0;
    for (const char *c = script; *c != '\0'; c++) {
        if (*c == ' ') continue;
        const int kind = *c == 'm'   ? COG_FRAME_MESSAGE
                         : *c == 'l' ? COG_FRAME_LOST
                         : *c == 'j' ? COG_FRAME_JOIN
                                     : COG_FRAME_DECLINE;
        g->script[g->n_lines++] = (line){kind, atoi(++c)};
    }
}

/* One round told by the script, which is read to its end; then the parameters have moved by
 * -`step`. */
static void expect_round(stage *g, const char *script, double step) {
    const float before = cog_replica_params(g->replica)[0];
    say(g, script);
    cr_assert_eq(cog_server_round(&g->server), COG_OK, "'%s': %s", script, cog_last_error());
    cr_assert_eq(g->n_read, g->n_lines, "'%s': the round ended after %d frames", script, g->n_read);
    const double moved = (double)before - cog_replica_params(g->replica)[0];
    cr_assert_float_eq(moved, step, 1e-5, "'%s': a step of %g, expected %g", script, moved, step);
}

static void expect_failure(stage *g, const char *script, cog_status status, const char *words) {
    say(g, script);
    cr_assert_eq(cog_server_round(&g->server), status, "'%s': %s", script, cog_last_error());
    cr_assert(strstr(cog_last_error(), words), "'%s' lacks '%s'", cog_last_error(), words);
}

static void expect_asked(stage *g, const char *workers) {
    char text[3 * MOST_ASKED] = "";
    for (int i = 0; i < g->n_asked; i++)
        snprintf(text + strlen(text), 4, "%s%d", i > 0 ? " " : "", g->asked[i]);
    cr_assert_str_eq(text, workers, "asked '%s', expected '%s'", text, workers);
    g->n_asked = 0;
}

/* ignore:wait=3 scales the sum of what came to the number of workers: n / arrivals * sum, and the
 * gradient is the mean over shards only in the worker's scale, which this script leaves out. */
Test(fate, a_lost_worker_counts_as_missing_and_is_asked_no_more) {
    stage *g = stage_open("ignore:wait=4", 4, false);
    expect_round(g, "m0 m1 m2 m3", 15);
    expect_asked(g, "0 1 2 3");
    expect_round(g, "m1 l2 m0 m3", 11 * 4.0 / 3);
    expect_asked(g, "0 1 2 3");
    expect_round(g, "m0 m3 m1", 11 * 4.0 / 3);
    expect_asked(g, "1 0 3");
    cr_expect_eq(g->server.report.rounds_skipped, 0);
    stage_close(g);
}

Test(fate, a_message_that_came_before_its_worker_went_is_used) {
    stage *g = stage_open("ignore:wait=4", 4, false);
    expect_round(g, "m2 l2 m0 m1 m3", 15);
    expect_round(g, "m0 m3 m1", 11 * 4.0 / 3);
    stage_close(g);
}

Test(fate, a_worker_that_declined_is_missed_once) {
    stage *g = stage_open("ignore:wait=4", 4, false);
    expect_round(g, "d2 l2 m0 m1 m3", 11 * 4.0 / 3);
    expect_round(g, "l3 d0 l1", 0);
    cr_expect_eq(g->server.report.rounds_skipped, 1);
    stage_close(g);
}

/* A second copy of an answer, at once or a round later, moves nothing and ends nothing. */
Test(fate, a_second_copy_is_dropped_and_counted) {
    stage *g = stage_open("ignore:wait=4", 4, false);
    expect_round(g, "m0 m0 m1 m1 m1 m2 m3", 15);
    cr_expect_eq(g->transport.frames_refused, 3);
    cr_expect_eq(g->server.report.messages_used, 4);
    expect_round(g, "m3 m2 m2 d1 d1 m1 m0", 13 * 4.0 / 3);
    cr_expect_eq(g->transport.frames_refused, 6);
    stage_close(g);
}

/* Frames of a round that the worker was not asked for, or of a message that is not its own. */
Test(fate, foreign_messages_are_dropped_and_counted) {
    stage *g = stage_open("ignore:wait=4", 4, false);
    expect_round(g, "m0 m1 m2 m3", 15);
    cog_frame_header h = cog_frame_make(COG_FRAME_MESSAGE, 2, 0);
    h.mode = 1;
    g->server.awaited[1] = 1;
    h.message = 1;
    cr_expect(!cog_server_expects(&g->server, &h), "it has come already");
    g->server.due[1] = 1;
    cr_expect(cog_server_expects(&g->server, &h));
    h.round = -1;
    cr_expect(!cog_server_expects(&g->server, &h));
    h.round = 1;
    cr_expect(!cog_server_expects(&g->server, &h));
    h.round = 0;
    for (h.mode = 0; h.mode < 4; h.mode++)
        cr_expect_eq(cog_server_expects(&g->server, &h), h.mode == 1, "request %d", h.mode);
    h.mode = 1;
    for (h.message = -1; h.message < 6; h.message++)
        cr_expect_eq(cog_server_expects(&g->server, &h), h.message == 1, "%d", h.message);
    h.message = 1;
    for (h.source = -1; h.source < 8; h.source++)
        cr_expect_eq(cog_server_expects(&g->server, &h), h.source == 2, "%d", h.source);
    stage_close(g);
}

/* Worker 3 is still busy with round 0 when it goes in round 1. */
Test(fate, a_worker_lost_with_an_older_round_is_missing_in_this_one) {
    stage *g = stage_open("ignore:wait=3", 4, false);
    expect_round(g, "m0 m1 m2", 7 * 4.0 / 3);
    expect_round(g, "m0 m1 l3 d2", 3 * 2.0);
    stage_close(g);
}

Test(fate, a_worker_that_comes_back_gets_all_parameters_and_answers_the_round) {
    stage *g = stage_open("ignore:wait=4", 4, false);
    expect_round(g, "m0 l1 m2 m3", 13 * 4.0 / 3);
    expect_asked(g, "0 1 2 3");
    g->mode[1] = (cog_downlink_mode)0;
    expect_round(g, "m0 j1 m2 m1 m3", 15);
    expect_asked(g, "0 2 3 1");
    cr_expect_eq(g->mode[1], COG_DOWNLINK_FP32);
    expect_round(g, "m3 m2 m1 m0", 15);
    stage_close(g);
}

/* Back before it was missed: what it owed is owed no more, and the new one is asked. If the old one
 * had answered, the new one waits for the next round. */
Test(fate, a_return_without_a_loss_is_both) {
    stage *g = stage_open("ignore:wait=4", 4, false);
    expect_round(g, "m0 j1 m2 m1 m3", 15);
    expect_asked(g, "0 1 2 3 1");
    expect_round(g, "m0 m1 j1 m2 m3", 15);
    expect_asked(g, "0 2 1 3");
    expect_round(g, "m0 m1 m2 m3", 15);
    expect_asked(g, "0 1 2 3");
    stage_close(g);
}

Test(fate, a_code_that_lacks_a_shard_for_good_says_so_at_once) {
    stage *g = stage_open("frc:stragglers=1", 4, false);
    expect_round(g, "l0 m1 m2", 6);
    expect_failure(g, "m1 m3 l2", COG_ERR_TRANSPORT, "worker 2 was struck by lightning");
    cr_expect(strstr(cog_last_error(), "'frc'"));
    expect_failure(g, "", COG_ERR_TRANSPORT, "worker 2 was struck by lightning");
    stage_close(g);
    g = stage_open("ignore:wait=2", 2, false);
    expect_failure(g, "l1 l0", COG_ERR_TRANSPORT, "nobody is left");
    stage_close(g);
}

Test(fate, where_joiners_are_awaited_the_round_waits_for_them) {
    stage *g = stage_open("frc:stragglers=1", 4, true);
    expect_round(g, "l0 l2 m1 m3 j2 m2", 6);
    expect_failure(g, "l0 l2 l1 m3", COG_ERR_TIMEOUT, "of 4 messages");
    cr_expect_eq(g->server.report.rounds_skipped, 0);
    stage_close(g);
}

Test(fate, an_all_reduce_needs_those_it_began_with) {
    static const char *const scripts[] = {"l1", "j1"};
    static const char *const words[] = {"worker 1 is gone", "worker 1 is another one"};
    for (int i = 0; i < 2; i++) {
        stage *g = stage_open("uncoded", 2, true);
        say(g, scripts[i]);
        cr_assert_eq(cog_server_reduced_rounds(&g->server, 5), COG_ERR_TRANSPORT);
        cr_expect(strstr(cog_last_error(), words[i]), "%s", cog_last_error());
        stage_close(g);
    }
}

/* A predictor makes both ends remember. One that comes back remembers nothing, so neither must the
 * server of its predecessor - but of the answer that one has still given, which is used. */
Test(fate, a_worker_that_comes_back_is_expected_to_remember_nothing) {
    stage *g = stage_open_with("ignore:wait=4", 4, false, "identity:predict=linear");
    expect_round(g, "m0 m1 m2 m3", 15);
    expect_round(g, "m0 m1 m2 m3", 15);
    expect_round(g, "m0 j1 m2 m1 m3", 15);
    expect_round(g, "m0 m1 m2 j1 m3", 15);
    expect_round(g, "m0 m1 m2 m3", 15);
    stage_close(g);
}
