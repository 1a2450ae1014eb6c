/* ranks.c - who this process is, and the workers that nobody else starts. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ranks.h"
#include "transport.h"

static int self;
static const char *transport; /* under test */
static char address[64];      /* "" under mpirun */
static pid_t workers[N_WORKERS];

int ranks_self(void) { return self; }

bool ranks_can_reduce(void) { return strcmp(transport, "zmq") != 0; }

bool ranks_have_ring(void) { return strcmp(transport, "mpi") == 0; }

const char *ranks_spec(const char *keys) {
    static char spec[200];
    const char *comma = keys[0] != '\0' ? "," : "";
    if (strcmp(transport, "mpi") == 0)
        snprintf(spec, sizeof(spec), "mpi%s%s", keys[0] != '\0' ? ":" : "", keys);
    else if (strcmp(transport, "nccl") == 0)
        snprintf(spec, sizeof(spec), "nccl:meet=%s,rank=%d%s%s", address, self, comma, keys);
    else
        snprintf(spec, sizeof(spec), "zmq:%s=%s,silence=10,rank=%d%s%s",
                 self == 0 ? "bind" : "connect", address, self, comma, keys);
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
    snprintf(address, sizeof(address), "%s/tmp/cograd-ranks-%d",
             strcmp(transport, "zmq") == 0 ? "ipc://" : "", (int)parent);
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

/* In a process of its own: what has used CUDA cannot be forked. A fourth of the tests is none. */
static void need_gpus(void) {
    const char *required = getenv("COG_REQUIRE_GPU"), *share = getenv("COG_TEST_SHARE");
    const pid_t child = fork();
    int status = 1;
    if (child == 0) {
        cog_transport *t = NULL;
        const cog_status opened = cog_transport_create("nccl", N_WORKERS, &t);
        if (opened != COG_OK) fprintf(stderr, "%s\n", cog_last_error());
        cog_transport_destroy(t);
        _exit(opened != COG_OK);
    }
    waitpid(child, &status, 0);
    if (status != 0) exit(required != NULL && atoi(required) > N_WORKERS ? 1 : 77);
    if (share != NULL && atoi(share) > 1) exit(77);
}

void ranks_begin(int argc, char **argv) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    transport = argc > 1 ? argv[1] : "";
    if (strcmp(transport, "nccl") == 0) need_gpus();
    if (strcmp(transport, "zmq") == 0 || strcmp(transport, "nccl") == 0)
        start_workers();
    else if (strcmp(transport, "mpi") == 0 && rank != NULL)
        self = atoi(rank);
    else {
        fprintf(stderr, "usage: mpirun -n %d PROGRAM mpi | PROGRAM zmq | PROGRAM nccl\n",
                N_WORKERS + 1);
        exit(2);
    }
}
