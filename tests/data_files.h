/* data_files.h - a folder of a test's own to read data sets from, and what to expect of bad ones.
 */
#ifndef COG_TESTS_DATA_FILES_H
#define COG_TESTS_DATA_FILES_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <zlib.h>

#include "cograd/data.h"

static char folder[64];

static inline void make_folder(void) {
    strcpy(folder, "/tmp/cograd-data-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
}

static inline void remove_folder(void) {
    char command[128];
    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    cr_assert_eq(system(command), 0);
}

static inline char *path_of(const char *name) {
    static char path[16][256];
    static int next;
    char *p = path[next++ % 16];
    snprintf(p, sizeof(path[0]), "%s/%s", folder, name);
    return p;
}

static inline void write_file(const char *name, const void *bytes, size_t n, bool compressed) {
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

static inline void check_refused(const char *what, const char *spec, cog_status status, int n_words,
                                 ...) {
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

static inline void close_both(cog_dataset *train, cog_dataset *test) {
    cog_dataset_close(train);
    cog_dataset_close(test);
}

#endif
