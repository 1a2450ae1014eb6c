/* test_kernels_decode.c - kernels/decode.cu moves no byte more than it must, and gives the same
 * bits in every order of threads. */
#include "decode_pair.h"

TestSuite(kernels_decode, .init = setup, .fini = teardown, .timeout = 900);

Test(kernels_decode, every_order_of_threads_gives_the_same_bits) {
    for (int c = 0; c < N_CHANNELS; c++)
        for (uint64_t seed = 1; seed <= 10; seed++) {
            simt_set_seed(seed);
            pair p = open_pair(channels[c], optimizers[seed % 3], 4500, 2, 3);
            apply_both(&p, 0);
            check_pair(&p); /* the bits of the CPU: so the same for all seeds */
            close_pair(&p);
        }
    simt_set_seed(0);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

typedef struct traffic_case {
    const char *channel;
    int optimizer, n_messages;
    bool bf16;
    double floor; /* bytes a parameter; 0: 64 for every touched group of 8, and the payloads */
} traffic_case;

/* FIELD: chunk-indexed decode of m messages at density d 8 + 8 m d, and less where the payload's
 * entries are smaller; sign m/8 + 8; momentum 8 more, Adam 16. */
static const traffic_case traffic_cases[] = {
    {"identity", 0, 1, false, 8 + 4},
    {"identity", 2, 3, false, 8 + 3 * 4 + 16},
    {"bf16", 1, 4, true, 8 + 4 * 2 + 8 + 2},
    {"sign:scale=tensor", 0, 8, false, 8 + 1},
    {"sign:scale=group", 1, 8, false, 8 + 1 + 8},
    {"sign:scale=group,group=256", 2, 16, false, 8 + 16 / 8.0 + 16 * 4 / 256.0 + 16},
    {"qsgd", 0, 8, false, 8 + 8 * 4 / 8.0 + 8 * 4 / 512.0},
    {"qsgd:bits=7,group=256", 2, 4, false, 8 + 4 * 7 / 8.0 + 4 * 4 / 256.0 + 16},
    {"topk:ratio=0.01,kind=chunk", 1, 8, false, 8 + 8 * 0.06 + 8},
    {"topk:ratio=0.01,kind=chunk,values=bf16", 2, 8, false, 8 + 8 * 0.04 + 16},
    {"topk:ratio=0.01,kind=global", 1, 8, true, 8 + 8 * 0.06 + 8 + 2},
    {"topk:ratio=0.1,kind=threshold", 2, 2, false, 8 + 2 * 0.6 + 16},
    {"topk:ratio=0.001,kind=chunk", 0, 8, false, 0},
    {"topk:ratio=0.01,kind=global", 0, 4, false, 0},
};

/* The positions all messages name, as the groups of 8 parameters that share 32 bytes. */
static double touched_bytes(const pair *p) {
    const cog_quantizer *q = cog_channel_quantizer(p->sender[0]);
    int64_t *position = malloc((size_t)(q->ops->max_positions(q) + 1) * sizeof(*position));
    uint8_t *touched = calloc((size_t)p->n / 8 + 1, 1);
    double bytes = 0;
    for (int m = 0; m < p->update.n_messages; m++) {
        const int64_t count = q->ops->positions(q, p->update.messages[m].payload, position);
        for (int64_t i = 0; i < count; i++) {
            bytes += touched[position[i] / 8] ? 0 : 64;
            touched[position[i] / 8] = 1;
        }
        bytes += (double)p->update.messages[m].bytes;
    }
    free(position);
    free(touched);
    return bytes;
}

static void check_traffic(const traffic_case *t) {
    pair p = open_pair(t->channel, optimizers[t->optimizer], LARGE, 1, t->n_messages);
    p.with_zeros = false;
    cog_rng rng = cog_rng_make(6, COG_STREAM_TEST, 0, 1);
    for (int m = 0; m < t->n_messages; m++) add_message(&p, 0, m, &rng);
    if (t->bf16) OK(cog_replica_keep_bf16(p.on_gpu));
    OK(cog_replica_reserve(p.on_gpu, t->n_messages, t->n_messages));
    OK(cog_replica_apply(p.on_cpu, 0, &p.update));
    simt_counters c;
    one_launch_begins();
    OK(cog_replica_apply(p.on_gpu, 0, &p.update));
    simt_read_counters(&c);
    one_launch_ends();
    check_pair(&p);
    const double floor = t->floor > 0 ? t->floor : touched_bytes(&p) / LARGE;
    const double asked = (double)(c.load_bytes + c.store_bytes) / LARGE;
    const double unique = 32.0 * (double)(c.load_unique + c.store_unique) / LARGE;
    const double sectors = 32.0 * (double)(c.load_sectors + c.store_sectors) / LARGE;
    cr_log_info("%-45s %d %2d floor %7.3f asked %7.3f DRAM %7.3f (%.3f) sectors %7.3f (%.3f)",
                t->channel, t->optimizer, t->n_messages, floor, asked, unique, unique / floor,
                sectors, sectors / floor);
    cr_expect_leq(unique, 1.1 * floor, "%s: %g, floor %g", t->channel, unique, floor);
    /* of short runs of entries, and of the table, up to 10 sectors a message and tile are asked for
     * that a cache has */
    const double split = t->floor > 0 ? 0 : t->n_messages * 10 * 32.0 / 4096;
    cr_expect_leq(sectors, 1.1 * floor + split, "%s: %g, floor %g", t->channel, sectors, floor);
    if (strncmp(t->channel, "topk", 4) != 0) /* streams: sectors are used to 95 % */
        cr_expect_leq(0.95 * sectors, asked, "%s: %g of %g asked for", t->channel, sectors, asked);
    /* scales of short groups are looked up in shared memory, where a warp may meet two of a bank */
    const bool has_table = strstr(t->channel, "qsgd") != NULL || strstr(t->channel, "256") != NULL;
    const uint64_t most = has_table ? c.shared_requests / 20 : 0;
    if (strncmp(t->channel, "topk", 4) != 0)
        cr_expect_leq(c.bank_conflicts, most, "%s: %llu bank conflicts of %llu requests",
                      t->channel, (unsigned long long)c.bank_conflicts,
                      (unsigned long long)c.shared_requests);
    cr_expect_eq(c.atomics, 0);
    close_pair(&p);
}

Test(kernels_decode, traffic_stays_within_10_percent_of_the_floor) {
    for (size_t i = 0; i < sizeof(traffic_cases) / sizeof(*traffic_cases); i++)
        check_traffic(&traffic_cases[i]);
}
