/* test_decode_parity.c - a GPU that applies updates holds the bits of the CPU, and needs one launch
 * for each. */
#include "decode_pair.h"
#include "downlink.h"

TestSuite(decode_parity, .init = setup, .fini = teardown, .timeout = 900);

Test(decode_parity, updates_leave_the_bits_of_the_cpu) {
    static const struct {
        int64_t n;
        int32_t n_blocks;
        int n_messages, rounds;
    } sizes[] = {{1, 1, 2, 2},    {31, 5, 3, 3},   {4095, 1, 2, 2},
                 {4096, 2, 3, 3}, {4097, 3, 5, 2}, {100007, 1, 3, 2}};
    for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++)
        for (int c = 0; c < N_CHANNELS; c++)
            for (int o = 0; o < N_OPTIMIZERS; o++) {
                pair p = open_pair(channels[c], optimizers[o], sizes[s].n, sizes[s].n_blocks,
                                   sizes[s].n_messages);
                for (int round = 0; round < sizes[s].rounds; round++) {
                    apply_both(&p, round);
                    check_pair(&p);
                }
                close_pair(&p);
            }
}

Test(decode_parity, a_million_parameters_have_the_bits_of_the_cpu) {
    for (int c = 0; c < N_CHANNELS; c++) {
        pair p = open_pair(channels[c], optimizers[c % N_OPTIMIZERS], LARGE, 1, 2);
        apply_both(&p, 0);
        check_pair(&p);
        close_pair(&p);
    }
}

/* More messages than the kernel looks at together, and blocks that most of them leave out. */
Test(decode_parity, the_number_of_messages_is_not_limited) {
    for (int c = 0; c < N_CHANNELS; c++) {
        pair p = open_pair(channels[c], optimizers[0], 600, 3, MAX_MESSAGES);
        for (int round = 0; round < 2; round++) apply_both(&p, round);
        check_pair(&p);
        close_pair(&p);
    }
}

/* Infinity, NaN, huge and tiny numbers, and both zeros. */
Test(decode_parity, what_is_not_finite_stays_so) {
    enum { N = 5000 };
    static const float odd[] = {INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 1e-45f, -0.0f, 0.0f};
    for (int c = 0; c < N_CHANNELS; c++)
        for (int o = 0; o < N_OPTIMIZERS; o++) {
            pair p = open_pair(channels[c], optimizers[o], N, 1, 2);
            float *x = random_floats(1, N, true);
            for (int i = 0; i < 8; i++) x[613 * i] = odd[i];
            const cog_term term = {x, 1};
            cog_update_clear(&p.update);
            for (int m = 0; m < 2; m++) {
                const void *payload;
                size_t bytes;
                OK(cog_channel_pack(p.sender[m], 1, &term, &payload, &bytes));
                OK(cog_update_message_add(&p.update, m, payload, bytes));
                OK(cog_update_term_add(&p.update, 0, m == 0 ? 2.0f : -0.5f));
            }
            OK(cog_replica_apply(p.on_cpu, 0, &p.update));
            OK(cog_replica_apply(p.on_gpu, 0, &p.update));
            check_pair(&p);
            free(x);
            close_pair(&p);
        }
}

Test(decode_parity, a_dense_gradient_steps_to_the_bits_of_the_cpu) {
    static const int64_t sizes[] = {1, 4096, 10001, 100007};
    for (size_t s = 0; s < 4; s++)
        for (int o = 0; o < N_OPTIMIZERS; o++) {
            const int64_t n = sizes[s];
            const size_t bytes = (size_t)n * sizeof(float);
            pair p = open_pair("identity", optimizers[o], n, 1, 1);
            void *on_gpu;
            OK(gpu->ops->alloc(gpu, bytes, &on_gpu));
            for (int round = 0; round < 3; round++) {
                float *g = random_floats((uint32_t)round, n, true);
                for (int64_t i = 0; i < n; i += 5) g[i] = -g[i]; /* -0 among them */
                OK(gpu->ops->upload(gpu, on_gpu, g, bytes));
                OK(cog_replica_step(p.on_cpu, round, g));
                one_launch_begins();
                OK(cog_replica_step(p.on_gpu, round, on_gpu));
                one_launch_ends();
                free(g);
            }
            check_pair(&p);
            gpu->ops->free(gpu, on_gpu);
            close_pair(&p);
        }
}

