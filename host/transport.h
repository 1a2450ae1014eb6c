/* transport.h - what a transport provides: frames between a server and its workers.
 *
 * The server (rank 0) asks with `receive` for the next frame from anybody; coded rounds need no
 * other ordering, but frames of one sender stay in order. Workers (ranks 1 .. n_workers) are
 * driven: the transport calls `handle` with every frame that arrives for a worker, one at a time
 * per worker, and the worker answers by calling `send`. So the same worker runs on a thread of its
 * own, in a process of its own, or in virtual time with thousands of others on one thread.
 *
 * Where ranks are processes, `self` is the rank of this one: the server's process has no workers,
 * and a worker's process hands itself over to `serve`. There a worker can vanish and come back; the
 * server learns of it as of everything else, from receive: LOST and JOIN.
 */
#ifndef COG_HOST_TRANSPORT_H
#define COG_HOST_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spec.h"

enum { COG_FRAME_MAGIC = 0x31474f43, COG_FRAME_VERSION = 1 }; /* "COG1" */

typedef enum cog_frame_kind {
    COG_FRAME_PARAMS = 1, /* server to worker: parameters or their update; compute and answer */
    COG_FRAME_MESSAGE,    /* worker to server: one coded message */
    COG_FRAME_DECLINE,    /* worker to server: no message of this worker comes this round */
    COG_FRAME_RUN,        /* server to worker: all-reduce rounds up to `round` */
    COG_FRAME_DONE,       /* worker to server: they are made; rank 1 sends its parameters along */
    COG_FRAME_REDUCED,    /* transport to worker: the all-reduce it asked for is done */
    COG_FRAME_FAULT,      /* worker to server: it failed; the payload is the sentence */
    /* Transport to server, about rank `source`. */
    COG_FRAME_LOST, /* it is gone with all it owed; the payload says why, as an end of a sentence */
    COG_FRAME_JOIN, /* it is there, anew: it knows nothing but its initial parameters */
    /* Checkpoints; free in virtual time, and not in the byte counts of a run. */
    COG_FRAME_SAVE,  /* server to worker: settle by `accepted` what answers request `message`, as
                        unused anything else, then send your state; mode 1: and the replica; round:
                        number of this rest */
    COG_FRAME_STATE, /* worker to server: of the channel of `message`; at last, with message -1, the
                        replica or nothing. mode: version of its parameters, modulo 2^16; round:
                        number of the rest */
    COG_FRAME_LOAD, /* server to worker: what STATE brought; of the replica, its version is `round`.
                       message -2: begin anew, as one that knows nothing */
    /* Between the ends of a transport: the engine never sees those from here on. */
    COG_FRAME_PRIVATE,
    COG_FRAME_KINDS = COG_FRAME_PRIVATE + 8
} cog_frame_kind;

/* Fixed 48 bytes ahead of every payload, little endian. */
typedef struct cog_frame_header {
    uint32_t magic; /* COG_FRAME_MAGIC */
    uint8_t version;
    uint8_t kind; /* cog_frame_kind */
    /* In PARAMS and RUN: cog_downlink_mode. In MESSAGE and DECLINE: number of the request. */
    uint16_t mode;
    int64_t round;   /* of the parameters; a message carries that of the parameters it answers */
    int32_t message; /* row of the plan; in PARAMS: number of this request, modulo 2^16 */
    int32_t source;  /* rank */
    uint64_t bytes;  /* payload that follows */
    /* In PARAMS and SAVE: bit i is set when message i of the worker's last answer was used. Of a
     * worker's frames on their way: a transport's own, which may number them. */
    uint64_t accepted;
    uint64_t checksum; /* where strangers may write: frame.h; elsewhere a transport's own */
} cog_frame_header;

_Static_assert(sizeof(cog_frame_header) == 48, "the frame header is a wire format");

/* A frame that arrived. The payload is borrowed until the next receive, or until handle returns. */
typedef struct cog_frame {
    cog_frame_header header;
    const void *payload;
} cog_frame;

/* What may come to a frame on a wire, on purpose: faults.h. */
typedef enum cog_damage { COG_WHOLE, COG_CORRUPT, COG_HALF, COG_OTHER_VERSION } cog_damage;

typedef struct cog_transport cog_transport;

typedef cog_status (*cog_handle_fn)(void *worker, const cog_frame *frame);

