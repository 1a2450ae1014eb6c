/* test_zmq.c - a server next to a worker that breaks the rules, frame by frame. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#include <zmq.h>

#include "harness.h"
#include "mailbox.h"
#include "transports/zmq_wire.h"

typedef struct rogue {
    cog_parcel_pool pool;
    cog_zmq_wire wire;
    int rank;
} rogue;

static char address[64];

static void say(rogue *r, int kind, uint64_t number, int source, int64_t round) {
    cog_frame_header header = cog_frame_make((cog_frame_kind)kind, source, round);
    const char *text = kind == COG_ZMQ_HELLO ? COG_PROJECT_VERSION : "";
    bool reached;
    header.accepted = number;
    header.bytes = strlen(text);
    cr_assert_eq(cog_zmq_send(&r->wire, NULL, &header, text, &reached), COG_OK);
}

/* The kind of the server's next frame; 0 when nothing comes. */
static int hear(rogue *r, double seconds) {
    const double deadline = cog_clock_seconds() + seconds;
    cog_parcel *parcel = NULL;
    for (bool there; parcel == NULL && cog_clock_seconds() < deadline;) {
        cog_zmq_wait(&r->wire, 0.02);
        cr_assert_eq(cog_zmq_next(&r->wire, COG_ZMQ_MAX_SETTINGS, &parcel, &there), COG_OK);
    }
    if (parcel == NULL) return 0;
    const int kind = parcel->frame.header.kind;
    r->rank = parcel->frame.header.message;
    cog_parcel_give(&r->pool, parcel);
    return kind;
}

static void rogue_open(rogue *r) {
    *r = (rogue){.wire = {.pool = &r->pool}};
    cr_assert_eq(cog_parcel_pool_open(&r->pool), COG_OK);
    cr_assert_eq(cog_zmq_open(&r->wire, ZMQ_DEALER, 10), COG_OK);
    cr_assert_eq(cog_zmq_connect(&r->wire, address), COG_OK);
}

static void rogue_close(rogue *r) {
    cog_zmq_close(&r->wire);
    cog_parcel_pool_close(&r->pool);
}

/* Lets the server's start see a worker. */
static void *join_in(void *argument) {
    rogue *r = argument;
    say(r, COG_ZMQ_HELLO, 0, 0, 0);
    cr_assert_eq(hear(r, 10), COG_ZMQ_WELCOME);
    say(r, COG_ZMQ_HERE, 0, r->rank, 0);
    return NULL;
}

static cog_transport *server_open(rogue *first) {
    char spec[128];
    cog_transport *t;
    pthread_t thread;
    snprintf(address, sizeof(address), "ipc://@cograd-test-%d", (int)getpid());
    snprintf(spec, sizeof(spec), "zmq:bind=%s,silence=10,patience=20", address);
    cr_assert_eq(cog_transport_create(spec, 1, &t), COG_OK, "%s", cog_last_error());
    t->max_payload = 1000;
    rogue_open(first);
    cr_assert_eq(pthread_create(&thread, NULL, join_in, first), 0);
    cr_assert_eq(t->ops->start(t), COG_OK, "%s", cog_last_error());
    pthread_join(thread, NULL);
    return t;
}

static void expect(cog_transport *t, int kind, int64_t round) {
    cog_frame frame;
    cr_assert_eq(t->ops->receive(t, 10, &frame), COG_OK, "%s", cog_last_error());
    cr_assert_eq(frame.header.kind, kind, "kind %d came, not %d", frame.header.kind, kind);
    cr_assert_eq(frame.header.source, 1);
    if (kind == COG_FRAME_MESSAGE) cr_assert_eq(frame.header.round, round);
}

static void expect_silence(cog_transport *t, int64_t refused) {
    cog_frame frame;
    cr_assert_eq(t->ops->receive(t, 0.3, &frame), COG_ERR_TIMEOUT);
    cr_assert_eq(t->frames_refused, refused, "%lld refused", (long long)t->frames_refused);
}

Test(zmq, second_copies_and_frames_that_are_not_a_workers_are_dropped_and_counted) {
    rogue r;
    cog_transport *t = server_open(&r);
    say(&r, COG_FRAME_MESSAGE, 1, 1, 10);
    say(&r, COG_FRAME_MESSAGE, 1, 1, 10);
    say(&r, COG_FRAME_MESSAGE, 2, 1, 11);
    say(&r, COG_FRAME_MESSAGE, 1, 1, 10);
    expect(t, COG_FRAME_MESSAGE, 10);
    expect(t, COG_FRAME_MESSAGE, 11);
    expect_silence(t, 2);
    say(&r, COG_FRAME_LOST, 3, 1, 0);
    say(&r, COG_FRAME_JOIN, 3, 1, 0);
    say(&r, COG_FRAME_PARAMS, 3, 1, 0);
    say(&r, COG_ZMQ_WELCOME, 3, 1, 0);
    say(&r, COG_FRAME_MESSAGE, 3, 2, 0); /* as somebody else */
    expect_silence(t, 7);
    say(&r, COG_FRAME_MESSAGE, 3, 1, 12);
    expect(t, COG_FRAME_MESSAGE, 12);
    rogue_close(&r);
    expect(t, COG_FRAME_LOST, 0);
    cog_transport_destroy(t);
}

