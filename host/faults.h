/* faults.h - faults to inject: which one strikes whom, in which round, at which point.
 *
 *     kill:worker=3,round=20,at=mid-send
 *     slow:probability=0.1,seconds=0.2+drop:probability=0.01,at=before-encode
 *
 * Faults are joined by '+', and each may have these keys:
 *
 *   worker=any         one worker, from 0; server at points of the server
 *   round=any          once, at the worker's first request of that round or a later one; of the
 *                      server: in that round
 *   probability=1      of each worker in each round that is left by these two
 *   seed=0             of that chance; 0: the seed of the run
 *   at=POINT           see below
 *   seconds=0.1        slow: so long. stop: so long, 0 (its default) is for good
 *   back=-1            kill, where workers are no processes: seconds until a new one is there; -1:
 *                      never
 *
 *                   before-encode      mid-send        after-send     during-decode  -checkpoint
 *   kill            the worker ...     half its frame  ... answered   the server     either
 *   stop, slow      the worker ...     leaves first    ... answered   the server     either
 *   drop            its request        its answer      -              -              -
 *   duplicate       its request        its answer      its answer,    -              -
 *                                                      a round late
 *   reorder         -                  the next frame  the next       -              -
 *                                      overtakes it    round does
 *   corrupt,        its request        its answer      a bad copy     -              the file,
 *   half-write,                                        follows                       once it is
 *   wrong-version                                                                    written
 *
 * At the points of a worker during-checkpoint is when it is asked for its state. Where workers are
 * threads or simulated, one that is killed leaves: the server is told that it is lost. Where they
 * are processes it is SIGKILL and SIGSTOP. The server is a process everywhere. Who begins anew is
 * not killed, stopped or slowed down again for a round that its predecessor lived to see, nor by
 * chance at its first request.
 *
 * A draw depends on (seed, which fault, worker, round) alone, so it is the same on every transport.
 */
#ifndef COG_HOST_FAULTS_H
#define COG_HOST_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "cograd/status.h"
#include "spec.h"

typedef enum cog_fault_kind {
    COG_FAULT_KILL,
    COG_FAULT_STOP,
    COG_FAULT_SLOW,
    COG_FAULT_DROP, /* from here on: of frames */
    COG_FAULT_DUPLICATE,
    COG_FAULT_REORDER,
    COG_FAULT_CORRUPT, /* from here on: of bytes */
    COG_FAULT_HALF_WRITE,
    COG_FAULT_WRONG_VERSION
} cog_fault_kind;

typedef enum cog_fault_point {
    COG_BEFORE_ENCODE,
    COG_MID_SEND,
    COG_AFTER_SEND,
    COG_DURING_DECODE,
    COG_DURING_CHECKPOINT
} cog_fault_point;

enum { COG_FAULT_ANY = -1, COG_FAULT_SERVER = -2, COG_MAX_FAULTS = 16 };

typedef struct cog_fault {
    cog_fault_kind kind;
    cog_fault_point point;
    int worker;    /* or COG_FAULT_ANY, COG_FAULT_SERVER */
    int64_t round; /* or COG_FAULT_ANY */
    double probability;
    uint64_t seed;
    double seconds;
    double back; /* negative: never */
} cog_fault;

typedef struct cog_faults {
    int n;
    cog_fault fault[COG_MAX_FAULTS];
} cog_faults;

/* "none" is no fault. ERR_SPEC for what cannot be, in a sentence. */
cog_status cog_faults_parse(const char *spec, int n_workers, uint64_t seed, cog_faults *out);

/* For listings: the name of kind i, NULL past the last, and its keys. */
const char *cog_faults_describe(int i, cog_spec *spec);

/* In which rounds the faults with a round have struck; -1: they have not yet. One for each worker
 * and each end of its link. */
typedef struct cog_struck {
    int64_t in[COG_MAX_FAULTS];
} cog_struck;

/* Where and to whom something may happen now. */
typedef struct cog_moment {
    cog_fault_point point;
    int worker; /* or COG_FAULT_SERVER */
    int64_t round;
    int64_t since;      /* round of the worker's first request since it began; -1: no matter */
    cog_struck *struck; /* NULL of the server, whose rounds all come */
} cog_moment;

void cog_struck_begin(cog_struck *struck);
/* The worker dies: what has struck does so no more. */
void cog_struck_end(cog_struck *struck);

static inline bool cog_fault_hits_process(cog_fault_kind kind) { return kind < COG_FAULT_DROP; }
static inline bool cog_fault_hits_bytes(cog_fault_kind kind) { return kind >= COG_FAULT_CORRUPT; }

/* Walk over the faults that strike: *at is 0 before the first; NULL after the last. */
const cog_fault *cog_faults_next(const cog_faults *faults, const cog_moment *moment, int *at);

/* The server's points, where it is the process that suffers; returns unless it is killed. */
void cog_faults_strike_server(const cog_faults *faults, cog_fault_point point, int64_t round);

/* This process dies, or is frozen for so many seconds; 0: until somebody else continues it. */
void cog_fault_kill(void);
void cog_fault_stop(double seconds);

#endif
