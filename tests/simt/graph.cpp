/* graph.cpp - streams that keep their work for later: capture and graphs.
 *
 * A graph is the captured calls in their order. What has no place in one is refused while a stream
 * is captured, as CUDA refuses it: waiting, asking, allocating; and, stricter than CUDA, copies
 * from and to pageable host memory, which would be read when the graph is launched. */
#include "machine.h"

struct CUgraph_st {
    std::vector<simt::captured_call> calls;
};
struct CUgraphExec_st {
    std::vector<simt::captured_call> calls;
};

namespace simt {

static int n_capturing;

bool is_capturing(cudaStream_t stream) { return stream != nullptr && stream->graph != nullptr; }

bool capture(cudaStream_t stream, captured_call call) {
    if (!is_capturing(stream)) return false;
    stream->graph->calls.push_back(std::move(call));
    return true;
}

cudaError_t refuse_in_capture(cudaStream_t stream) {
    if (!is_capturing(stream)) return cudaSuccess;
    stream->is_spoilt = true;
    return cudaErrorStreamCaptureUnsupported;
}

cudaError_t refuse_in_any_capture() {
    return n_capturing > 0 ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

} // namespace simt

using namespace simt;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    const lock one_at_a_time;
    if (stream == nullptr) return cudaErrorStreamCaptureUnsupported;
    if (is_capturing(stream)) return cudaErrorIllegalState;
    stream->graph = new CUgraph_st;
    stream->is_spoilt = false;
    n_capturing++;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    const lock one_at_a_time;
    *graph = nullptr;
    if (!is_capturing(stream)) return cudaErrorIllegalState;
    n_capturing--;
    *graph = stream->graph;
    stream->graph = nullptr;
    if (!stream->is_spoilt) return cudaSuccess;
    delete *graph;
    *graph = nullptr;
    return cudaErrorStreamCaptureInvalidated;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    const lock one_at_a_time;
    *exec = new CUgraphExec_st{graph->calls};
    return cudaSuccess;
}

/* Errors show at once: everything is done when this returns. */
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    const lock one_at_a_time;
    if (is_capturing(stream)) return refuse_in_capture(stream);
    for (const captured_call &call : exec->calls) {
        const cudaError_t error = call();
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
