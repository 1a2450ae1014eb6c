/* engine_faults.c - faults of a run (faults.h): which there are, and those of its checkpoints. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "engine_parts.h"

cog_status cog_engine_open_faults(cog_engine *e) {
    const char *spec = e->config.faults != NULL ? e->config.faults : "none";
    COG_TRY(cog_faults_parse(spec, e->config.n_workers, e->config.seed, &e->faults));
    if (e->faults.n == 0) return COG_OK;
    COG_CHECK(
        e->code->ops->role != COG_ROLE_ALLREDUCE, COG_ERR_ARGUMENT,
        "code '%s' is an all-reduce: it has no messages for faults to strike, and needs every "
        "worker",
        cog_code_name(e->code));
    return cog_faulty_wrap(e->transport, &e->faults, &e->faulty);
}

static const cog_fault *next_fault(const cog_engine *e, int *at) {
    const cog_moment moment = {
        .point = COG_DURING_CHECKPOINT, .worker = COG_FAULT_SERVER, .round = e->server.round};
    return cog_faults_next(&e->faults, &moment, at);
}

/* What a server that dies as it writes leaves behind: half of the file, under the other name. */
static void leave_half(const cog_checkpoint *c, const char *path) {
    char other[4096];
    if (snprintf(other, sizeof(other), "%s.partial", path) >= (int)sizeof(other)) return;
    FILE *file = fopen(other, "wbe");
    if (file == NULL) return;
    fwrite(c->file.data, 1, c->file.used / 2, file);
    fclose(file);
}

void cog_engine_strike_checkpoint(const cog_engine *e, const cog_checkpoint *c, const char *path) {
    const cog_fault *f;
    for (int at = 0; (f = next_fault(e, &at)) != NULL;)
        if (f->kind == COG_FAULT_KILL) leave_half(c, path);
    cog_faults_strike_server(&e->faults, COG_DURING_CHECKPOINT, e->server.round);
}

/* A byte in the middle, or the lowest of the version, which follows eight bytes of magic. */
static bool change_byte(int fd, off_t at) {
    uint8_t byte;
    if (pread(fd, &byte, 1, at) != 1) return false;
    byte ^= 0x10;
    return pwrite(fd, &byte, 1, at) == 1;
}

static cog_status spoil(const char *path, cog_fault_kind kind) {
    struct stat info;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    bool ok = fd >= 0 && fstat(fd, &info) == 0;
    if (ok && kind == COG_FAULT_CORRUPT) ok = change_byte(fd, info.st_size / 2);
    if (ok && kind == COG_FAULT_WRONG_VERSION) ok = change_byte(fd, 8);
    if (ok && kind == COG_FAULT_HALF_WRITE) ok = ftruncate(fd, info.st_size / 2) == 0;
    const int error = errno;
    if (fd >= 0) close(fd);
    COG_CHECK(ok, COG_ERR_IO, "cannot damage the checkpoint '%s': %s", path, strerror(error));
    return COG_OK;
}

cog_status cog_engine_spoil_checkpoint(const cog_engine *e, const char *path) {
    const cog_fault *f;
    for (int at = 0; (f = next_fault(e, &at)) != NULL;)
        if (cog_fault_hits_bytes(f->kind)) COG_TRY(spoil(path, f->kind));
    return COG_OK;
}
