/* fuzz.h - a target: one file that feeds a stranger's bytes to one parser.
 *
 * With clang a target is a program of libFuzzer; without, drive.c makes inputs by mutating the
 * seeds, the same ones in every run, so that the test suite has a short run of every target
 * anywhere. */
#ifndef COG_TESTS_FUZZ_H
#define COG_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FUZZ_MOST = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Valid input i into out [FUZZ_MOST], and its size; 0 past the last. */
size_t fuzz_seed(int i, uint8_t *out);

/* What must hold of whatever a parser has accepted. */
#define FUZZ_CHECK(condition)                                                             \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

/* Before a target's own loops over what was accepted: a fuzzer that traced their comparisons would
 * do little else. */
#if defined(__clang__)
#define FUZZ_UNTRACED __attribute__((no_sanitize("coverage")))
#else
#define FUZZ_UNTRACED
#endif

/* A copy that ends where it ends: a byte too far is seen by AddressSanitizer. The caller frees it.
 */
static inline uint8_t *fuzz_copy(const uint8_t *data, size_t size) {
    uint8_t *copy = calloc(1, size > 0 ? size : 1);
    FUZZ_CHECK(copy != NULL);
    if (size > 0) memcpy(copy, data, size);
    return copy;
}

#endif