/* Rounded in the pass of a step, rounded afterwards, and taken in. */
Test(decode_parity, bf16_parameters_are_those_of_the_cpu) {
    for (int c = 0; c < N_CHANNELS; c++)
        for (int64_t n = 4096; n <= 9001; n += 4905) {
            pair p = open_pair(channels[c], optimizers[c % 3], n, 2, 2);
            const size_t bytes = (size_t)(2 * n) * sizeof(uint16_t);
            uint16_t *a = malloc(bytes), *b = malloc(bytes);
            for (int round = 0; round < 4; round++) {
                if (round == 1) OK(cog_replica_keep_bf16(p.on_gpu));
                apply_both(&p, round);
                if (round == 3) set_params(&p, 98); /* the rounded ones are old now */
                OK(cog_replica_read_bf16(p.on_cpu, a));
                OK(cog_replica_read_bf16(p.on_gpu, b));
                cr_assert_eq(memcmp(a, b, bytes), 0, "%s, round %d", channels[c], round);
            }
            OK(cog_replica_write_bf16(p.on_cpu, a));
            OK(cog_replica_write_bf16(p.on_gpu, a));
            check_pair(&p);
            free(a);
            free(b);
            close_pair(&p);
        }
}

/* A server on the GPU and a worker on the CPU, and the other way round, hold the same bits. */
static void follow(const char *channel, const char *optimizer, const char *spec, bool gpu_serves) {
    pair p = open_pair(channel, optimizer, 3000, 2, 3);
    const cog_quantizer *q = cog_channel_quantizer(p.sender[0]);
    cog_replica *server = gpu_serves ? p.on_gpu : p.on_cpu;
    cog_replica *worker = gpu_serves ? p.on_cpu : p.on_gpu;
    cog_downlink *d = NULL;
    cog_update scratch = {0};
    OK(cog_downlink_open(spec, server, gpu_serves ? gpu : cpu, 3 * q->ops->payload_bytes(q), &d));
    int64_t version = -1;
    for (int round = 0; round < 6; round++) {
        make_update(&p, round);
        OK(cog_replica_apply(server, round, &p.update));
        OK(cog_downlink_record(d, round, &p.update));
        if (round % 2 == 0) continue; /* the worker misses every other round */
        cog_downlink_mode mode;
        const void *payload;
        size_t bytes;
        OK(cog_downlink_encode(d, version, &mode, &payload, &bytes));
        OK(cog_downlink_apply(worker, gpu_serves ? cpu : gpu, q, 3, &scratch, mode, version,
                              round + 1, payload, bytes));
        version = round + 1;
    }
    if (strcmp(spec, "bf16") == 0) { /* the worker has the server's parameters, rounded */
        uint16_t *rounded = malloc(6000 * sizeof(*rounded));
        OK(cog_replica_read_bf16(server, rounded));
        OK(cog_replica_write_bf16(server, rounded));
        free(rounded);
    }
    check_vectors(&p, spec, cog_replica_params(p.on_cpu), cog_replica_params(p.on_gpu), 6000);
    cog_downlink_close(d);
    cog_update_free(&scratch);
    close_pair(&p);
}

Test(decode_parity, a_gpu_and_a_cpu_follow_each_other) {
    static const char *const specs[] = {"delta", "fp32", "bf16"};
    for (int c = 0; c < N_CHANNELS; c += 2)
        for (int s = 0; s < 3; s++)
            for (int gpu_serves = 0; gpu_serves < 2; gpu_serves++)
                follow(channels[c], optimizers[c % N_OPTIMIZERS], specs[s], gpu_serves == 1);
}
