/* nccl_end.c - calls of NCCL that never wait for ever. */
#include "nccl_end.h"

#include <string.h>
#include <time.h>

#include "../check.h"
#include "../frame.h"
#include "../mailbox.h"

enum {
    SPINS = 500,     /* looks before a rank that waits begins to sleep between them */
    NAP_NS = 20000,  /* then so long: several ranks may share a core */
    LAST_SECONDS = 5 /* until work that was aborted has left the stream */
};

cog_status cog_nccl_check(const cog_nccl_end *end, ncclResult_t result, const char *call) {
    if (result == ncclSuccess || result == ncclInProgress) return COG_OK;
    COG_FAIL(COG_ERR_TRANSPORT, "%s on GPU %d: %s", call, end->gpu, ncclGetErrorString(result));
}

cog_status cog_nccl_check_cuda(int gpu, cudaError_t error, const char *call) {
    if (error == cudaSuccess) return COG_OK;
    (void)cudaGetLastError(); /* or the next launch would be taken for the one that failed */
    COG_FAIL(error == cudaErrorMemoryAllocation ? COG_ERR_MEMORY : COG_ERR_DEVICE,
             "%s on GPU %d: %s", call, gpu, cudaGetErrorString(error));
}

#define CUDA_TRY(gpu, function, ...) \
    COG_TRY(cog_nccl_check_cuda((gpu), function(__VA_ARGS__), #function))
#define NCCL_TRY(end, function, ...) \
    COG_TRY(cog_nccl_check((end), function(__VA_ARGS__), #function))

/* --- open and close --------------------------------------------------------------------------- */

/* Pinned, for any GPU of the process; zeros, as more is sent than a short frame fills. */
static cog_status open_memory(cog_nccl_end *end) {
    const int gpu = end->gpu;
    CUDA_TRY(gpu, cudaHostAlloc, (void **)&end->in, end->room, cudaHostAllocPortable);
    CUDA_TRY(gpu, cudaHostAlloc, (void **)&end->out, end->room, cudaHostAllocPortable);
    memset(end->in, 0, end->room);
    memset(end->out, 0, end->room);
    CUDA_TRY(gpu, cudaMalloc, &end->gpu_in, end->room);
    CUDA_TRY(gpu, cudaMalloc, &end->gpu_out, end->room);
    return COG_OK;
}

cog_status cog_nccl_open(cog_nccl_end *end, int gpu, int peer, size_t max_payload) {
    const size_t room = max_payload + COG_FRAME_HEADER_BYTES;
    *end = (cog_nccl_end){.gpu = gpu, .peer = peer};
    CUDA_TRY(gpu, cudaSetDevice, gpu);
    CUDA_TRY(gpu, cudaStreamCreateWithFlags, &end->stream, cudaStreamNonBlocking);
    CUDA_TRY(gpu, cudaEventCreateWithFlags, &end->event, cudaEventDisableTiming);
    if (max_payload == 0) return COG_OK;
    end->room = room > COG_NCCL_FIRST ? room : COG_NCCL_FIRST;
    return open_memory(end);
}

/* Has the stream done what it will? After an abort it should, soon. */
static bool is_drained(const cog_nccl_end *end) {
    const double deadline = cog_clock_seconds() + LAST_SECONDS;
    cudaError_t error = cudaStreamQuery(end->stream);
    for (int64_t turn = 0; error == cudaErrorNotReady && cog_clock_seconds() < deadline; turn++) {
        cog_nccl_nap(turn);
        error = cudaStreamQuery(end->stream);
    }
    (void)cudaGetLastError();
    return error != cudaErrorNotReady;
}

/* Memory that a GPU may still write to is left to it: it ends with the process. */
void cog_nccl_close(cog_nccl_end *end) {
    if (end->stream == NULL) return;
    if (cudaSetDevice(end->gpu) == cudaSuccess && is_drained(end)) {
        cudaFreeHost(end->in);
        cudaFreeHost(end->out);
        cudaFree(end->gpu_in);
        cudaFree(end->gpu_out);
        if (end->event != NULL) cudaEventDestroy(end->event);
        cudaStreamDestroy(end->stream);
    }
    (void)cudaGetLastError(); /* nobody is left to hear of it */
    *end = (cog_nccl_end){0};
}

void cog_nccl_abort(cog_nccl_end *const *ends, int n) {
    ncclGroupStart();
    for (int i = 0; i < n; i++) {
        if (ends[i]->comm == NULL) continue;
        cudaSetDevice(ends[i]->gpu);
        ncclCommAbort(ends[i]->comm);
        ends[i]->comm = NULL;
    }
    ncclGroupEnd();
}

/* --- communicators ---------------------------------------------------------------------------- */

/* A waiting kernel holds one multiprocessor at most: on the server's GPU there may be many. */
cog_status cog_nccl_join(cog_nccl_end *end, int n, ncclUniqueId id, int rank) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (n == 2) config.maxCTAs = 1;
    CUDA_TRY(end->gpu, cudaSetDevice, end->gpu);
    NCCL_TRY(end, ncclCommInitRankConfig, &end->comm, n, id, rank, &config);
    return COG_OK;
}

void cog_nccl_nap(int64_t turn) {
    const struct timespec nap = {.tv_nsec = NAP_NS};
    if (turn >= SPINS) nanosleep(&nap, NULL);
}

cog_status cog_nccl_be_patient(const cog_nccl_patience *p, int64_t turn) {
    COG_CHECK(p->called_off == NULL || !p->called_off(p->user), COG_ERR_TRANSPORT, "called off");
    COG_CHECK(cog_clock_seconds() < p->deadline, COG_ERR_TIMEOUT, "the time is over");
    cog_nccl_nap(turn);
    return COG_OK;
}

cog_status cog_nccl_settle(const cog_nccl_end *end, const cog_nccl_patience *patience) {
    ncclResult_t state = ncclInProgress;
    for (int64_t turn = 0;; turn++) {
        NCCL_TRY(end, ncclCommGetAsyncError, end->comm, &state);
        if (state != ncclInProgress) return cog_nccl_check(end, state, "NCCL");
        COG_TRY(cog_nccl_be_patient(patience, turn));
    }
}

/* --- frames ----------------------------------------------------------------------------------- */

static cog_status send_bytes(cog_nccl_end *end, size_t at, size_t bytes,
                             const cog_nccl_patience *patience) {
    NCCL_TRY(end, ncclSend, (char *)end->gpu_out + at, bytes, ncclUint8, end->peer, end->comm,
             end->stream);
    return cog_nccl_settle(end, patience);
}

void cog_nccl_fill(cog_nccl_end *end, const cog_frame_header *header, const void *payload) {
    memcpy(end->out, header, COG_FRAME_HEADER_BYTES);
    if (header->bytes > 0) memcpy(end->out + COG_FRAME_HEADER_BYTES, payload, header->bytes);
}

cog_status cog_nccl_send(cog_nccl_end *end, const cog_nccl_patience *patience) {
    cog_frame_header header;
    memcpy(&header, end->out, COG_FRAME_HEADER_BYTES);
    const size_t bytes = COG_FRAME_HEADER_BYTES + header.bytes;
    const size_t whole = bytes > COG_NCCL_FIRST ? bytes : COG_NCCL_FIRST;
    CUDA_TRY(end->gpu, cudaSetDevice, end->gpu);
    CUDA_TRY(end->gpu, cudaMemcpyAsync, end->gpu_out, end->out, whole, cudaMemcpyHostToDevice,
             end->stream);
    COG_TRY(send_bytes(end, 0, COG_NCCL_FIRST, patience));
    if (whole > COG_NCCL_FIRST)
        COG_TRY(send_bytes(end, COG_NCCL_FIRST, whole - COG_NCCL_FIRST, patience));
    CUDA_TRY(end->gpu, cudaEventRecord, end->event, end->stream);
    return COG_OK;
}

cog_status cog_nccl_receive(cog_nccl_end *end, size_t at, size_t bytes,
                            const cog_nccl_patience *patience) {
    char *const from = (char *)end->gpu_in + at;
    CUDA_TRY(end->gpu, cudaSetDevice, end->gpu);
    NCCL_TRY(end, ncclRecv, from, bytes, ncclUint8, end->peer, end->comm, end->stream);
    COG_TRY(cog_nccl_settle(end, patience));
    CUDA_TRY(end->gpu, cudaMemcpyAsync, end->in + at, from, bytes, cudaMemcpyDeviceToHost,
             end->stream);
    CUDA_TRY(end->gpu, cudaEventRecord, end->event, end->stream);
    return COG_OK;
}

/* A query that finds nothing leaves an error behind, which the next launch would be charged with.
 */
static cudaError_t query(const cog_nccl_end *end) {
    const cudaError_t error = cudaEventQuery(end->event);
    if (error == cudaErrorNotReady) (void)cudaGetLastError();
    return error;
}

cog_status cog_nccl_look(const cog_nccl_end *end, bool *done) {
    ncclResult_t state = ncclInProgress;
    cudaError_t error = query(end);
    if (error == cudaErrorNotReady) {
        NCCL_TRY(end, ncclCommGetAsyncError, end->comm, &state);
        error = query(end); /* it may have come just before a failure */
    }
    *done = error == cudaSuccess;
    if (error != cudaErrorNotReady)
        return cog_nccl_check_cuda(end->gpu, error, "what was to be received");
    return cog_nccl_check(end, state, "NCCL");
}

cog_status cog_nccl_wait(const cog_nccl_end *end, const cog_nccl_patience *patience) {
    bool done = false;
    for (int64_t turn = 0;; turn++) {
        COG_TRY(cog_nccl_look(end, &done));
        if (done) return COG_OK;
        COG_TRY(cog_nccl_be_patient(patience, turn));
    }
}
