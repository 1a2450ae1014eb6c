/* zmq_wire.h - frames over a ZeroMQ socket, and the news of its connections.
 *
 *     one multipart message   [identity of the peer: ROUTER only] [header] [payload, in chunks]
 *
 * The chunks are what keeps heartbeats alive under large payloads: a sign of life travels between
 * two parts, never inside one. All frames are sealed (frame.h). Used by one thread.
 */
#ifndef COG_HOST_TRANSPORTS_ZMQ_WIRE_H
#define COG_HOST_TRANSPORTS_ZMQ_WIRE_H

#include "../parcel.h"
#include "zmq_curve.h"

enum { COG_ZMQ_MAX_ID = 32, COG_ZMQ_MAX_GREETING = 4096, COG_ZMQ_MAX_SETTINGS = 65536 };

/* Kinds of frames that stay between the two ends. */
enum {
    COG_ZMQ_HELLO = COG_FRAME_PRIVATE, /* worker: here I am; message: the rank it wants, 0 any;
                                          payload: its version */
    COG_ZMQ_WELCOME, /* server: message: your rank, round: workers, payload: the job's settings */
    COG_ZMQ_REFUSED, /* server: payload: why; mode 1: asking again may help */
    COG_ZMQ_HERE,    /* worker: ready for frames */
    COG_ZMQ_STOP,    /* server: it is over */
    COG_ZMQ_BYE      /* worker: it has stopped */
};

/* A connection as the ROUTER names it. */
typedef struct cog_zmq_id {
    unsigned char bytes[COG_ZMQ_MAX_ID];
    size_t n;
} cog_zmq_id;

typedef struct cog_zmq_wire {
    void *context, *socket, *monitor;
    cog_parcel_pool *pool;
    uint64_t key; /* of the job */
    cog_zmq_curve curve;
    int64_t refused; /* messages that were no frames of this job; and handshakes */
    bool unshaken;   /* a handshake failed, and would again */
    int n_cuts;      /* handshakes that the other end broke off */
    char file[108];  /* at which it listens; "" where that is no file */
} cog_zmq_wire;

/* The keys, and the pool's address, are set before. `type` is that of the socket; a peer that shows
 * no sign of life for `silence` seconds is given up. */
cog_status cog_zmq_open(cog_zmq_wire *wire, int type, double silence);
void cog_zmq_close(cog_zmq_wire *wire); /* accepts zeros; what was not yet sent is dropped */

cog_status cog_zmq_bind(cog_zmq_wire *wire, const char *address);
cog_status cog_zmq_connect(cog_zmq_wire *wire, const char *address);

/* Send a frame; NULL for `to` where there is one peer. The payload is copied. *reached: the peer
 * was connected. */
cog_status cog_zmq_send(cog_zmq_wire *wire, const cog_zmq_id *to, const cog_frame_header *header,
                        const void *payload, bool *reached);

/* The same, damaged on purpose. */
cog_status cog_zmq_send_badly(cog_zmq_wire *wire, const cog_zmq_id *to,
                              const cog_frame_header *header, const void *payload,
                              cog_damage damage);

/* What is known of a message besides its frame. */
typedef struct cog_zmq_about {
    int fd;        /* descriptor of its connection; -1 when it has ended since */
    bool is_frame; /* it began like one */
} cog_zmq_about;

/* A ROUTER's message that is there: begin tells who it is from, then finish reads it. No payload
 * above `limit` is accepted. *out stays NULL when the message is none of this job: it is gone,
 * counted, and described by cog_last_error(). */
bool cog_zmq_begin(cog_zmq_wire *wire, cog_zmq_id *from);
cog_status cog_zmq_finish(cog_zmq_wire *wire, size_t limit, cog_parcel **out, cog_zmq_about *about);

/* For a DEALER, which has one peer: both at once; *there is false when nothing has come. */
cog_status cog_zmq_next(cog_zmq_wire *wire, size_t limit, cog_parcel **out, bool *there);

/* The descriptor of a connection that ended; -1 when there is no such news. */
int cog_zmq_ended(cog_zmq_wire *wire);

/* Wait for a message or news, so many seconds at most. False when a signal came instead. */
bool cog_zmq_wait(cog_zmq_wire *wire, double seconds);

#endif
