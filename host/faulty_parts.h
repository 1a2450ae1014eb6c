/* faulty_parts.h - what faulty.c, the server's side, and faulty_worker.c share. */
#ifndef COG_HOST_FAULTY_PARTS_H
#define COG_HOST_FAULTY_PARTS_H

#include <stdatomic.h>

#include "faulty.h"

enum { COG_FAULTY_ENVELOPE = COG_FRAME_PRIVATE + 7 };

/* A frame that is kept. */
typedef struct cog_held {
    struct cog_held *next;
    bool is_ripe; /* it is next */
    int64_t past; /* a frame of a later round makes it so; -1: any frame does */
    cog_frame frame;
    _Alignas(16) unsigned char payload[];
} cog_held;

/* A worker as this file sees it. */
typedef struct cog_patient {
    cog_faulty *faulty;
    void *worker; /* handle's */
    int rank;
    int64_t round; /* it was asked for last */
    uint64_t life; /* how often it began */
    int64_t since; /* round of its first request in this life; -1: none came */
    cog_struck struck;
    bool is_still;       /* for good */
    bool is_dying;       /* at the end of this request */
    double back;         /* then */
    int n_sent;          /* frames of this answer */
    cog_held *late_copy; /* of its last answer */
} cog_patient;

struct cog_faulty {
    cog_transport_ops ops; /* the transport's, while it is wrapped; first: it leads here */
    const cog_transport_ops *inner;
    cog_transport *transport;
    const cog_faults *faults;
    bool in_process;
    cog_handle_fn handle; /* the caller's, and its workers */
    void **worker;
    cog_patient *patients; /* [n_workers] */
    void **pointers;       /* [n_workers] to them */
    /* the server's */
    uint64_t *life;     /* [n_workers] as it knows them */
    cog_struck *struck; /* [n_workers] */
    cog_held *waiting;  /* in the order in which they came */
    cog_held *given;    /* handed out last */
    atomic_llong n_refused;
};

cog_status cog_held_keep(const cog_frame_header *header, const void *payload, cog_held **out);
void cog_held_free(cog_held *first); /* and all behind it; accepts NULL */

cog_damage cog_faulty_damage_of(cog_fault_kind kind);

/* As a transport's send_badly; where there is none, in an envelope of bytes. */
cog_status cog_faulty_send_badly(cog_faulty *faulty, int from, int to,
                                 const cog_frame_header *header, const void *payload,
                                 cog_damage damage, bool again);

/* The frame in an envelope, if its bytes are one; else it is refused. */
bool cog_faulty_open_envelope(cog_faulty *faulty, const cog_frame *envelope, cog_frame *out);

/* A cog_handle_fn, of a patient; and what its worker sends. */
cog_status cog_patient_handle(void *patient, const cog_frame *frame);
cog_status cog_patient_send(cog_patient *patient, const cog_frame_header *header,
                            const void *payload);

#endif
