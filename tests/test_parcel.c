/* test_parcel.c - parcels: copies, payloads kept once, and memory that is used again. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "parcel.h"

static cog_frame_header header_of(uint64_t bytes) {
    cog_frame_header header = cog_frame_make(COG_FRAME_PARAMS, 0, 4);
    header.bytes = bytes;
    return header;
}

Test(parcel, a_pool_allocates_only_what_is_in_flight) {
    enum { N = 200, ROUNDS = 50, MOST = 3000 };
    static unsigned char bytes[MOST];
    cog_parcel_pool pool;
    cog_parcel *held[N], *first[N];
    cr_assert_eq(cog_parcel_pool_open(&pool), COG_OK);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++) {
            const cog_frame_header header = header_of((uint64_t)(i * 15));
            memset(bytes, i + round, sizeof(bytes));
            cr_assert_eq(cog_parcel_take(&pool, &header, bytes, &held[i]), COG_OK);
        }
        for (int i = 0; i < N; i++) {
            const unsigned char *got = held[i]->frame.payload;
            for (int k = 0; k < i * 15; k++) cr_assert_eq(got[k], (unsigned char)(i + round));
            if (round == 0) first[i] = held[i];
            bool known = false; /* none but the memory of the first round */
            for (int k = 0; k < N && !known; k++) known = first[k] == held[i];
            cr_assert(known, "round %d allocated", round);
        }
        for (int i = N - 1; i >= 0; i--) cog_parcel_give(&pool, held[i]);
    }
    cog_parcel_pool_close(&pool);
    cog_parcel_pool_close(&pool);
}

Test(parcel, every_size_fits_with_at_most_a_quarter_of_waste) {
    cog_parcel_pool pool;
    cr_assert_eq(cog_parcel_pool_open(&pool), COG_OK);
    unsigned char *bytes = calloc(1, 70000);
    for (uint64_t n = 0; n < 70000; n += 1 + n / 60) {
        cog_parcel *parcel, *larger;
        cog_frame_header header = header_of(n);
        cr_assert_eq(cog_parcel_take(&pool, &header, bytes, &parcel), COG_OK);
        header.bytes = n + n / 4 + 65; /* cannot be of the same class */
        unsigned char *more = calloc(1, header.bytes);
        cr_assert_eq(cog_parcel_take(&pool, &header, more, &larger), COG_OK);
        cr_assert(larger->size_class > parcel->size_class, "%d bytes", (int)n);
        free(more);
        cog_parcel_give(&pool, parcel);
        cog_parcel_give(&pool, larger);
    }
    free(bytes);
    cog_parcel_pool_close(&pool);
}

Test(parcel, equal_broadcasts_are_kept_once_and_until_the_last_reader) {
    enum { N = 50, BYTES = 4096 };
    static unsigned char bytes[BYTES];
    cog_parcel_pool pool;
    cog_parcel *held[2 * N];
    cr_assert_eq(cog_parcel_pool_open(&pool), COG_OK);
    for (int i = 0; i < 2 * N; i++) {
        const cog_frame_header header = header_of(BYTES);
        memset(bytes, i / N, BYTES);
        cr_assert_eq(cog_parcel_broadcast(&pool, 0, &header, bytes, &held[i]), COG_OK);
        cr_assert_eq(held[i]->frame.payload, held[i / N * N]->frame.payload);
    }
    cr_assert_neq(held[0]->frame.payload, held[N]->frame.payload);
    for (int i = 0; i < N - 1; i++) cog_parcel_give(&pool, held[i]);
    cog_parcel *other;
    const cog_frame_header header = header_of(BYTES);
    memset(bytes, 0xee, BYTES); /* a copy made now must not land in what is still read */
    cr_assert_eq(cog_parcel_take(&pool, &header, bytes, &other), COG_OK);
    const unsigned char *last = held[N - 1]->frame.payload;
    for (int k = 0; k < BYTES; k++) cr_assert_eq(last[k], 0);
    for (int i = N - 1; i < 2 * N; i++) cog_parcel_give(&pool, held[i]);
    cog_parcel_give(&pool, other);
    cog_parcel_pool_close(&pool);
}

/* The next payload is copied while the last one is still kept: two buffers. */
Test(parcel, broadcasts_of_many_rounds_take_turns_in_two_buffers) {
    static unsigned char bytes[5000];
    cog_parcel_pool pool;
    const void *seen[2] = {NULL, NULL};
    cr_assert_eq(cog_parcel_pool_open(&pool), COG_OK);
    for (int round = 0; round < 20; round++) {
        cog_parcel *held[3];
        const cog_frame_header header = header_of(sizeof(bytes));
        memset(bytes, round, sizeof(bytes));
        for (int i = 0; i < 3; i++)
            cr_assert_eq(cog_parcel_broadcast(&pool, 0, &header, bytes, &held[i]), COG_OK);
        if (round < 2) seen[round] = held[0]->frame.payload;
        cr_assert_eq(held[2]->frame.payload, seen[round % 2], "round %d", round);
        for (int i = 0; i < 3; i++) cog_parcel_give(&pool, held[i]);
    }
    cog_parcel_pool_close(&pool);
}

/* An edition is believed: the same one is not looked at again, and another is another. */
Test(parcel, editions_stand_for_their_bytes) {
    static unsigned char bytes[2][5000];
    cog_parcel_pool pool;
    const struct {
        int64_t edition;
        int from;
        bool is_shared; /* with the one before */
    } sends[] = {{7, 0, false}, {7, 0, true}, {7, 1, false}, {7, 1, true}, {8, 1, false},
                 {0, 1, true},  {0, 0, true}, {8, 1, true},  {8, 0, false}};
    enum { N = sizeof(sends) / sizeof(sends[0]) };
    cog_parcel *held[N];
    cr_assert_eq(cog_parcel_pool_open(&pool), COG_OK);
    for (int i = 0; i < N; i++) {
        const cog_frame_header header = header_of(sizeof(bytes[0]));
        cr_assert_eq(
            cog_parcel_broadcast(&pool, sends[i].edition, &header, bytes[sends[i].from], &held[i]),
            COG_OK);
        const bool shared = i > 0 && held[i]->frame.payload == held[i - 1]->frame.payload;
        cr_assert_eq(shared, sends[i].is_shared, "send %d", i);
    }
    for (int i = 0; i < N; i++) cog_parcel_give(&pool, held[i]);
    cog_parcel_pool_close(&pool);
}

Test(parcel, a_fault_carries_status_and_sentence) {
    cog_parcel_pool pool;
    cr_assert_eq(cog_parcel_pool_open(&pool), COG_OK);
    cog_set_error(COG_ERR_IO, "disk %d is full", 7);
    cog_parcel *fault = cog_parcel_fault(&pool, 9, COG_ERR_IO);
    cr_assert(fault != NULL && fault->frame.header.source == 9);
    cr_assert_eq(cog_frame_fault_status(&fault->frame), COG_ERR_IO);
    cr_assert_str_eq(cog_last_error(), "worker 8: disk 7 is full");
    fault->frame.header.message = 12345;
    cr_assert_eq(cog_frame_fault_status(&fault->frame), COG_ERR_TRANSPORT);
    cog_parcel_give(&pool, fault);
    cog_parcel_pool_close(&pool);
}
