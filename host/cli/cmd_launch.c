/* cmd_launch.c - `cograd launch`: a server and its workers on this machine, as processes.
 *
 * They meet at a socket without a file (Linux's abstract names) and share a token in memory, so
 * nothing is left behind even when this process is killed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "complain.h"
#include "crew.h"
#include "file.h"
#include "experiment.h"
#include "progress.h"

static const char usage[] =
    "usage: cograd launch -n WORKERS [--restart] train|compare [OPTION...]\n\n"
    "Runs `cograd train` as a server, with WORKERS processes that compute for it, over ZeroMQ. "
    "The\n"
    "options are those of the subcommand, but for --workers and --transport.\n\n"
    "  -n WORKERS   number of worker processes, up to 1024\n"
    "  --restart    start workers that die anew; without, the run goes on with those that are "
    "left,\n"
    "               if the code can do without the others. With --checkpoint a server that is "
    "killed\n"
    "               is started anew too, and goes on from there\n\n"
    "Examples:\n"
    "  cograd launch -n 8 train --code lwpd:weight=2,wait=6 --rounds 500\n"
    "  cograd launch -n 8 --restart train --checkpoint kept --checkpoint-every 10\n\n"
    "Ctrl-C ends the run in good order, a second one at once. Exit status: that of the subcommand.";

enum { MOST_ARGUMENTS = 256, TOKEN_BYTES = 16 };

typedef struct launch {
    int n_workers;
    bool restart;
    int first;  /* of the subcommand in argv */
    int absent; /* descriptor: see crew.h */
    char address[64], token[32], transport[256];
    const char *server[MOST_ARGUMENTS];
    int n_arguments; /* of them */
    /* Where the run keeps its checkpoint, its path, and what lay there before; NULL without. And
     * the spec of its code. */
    const char *folder, *code;
    char *checkpoint;
    struct stat before;
} launch;

static int read_workers(const char *text, int *out) {
    char *end;
    const long n = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || n < 1 || n > COG_CREW_MAX_WORKERS)
        return cog_complain(COG_EXIT_USAGE, "-n must be a whole number from 1 to %d, is '%s'",
                            COG_CREW_MAX_WORKERS, text);
    *out = (int)n;
    return 0;
}

static int read_arguments(int argc, char **argv, launch *l) {
    int i = 1, status = 0;
    for (; i < argc && argv[i][0] == '-' && status == 0; i++) {
        if (strcmp(argv[i], "--restart") == 0)
            l->restart = true;
        else if (strcmp(argv[i], "-n") == 0 && i + 1 < argc)
            status = read_workers(argv[++i], &l->n_workers);
        else
            status = cog_complain(COG_EXIT_USAGE, "unknown option '%s'; see --help", argv[i]);
    }
    if (status != 0) return status;
    if (l->n_workers == 0) return cog_complain(COG_EXIT_USAGE, "-n WORKERS is missing; see --help");
    if (i == argc || (strcmp(argv[i], "train") != 0 && strcmp(argv[i], "compare") != 0))
        return cog_complain(COG_EXIT_USAGE, "train or compare must follow, with its options");
    l->first = i;
    for (i++; i < argc; i++)
        if (strncmp(argv[i], "--transport", 4) == 0 || strncmp(argv[i], "--workers", 3) == 0)
            return cog_complain(COG_EXIT_USAGE, "'%s' is not for launch, which sets it", argv[i]);
    return 0;
}

/* A name nobody else has, and a secret nobody else can read: a file without a name, for whoever
 * inherits its descriptor. */
