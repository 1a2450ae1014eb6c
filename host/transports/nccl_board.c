/* nccl_board.c - a file under a name, and locks on its first bytes. */
#include "nccl_board.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../check.h"
#include "../mailbox.h"

static const uint64_t magic = 0x316c63636e474f43; /* "COGnccl1" */
enum { NAP_NS = 2000000 };

static size_t bytes_for(int n_workers) {
    return sizeof(cog_nccl_page) + (size_t)n_workers * sizeof(cog_nccl_seat);
}

/* --- locks ------------------------------------------------------------------------------------ */

/* Of the open file, not of the process: a file opened twice here does not lose the other's. */
static struct flock byte_of(int rank) {
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = rank, .l_len = 1};
}

static bool is_locked(int file, int rank) {
    struct flock lock = byte_of(rank);
    return fcntl(file, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static bool lock_byte(int file, int rank) {
    struct flock lock = byte_of(rank);
    return fcntl(file, F_OFD_SETLK, &lock) == 0;
}

bool cog_nccl_board_has(const cog_nccl_board *board, int rank) {
    return is_locked(board->file, rank);
}

/* --- make ------------------------------------------------------------------------------------- */

static cog_status fill(cog_nccl_page *page, int n_workers, uint64_t max_payload) {
    ncclResult_t result = ncclGetUniqueId(&page->ring);
    for (int i = 0; i < n_workers && result == ncclSuccess; i++)
        result = ncclGetUniqueId(&page->seats[i].pair);
    COG_CHECK(result == ncclSuccess, COG_ERR_TRANSPORT, "ncclGetUniqueId: %s",
              ncclGetErrorString(result));
    page->max_payload = max_payload;
    page->n_workers = n_workers;
    page->magic = magic;
    return COG_OK;
}

static cog_status map(cog_nccl_board *board, size_t bytes) {
    void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, board->file, 0);
    COG_CHECK(page != MAP_FAILED, COG_ERR_IO, "%s cannot be mapped: %s", board->path,
              strerror(errno));
    board->page = page;
    board->bytes = bytes;
    return COG_OK;
}

/* What a server that was killed left behind is nobody's. */
static cog_status check_free(const char *path) {
    const int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return COG_OK;
    const bool is_taken = is_locked(file, 0);
    close(file);
    COG_CHECK(!is_taken, COG_ERR_TRANSPORT, "another server is at meet=%s", path);
    return COG_OK;
}

/* Under another name first, so that nobody sees half of it. */
static cog_status make_file(cog_nccl_board *board, const char *name, int n_workers,
                            uint64_t max_payload) {
    const size_t bytes = bytes_for(n_workers);
    unlink(name); /* what a process of this number has left, or a stranger has laid there */
    board->file = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    COG_CHECK(board->file >= 0, COG_ERR_IO, "%s cannot be written: %s", name, strerror(errno));
    COG_CHECK(lock_byte(board->file, 0) && ftruncate(board->file, (off_t)bytes) == 0, COG_ERR_IO,
              "%s cannot be locked and filled: %s", name, strerror(errno));
    COG_TRY(map(board, bytes));
    COG_TRY(fill(board->page, n_workers, max_payload));
    COG_CHECK(rename(name, board->path) == 0, COG_ERR_IO, "%s cannot be written: %s", board->path,
              strerror(errno));
    return COG_OK;
}

cog_status cog_nccl_board_make(cog_nccl_board *board, int n_workers, uint64_t max_payload) {
    if (board->path[0] == '\0') {
        board->page = calloc(1, bytes_for(n_workers));
        COG_CHECK(board->page != NULL, COG_ERR_MEMORY, "no memory for %d workers", n_workers);
        return fill(board->page, n_workers, max_payload);
    }
    char name[sizeof(board->path) + 20];
    snprintf(name, sizeof(name), "%s.%d", board->path, (int)getpid());
    COG_TRY(check_free(board->path));
    const cog_status status = make_file(board, name, n_workers, max_payload);
    if (status != COG_OK) unlink(name);
    return status;
}

/* --- find ------------------------------------------------------------------------------------- */

static cog_status open_board(cog_nccl_board *board) {
    struct stat about;
    board->file = open(board->path, O_RDWR | O_CLOEXEC);
    if (board->file < 0 || !is_locked(board->file, 0) || fstat(board->file, &about) != 0)
        return COG_ERR_TIMEOUT;
    COG_CHECK(about.st_size >= (off_t)sizeof(cog_nccl_page), COG_ERR_TRANSPORT,
              "meet=%s is no meeting of ranks", board->path);
    return map(board, (size_t)about.st_size);
}

/* ERR_TIMEOUT: not now. A board that is stopping, or where this rank has been, is an old one, of a
 * run that may have been another. */
static cog_status take_seat(cog_nccl_board *board, int n_workers, uint64_t max_payload) {
    COG_TRY(open_board(board));
    cog_nccl_page *page = board->page;
    if (page->stopping) return COG_ERR_TIMEOUT;
    COG_CHECK(page->magic == magic && page->n_workers == n_workers &&
                  board->bytes == bytes_for(n_workers),
              COG_ERR_TRANSPORT, "the server at meet=%s has not %d workers", board->path,
              n_workers);
    COG_CHECK(lock_byte(board->file, board->rank), COG_ERR_TRANSPORT,
              "there is a rank %d already at meet=%s", board->rank, board->path);
    if (page->seats[board->rank - 1].taken) return COG_ERR_TIMEOUT;
    COG_CHECK(page->max_payload == max_payload, COG_ERR_TRANSPORT,
              "the server at meet=%s runs something else: %llu bytes in a frame, not %llu",
              board->path, (unsigned long long)page->max_payload, (unsigned long long)max_payload);
    page->seats[board->rank - 1].taken = true;
    return COG_OK;
}

static void forget(cog_nccl_board *board) {
    if (board->file >= 0) {
        if (board->page != NULL) munmap(board->page, board->bytes);
        close(board->file);
    } else {
        free(board->page);
    }
    board->page = NULL;
    board->file = -1;
}

cog_status cog_nccl_board_find(cog_nccl_board *board, int n_workers, uint64_t max_payload,
                               double deadline) {
    const struct timespec nap = {.tv_nsec = NAP_NS};
    for (;;) {
        const cog_status status = take_seat(board, n_workers, max_payload);
        if (status == COG_OK) return COG_OK;
        forget(board);
        if (status != COG_ERR_TIMEOUT) return status;
        COG_CHECK(cog_clock_seconds() < deadline, COG_ERR_TRANSPORT, "no server came to meet=%s",
                  board->path);
        nanosleep(&nap, NULL);
    }
}

/* A server that starts anew has a new one under the same name. */
void cog_nccl_board_close(cog_nccl_board *board) {
    if (board->page == NULL && board->file < 0) return;
    if (board->file >= 0 && board->rank == 0) unlink(board->path);
    forget(board);
}
