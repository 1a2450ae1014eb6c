/* decode_pair.h - two replicas, one on the CPU and one on a GPU, that get the same updates. */
#ifndef COG_TESTS_DECODE_PAIR_H
#define COG_TESTS_DECODE_PAIR_H

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "channel.h"
#include "need_gpu.h"
#include "replica.h"
#include "rng.h"
#ifdef COG_WITH_SIMT
#include "simt.h"
#define GPU "simt"
#else
#define GPU "cuda"
#endif

#ifdef __SANITIZE_ADDRESS__ /* several times slower */
enum { LARGE = 1 << 16 };
#else
enum { LARGE = 1 << 20 };
#endif
enum { MAX_MESSAGES = 40 };

static const char *const channels[] = {
    "identity",
    "bf16",
    "topk:ratio=0.01,kind=chunk",
    "topk:ratio=0.0001,kind=chunk,values=bf16",
    "topk:ratio=0.07,kind=chunk,tile=256", /* 0.07 * 6400 is more than 448 in double */
    "topk:ratio=0.4,kind=chunk,values=bf16,tile=1024",
    "topk:ratio=0.01,kind=global",
    "topk:ratio=0.3,kind=global,values=bf16,tile=512",
    "topk:ratio=0.005,kind=threshold",
    "topk:ratio=0.03,kind=threshold,values=bf16,tile=256",
    "sign:scale=tensor",
    "sign:scale=group",
    "sign:scale=group,group=256",
    "qsgd",
    "qsgd:bits=1,group=4096",
    "qsgd:bits=7,group=256",
};
static const char *const optimizers[] = {"sgd:rate=0.1,decay=inverse,scale=3",
                                         "momentum:rate=0.05,beta=0.8", "adam:rate=0.01"};
enum {
    N_CHANNELS = sizeof(channels) / sizeof(*channels),
    N_OPTIMIZERS = sizeof(optimizers) / sizeof(*optimizers)
};

static cog_device *cpu, *gpu;

static inline void setup(void) {
    cr_assert_eq(cog_device_open("cpu", &cpu), COG_OK);
    cr_assert_eq(cog_device_open(GPU, &gpu), COG_OK, "%s", cog_last_error());
}

static inline void teardown(void) {
#ifdef COG_WITH_SIMT
    cr_expect_eq(simt_report_count(), 0, "%s", simt_report_text());
#endif
    cog_device_close(gpu);
    cog_device_close(cpu);
}

#define OK(call) cr_assert_eq((call), COG_OK, "%s: %s", #call, cog_last_error())

/* ---- two replicas and what they are fed ------------------------------------------------------ */

typedef struct pair {
    const char *channel, *optimizer;
    int64_t n;
    int32_t n_blocks;
    int n_messages;
    cog_channel *sender[MAX_MESSAGES];
    void *payload[MAX_MESSAGES];
    cog_replica *on_cpu, *on_gpu;
    cog_update update;
    bool with_zeros; /* in odd messages */
} pair;

static inline float *random_floats(uint32_t stream, int64_t n, bool with_zeros) {
    float *x = malloc((size_t)(n + 1) * sizeof(*x));
    cog_rng rng = cog_rng_make(5, COG_STREAM_TEST, stream, 0);
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)cog_rng_normal(&rng);
        if (with_zeros && cog_rng_below(&rng, 9) == 0) x[i] = 0;
    }
    return x;
}

/* Both get these parameters. */
static inline void set_params(pair *p, uint32_t stream) {
    const int64_t n = p->n * p->n_blocks;
    float *params = random_floats(stream, n, true);
    OK(gpu->ops->upload(gpu, cog_replica_params(p->on_gpu), params, (size_t)n * sizeof(float)));
    memcpy(cog_replica_params(p->on_cpu), params, (size_t)n * sizeof(float));
    cog_replica_changed(p->on_gpu);
    free(params);
}

static inline pair open_pair(const char *channel, const char *optimizer, int64_t n,
                             int32_t n_blocks, int n_messages) {
    pair p = {.channel = channel,
              .optimizer = optimizer,
              .n = n,
              .n_blocks = n_blocks,
              .n_messages = n_messages,
              .with_zeros = true};
    for (int m = 0; m < n_messages; m++)
        OK(cog_channel_open(channel, cpu, n, COG_SENDER, &p.sender[m]));
    const cog_quantizer *q = cog_channel_quantizer(p.sender[0]);
    OK(cog_replica_open(optimizer, q, cpu, n_blocks, &p.on_cpu));
    OK(cog_replica_open(optimizer, q, gpu, n_blocks, &p.on_gpu));
    set_params(&p, 99);
    return p;
}

