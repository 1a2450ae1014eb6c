/* crew.c - fork, watch, end.
 *
 * All children are in one process group of their own: a Ctrl-C reaches this process alone, which
 * hands it on, and one call ends all of them, whatever they have started themselves. Should this
 * process die, the kernel tells them: workers are killed, and the server is asked to end, which it
 * does for want of workers too. Signals are waited for, never caught, so there is no handler. */
#include "crew.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "complain.h"
#include "interrupt.h"

enum { QUICK_SECONDS = 2, MAX_QUICK_ENDS = 5, END_SECONDS = 10 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- begin ----------------------------------------------------------------------------------- */

static void become(const char *const *argv, int death_signal, pid_t parent, pid_t group,
                   const sigset_t *mask) {
    prctl(PR_SET_PDEATHSIG, death_signal);
    if (getppid() != parent) _exit(COG_EXIT_FAILED); /* it died before that call */
    setpgid(0, group);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execv("/proc/self/exe", (char *const *)argv);
    fprintf(stderr, "cograd launch: cannot start '%s': %s\n", argv[1], strerror(errno));
    _exit(COG_EXIT_FAILED);
}

static int begin(cog_crew *crew, cog_hand *hand, const char *const *argv, int death_signal,
                 const sigset_t *mask) {
    const pid_t parent = getpid();
    fflush(NULL); /* what is buffered would be written twice */
    const pid_t pid = fork();
    if (pid < 0) return cog_complain(COG_EXIT_FAILED, "no process: %s", strerror(errno));
    if (pid == 0) become(argv, death_signal, parent, crew->group, mask);
    if (crew->group == 0) crew->group = pid;
    setpgid(pid, crew->group); /* whoever comes first, the child or this */
    hand->pid = pid;
    hand->begun = now();
    return 0;
}

static int begin_worker(cog_crew *crew, int i, const sigset_t *mask) {
    enum { MOST = 32 };
    const char *argv[MOST] = {NULL};
    char rank[16];
    snprintf(rank, sizeof(rank), "%d", i + 1);
    for (int k = 0; k < MOST - 1 && crew->worker_argv[k] != NULL; k++)
        argv[k] = crew->worker_argv[k][0] != '\0' ? crew->worker_argv[k] : rank;
    return begin(crew, &crew->worker[i], argv, SIGKILL, mask);
}

static int begin_all(cog_crew *crew, const sigset_t *mask) {
    int status = begin(crew, &crew->server, crew->server_argv, SIGTERM, mask);
    for (int i = 0; i < crew->n_workers && status == 0; i++) status = begin_worker(crew, i, mask);
    return status;
}

/* --- watch ----------------------------------------------------------------------------------- */

static void describe(int status, char *out, size_t size) {
    if (WIFSIGNALED(status))
        snprintf(out, size, "was ended by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(out, size, "ended with status %d", WEXITSTATUS(status));
}

static int exit_status_of(int status) {
    return WIFSIGNALED(status) ? COG_EXIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

static void note_end(cog_hand *hand) {
    hand->quick_ends = now() - hand->begun < QUICK_SECONDS ? hand->quick_ends + 1 : 0;
}

/* One that dies again and again as soon as it has begun will not do better the next time. */
static int after_worker(cog_crew *crew, int i, int status, const sigset_t *mask) {
    cog_hand *hand = &crew->worker[i];
    char how[96];
    describe(status, how, sizeof(how));
    hand->pid = 0;
    note_end(hand);
    const bool again = crew->restart && hand->quick_ends < MAX_QUICK_ENDS;
    cog_complain(0, "worker %d %s%s", i, how, again ? "; it is started anew" : "");
    if (again) return begin_worker(crew, i, mask);
    return pwrite(crew->absent, "\1", 1, i) == 1
               ? 0
               : cog_complain(COG_EXIT_FAILED, "%s", strerror(errno));
}

static bool any_worker(const cog_crew *crew) {
    for (int i = 0; i < crew->n_workers; i++)
        if (crew->worker[i].pid != 0) return true;
    return false;
}

/* One that ended by itself has said what it had to say, and one that was told to end has. */
static int after_server(cog_crew *crew, int status, const sigset_t *mask) {
    cog_hand *hand = &crew->server;
    char how[96];
    hand->pid = 0;
    note_end(hand);
    const bool may = WIFSIGNALED(status) && crew->n_signals == 0 && crew->server_again != NULL &&
                     hand->quick_ends < MAX_QUICK_ENDS && any_worker(crew);
    describe(status, how, sizeof(how));
    const char *const *argv = may ? crew->server_again(crew->user, how) : NULL;
    crew->over = argv == NULL;
    crew->exit_status = exit_status_of(status);
    return crew->over ? 0 : begin(crew, hand, argv, SIGTERM, mask);
}

/* Alone, the server would wait for a while before it gives up. It is told to end once: a second
 * time would end it before its files are complete. */
static void dismiss_lonely_server(cog_crew *crew) {
    if (crew->over || any_worker(crew) || crew->dismissed || crew->n_signals > 0) return;
    crew->dismissed = true;
    kill(crew->server.pid, SIGTERM);
}

/* Everybody who has ended since. */
static int reap(cog_crew *crew, const sigset_t *mask) {
    int status, failed = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid == crew->server.pid && failed == 0) failed = after_server(crew, status, mask);
        for (int i = 0; i < crew->n_workers && !crew->over; i++)
            if (pid == crew->worker[i].pid && failed == 0)
                failed = after_worker(crew, i, status, mask);
    }
    if (failed == 0) dismiss_lonely_server(crew);
    return failed;
}

static int watch(cog_crew *crew, const sigset_t *waited, const sigset_t *mask) {
    while (!crew->over) {
        const int signal = sigwaitinfo(waited, NULL);
        if (signal == SIGCHLD) {
            const int failed = reap(crew, mask);
            if (failed != 0) return failed;
        } else if (signal > 0) {
            if (++crew->n_signals > 2) return COG_EXIT_SIGNAL + signal;
            kill(crew->server.pid, signal);
        }
    }
    return crew->exit_status;
}

/* --- end ------------------------------------------------------------------------------------- */

/* The group is killed as long as somebody of it is left, ours or not. */
static void end_all(const cog_crew *crew) {
    if (crew->group == 0) return;
    const struct timespec nap = {.tv_nsec = 5000000};
    for (const double deadline = now() + END_SECONDS; now() < deadline; nanosleep(&nap, NULL)) {
        while (waitpid(-1, NULL, WNOHANG) > 0) continue;
        if (kill(-crew->group, SIGKILL) != 0 && errno == ESRCH) return;
    }
}

int cog_crew_run(cog_crew *crew) {
    sigset_t waited, mask;
    sigemptyset(&waited);
    const int signals[] = {SIGCHLD, SIGINT, SIGTERM};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaddset(&waited, signals[i]);
    if (!cog_interrupt_outlives_terminal()) sigaddset(&waited, SIGHUP);
    sigprocmask(SIG_BLOCK, &waited, &mask);
    int status = begin_all(crew, &mask);
    if (status == 0) status = watch(crew, &waited, &mask);
    end_all(crew);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    return status;
}
