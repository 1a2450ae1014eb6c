/* ranks.c - who this process is, and the workers that nobody else starts. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ranks.h"

static int self;
static char address[64]; /* "" under mpirun */
static pid_t workers[N_WORKERS];

int ranks_self(void) { return self; }

bool ranks_can_reduce(void) { return address[0] == '\0'; }

const char *ranks_spec(const char *keys) {
    static char spec[200];
    if (address[0] == '\0')
        snprintf(spec, sizeof(spec), "mpi%s%s", keys[0] != '\0' ? ":" : "", keys);
    else
        snprintf(spec, sizeof(spec), "zmq:%s=%s,silence=10,rank=%d%s%s",
                 self == 0 ? "bind" : "connect", address, self, keys[0] != '\0' ? "," : "", keys);
    return spec;
}

/* When the server has passed all tests, so have its workers. */
static void wait_for_workers(int exit_status, void *unused) {
    (void)unused;
    for (int i = 0; i < N_WORKERS; i++) {
        int status;
        if (workers[i] <= 0) continue;
        if (exit_status != 0) kill(workers[i], SIGKILL);
        if (waitpid(workers[i], &status, 0) != workers[i] || (status != 0 && exit_status == 0)) {
            fprintf(stderr, "worker %d ended with status %d\n", i, status);
            _exit(1);
        }
    }
}

static void start_workers(void) {
    const pid_t parent = getpid();
    snprintf(address, sizeof(address), "ipc:///tmp/cograd-ranks-%d", (int)parent);
    for (int i = 0; i < N_WORKERS; i++) {
        const pid_t child = fork();
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent) _exit(1);
            memset(workers, 0, sizeof(workers));
            self = i + 1;
            return;
        }
        workers[i] = child;
    }
    on_exit(wait_for_workers, NULL);
}

void ranks_begin(int argc, char **argv) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (argc > 1 && strcmp(argv[1], "zmq") == 0)
        start_workers();
    else if (argc > 1 && strcmp(argv[1], "mpi") == 0 && rank != NULL)
        self = atoi(rank);
    else {
        fprintf(stderr, "usage: mpirun -n %d PROGRAM mpi | PROGRAM zmq\n", N_WORKERS + 1);
        exit(2);
    }
}
