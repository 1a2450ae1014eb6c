/* threads.cpp - the threads of a block as fibers, and what makes them wait for each other.
 *
 * Blocks run one after another. Of a block, one warp runs until all its lanes wait at a barrier or
 * ended, then the next; of a warp, one lane runs until it waits or ends. All three orders are
 * shuffled by the seed. When nobody can go on and somebody waits, the kernel is wrong. */
#include "machine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>

/* The kernel's threadIdx and so on, constant for it. */
uint3 simt_thread_index, simt_block_index, simt_block_dim, simt_grid_dim;

namespace simt {

run_state run;
__thread bool is_running;
static thread threads[MAX_THREADS];
static uint64_t seed = [] {
    const char *text = getenv("COG_SIMT_SEED");
    return text ? strtoull(text, nullptr, 0) : 0;
}();

static void resume(thread *t) {
    if (t->state == NEW) t->fiber = take_fiber();
    t->state = READY;
    const unsigned i = (unsigned)t->index, wide = simt_block_dim.x, high = simt_block_dim.y;
    simt_thread_index = {i % wide, i / wide % high, i / wide / high};
    run.stack_low = stack_of(t->fiber);
    run.stack_high = run.stack_low + STACK_BYTES;
    run.current = t;
    is_running = true;
    switch_to(t->fiber);
    is_running = false;
    run.current = nullptr;
    if (t->state == ENDED) {
        give_back(t->fiber);
        t->fiber = nullptr;
    }
}

/* ---- barriers -------------------------------------------------------------------------------- */

static int first_of_warp(const thread *t) { return t->index / WARP * WARP; }
static int lanes_of_warp(int first) { return std::min(WARP, run.n_threads - first); }
static bool same_place(place a, place b) {
    return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}
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
    run.n_at_barrier = 0;
    run.segment++;
    counters.barriers++;
}

int barrier(const char *verb, bool predicate, place where) {
    thread *t = run.current;
    wait_in(verb, where, AT_BARRIER);
    t->predicate = predicate;
    if (++run.n_at_barrier == run.n_threads)
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

/* Every lane of the mask gets what all of them gave. */
static void deliver(unsigned mask, const char *verb, thread *lanes, int n_lanes) {
    for (int to = 0; to < n_lanes; to++) {
        if (!named(mask, to)) continue;
        for (int from = 0; from < n_lanes; from++) lanes[to].seen[from] = lanes[from].given;
        lanes[to].state = READY;
        lanes[to].meetings++;
    }
    if (verb == warp_barrier_verb) order_lanes(lanes->index / WARP, mask);
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

void trap() { fail("__trap"); }

static bool can_go_on(const thread &t) { return t.state == NEW || t.state == READY; }

/* Until no lane of the warp can go on; whether any did. */
static bool run_warp(int first, uint64_t *random) {
    const int n_lanes = lanes_of_warp(first);
    bool any = false;
    for (bool moved = true; moved && !run.aborted;) {
        moved = false;
        const std::vector<uint32_t> order = order_of((uint32_t)n_lanes, random);
        for (uint32_t l : order)
            if (can_go_on(threads[first + (int)l]) && !run.aborted) {
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
    run.block_segment = ++run.segment;
    run.n_at_barrier = 0;
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
    while (any && !run.aborted) {
        any = false;
        for (uint32_t w : order_of(n_warps, random)) any |= run_warp((int)w * WARP, random);
    }
    const bool all_ended = std::all_of(threads, threads + run.n_threads,
                                       [](const thread &t) { return t.state == ENDED; });
    if (!all_ended && !run.aborted) {
        report_deadlock();
        run.aborted = true;
    }
    for (int first = 0; first < run.n_threads; first += WARP)
        count_requests(&threads[first], lanes_of_warp(first));
}

/* Threads that never ended leave their stacks as they are. */
static void abandon_threads() {
    for (int i = 0; i < run.n_threads; i++)
        if (threads[i].fiber != nullptr) {
            give_back_abandoned(threads[i].fiber);
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

/* The same launch out of a graph, with arguments that outlive their caller. */
static captured_call later(launch_request request) {
    const char *from = static_cast<const char *>(request.arguments);
    const auto kept = std::make_shared<std::vector<char>>(from, from + request.argument_bytes);
    request.arguments = kept->data();
    request.stream = nullptr;
    return [request, kept] { return launch(request); };
}

cudaError_t launch(const launch_request &request) {
    const lock one_at_a_time;
    if (!is_valid(request)) return cudaErrorInvalidConfiguration;
    const cudaStream_t stream = static_cast<cudaStream_t>(request.stream);
    if (is_capturing(stream)) {
        capture(stream, later(request));
        return cudaSuccess;
    }
    const uint64_t before = report_count();
    uint64_t random = seed;
    run.request = &request;
    run.launch++;
    run.n_threads = (int)(request.block.x * request.block.y * request.block.z);
    simt_block_dim = {request.block.x, request.block.y, request.block.z};
    simt_grid_dim = {request.grid.x, request.grid.y, request.grid.z};
    run.aborted = false;
    forget_kinds();
    forget_blocks();
    counters.launches++;
    for (uint32_t b : order_of(request.grid.x * request.grid.y * request.grid.z, &random))
        if (!run.aborted) run_block(b, &random);
    abandon_threads();
    run.request = nullptr;
    return report_count() == before ? cudaSuccess : cudaErrorLaunchFailure;
}

} // namespace simt

/* ---------------------------------------------------------------------------------------------- */

using namespace simt;

void simt_set_seed(uint64_t new_seed) {
    const lock one_at_a_time;
    seed = new_seed;
}
