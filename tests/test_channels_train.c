/* test_channels_train.c - every channel trains under codes of every kind. */
#include "engine_rig.h"

static const char *const channels[] = {
    "bf16",
    "topk:ratio=0.1,feedback=1",
    "sign:feedback=1",
    "qsgd",
    "qsgd:bits=1,group=256",
    "qsgd:bits=2,rounding=nearest,feedback=1",
    "randk:ratio=0.2,feedback=1",
    "randk:ratio=0.5,amplify=1",
    "fosgd:reach=2.5",
    "wyner-ziv:predict=linear",
    "powersgd:feedback=1",
    "randk:ratio=0.2,kind=block,feedback=1",
};
static const char *const codes[] = {"ignore:wait=8", "kasync:k=4", "frc:stragglers=1",
                                    "lwpd:wait=6"};

static double loss_after(const cog_engine_config *c, int64_t rounds) {
    cog_engine *e = open_engine(c);
    double loss, accuracy;
    cr_assert_eq(cog_engine_run(e, rounds, NULL, NULL), COG_OK, "%s, %s: %s", c->channel, c->code,
                 cog_last_error());
    cr_assert_eq(cog_engine_evaluate(e, data(), &loss, &accuracy), COG_OK);
    cog_engine_destroy(e);
    return loss;
}

/* From a loss of log 3 and more to less than half of it, and not far behind what the same code does
 * without compression: noise of a step of 0.1 is small, and feedback delays by a few rounds. */
Test(channels, every_channel_trains_under_every_code) {
    for (size_t j = 0; j < sizeof(codes) / sizeof(codes[0]); j++) {
        cog_engine_config c = small();
        c.code = codes[j];
        c.stragglers = "exp:mean=0.01";
        c.optimizer = "sgd:rate=0.1";
        const double start = loss_after(&c, 0), goal = loss_after(&c, 300);
        cr_expect(goal < 0.4 * start, "%s: %g after %g", codes[j], goal, start);
        for (size_t i = 0; i < sizeof(channels) / sizeof(channels[0]); i++) {
            c.channel = channels[i];
            const double end = loss_after(&c, 300);
            cr_expect(end < goal + 0.05 * start, "%s, %s: loss %g, without compression %g",
                      channels[i], codes[j], end, goal);
        }
    }
}
