/* test_replica.c - updates, replicas and the exact downlink: every copy holds the same bits. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "downlink.h"
#include "rng.h"

enum { BLOCK = 5000, BLOCKS = 2, N = BLOCK * BLOCKS, MESSAGES = 4, ROUNDS = 60 };

static cog_device *device;

static void setup(void) { cr_assert_eq(cog_device_open("cpu", &device), COG_OK); }
static void teardown(void) { cog_device_close(device); }

TestSuite(replica, .init = setup, .fini = teardown);

/* Senders whose payloads feed the updates of a test. */
typedef struct senders {
    cog_channel *channel[MESSAGES];
    float message[BLOCK];
} senders;

static void open_senders(senders *s, const char *spec) {
    for (int m = 0; m < MESSAGES; m++)
        cr_assert_eq(cog_channel_open(spec, device, BLOCK, COG_SENDER, &s->channel[m]), COG_OK,
                     "%s", cog_last_error());
}

static void close_senders(senders *s) {
    for (int m = 0; m < MESSAGES; m++) cog_channel_close(s->channel[m]);
}

/* A round in which a random subset of the messages is used, each for one or both blocks. */
static void make_update(senders *s, int round, cog_update *u) {
    cog_rng rng = cog_rng_make(11, COG_STREAM_TEST, (uint32_t)round, 1);
    cog_update_clear(u);
    for (int m = 0; m < MESSAGES; m++) {
        if (cog_rng_below(&rng, 4) == 0) continue;
        for (int i = 0; i < BLOCK; i++) s->message[i] = (float)cog_rng_normal(&rng);
        const cog_term term = {s->message, 1};
        const void *payload;
        size_t bytes;
        cr_assert_eq(cog_channel_pack(s->channel[m], 1, &term, &payload, &bytes), COG_OK);
        cr_assert_eq(cog_update_message_add(u, m, payload, bytes), COG_OK);
        for (int block = 0; block < BLOCKS; block++)
            if (block == 0 || m % 2 == 0)
                cr_assert_eq(cog_update_term_add(u, block, (float)(0.5 + cog_rng_uniform(&rng))),
                             COG_OK);
        cog_channel_settle(s->channel[m], true);
    }
}

static cog_replica *open_replica(const char *optimizer, const senders *s) {
    cog_replica *r = NULL;
    cr_assert_eq(
        cog_replica_open(optimizer, cog_channel_quantizer(s->channel[0]), device, BLOCKS, &r),
        COG_OK, "%s", cog_last_error());
    return r;
}

/* The decoded update as a dense gradient, in double, through `add` alone. */
static void decode_dense(const senders *s, const cog_update *u, double *g) {
    const cog_quantizer *q = cog_channel_quantizer(s->channel[0]);
    float decoded[BLOCK];
    memset(g, 0, N * sizeof(*g));
    for (int i = 0; i < u->n_messages; i++) {
        memset(decoded, 0, sizeof(decoded));
        cr_assert_eq(
            q->ops->on[COG_CPU]->add(q, device, u->messages[i].payload, 1, 0, BLOCK, decoded),
            COG_OK);
        for (int t = 0; t < u->messages[i].n_terms; t++) {
            const cog_update_term *term = &u->terms[u->messages[i].first_term + t];
            for (int j = 0; j < BLOCK; j++)
                g[term->block * BLOCK + j] += (double)term->weight * decoded[j];
        }
    }
}

static const char *const channels[] = {"identity",
                                       "bf16",
                                       "topk:ratio=0.01,kind=chunk,feedback=1",
                                       "topk:ratio=0.01,kind=global,feedback=1",
                                       "topk:ratio=0.01,kind=threshold,feedback=1",
                                       "sign:scale=tensor,feedback=1",
                                       "sign:scale=group"};
enum { N_CHANNELS = sizeof(channels) / sizeof(channels[0]) };

Test(replica, applies_the_weighted_sum_of_the_messages) {
    for (size_t c = 0; c < N_CHANNELS; c++) {
        senders s;
        cog_update u = {0};
        open_senders(&s, channels[c]);
        cog_replica *r = open_replica("sgd:rate=0.1", &s);
        double expected[N] = {0}, g[N];
        for (int round = 0; round < 5; round++) {
            make_update(&s, round, &u);
            decode_dense(&s, &u, g);
            for (int i = 0; i < N; i++) expected[i] -= 0.1 * g[i];
            cr_assert_eq(cog_replica_apply(r, round, &u), COG_OK);
        }
        for (int i = 0; i < N; i++)
            cr_assert_float_eq(cog_replica_params(r)[i], expected[i], 1e-5, "%s at %d", channels[c],
                               i);
        cog_replica_close(r);
        cog_update_free(&u);
        close_senders(&s);
    }
}

