/* interrupt.c - signal handling.
 *
 * The handler touches nothing but the two tables below and calls unlink() and _exit(), which are
 * safe in a handler. The tables are atomic: two signals may be handled on two threads.
 */
#include "interrupt.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "complain.h"

enum { MAX_FILES = 8 }; /* a run writes a log, a record, a second record and a plot */

static atomic_int caught;
static const char *_Atomic files[MAX_FILES];

static void handle(int number) {
    int none = 0;
    if (atomic_compare_exchange_strong(&caught, &none, number)) return;
    for (int i = 0; i < MAX_FILES; i++) {
        const char *path = files[i];
        if (path != NULL) unlink(path);
    }
    _exit(COG_EXIT_SIGNAL + number);
}

bool cog_interrupt_outlives_terminal(void) {
    struct sigaction old;
    return sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
}

void cog_interrupt_catch(void) {
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = handle;
    action.sa_flags = SA_RESTART; /* an interrupted write to the log is finished, not lost */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (!cog_interrupt_outlives_terminal()) sigaction(SIGHUP, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);
}

int cog_interrupt_signal(void) { return caught; }

void cog_interrupt_remember(const char *path) {
    for (int i = 0; i < MAX_FILES; i++)
        if (files[i] == NULL) {
            files[i] = path;
            return;
        }
}

void cog_interrupt_forget(const char *path) {
    for (int i = 0; i < MAX_FILES; i++)
        if (files[i] == path) files[i] = NULL;
}
