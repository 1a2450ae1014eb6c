/* file.c - atomic files. */
#include "file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"
#include "interrupt.h"

char *cog_path_join(const char *folder, const char *name) {
    char *path;
    if (asprintf(&path, "%s/%s", folder, name) >= 0) return path;
    cog_complain(COG_EXIT_FAILED, "out of memory");
    return NULL;
}

static int cannot_write(const char *path) {
    return cog_complain(COG_EXIT_FAILED, "cannot write '%s': %s", path, strerror(errno));
}

/* mkstemp makes files private; give this one the mode open() would have given it. */
static void apply_umask(int fd) {
    const mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask);
}

static int open_temporary(cog_file *file) {
    if (asprintf(&file->temporary, "%s.XXXXXX", file->target) < 0) {
        file->temporary = NULL;
        return cog_complain(COG_EXIT_FAILED, "out of memory");
    }
    const int fd = mkstemp(file->temporary);
    if (fd < 0) {
        const int status = cannot_write(file->target);
        free(file->temporary);
        file->temporary = NULL;
        return status;
    }
    cog_interrupt_remember(file->temporary);
    apply_umask(fd);
    file->stream = fdopen(fd, "w");
    return file->stream != NULL ? 0 : cannot_write(file->target);
}

int cog_file_open(const char *path, cog_file *out) {
    memset(out, 0, sizeof(*out));
    struct stat info;
    const bool exists = stat(path, &info) == 0;
    if (exists && S_ISDIR(info.st_mode))
        return cog_complain(COG_EXIT_FAILED, "cannot write '%s': it is a folder", path);
    /* rename() would replace a link, or a device, instead of what it stands for */
    out->target = exists && S_ISREG(info.st_mode) ? realpath(path, NULL) : strdup(path);
    if (out->target == NULL) return cannot_write(path);
    int status = 0;
    if (exists && !S_ISREG(info.st_mode)) {
        out->stream = fopen(path, "w");
        if (out->stream == NULL) status = cannot_write(path);
    } else {
        status = open_temporary(out);
    }
    if (status != 0) cog_file_discard(out);
    return status;
}

int cog_file_check(cog_file *file) {
    if (fflush(file->stream) == 0 && !ferror(file->stream)) return 0;
    return cannot_write(file->target);
}

int cog_file_commit(cog_file *file) {
    if (file->stream == NULL) return 0;
    int failed = ferror(file->stream) | fflush(file->stream);
    if (!failed && file->temporary != NULL) failed = fsync(fileno(file->stream));
    int error = errno;
    if (fclose(file->stream) != 0 && !failed) {
        failed = 1;
        error = errno;
    }
    file->stream = NULL;
    if (!failed && file->temporary != NULL) {
        failed = rename(file->temporary, file->target);
        error = errno;
        if (!failed) {
            cog_interrupt_forget(file->temporary);
            free(file->temporary);
            file->temporary = NULL;
        }
    }
    errno = error;
    const int status = failed ? cannot_write(file->target) : 0;
    cog_file_discard(file);
    return status;
}

void cog_file_discard(cog_file *file) {
    if (file->stream != NULL) fclose(file->stream);
    if (file->temporary != NULL) {
        unlink(file->temporary);
        cog_interrupt_forget(file->temporary);
    }
    free(file->temporary);
    free(file->target);
    memset(file, 0, sizeof(*file));
}

int cog_folder_make(const char *path) {
    char *partial = strdup(path);
    if (partial == NULL) return cog_complain(COG_EXIT_FAILED, "out of memory");
    int failed = 0;
    for (char *end = partial + 1; !failed && end[-1] != '\0'; end++) {
        if (*end != '/' && *end != '\0') continue;
        const char kept = *end;
        *end = '\0';
        failed = mkdir(partial, 0777) != 0 && errno != EEXIST;
        *end = kept;
    }
    free(partial);
    struct stat info;
    if (!failed && stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return 0;
    if (!failed) errno = ENOTDIR;
    return cog_complain(COG_EXIT_FAILED, "cannot make the folder '%s': %s", path, strerror(errno));
}
