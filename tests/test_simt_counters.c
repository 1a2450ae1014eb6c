/* test_simt_counters.c - the SIMT executor counts what theory says. */
#include "simt_rig.h"

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

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

Test(simt_counters, sectors_of_a_strided_load_are_those_of_the_addresses) {
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

Test(simt_counters, counters_agree_with_theory) {
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

Test(simt_counters, bank_conflicts_agree_with_theory) {
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
