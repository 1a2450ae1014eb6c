/* test_frame.c - frames as bytes: what is written is read, and nothing else is. */
#include <string.h>
#include <xxhash.h>

#include "frame.h"
#include "harness.h"

enum { LIMIT = 1000, BYTES = 237 };

static cog_frame_header some_header(void) {
    cog_frame_header h = cog_frame_make(COG_FRAME_MESSAGE, 7, 1234567890123);
    h.mode = 3;
    h.message = 41;
    h.bytes = BYTES;
    h.accepted = 0x8000000000000001u;
    return h;
}

static void some_payload(unsigned char *payload) {
    for (int i = 0; i < BYTES; i++) payload[i] = (unsigned char)(i * 151 + 7);
}

/* The order of the fields on the wire, little endian, byte by byte. */
Test(frame, a_header_has_48_bytes_in_this_order) {
    static const unsigned char expected[48] = {
        'C',  'O',  'G',  '1',  1,    2,    3, 0,    /* magic, version, kind, mode */
        0xcb, 0x04, 0xfb, 0x71, 0x1f, 0x01, 0, 0,    /* round 1234567890123 */
        41,   0,    0,    0,    7,    0,    0, 0,    /* message, source */
        237,  0,    0,    0,    0,    0,    0, 0,    /* bytes */
        1,    0,    0,    0,    0,    0,    0, 0x80, /* accepted */
        8,    7,    6,    5,    4,    3,    2, 1};   /* checksum */
    cog_frame_header h = some_header(), back;
    h.checksum = 0x0102030405060708;
    cr_expect_eq(memcmp(&h, expected, sizeof(h)), 0);
    cr_assert_eq(cog_frame_read(expected, sizeof(expected), LIMIT, &back), COG_OK);
    cr_expect_eq(memcmp(&back, &h, sizeof(h)), 0);
}

Test(frame, the_checksum_is_xxh64_of_header_and_payload_under_the_key_of_the_job) {
    unsigned char payload[BYTES];
    some_payload(payload);
    cog_frame_header h = some_header();
    h.checksum = 99; /* does not count */
    cog_frame_seal(&h, 5, payload);
    cog_frame_header zero = some_header();
    cr_expect_eq(h.checksum, XXH64(payload, BYTES, XXH64(&zero, 48, 5)));
    cr_expect_eq(cog_frame_key(NULL), 0);
    cr_expect_eq(cog_frame_key(""), 0);
    cr_expect_neq(cog_frame_key("a"), cog_frame_key("b"));
}

/* Magic, version, kind and announced length are judged before the payload is looked at. */
Test(frame, headers_of_strangers_are_refused_in_words) {
    cog_frame_header out;
    memset(&out, 0x5a, sizeof(out));
    const cog_frame_header untouched = out;
    static const struct {
        int offset, value;
        const char *words;
    } bad[] = {{0, 'X', "this is no frame"}, {4, 2, "version 2"},   {5, 0, "kind 0"},
               {5, 200, "kind 200"},         {25, 4, "1261 bytes"}, {31, 255, "agreed on"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cog_frame_header h = some_header();
        ((unsigned char *)&h)[bad[i].offset] = (unsigned char)bad[i].value;
        cr_expect_eq(cog_frame_read(&h, sizeof(h), LIMIT, &out), COG_ERR_FORMAT);
        cr_expect(strstr(cog_last_error(), bad[i].words), "'%s' lacks '%s'", cog_last_error(),
                  bad[i].words);
    }
    const cog_frame_header h = some_header();
    for (size_t n = 0; n < 100; n++)
        if (n != 48)
            cr_expect_eq(cog_frame_read(&h, n > 48 ? 48 + 1 : n, LIMIT, &out), COG_ERR_FORMAT);
    cr_expect_eq(cog_frame_read(&h, 48, BYTES - 1, &out), COG_ERR_FORMAT);
    cr_expect_eq(memcmp(&out, &untouched, sizeof(out)), 0, "an output was touched");
    cr_expect_eq(cog_frame_read(&h, 48, BYTES, &out), COG_OK);
}

Test(frame, no_bit_of_header_or_payload_can_change_unseen) {
    unsigned char payload[BYTES];
    some_payload(payload);
    cog_frame_header sealed = some_header();
    cog_frame_seal(&sealed, 77, payload);
    cr_expect_eq(cog_frame_verify(&sealed, 77, payload, BYTES), COG_OK);
    cr_expect_eq(cog_frame_verify(&sealed, 78, payload, BYTES), COG_ERR_FORMAT, "another job");
    cr_expect_eq(cog_frame_verify(&sealed, 77, payload, BYTES - 1), COG_ERR_FORMAT, "cut");
    for (int bit = 0; bit < 48 * 8; bit++) {
        cog_frame_header h = sealed;
        ((unsigned char *)&h)[bit / 8] ^= (unsigned char)(1 << bit % 8);
        cr_expect_eq(cog_frame_verify(&h, 77, payload, BYTES), COG_ERR_FORMAT, "bit %d", bit);
    }
    for (int bit = 0; bit < BYTES * 8; bit++) {
        payload[bit / 8] ^= (unsigned char)(1 << bit % 8);
        cr_expect_eq(cog_frame_verify(&sealed, 77, payload, BYTES), COG_ERR_FORMAT, "bit %d", bit);
        payload[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    cog_frame_header empty = cog_frame_make(COG_FRAME_DECLINE, 1, 1);
    cog_frame_seal(&empty, 77, NULL);
    cr_expect_eq(cog_frame_verify(&empty, 77, NULL, 0), COG_OK);
}
