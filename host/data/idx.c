/* idx.c - the four IDX files of MNIST (LeCun, Cortes, Burges), plain or gzip.
 *
 *   images   00 00 08 03, rows, height, width as big-endian 32-bit numbers, then one byte a pixel
 *   labels   00 00 08 01, rows, then one byte a label, 0..9
 *
 *   mnist    the folder `mnist` in $COGRAD_DATA, or where that is not set, the first one in ./data,
 *            the installed data and the source tree's
 *
 * Sizes in a header are compared with what the file can hold before anything is allocated. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "dataset.h"
#include "gzip.h"

enum { N_CLASSES = 10, MAX_SIDE = 4096, CHUNK = 1 << 16 };

/* Both parts' files are named alike. */
typedef struct part_names {
    const char *images, *labels;
} part_names;

static const part_names train_names = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"};
static const part_names test_names = {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

/* The file's path as it is, plain before gzip; false when there is neither. */
static bool find_file(const char *folder, const char *name, char path[PATH_MAX]) {
    static const char *const ending[] = {"", ".gz"};
    for (int i = 0; i < 2; i++) {
        const int length = snprintf(path, PATH_MAX, "%s/%s%s", folder, name, ending[i]);
        if (length < PATH_MAX && access(path, F_OK) == 0) return true;
    }
    return false;
}

/* Magic number and `n` sizes; the bytes that must follow are their product. */
static cog_status read_header(cog_gzip *file, uint32_t magic, int n, int64_t *sizes) {
    uint8_t bytes[16];
    size_t n_read;
    const size_t n_bytes = 4 * ((size_t)n + 1);
    COG_TRY(cog_gzip_read(file, bytes, n_bytes, &n_read));
    COG_CHECK(n_read == n_bytes, COG_ERR_FORMAT, "%s is truncated: it ends within its header",
              file->path);
    uint32_t word[4];
    for (int i = 0; i <= n; i++)
        word[i] = (uint32_t)bytes[4 * i] << 24 | (uint32_t)bytes[4 * i + 1] << 16 |
                  (uint32_t)bytes[4 * i + 2] << 8 | bytes[4 * i + 3];
    COG_CHECK(word[0] == magic, COG_ERR_FORMAT,
              "%s begins with %08" PRIx32 ", IDX %s begin with %08" PRIx32, file->path, word[0],
              n == 3 ? "images" : "labels", magic);
    int64_t product = 1;
    for (int i = 0; i < n; i++) {
        sizes[i] = word[i + 1];
        COG_CHECK(sizes[i] >= 1 && (i == 0 || sizes[i] <= MAX_SIDE), COG_ERR_FORMAT,
                  "%s gives %" PRId64 " as its size number %d", file->path, sizes[i], i + 1);
        product *= sizes[i]; /* below 2^32 * 2^24 */
    }
    COG_CHECK(product <= file->most - (int64_t)n_bytes, COG_ERR_FORMAT,
              "%s announces %" PRId64 " bytes, more than it can hold", file->path, product);
    return COG_OK;
}

/* The next `n` bytes of a body. */
static cog_status read_body(cog_gzip *file, uint8_t *to, size_t n) {
    size_t n_read;
    COG_TRY(cog_gzip_read(file, to, n, &n_read));
    COG_CHECK(n_read == n, COG_ERR_FORMAT, "%s is truncated: it holds less than its header says",
              file->path);
    return COG_OK;
}

/* Nothing may follow; asking also makes zlib compare the checksum. */
static cog_status expect_end(cog_gzip *file) {
    uint8_t byte;
    size_t n_read;
    COG_TRY(cog_gzip_read(file, &byte, 1, &n_read));
    COG_CHECK(n_read == 0, COG_ERR_FORMAT, "%s holds more than its header says", file->path);
    return COG_OK;
}

static cog_status read_images(cog_gzip *file, cog_dataset **out) {
    int64_t sizes[3];
    COG_TRY(read_header(file, 0x00000803, 3, sizes));
    COG_TRY(cog_dataset_new(file->path, sizes[0], sizes[1] * sizes[2], N_CLASSES, out));
    const int64_t n = (*out)->n_rows * (*out)->n_features;
    uint8_t pixels[CHUNK];
    for (int64_t first = 0; first < n; first += CHUNK) {
        const int64_t count = n - first < CHUNK ? n - first : CHUNK;
        COG_TRY(read_body(file, pixels, (size_t)count));
        for (int64_t i = 0; i < count; i++) (*out)->x[first + i] = (float)pixels[i] / 255;
    }
    return expect_end(file);
}

static cog_status read_labels(cog_gzip *file, const char *images, cog_dataset *out) {
    int64_t n;
    COG_TRY(read_header(file, 0x00000801, 1, &n));
    COG_CHECK(n == out->n_rows, COG_ERR_FORMAT,
              "%s holds %" PRId64 " labels, %s holds %" PRId64 " images", file->path, n, images,
              out->n_rows);
    uint8_t labels[CHUNK];
    for (int64_t first = 0; first < n; first += CHUNK) {
        const int64_t count = n - first < CHUNK ? n - first : CHUNK;
        COG_TRY(read_body(file, labels, (size_t)count));
        for (int64_t i = 0; i < count; i++) {
            COG_CHECK(labels[i] < N_CLASSES, COG_ERR_FORMAT,
                      "%s: label number %" PRId64 " is %d, outside 0..%d", file->path,
                      first + i + 1, labels[i], N_CLASSES - 1);
            out->y[first + i] = labels[i];
        }
    }
    return expect_end(file);
}

static cog_status open_part(const char *folder, const part_names *names, cog_dataset **out) {
    char images[PATH_MAX], labels[PATH_MAX];
    COG_CHECK(find_file(folder, names->images, images), COG_ERR_IO,
              "there is no %s or %s.gz in '%s'", names->images, names->images, folder);
    COG_CHECK(find_file(folder, names->labels, labels), COG_ERR_IO,
              "there is no %s or %s.gz in '%s'", names->labels, names->labels, folder);
    cog_gzip file;
    COG_TRY(cog_gzip_open(images, &file));
    cog_status status = read_images(&file, out);
    cog_gzip_close(&file);
    if (status != COG_OK) return status;
    COG_TRY(cog_gzip_open(labels, &file));
    status = read_labels(&file, images, *out);
    cog_gzip_close(&file);
    return status;
}

cog_status cog_dataset_open_idx(const char *folder, cog_dataset **train, cog_dataset **test) {
    COG_TRY(open_part(folder, &train_names, train));
    COG_TRY(open_part(folder, &test_names, test));
    COG_CHECK((*train)->n_features == (*test)->n_features, COG_ERR_FORMAT,
              "the images in '%s' have %" PRId64 " pixels for training and %" PRId64 " for testing",
              folder, (*train)->n_features, (*test)->n_features);
    return COG_OK;
}

static cog_status open_mnist(cog_spec *spec, cog_dataset **train, cog_dataset **test) {
    COG_TRY(cog_spec_finish(spec));
    const char *const places[] = {"data", COG_DATA_DIR, COG_SOURCE_DATA_DIR};
    const char *chosen = getenv("COGRAD_DATA"); /* wrong is wrong: no other data instead */
    if (chosen != NULL && chosen[0] != '\0') {
        char folder[PATH_MAX];
        snprintf(folder, sizeof(folder), "%s/mnist", chosen);
        return cog_dataset_open_idx(folder, train, test);
    }
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        char folder[PATH_MAX], path[PATH_MAX];
        snprintf(folder, sizeof(folder), "%s/mnist", places[i]);
        if (find_file(folder, train_names.images, path))
            return cog_dataset_open_idx(folder, train, test);
    }
    COG_FAIL(
        COG_ERR_IO,
        "the files of MNIST are neither in data/mnist nor in %s/mnist, and COGRAD_DATA is not set",
        COG_DATA_DIR);
}

const cog_dataset_ops cog_dataset_mnist = {
    .name = "mnist",
    .summary = "handwritten digits, 60000 and 10000 images of 28 x 28; a folder with its files",
    .open = open_mnist,
};