typedef struct cog_transport_ops {
    const char *name;
    const char *summary; /* one line for `cograd info` */

    cog_status (*open)(cog_transport *transport, cog_spec *spec);
    void (*close)(cog_transport *transport); /* workers are stopped first; half-open is fine */

    /* Begin to deliver frames to the workers; transport->handle and ->worker are set. */
    cog_status (*start)(cog_transport *transport);
    /* Deliver no more frames, wait for handlers under way, cut delays short. */
    void (*stop)(cog_transport *transport);

    /* (optional: where ranks are processes) In a worker's process, between start and stop: deliver
     * frames to it until the server stops. When the worker fails, the server is told, and this
     * returns the worker's status; ERR_TRANSPORT when the server is gone. */
    cog_status (*serve)(cog_transport *transport);

    /* Hand over one frame, from rank `from` to rank `to`. The payload may be reused on return; that
     * of an edition, after the next settle. */
    cog_status (*send)(cog_transport *transport, int from, int to, const cog_frame_header *header,
                       const void *payload);
    /* (optional: where frames are numbered and sealed bytes on a wire) Send a frame as none should
     * be: damaged, or as one more copy of the frame that `from` sent last. */
    cog_status (*send_badly)(cog_transport *transport, int from, int to,
                             const cog_frame_header *header, const void *payload, cog_damage damage,
                             bool again);
    /* Server: the next frame. ERR_TIMEOUT when nothing arrived for timeout seconds of the
     * transport's own time (virtual time: also, at once, when nothing is under way). When a handler
     * failed: its status and sentence, "worker 3: ...", once; that worker is gone. */
    cog_status (*receive)(cog_transport *transport, double timeout, cog_frame *out);

    /* Worker, inside handle: its work took this many floating-point operations and ran `factor`
     * times slower than it should, and `delay` seconds pass before anything that follows.
     * Virtual time charges flops / rate * factor + delay; real time sleeps for
     * (factor - 1) * time since the handler began, or the elapse before this one ended, + delay. */
    cog_status (*elapse)(cog_transport *transport, int rank, double flops, double factor,
                         double delay);

    /* Worker, inside handle: sum x [n], host memory, over all workers. Starts when the handler
     * returns; a REDUCED frame follows when x holds the sum on every worker. Every worker adds in
     * the same order: the results are equal bit for bit. bf16: every transfer is rounded to bf16,
     * so the sum is too. (optional) default is that codes which need it are refused. */
    cog_status (*allreduce)(cog_transport *transport, int rank, float *x, int64_t n, bool bf16);

    /* Seconds since start, virtual or real. Server only. */
    double (*now)(cog_transport *transport);

    /* Server, before what it sent in an edition may change: what workers have not taken from there
     * is copied. (optional) default is that `send` copies everything. */
    cog_status (*settle)(cog_transport *transport);
} cog_transport_ops;

struct cog_transport {
    const cog_transport_ops *ops;
    int n_workers;
    int self;            /* the rank this process plays; -1: all of them. Set by open */
    bool is_virtual;     /* time passes only where receive says so. Set by open */
    bool awaits_joiners; /* a round that lacks lost workers waits for new ones. Set by open */
    bool gpu_a_rank;     /* rank r has GPU r: that of its device cuda, unless told. Set by open */
    size_t max_payload;  /* no frame is larger */
    cog_handle_fn handle;
    void **worker; /* [n_workers] first argument of handle; worker i has rank i + 1. In a worker's
                      process its own entry is enough, in the server's none is needed */
    /* Headers included; of an all-reduce the payload alone. The server's thread may read them. */
    int64_t bytes_up;       /* frames the server received, and the reduce half of all-reduces */
    int64_t bytes_down;     /* frames sent to workers, and the gather half of all-reduces */
    int64_t frames_refused; /* dropped: of strangers, damaged, or second copies */
    /* What a worker that comes from outside is told: the server's to set before start (borrowed,
     * may be NULL); in such a worker's process, what it was told. */
    const char *settings;
    /* The server's, around a send: payloads sent in the same edition from the same address are the
     * same bytes, which then need not be compared. 0, as a rule: nobody knows. */
    int64_t edition;
    double begin; /* virtual time: where it starts, 0 but when a run is resumed */
    void *state;
};

/* max_payload, handle and worker are the caller's to set between create and start. */
cog_status cog_transport_create(const char *spec, int n_workers, cog_transport **out);
void cog_transport_destroy(cog_transport *transport); /* accepts NULL; stops and closes */

/* A header with the fixed fields filled in. */
static inline cog_frame_header cog_frame_make(cog_frame_kind kind, int source, int64_t round) {
    return (cog_frame_header){.magic = COG_FRAME_MAGIC,
                              .version = COG_FRAME_VERSION,
                              .kind = (uint8_t)kind,
                              .round = round,
                              .source = source};
}

/* What every transport does alike. */

/* ERR_ARGUMENT unless the frame may travel: between the server and a worker, with a proper header
 * that names its sender, and no larger than max_payload. */
cog_status cog_transport_check(const cog_transport *transport, int from, int to,
                               const cog_frame_header *header, const void *payload);

/* ERR_ARGUMENT unless the caller of create has filled in what `start` needs. */
cog_status cog_transport_check_start(const cog_transport *transport);

/* ERR_ARGUMENT for a negative or infinite cost. */
cog_status cog_transport_check_elapse(double flops, double factor, double delay);

/* Bytes of one frame on the wire. */
static inline int64_t cog_frame_bytes(const cog_frame_header *header) {
    return (int64_t)(sizeof(cog_frame_header) + header->bytes);
}

/* Does it cost no virtual time? */
static inline bool cog_frame_is_free(const cog_frame_header *header) {
    return header->kind >= COG_FRAME_SAVE && header->kind <= COG_FRAME_LOAD;
}

/* Who may send such a frame over a wire: a worker, or the server to one. The rest is made by
 * transports. */
static inline bool cog_frame_is_from_worker(const cog_frame_header *header) {
    const int kind = header->kind;
    return kind == COG_FRAME_MESSAGE || kind == COG_FRAME_DECLINE || kind == COG_FRAME_DONE ||
           kind == COG_FRAME_FAULT || kind == COG_FRAME_STATE;
}
static inline bool cog_frame_is_for_worker(const cog_frame_header *header) {
    const int kind = header->kind;
    return kind == COG_FRAME_PARAMS || kind == COG_FRAME_RUN || kind == COG_FRAME_SAVE ||
           kind == COG_FRAME_LOAD;
}

/* Those that virtual time charges for: the parameters in a DONE frame are for the server to look
 * at and no part of the all-reduce, so looking often must not make it slow. */
static inline int64_t cog_frame_timed_bytes(const cog_frame_header *header) {
    if (cog_frame_is_free(header)) return 0;
    return header->kind == COG_FRAME_DONE ? (int64_t)sizeof(*header) : cog_frame_bytes(header);
}

/* A failed worker tells the server: `message` is its status and the payload the sentence. Here it
 * becomes the server's error again. */
cog_status cog_frame_fault_status(const cog_frame *frame);

#endif
