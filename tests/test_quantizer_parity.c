/* test_quantizer_parity.c - packs on the GPU leave the bytes that packs on the CPU leave.
 * COG_TEST_FULL=1 tries every combination. */
#include "quantizer_pair.h"

static const int64_t sizes[] = {0,   1,    31,   32,   33,   255,  256,
                                257, 1023, 1024, 1025, 4095, 4096, 4097};
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static const char *const specs[] = {
    "identity",
    "bf16",
    "topk:ratio=0.01",
    "topk:ratio=0.001,values=bf16",
    "topk:ratio=0.07,tile=256",
    "topk:ratio=0.3,values=bf16,tile=512",
    "topk:ratio=0.9,tile=1024",
    "topk:ratio=0.02,tile=2048",
    "topk:ratio=1",
    "sign",
    "sign:scale=group",
    "sign:scale=group,group=256",
    "sign:scale=group,group=1024",
    "topk:ratio=0.01,kind=global",
    "topk:ratio=0.0005,kind=global,values=bf16",
    "topk:ratio=0.5,kind=global,tile=1024",
    "topk:ratio=0.03,kind=global,tile=256,values=bf16",
    "topk:ratio=1,kind=global",
    "topk:ratio=0.01,kind=threshold",
    "topk:ratio=0.1,kind=threshold,values=bf16,tile=256",
    "topk:ratio=0.05,kind=threshold,tile=2048",
    "qsgd",
    "qsgd:bits=1,group=4096",
    "qsgd:bits=8,group=256,norm=l2",
    "qsgd:bits=3,group=1024,rounding=nearest",
    "qsgd:bits=5,group=4096,norm=l2",
    "fosgd",
    "fosgd:reach=2,block=256",
    "fosgd:reach=1.5,block=512",
    "fosgd:block=2048",
};
enum { N_SPECS = sizeof(specs) / sizeof(specs[0]) };

static bool is_full(void) { return getenv("COG_TEST_FULL") != NULL; }

/* ---- parity ---------------------------------------------------------------------------------- */

/* Small messages with every input, number of terms and alignment in turn. */
static void check_small(int from, int to) {
    static const int offsets[][2] = {{0, 0}, {1, 0}, {2, 1}, {3, 3}, {4, 2}, {0, 1}};
    cog_device *cpu = opened("cpu"), *gpu = opened(device_name);
    for (int spec = from; spec < to; spec++)
        for (int s = 0; s < N_SIZES; s++)
            for (int input = 0; input < N_INPUTS; input++) {
                const int turn = spec + s + input;
                if (turn % 3 != 0 && !is_full()) continue;
                for (int n_terms = 0; n_terms <= MAX_TERMS; n_terms++)
                    for (int o = 0; o < 6; o++) {
                        const bool chosen =
                            n_terms == 1 + turn / 3 % (MAX_TERMS - 1) && o == turn / 3 % 6;
                        if (!chosen && !is_full()) continue;
                        check_case(cpu, gpu, specs[spec], sizes[s], n_terms, input, offsets[o][0],
                                   offsets[o][1], (spec + o) % 2 == 0);
                    }
            }
    cog_device_close(gpu);
    cog_device_close(cpu);
}

Test(quantizer_parity, dense_packs_have_the_bytes_of_the_cpu) { check_small(0, 2); }
Test(quantizer_parity, chunk_packs_have_the_bytes_of_the_cpu) { check_small(2, 9); }
Test(quantizer_parity, sign_packs_have_the_bytes_of_the_cpu) { check_small(9, 13); }
Test(quantizer_parity, global_packs_have_the_bytes_of_the_cpu) { check_small(13, 18); }
Test(quantizer_parity, threshold_packs_have_the_bytes_of_the_cpu) { check_small(18, 21); }
Test(quantizer_parity, dithered_packs_have_the_bytes_of_the_cpu) { check_small(21, 26); }
Test(quantizer_parity, rotated_packs_have_the_bytes_of_the_cpu) { check_small(26, N_SPECS); }

/* Several tiles and blocks, the last one not full. */
enum { LONG = 21001 };

static void check_long(int from, int to) {
    cog_device *cpu = opened("cpu"), *gpu = opened(device_name);
    for (int spec = from; spec < to; spec++)
        for (int input = 0; input < N_INPUTS; input++) {
            const int turn = spec + input;
            if (!is_full() && turn % 3 != 0) continue;
            check_case(cpu, gpu, specs[spec], LONG, 1 + turn / 3 % (MAX_TERMS - 1), input,
                       turn / 3 % 5, 0, spec % 2 == 0);
            if (is_full()) check_case(cpu, gpu, specs[spec], LONG, 2, input, 1, 3, turn % 2 != 0);
        }
    cog_device_close(gpu);
    cog_device_close(cpu);
}

Test(quantizer_parity, long_dense_and_chunk_packs_too) { check_long(0, 9); }
Test(quantizer_parity, long_sign_packs_too) { check_long(9, 13); }
Test(quantizer_parity, long_global_packs_too) { check_long(13, 18); }
Test(quantizer_parity, long_threshold_packs_too) { check_long(18, 21); }
Test(quantizer_parity, long_dithered_packs_too) { check_long(21, 26); }
Test(quantizer_parity, long_rotated_packs_too) { check_long(26, N_SPECS); }

/* ---- order of threads, traffic --------------------------------------------------------------- */

Test(quantizer_parity, every_order_of_threads_gives_the_same_bytes) {
    cog_device *cpu = opened("cpu"), *gpu = opened(device_name);
    for (int spec = 0; spec < N_SPECS; spec++)
        for (int order = 1; order <= N_ORDERS; order++) {
            set_order(order);
            const int input = order % 3 == 0 ? IN_EQUAL : order % 3 == 1 ? IN_LAPLACE : IN_ZEROS;
            check_case(cpu, gpu, specs[spec], 9001, 2, input, order % 4, 0, true);
        }
    set_order(0);
    cog_device_close(gpu);
    cog_device_close(cpu);
}
