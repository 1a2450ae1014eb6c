/* threads.cpp - the threads of a block as fibers, and what makes them wait for each other.
 *
 * Blocks run one after another. Of a block, one warp runs until all its lanes wait at a barrier or
 * ended, then the next; of a warp, one lane runs until it waits or ends. All three orders are
 * shuffled by the seed. When nobody can go on and somebody waits, the kernel is wrong. */
#include "machine.h"

#include <algorithm>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <sys/mman.h>
#include <ucontext.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

/* The kernel's threadIdx and so on, constant for it. */
uint3 simt_thread_index, simt_block_index, simt_block_dim, simt_grid_dim;

namespace simt {

run_state run;
static thread threads[MAX_THREADS];
static uint64_t seed = [] {
    const char *text = getenv("COG_SIMT_SEED");
    return text ? strtoull(text, nullptr, 0) : 0;
}();

/* ---- fibers ---------------------------------------------------------------------------------- */

constexpr size_t STACK_BYTES = 256 << 10;

/* Started by setcontext, then switched by GCC's own jumps: no system call, no machine code here. */
struct fiber {
    void *jump[5];
    ucontext_t start;
    char *stack;
    bool fresh;
};
static std::vector<std::unique_ptr<fiber>> fibers;
static std::vector<fiber *> idle;
static void *scheduler_jump[5];

#ifdef __SANITIZE_ADDRESS__
static const void *scheduler_stack;
static size_t scheduler_stack_bytes;
static void leave(void **fake, const void *stack, size_t bytes) {
    __sanitizer_start_switch_fiber(fake, stack, bytes);
}
static void arrive_at_fiber(void *fake) {
    __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_stack_bytes);
}
static void leave_to_scheduler(void **fake) { leave(fake, scheduler_stack, scheduler_stack_bytes); }
static void arrive_at_scheduler(void *fake) {
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}
static void forget_frames(fiber *f) { __asan_unpoison_memory_region(f->stack, STACK_BYTES); }
#else
static void leave(void **, const void *, size_t) {}
static void arrive_at_fiber(void *) {}
static void leave_to_scheduler(void **) {}
static void arrive_at_scheduler(void *) {}
static void forget_frames(fiber *) {}
#endif

[[noreturn]] __attribute__((noinline, no_sanitize("address"))) static void jump(void **to) {
    __builtin_longjmp(to, 1);
}

/* From a thread back to the scheduler, until that resumes the thread. */
__attribute__((noinline)) static void wait() {
    void *fake = nullptr;
    leave_to_scheduler(&fake);
    if (__builtin_setjmp(run.current->fiber->jump) == 0) jump(scheduler_jump);
    arrive_at_fiber(fake);
}

/* One fiber runs one thread after another. */
static void fiber_main() {
    arrive_at_fiber(nullptr);
    for (;;) {
        run.request->run(run.request->arguments);
        run.current->state = ENDED;
        wait();
    }
}

static void prepare(fiber *f) {
    getcontext(&f->start);
    f->start.uc_stack.ss_sp = f->stack;
    f->start.uc_stack.ss_size = STACK_BYTES;
    makecontext(&f->start, fiber_main, 0);
    f->fresh = true;
    forget_frames(f);
}

static fiber *take_fiber() {
    if (idle.empty()) {
        auto f = std::make_unique<fiber>();
        f->stack = (char *)mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (f->stack == MAP_FAILED) throw std::bad_alloc();
        mprotect(f->stack, 4096, PROT_NONE); /* a stack too small is seen at once */
        prepare(f.get());
        idle.push_back(f.get());
        fibers.push_back(std::move(f));
    }
    fiber *f = idle.back();
    idle.pop_back();
    return f;
}

__attribute__((noinline)) static void switch_to(fiber *f) {
    void *fake = nullptr;
    leave(&fake, f->stack, STACK_BYTES);
    if (__builtin_setjmp(scheduler_jump) == 0) {
        if (!f->fresh) jump(f->jump);
        f->fresh = false;
        setcontext(&f->start);
    }
    arrive_at_scheduler(fake);
}

static void resume(thread *t) {
    if (t->state == NEW) t->fiber = take_fiber();
    t->state = READY;
    const unsigned i = (unsigned)t->index, wide = simt_block_dim.x, high = simt_block_dim.y;
    simt_thread_index = {i % wide, i / wide % high, i / wide / high};
    run.stack_low = (uintptr_t)t->fiber->stack;
    run.stack_high = run.stack_low + STACK_BYTES;
    run.current = t;
    switch_to(t->fiber);
    run.current = nullptr;
    if (t->state == ENDED) {
        idle.push_back(t->fiber);
        t->fiber = nullptr;
    }
}

