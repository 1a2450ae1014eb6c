/* fuzz_checkpoint.c - checkpoint files, and the states of channels and logs in their pieces. The
 * checksum of an input is made right first: behind it lie the parsers that are to be tried. */
#include <xxhash.h>

#include "channel.h"
#include "checkpoint.h"
#include "fuzz.h"

enum { N = 24, HEADER = 32 };

static const char *const specs[] = {"topk:ratio=0.2,feedback=1,momentum=0.5",
                                    "qsgd:predict=temporal,window=2",
                                    "identity:predict=linear,trigger=lag", "topk:ratio=0.2"};
enum { N_SPECS = sizeof(specs) / sizeof(specs[0]) };

static cog_device *device;

static cog_channel *open_channel(int i, cog_channel_end end) {
    cog_channel *channel;
    if (device == NULL) FUZZ_CHECK(cog_device_open("cpu", &device) == COG_OK);
    FUZZ_CHECK(cog_channel_open(specs[i], device, N, end, &channel) == COG_OK);
    return channel;
}

/* A state that was accepted can be saved, and is then accepted again. */
static void try_state(const cog_piece *piece) {
    const int i = piece->index & 3;
    uint8_t *copy = fuzz_copy(piece->data, piece->bytes);
    const cog_channel_end end = piece->kind == COG_PIECE_SENDER ? COG_SENDER : COG_RECEIVER;
    cog_channel *channel = open_channel(i, end);
    if (cog_channel_load(channel, copy, piece->bytes) == COG_OK) {
        cog_blob again = {.data = NULL};
        FUZZ_CHECK(cog_channel_save(channel, true, &again) == COG_OK);
        FUZZ_CHECK(cog_channel_load(channel, again.data, again.used) == COG_OK);
        cog_blob_free(&again);
    }
    cog_channel_close(channel);
    free(copy);
}

static void make_checksum_right(uint8_t *file, size_t size) {
    memset(file + 24, 0, 8);
    const uint64_t sum = XXH64(file + HEADER, size - HEADER, XXH64(file, HEADER, 0));
    memcpy(file + 24, &sum, sizeof(sum));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *file = fuzz_copy(data, size);
    FUZZ_CHECK(size < HEADER || cog_checkpoint_check(file, 0) == COG_ERR_FORMAT);
    if (size >= HEADER) make_checksum_right(file, size);
    if (cog_checkpoint_check(file, size) == COG_OK) {
        cog_piece piece;
        size_t at = 0, covered = HEADER;
        while (cog_checkpoint_next(file, &at, &piece)) {
            const uint8_t *begin = piece.data;
            FUZZ_CHECK(begin >= file + covered && begin + piece.bytes <= file + size);
            covered = (size_t)(begin + piece.bytes - file);
            try_state(&piece);
        }
        FUZZ_CHECK(size - covered < 8);
    }
    free(file);
    return 0;
}

static void add_channel(cog_checkpoint *out, int i, cog_channel_end end) {
    cog_channel *channel = open_channel(i, end);
    FUZZ_CHECK(cog_checkpoint_begin(out, end == COG_SENDER ? COG_PIECE_SENDER : COG_PIECE_RECEIVER,
                                    i) == COG_OK);
    FUZZ_CHECK(cog_channel_save(channel, true, &out->file) == COG_OK);
    FUZZ_CHECK(cog_checkpoint_end(out) == COG_OK);
    cog_channel_close(channel);
}

size_t fuzz_seed(int i, uint8_t *out) {
    if (i >= 2 * N_SPECS) return 0;
    static const char path[] = "fuzz-seed.tmp";
    cog_checkpoint checkpoint = {.n_pieces = 0};
    add_channel(&checkpoint, i / 2, i % 2 ? COG_RECEIVER : COG_SENDER);
    FUZZ_CHECK(cog_checkpoint_add(&checkpoint, COG_PIECE_JOB, 0, "a job", 6) == COG_OK);
    FUZZ_CHECK(cog_checkpoint_write(&checkpoint, path) == COG_OK); /* seals it */
    const size_t size = checkpoint.file.used;
    FUZZ_CHECK(size <= FUZZ_MOST && remove(path) == 0);
    memcpy(out, checkpoint.file.data, size);
    cog_checkpoint_free(&checkpoint);
    return size;
}
