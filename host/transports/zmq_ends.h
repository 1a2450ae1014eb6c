/* zmq_ends.h - the two ends of the transport 'zmq': one or the other lives in a process. */
#ifndef COG_HOST_TRANSPORTS_ZMQ_ENDS_H
#define COG_HOST_TRANSPORTS_ZMQ_ENDS_H

#include "zmq_wire.h"

/* What the spec says. */
typedef struct cog_zmq_keys {
    char address[256];
    int absent;   /* descriptor of a file, or -1 */
    uint64_t key; /* of the job: that of its token */
    cog_zmq_curve curve;
    double silence;  /* seconds */
    double patience; /* seconds */
    bool rejoin;
    int rank; /* wanted; 0: any */
} cog_zmq_keys;

/* Is it known that this worker will not come? */
bool cog_zmq_is_absent(const cog_zmq_keys *keys, int worker);
void cog_zmq_keys_close(cog_zmq_keys *keys); /* a server's */

extern const cog_transport_ops cog_zmq_server, cog_zmq_worker;

/* transport->ops is the table above; its state is made here, and freed by its close. The worker's
 * waits for the server's welcome. */
cog_status cog_zmq_server_open(cog_transport *transport, const cog_zmq_keys *keys);
cog_status cog_zmq_worker_open(cog_transport *transport, const cog_zmq_keys *keys);

#endif
