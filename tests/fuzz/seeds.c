/* seeds.c - for libFuzzer: with COGRAD_SEEDS=DIR a target writes its seeds there, and is done. */
#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    const char *folder = getenv("COGRAD_SEEDS");
    uint8_t bytes[FUZZ_MOST];
    char path[512];
    size_t n;
    for (int i = 0; folder != NULL && (n = fuzz_seed(i, bytes)) > 0; i++) {
        snprintf(path, sizeof(path), "%s/seed-%d", folder, i);
        FILE *file = fopen(path, "wb");
        FUZZ_CHECK(file != NULL && fwrite(bytes, 1, n, file) == n && fclose(file) == 0);
    }
    if (folder != NULL) exit(0);
    return 0;
}
