/* fuzz_frame.c - headers and payloads off the wire: 48 bytes, then the rest. */
#include "frame.h"
#include "fuzz.h"

enum { LIMIT = 1000 };
static const uint64_t key = 7;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const size_t n_header = size < 48 ? size : 48;
    uint8_t *wire = fuzz_copy(data, n_header),
            *payload = fuzz_copy(data + n_header, size - n_header);
    cog_frame_header header;
    if (cog_frame_read(wire, n_header, LIMIT, &header) == COG_OK) {
        FUZZ_CHECK(n_header == 48 && header.bytes <= LIMIT);
        FUZZ_CHECK(header.magic == COG_FRAME_MAGIC && header.version == COG_FRAME_VERSION);
        FUZZ_CHECK(header.kind >= COG_FRAME_PARAMS && header.kind < COG_FRAME_KINDS);
        if (cog_frame_verify(&header, key, payload, size - 48) == COG_OK) {
            FUZZ_CHECK(header.bytes == size - 48);
            cog_frame_header again = header;
            cog_frame_seal(&again, key, payload);
            FUZZ_CHECK(memcmp(&again, &header, sizeof(header)) == 0);
        }
    }
    free(wire);
    free(payload);
    return 0;
}

size_t fuzz_seed(int i, uint8_t *out) {
    static const uint64_t sizes[] = {0, 1, 40, LIMIT};
    if (i >= 4) return 0;
    cog_frame_header header = cog_frame_make(COG_FRAME_MESSAGE, 3, 100 * i);
    header.bytes = sizes[i];
    for (uint64_t k = 0; k < sizes[i]; k++) out[48 + k] = (uint8_t)(k * 7);
    cog_frame_seal(&header, key, out + 48);
    memcpy(out, &header, 48);
    return 48 + sizes[i];
}
