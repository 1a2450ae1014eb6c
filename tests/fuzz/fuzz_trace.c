/* fuzz_trace.c - files of measured delays. */
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "stragglers.h"

enum { N_WORKERS = 3, ROUNDS = 5 };

static void check_draws(const cog_stragglers *s) {
    for (int64_t round = 0; round < ROUNDS; round++)
        for (int w = 0; w < N_WORKERS; w++) {
            const cog_straggle drawn = cog_stragglers_draw(s, w, round);
            FUZZ_CHECK(drawn.fate == COG_ANSWERS || drawn.fate == COG_DECLINES);
            FUZZ_CHECK(drawn.factor == 1 && drawn.delay >= 0 && drawn.delay <= 1e6);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char spec[64];
    const int fd = memfd_create("delays", 0);
    FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(spec, sizeof(spec), "trace:file=/proc/self/fd/%d", fd);
    cog_stragglers *stragglers = NULL;
    if (cog_stragglers_open(spec, N_WORKERS, 1, &stragglers) == COG_OK) check_draws(stragglers);
    cog_stragglers_close(stragglers);
    close(fd);
    return 0;
}

size_t fuzz_seed(int i, uint8_t *out) {
    static const char *const seeds[] = {
        "0 0.5 1e-3\n- 2 0\n", "# three workers\n1\t2 3 # first\n\n- - -\r\n", "0x1p-3 1e5 .5"};
    if (i >= 3) return 0;
    memcpy(out, seeds[i], strlen(seeds[i]));
    return strlen(seeds[i]);
}
