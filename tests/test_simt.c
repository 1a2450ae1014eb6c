/* test_simt.c - the SIMT executor finds every planted error, no other, and counts what theory says.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cusparse.h>

#include "planted.h"
#include "simt.h"

enum { N = 4096, N_SEEDS = 10 };

/* Device memory; x holds 0, 1, 2 ..., y was never written. */
typedef struct buffers {
    float *x, *y;
} buffers;

static buffers make_buffers(void) {
    buffers b;
    float values[N];
    for (int i = 0; i < N; i++) values[i] = (float)i;
    cr_assert_eq(cudaMalloc((void **)&b.x, sizeof(values)), cudaSuccess);
    cr_assert_eq(cudaMalloc((void **)&b.y, sizeof(values)), cudaSuccess);
    cr_assert_eq(cudaMemcpy(b.x, values, sizeof(values), cudaMemcpyHostToDevice), cudaSuccess);
    return b;
}

static void free_buffers(buffers b) {
    cr_assert_eq(cudaFree(b.x), cudaSuccess);
    cr_assert_eq(cudaFree(b.y), cudaSuccess);
}

static void read_back(const float *from, int n, float *to) {
    cr_assert_eq(cudaMemcpy(to, from, (size_t)n * sizeof(*to), cudaMemcpyDeviceToHost), cudaSuccess,
                 "%s", simt_report_text());
}

/* One launch in fresh buffers; what it counted. */
static simt_counters run(const char *name, unsigned grid, unsigned block, size_t shared_bytes,
                         int n) {
    const buffers b = make_buffers();
    simt_counters c;
    simt_reset_counters();
    cr_assert_eq(planted(name, grid, block, shared_bytes, b.x, b.y, n), cudaSuccess, "%s: %s", name,
                 simt_report_text());
    simt_read_counters(&c);
    free_buffers(b);
    return c;
}

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

