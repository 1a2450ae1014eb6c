/* runtime.cpp - the CUDA runtime: one device, memory, copies, streams and events, all at once. */
#include "machine.h"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <set>

struct CUevent_st {
    std::chrono::steady_clock::time_point when;
    bool recorded;
};

namespace simt {

static thread_local cudaError_t last_error;
static std::set<cudaStream_t> streams;
static std::set<cudaEvent_t> events;

static cudaError_t done(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

static bool is_stream(cudaStream_t s) { return s == nullptr || streams.count(s) > 0; }

static cudaError_t copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    const bool to_device = is_device_memory(to), from_device = is_device_memory(from);
    if (bytes == 0) return cudaSuccess;
    if (kind != cudaMemcpyDefault &&
        (to_device != (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) ||
         from_device != (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice)))
        return cudaErrorInvalidMemcpyDirection;
    if (from_device && !may_load("cudaMemcpy", from, bytes)) return cudaErrorInvalidValue;
    if (to_device && !may_store("cudaMemcpy", to, bytes)) return cudaErrorInvalidValue;
    memmove(to, from, bytes);
    if (to_device && !from_device) counters.to_device_bytes += bytes;
    if (!to_device && from_device) counters.to_host_bytes += bytes;
    return cudaSuccess;
}

static cudaError_t allocate_as(void **memory, size_t bytes, bool on_host) {
    const lock one_at_a_time;
    if (memory == nullptr) return done(cudaErrorInvalidValue);
    *memory = nullptr;
    if (refuse_in_any_capture() != cudaSuccess) return done(cudaErrorStreamCaptureUnsupported);
    if (bytes == 0) return cudaSuccess;
    *memory = allocate(bytes, on_host);
    return done(*memory ? cudaSuccess : cudaErrorMemoryAllocation);
}

static cudaError_t release_as(void *memory, bool on_host) {
    const lock one_at_a_time;
    if (memory == nullptr) return cudaSuccess;
    if (refuse_in_any_capture() != cudaSuccess) return done(cudaErrorStreamCaptureUnsupported);
    if (release(memory, on_host)) return cudaSuccess;
    report("freed, but not allocated so: %s", describe(memory));
    return done(cudaErrorInvalidValue);
}

} // namespace simt

using namespace simt;

/* ---- device -------------------------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
    return done(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaDeviceSynchronize(void) { return done(refuse_in_any_capture()); }
cudaError_t cudaRuntimeGetVersion(int *version) { return *version = 12000, cudaSuccess; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
    if (device != 0) return done(cudaErrorInvalidDevice);
    *p = {};
    snprintf(p->name, sizeof(p->name), "SIMT executor");
    size_t free_bytes;
    p->sharedMemPerBlock = STATIC_SHARED_BYTES;
    p->sharedMemPerBlockOptin = MAX_SHARED_BYTES;
    p->warpSize = WARP;
    p->maxThreadsPerBlock = MAX_THREADS;
    p->major = 8;
    p->multiProcessorCount = 16;
    p->l2CacheSize = 4 << 20;
    return cudaMemGetInfo(&free_bytes, &p->totalGlobalMem);
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, device) != cudaSuccess) return cudaErrorInvalidDevice;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
    case cudaDevAttrWarpSize: *value = p.warpSize; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
    default: return done(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

/* ---- errors ---------------------------------------------------------------------------------- */

cudaError_t cudaGetLastError(void) {
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError(void) { return last_error; }

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
     "copy direction and kind of memory disagree"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState", "the stream is not in a state for that"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
};

const char *cudaGetErrorName(cudaError_t error) {
    for (const auto &e : errors)
        if (e.error == error) return e.name;
    return "cudaErrorUnknown";
}

/* The sentences of the executor say more about a launch that failed. */
const char *cudaGetErrorString(cudaError_t error) {
    if (error == cudaErrorLaunchFailure && simt_report_count() > 0) return simt_report_text();
    for (const auto &e : errors)
        if (e.error == error) return e.text;
    return "unknown error";
}

/* ---- streams and events ---------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    const lock one_at_a_time;
    *stream = new CUstream_st{};
    streams.insert(*stream);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    const lock one_at_a_time;
    if (streams.erase(stream) == 0) return done(cudaErrorInvalidResourceHandle);
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const lock one_at_a_time;
    return done(is_stream(stream) ? refuse_in_capture(stream) : cudaErrorInvalidResourceHandle);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    const lock one_at_a_time;
    return done(is_stream(stream) && events.count(event) ? cudaSuccess
                                                         : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    const lock one_at_a_time;
    *event = new CUevent_st{};
    events.insert(*event);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    const lock one_at_a_time;
    if (events.erase(event) == 0) return done(cudaErrorInvalidResourceHandle);
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    const lock one_at_a_time;
    if (!is_stream(stream) || !events.count(event)) return done(cudaErrorInvalidResourceHandle);
    event->when = std::chrono::steady_clock::now();
    event->recorded = true;
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    const lock one_at_a_time;
    return done(events.count(event) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    const lock one_at_a_time;
    if (!events.count(start) || !events.count(end) || !start->recorded || !end->recorded)
        return done(cudaErrorInvalidResourceHandle);
    *milliseconds = std::chrono::duration<float, std::milli>(end->when - start->when).count();
    return cudaSuccess;
}

/* ---- memory -------------------------------------------------------------------------------- */

cudaError_t cudaMalloc(void **memory, size_t bytes) { return allocate_as(memory, bytes, false); }
cudaError_t cudaFree(void *memory) { return release_as(memory, false); }
cudaError_t cudaMallocAsync(void **memory, size_t bytes, cudaStream_t stream) {
    if (cudaStreamSynchronize(stream) != cudaSuccess) return cudaErrorInvalidResourceHandle;
    return cudaMalloc(memory, bytes);
}
cudaError_t cudaFreeAsync(void *memory, cudaStream_t stream) {
    if (cudaStreamSynchronize(stream) != cudaSuccess) return cudaErrorInvalidResourceHandle;
    return cudaFree(memory);
}
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned) {
    return allocate_as(memory, bytes, true);
}
cudaError_t cudaMallocHost(void **memory, size_t bytes) { return allocate_as(memory, bytes, true); }
cudaError_t cudaFreeHost(void *memory) { return release_as(memory, true); }

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    const lock one_at_a_time;
    *total_bytes = DEVICE_BYTES;
    *free_bytes = DEVICE_BYTES - allocated_bytes();
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    const lock one_at_a_time;
    if (!is_stream(stream)) return done(cudaErrorInvalidResourceHandle);
    if (is_capturing(stream) && (!heap.holds(to) || !heap.holds(from)))
        return done(refuse_in_capture(stream));
    const captured_call call = [=] { return done(copy(to, from, bytes, kind)); };
    return capture(stream, call) ? cudaSuccess : call();
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream) {
    const lock one_at_a_time;
    if (!is_stream(stream)) return done(cudaErrorInvalidResourceHandle);
    const captured_call call = [=] {
        if (!may_store("cudaMemset", memory, bytes)) return done(cudaErrorInvalidValue);
        if (bytes > 0) memset(memory, value, bytes);
        return cudaSuccess;
    };
    return capture(stream, call) ? cudaSuccess : call();
}
cudaError_t cudaMemset(void *memory, int value, size_t bytes) {
    return cudaMemsetAsync(memory, value, bytes, nullptr);
}
