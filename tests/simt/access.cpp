/* access.cpp - every load, store and atomic of a kernel passes here before it happens.
 *
 * The compiler announces accesses as it does for ThreadSanitizer (Serebryany and Iskhodzhanov,
 * WBIA 2009), by calls of __tsan_read4 and the like, which are defined here instead of in its
 * library. An address is device memory, shared memory, the thread's own stack, a constant of the
 * program - or an error.
 *
 * Order between threads is known by segments. A segment is what a block does between two barriers;
 * segments are numbered through all launches, and a byte remembers who wrote and who read it in
 * which segment. Two accesses by different threads, one of them a write, race
 *   - in one segment, unless both are atomic, or in one warp with a __syncwarp of it in between;
 *   - in two blocks of one launch, unless both are atomic, or the first block executed
 *     __threadfence and then an atomic on an address on which the second did an atomic later.
 * What several threads touched is remembered as a crowd: lanes of one warp, warps, or blocks. Order
 * between lanes goes by ticks: a warp's clock ticks at every __syncwarp, and a lane knows up to
 * which tick the accesses of each other lane lie before its own. */
#include "machine.h"

#include <algorithm>
#include <cstring>
#include <dlfcn.h>
#include <link.h>
#include <optional>

namespace simt {

thread_local uint4 cog_shared_memory[MAX_SHARED_BYTES / sizeof(uint4)] asm("cog_shared");

enum crowd : uint32_t { ONE_WARP, WARPS, BLOCKS };

static void reset_clocks();

/* ---- order between blocks ------------------------------------------------------------------ */

struct block_record {
    uint32_t first_segment;
    uint3 index;
    uintptr_t released; /* the atomic after its last fence, 0 when it wrote something since */
};
static std::vector<block_record> blocks; /* of this launch, as they ran */
static std::vector<uintptr_t> acquired;  /* atomics of the running block */
static bool fenced;
static enum { UNKNOWN, NO, YES } all_handed_over;

void forget_blocks() { blocks.clear(); }

void begin_block() {
    blocks.push_back({run.segment, simt_block_index, 0});
    acquired.clear();
    fenced = false;
    all_handed_over = UNKNOWN;
    reset_clocks();
}

void fence() { fenced = true; }

static void order_by_atomic(uintptr_t address) {
    if (std::find(acquired.begin(), acquired.end(), address) == acquired.end())
        acquired.push_back(address);
    all_handed_over = UNKNOWN;
    if (fenced) blocks.back().released = address;
}

static const block_record &block_of(uint32_t segment) {
    auto after = std::upper_bound(
        blocks.begin(), blocks.end(), segment,
        [](uint32_t s, const block_record &block) { return s < block.first_segment; });
    return *std::prev(after);
}

static bool handed_over(const block_record &block) {
    const uintptr_t address = block.released;
    return address != 0 && std::find(acquired.begin(), acquired.end(), address) != acquired.end();
}

static bool handed_over_by_all() {
    if (all_handed_over == UNKNOWN)
        all_handed_over =
            std::all_of(blocks.begin(), std::prev(blocks.end()), handed_over) ? YES : NO;
    return all_handed_over == YES;
}

/* ---- order between lanes --------------------------------------------------------------------- */

struct warp_clock {
    uint32_t tick;
    uint32_t known[WARP][WARP]; /* [lane][other] */
};
static warp_clock clocks[MAX_THREADS / WARP];

static void reset_clocks() {
    for (int w = 0; w * WARP < run.n_threads; w++) {
        memset(clocks[w].known, 0, sizeof(clocks[w].known));
        clocks[w].tick = 1;
    }
}

void order_lanes(int warp, unsigned mask) {
    warp_clock &clock = clocks[warp];
    uint32_t all[WARP];
    for (int other = 0; other < WARP; other++) {
        all[other] = mask >> other & 1u ? clock.tick : 0;
        for (int l = 0; l < WARP; l++)
            if (mask >> l & 1u) all[other] = std::max(all[other], clock.known[l][other]);
    }
    for (int l = 0; l < WARP; l++)
        if (mask >> l & 1u) memcpy(clock.known[l], all, sizeof(all));
    clock.tick++;
}

/* Whether all who touched it, but `lane` itself, are known to have done so before. */
static bool ordered_in_warp(const touch &before, uint32_t lane) {
    for (uint32_t left = before.lanes & ~(1u << lane); left != 0; left &= left - 1)
        if (clocks[before.warp].known[lane][__builtin_ctz(left)] < before.tick) return false;
    return true;
}

/* ---- races ----------------------------------------------------------------------------------- */

static touch me(bool atomic) {
    const uint32_t warp = (uint32_t)run.current->index / WARP;
    const uint32_t lane = (uint32_t)run.current->index % WARP;
    return {run.segment, warp, lane, ONE_WARP, atomic, clocks[warp].tick, 1u << lane};
}

static bool of_this_launch(const touch &t) {
    return t.segment != 0 && t.segment >= blocks.front().first_segment;
}

/* Whether an earlier touch is known to come before what `now` does. */
static bool ordered(const touch &before, const touch &now, bool shared) {
    if (!of_this_launch(before)) return true;
    if (before.crowd == BLOCKS) return handed_over_by_all();
    if (before.segment < run.block_segment) return shared || handed_over(block_of(before.segment));
    if (before.segment < now.segment) return true;
    return before.crowd == ONE_WARP && before.warp == now.warp && ordered_in_warp(before, now.lane);
}

/* The memory of `before` and `now` together; shared memory knows no other block. */
static touch merged(const touch &before, touch now, bool shared) {
    if (!of_this_launch(before)) return now;
    if (before.segment < run.block_segment)
        now.crowd = shared ? ONE_WARP : BLOCKS;
    else if (before.crowd == BLOCKS)
        now.crowd = BLOCKS;
    else if (before.segment == now.segment && (before.crowd == WARPS || before.warp != now.warp))
        now.crowd = WARPS;
    else if (before.segment == now.segment && !ordered_in_warp(before, now.lane))
        now.lanes |= before.lanes;
    return now;
}

static void report_race(const access &a, const touch &other, bool other_wrote) {
    const uint3 block = block_of(other.segment).index;
    const char *verb = a.kind == LOAD ? "reads" : a.kind == STORE ? "writes" : "changes";
    const char *what = a.space == SHARED ? "shared memory" : describe((void *)a.address);
    report("race: it %s %u bytes of %s, which thread %u of block (%u, %u, %u) %s with no barrier "
           "in between",
           verb, a.bytes, what, other.warp * WARP + other.lane, block.x, block.y, block.z,
           !other_wrote   ? "reads"
           : other.atomic ? "changes"
                          : "writes");
}

struct rival {
    touch by;
    bool wrote;
};

/* Remembers the touch of one byte, and a rival if there is one and none was found before. */
static void touch_byte(history *h, const touch &now, access_kind kind, bool shared,
                       std::optional<rival> *found) {
    const bool both_atomic = now.atomic && h->writer.atomic;
    if (!*found && !both_atomic && !ordered(h->writer, now, shared)) *found = {h->writer, true};
    if (!*found && kind != LOAD && !ordered(h->reader, now, shared)) *found = {h->reader, false};
    if (kind == LOAD)
        h->reader = merged(h->reader, now, shared);
    else /* a plain write starts anew, atomics gather */
        h->writer = both_atomic ? merged(h->writer, now, shared) : now;
}

/* Reports when the access races, and remembers it. */
static void check_race(const access &a, history *bytes) {
    const touch now = me(a.kind == ATOMIC);
    std::optional<rival> found;
    history before = bytes[0];
    touch_byte(&bytes[0], now, a.kind, a.space == SHARED, &found);
    for (int i = 1; i < a.bytes; i++)
        if (memcmp(&bytes[i], &before, sizeof(before)) == 0) { /* nearly always */
            bytes[i] = bytes[i - 1];
        } else {
            before = bytes[i];
            touch_byte(&bytes[i], now, a.kind, a.space == SHARED, &found);
        }
    if (found) report_race(a, found->by, found->wrote);
}

/* ---- the four kinds of memory ---------------------------------------------------------------- */

/* Shared variables are thread_local: they lie in the blocks that the dynamic linker made for this
 * thread of the host, one a module. */
struct shared_range {
    uintptr_t low, high;
    std::vector<history> touched;
};
static thread_local std::vector<shared_range> shared_ranges;

static int add_range(dl_phdr_info *info, size_t, void *) {
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) &part = info->dlpi_phdr[i];
        if (part.p_type != PT_TLS || info->dlpi_tls_data == nullptr) continue;
        const uintptr_t low = (uintptr_t)info->dlpi_tls_data;
        shared_ranges.push_back({low, low + part.p_memsz, std::vector<history>(part.p_memsz)});
    }
    return 0;
}

