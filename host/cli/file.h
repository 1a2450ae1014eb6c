/* file.h - a file that appears complete or not at all.
 *
 * It is written without a name on the disk it belongs to, so that nothing is left when this process
 * is killed, and gets its name when everything has reached the disk. Where a file system has no
 * files without names, it has a temporary one. A target that exists and is no regular file (a pipe,
 * /dev/null) is written directly.
 */
#ifndef COG_CLI_FILE_H
#define COG_CLI_FILE_H

#include <stdbool.h>
#include <stdio.h>

typedef struct cog_file {
    FILE *stream;
    char *target;    /* name it gets, links resolved */
    char *temporary; /* path that leads to it; NULL when the target is written directly */
    bool nameless;   /* that path is this process's way to it, no name */
} cog_file;

/* All return an exit status and complain when it is not 0. */
int cog_file_open(const char *path, cog_file *out);
/* A write failed? Called after every line of a long log. */
int cog_file_check(cog_file *file);
int cog_file_commit(cog_file *file);
/* Close and remove what was written; accepts a zeroed, committed or discarded file. */
void cog_file_discard(cog_file *file);

/* Create a folder and the folders above it. */
int cog_folder_make(const char *path);

/* "FOLDER/NAME", to be freed. NULL when memory runs out, after a complaint. */
char *cog_path_join(const char *folder, const char *name);

#endif
