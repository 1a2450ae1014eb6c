/* nccl_end.h - one rank's end of an NCCL communicator: a stream, an event, and memory to stage in.
 *
 * Frames lie in host memory, and NCCL moves device memory: what leaves goes through `out` and
 * `gpu_out`, what comes through `gpu_in` and `in`. All of it is allocated once.
 *
 *     frame on the wire     COG_NCCL_FIRST bytes: the header, and as much of the payload as fits
 *                           the rest of the payload, if any, whose length the header tells
 *
 * A receiver has to know lengths in advance, and knows these. Communicators are non-blocking: a
 * call is under way until the communicator's state says that it is on the stream, and no other may
 * begin before. Whatever is waited for has a deadline, and can be called off.
 */
#ifndef COG_HOST_TRANSPORTS_NCCL_END_H
#define COG_HOST_TRANSPORTS_NCCL_END_H

#include <cuda_runtime_api.h>
#include <nccl.h>

#include "../transport.h"

/* Up to here a copy costs less than a second message. A multiple of 16. */
enum { COG_NCCL_FIRST = 16384 };

typedef struct cog_nccl_end {
    int gpu;
    int peer;        /* rank to send to and receive from; -1: it sums */
    ncclComm_t comm; /* NULL: none yet, or aborted */
    cudaStream_t stream;
    cudaEvent_t event;      /* behind the last send, receive or sum */
    size_t room;            /* 0: no memory of its own */
    uint8_t *in, *out;      /* [room] pinned host memory */
    void *gpu_in, *gpu_out; /* [room] */
} cog_nccl_end;

/* How long to wait: until `deadline` of cog_clock_seconds, or until called_off(user) says so. */
typedef struct cog_nccl_patience {
    double deadline;
    bool (*called_off)(void *user); /* NULL: nobody calls it off */
    void *user;
} cog_nccl_patience;

/* ERR_TRANSPORT in NCCL's words; a call that is under way is no failure. */
cog_status cog_nccl_check(const cog_nccl_end *end, ncclResult_t result, const char *call);
cog_status cog_nccl_check_cuda(int gpu, cudaError_t error, const char *call);

/* Memory for frames of up to max_payload bytes; 0: none. Zeros before. */
cog_status cog_nccl_open(cog_nccl_end *end, int gpu, int peer, size_t max_payload);

/* Ask to be rank `rank` of n; all ranks have to. Settle it. */
cog_status cog_nccl_join(cog_nccl_end *end, int n, ncclUniqueId id, int rank);

/* Wait until the last call is on the stream.
 * ERR_TIMEOUT, or ERR_TRANSPORT when it was called off or the communicator failed; so below */
cog_status cog_nccl_settle(const cog_nccl_end *end, const cog_nccl_patience *patience);

/* Write a frame to `out`, which must not be under way. */
void cog_nccl_fill(cog_nccl_end *end, const cog_frame_header *header, const void *payload);

/* Enqueue the frame in `out`; it is under way until the event that comes behind it. */
cog_status cog_nccl_send(cog_nccl_end *end, const cog_nccl_patience *patience);

/* Enqueue the receipt of `bytes` bytes into `in` from byte `at` on; the event comes behind it. */
cog_status cog_nccl_receive(cog_nccl_end *end, size_t at, size_t bytes,
                            const cog_nccl_patience *patience);

/* Has the event come? ERR_TRANSPORT or ERR_DEVICE when it never will. */
cog_status cog_nccl_look(const cog_nccl_end *end, bool *done);
cog_status cog_nccl_wait(const cog_nccl_end *end, const cog_nccl_patience *patience);

/* Between two looks, of which `turn` have found nothing: no pause after the first ones, then short
 * naps.
 * ERR_TIMEOUT or ERR_TRANSPORT when there is to be no other look */
void cog_nccl_nap(int64_t turn);
cog_status cog_nccl_be_patient(const cog_nccl_patience *patience, int64_t turn);

/* Have all these communicators, of any ranks of this process, give up what they do. As one group:
 * one by one, each would wait for kernels of the next. */
void cog_nccl_abort(cog_nccl_end *const *ends, int n);

void cog_nccl_close(cog_nccl_end *end); /* aborted before; accepts zeros and half-open ends */

#endif
