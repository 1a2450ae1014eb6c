/* crew.h - child processes that do not outlive this one: a server, and its workers. */
#ifndef COG_CLI_CREW_H
#define COG_CLI_CREW_H

#include <stdbool.h>
#include <sys/types.h>

enum { COG_CREW_MAX_WORKERS = 1024 };

typedef struct cog_hand {
    pid_t pid;      /* 0: gone */
    double begun;   /* seconds, of the monotonic clock */
    int quick_ends; /* in a row: it ended soon after it had begun */
} cog_hand;

typedef struct cog_crew {
    const char *const *server_argv; /* NULL-terminated, of this very program, as the next two */
    /* (optional) Asked when a signal has ended the server, as `how` says: with what it is started
     * anew, after a sentence about it. NULL without, and for an answer: the crew ends then. */
    const char *const *(*server_again)(void *user, const char *how);
    void *user;
    const char *const *worker_argv; /* with "" where the rank goes */
    int n_workers;
    bool restart; /* workers that die */
    int absent;   /* descriptor: byte i becomes 1 when worker i will not be started again */
    cog_hand server;
    cog_hand worker[COG_CREW_MAX_WORKERS];
    pid_t group;    /* of all of them */
    int n_signals;  /* of those that were sent to this process */
    bool dismissed; /* the server was told to end, as no worker is left */
    bool over;
    int exit_status; /* then */
} cog_crew;

/* Run the crew until the server ends for good, then see to it that nobody is left. The first
 * SIGINT, SIGTERM or SIGHUP is the server's to obey, a second one ends everything. Returns the
 * server's exit status. */
int cog_crew_run(cog_crew *crew);

#endif