/* ---- reports --------------------------------------------------------------------------------- */

constexpr int SENTENCES_OF_A_KIND = 3; /* a launch; the others only count */
constexpr size_t MAX_TEXT = 16 << 10;

simt_counters counters;
static uint64_t n_reports;
static std::string sentences;
static std::map<const void *, int> said; /* by format, in this launch */
static bool aborted;
static std::recursive_mutex all_state;

lock::lock() : guard(all_state) {}

const char *text(const char *format, ...) {
    static char buffers[8][800];
    static int turn;
    char *buffer = buffers[turn++ % 8];
    va_list list;
    va_start(list, format);
    vsnprintf(buffer, sizeof(buffers[0]), format, list);
    va_end(list);
    return buffer;
}

static const char *text_of(const uint3 &v) { return text("(%u, %u, %u)", v.x, v.y, v.z); }

static void report_list(const char *format, va_list list) {
    n_reports++;
    if (said[format]++ >= SENTENCES_OF_A_KIND || sentences.size() > MAX_TEXT) return;
    char sentence[800];
    vsnprintf(sentence, sizeof(sentence), format, list);
    if (run.request != nullptr)
        sentences += text("kernel %s, block %s", run.request->kernel, text_of(simt_block_index));
    if (run.current != nullptr) sentences += text(", thread %s", text_of(simt_thread_index));
    if (run.request != nullptr) sentences += ": ";
    sentences += std::string(sentence) + "\n";
}

void report(const char *format, ...) {
    va_list list;
    va_start(list, format);
    report_list(format, list);
    va_end(list);
}

void fail(const char *format, ...) {
    va_list list;
    va_start(list, format);
    report_list(format, list);
    va_end(list);
    aborted = true;
    for (;;) wait();
}

void trap() { fail("__trap"); }

/* ---- barriers -------------------------------------------------------------------------------- */

static int first_of_warp(const thread *t) { return t->index / WARP * WARP; }
static int lanes_of_warp(int first) { return std::min(WARP, run.n_threads - first); }
static bool same_place(place a, place b) { return a.line == b.line && strcmp(a.file, b.file) == 0; }
static const char *text_of(const thread *t) {
    if (t->state == ENDED) return "ended";
    return text("waits in %s at %s:%d", t->verb, t->where.file, t->where.line);
}

static void wait_in(const char *verb, place where, thread_state state) {
    run.current->verb = verb;
    run.current->where = where;
    run.current->state = state;
}

/* All threads are at a barrier: the same one, or the kernel is wrong. */
static void release_barrier(thread *last) {
    int n_true = 0;
    for (int i = 0; i < run.n_threads; i++) {
        thread *t = &threads[i];
        if (!same_place(t->where, last->where) || t->verb != last->verb)
            fail("divergent barrier: thread %d %s, thread %d %s", last->index, text_of(last), i,
                 text_of(t));
        n_true += t->predicate;
    }
    for (int i = 0; i < run.n_threads; i++) {
        threads[i].given = (uint64_t)n_true;
        threads[i].state = READY;
    }
    for (int first = 0; first < run.n_threads; first += WARP)
        count_requests(&threads[first], lanes_of_warp(first));
    run.segment++;
    counters.barriers++;
}

int barrier(const char *verb, bool predicate, place where) {
    thread *t = run.current;
    wait_in(verb, where, AT_BARRIER);
    t->predicate = predicate;
    const bool all = std::all_of(threads, threads + run.n_threads,
                                 [](const thread &other) { return other.state == AT_BARRIER; });
    if (all)
        release_barrier(t);
    else
        wait();
    return (int)t->given;
}

/* ---- verbs of a warp ------------------------------------------------------------------------- */

static const char *const warp_barrier_verb = "__syncwarp";

int lane() { return run.current->index % WARP; }
static bool named(unsigned mask, int lane) { return mask >> lane & 1u; }

static bool waits_with(const thread &other, const thread &t) {
    return other.state == AT_WARP_VERB && other.mask == t.mask && other.verb == t.verb;
}

