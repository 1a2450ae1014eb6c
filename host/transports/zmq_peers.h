/* zmq_peers.h - the server's side of connections: who is who, who comes and goes, what they say. */
#ifndef COG_HOST_TRANSPORTS_ZMQ_PEERS_H
#define COG_HOST_TRANSPORTS_ZMQ_PEERS_H

#include "zmq_ends.h"

typedef enum cog_zmq_presence { COG_ZMQ_ABSENT, COG_ZMQ_GREETED, COG_ZMQ_PRESENT } cog_zmq_presence;

typedef struct cog_zmq_peer {
    cog_zmq_presence presence;
    bool leaving;      /* its connection has ended; what it had sent comes first */
    bool untold;       /* the engine believes it to be there, and it is not */
    cog_zmq_id id;     /* of its connection */
    int fd;            /* likewise */
    uint64_t n_frames; /* that it has sent */
} cog_zmq_peer;

typedef struct cog_zmq_hub {
    cog_zmq_keys keys;
    cog_zmq_wire wire;
    cog_parcel_pool pool;
    cog_parcel *borrowed; /* what the last receive handed out */
    cog_zmq_peer *peers;  /* [n_workers] */
    int n_workers;
    int64_t n_counted; /* refused frames that the engine was told of */
    bool running;
    bool starting; /* workers that come or go now are no news to the engine */
    bool closing;  /* newcomers get no answer: their HELLO will reach the next start */
    double started;
} cog_zmq_hub;

/* How many workers are so. */
int cog_zmq_count(const cog_zmq_hub *s, cog_zmq_presence which);

/* Read who has gone. Descriptors are used again, so that comes before whatever a new connection
 * says. */
void cog_zmq_note_ended(cog_zmq_hub *s);

void cog_zmq_remove(cog_zmq_hub *s, cog_zmq_peer *p);

/* A frame between the ends of the transport, with a sentence. */
cog_status cog_zmq_tell(cog_zmq_hub *s, const cog_zmq_id *to, int kind, int rank, int64_t round,
                        uint16_t mode, const char *text);

/* One message, if *any is there: greetings are answered, *out is a frame for the engine, if it was
 * one. */
cog_status cog_zmq_take_message(cog_transport *transport, cog_parcel **out, bool *any);

/* When nothing more has come: a loss that the engine was not told yet, into *out. */
cog_status cog_zmq_take_loss(cog_zmq_hub *s, cog_parcel **out);

#endif
