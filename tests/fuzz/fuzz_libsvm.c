/* fuzz_libsvm.c - text files of sparse rows, plain or gzip. */
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cograd/data.h"
#include "fuzz.h"

FUZZ_UNTRACED static void check_part(const cog_dataset *d) {
    FUZZ_CHECK(d->n_rows >= 1 && d->n_features >= 1);
    for (int64_t i = 0, n = d->n_rows * d->n_features; i < n; i++) FUZZ_CHECK(isfinite(d->x[i]));
    for (int64_t i = 0; i < d->n_rows; i++)
        FUZZ_CHECK(d->n_classes > 0 ? d->y[i] >= 0 && d->y[i] < d->n_classes : isfinite(d->y[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char spec[64];
    const int fd = memfd_create("rows", 0);
    FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(spec, sizeof(spec), "libsvm:/proc/self/fd/%d", fd);
    cog_dataset *train = NULL, *test = NULL;
    if (cog_dataset_open(spec, &train, &test) == COG_OK) {
        check_part(train);
        check_part(test);
    }
    cog_dataset_close(train);
    cog_dataset_close(test);
    close(fd);
    return 0;
}

size_t fuzz_seed(int i, uint8_t *out) {
    static const char *const seeds[] = {
        "+1 1:0.5 3:-2e-1\n-1 2:1\n+1 1:1 2:2 3:3\n-1\n",
        "0.5 1:1\n1.5 1:2 # a comment\n\n2.5 1:3\n-7 2:4\n1e3 1:5\n",
        "0 1:1\n1 1:2\n2 1:3\n0 1:4\n1 1:5\n2 1:6\n0 2:1\n1 2:2\n2 2:3\n0 2:4\n1 2:5\n"};
    if (i >= 3) return 0;
    memcpy(out, seeds[i], strlen(seeds[i]));
    return strlen(seeds[i]);
}