Test(zmq, a_gap_in_the_numbers_costs_the_connection) {
    rogue r;
    cog_transport *t = server_open(&r);
    say(&r, COG_FRAME_MESSAGE, 1, 1, 10);
    say(&r, COG_FRAME_MESSAGE, 3, 1, 12);
    expect(t, COG_FRAME_MESSAGE, 10);
    expect(t, COG_FRAME_LOST, 0);
    say(&r, COG_FRAME_MESSAGE, 4, 1, 13);
    expect_silence(t, 2);
    cr_assert_eq(hear(&r, 5), COG_ZMQ_REFUSED, "it may know that it is not known any more");
    cog_transport_destroy(t);
    rogue_close(&r);
}

/* The frames that came before count; whoever comes next is new, and what the old one sends is not
 * taken for his. */
Test(zmq, a_place_is_given_away_once_its_connection_has_ended) {
    rogue first, second;
    cog_transport *t = server_open(&first);
    rogue_open(&second);
    cog_frame frame;
    say(&second, COG_ZMQ_HELLO, 0, 0, 0);
    cr_assert_eq(t->ops->receive(t, 0.3, &frame), COG_ERR_TIMEOUT);
    cr_assert_eq(hear(&second, 5), COG_ZMQ_REFUSED, "there is one place, and it is taken");
    say(&first, COG_FRAME_MESSAGE, 1, 1, 10);
    usleep(100000);
    rogue_close(&first);
    expect(t, COG_FRAME_MESSAGE, 10);
    expect(t, COG_FRAME_LOST, 0);
    say(&second, COG_ZMQ_HELLO, 0, 0, 0);
    cr_assert_eq(t->ops->receive(t, 0.3, &frame), COG_ERR_TIMEOUT);
    cr_assert_eq(hear(&second, 5), COG_ZMQ_WELCOME);
    cr_assert_eq(second.rank, 1);
    say(&second, COG_ZMQ_HERE, 0, 1, 0);
    expect(t, COG_FRAME_JOIN, 0);
    say(&second, COG_FRAME_MESSAGE, 1, 1, 20);
    expect(t, COG_FRAME_MESSAGE, 20);
    cog_transport_destroy(t);
    cr_assert_eq(hear(&second, 5), COG_ZMQ_STOP);
    rogue_close(&second);
}

/* Its HELLO is read after the news that its connection has ended: a place that waited for it would
 * be nobody's for ever. */
Test(zmq, one_that_died_before_its_greeting_was_read_takes_no_place) {
    rogue first, dead, next;
    cog_frame frame;
    cog_transport *t = server_open(&first);
    rogue_close(&first);
    expect(t, COG_FRAME_LOST, 0);
    const int linger = 1000;
    rogue_open(&dead);
    say(&dead, COG_ZMQ_HELLO, 0, 0, 0);
    cr_assert_eq(zmq_setsockopt(dead.wire.socket, ZMQ_LINGER, &linger, sizeof(linger)), 0);
    rogue_close(&dead);
    usleep(200000); /* both have reached the server */
    rogue_open(&next);
    cr_assert_eq(t->ops->receive(t, 0.3, &frame), COG_ERR_TIMEOUT);
    say(&next, COG_ZMQ_HELLO, 0, 0, 0);
    cr_assert_eq(t->ops->receive(t, 0.3, &frame), COG_ERR_TIMEOUT);
    cr_assert_eq(hear(&next, 5), COG_ZMQ_WELCOME);
    rogue_close(&next);
    cog_transport_destroy(t);
}

Test(zmq, a_frame_of_another_job_is_counted_once_and_told) {
    rogue first, other;
    cog_transport *t = server_open(&first);
    rogue_open(&other);
    other.wire.key = 1;
    say(&other, COG_ZMQ_HELLO, 0, 0, 0);
    expect_silence(t, 1);
    other.wire.key = 0;
    cr_assert_eq(hear(&other, 5), COG_ZMQ_REFUSED);
    rogue_close(&other);
    rogue_close(&first);
    cog_transport_destroy(t);
}
