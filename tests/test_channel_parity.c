/* test_channel_parity.c - a channel of a GPU sends the bytes of a channel of the CPU, whether it
 * packs there or by way of host memory. */
#include "channel_rig.h"
#include "need_gpu.h"

#ifdef COG_WITH_SIMT
static const char device_name[] = "simt";
#else
static const char device_name[] = "cuda";
#endif

static const char *const specs[] = {
    "identity:predict=linear",
    "identity:predict=temporal,window=4,threshold=0.05",
    "topk:ratio=0.05,predict=temporal,trigger=always",
    "topk:ratio=0.05,kind=threshold,predict=linear",
    "topk:ratio=0.05,kind=global,feedback=1,momentum=0.9",
    "topk:ratio=0.05,kind=threshold,feedback=1,momentum=0.9,warmup=3",
    "sign:feedback=1,warmup=4",
    "sign:feedback=1",
    "qsgd:bits=6,feedback=1",
    "qsgd:bits=4,predict=temporal",
    "randk:ratio=0.2,feedback=1",
    "fosgd",
};
enum { N = 1100, ROUNDS = 12 };

/* On the device, and with the terms given as two: 2 x + (-1) x. */
static size_t send_there(cog_channel *channel, cog_device *device, int64_t round, const float *x,
                         float *there, const void **message) {
    size_t bytes;
    OK(device->ops->upload(device, there, x, N * sizeof(float)));
    const cog_term terms[] = {{there, 2}, {there, -1}};
    cog_channel_begin_round(channel, round);
    OK(cog_channel_pack(channel, 2, terms, message, &bytes));
    return bytes;
}

Test(channel_parity, messages_have_the_same_bytes_on_every_device) {
    cog_device *gpu, *cpu;
    OK(cog_device_open(device_name, &gpu));
    OK(cog_device_open("cpu", &cpu));
    float x[N], *here, *there;
    OK(cog_device_zeros(cpu, N, &here));
    OK(cog_device_zeros(gpu, N, &there));
    for (size_t s = 0; s < sizeof(specs) / sizeof(specs[0]); s++) {
        cog_channel *a, *b, *receiver;
        OK(cog_channel_open(specs[s], cpu, N, COG_SENDER, &a));
        OK(cog_channel_open(specs[s], gpu, N, COG_SENDER, &b));
        OK(cog_channel_open(specs[s], gpu, N, COG_RECEIVER, &receiver));
        for (uint32_t round = 0; round < ROUNDS; round++) {
            const void *on_cpu, *on_gpu;
            slow_gradient(round, 0.05, x, N);
            const size_t bytes = send_there(a, cpu, round, x, here, &on_cpu);
            cr_assert_eq(send_there(b, gpu, round, x, there, &on_gpu), bytes, "%s round %u",
                         specs[s], round);
            cr_assert(memcmp(on_cpu, on_gpu, bytes) == 0, "%s round %u", specs[s], round);
            OK(cog_channel_receive(receiver, on_gpu, bytes));
            const bool used = round % 3 != 2;
            cog_channel_settle(a, used);
            cog_channel_settle(b, used);
            cog_channel_settle(receiver, used);
            if (a->mirror == NULL) continue;
            cr_expect(memcmp(a->estimate, receiver->estimate, N * sizeof(float)) == 0,
                      "%s round %u", specs[s], round);
        }
        cog_channel_close(a);
        cog_channel_close(b);
        cog_channel_close(receiver);
    }
    cog_device_free(cpu, here);
    cog_device_free(gpu, there);
    cog_device_close(cpu);
    cog_device_close(gpu);
}
