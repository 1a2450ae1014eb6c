/* memory.cpp - device memory: allocations between red zones, and what was ever written.
 *
 * One range of addresses is reserved at the first use; memory is handed out upwards and never
 * reused, so a pointer to freed memory stays one. Bytes start as NaN floats. */
#include "machine.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <sys/mman.h>

namespace simt {

constexpr size_t HEAP_BYTES = (size_t)64 << 30; /* of addresses */
constexpr size_t RED_ZONE = 512, ALIGNMENT = 256;

struct allocation {
    size_t bytes;
    bool on_host, freed;
};

device_heap heap;
static std::map<uintptr_t, allocation> allocations;
static size_t next_offset, bytes_in_use;

/* Pages of it exist once they are touched. */
template <class T> static T *reserve(size_t count) {
    void *memory = mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    madvise(memory, count * sizeof(T), MADV_DONTDUMP);
    madvise(memory, count * sizeof(T), MADV_HUGEPAGE); /* fewer faults: half of the time */
    return static_cast<T *>(memory);
}

static bool reserve_heap() {
    if (heap.base != nullptr) return true;
    char *base = reserve<char>(HEAP_BYTES);
    heap.state = reserve<uint8_t>(HEAP_BYTES);
    heap.touched = reserve<history>(HEAP_BYTES);
    heap.loaded = reserve<uint32_t>(HEAP_BYTES / 32);
    heap.stored = reserve<uint32_t>(HEAP_BYTES / 32);
    if (!base || !heap.state || !heap.touched || !heap.loaded || !heap.stored) return false;
    heap.base = base;
    heap.size = HEAP_BYTES;
    return true;
}

void *allocate(size_t bytes, bool on_host) {
    if (!reserve_heap() || bytes > DEVICE_BYTES - bytes_in_use) return nullptr;
    const size_t offset = next_offset + RED_ZONE;
    const size_t end = (offset + bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (end + RED_ZONE > heap.size) return nullptr;
    next_offset = end;
    bytes_in_use += bytes;
    memset(heap.base + offset, 0xff, bytes);
    memset(heap.state + offset, on_host ? WRITTEN : NEVER_WRITTEN, bytes);
    allocations[(uintptr_t)heap.base + offset] = {bytes, on_host, false};
    return heap.base + offset;
}

bool release(void *memory, bool on_host) {
    const auto found = allocations.find((uintptr_t)memory);
    if (found == allocations.end() || found->second.freed || found->second.on_host != on_host)
        return false;
    const size_t offset = (size_t)((char *)memory - heap.base), bytes = found->second.bytes;
    found->second.freed = true;
    bytes_in_use -= bytes;
    memset(heap.state + offset, NOT_ALLOCATED, bytes);
    const size_t page = 4096, first = (offset + page - 1) / page * page;
    const size_t end = (offset + bytes) / page * page;
    if (first < end) {
        madvise(heap.base + first, end - first, MADV_DONTNEED);
        madvise(heap.touched + first, (end - first) * sizeof(history), MADV_DONTNEED);
    }
    return true;
}

size_t allocated_bytes() { return bytes_in_use; }

/* The allocation at or below an address, or the end. */
static std::map<uintptr_t, allocation>::iterator at_or_below(uintptr_t address) {
    auto next = allocations.upper_bound(address);
    return next == allocations.begin() ? allocations.end() : std::prev(next);
}

bool is_device_memory(const void *memory) {
    const auto it = at_or_below((uintptr_t)memory);
    return heap.holds(memory) && it != allocations.end() && !it->second.on_host;
}

const char *describe(const void *address) {
    const auto it = at_or_below((uintptr_t)address);
    if (!heap.holds(address) || it == allocations.end())
        return text("%p, which is no device memory", address);
    const size_t offset = (uintptr_t)address - it->first, bytes = it->second.bytes;
    const auto next = std::next(it);
    const size_t to_next = next != allocations.end() ? next->first - (uintptr_t)address : SIZE_MAX;
    if (offset < bytes)
        return text("%p, byte %zu of %s of %zu bytes", address, offset,
                    it->second.freed ? "a freed allocation" : "an allocation", bytes);
    if (to_next <= offset - bytes)
        return text("%p, %zu bytes before an allocation of %zu bytes", address, to_next,
                    next->second.bytes);
    return text("%p, %zu bytes after the end of an allocation of %zu bytes", address,
                offset - bytes, bytes);
}

static bool in_bounds(const char *who, const char *verb, const void *memory, size_t bytes) {
    if (!heap.holds(memory)) {
        report("%s %s %s", who, verb, describe(memory));
        return false;
    }
    const size_t offset = (size_t)((const char *)memory - heap.base);
    const size_t left = std::min(bytes, heap.size - offset);
    const void *gap = memchr(heap.state + offset, NOT_ALLOCATED, left);
    if (gap == nullptr && left == bytes) return true;
    const size_t good = gap ? (size_t)((const uint8_t *)gap - heap.state) - offset : left;
    report("%s %s %zu bytes up to %s", who, verb, bytes, describe((const char *)memory + good));
    return false;
}

bool may_load(const char *who, const void *memory, size_t bytes) {
    if (bytes == 0) return true;
    if (!in_bounds(who, "reads", memory, bytes)) return false;
    const size_t good = simt_first_unwritten(memory, bytes);
    if (good < bytes)
        report("%s reads what was never written: %s", who, describe((const char *)memory + good));
    return good == bytes;
}

bool may_store(const char *who, void *memory, size_t bytes) {
    if (bytes == 0) return true;
    if (!in_bounds(who, "writes", memory, bytes)) return false;
    memset(heap.state + ((char *)memory - heap.base), WRITTEN, bytes);
    return true;
}

} // namespace simt

using namespace simt;

void simt_forget(void *device_memory, size_t bytes) {
    const lock one_at_a_time;
    if (bytes == 0 || !in_bounds("simt_forget", "takes", device_memory, bytes)) return;
    memset(device_memory, 0xff, bytes);
    memset(heap.state + ((char *)device_memory - heap.base), NEVER_WRITTEN, bytes);
}

size_t simt_first_unwritten(const void *device_memory, size_t bytes) {
    const lock one_at_a_time;
    if (!heap.holds(device_memory)) return 0;
    const uint8_t *state = heap.state + ((const char *)device_memory - heap.base);
    const void *found = memchr(state, NEVER_WRITTEN, bytes);
    return found ? (size_t)((const uint8_t *)found - state) : bytes;
}