static history *shared_history(uintptr_t address) {
    for (int attempt = 0; attempt < 2; attempt++) {
        for (shared_range &r : shared_ranges)
            if (address >= r.low && address < r.high) return &r.touched[address - r.low];
        if (!shared_ranges.empty()) break;
        dl_iterate_phdr(add_range, nullptr);
    }
    return nullptr;
}

static void touch_shared(const access &a, history *bytes) {
    const uintptr_t dynamic = (uintptr_t)cog_shared_memory;
    const uintptr_t end = dynamic + sizeof(cog_shared_memory);
    if (a.address >= dynamic && a.address < end &&
        a.address + a.bytes > dynamic + run.request->shared_bytes)
        fail("it touches byte %zu of dynamic shared memory, of which the launch has %zu",
             (size_t)(a.address - dynamic), run.request->shared_bytes);
    if (a.kind != STORE)
        for (int i = 0; i < a.bytes; i++)
            if (bytes[i].writer.segment < run.block_segment) {
                report("it reads byte %d of %u bytes of shared memory before anybody wrote it", i,
                       a.bytes);
                break;
            }
    check_race(a, bytes);
    run.current->log.push_back(a);
}

static void touch_global(const access &a) {
    const size_t offset = a.address - (uintptr_t)heap.base;
    uint8_t *state = heap.state + offset;
    bool never_written = false;
    for (int i = 0; i < a.bytes; i++) {
        if (state[i] == NOT_ALLOCATED)
            fail("out of bounds: it %s %u bytes at %s", a.kind == LOAD ? "reads" : "writes",
                 a.bytes, describe((char *)a.address + i));
        never_written |= state[i] == NEVER_WRITTEN;
        state[i] = WRITTEN; /* or reported now, once */
    }
    if (a.kind != STORE && never_written)
        report("it reads what was never written: %s", describe((void *)a.address));
    if (a.kind == STORE) fenced = false, blocks.back().released = 0;
    check_race(a, heap.touched + offset);
    run.current->log.push_back(a);
}

