/* test_channels_train.c - every channel trains under codes of every kind. */
#include "engine_rig.h"

/* And how much of the first loss it may be behind: sums of measurements are for sparse gradients,
 * which those of a small network are not. */
static const struct {
    const char *spec;
    double slack;
} channels[] = {
    {"bf16", 0.05},
    {"topk:ratio=0.1,feedback=1", 0.05},
    {"sign:feedback=1", 0.05},
    {"qsgd", 0.05},
    {"qsgd:bits=1,group=256", 0.05},
    {"qsgd:bits=2,rounding=nearest,feedback=1", 0.05},
    {"randk:ratio=0.2,feedback=1", 0.05},
    {"randk:ratio=0.5,amplify=1", 0.05},
    {"fosgd:reach=2.5", 0.05},
    {"wyner-ziv:predict=linear", 0.05},
    {"powersgd:feedback=1", 0.05},
    {"cs:ratio=0.8,sparsity=0.3", 0.15},
    {"qcs:feedback=1,ratio=1,sparsity=0.1,bits=3,steps=8", 0.15},
    {"randk:ratio=0.2,kind=block,feedback=1", 0.05},
};
static const char *const codes[] = {"ignore:wait=8", "kasync:k=4", "frc:stragglers=1",
                                    "lwpd:wait=6"};

/* From a loss of log 3 and more to less than half of it, and not far behind what the same code does
 * without compression: noise of a step of 0.1 is small, and feedback delays by a few rounds. */
Test(channels, every_channel_trains_under_every_code) {
    for (size_t j = 0; j < sizeof(codes) / sizeof(codes[0]); j++) {
        cog_engine_config c = small();
        c.code = codes[j];
        c.stragglers = "exp:mean=0.01";
        c.optimizer = "sgd:rate=0.1";
        const double start = loss_after(&c, 0, NULL), goal = loss_after(&c, 300, NULL);
        cr_expect(goal < 0.4 * start, "%s: %g after %g", codes[j], goal, start);
        for (size_t i = 0; i < sizeof(channels) / sizeof(channels[0]); i++) {
            c.channel = channels[i].spec;
            const double end = loss_after(&c, 300, NULL);
            cr_expect(end < goal + channels[i].slack * start,
                      "%s, %s: loss %g, without compression %g", channels[i].spec, codes[j], end,
                      goal);
        }
    }
}