static bool all_arrived(const thread *t, const thread *lanes, int n_lanes) {
    for (int l = 0; l < WARP; l++)
        if (named(t->mask, l) && (l >= n_lanes || !waits_with(lanes[l], *t))) return false;
    return true;
}

/* Every lane of the mask gets what all of them gave. When they are all that still run, the warp is
 * together; then __syncwarp orders its memory. */
static void deliver(unsigned mask, const char *verb, thread *lanes, int n_lanes) {
    bool whole = true;
    for (int l = 0; l < n_lanes; l++) whole &= named(mask, l) || lanes[l].state == ENDED;
    for (int to = 0; to < n_lanes; to++) {
        if (!named(mask, to)) continue;
        for (int from = 0; from < n_lanes; from++) lanes[to].seen[from] = lanes[from].given;
        lanes[to].state = READY;
    }
    if (whole) count_requests(lanes, n_lanes);
    if (whole && verb == warp_barrier_verb) run.warp_epoch[lanes->index / WARP]++;
}

static void meet(const char *verb, unsigned mask, uint64_t given, place where) {
    thread *t = run.current;
    const int first = first_of_warp(t), n_lanes = lanes_of_warp(first);
    wait_in(verb, where, AT_WARP_VERB);
    t->mask = mask;
    t->given = given;
    if (!named(mask, lane()))
        fail("%s at %s:%d with the mask %#x, which does not name the caller, lane %d", verb,
             where.file, where.line, mask, lane());
    if (n_lanes < WARP && mask >> n_lanes != 0)
        fail("%s at %s:%d with the mask %#x, but the warp has %d lanes", verb, where.file,
             where.line, mask, n_lanes);
    if (all_arrived(t, &threads[first], n_lanes))
        deliver(mask, verb, &threads[first], n_lanes);
    else
        wait();
}

void warp_barrier(unsigned mask, place where) { meet(warp_barrier_verb, mask, 0, where); }

uint64_t shuffle(const char *verb, unsigned mask, uint64_t value, int source_lane, place where) {
    meet(verb, mask, value, where);
    if (source_lane < 0) return value;
    if (!named(mask, source_lane))
        fail("%s at %s:%d reads from lane %d, which the mask %#x does not name", verb, where.file,
             where.line, source_lane, mask);
    return run.current->seen[source_lane];
}

unsigned vote(const char *verb, unsigned mask, bool predicate, place where) {
    meet(verb, mask, predicate, where);
    unsigned votes = 0;
    for (int l = 0; l < WARP; l++)
        if (named(mask, l) && run.current->seen[l]) votes |= 1u << l;
    return votes;
}

uint32_t reduce(const char *verb, unsigned mask, uint32_t value, char op, place where) {
    meet(verb, mask, value, where);
    const int first = __builtin_ctz(mask);
    uint32_t result = (uint32_t)run.current->seen[first];
    for (int l = first + 1; l < WARP; l++) {
        if (!named(mask, l)) continue;
        const uint32_t v = (uint32_t)run.current->seen[l];
        switch (op) {
        case '+': result += v; break;
        case '&': result &= v; break;
        case '|': result |= v; break;
        case '^': result ^= v; break;
        case '<': result = std::min(result, v); break;
        default: result = std::max(result, v);
        }
    }
    return result;
}

/* ---- blocks and launches --------------------------------------------------------------------- */

/* SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static std::vector<uint32_t> order_of(uint32_t n, uint64_t *random) {
    std::vector<uint32_t> order(n);
    std::iota(order.begin(), order.end(), 0u);
    for (uint32_t i = n; seed != 0 && i > 1; i--)
        std::swap(order[i - 1], order[next_random(random) % i]);
    return order;
}

static bool can_go_on(const thread &t) { return t.state == NEW || t.state == READY; }

/* Until no lane of the warp can go on; whether any did. */
static bool run_warp(int first, uint64_t *random) {
    const int n_lanes = lanes_of_warp(first);
    bool any = false;
    for (bool moved = true; moved && !aborted;) {
        moved = false;
        const std::vector<uint32_t> order = order_of((uint32_t)n_lanes, random);
        for (uint32_t l : order)
            if (can_go_on(threads[first + (int)l]) && !aborted) {
                resume(&threads[first + (int)l]);
                any = moved = true;
            }
    }
    return any;
}

