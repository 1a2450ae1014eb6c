/* server.h - rank 0: ask, wait for enough, decode, update. */
#ifndef COG_HOST_SERVER_H
#define COG_HOST_SERVER_H

#include "cograd/engine.h"
#include "channel.h"
#include "checkpoint.h"
#include "code.h"
#include "downlink.h"
#include "faults.h"
#include "history.h"
#include "sums.h"
#include "transport.h"

typedef struct cog_server {
    cog_transport *transport;
    const cog_code *code;
    cog_device *device;
    cog_replica *replica;
    cog_downlink *downlink;
    cog_channel **channel; /* [n_messages] receiving ends */
    double timeout;        /* seconds */
    int64_t staleness;     /* rounds */
    int64_t round;
    bool asked;               /* the idle workers, for this round */
    bool (*stop)(void *user); /* may be NULL: a wait ends when it says so */
    void *stop_user;
    bool stopped;             /* it did */
    const cog_faults *faults; /* the caller's, NULL without */
    cog_report report;

    /* what has come since the last update */
    cog_arrivals arrivals;
    uint8_t *arrived; /* [n_messages] */
    uint8_t *held;    /* [n_messages] */
    int32_t *age;     /* [n_messages] */

    /* per worker */
    int32_t *awaited;   /* [n_workers] messages it still owes; all-reduce: 1 until it is done */
    int64_t *answers;   /* [n_workers] the round it was asked for */
    uint16_t *request;  /* [n_workers] number of what it was asked last */
    uint64_t *due;      /* [n_workers] bit i: message i of its answer has not come */
    int64_t *version;   /* [n_workers] of its parameters; -1: those were replaced since */
    uint64_t *accepted; /* [n_workers] bit i: message i of its last answer was used */
    uint64_t *told;     /* [n_workers] of them, what its last request says of the answer before */
    int32_t *idle;      /* [n_workers] those to ask, in the order in which they became idle */
    int32_t n_idle;
    int32_t *missing; /* [n_workers] messages that will not come this round; arrivals.n_missing */

    /* where workers can vanish: server_fate.c */
    uint8_t *gone; /* [n_workers] */
    int32_t n_gone;
    uint8_t *renewed;   /* [n_messages] its sender began anew, its channel here did not yet */
    uint8_t *may_come;  /* [n_messages] scratch */
    char *channel_spec; /* to begin channels anew */
    char hopeless[640]; /* why those who are left cannot end a round; "" when they can */

    /* checkpoints: server_save.c */
    int32_t *resting;  /* [n_workers] frames of its state that a worker still owes */
    int32_t n_resting; /* workers that owe some */
    int64_t n_rests;
    void *resumed;        /* the file this run goes on from, as long as workers need it */
    size_t resumed_at;    /* where the last worker's part of it was found */
    uint8_t *to_restore;  /* [n_workers] it has not got its state yet */
    int32_t n_to_restore; /* of them */

    /* server_history.c */
    FILE *record;                    /* the caller's, or NULL: what is taken is written there */
    struct cog_retelling *retelling; /* NULL unless a history is replayed */

    cog_decoding decoding;
    int32_t *order;            /* [max terms] decoding terms sorted by message */
    int32_t *first;            /* [n_messages + 1] of a message in `order` */
    cog_update update;         /* what the messages of the round are used for */
    cog_sums *sums;            /* decodes them together; NULL: each by itself */
    const cog_update *applied; /* the update, or what the sums made of it */
} cog_server;

/* transport, code, device, timeout, staleness, stop and faults are set by the caller, and stay its
 * own; so do replica and downlink, which are set before the first round. */
cog_status cog_server_open(cog_server *s, const char *channel, int64_t block_len);
void cog_server_close(cog_server *s); /* accepts a zeroed or half-open struct */

/* One update through the star: messages to this server. A round that failed may be tried again: it
 * goes on with what has arrived. */
cog_status cog_server_round(cog_server *s);

/* Rounds up to `until` among the workers alone; their parameters end up in s->replica. */
cog_status cog_server_reduced_rounds(cog_server *s, int64_t until);

/* The parameters were set from outside: every worker gets all of them, and nothing that was
 * computed at the old ones is used any more. */
void cog_server_forget(cog_server *s);

/* Is this part of an answer that was asked for, and the first of its kind? */
bool cog_server_expects(const cog_server *s, const cog_frame_header *header);

/* What has arrived for the round under way counts as never sent. */
void cog_server_abandon_round(cog_server *s);

/* ---- server_save.c: checkpoints -------------------------------------------------------------- */

/* Everybody comes to rest: answers under way are dropped as they arrive, and all workers are idle
 * and have settled their channels. What they and this server know goes to `out`; NULL: nowhere.
 * ERR_TIMEOUT when a worker says nothing; the run can go on then. */
cog_status cog_server_save(cog_server *s, cog_checkpoint *out);

/* Into a server that has asked nobody yet, of a run like the one that was saved. `file` was checked
 * and is the server's from now on, whatever comes of it. */
cog_status cog_server_load(cog_server *s, void *file, int64_t round);

/* Before a worker is asked for the first time: have it know what it knew. */
cog_status cog_server_restore(cog_server *s, int worker);

/* ---- server_history.c: recording and replaying ----------------------------------------------- */

/* From the first round on, messages are taken as this history says. It is the server's then. */
cog_status cog_server_begin_replay(cog_server *s, cog_history *history);
void cog_server_end_replay(cog_server *s);

/* What a round takes next; around every round; and what was taken: kinds of history.h, of which
 * 'e' and 's' come without a frame. */
cog_status cog_server_next(cog_server *s, double timeout, cog_frame *out);
cog_status cog_server_begin_round(cog_server *s);
/* In a replay: a frame that came and will not be taken any more; false without. */
bool cog_server_take_early(cog_server *s, cog_frame *out);
cog_status cog_server_end_round(cog_server *s);
void cog_server_note(cog_server *s, char kind, const cog_frame_header *header);

/* ---- server_wait.c --------------------------------------------------------------------------- */

/* The transport's receive; ERR_TIMEOUT also, and s->stopped, when the caller wants to stop. */
cog_status cog_server_receive(cog_server *s, double timeout, cog_frame *out);

/* ---- server_fate.c: workers that vanish and come back ---------------------------------------- */

/* So many more messages of this worker will not come this round. */
void cog_server_miss(cog_server *s, int worker, int32_t count);

/* The round has ended: those who are gone miss the next one too. */
void cog_server_miss_next(cog_server *s);

/* LOST: what the worker owed counts as missing, and it is not asked any more. */
cog_status cog_server_lose(cog_server *s, const cog_frame *frame);

/* JOIN: it owes nothing and knows nothing. Whether it is idle or asked is the caller's to say. */
cog_status cog_server_admit(cog_server *s, int worker);

/* ERR_TRANSPORT when those who are left cannot end a round and nobody else is awaited. */
cog_status cog_server_check_hope(const cog_server *s);

/* Before a message is received: begin the channel anew if its sender did. */
cog_status cog_server_renew_channel(cog_server *s, int message);

#endif
