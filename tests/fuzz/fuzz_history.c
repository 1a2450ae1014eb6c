/* fuzz_history.c - files that are to be replayed. What was accepted can be written, and is then the
 * same history; a file that ends early is the history of a shorter run. */
#include "fuzz.h"
#include "history.h"

static void check_taken(const cog_taken *t) {
    FUZZ_CHECK(t->kind != '\0' && strchr("mdeslj", t->kind) != NULL);
    FUZZ_CHECK(t->worker >= 0 && t->message >= 0 && t->round >= 0);
}

static bool same(const cog_taken *a, const cog_taken *b) {
    return a->kind == b->kind && a->worker == b->worker && a->message == b->message &&
           a->round == b->round;
}

static void check_again(const cog_history *h) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    cog_history again;
    FUZZ_CHECK(file != NULL && cog_history_write_header(file, h->job, h->from) == COG_OK);
    for (size_t i = 0; i < h->n; i++) {
        check_taken(&h->taken[i]);
        cog_history_write(file, &h->taken[i]);
    }
    FUZZ_CHECK(fclose(file) == 0 && cog_history_parse(text, bytes, &again) == COG_OK);
    FUZZ_CHECK(again.from == h->from && again.n == h->n);
    for (size_t i = 0; i < h->n; i++) FUZZ_CHECK(same(&again.taken[i], &h->taken[i]));
    cog_history_free(&again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *text = fuzz_copy(data, size);
    cog_history history;
    if (cog_history_parse((const char *)text, size, &history) == COG_OK) check_again(&history);
    cog_history_free(&history);
    free(text);
    return 0;
}

size_t fuzz_seed(int i, uint8_t *out) {
    static const char *const seeds[] = {
        "cograd history 1\nseed = 1\nfrom = 0\nm 0 0 0\nm 1 0 0\nd 2 0\ne 0\n",
        "cograd history 1\ncode = lwpd:wait=5\nchannel = sign\nfrom = 17\ns\nl 3\ne 17\nj 3\nm 3 2 "
        "18\n",
        "cograd history 1\nfrom = 4611686018427387903\nm 2147483647 2147483647 "
        "4611686018427387903\n"};
    if (i >= 3) return 0;
    memcpy(out, seeds[i], strlen(seeds[i]));
    return strlen(seeds[i]);
}
