/* machine.h - the state of the SIMT executor, shared by its files.
 *
 *     memory.cpp    device memory: allocations, red zones, what was written
 *     access.cpp    every load, store and atomic of a kernel: checks and races
 *     traffic.cpp   the accesses of a warp as requests: bytes, sectors, banks
 *     threads.cpp   launches, blocks and their threads, barriers, shuffles, the order of everything
 *     fibers.cpp    switches between threads
 *     reports.cpp   sentences and counters
 *     runtime.cpp   the CUDA runtime;  graph.cpp: capture;  blas.cpp, sparse.cpp: library calls
 *
 * One lock around every call of the interface makes host threads take turns. */
#ifndef SIMT_MACHINE_H
#define SIMT_MACHINE_H

#define SIMT_EXECUTOR
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda_runtime.h"
#include "simt.h"

struct CUstream_st {
    cudaGraph_t graph; /* that captures its work; NULL: work is done at once */
    bool is_spoilt;    /* a call was refused since the capture began */
};

namespace simt {

constexpr int WARP = 32;
constexpr int MAX_THREADS = 1024;
constexpr size_t DEVICE_BYTES = (size_t)8 << 30;
constexpr size_t STATIC_SHARED_BYTES = 48 << 10;
constexpr size_t MAX_SHARED_BYTES = 99 << 10; /* what every GPU since sm_80 can opt in to */

struct lock {
    std::lock_guard<std::recursive_mutex> guard;
    lock();
};

/* ---- reports --------------------------------------------------------------------------------- */

/* A sentence; the kernel, block and thread are put before it while one runs. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same, and the launch ends here: what follows could not be trusted. */
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* printf into one of a few buffers in turn: an abandoned thread has nothing to free. */
const char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern simt_counters counters;
uint64_t report_count();
void forget_kinds(); /* of sentences, of which only the first few are kept */

/* ---- memory.cpp ------------------------------------------------------------------------------ */

enum : uint8_t { NOT_ALLOCATED, NEVER_WRITTEN, WRITTEN }; /* state of a byte */

/* Who touched a byte last; see access.cpp. */
struct touch {
    uint32_t segment;
    uint32_t warp : 5, lane : 5, crowd : 2, atomic : 1, tick : 19;
    uint32_t lanes; /* of the warp, all that touched it */
};
struct history {
    touch writer, reader;
};

/* Device addresses are [base, base + size), with parallel arrays for bytes and for sectors. */
struct device_heap {
    char *base;
    size_t size;
    uint8_t *state;   /* [size] */
    history *touched; /* [size] */
    uint32_t *loaded; /* [size / 32] launch that loaded the sector last */
    uint32_t *stored; /* [size / 32] */
    bool holds(const void *p) const { return (uintptr_t)p - (uintptr_t)base < size; }
};
extern device_heap heap;

/* "byte 12 of 40 bytes of device memory" and the like. */
const char *describe(const void *address);
void *allocate(size_t bytes, bool on_host); /* NULL when there is no memory */
bool release(void *memory, bool on_host);
size_t allocated_bytes();
bool is_device_memory(const void *memory); /* and not pinned host memory */
/* For operands of copies and library calls: false, and a report, when the range is not allocated
 * or, for loads, not written. Stores count as written then. */
bool may_load(const char *who, const void *memory, size_t bytes);
bool may_store(const char *who, void *memory, size_t bytes);

/* ---- traffic.cpp ----------------------------------------------------------------------------- */

enum access_kind : uint8_t { LOAD, STORE, ATOMIC };
enum space : uint8_t { GLOBAL, SHARED };

struct access {
    uintptr_t site; /* the instruction */
    uintptr_t address;
    uint16_t bytes;
    access_kind kind;
    simt::space space;
    uint32_t meeting; /* how many verbs of the warp its thread went through before */
};

struct thread;
/* The accesses of a warp's n_lanes threads since the last call become requests. */
void count_requests(thread *lanes, int n_lanes);

/* ---- graph.cpp ------------------------------------------------------------------------------- */

using captured_call = std::function<cudaError_t()>;

bool is_capturing(cudaStream_t stream);
/* Keep the call for the stream's graph; false when nothing is captured: it is to be made now. */
bool capture(cudaStream_t stream, captured_call call);
/* The error of a call that has no place in a graph; cudaSuccess where nothing is captured. */
cudaError_t refuse_in_capture(cudaStream_t stream);
cudaError_t refuse_in_any_capture();

/* ---- fibers.cpp ------------------------------------------------------------------------------ */

constexpr size_t STACK_BYTES = 256 << 10;

struct fiber;
fiber *take_fiber(); /* runs the current thread of `run` when switched to */
void give_back(fiber *f);
void give_back_abandoned(fiber *f); /* in the middle of its thread */
uintptr_t stack_of(const fiber *f);
void switch_to(fiber *f); /* from the scheduler, until the thread waits */
void wait();              /* from a thread, until the scheduler switches to it */

/* ---- threads.cpp ----------------------------------------------------------------------------- */

enum thread_state : uint8_t { NEW, READY, AT_BARRIER, AT_WARP_VERB, ENDED };

struct thread {
    thread_state state;
    int index;
    simt::fiber *fiber;
    std::vector<access> log;
    uint32_t meetings; /* since the log was empty */
    /* the barrier or warp verb it waits at */
    const char *verb;
    place where;
    unsigned mask;
    bool predicate;
    uint64_t given;
    uint64_t seen[WARP]; /* what the lanes of the mask gave */
};

struct run_state {
    const launch_request *request;
    thread *current; /* NULL: no kernel runs */
    uintptr_t stack_low, stack_high;
    uint32_t launch;                 /* number of this launch */
    uint32_t segment, block_segment; /* now, and the first of the block; see access.cpp */
    int n_threads, n_at_barrier;
    bool aborted;
};
extern run_state run;
extern __thread bool is_running; /* whether it is this thread of the host that runs the kernel */

/* access.cpp's memory of the blocks that ran in this launch. */
void forget_blocks();
void begin_block();
/* The lanes of the mask met in __syncwarp. */
void order_lanes(int warp, unsigned mask);

} // namespace simt

/* What the kernel sees as threadIdx and so on. */
extern uint3 simt_thread_index, simt_block_index, simt_block_dim, simt_grid_dim;

#endif
