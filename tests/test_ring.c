/* test_ring.c - all-reduce over the transports of one process: the bits of a ring, everywhere. */
#include "transport_rig.h"

#include "rng.h"

/* Nearest of the two bf16 neighbours, by distance in double; the even one of two equally near. */
static float nearest_bf16(float value) {
    uint32_t bits, low, high;
    memcpy(&bits, &value, 4);
    low = bits & 0xffff0000u, high = low + 0x10000u;
    float below, above;
    memcpy(&below, &low, 4);
    memcpy(&above, &high, 4);
    const double to_below = fabs((double)value - below), to_above = fabs((double)above - value);
    if (to_below != to_above) return to_below < to_above ? below : above;
    return low >> 16 & 1 ? above : below;
}

static int64_t edge(int n_workers, int64_t n, int chunk) { return n * chunk / n_workers; }

/* A ring as it is drawn: in every step each worker hands one chunk to its right neighbour. */
static void literal_ring(float *x, int n_workers, int64_t n, bool bf16, int64_t *floats_sent) {
    for (int step = 0; step < 2 * (n_workers - 1); step++)
        for (int w = 0; w < n_workers; w++) {
            const bool reduces = step < n_workers - 1;
            const int turn = reduces ? step : step - n_workers; /* gather: w holds chunk w + 1 */
            const int chunk = ((w - turn) % n_workers + n_workers) % n_workers;
            const int right = (w + 1) % n_workers;
            for (int64_t i = edge(n_workers, n, chunk); i < edge(n_workers, n, chunk + 1); i++) {
                const float sent = bf16 ? nearest_bf16(x[w * n + i]) : x[w * n + i];
                x[right * n + i] = reduces ? sent + x[right * n + i] : sent;
                if (step == n_workers - 2 && bf16)
                    x[right * n + i] = nearest_bf16(x[right * n + i]);
                floats_sent[reduces ? 0 : 1]++;
            }
        }
    for (int64_t i = 0; i < n && n_workers == 1 && bf16; i++) x[i] = nearest_bf16(x[i]);
}

static void draw_vectors(float *x, int n_workers, int64_t n) {
    cog_rng rng = cog_rng_make((uint64_t)n, COG_STREAM_TEST, 1, (uint32_t)n_workers);
    for (int64_t i = 0; i < n_workers * n; i++)
        x[i] = (float)(((double)cog_rng_u32(&rng) - 0x1p31) * 0x1p-31 *
                       pow(2, (int)(cog_rng_u32(&rng) % 9)));
}

static void run_sum(const char *spec, float *x, int n_workers, int64_t n, bool bf16,
                    const int64_t *floats) {
    rig r;
    rig_open(&r, spec, n_workers, 100);
    for (int w = 0; w < n_workers; w++) {
        r.workers[w].x = x + w * n, r.workers[w].n = n, r.workers[w].bf16 = bf16;
        rig_order(&r, w, SUM, 0, 3, NULL, 0);
    }
    for (int w = 0; w < n_workers; w++) cr_assert_eq(rig_receive(&r).header.kind, COG_FRAME_DONE);
    const int size = bf16 ? 2 : 4;
    cr_assert_eq(r.transport->bytes_up, 48 * n_workers + floats[0] * size, "%s", spec);
    cr_assert_eq(r.transport->bytes_down, 48 * n_workers + floats[1] * size, "%s", spec);
    rig_close(&r);
}

static void check_close(const float *in, const float *sum, int n_workers, int64_t n, bool bf16) {
    const double unit = bf16 ? 0x1p-8 + 0x1p-24 : 0x1p-24;
    const int roundings = bf16 ? n_workers : n_workers - 1;
    for (int64_t i = 0; i < n; i++) {
        double exact = 0, size = 0;
        for (int w = 0; w < n_workers; w++) {
            exact += (double)in[w * n + i];
            size += fabs((double)in[w * n + i]);
        }
        cr_assert(fabs(sum[i] - exact) <= size * (pow(1 + unit, roundings) - 1 + 1e-15),
                  "%d workers, entry %lld: %.9g, not %.9g", n_workers, (long long)i, sum[i], exact);
    }
}

