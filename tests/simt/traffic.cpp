/* traffic.cpp - the accesses of a warp as requests: bytes, sectors of 32 bytes, shared-memory
 * banks.
 *
 * Threads run one by one, so what a warp does at once is put together afterwards: the k-th access
 * of every lane by the same instruction, counted since the lane last met others (in a barrier, a
 * __syncwarp, a shuffle or a vote), is one request. This is exact for lanes that take the same way,
 * and the best case of hardware for lanes that do not. */
#include "machine.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace simt {

struct request {
    int n;
    const access *lane[WARP];
};

static int distinct(uint64_t *values, int n) {
    if (!std::is_sorted(values, values + n)) std::sort(values, values + n);
    return (int)(std::unique(values, values + n) - values);
}

/* Every 32-byte sector, and those that this launch had not touched yet. */
static int sectors_of(const request &r, uint32_t *last_launch, uint64_t *fresh) {
    uint64_t sector[WARP];
    for (int i = 0; i < r.n; i++) sector[i] = (r.lane[i]->address - (uintptr_t)heap.base) / 32;
    const int n = distinct(sector, r.n);
    for (int i = 0; i < n; i++) {
        *fresh += last_launch[sector[i]] != run.launch;
        last_launch[sector[i]] = run.launch;
    }
    return n;
}

/* A wavefront serves one 4-byte word of each of 32 banks, and at most 128 bytes: wide accesses take
 * turns of 128 bytes. Conflicts are the wavefronts beyond one a turn. */
static int bank_conflicts_of(const request &r) {
    const int words = (r.lane[0]->bytes + 3) / 4, per_turn = WARP / words;
    int conflicts = 0;
    for (int first = 0; first < r.n; first += per_turn) {
        uint64_t word[WARP];
        const int lanes = std::min(per_turn, r.n - first);
        int n = 0, of_bank[WARP] = {};
        for (int i = 0; i < lanes; i++)
            for (int w = 0; w < words; w++)
                word[n++] = r.lane[first + i]->address / 4 + (uint64_t)w;
        n = distinct(word, n);
        for (int i = 0; i < n; i++) of_bank[word[i] % WARP]++;
        conflicts += *std::max_element(of_bank, of_bank + WARP) - 1;
    }
    return conflicts;
}

static void count(const request &r) {
    const access &a = *r.lane[0];
    const uint64_t bytes = (uint64_t)a.bytes * (uint64_t)r.n;
    if (a.space == SHARED) {
        counters.shared_requests++;
        counters.bank_conflicts += (uint64_t)bank_conflicts_of(r);
        if (a.kind == ATOMIC) counters.shared_atomics += (uint64_t)r.n;
    } else if (a.kind == LOAD) {
        counters.load_requests++;
        counters.load_bytes += bytes;
        counters.load_sectors += (uint64_t)sectors_of(r, heap.loaded, &counters.load_unique);
    } else if (a.kind == STORE) {
        counters.store_requests++;
        counters.store_bytes += bytes;
        counters.store_sectors += (uint64_t)sectors_of(r, heap.stored, &counters.store_unique);
    } else {
        counters.atomic_requests++;
        counters.atomics += (uint64_t)r.n;
    }
}

static bool same_moment(const access &a, const access &b) {
    return a.site == b.site && a.meeting == b.meeting;
}

/* The usual case: every lane did what the busiest did, or the beginning of it. */
static bool in_lockstep(const thread *lanes, int n_lanes, const thread &busiest) {
    for (int l = 0; l < n_lanes; l++)
        for (size_t i = 0; i < lanes[l].log.size(); i++)
            if (!same_moment(lanes[l].log[i], busiest.log[i])) return false;
    return true;
}

static void count_in_order(const thread *lanes, int n_lanes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        request r = {0, {}};
        for (int l = 0; l < n_lanes; l++)
            if (i < lanes[l].log.size()) r.lane[r.n++] = &lanes[l].log[i];
        count(r);
    }
}

struct numbered {
    std::tuple<uint32_t, uintptr_t, uint32_t> moment; /* meeting, site, turn */
    const access *what;
};

static void count_by_moment(const thread *lanes, int n_lanes) {
    std::vector<numbered> all;
    for (int l = 0; l < n_lanes; l++) {
        std::map<std::pair<uint32_t, uintptr_t>, uint32_t> turns;
        for (const access &a : lanes[l].log)
            all.push_back({{a.meeting, a.site, turns[{a.meeting, a.site}]++}, &a});
    }
    std::stable_sort(all.begin(), all.end(),
                     [](const numbered &a, const numbered &b) { return a.moment < b.moment; });
    for (size_t i = 0; i < all.size();) {
        request r = {0, {}};
        const auto moment = all[i].moment;
        for (; i < all.size() && all[i].moment == moment; i++) r.lane[r.n++] = all[i].what;
        count(r);
    }
}

void count_requests(thread *lanes, int n_lanes) {
    const thread *busiest =
        std::max_element(lanes, lanes + n_lanes, [](const thread &a, const thread &b) {
            return a.log.size() < b.log.size();
        });
    if (in_lockstep(lanes, n_lanes, *busiest))
        count_in_order(lanes, n_lanes, busiest->log.size());
    else
        count_by_moment(lanes, n_lanes);
    for (int l = 0; l < n_lanes; l++) {
        lanes[l].log.clear();
        lanes[l].meetings = 0;
    }
}

} // namespace simt
