/* test_checkpoint_files.c - which files a run goes on from, which it refuses, and what stays when a
 * checkpoint cannot be written. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "checkpoint.h"
#include "checkpoint_rig.h"

static uint8_t *read_file(size_t *bytes) {
    FILE *f = fopen(path, "rb");
    cr_assert(f != NULL);
    struct stat info;
    fstat(fileno(f), &info);
    uint8_t *data = malloc((size_t)info.st_size);
    *bytes = fread(data, 1, (size_t)info.st_size, f);
    fclose(f);
    return data;
}

static void write_file(const uint8_t *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    cr_assert(f != NULL);
    fwrite(data, 1, bytes, f);
    fclose(f);
}

static void save_small(cog_engine_config *c) {
    make_folder();
    *c = small();
    c->model = "softmax";
    c->code = "kasync:k=4";
    c->channel = "topk:ratio=0.2,feedback=1";
    cog_engine *e = open_engine(c);
    run(e, SAVED_AT);
    cr_assert_eq(cog_engine_save(e, path), COG_OK, "%s", cog_last_error());
    cog_engine_destroy(e);
}

static void expect_refused(const cog_engine_config *c, cog_status status, const char *words) {
    cog_engine *e = open_engine(c);
    const cog_status got = cog_engine_load(e, path);
    cr_expect_eq(got, status, "%s: %d", words, got);
    cr_expect(got == COG_OK || strstr(cog_last_error(), words) != NULL, "'%s' lacks '%s'",
              cog_last_error(), words);
    cog_engine_destroy(e);
}

Test(checkpoint_files, torn_damaged_and_foreign_files_are_refused_in_words) {
    cog_engine_config c;
    save_small(&c);
    size_t bytes;
    uint8_t *file = read_file(&bytes);
    void *unused;
    size_t n;
    for (size_t cut = 0; cut < bytes; cut += cut < 200 ? 1 : 97) {
        write_file(file, cut);
        cr_expect_eq(cog_checkpoint_read(path, &unused, &n), COG_ERR_FORMAT, "cut at %zu", cut);
    }
    for (size_t at = 0; at < bytes; at++) {
        file[at] ^= (uint8_t)(1 << at % 8);
        cr_expect_eq(cog_checkpoint_check(file, bytes), COG_ERR_FORMAT, "flipped at %zu", at);
        file[at] ^= (uint8_t)(1 << at % 8);
    }
    write_file((const uint8_t *)"#!/bin/sh\nexit 0 # a file that is something else\n", 50);
    expect_refused(&c, COG_ERR_FORMAT, "it is no checkpoint");
    file[8] = 9;
    write_file(file, bytes);
    expect_refused(&c, COG_ERR_FORMAT, "version 9");
    unlink(path);
    expect_refused(&c, COG_ERR_IO, "No such file");
    free(file);
    remove_folder();
}

Test(checkpoint_files, another_configuration_is_refused_with_both_values) {
    cog_engine_config c;
    save_small(&c);
    cog_engine_config other[8];
    for (int i = 0; i < 8; i++) other[i] = c;
    other[0].code = "kasync:k=5";
    other[1].channel = "identity";
    other[2].optimizer = "adam";
    other[3].seed = 2;
    other[4].batch = 8;
    other[5].downlink = "fp32";
    other[6].n_workers = 9; /* who computes what may differ, the rest not */
    other[6].batch = 9;
    other[7].model = "mlp:hidden=4";
    static const char *const words[] = {"kasync:k=4", "topk:ratio=0.2", "sgd:rate=0.5", "seed = 1",
                                        "batch = 16", "delta",          "batch = 16'",  "softmax"};
    for (int i = 0; i < 8; i++) expect_refused(&other[i], COG_ERR_ARGUMENT, words[i]);
    other[0] = c;
    other[0].stragglers = "exp:mean=1";
    other[0].transport = "threads";
    other[0].timeout = 3;
    expect_refused(&other[0], COG_OK, "the cluster may change");
    remove_folder();
}

static bool says_so(void *user) { return *(const bool *)user; }

Test(checkpoint_files, a_caller_who_wants_to_stop_is_not_told_of_a_deadline) {
    cog_engine_config c;
    save_small(&c);
    bool wants_to_stop = false;
    c.stop = says_so;
    c.stop_user = &wants_to_stop;
    cog_engine *e = open_engine(&c);
    run(e, 3);
    wants_to_stop = true;
    cr_expect_eq(cog_engine_save(e, path), COG_ERR_TIMEOUT);
    cr_expect(strstr(cog_last_error(), "told to stop") != NULL, "%s", cog_last_error());
    wants_to_stop = false;
    cr_expect_eq(cog_engine_save(e, path), COG_OK, "%s", cog_last_error());
    run(e, 5);
    cr_expect_eq(cog_engine_report(e).round, 5);
    cog_engine_destroy(e);
    remove_folder();
}

/* A limit on the size of files is what a full disk is to a program. */
Test(checkpoint_files, a_full_disk_leaves_the_old_one) {
    cog_engine_config c;
    save_small(&c);
    size_t bytes, after;
    uint8_t *before = read_file(&bytes);
    cog_engine *e = open_engine(&c);
    run(e, 3);
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {bytes / 2, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &limit);
    const cog_status status = cog_engine_save(e, path);
    setrlimit(RLIMIT_FSIZE, &none);
    cr_expect_eq(status, COG_ERR_IO);
    uint8_t *now = read_file(&after);
    cr_expect(after == bytes && memcmp(before, now, bytes) == 0);
    char partial[96];
    snprintf(partial, sizeof(partial), "%s.partial", path);
    cr_expect_eq(access(partial, F_OK), -1, "a part of it was left behind");
    run(e, 5); /* and the run goes on */
    cr_expect_eq(cog_engine_save(e, "/nonexistent/folder/state"), COG_ERR_IO);
    cog_engine_destroy(e);
    expect_refused(&c, COG_OK, "it is still good");
    free(before);
    free(now);
    remove_folder();
}
