/* test_idx.c - MNIST files are read as they were written, and refused when damaged. */
#include "data_files.h"

TestSuite(idx, .init = make_folder, .fini = remove_folder);

enum { TRAIN_ROWS = 7, TEST_ROWS = 3, SIDE = 3, PIXELS = SIDE * SIDE };

static const char *const names[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                    "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

/* One of the four files in memory: pixel i of the part is 37 i mod 256, label i is 7 i mod 10. */
typedef struct idx_file {
    uint8_t bytes[16 + TRAIN_ROWS * PIXELS + 8];
    size_t size;
} idx_file;

static idx_file make_idx(int which) {
    const int rows = which < 2 ? TRAIN_ROWS : TEST_ROWS;
    const bool is_images = which % 2 == 0;
    idx_file f = {.bytes = {0, 0, 8, is_images ? 3 : 1, 0, 0, 0, (uint8_t)rows}, .size = 8};
    if (is_images) {
        f.bytes[11] = f.bytes[15] = SIDE;
        f.size = 16;
    }
    for (int i = 0; i < rows * (is_images ? PIXELS : 1); i++)
        f.bytes[f.size++] = (uint8_t)(is_images ? 37 * i % 256 : 7 * i % 10);
    return f;
}

static void write_idx(bool compressed) {
    for (int i = 0; i < 4; i++) {
        const idx_file f = make_idx(i);
        char name[64];
        snprintf(name, sizeof(name), "%s%s", names[i], compressed ? ".gz" : "");
        write_file(name, f.bytes, f.size, compressed);
    }
}

static void remove_idx(void) {
    for (int i = 0; i < 4; i++) {
        char name[64];
        unlink(path_of(names[i]));
        snprintf(name, sizeof(name), "%s.gz", names[i]);
        unlink(path_of(name));
    }
}

static void check_part(const cog_dataset *d, int rows) {
    cr_assert_eq(d->n_rows, rows);
    cr_assert_eq(d->n_features, PIXELS);
    cr_assert_eq(d->n_classes, 10);
    for (int i = 0; i < rows * PIXELS; i++) cr_assert_eq(d->x[i], (float)(37 * i % 256) / 255);
    for (int i = 0; i < rows; i++) cr_assert_eq(d->y[i], (float)(7 * i % 10));
}

Test(idx, idx_files_are_read_plain_and_compressed) {
    for (int compressed = 0; compressed < 2; compressed++) {
        write_idx(compressed);
        cog_dataset *train, *test;
        cr_assert_eq(cog_dataset_open(folder, &train, &test), COG_OK, "%s", cog_last_error());
        check_part(train, TRAIN_ROWS);
        check_part(test, TEST_ROWS);
        close_both(train, test);
        remove_idx();
    }
}

/* Damage done to one good file: byte `at` becomes `value`; or the length changes by `grow`. */
Test(idx, damaged_idx_files_are_refused_by_name) {
    static const struct {
        const char *what;
        int file, at, value, grow;
        const char *word;
    } cases[] = {
        {"wrong type in the magic number", 0, 2, 9, 0, "00000903"},
        {"labels where images should be", 0, 3, 1, 0, "00000801"},
        {"images where labels should be", 1, 3, 3, 0, "00000803"},
        {"no rows", 0, 7, 0, 0, "size number 1"},
        {"no width", 2, 15, 0, 0, "size number 3"},
        {"too wide", 2, 12, 1, 0, "size number 3"},
        {"absurd number of rows", 0, 4, 255, 0, "more than it can hold"},
        {"absurd number of labels", 1, 4, 255, 0, "more than it can hold"},
        {"fewer rows than the body", 0, 7, TRAIN_ROWS - 1, 0, "holds more than its header says"},
        {"cut within the body", 0, -1, 0, -3, "more than it can hold"},
        {"cut within the header", 0, -1, 0, -70, "within its header"},
        {"cut within the labels", 3, -1, 0, -8, "within its header"},
        {"trailing bytes", 1, -1, 0, 2, "holds more than its header says"},
        {"label out of range", 3, 9, 10, 0, "label number 2 is 10"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        for (int compressed = 0; compressed < 2; compressed++) {
            write_idx(false);
            idx_file f = make_idx(cases[i].file);
            if (cases[i].at >= 0) f.bytes[cases[i].at] = (uint8_t)cases[i].value;
            const int size = (int)f.size + cases[i].grow;
            char name[64];
            snprintf(name, sizeof(name), "%s%s", names[cases[i].file], compressed ? ".gz" : "");
            unlink(path_of(names[cases[i].file]));
            write_file(name, f.bytes, (size_t)(size > 5 ? size : 5), compressed);
            /* what a compressed file can hold is known only roughly */
            const bool loose = compressed && cases[i].grow == -3;
            check_refused(cases[i].what, folder, COG_ERR_FORMAT, 2, path_of(name),
                          loose ? "holds less" : cases[i].word);
            remove_idx();
        }
}

Test(idx, idx_files_that_do_not_belong_together_are_refused) {
    write_idx(false);
    idx_file f = make_idx(1);
    f.bytes[7]--;
    write_file(names[1], f.bytes, f.size - 1, false);
    check_refused("one label too few", folder, COG_ERR_FORMAT, 4, path_of(names[1]), "6 labels",
                  path_of(names[0]), "7 images");
    write_idx(false);
    f = make_idx(2);
    f.bytes[11] = f.bytes[15] = 2;
    write_file(names[2], f.bytes, 16 + 4 * TEST_ROWS, false);
    check_refused("other images for testing", folder, COG_ERR_FORMAT, 3, folder, "9 pixels", "4");
    for (int i = 0; i < 4; i++) {
        write_idx(false);
        unlink(path_of(names[i]));
        check_refused("a missing file", folder, COG_ERR_IO, 2, names[i], folder);
        write_file(names[i], "", 0, false);
        check_refused("an empty file", folder, COG_ERR_FORMAT, 2, path_of(names[i]), "empty");
    }
    check_refused("no folder", "/nowhere/at-all", COG_ERR_IO, 1, "/nowhere/at-all");
}

/* Every way to cut a gzip file short or to flip a bit in it is noticed: deflate's own structure,
 * the length or the CRC-32 at the end. The 10 bytes of header before hold a time and flags nobody
 * checks. */
Test(idx, damaged_gzip_is_refused_wherever_the_damage_is) {
    write_idx(false);
    unlink(path_of(names[0]));
    char name[64];
    snprintf(name, sizeof(name), "%s.gz", names[0]);
    const idx_file f = make_idx(0);
    write_file(name, f.bytes, f.size, true);
    uint8_t good[512];
    FILE *file = fopen(path_of(name), "rb");
    const size_t size = fread(good, 1, sizeof(good), file);
    fclose(file);
    cr_assert(size > 30 && size < sizeof(good));
    for (size_t cut = 1; cut < size; cut++) {
        write_file(name, good, cut, false);
        check_refused("truncated gzip", folder, COG_ERR_FORMAT, 1, path_of(name));
    }
    for (size_t at = 10; at < size; at++) {
        uint8_t bad[512];
        memcpy(bad, good, size);
        bad[at] ^= 0x10;
        write_file(name, bad, size, false);
        check_refused("flipped bit", folder, COG_ERR_FORMAT, 1, path_of(name));
    }
}

/* The counts of digits 0..9 that the publication's files are known to have. */
Test(idx, mnist_is_mnist) {
    static const int known[2][10] = {{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949},
                                     {980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009}};
    char data[1024];
    snprintf(data, sizeof(data), "%s/data", COG_SOURCE_DIR);
    setenv("COGRAD_DATA", data, 1);
    cog_dataset *part[2];
    cr_assert_eq(cog_dataset_open("mnist", &part[0], &part[1]), COG_OK, "%s", cog_last_error());
    for (int p = 0; p < 2; p++) {
        const cog_dataset *d = part[p];
        cr_assert_eq(d->n_rows, p == 0 ? 60000 : 10000);
        cr_assert(d->n_features == 784 && d->n_classes == 10);
        int digits[10] = {0};
        for (int64_t r = 0; r < d->n_rows; r++) digits[(int)d->y[r]]++;
        for (int c = 0; c < 10; c++) cr_assert_eq(digits[c], known[p][c]);
    }
    double sum = 0; /* the mean pixel of the training part is 0.1307 */
    for (int64_t i = 0; i < 60000 * 784; i++) sum += part[0]->x[i];
    cr_assert_float_eq(sum / (60000 * 784.0), 0.1307, 5e-5);
    cr_assert_eq(part[0]->y[0], 5);
    close_both(part[0], part[1]);
    check_refused("a key of mnist", "mnist:rows=5", COG_ERR_SPEC, 1, "rows");
}