Test(replica, an_update_survives_its_wire_format) {
    for (size_t c = 0; c < N_CHANNELS; c++) {
        senders s;
        cog_update u = {0}, read = {0};
        open_senders(&s, channels[c]);
        make_update(&s, 3, &u);
        const size_t bytes = cog_update_wire_bytes(&u);
        void *wire = malloc(bytes), *again = malloc(bytes);
        size_t used = 0;
        cog_update_write(&u, wire);
        cr_assert_eq(cog_update_read(&read, cog_channel_quantizer(s.channel[0]), MESSAGES, BLOCKS,
                                     wire, bytes, &used),
                     COG_OK, "%s", cog_last_error());
        cr_expect_eq(used, bytes);
        cog_update_write(&read, again);
        cr_expect_eq(memcmp(wire, again, bytes), 0, "%s", channels[c]);
        free(wire);
        free(again);
        cog_update_free(&u);
        cog_update_free(&read);
        close_senders(&s);
    }
}

/* Damage to any byte is refused, or read as another valid update: never out of bounds. */
Test(replica, damaged_updates_are_refused_or_harmless) {
    senders s;
    cog_update u = {0}, read = {0};
    open_senders(&s, "topk:ratio=0.002,feedback=1");
    make_update(&s, 3, &u);
    const cog_quantizer *q = cog_channel_quantizer(s.channel[0]);
    const size_t bytes = cog_update_wire_bytes(&u);
    cog_replica *r = open_replica("sgd:rate=0.1", &s);
    uint8_t *wire = malloc(bytes);
    size_t used, n_refused = 0;
    cog_update_write(&u, wire);
    for (size_t at = 0; at < bytes; at++) {
        wire[at] ^= 0x85;
        if (cog_update_read(&read, q, MESSAGES, BLOCKS, wire, bytes, &used) == COG_OK)
            cr_assert_eq(cog_replica_apply(r, 0, &read), COG_OK);
        else
            n_refused++;
        wire[at] ^= 0x85;
    }
    cr_expect_gt(n_refused, 20u, "headers and counts are checked");
    for (size_t cut = 0; cut < bytes;
         cut++) { /* exact-size copies, so that a sanitizer sees over-reads */
        uint8_t *part = malloc(cut + 1);
        memcpy(part, wire, cut);
        cr_expect_eq(cog_update_read(&read, q, MESSAGES, BLOCKS, part, cut, &used), COG_ERR_FORMAT,
                     "cut at %zu", cut);
        free(part);
    }
    free(wire);
    cog_replica_close(r);
    cog_update_free(&u);
    cog_update_free(&read);
    close_senders(&s);
}

/* Workers at random versions catch up over the downlink and hold the server's bits. */
static void follow(const char *channel, const char *optimizer, const char *spec, bool is_exact) {
    enum { WORKERS = 3 };
    senders s;
    cog_update u = {0}, scratch = {0};
    open_senders(&s, channel);
    const cog_quantizer *q = cog_channel_quantizer(s.channel[0]);
    cog_replica *server = open_replica(optimizer, &s), *worker[WORKERS];
    cog_downlink *d = NULL;
    cr_assert_eq(cog_downlink_open(spec, server, device, MESSAGES * q->ops->payload_bytes(q), &d),
                 COG_OK, "%s", cog_last_error());
    const int n_state = cog_optimizer_n_state(cog_replica_optimizer(server));
    const size_t vector = (size_t)cog_replica_n_params(server) * sizeof(float);
    const size_t whole = vector * (size_t)(1 + n_state);
    int64_t version[WORKERS] = {0};
    for (int w = 0; w < WORKERS; w++)
        worker[w] = open_replica(cog_downlink_relays(d) ? optimizer : "sgd", &s);
    for (int round = 0; round < ROUNDS; round++) {
        make_update(&s, round, &u);
        if (round % 7 == 3) cog_update_clear(&u); /* a skipped round */
        cr_assert_eq(cog_replica_apply(server, round, &u), COG_OK);
        cr_assert_eq(cog_downlink_record(d, round, &u), COG_OK, "%s", cog_last_error());
        for (int w = 0; w < WORKERS; w++) {
            if ((round + 1) % (1 + 5 * w) != 0) continue; /* worker w asks every 1, 6, 11 rounds */
            cog_downlink_mode mode;
            const void *payload;
            size_t bytes;
            const int64_t from = round == 30 ? -1 : version[w]; /* once as a newcomer */
            cr_assert_eq(cog_downlink_encode(d, from, &mode, &payload, &bytes), COG_OK);
            cr_assert_leq(bytes, whole, "never more than parameters and state");
            cr_assert_eq(cog_downlink_apply(worker[w], device, q, MESSAGES, &scratch, mode, from,
                                            round + 1, payload, bytes),
                         COG_OK, "%s", cog_last_error());
            version[w] = round + 1;
            const float *a = cog_replica_params(server), *b = cog_replica_params(worker[w]);
            if (is_exact)
                cr_assert_eq(memcmp(a, b, N * sizeof(float)), 0, "%s %s %s round %d worker %d",
                             channel, optimizer, spec, round, w);
            else /* bf16 keeps 8 bits */
                for (int i = 0; i < N; i++)
                    cr_assert_float_eq(a[i], b[i], fabsf(a[i]) / 256, "%s at %d", spec, i);
        }
    }
    for (int w = 0; w < WORKERS; w++) cog_replica_close(worker[w]);
    cog_downlink_close(d);
    cog_replica_close(server);
    cog_update_free(&u);
    cog_update_free(&scratch);
    close_senders(&s);
}

