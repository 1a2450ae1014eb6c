/* test_data.c - what is read is what was written, and what is damaged is refused in words. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <zlib.h>

#include "cograd/data.h"

/* ---- a folder of files to read ------------------------------------------------------------------
 */

static char folder[64];

static void make_folder(void) {
    strcpy(folder, "/tmp/cograd-data-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
}

static void remove_folder(void) {
    char command[128];
    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(data, .init = make_folder, .fini = remove_folder);

static char *path_of(const char *name) {
    static char path[16][256];
    static int next;
    char *p = path[next++ % 16];
    snprintf(p, sizeof(path[0]), "%s/%s", folder, name);
    return p;
}

static void write_file(const char *name, const void *bytes, size_t n, bool compressed) {
    if (compressed) {
        gzFile file = gzopen(path_of(name), "wb");
        cr_assert_eq(gzwrite(file, bytes, (unsigned)n), (int)n);
        cr_assert_eq(gzclose(file), Z_OK);
    } else {
        FILE *file = fopen(path_of(name), "wb");
        cr_assert_eq(fwrite(bytes, 1, n, file), n);
        fclose(file);
    }
}

static void check_refused(const char *what, const char *spec, cog_status status, int n_words, ...) {
    cog_dataset *train = NULL, *test = NULL;
    cr_assert_eq(cog_dataset_open(spec, &train, &test), status, "%s: %s", what, cog_last_error());
    cr_assert(train == NULL && test == NULL, "%s: outputs were touched", what);
    va_list words;
    va_start(words, n_words);
    for (int i = 0; i < n_words; i++) {
        const char *word = va_arg(words, const char *);
        cr_assert_not_null(strstr(cog_last_error(), word), "%s: no '%s' in: %s", what, word,
                           cog_last_error());
    }
    va_end(words);
}

static void close_both(cog_dataset *train, cog_dataset *test) {
    cog_dataset_close(train);
    cog_dataset_close(test);
}

/* ---- IDX ----------------------------------------------------------------------------------------
 */

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

Test(data, idx_files_are_read_plain_and_compressed) {
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
Test(data, damaged_idx_files_are_refused_by_name) {
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

Test(data, idx_files_that_do_not_belong_together_are_refused) {
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
Test(data, damaged_gzip_is_refused_wherever_the_damage_is) {
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
Test(data, mnist_is_mnist) {
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

/* ---- LIBSVM -------------------------------------------------------------------------------------
 */

static char *libsvm_spec(const char *text, const char *options) {
    static char spec[400];
    write_file("data.txt", text, strlen(text), false);
    snprintf(spec, sizeof(spec), "libsvm:%s%s", path_of("data.txt"), options);
    return spec;
}

static char *libsvm_pair(const char *text, const char *other, const char *more) {
    char options[300];
    write_file("test.txt", other, strlen(other), false);
    snprintf(options, sizeof(options), ",test=%s%s", path_of("test.txt"), more);
    return libsvm_spec(text, options);
}

Test(data, libsvm_numbers_land_where_their_indices_say) {
    cog_dataset *train, *test;
    const char *spec = libsvm_pair("# a comment\n+1 1:0.5 3:-2e1 # and another\n\n-1\t2:7\r\n-1\n",
                                   "-1 4:1\n+1 1:3", "");
    cr_assert_eq(cog_dataset_open(spec, &train, &test), COG_OK, "%s", cog_last_error());
    const float x[] = {0.5f, 0, -20, 0, 0, 7, 0, 0, 0, 0, 0, 0}, y[] = {1, 0, 0};
    const float test_x[] = {0, 0, 0, 1, 3, 0, 0, 0}, test_y[] = {0, 1};
    cr_assert(train->n_rows == 3 && train->n_features == 4 && train->n_classes == 2);
    cr_assert(test->n_rows == 2 && test->n_features == 4 && test->n_classes == 2);
    cr_assert_eq(memcmp(train->x, x, sizeof(x)), 0);
    cr_assert_eq(memcmp(train->y, y, sizeof(y)), 0);
    cr_assert_eq(memcmp(test->x, test_x, sizeof(test_x)), 0);
    cr_assert_eq(memcmp(test->y, test_y, sizeof(test_y)), 0);
    close_both(train, test);
}

Test(data, every_tenth_libsvm_row_is_set_aside) {
    char text[2000] = "";
    for (int r = 0; r < 25; r++) sprintf(text + strlen(text), "%d.5 1:%d\n", r, r);
    cog_dataset *train, *test;
    cr_assert_eq(cog_dataset_open(libsvm_spec(text, ""), &train, &test), COG_OK, "%s",
                 cog_last_error());
    cr_assert(train->n_rows == 23 && test->n_rows == 2 && train->n_classes == 0);
    int t = 0;
    for (int r = 0; r < 25; r++) {
        const cog_dataset *d = r % 10 == 9 ? test : train;
        const int at = r % 10 == 9 ? r / 10 : t++;
        cr_assert(d->x[at] == (float)r && d->y[at] == (float)r + 0.5f, "row %d", r);
    }
    close_both(train, test);
}

Test(data, libsvm_labels_are_classes_when_they_are_few_whole_numbers) {
    static const struct {
        const char *text, *options;
        int n_classes;
        float second; /* label of the second row */
    } cases[] = {
        {"3 1:1\n8 1:2\n3 1:3\n", "", 2, 1},
        {"2 1:1\n1 1:2\n0 1:3\n", "", 3, 1},
        {"3 1:1\n8 1:2\n3 1:3\n", ",labels=targets", 0, 8},
        {"3 1:1\n8.5 1:2\n3 1:3\n", "", 0, 8.5f},
        {"3 1:1\n3 1:2\n3 1:3\n", "", 0, 3}, /* one value tells nothing apart */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        cog_dataset *train, *test;
        const char *spec = libsvm_pair(cases[i].text, "3 1:1", cases[i].options);
        if (i == 1) spec = libsvm_pair(cases[i].text, "2 1:1", cases[i].options);
        cr_assert_eq(cog_dataset_open(spec, &train, &test), COG_OK, "%s", cog_last_error());
        cr_assert_eq(train->n_classes, cases[i].n_classes, "case %zu", i);
        cr_assert_eq(train->y[1], cases[i].second, "case %zu", i);
        close_both(train, test);
    }
    char text[2000] = ""; /* 30 whole numbers: targets, unless told */
    for (int r = 0; r < 30; r++) sprintf(text + strlen(text), "%d 1:1\n", r);
    for (int told = 0; told < 2; told++) {
        cog_dataset *train, *test;
        const char *spec = libsvm_pair(text, "3 1:1", told ? ",labels=classes" : "");
        cr_assert_eq(cog_dataset_open(spec, &train, &test), COG_OK, "%s", cog_last_error());
        cr_assert_eq(train->n_classes, told ? 30 : 0);
        close_both(train, test);
    }
}

Test(data, damaged_libsvm_files_are_refused_by_name_and_line) {
    static const struct {
        const char *text, *word;
    } cases[] = {
        {"", "empty"},
        {"\n# nothing\n", "no examples"},
        {"1\n2\n", "no features"},
        {"1 1:1\nx 1:1\n", "line 2: the label must be a number, is 'x'"},
        {"1 1:1\n1,2 1:1\n", "line 2: the label must be a number, is '1,2'"},
        {"1 1:1\n\n1 1:nan\n", "line 3: a value 'nan' is not a finite number"},
        {"1 1:inf\n", "line 1: a value 'inf' is not a finite number"},
        {"1 1:-1e39\n", "line 1: a value '-1e39' is not a finite number"},
        {"nan 1:1\n", "line 1: the label 'nan' is not a finite number"},
        {"1 0:1\n", "index 0 is outside 1..16777216"},
        {"1 -1:1\n", "index -1 is outside"},
        {"1 99999999999999999999:1\n", "outside 1..16777216"},
        {"1 2:1 2:1\n", "index 2 follows 2"},
        {"1 3:1 2:1\n", "index 2 follows 3"},
        {"1 1\n", "expected index:value at '1'"},
        {"1 qid:3 1:1\n", "expected index:value at 'qid:3'"},
        {"1 1:\n2 1:1\n", "line 1: a value must be a number, is ''"},
        {"1 1: 2\n", "line 1: a value must be a number"},
        {"1 1:2x\n", "line 1: a value must be a number, is '2x'"},
        {"1 1:1\n2 1:1\n", "2 rows, too few"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        check_refused(cases[i].text, libsvm_spec(cases[i].text, ""), COG_ERR_FORMAT, 2,
                      path_of("data.txt"), cases[i].word);
    check_refused("foreign label", libsvm_pair("1 1:1\n2 1:1\n", "3 1:1\n", ""), COG_ERR_FORMAT, 2,
                  path_of("test.txt"), "label 3 does not occur");
    check_refused("fractions as classes",
                  libsvm_pair("1.5 1:1\n2 1:1\n", "3 1:1\n", ",labels=classes"), COG_ERR_FORMAT, 1,
                  path_of("data.txt"));
    write_file("data.txt", "1 1:1\n\0002 1:1\n", 13, false);
    char spec[300];
    snprintf(spec, sizeof(spec), "libsvm:%s", path_of("data.txt"));
    check_refused("zero byte", spec, COG_ERR_FORMAT, 1, "zero byte");
    check_refused("no file", "libsvm:/nowhere/at-all", COG_ERR_IO, 1, "/nowhere/at-all");
    check_refused("a folder", "libsvm:/tmp", COG_ERR_IO, 1, "/tmp");
    check_refused("nothing", "libsvm", COG_ERR_SPEC, 1, "libsvm:FILE");
}

/* 2000 rows that each name the last feature of 16 million would take 134 GB. */
Test(data, sizes_are_bounded_before_anything_is_allocated) {
    char *text = malloc(2000 * 16 + 1);
    text[0] = '\0';
    for (int r = 0, at = 0; r < 2000; r++) at += sprintf(text + at, "%d 16777216:1\n", r % 2);
    check_refused("dense giant", libsvm_spec(text, ""), COG_ERR_FORMAT, 2, path_of("data.txt"),
                  "more than a data set may hold");
    free(text);
}

/* ---- synthetic ----------------------------------------------------------------------------------
 */

/* Gaussian elimination: the truth w from as many noiseless rows as features. */
static void solve(int n, const float *x, const float *y, double *w) {
    double a[8][9];
    for (int r = 0; r < n; r++) {
        for (int c = 0; c < n; c++) a[r][c] = x[r * n + c];
        a[r][n] = y[r];
    }
    for (int p = 0; p < n; p++)
        for (int r = 0; r < n; r++)
            for (int c = n; r != p && c >= p; c--) a[r][c] -= a[r][p] / a[p][p] * a[p][c];
    for (int r = 0; r < n; r++) w[r] = a[r][n] / a[r][r];
}

Test(data, synthetic_targets_are_linear_plus_noise_of_the_stated_size) {
    enum { F = 5 };
    cog_dataset *train, *test, *noisy, *noisy_test;
    cr_assert_eq(cog_dataset_open("synthetic:rows=20000,features=5,noise=0", &train, &test),
                 COG_OK);
    cr_assert_eq(cog_dataset_open("synthetic:rows=20000,features=5,noise=0.5", &noisy, &noisy_test),
                 COG_OK);
    cr_assert(train->n_rows == 20000 && test->n_rows == 2000 && train->n_classes == 0);
    double w[F];
    solve(F, train->x, train->y, w);
    double worst = 0, noise = 0, sum = 0, squares = 0;
    for (int part = 0; part < 2; part++) {
        const cog_dataset *d = part ? test : train;
        for (int64_t r = 0; r < d->n_rows; r++) {
            double y = 0;
            for (int i = 0; i < F; i++) y += w[i] * d->x[r * F + i];
            worst = fmax(worst, fabs(y - d->y[r]));
        }
    }
    cr_assert_lt(worst, 1e-4, "train and test do not share one linear truth: %g", worst);
    for (int64_t r = 0; r < train->n_rows; r++) noise += pow(noisy->y[r] - train->y[r], 2) / 20000;
    for (int i = 0; i < 20000 * F; i++) sum += train->x[i], squares += pow(train->x[i], 2);
    /* within five standard deviations of what normal numbers give */
    cr_assert_float_eq(noise, 0.25, 5 * 0.25 * sqrt(2.0 / 20000));
    cr_assert_float_eq(sum / (20000 * F), 0, 5 / sqrt(20000 * F));
    cr_assert_float_eq(squares / (20000 * F), 1, 5 * sqrt(2.0 / (20000 * F)));
    close_both(train, test);
    close_both(noisy, noisy_test);
}

Test(data, synthetic_sets_repeat_and_classes_all_occur) {
    cog_dataset *a, *b, *small, *t[3];
    cr_assert_eq(cog_dataset_open("synthetic:rows=500,features=20,classes=4,seed=9", &a, &t[0]),
                 COG_OK);
    cr_assert_eq(cog_dataset_open("synthetic:rows=500,features=20,classes=4,seed=10", &b, &t[1]),
                 COG_OK);
    cr_assert_eq(cog_dataset_open("synthetic:rows=3,features=20,classes=4,seed=9", &small, &t[2]),
                 COG_OK);
    cr_assert_eq(memcmp(a->x, small->x, sizeof(float) * 60), 0, "a longer set begins otherwise");
    cr_assert_eq(memcmp(a->y, small->y, sizeof(float) * 3), 0);
    cr_assert_neq(memcmp(a->x, b->x, sizeof(float) * 60), 0, "the seed does nothing");
    cr_assert_neq(memcmp(a->x, t[0]->x, sizeof(float) * 60), 0, "train and test are the same");
    cr_assert_eq(t[2]->n_rows, 1);
    int seen[4] = {0};
    for (int r = 0; r < 500; r++) seen[(int)a->y[r]]++;
    cr_assert(seen[0] > 0 && seen[1] > 0 && seen[2] > 0 && seen[3] > 0 && a->n_classes == 4);
    close_both(a, t[0]), close_both(b, t[1]), close_both(small, t[2]);
}

Test(data, impossible_specs_are_refused_in_words) {
    check_refused("unknown", "cifar", COG_ERR_SPEC, 2, "cifar", "mnist");
    check_refused("one class", "synthetic:classes=1", COG_ERR_SPEC, 1, "classes");
    check_refused("no rows", "synthetic:rows=0", COG_ERR_SPEC, 1, "rows");
    check_refused("typo", "synthetic:row=5", COG_ERR_SPEC, 2, "row", "features");
    check_refused("giant", "synthetic:rows=1000000000,features=10000", COG_ERR_FORMAT, 1,
                  "more than a data set may hold");
    check_refused("giant teacher", "synthetic:classes=65536,features=1000000", COG_ERR_SPEC, 1,
                  "teacher");
    check_refused("NULL", NULL, COG_ERR_ARGUMENT, 1, "data set");
}

Test(data, shards_share_the_rows_evenly) {
    for (int n_rows = 1; n_rows < 30; n_rows++)
        for (int n_shards = 1; n_shards < 12; n_shards++) {
            const cog_dataset d = {.n_rows = n_rows};
            for (int s = 0; s < n_shards; s++) {
                int64_t expected = 0;
                for (int r = 0; r < n_rows; r++) expected += r % n_shards == s;
                cr_assert_eq(cog_shard_rows(&d, n_shards, s), expected);
            }
            cr_assert_eq(cog_shard_rows(&d, n_shards, n_shards), 0);
            cr_assert_eq(cog_shard_rows(&d, n_shards, -1), 0);
        }
}
