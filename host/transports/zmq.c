/* zmq.c - processes that come and go, over tcp:// and ipc://: ZeroMQ, ROUTER and DEALER.
 *
 *   bind=ADDRESS       this process is the server, and listens there
 *   connect=ADDRESS    this process is a worker of the server there
 *   token=FILE         both ends hold the same secret. It keeps other jobs and strays out; it is
 *                      no encryption, and no defence against somebody who reads the wire
 *   curve=FILE         all that travels is encrypted (zmq_curve.h). The server's FILE is its secret
 *                      key, made together with FILE.pub when there is none; a worker's is FILE.pub.
 *                      To listen beyond this machine needs a token or this
 *   silence=1          seconds without a sign of life after which a peer is gone
 *   patience=60        seconds the server waits for its workers at the start, and a worker for its
 *                      server
 *   absent=FILE        who starts the workers writes there who will not come: byte i is not 0 for
 *                      worker i. The server does not wait for those at the start
 *   rejoin=0           1: a round that lacks workers who are gone waits for new ones
 *   rank=0             of a worker: the rank it would like; 0: any
 *
 *     worker                              server
 *       HELLO, again and again  ------->    a rank that is free
 *       builds what it needs    <-------    WELCOME: rank, settings of the job
 *       HERE                    ------->    counted as there; a JOIN once the run has begun
 *       frames                  <------>    frames
 *       BYE                     <------>    STOP
 *
 * Signs of life are exchanged by ZeroMQ's own threads, so a worker that computes is alive, and one
 * that is frozen is not. A connection that ends is a worker that is gone: LOST, after the frames it
 * had sent. It may come back as a new one. Frames of unknown connections, damaged ones and second
 * copies are dropped and counted. Each end has a file: zmq_server.c, zmq_worker.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../check.h"
#include "../frame.h"
#include "zmq_ends.h"

#define DEFAULT_ADDRESS "tcp://127.0.0.1:5600"

static cog_status read_token(const char *path, uint64_t *key) {
    char token[1024];
    FILE *file = fopen(path, "r");
    COG_CHECK(file != NULL, COG_ERR_IO, "cannot read the token '%s': %s", path, strerror(errno));
    size_t n = fread(token, 1, sizeof(token) - 1, file);
    fclose(file);
    while (n > 0 && strchr(" \t\r\n", token[n - 1]) != NULL) n--;
    token[n] = '\0';
    COG_CHECK(n >= 8 && strlen(token) == n, COG_ERR_FORMAT,
              "the token '%s' must be a text of 8 to 1023 characters", path);
    *key = cog_frame_key(token);
    return COG_OK;
}

/* ZeroMQ takes 99999 for another port, and 0 for one that nobody knows. */
static cog_status check_address(const char *address) {
    static const char tcp[] = "tcp://", ipc[] = "ipc://";
    const bool is_tcp = strncmp(address, tcp, strlen(tcp)) == 0;
    COG_CHECK(is_tcp || strncmp(address, ipc, strlen(ipc)) == 0, COG_ERR_SPEC,
              "'%s' is neither tcp://HOST:PORT nor ipc://PATH", address);
    const char *port = strrchr(address, ':') + 1;
    char *end = NULL;
    const long number = *port >= '0' && *port <= '9' ? strtol(port, &end, 10) : 0;
    COG_CHECK(!is_tcp || (number >= 1 && number <= 65535 && *end == '\0'), COG_ERR_SPEC,
              "'%s' does not end in a port, :1 to :65535", address);
    return COG_OK;
}

static bool stays_here(const char *address) {
    static const char *const local[] = {"ipc://", "tcp://127.", "tcp://localhost:", "tcp://[::1]:"};
    for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
        if (strncmp(address, local[i], strlen(local[i])) == 0) return true;
    return false;
}

bool cog_zmq_is_absent(const cog_zmq_keys *keys, int worker) {
    char mark = 0;
    return keys->absent >= 0 && pread(keys->absent, &mark, 1, worker) == 1 && mark != 0;
}

void cog_zmq_keys_close(cog_zmq_keys *keys) {
    if (keys->absent >= 0) close(keys->absent);
    keys->absent = -1;
}

static cog_status read_keys(cog_spec *spec, cog_zmq_keys *keys, const char **absent,
                            bool *is_worker) {
    const char *bind, *connect, *token, *curve;
    int64_t rank;
    COG_TRY(cog_spec_text(spec, "bind", DEFAULT_ADDRESS, &bind));
    COG_TRY(cog_spec_text(spec, "connect", "none", &connect));
    COG_TRY(cog_spec_text(spec, "token", "none", &token));
    COG_TRY(cog_spec_text(spec, "curve", "none", &curve));
    COG_TRY(cog_spec_real(spec, "silence", 1, 0.05, 3600, &keys->silence));
    COG_TRY(cog_spec_real(spec, "patience", 60, 0, 1e6, &keys->patience));
    COG_TRY(cog_spec_text(spec, "absent", "none", absent));
    COG_TRY(cog_spec_flag(spec, "rejoin", false, &keys->rejoin));
    COG_TRY(cog_spec_int(spec, "rank", 0, 0, 1000000, &rank));
    keys->rank = (int)rank;
    *is_worker = strcmp(connect, "none") != 0;
    snprintf(keys->address, sizeof(keys->address), "%s", *is_worker ? connect : bind);
    COG_TRY(cog_spec_finish(spec)); /* before a key is made or anybody is called: typos end here */
    COG_TRY(check_address(keys->address));
    const bool has_token = strcmp(token, "none") != 0, has_curve = strcmp(curve, "none") != 0;
    COG_CHECK(*is_worker || has_token || has_curve || stays_here(bind), COG_ERR_ARGUMENT,
              "to listen at '%s', beyond this machine, needs a token, token=FILE, or encryption, "
              "curve=FILE",
              bind);
    if (has_token) COG_TRY(read_token(token, &keys->key));
    return has_curve ? cog_zmq_curve_read(curve, !*is_worker, &keys->curve) : COG_OK;
}

static cog_status open_zmq(cog_transport *transport, cog_spec *spec) {
    cog_zmq_keys keys = {.absent = -1};
    const char *absent;
    bool is_worker;
    COG_TRY(read_keys(spec, &keys, &absent, &is_worker));
    if (!is_worker && strcmp(absent, "none") != 0) {
        keys.absent = open(absent, O_RDONLY | O_CLOEXEC);
        COG_CHECK(keys.absent >= 0, COG_ERR_IO, "cannot read '%s': %s", absent, strerror(errno));
    }
    transport->ops = is_worker ? &cog_zmq_worker : &cog_zmq_server;
    return (is_worker ? cog_zmq_worker_open : cog_zmq_server_open)(transport, &keys);
}

static void close_nothing(cog_transport *transport) { (void)transport; }

/* Only until open has found out which end this is. */
const cog_transport_ops cog_transport_zmq = {
    .name = "zmq",
    .summary = "one process a rank, which may come and go, over tcp:// or ipc://",
    .open = open_zmq,
    .close = close_nothing,
};