Test(replica, workers_follow_the_server_bit_for_bit) {
    static const char *const optimizers[] = {"sgd:rate=0.1,decay=inverse,scale=10",
                                             "momentum:rate=0.1", "adam:rate=0.01"};
    for (size_t c = 0; c < N_CHANNELS; c++)
        for (size_t o = 0; o < 3; o++) {
            follow(channels[c], optimizers[o], "delta", true);
            follow(channels[c], optimizers[o], "fp32", true);
            follow(channels[c], optimizers[o], "bf16", false);
        }
}

Test(replica, updates_that_lead_nowhere_are_refused) {
    senders s;
    cog_update scratch = {0};
    open_senders(&s, "topk:ratio=0.001");
    const cog_quantizer *q = cog_channel_quantizer(s.channel[0]);
    cog_replica *r = open_replica("sgd", &s);
    static const int64_t paths[][2] = {{-1, 0}, {-1, 3}, {3, 2}, {2, 3}};
    for (size_t i = 0; i < 4; i++)
        cr_expect_eq(cog_downlink_apply(r, device, q, MESSAGES, &scratch, COG_DOWNLINK_UPDATES,
                                        paths[i][0], paths[i][1], "", 0),
                     COG_ERR_FORMAT, "from %d to %d", (int)paths[i][0], (int)paths[i][1]);
    cog_replica_close(r);
    cog_update_free(&scratch);
    close_senders(&s);
}

/* The promise of `delta`: a round costs its messages, not the parameters. */
Test(replica, delta_sends_messages_not_parameters) {
    senders s;
    cog_update u = {0};
    open_senders(&s, "topk:ratio=0.001,feedback=1");
    const cog_quantizer *q = cog_channel_quantizer(s.channel[0]);
    cog_replica *server = open_replica("sgd:rate=0.1", &s);
    cog_downlink *d = NULL;
    cr_assert_eq(
        cog_downlink_open("delta", server, device, MESSAGES * q->ops->payload_bytes(q), &d),
        COG_OK);
    size_t sent = 0, said = 0;
    for (int round = 0; round < 20; round++) {
        make_update(&s, round, &u);
        for (int i = 0; i < u.n_messages; i++) said += u.messages[i].bytes;
        cog_replica_apply(server, round, &u);
        cog_downlink_record(d, round, &u);
    }
    cog_downlink_mode mode;
    const void *payload;
    cr_assert_eq(cog_downlink_encode(d, 0, &mode, &payload, &sent), COG_OK);
    cr_expect_eq(mode, COG_DOWNLINK_UPDATES);
    /* per round 4 bytes, per message 12 + 16 and padding */
    cr_expect_leq(sent, said + 20 * (4 + MESSAGES * (12 + 16 + 3)));
    cr_expect_lt(sent, N * sizeof(float));
    cog_downlink_forget(d, 20);
    cr_assert_eq(cog_downlink_encode(d, 0, &mode, &payload, &sent), COG_OK);
    cr_expect_eq(mode, COG_DOWNLINK_STATE, "after a jump the history leads nowhere");
    cog_downlink_close(d);
    cog_replica_close(server);
    cog_update_free(&u);
    close_senders(&s);
}
