/* test_coco_ef.c - compressed coded gradients with error feedback and the step size inside the
 * compressor (Li, Xiao, Skoglund 2026), by the channels and the optimizer of the engine.
 *
 * N devices, M subsets of one row z each: f_k = (<theta, z_k> - y_k)^2 / 2; every subset lies on d
 * devices; a device straggles with probability p and then keeps its error. */
#include "channel_rig.h"
#include "engine_rig.h"

enum { N = 100, D = 100 };

typedef struct problem {
    double z[N][D], y[N];
    int copies[N][N]; /* [device][subset] */
    double scale;     /* 1 / (d (1 - p)) */
    float theta[D];
} problem;

static void make_problem(problem *o, int d, double p) {
    cog_rng rng = cog_rng_make(21, COG_STREAM_TEST, 0, 0);
    double truth[D];
    memset(o, 0, sizeof(*o));
    for (int j = 0; j < D; j++) truth[j] = cog_rng_normal(&rng);
    for (int k = 0; k < N; k++) {
        o->y[k] = cog_rng_normal(&rng);
        for (int j = 0; j < D; j++) o->z[k][j] = 10 * cog_rng_normal(&rng);
        for (int j = 0; j < D; j++) o->y[k] += truth[j] * o->z[k][j];
        for (int placed = 0; placed < d;) {
            int *here = &o->copies[cog_rng_below(&rng, N)][k];
            placed += 1 - *here;
            *here = 1;
        }
    }
    for (int j = 0; j < D; j++) o->theta[j] = (float)cog_rng_normal(&rng);
    o->scale = 1 / (d * (1 - p));
}

static double loss_of(const problem *o) {
    double loss = 0;
    for (int k = 0; k < N; k++) {
        double gap = -o->y[k];
        for (int j = 0; j < D; j++) gap += o->theta[j] * o->z[k][j];
        loss += gap * gap / 2;
    }
    return loss;
}

/* g_i = sum over its subsets of grad f_k / (d (1 - p)) */
static void coded_gradient(const problem *o, int device, float *g) {
    double sum[D] = {0};
    for (int k = 0; k < N; k++) {
        if (!o->copies[device][k]) continue;
        double gap = -o->y[k];
        for (int j = 0; j < D; j++) gap += o->theta[j] * o->z[k][j];
        for (int j = 0; j < D; j++) sum[j] += o->scale * gap * o->z[k][j];
    }
    for (int j = 0; j < D; j++) g[j] = (float)sum[j];
}

static bool straggles(int64_t round, int device, double p) {
    cog_rng rng = cog_rng_make(22, COG_STREAM_TEST, (uint32_t)round, (uint32_t)device);
    return cog_rng_uniform(&rng) < p;
}

typedef struct run {
    problem o;
    pair device[N];
    cog_optimizer *optimizer;
    double p;
    double meant[D]; /* gamma_t sum of the g_i that were answered in the last round */
} run;

static void open_run(run *r, const char *channel, const char *optimizer, int d, double p) {
    make_problem(&r->o, d, p);
    r->p = p;
    for (int i = 0; i < N; i++) r->device[i] = open_pair(channel, D);
    OK(cog_optimizer_open(optimizer, r->device[0].device, D, &r->optimizer));
}

static void close_run(run *r) {
    cog_optimizer_close(r->optimizer);
    for (int i = 0; i < N; i++) close_pair(&r->device[i]);
}

/* One device's part of a round: what it adds to the server's sum. */
static void answer(run *r, int64_t round, int device, float *sum) {
    const bool used = !straggles(round, device, r->p);
    const double scale = cog_optimizer_message_scale(r->optimizer, round);
    pair *p = &r->device[device];
    float g[D], before[D], got[D] = {0};
    const float *error = cog_channel_error(p->sender);
    coded_gradient(&r->o, device, g);
    if (error != NULL) memcpy(before, error, sizeof(before));
    const cog_term term = {g, (float)scale};
    const void *message;
    size_t bytes;
    OK(cog_channel_pack(p->sender, 1, &term, &message, &bytes));
    OK(cog_channel_receive(p->receiver, message, bytes));
    settle(p, used);
    if (error != NULL && !used)
        cr_expect(memcmp(before, cog_channel_error(p->sender), sizeof(before)) == 0,
                  "the error of straggler %d has changed", device);
    if (!used) return;
    const cog_quantizer *q = cog_channel_quantizer(p->receiver);
    OK(q->ops->on[COG_CPU]->add(q, p->device, cog_channel_payload(p->receiver, &bytes), 1, 0, D,
                                got));
    for (int j = 0; j < D; j++) r->meant[j] += scale * g[j];
    for (int j = 0; j < D; j++) sum[j] += got[j];
}