/* Constants of the program and the launch's parameters; anything else is the host's memory. */
static bool is_constant(uintptr_t address) {
    const uintptr_t arguments = (uintptr_t)run.request->arguments;
    if (address - arguments < run.request->argument_bytes) return true;
    static uintptr_t known_page; /* asking takes a microsecond */
    Dl_info info;
    if (address >> 12 != known_page && dladdr((void *)address, &info) == 0) return false;
    known_page = address >> 12;
    return true;
}

static void touch_memory(uintptr_t address, size_t bytes, access_kind kind, uintptr_t site) {
    if (address >= run.stack_low && address < run.stack_high) return;
    access a = {site, address, (uint16_t)bytes, kind, GLOBAL, run.current->meetings};
    const bool global = heap.holds((void *)address);
    history *shared = global ? nullptr : shared_history(address);
    if (!global && !shared) {
        if (kind == LOAD && is_constant(address)) return;
        fail("it %s %zu bytes of the host's memory at %p", kind == LOAD ? "reads" : "writes", bytes,
             (void *)address);
    }
    if (address % bytes != 0)
        fail("misaligned: it %s %zu bytes at %s", kind == LOAD ? "reads" : "writes", bytes,
             global ? describe((void *)address) : "an address that is no multiple of it");
    a.space = global ? GLOBAL : SHARED;
    if (global)
        touch_global(a);
    else
        touch_shared(a, shared);
}

void must_be_global(const char *verb, const void *memory) {
    if (!heap.holds(memory)) fail("%s of an address that is not in global memory", verb);
}

void atomic_access(const void *memory, size_t bytes, const void *site) {
    touch_memory((uintptr_t)memory, bytes, ATOMIC, (uintptr_t)site);
    if (heap.holds(memory)) order_by_atomic((uintptr_t)memory);
}

/* Copies of whole structures count as the 4-byte accesses (or bytes) that they are made of. */
static void touch_range(uintptr_t address, size_t bytes, access_kind kind, uintptr_t site) {
    const size_t step = (address | bytes) % 4 == 0 ? 4 : 1;
    for (size_t i = 0; i < bytes; i += step)
        touch_memory(address + i, step, kind, site + (i << 48));
}

} // namespace simt

/* ---- what the compiler calls ----------------------------------------------------------------- */

#define SITE (uintptr_t) __builtin_return_address(0)
#define ANNOUNCE(name, kind, bytes)                                                \
    extern "C" void __tsan_##name##bytes(void *p) {                                \
        if (simt::is_running) simt::touch_memory((uintptr_t)p, bytes, kind, SITE); \
    }
#define ANNOUNCE_ALL(name, kind) \
    ANNOUNCE(name, kind, 1)      \
    ANNOUNCE(name, kind, 2)      \
    ANNOUNCE(name, kind, 4)      \
    ANNOUNCE(name, kind, 8)      \
    ANNOUNCE(name, kind, 16)
ANNOUNCE_ALL(read, simt::LOAD)
ANNOUNCE_ALL(write, simt::STORE)
ANNOUNCE_ALL(unaligned_read, simt::LOAD)
ANNOUNCE_ALL(unaligned_write, simt::STORE)

extern "C" void __tsan_read_range(void *p, long bytes) {
    if (simt::is_running) simt::touch_range((uintptr_t)p, (size_t)bytes, simt::LOAD, SITE);
}
extern "C" void __tsan_write_range(void *p, long bytes) {
    if (simt::is_running) simt::touch_range((uintptr_t)p, (size_t)bytes, simt::STORE, SITE);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit(void *) {}
