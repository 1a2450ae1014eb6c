/* test_simt.c - the SIMT executor finds every planted error, and no other, and gives CUDA's
 * meaning. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "simt_rig.h"

/* ---- errors ---------------------------------------------------------------------------------- */

Test(simt, every_planted_error_is_reported_in_every_order_of_threads) {
    static const struct {
        const char *name;
        unsigned grid, block;
        size_t shared_bytes;
        int n;
        const char *sentence;
    } cases[] = {
        {"shared_race", 1, 64, 0, 0, "race: it "},
        {"shared_reuse", 1, 64, 0, 0, "race: it "},
        {"warp_race", 1, 64, 0, 0, "race: it "},
        {"shared_read_by_all", 1, 32, 0, 31, "of shared memory, which thread"},
        {"shared_read_by_all", 1, 64, 0, 63, "of shared memory, which thread"},
        {"shared_read_by_all", 1, 64, 0, 0, "of shared memory, which thread"},
        {"half_warp_alone", 1, 32, 0, 0, "of shared memory, which thread"},
        {"shared_read_by_two_warps", 1, 64, 0, 0, "race: it "},
        {"shared_read_by_two_warps", 1, 64, 0, 32, "race: it "},
        {"write_after_release", 8, 32, 0, 0, "race: it reads 4 bytes of "},
        {"read_by_all_blocks", 8, 32, 0, 7, "race: it "},
        {"read_by_all_blocks", 8, 32, 0, 0, "race: it "},
        {"shared_by_two_threads", 1, 64, 0, 0, "of shared memory, which thread"},
        {"shared_uninitialised", 1, 32, 0, 0, "thread (31, 0, 0): it reads byte 0 of 4 bytes of"},
        {"shared_by_global_store", 1, 32, 0, 0,
         "__stwb of an address that is not in global memory"},
        {"shared_left_over", 2, 32, 0, 0, "block (1, 0, 0), thread"},
        {"dynamic_shared", 1, 32, 96, 25, "byte 96 of dynamic shared memory, of which"},
        {"barrier_divergent", 1, 64, 0, 32, "divergent barrier: thread "},
        {"barrier_not_reached", 1, 64, 0, 63, "a barrier that not all threads reach: thread "},
        {"shuffle_of_ended", 1, 32, 0, 31, "names lane 31, but that lane ended"},
        {"ballot_of_divergent", 1, 32, 0, 7, "waits in __ballot_sync at "},
        {"shuffle_without_itself", 1, 32, 0, 0, "does not name the caller, lane "},
        {"shuffle_from_unnamed", 1, 32, 0, 4, "reads from lane 4, which the mask 0xf does not"},
        {"warp_race_right", 1, 40, 0, 0, "the mask 0xffffffff, but the warp has 8 lanes"},
        {"read_at", 1, 32, 0, N, "reads 4 bytes at "},
        {"read_at", 1, 32, 0, -1, "4 bytes before an allocation of 16384 bytes"},
        {"write_at", 1, 32, 0, N, ", 0 bytes after the end of an allocation of 16384 bytes"},
        {"write_at", 1, 32, 0, -1, "out of bounds: it writes 4 bytes at "},
        {"read_misaligned", 1, 32, 0, 2, "misaligned: it reads 16 bytes at "},
        {"same_place_in_all_blocks", 2, 32, 0, 0, "byte 0 of an allocation of 16384 bytes, which"},
        {"neighbours_of_other_blocks", 3, 32, 0, 0, "with no barrier in between"},
        {"same_place_in_one_block", 1, 32, 0, 0, "race: it writes 4 bytes of "},
        {"global_exchange", 1, 64, 0, 0, "race: it "},
        {"last_block_adds", 8, 32, 0, 0, "race: it reads 4 bytes of "},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
            const buffers b = make_buffers();
            const float zero = 0;
            cudaMemcpy(b.x, &zero, sizeof(zero), cudaMemcpyHostToDevice);
            simt_reset_reports();
            simt_set_seed(seed);
            const int status = planted(cases[i].name, cases[i].grid, cases[i].block,
                                       cases[i].shared_bytes, b.x, b.y, cases[i].n);
            const char *text = cudaGetErrorString((cudaError_t)status);
            cr_assert_eq(status, cudaErrorLaunchFailure, "%s, seed %lu", cases[i].name, seed);
            cr_assert(strncmp(text, "kernel e.kernel, block (", 24) == 0, "%s", text);
            cr_assert(strstr(text, cases[i].sentence) != NULL, "%s, seed %lu: %s", cases[i].name,
                      seed, text);
            free_buffers(b);
        }
}