static void check_sum(int n_workers, int64_t n, bool bf16) {
    const size_t bytes = (size_t)(n_workers * n) * sizeof(float) + 1;
    float *in = malloc(bytes), *ring = malloc(bytes), *x = malloc(bytes);
    cr_assert(in && ring && x);
    int64_t floats[2] = {0, 0};
    draw_vectors(in, n_workers, n);
    memcpy(ring, in, bytes);
    literal_ring(ring, n_workers, n, bf16, floats);
    cr_assert(floats[0] == (n_workers - 1) * n && floats[1] == floats[0]);
    check_close(in, ring, n_workers, n, bf16);
    for (int i = 0; i < N_BOTH; i++) {
        memcpy(x, in, bytes);
        run_sum(both[i], x, n_workers, n, bf16, floats);
        for (int w = 0; w < n_workers; w++) /* worker 0 of the ring stands for all of them */
            cr_assert_eq(memcmp(x + w * n, ring, (size_t)n * sizeof(float)), 0,
                         "%s: %d workers, %lld floats, bf16 %d: worker %d differs", both[i],
                         n_workers, (long long)n, bf16, w);
    }
    free(in), free(ring), free(x);
}

Test(ring, all_reduce_gives_every_worker_the_bits_of_a_ring) {
    static const int64_t sizes[] = {0, 1, 2, 7, 1000, 100003};
    for (int n_workers = 1; n_workers <= 9; n_workers++)
        for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
            for (int bf16 = 0; bf16 <= 1; bf16++) check_sum(n_workers, sizes[s], bf16);
}

/* After k all-reduces of ones among W workers every entry is W^k. */
Test(ring, all_reduces_follow_each_other_and_frames_wait_for_them) {
    enum { N = 50, W = 3, K = 10 };
    for (int i = 0; i < N_BOTH; i++) {
        rig r;
        float x[W][N];
        rig_open(&r, both[i], W, 100);
        for (int w = 0; w < W; w++) {
            for (int k = 0; k < N; k++) x[w][k] = 1;
            r.workers[w] = (rig_worker){&r, w + 1, x[w], N, false, K - 1};
        }
        for (int w = 0; w < W; w++) {
            rig_order(&r, w, SUM, 0, 0, NULL, 0);
            rig_order(&r, w, ECHO, 1, 0, NULL, 0);
        }
        int heard[W] = {0};
        for (int k = 0; k < 2 * W; k++) {
            const cog_frame frame = rig_receive(&r);
            const int before = heard[frame.header.source - 1]++;
            cr_assert_eq(frame.header.kind, before == 0 ? COG_FRAME_DONE : COG_FRAME_MESSAGE);
        }
        for (int w = 0; w < W; w++)
            for (int k = 0; k < N; k++) cr_assert_float_eq(x[w][k], 59049, 0, "%s", both[i]);
        rig_close(&r);
    }
}

Test(ring, bf16_sums_round_ties_to_even_and_keep_what_is_not_a_number) {
    static const struct {
        float a, b, sum;
    } cases[] = {{1, 0x1p-8f, 1},
                 {1 + 0x1p-7f, 0x1p-8f, 1 + 0x1p-6f},
                 {0x1.fep127f, 0x1p119f, INFINITY},
                 {INFINITY, -INFINITY, NAN},
                 {-0.0f, -0.0f, -0.0f}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        float x[2] = {cases[c].a, cases[c].b};
        const int64_t floats[2] = {1, 1};
        run_sum("sim", x, 2, 1, true, floats);
        cr_assert_eq(memcmp(&x[0], &x[1], 4), 0);
        cr_assert(isnan(cases[c].sum) ? isnan(x[0]) : memcmp(&x[0], &cases[c].sum, 4) == 0,
                  "case %zu: %a", c, (double)x[0]);
    }
}