/* Somebody waits for ever: says who, and for whom. */
static void report_deadlock() {
    const thread *waits = std::find_if(threads, threads + run.n_threads,
                                       [](const thread &t) { return t.state == AT_WARP_VERB; });
    if (waits != threads + run.n_threads) {
        const int first = first_of_warp(waits);
        int l = 0;
        while (!named(waits->mask, l) || waits_with(threads[first + l], *waits)) l++;
        report("thread %d %s with the mask %#x, which names lane %d, but that lane %s",
               waits->index, text_of(waits), waits->mask, l, text_of(&threads[first + l]));
        return;
    }
    waits = std::find_if(threads, threads + run.n_threads,
                         [](const thread &t) { return t.state == AT_BARRIER; });
    const thread *ended = std::find_if(threads, threads + run.n_threads,
                                       [](const thread &t) { return t.state == ENDED; });
    report("a barrier that not all threads reach: thread %d %s, thread %d %s", waits->index,
           text_of(waits), ended->index, text_of(ended));
}

static void start_block(uint32_t number) {
    const dim3 &grid = run.request->grid;
    simt_block_index = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
    run.block_index = simt_block_index;
    run.block_segment = ++run.segment;
    std::fill(run.warp_epoch, std::end(run.warp_epoch), 0);
    for (int i = 0; i < run.n_threads; i++) {
        threads[i].state = NEW;
        threads[i].index = i;
    }
    begin_block();
    counters.blocks++;
}

static void run_block(uint32_t number, uint64_t *random) {
    start_block(number);
    const uint32_t n_warps = (uint32_t)(run.n_threads + WARP - 1) / WARP;
    bool any = true;
    while (any && !aborted) {
        any = false;
        for (uint32_t w : order_of(n_warps, random)) any |= run_warp((int)w * WARP, random);
    }
    const bool all_ended = std::all_of(threads, threads + run.n_threads,
                                       [](const thread &t) { return t.state == ENDED; });
    if (!all_ended && !aborted) {
        report_deadlock();
        aborted = true;
    }
    for (int first = 0; first < run.n_threads; first += WARP)
        count_requests(&threads[first], lanes_of_warp(first));
}

/* Threads that never ended leave their stacks as they are. */
static void abandon_threads() {
    for (int i = 0; i < run.n_threads; i++)
        if (threads[i].fiber != nullptr) {
            prepare(threads[i].fiber);
            idle.push_back(threads[i].fiber);
            threads[i].fiber = nullptr;
        }
}

static bool is_valid(const launch_request &r) {
    const uint64_t block = (uint64_t)r.block.x * r.block.y * r.block.z;
    const uint64_t grid = (uint64_t)r.grid.x * r.grid.y * r.grid.z;
    return block >= 1 && block <= MAX_THREADS && r.block.z <= 64 && grid >= 1 &&
           grid <= INT32_MAX && r.grid.y <= 65535 && r.grid.z <= 65535 &&
           r.shared_bytes <= MAX_SHARED_BYTES;
}

cudaError_t launch(const launch_request &request) {
    const lock one_at_a_time;
    if (!is_valid(request)) return cudaErrorInvalidConfiguration;
    const uint64_t reports_before = n_reports;
    uint64_t random = seed;
    run.request = &request;
    run.launch++;
    run.n_threads = (int)(request.block.x * request.block.y * request.block.z);
    simt_block_dim = {request.block.x, request.block.y, request.block.z};
    simt_grid_dim = {request.grid.x, request.grid.y, request.grid.z};
    aborted = false;
    said.clear();
    forget_blocks();
    counters.launches++;
    for (uint32_t b : order_of(request.grid.x * request.grid.y * request.grid.z, &random))
        if (!aborted) run_block(b, &random);
    abandon_threads();
    run.request = nullptr;
    return n_reports == reports_before ? cudaSuccess : cudaErrorLaunchFailure;
}

} // namespace simt

/* ---------------------------------------------------------------------------------------------- */

using namespace simt;

void simt_reset_counters(void) {
    const lock one_at_a_time;
    counters = {};
}
void simt_read_counters(simt_counters *out) {
    const lock one_at_a_time;
    *out = counters;
}
void simt_set_seed(uint64_t new_seed) {
    const lock one_at_a_time;
    seed = new_seed;
}
uint64_t simt_report_count(void) {
    const lock one_at_a_time;
    return n_reports;
}
const char *simt_report_text(void) {
    const lock one_at_a_time;
    return sentences.c_str();
}
void simt_reset_reports(void) {
    const lock one_at_a_time;
    n_reports = 0;
    said.clear();
    sentences.clear();
}
