/* file.c - atomic files. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
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

/* A descriptor of a file without a name; -1 where there are none, or no way to name it later. */
static int open_nameless(cog_file *file) {
    char *folder = strdup(file->target);
    if (folder == NULL) return -1;
    const int fd = open(dirname(folder), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    free(folder);
    if (fd < 0) return -1;
    if (asprintf(&file->temporary, "/proc/%d/fd/%d", (int)getpid(), fd) < 0) file->temporary = NULL;
    file->nameless = true;
    if (file->temporary != NULL && access(file->temporary, F_OK) == 0) return fd;
    close(fd);
    free(file->temporary);
    file->temporary = NULL;
    return -1;
}

static int open_named(cog_file *file) {
    file->nameless = false;
    if (asprintf(&file->temporary, "%s.XXXXXX", file->target) < 0) {
        file->temporary = NULL;
        return -1;
    }
    const int fd = mkstemp(file->temporary);
    if (fd >= 0) {
        cog_interrupt_remember(file->temporary);
        apply_umask(fd);
        return fd;
    }
    const int error = errno;
    free(file->temporary);
    file->temporary = NULL;
    errno = error;
    return -1;
}

static int open_temporary(cog_file *file) {
    int fd = open_nameless(file);
    if (fd < 0) fd = open_named(file);
    if (fd < 0) return cannot_write(file->target);
    file->stream = fdopen(fd, "w");
    return file->stream != NULL ? 0 : cannot_write(file->target);
}

/* One other name for a moment: a name is given only where there is none. errno says why not. */
static int give_name(cog_file *file) {
    char *name;
    if (!file->nameless) return 0;
    if (asprintf(&name, "%s.%d", file->target, (int)getpid()) < 0) return -1;
    cog_interrupt_remember(name);
    unlink(name); /* of a process of this number that is no more */
    const int failed = linkat(AT_FDCWD, file->temporary, AT_FDCWD, name, AT_SYMLINK_FOLLOW);
    if (failed) cog_interrupt_forget(name);
    free(failed ? name : file->temporary);
    if (!failed) file->temporary = name;
    file->nameless = failed;
    return failed;
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
    if (!failed && file->temporary != NULL)
        failed = fsync(fileno(file->stream)) != 0 || give_name(file) != 0;
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
    if (file->temporary != NULL && !file->nameless) {
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