static inline void close_pair(pair *p) {
    for (int m = 0; m < p->n_messages; m++) {
        cog_channel_close(p->sender[m]);
        free(p->payload[m]);
    }
    cog_replica_close(p->on_cpu);
    cog_replica_close(p->on_gpu);
    cog_update_free(&p->update);
}

/* Message m of a round, packed on the CPU, for every block or for some; odd ones have zeros. Its
 * payload is kept in memory of its exact size. */
static inline void add_message(pair *p, int round, int m, cog_rng *rng) {
    float *x =
        random_floats((uint32_t)(round * MAX_MESSAGES + m), p->n, p->with_zeros && m % 2 == 1);
    const cog_term term = {x, 1};
    const void *payload;
    size_t bytes;
    OK(cog_channel_pack(p->sender[m], 1, &term, &payload, &bytes));
    cog_channel_settle(p->sender[m], true);
    free(p->payload[m]);
    p->payload[m] = malloc(bytes + (bytes == 0));
    memcpy(p->payload[m], payload, bytes);
    OK(cog_update_message_add(&p->update, m, p->payload[m], bytes));
    for (int32_t b = p->n_blocks - 1; b >= 0; b--)
        if (p->n_blocks == 1 || cog_rng_below(rng, 3) > 0)
            OK(cog_update_term_add(&p->update, b, (float)(cog_rng_uniform(rng) - 0.3)));
    free(x);
}

static inline void make_update(pair *p, int round) {
    cog_rng rng = cog_rng_make(6, COG_STREAM_TEST, (uint32_t)round, 1);
    cog_update_clear(&p->update);
    for (int m = 0; m < p->n_messages; m++)
        if (m == 0 || cog_rng_below(&rng, 4) > 0) add_message(p, round, m, &rng);
}

static inline float *from_gpu(const float *values, int64_t n) {
    float *host = malloc((size_t)(n + 1) * sizeof(*host));
    OK(gpu->ops->download(gpu, host, values, (size_t)n * sizeof(*host)));
    return host;
}

/* The bits agree; a NaN is any NaN, because processors make up different ones. */
static inline void check_vectors(const pair *p, const char *what, const float *on_cpu,
                                 const float *on_gpu, int64_t n) {
    float *got = from_gpu(on_gpu, n);
    if (memcmp(got, on_cpu, (size_t)n * sizeof(*got)) != 0)
        for (int64_t i = 0; i < n; i++)
            cr_assert(memcmp(&got[i], &on_cpu[i], sizeof(*got)) == 0 ||
                          (isnan(got[i]) && isnan(on_cpu[i])),
                      "%s, %s, %" PRId32 " blocks of %" PRId64 ": %s[%" PRId64 "] is %a, not %a",
                      p->channel, p->optimizer, p->n_blocks, p->n, what, i, got[i], on_cpu[i]);
    free(got);
}

static inline void check_pair(const pair *p) {
    const int64_t n = cog_replica_n_params(p->on_cpu);
    cog_optimizer *a = cog_replica_optimizer(p->on_cpu), *b = cog_replica_optimizer(p->on_gpu);
    const int64_t n_state = n * cog_optimizer_n_state(a);
    check_vectors(p, "params", cog_replica_params(p->on_cpu), cog_replica_params(p->on_gpu), n);
    if (n_state > 0)
        check_vectors(p, "state", cog_optimizer_state(a), cog_optimizer_state(b), n_state);
}

/* What follows launches one kernel until one_launch_ends. */
static inline void one_launch_begins(void) {
#ifdef COG_WITH_SIMT
    simt_reset_counters();
#endif
}

static inline void one_launch_ends(void) {
#ifdef COG_WITH_SIMT
    simt_counters c;
    simt_read_counters(&c);
    cr_assert_eq(c.launches, 1);
#endif
}

static inline void apply_both(pair *p, int round) {
    make_update(p, round);
    OK(cog_replica_apply(p->on_cpu, round, &p->update));
    one_launch_begins();
    OK(cog_replica_apply(p->on_gpu, round, &p->update));
    one_launch_ends();
}

#endif
