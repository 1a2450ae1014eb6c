/* fuzz_idx.c - the four files of MNIST, one of which is a stranger's.
 *
 *     byte 0: which, and whether its name ends in .gz      the rest: the file */
#include <unistd.h>

#include "cograd/data.h"
#include "fuzz.h"

enum { ROWS = 5, SIDE = 3 };

static const char *const names[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                    "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};
static char folder[64];

static void remove_folder(void) {
    char path[160];
    for (int i = 0; i < 8; i++) {
        snprintf(path, sizeof(path), "%s/%s%s", folder, names[i / 2], i % 2 ? ".gz" : "");
        unlink(path);
    }
    rmdir(folder);
}

static void write_file(const char *name, const char *ending, const uint8_t *bytes, size_t n) {
    char path[160];
    snprintf(path, sizeof(path), "%s/%s%s", folder, name, ending);
    FILE *file = fopen(path, "wb");
    FUZZ_CHECK(file != NULL && fwrite(bytes, 1, n, file) == n && fclose(file) == 0);
}

static void remove_file(const char *name, const char *ending) {
    char path[160];
    snprintf(path, sizeof(path), "%s/%s%s", folder, name, ending);
    unlink(path);
}

static size_t make_file(int which, uint8_t *out) {
    const bool is_images = which % 2 == 0;
    const uint8_t head[16] = {0, 0, 8,   is_images ? 3 : 1, 0, 0, 0, ROWS, 0, 0, 0, SIDE, 0,
                              0, 0, SIDE};
    const size_t n_head = is_images ? 16 : 8, n_body = is_images ? ROWS * SIDE * SIDE : ROWS;
    memcpy(out, head, n_head);
    for (size_t i = 0; i < n_body; i++)
        out[n_head + i] = (uint8_t)(is_images ? 37 * i : 7 * i % 10);
    return n_head + n_body;
}

static void make_folder(void) {
    uint8_t bytes[FUZZ_MOST];
    if (folder[0] != '\0') return;
    strcpy(folder, "/dev/shm/cograd-fuzz-XXXXXX"); /* in memory, where there is such a place */
    if (mkdtemp(folder) == NULL) strcpy(folder, "/tmp/cograd-fuzz-XXXXXX");
    FUZZ_CHECK(strncmp(folder, "/dev", 4) == 0 || mkdtemp(folder) != NULL);
    atexit(remove_folder);
    for (int i = 0; i < 4; i++) write_file(names[i], "", bytes, make_file(i, bytes));
}

FUZZ_UNTRACED static void check_part(const cog_dataset *d) {
    FUZZ_CHECK(d->n_rows >= 1 && d->n_features >= 1 && d->n_classes == 10);
    for (int64_t i = 0, n = d->n_rows * d->n_features; i < n; i++)
        FUZZ_CHECK(d->x[i] >= 0 && d->x[i] <= 1);
    for (int64_t i = 0; i < d->n_rows; i++) FUZZ_CHECK(d->y[i] >= 0 && d->y[i] < 10);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    make_folder();
    const int which = data[0] % 4;
    const char *ending = data[0] & 4 ? ".gz" : "";
    uint8_t good[FUZZ_MOST];
    if (ending[0] != '\0') remove_file(names[which], "");
    write_file(names[which], ending, data + 1, size - 1);
    cog_dataset *train = NULL, *test = NULL;
    if (cog_dataset_open(folder, &train, &test) == COG_OK) {
        check_part(train);
        check_part(test);
    }
    cog_dataset_close(train);
    cog_dataset_close(test);
    if (ending[0] != '\0') remove_file(names[which], ending);
    write_file(names[which], "", good, make_file(which, good));
    return 0;
}

size_t fuzz_seed(int i, uint8_t *out) {
    if (i >= 8) return 0;
    out[0] = (uint8_t)i; /* with .gz: gzip reads plain files as they are */
    return 1 + make_file(i % 4, out + 1);
}
