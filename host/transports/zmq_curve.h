/* zmq_curve.h - CURVE: nobody reads a wire, or writes on it, who has not been given a key.
 *
 * The server has a secret key in a file of its own, FILE; workers are given the public one that
 * belongs to it, FILE.pub. A worker makes keys for itself, new ones for each connection, so whoever
 * has the public key may come: it is for workers only. Encryption and handshake are ZeroMQ's
 * (CurveZMQ). */
#ifndef COG_HOST_TRANSPORTS_ZMQ_CURVE_H
#define COG_HOST_TRANSPORTS_ZMQ_CURVE_H

#include <stdbool.h>

#include "cograd/status.h"

enum { COG_ZMQ_KEY_CHARS = 40, COG_ZMQ_CURVE_BYTES = 64 };

typedef struct cog_zmq_curve {
    bool on;
    bool is_server;
    char key[COG_ZMQ_KEY_CHARS + 1]; /* server: the secret one; worker: the server's public one */
} cog_zmq_curve;

/* The server's secret key, or, for a worker, the server's public one. A server's files are made
 * when they are not there yet.
 * ERR_UNSUPPORTED   this ZeroMQ has no CURVE
 * ERR_IO            a file cannot be read or made
 * ERR_FORMAT        it holds no such key, or the two files do not belong together
 * ERR_ARGUMENT      others may read the secret one */
cog_status cog_zmq_curve_read(const char *path, bool is_server, cog_zmq_curve *out);

/* Before bind or connect; nothing when it is not on. False: zmq_errno() says why not. */
bool cog_zmq_curve_apply(void *socket, const cog_zmq_curve *curve);

#endif