static int make_meeting_place(launch *l) {
    unsigned char random[2 * TOKEN_BYTES];
    char text[2 * sizeof(random) + 1];
    const int fd = memfd_create("token", 0);
    if (fd < 0 || getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return cog_complain(COG_EXIT_FAILED, "no token: %s", strerror(errno));
    for (size_t i = 0; i < sizeof(random); i++) snprintf(text + 2 * i, 3, "%02x", random[i]);
    snprintf(l->address, sizeof(l->address), "ipc://@cograd-%.*s", TOKEN_BYTES, text);
    if (write(fd, text + 2 * TOKEN_BYTES, 2 * TOKEN_BYTES) != 2 * TOKEN_BYTES)
        return cog_complain(COG_EXIT_FAILED, "no token: %s", strerror(errno));
    snprintf(l->token, sizeof(l->token), "/proc/self/fd/%d", fd);
    l->absent = memfd_create("absent", 0);
    if (l->absent < 0) return cog_complain(COG_EXIT_FAILED, "no memory: %s", strerror(errno));
    snprintf(l->transport, sizeof(l->transport),
             "zmq:bind=%s,token=%s,absent=/proc/self/fd/%d,silence=5,rejoin=%d", l->address,
             l->token, l->absent, l->restart);
    return 0;
}

static int make_server(int argc, char **argv, const char *workers, launch *l) {
    int n = 0;
    if (argc - l->first + 10 > MOST_ARGUMENTS)
        return cog_complain(COG_EXIT_USAGE, "more than %d arguments", MOST_ARGUMENTS - 10);
    l->server[n++] = "cograd";
    for (int i = l->first; i < argc; i++) l->server[n++] = argv[i];
    const char *const last[] = {"--transport", l->transport, "--workers", workers};
    memcpy(&l->server[n], last, sizeof(last));
    l->n_arguments = n + 4;
    return 0;
}

/* ---- a server that is killed ----------------------------------------------------------------- */

/* Where there is nothing all members are 0. */
static struct stat look_at(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 ? info : (struct stat){.st_size = 0};
}

static int find_checkpoint(int argc, char **argv, launch *l) {
    cog_options options;
    if (!l->restart || strcmp(argv[l->first], "train") != 0) return 0;
    const int status = cog_options_parse(COG_FOR_TRAIN, argc - l->first, argv + l->first, &options);
    if (status != 0 || options.checkpoint == NULL) return status;
    if (options.record != NULL)
        return cog_complain(COG_EXIT_USAGE,
                            "a server that is started anew from its --checkpoint would lose the "
                            "beginning of its --record: leave one of them, or --restart, out");
    l->folder = options.checkpoint;
    l->code = options.code;
    l->checkpoint = cog_path_join(l->folder, cog_checkpoint_name);
    if (l->checkpoint == NULL) return COG_EXIT_FAILED;
    l->before = look_at(l->checkpoint);
    return 0;
}

/* Is every round that of all workers, so that nothing is under way when one ends? */
static bool waits_for_all(const char *spec, int n_workers) {
    cog_code *code;
    if (cog_code_create(spec, n_workers, &code) != COG_OK)
        return true; /* the server will say why */
    const int32_t n = cog_code_plan(code)->n_messages;
    uint8_t *arrived = malloc((size_t)n);
    bool ready = false;
    for (int32_t m = 0; arrived != NULL && m < n && !ready; m++) {
        memset(arrived, 1, (size_t)n);
        arrived[m] = 0;
        const cog_arrivals arrivals = {.n_messages = n, .n_arrived = n - 1, .arrived = arrived};
        ready = cog_code_ready(code, &arrivals);
    }
    free(arrived);
    cog_code_destroy(code);
    return !ready;
}

/* From its checkpoint; one that this run did not write is of another run. */
static const char *const *begin_again(void *user, const char *how) {
    launch *l = user;
    if (l->checkpoint == NULL) return NULL;
    const struct stat now = look_at(l->checkpoint), *then = &l->before;
    const bool is_ours = now.st_ino != then->st_ino || now.st_mtim.tv_sec != then->st_mtim.tv_sec ||
                         now.st_mtim.tv_nsec != then->st_mtim.tv_nsec;
    l->server[l->n_arguments] = is_ours ? "--resume" : NULL;
    l->server[l->n_arguments + 1] = l->folder;
    cog_complain(0, "the server %s; it is started anew, %s%s", how,
                 is_ours ? "from its checkpoint" : "from the beginning",
                 waits_for_all(l->code, l->n_workers)
                     ? ""
                     : ". Rounds do not wait for all workers, so they will not repeat bit for bit");
    return l->server;
}

int cog_cmd_launch(int argc, char **argv) {
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        puts(usage);
        return cog_output_check();
    }
    static launch l; /* too large for a stack, one a process */
    static cog_crew crew;
    char workers[16];
    int status = read_arguments(argc, argv, &l);
    if (status == 0) status = make_meeting_place(&l);
    snprintf(workers, sizeof(workers), "%d", l.n_workers);
    if (status == 0) status = make_server(argc, argv, workers, &l);
    if (status == 0) status = find_checkpoint(argc, argv, &l);
    if (status != 0) return status;
    const char *const worker[] = {"cograd",    "worker", "--connect", l.address, "--token",
                                  l.token,     "--rank", "",          "--jobs",  "0",
                                  "--silence", "5",      NULL};
    crew = (cog_crew){.server_argv = l.server,
                      .server_again = begin_again,
                      .user = &l,
                      .worker_argv = worker,
                      .n_workers = l.n_workers,
                      .restart = l.restart,
                      .absent = l.absent};
    status = cog_crew_run(&crew);
    free(l.checkpoint);
    return status;
}