Test(simt, the_runtime_refuses_what_cuda_refuses) {
    float host[4] = {1, 2, 3, 4}, *memory, *pinned;
    cudaStream_t stream;
    cudaEvent_t start, end;
    int count = 0, value = 0;
    size_t before, now, total;
    cr_expect_eq(cudaGetDeviceCount(&count), cudaSuccess);
    cr_expect_eq(count, 1);
    cr_expect_eq(cudaSetDevice(1), cudaErrorInvalidDevice);
    cr_expect_eq(cudaPeekAtLastError(), cudaErrorInvalidDevice);
    cr_expect_eq(cudaGetLastError(), cudaErrorInvalidDevice);
    cr_expect_eq(cudaGetLastError(), cudaSuccess);
    cr_expect_eq(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 0), cudaSuccess);
    cr_expect_eq(value, 32);

    cr_assert_eq(cudaMemGetInfo(&before, &total), cudaSuccess);
    cr_expect_eq(cudaMalloc((void **)&memory, total + 1), cudaErrorMemoryAllocation);
    cr_assert_eq(cudaMalloc((void **)&memory, sizeof(host)), cudaSuccess);
    cudaMemGetInfo(&now, &total);
    cr_expect_eq(before - now, sizeof(host));
    cr_assert_eq(cudaHostAlloc((void **)&pinned, sizeof(host), cudaHostAllocDefault), cudaSuccess);
    cr_assert_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    cr_assert_eq(cudaEventCreate(&start), cudaSuccess);
    cr_assert_eq(cudaEventCreateWithFlags(&end, cudaEventDisableTiming), cudaSuccess);

    memcpy(pinned, host, sizeof(host));
    cr_expect_eq(cudaMemcpyAsync(memory, pinned, 16, cudaMemcpyHostToDevice, stream), cudaSuccess);
    cr_expect_eq(cudaMemcpy(memory, host, 16, cudaMemcpyDeviceToHost),
                 cudaErrorInvalidMemcpyDirection);
    cr_expect_eq(cudaMemcpy(memory, host, 20, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    cr_expect_eq(cudaMemset(memory, 0, 17), cudaErrorInvalidValue);
    cr_expect_eq(cudaMemset(memory + 2, 0, 8), cudaSuccess);
    read_back(memory, 4, host);
    cr_expect(host[0] == 1 && host[1] == 2 && host[2] == 0 && host[3] == 0);

    float milliseconds = -1;
    cr_expect_eq(cudaEventRecord(start, stream), cudaSuccess);
    cr_expect_eq(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorInvalidResourceHandle);
    cr_expect_eq(cudaEventRecord(end, stream), cudaSuccess);
    cr_expect_eq(cudaEventQuery(end), cudaSuccess);
    cr_expect_eq(cudaStreamWaitEvent(stream, end, 0), cudaSuccess);
    cr_expect_eq(cudaEventElapsedTime(&milliseconds, start, end), cudaSuccess);
    cr_expect(milliseconds >= 0);
    cr_expect_eq(cudaEventDestroy(start), cudaSuccess);
    cr_expect_eq(cudaEventDestroy(end), cudaSuccess);
    cr_expect_eq(cudaStreamDestroy(stream), cudaSuccess);
    cr_expect_eq(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
    cr_expect_eq(cudaFreeHost(memory), cudaErrorInvalidValue);
    cr_expect_eq(cudaFreeHost(pinned), cudaSuccess);
    cr_expect_eq(cudaFree(memory), cudaSuccess);
    cr_expect_eq(cudaFree(memory), cudaErrorInvalidValue);
    cr_expect_eq(cudaFree(NULL), cudaSuccess);
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

/* ---- counters -------------------------------------------------------------------------------- */

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

Test(simt, sectors_of_a_strided_load_are_those_of_the_addresses) {
    for (int stride = 1; stride <= 16; stride++) {
        const simt_counters c = run("load_stride", 2, 64, 0, stride);
        /* 32 lanes 4 * stride bytes apart: sectors of 32 bytes, never more than lanes */
        const uint64_t span = (31 * 4 * (uint64_t)stride + 4 + 31) / 32;
        cr_expect_eq(c.load_requests, 4);
        cr_expect_eq(c.load_bytes, 4 * 128);
        cr_expect_eq(c.load_sectors, 4 * least(32, span), "stride %d: %lu", stride, c.load_sectors);
        cr_expect_eq(c.store_sectors, 4 * 4);
    }
}

Test(simt, counters_agree_with_theory) {
    simt_counters c = run("load_from_offset", 1, 32, 0, 8);
    cr_expect_eq(c.load_sectors, 4, "aligned to a sector");
    c = run("load_from_offset", 1, 32, 0, 1);
    cr_expect_eq(c.load_sectors, 5, "128 bytes across five sectors");
    c = run("load_from_offset", 4, 32, 0, 1);
    cr_expect_eq(c.load_sectors, 4 * 5);
    cr_expect_eq(c.load_unique, 4 * 4 + 1, "neighbouring warps share a sector");
    c = run("load_stride", 3, 64, 0, 0);
    cr_expect_eq(c.load_sectors, 6, "a broadcast is one sector");
    cr_expect_eq(c.load_unique, 1);
    c = run("load_vectors", 1, 32, 0, 0);
    cr_expect(c.load_requests == 1 && c.load_bytes == 512 && c.load_sectors == 16,
              "16 bytes a lane in one request, not %lu", c.load_requests);
    c = run("load_triangle", 1, 32, 0, 0);
    cr_expect_eq(c.load_requests, 32);
    cr_expect_eq(c.load_bytes, 4 * 32 * 33 / 2);
    cr_expect_eq(c.load_sectors, 8 * (1 + 2 + 3 + 4), "lanes i ... 31 of row i");
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) { /* lanes count anew after they met */
        simt_set_seed(seed);
        c = run("load_triangle_and_row", 1, 32, 0, 32);
        cr_expect(c.load_requests == 33 && c.load_sectors == 80 + 4, "%lu", c.load_sectors);
        c = run("load_triangle_and_row", 1, 32, 0, 16);
        cr_expect(c.load_requests == 17 && c.load_sectors == 24 + 2, "%lu", c.load_sectors);
    }
    c = run("shared_race_right", 3, 64, 0, 0);
    cr_expect(c.launches == 1 && c.blocks == 3 && c.barriers == 3);
    c = run("last_block_adds_right", 1, 32, 0, 0);
    cr_expect(c.atomics == 1 && c.atomic_requests == 1);
}

Test(simt, bank_conflicts_agree_with_theory) {
    for (int stride = 1; stride <= 33; stride++) {
        /* lanes l and m share a bank when stride * (l - m) is a multiple of 32 */
        int ways = 1;
        while (ways < 32 && stride % (2 * ways) == 0) ways *= 2;
        const simt_counters c =
            run("shared_stride", 1, 32, ((size_t)stride * 31 + 1) * sizeof(float), stride);
        cr_expect_eq(c.shared_requests, 2);
        cr_expect_eq(c.bank_conflicts, 2 * (ways - 1), "stride %d: %lu", stride, c.bank_conflicts);
    }
    simt_counters c = run("shared_vectors", 1, 64, 0, 0);
    cr_expect(c.shared_requests == 4 && c.bank_conflicts == 0, "quarter warps take turns");
    c = run("shared_broadcast", 1, 64, 0, 0);
    cr_expect(c.shared_requests == 3 && c.bank_conflicts == 0, "one word serves all");
}

/* ---- library calls --------------------------------------------------------------------------- */

static float *upload(const float *values, size_t n) {
    float *memory;
    cr_assert_eq(cudaMalloc((void **)&memory, n * sizeof(*values)), cudaSuccess);
    cr_assert_eq(cudaMemcpy(memory, values, n * sizeof(*values), cudaMemcpyHostToDevice),
                 cudaSuccess);
    return memory;
}

Test(simt, matrix_products_agree_with_the_definition) {
    enum { M = 3, K = 4, C = 5, LD = 6, COUNT = 2, BYTES = LD * LD * COUNT };
    float a[BYTES], b[BYTES], c[BYTES], out[BYTES];
    const float alpha = 2, beta = -3;
    for (int i = 0; i < BYTES; i++) a[i] = (float)(i % 7), b[i] = (float)(i % 5), c[i] = (float)i;
    float *da = upload(a, BYTES), *db = upload(b, BYTES);
    cublasHandle_t handle;
    cr_assert_eq(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
    for (int t = 0; t < 4; t++) {
        const bool ta = t & 1, tb = t >> 1;
        float *dc = upload(c, BYTES);
        cr_assert_eq(cublasSgemmStridedBatched(handle, ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                                               tb ? CUBLAS_OP_T : CUBLAS_OP_N, M, C, K, &alpha, da,
                                               LD, LD * LD, db, LD, LD * LD, &beta, dc, LD, LD * LD,
                                               COUNT),
                     CUBLAS_STATUS_SUCCESS);
        read_back(dc, BYTES, out);
        for (int i = 0; i < BYTES; i++) {
            const int which = i / (LD * LD), r = i % LD, col = i / LD % LD;
            float expected = c[i];
            if (r < M && col < C) {
                float sum = 0;
                for (int k = 0; k < K; k++)
                    sum += a[which * LD * LD + (ta ? r * LD + k : k * LD + r)] *
                           b[which * LD * LD + (tb ? k * LD + col : col * LD + k)];
                expected = alpha * sum + beta * c[i];
            }
            cr_assert_eq(out[i], expected, "transposes %d: entry %d is %g, not %g", t, i, out[i],
                         expected);
        }
        cudaFree(dc);
    }
    cr_expect_eq(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, M, C, K, &alpha, da, M - 1, db, K,
                             &beta, da, M),
                 CUBLAS_STATUS_INVALID_VALUE);
    cr_expect_eq(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, M, C, K, &alpha, da, LD * LD * LD,
                             db, K, &beta, da, M),
                 CUBLAS_STATUS_EXECUTION_FAILED, "beyond the end");
    cr_expect_eq(cublasDestroy(handle), CUBLAS_STATUS_SUCCESS);
    cudaFree(da), cudaFree(db);
}

Test(simt, sparse_products_agree_with_the_definition) {
    /* [0 2 0 1; 0 0 0 0; 3 0 0 -1] times a dense [4, 5] matrix, by rows and by columns */
    static const int32_t offsets[] = {0, 2, 2, 4}, columns[] = {1, 3, 0, 3};
    static const float values[] = {2, 1, 3, -1};
    static const float matrix[3][4] = {{0, 2, 0, 1}, {0, 0, 0, 0}, {3, 0, 0, -1}};
    float b[20], c[15], out[15];
    const float alpha = 2, beta = 0.5f;
    for (int i = 0; i < 20; i++) b[i] = (float)(i * i % 11);
    for (int i = 0; i < 15; i++) c[i] = (float)i;
    float *d_offsets = upload((const float *)offsets, 4);
    float *d_columns = upload((const float *)columns, 4);
    float *d_values = upload(values, 4), *db = upload(b, 20);
    cusparseHandle_t handle;
    cusparseSpMatDescr_t a_matrix;
    cr_assert_eq(cusparseCreate(&handle), CUSPARSE_STATUS_SUCCESS);
    cr_assert_eq(cusparseCreateCsr(&a_matrix, 3, 4, 4, d_offsets, d_columns, d_values,
                                   CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO,
                                   CUDA_R_32F),
                 CUSPARSE_STATUS_SUCCESS);
    for (int by_rows = 0; by_rows < 2; by_rows++) {
        const cusparseOrder_t order = by_rows ? CUSPARSE_ORDER_ROW : CUSPARSE_ORDER_COL;
        float *dc = upload(c, 15);
        cusparseDnMatDescr_t b_matrix, c_matrix;
        cusparseCreateDnMat(&b_matrix, 4, 5, by_rows ? 5 : 4, db, CUDA_R_32F, order);
        cusparseCreateDnMat(&c_matrix, 3, 5, by_rows ? 5 : 3, dc, CUDA_R_32F, order);
        cr_assert_eq(cusparseSpMM(handle, CUSPARSE_OPERATION_NON_TRANSPOSE,
                                  CUSPARSE_OPERATION_NON_TRANSPOSE, &alpha, a_matrix, b_matrix,
                                  &beta, c_matrix, CUDA_R_32F, CUSPARSE_SPMM_ALG_DEFAULT, NULL),
                     CUSPARSE_STATUS_SUCCESS, "%s", simt_report_text());
        read_back(dc, 15, out);
        for (int r = 0; r < 3; r++)
            for (int j = 0; j < 5; j++) {
                const int at = by_rows ? r * 5 + j : j * 3 + r;
                float sum = 0;
                for (int k = 0; k < 4; k++)
                    sum += matrix[r][k] * b[by_rows ? k * 5 + j : j * 4 + k];
                cr_assert_eq(out[at], alpha * sum + beta * c[at]);
            }
        cusparseDestroyDnMat(b_matrix), cusparseDestroyDnMat(c_matrix), cudaFree(dc);
    }
    cusparseDestroySpMat(a_matrix), cusparseDestroy(handle);
    cudaFree(d_offsets), cudaFree(d_columns), cudaFree(d_values), cudaFree(db);
}