Test(simt, kernels_without_the_error_pass_in_every_order_of_threads) {
    static const struct {
        const char *name;
        unsigned grid, block;
        size_t shared_bytes;
        int n;
    } cases[] = {
        {"shared_race_right", 3, 1024, 0, 0},
        {"shared_reuse_right", 1, 96, 0, 0},
        {"warp_race_right", 1, 64, 0, 0},
        {"dynamic_shared", 1, 32, 100, 25},
        {"barrier_divergent", 1, 64, 0, 64},
        {"barrier_not_reached", 1, 64, 0, 64},
        {"shuffle_of_ended", 1, 32, 0, 32},
        {"ballot_of_divergent", 1, 64, 0, 32},
        {"half_warps", 1, 32, 0, 0},
        {"read_at", 1, 32, 0, N - 1},
        {"write_at", 1, 32, 0, 0},
        {"read_misaligned", 1, 32, 0, 4},
        {"global_exchange_right", 1, 64, 0, 0},
        {"same_place_in_all_blocks", 1, 32, 0, 0},
        {"last_block_adds_right", 8, 32, 0, 0},
        {"half_warp_ends", 1, 32, 0, 0},
        {"two_reductions", 1, 256, 0, 0},
        {"half_warp_alone_right", 1, 32, 0, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
            const buffers b = make_buffers();
            const float zero = 0;
            cudaMemcpy(b.x, &zero, sizeof(zero), cudaMemcpyHostToDevice);
            simt_set_seed(seed);
            cr_expect_eq(planted(cases[i].name, cases[i].grid, cases[i].block,
                                 cases[i].shared_bytes, b.x, b.y, cases[i].n),
                         cudaSuccess, "%s, seed %lu: %s", cases[i].name, seed, simt_report_text());
            simt_reset_reports();
            free_buffers(b);
        }
}

/* A launch that failed leaves nothing behind for the next. */
Test(simt, a_launch_after_an_abandoned_one_is_sound) {
    for (int i = 0; i < 3; i++) {
        const buffers b = make_buffers();
        cr_assert_eq(planted("barrier_not_reached", 1, 1024, 0, b.x, b.y, 1000),
                     cudaErrorLaunchFailure);
        cr_assert_eq(planted("shared_race_right", 1, 1024, 0, b.x, b.y, 0), cudaSuccess);
        float y[1024];
        read_back(b.y, 1024, y);
        for (int t = 0; t < 1024; t++) cr_assert_eq(y[t], (float)(1023 - t));
        free_buffers(b);
    }
}

Test(simt, launches_outside_of_the_limits_are_refused) {
    const buffers b = make_buffers();
    cr_expect_eq(planted("write_at", 0, 32, 0, b.x, b.y, 0), cudaErrorInvalidConfiguration);
    cr_expect_eq(planted("write_at", 1, 0, 0, b.x, b.y, 0), cudaErrorInvalidConfiguration);
    cr_expect_eq(planted("write_at", 1, 1025, 0, b.x, b.y, 0), cudaErrorInvalidConfiguration);
    cr_expect_eq(planted("write_at", 1, 32, 1 << 20, b.x, b.y, 0), cudaErrorInvalidConfiguration);
    free_buffers(b);
}

/* ---- memory ---------------------------------------------------------------------------------- */

Test(simt, memory_that_was_never_written_or_is_gone_is_reported) {
    const buffers b = make_buffers();
    float value[2] = {0, 0}, *on_host = malloc(sizeof(*on_host));
    cr_expect_eq(planted("read_at", 1, 32, 0, b.y, b.x, 7), cudaErrorLaunchFailure);
    cr_expect(strstr(simt_report_text(), "it reads what was never written: ") != NULL, "%s",
              simt_report_text());
    cr_expect(strstr(simt_report_text(), "byte 28 of an allocation") != NULL);

    cr_assert_eq(planted("write_at", 1, 32, 0, b.x, b.y, 0), cudaSuccess);
    cr_expect_eq(simt_first_unwritten(b.y, 8), 4);
    simt_reset_reports();
    cr_expect_eq(cudaMemcpy(value, b.y, 8, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    cr_expect(strstr(simt_report_text(), "cudaMemcpy reads what was never written") != NULL);
    read_back(b.y, 1, value);
    cr_expect_eq(value[0], 1);
    simt_forget(b.y, 4);
    cr_expect_eq(simt_first_unwritten(b.y, 8), 0);

    simt_reset_reports();
    cr_expect_eq(planted("read_at", 1, 32, 0, on_host, b.y, 0), cudaErrorLaunchFailure);
    cr_expect(strstr(simt_report_text(), "of the host's memory at ") != NULL);
    free_buffers(b);
    simt_reset_reports();
    const buffers other = make_buffers();
    cr_expect_eq(planted("read_at", 1, 32, 0, b.x, other.y, 0), cudaErrorLaunchFailure);
    cr_expect(strstr(simt_report_text(), "of a freed allocation of") != NULL, "%s",
              simt_report_text());
    free_buffers(other);
    free(on_host);
}

/* ---- meaning --------------------------------------------------------------------------------- */

Test(simt, verbs_of_a_warp_mean_what_cuda_says) {
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        const buffers b = make_buffers();
        float y[12 * 64];
        simt_set_seed(seed);
        cr_assert_eq(planted("warp_verbs", 1, 64, 0, b.x, b.y, 0), cudaSuccess, "%s",
                     simt_report_text());
        read_back(b.y, 12 * 64, y);
        for (int i = 0; i < 64; i++) {
            const int lane = i % 32, warp = i - lane;
            const float expected[12] = {(float)(warp + 5),
                                        (float)(lane >= 3 ? i - 3 : i),
                                        (float)(lane < 29 ? i + 3 : i),
                                        (float)(i ^ 7),
                                        (float)(lane % 8 < 5 ? i + 3 : i),
                                        11,
                                        warp == 32,
                                        warp == 0,
                                        31 * 32 / 2,
                                        (float)(warp + 31),
                                        (float)(32 * warp + 31 * 32 / 2),
                                        63};
            for (int k = 0; k < 12; k++)
                cr_assert_eq(y[12 * i + k], expected[k], "verb %d, thread %d, seed %lu: %g", k, i,
                             seed, y[12 * i + k]);
        }
        cr_assert_eq(planted("half_warps", 1, 32, 0, b.x, b.y, 0), cudaSuccess);
        read_back(b.y, 32, y);
        for (int i = 0; i < 32; i++) cr_assert_eq(y[i], i < 16 ? 15 - i : 16);
        free_buffers(b);
    }
}

Test(simt, atomics_add_up_in_every_order) {
    enum { COUNT = 1000 };
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        const buffers b = make_buffers();
        const int start[5] = {0, -1, 1 << 30, 0, 0};
        const float zero = 0;
        float sum;
        int end[5];
        cudaMemcpy(b.y, start, sizeof(start), cudaMemcpyHostToDevice);
        cudaMemcpy(b.x, &zero, sizeof(zero), cudaMemcpyHostToDevice);
        simt_set_seed(seed);
        simt_reset_counters();
        cr_assert_eq(planted("atomics", 8, 128, 0, b.x, b.y, COUNT), cudaSuccess, "%s",
                     simt_report_text());
        cr_assert_eq(cudaMemcpy(end, b.y, sizeof(end), cudaMemcpyDeviceToHost), cudaSuccess);
        read_back(b.x, 1, &sum);
        cr_expect_eq(sum, COUNT);
        cr_expect_eq(end[0], COUNT);
        cr_expect_eq(end[1], COUNT - 1);
        cr_expect_eq(end[2], 0);
        cr_expect_eq(end[3], -1, "all 32 bits");
        cr_expect_eq(end[4], COUNT * (COUNT - 1) / 2);
        simt_counters c;
        simt_read_counters(&c);
        cr_expect_eq(c.shared_atomics, COUNT);
        cr_expect_geq(c.atomics, 5 * COUNT + 8); /* more where a compare-and-swap lost */
        free_buffers(b);
    }
}

Test(simt, the_last_block_sees_what_all_wrote) {
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        const buffers b = make_buffers();
        const float zero = 0;
        float sum, counter;
        cudaMemcpy(b.x, &zero, sizeof(zero), cudaMemcpyHostToDevice);
        simt_set_seed(seed);
        cr_assert_eq(planted("last_block_adds_right", 40, 64, 0, b.x, b.y, 0), cudaSuccess, "%s",
                     simt_report_text());
        read_back(b.y, 1, &sum);
        read_back(b.x, 1, &counter);
        cr_assert_eq(sum, 39 * 40 / 2);
        cr_assert_eq(counter, 0);
        free_buffers(b);
    }
}

static void *launch_often(void *failures) {
    for (int i = 0; i < 50; i++) {
        const buffers b = make_buffers();
        float y[96];
        *(int *)failures += planted("shared_race_right", 1, 96, 0, b.x, b.y, 0) != cudaSuccess;
        read_back(b.y, 96, y);
        for (int t = 0; t < 96; t++) *(int *)failures += y[t] != (float)(95 - t);
        free_buffers(b);
    }
    return NULL;
}

Test(simt, host_threads_take_turns) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    int failures[THREADS] = {0};
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, launch_often, &failures[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        cr_expect_eq(failures[i], 0, "%s", simt_report_text());
    }
}