static void make_round(run *r, int64_t round) {
    float sum[D] = {0};
    memset(r->meant, 0, sizeof(r->meant));
    for (int i = 0; i < N; i++) answer(r, round, i, sum);
    OK(cog_optimizer_step(r->optimizer, round, 0, D, sum, r->o.theta));
}

static void virtual_iterate(const run *r, double *out) {
    for (int j = 0; j < D; j++) out[j] = r->o.theta[j];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < D; j++) out[j] -= cog_channel_error(r->device[i].sender)[j];
}

/* theta - sum_i e_i moves by exactly -gamma_t sum of the answered g_i, also while gamma_t decays.
 */
Test(coco_ef, the_virtual_iterate_makes_uncompressed_steps) {
    static const char *const channels[] = {
        "sign:feedback=1", "sign:scale=group,group=256,feedback=1",
        "topk:ratio=0.02,kind=global,feedback=1", "topk:ratio=0.02,values=bf16,feedback=1"};
    static run r;
    for (size_t c = 0; c < 4; c++) {
        open_run(&r, channels[c], "sgd:rate=2e-5,decay=inverse-sqrt,scale=1,inside=1", 3, 0.4);
        double before[D], after[D];
        virtual_iterate(&r, before);
        for (int64_t round = 0; round < 30; round++) {
            cr_expect_float_eq(cog_optimizer_message_scale(r.optimizer, round),
                               2e-5 / sqrt((double)round + 1), 1e-20);
            make_round(&r, round);
            virtual_iterate(&r, after);
            for (int j = 0; j < D; j++) /* N + 1 sums of floats below 4 are rounded */
                cr_assert_float_eq(after[j], before[j] - r.meant[j], (N + 1) * 0x1p-23,
                                   "%s round %d entry %d: moved by %g instead of %g", channels[c],
                                   (int)round, j, after[j] - before[j], -r.meant[j]);
            memcpy(before, after, sizeof(before));
        }
        close_run(&r);
    }
}

static double final_loss(const char *channel, const char *optimizer) {
    static run r;
    open_run(&r, channel, optimizer, 5, 0.2);
    for (int64_t round = 0; round < 1000; round++) make_round(&r, round);
    const double loss = loss_of(&r.o);
    close_run(&r);
    return loss;
}

/* The publication's second figure: with error feedback signs follow the uncompressed curve, without
 * they stay far behind. */
Test(coco_ef, signs_with_feedback_track_uncompressed_descent) {
    const char *inside = "sgd:rate=1e-5,inside=1";
    const double plain = final_loss("identity", inside);
    const double fed = final_loss("sign:feedback=1", inside);
    const double sparse = final_loss("topk:ratio=0.02,kind=global,feedback=1", inside);
    const double biased = final_loss("sign", inside);
    cr_log_info("uncompressed %.4g, sign with feedback %.4g, top-2 %.4g, sign without %.4g", plain,
                fed, sparse, biased);
    cr_expect_leq(fed, 1.1 * plain, "%g against %g", fed, plain);
    cr_expect_leq(sparse, 2 * plain, "%g against %g", sparse, plain);
    cr_expect_lt(3 * fed, biased, "%g without feedback, %g with", biased, fed);
}

static double engine_loss(cog_engine_config *c, const char *optimizer) {
    c->optimizer = optimizer;
    return loss_after(c, 40, NULL);
}

/* Of what is not compressed it does not matter on which side the rate is taken. */
Test(coco_ef, inside_is_outside_without_compression) {
    static const char *const downlinks[] = {"delta", "fp32"};
    cog_engine_config c = small();
    for (size_t i = 0; i < 2; i++) {
        c.downlink = downlinks[i];
        const double outside = engine_loss(&c, "sgd:rate=0.3,decay=inverse-sqrt,scale=5");
        const double inside = engine_loss(&c, "sgd:rate=0.3,decay=inverse-sqrt,scale=5,inside=1");
        cr_expect_float_eq(inside, outside, 1e-5 * outside, "%s: %.8g, %.8g", downlinks[i], inside,
                           outside);
    }
    c.code = "uncoded";
    c.optimizer = "sgd:rate=0.3,inside=1";
    cog_engine *e = NULL;
    cr_expect_eq(cog_engine_create(&c, &e), COG_ERR_ARGUMENT);
    cr_expect_not_null(strstr(cog_last_error(), "all-reduce"), "%s", cog_last_error());
}
