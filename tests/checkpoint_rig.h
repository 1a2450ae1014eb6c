/* checkpoint_rig.h - a folder for a checkpoint. */
#ifndef COG_TESTS_CHECKPOINT_RIG_H
#define COG_TESTS_CHECKPOINT_RIG_H

#include <stdio.h>
#include <unistd.h>

#include "engine_rig.h"

enum { SAVED_AT = 7 };

static char folder[] = "/tmp/cograd-checkpoint-XXXXXX", path[64];

static void make_folder(void) {
    if (path[0] != '\0') return;
    cr_assert(mkdtemp(folder) != NULL);
    snprintf(path, sizeof(path), "%s/state", folder);
}

static void remove_folder(void) {
    unlink(path);
    rmdir(folder);
}

static void run(cog_engine *e, int64_t until) {
    cr_assert_eq(cog_engine_run(e, until, NULL, NULL), COG_OK, "%s", cog_last_error());
}

#endif
