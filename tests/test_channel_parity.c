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
    "identity:predict=temporal,window=16,trigger=decaying,threshold=90",
    "bf16:predict=temporal,window=2,trigger=lag,threshold=0.5",
    "sign:predict=difference,rate=0.3",
    "topk:ratio=0.1,kind=global,predict=temporal,window=5,push=fired,threshold=0.3",
    "topk:ratio=0.05,predict=temporal,trigger=always",
    "topk:ratio=0.05,kind=threshold,predict=linear",
    "topk:ratio=0.05,kind=global,feedback=1,momentum=0.9",
    "topk:ratio=0.05,kind=threshold,feedback=1,momentum=0.9,warmup=3",
    "topk:ratio=0.01,kind=threshold,feedback=1,ramp=8",
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
            if (round == 6) x[17] = INFINITY; /* both ends forget everything */
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

#ifdef COG_WITH_SIMT
#include "simt.h"

/* Of a message that the prediction does for, only sums and the header reach the host, whatever its
 * size; of others their payload as well. */
Test(channel_parity, what_does_not_fire_does_not_leave_the_gpu) {
    enum { LONG = 50000, HEADER = 3 * 4 + 1, SUMS = 1000 };
    cog_device *gpu;
    OK(cog_device_open(device_name, &gpu));
    float *x = malloc(LONG * sizeof(*x)), *there;
    OK(cog_device_zeros(gpu, LONG, &there));
    cog_channel *sender;
    OK(cog_channel_open("identity:predict=temporal,threshold=0.05", gpu, LONG, COG_SENDER,
                        &sender));
    for (uint32_t round = 0; round < 8; round++) {
        const void *message;
        size_t bytes;
        simt_counters c;
        slow_gradient(round / 2, 0.5, x, LONG); /* every other message repeats the last one */
        OK(gpu->ops->upload(gpu, there, x, LONG * sizeof(*x)));
        simt_reset_counters();
        OK(cog_channel_pack(sender, 1, &(cog_term){there, 1}, &message, &bytes));
        cog_channel_settle(sender, true);
        simt_read_counters(&c);
        const size_t payload = round % 2 == 0 ? LONG * sizeof(*x) : 0;
        cr_expect_eq(bytes, HEADER + payload, "round %u: %zu bytes", round, bytes);
        cr_expect_leq(c.to_host_bytes, payload + SUMS, "round %u: %lu bytes come here", round,
                      c.to_host_bytes);
        cr_expect_eq(c.to_device_bytes, 0, "round %u: %lu bytes go there", round,
                     c.to_device_bytes);
    }
    cog_channel_close(sender);
    cog_device_free(gpu, there);
    cog_device_close(gpu);
    free(x);
}
#endif
