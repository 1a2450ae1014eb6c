/* topk_scratch.cuh - what the launches of kind=global and kind=threshold tell each other.
 *
 * Everything is zeros before the first call. Counters are back at 0 when a launch ends. */
#ifndef COG_TOPK_SCRATCH_CUH
#define COG_TOPK_SCRATCH_CUH

#include "topk.cuh"

constexpr int TOPK_BINS = 4096;
constexpr int TOPK_SPARE = 16384; /* listed entries above TOPK_SLACK times the wanted number */
constexpr int TOPK_SLACK = 4;

/* What the next launch has to do. */
enum topk_mode : uint32_t {
    TOPK_COMBINE, /* form the trial */
    TOPK_REFINE,  /* narrow the bracket further, too many are left to list them */
    TOPK_GATHER,  /* list all that reach the bracket */
    TOPK_LISTED,  /* go on with the list */
    TOPK_ABOVE    /* a threshold was enough; only offsets have to be moved */
};

/* The bracket [low, low + 2^shift) of magnitudes holds the smallest one that is sent. */
struct topk_scratch {
    uint32_t mode;
    uint32_t ticket, n_done;
    uint32_t above_calls, exact_calls;
    uint32_t low;
    int64_t above;    /* magnitudes above the bracket */
    int64_t at_least; /* magnitudes that reach it */
    int64_t found, m; /* mode above: how many reached the threshold, how many were sent */
    cog_u64 n_listed;
    cog_u64 bin[TOPK_BINS];
};

struct topk_arrays {
    cog_u64 *above;           /* [n_tiles] look-back */
    cog_u64 *greater, *equal; /* [n_tiles / 8] look-back */
    int64_t *start;           /* [n_tiles] first listed entry of a tile */
    uint32_t *value;          /* [capacity] the list: bits, unordered between tiles */
    uint16_t *place;          /* [capacity] */
    uint16_t *count;          /* [n_tiles] listed entries */
    uint16_t *offset;         /* [kept] mode above: offsets until they are moved */
};

static inline int64_t topk_units(const cog_topk_format &f) {
    return (f.n_tiles + COG_MAX_WARPS - 1) / COG_MAX_WARPS;
}

__host__ __device__ inline int64_t topk_capacity(const cog_topk_format &f) {
    const int64_t most = TOPK_SLACK * f.wanted + TOPK_SPARE;
    return f.n < most ? f.n : most;
}

static inline topk_arrays topk_arrays_of(const cog_topk_format &f, void *scratch) {
    const int64_t n_units = topk_units(f), capacity = topk_capacity(f);
    topk_arrays a;
    a.above = reinterpret_cast<cog_u64 *>(static_cast<topk_scratch *>(scratch) + 1);
    a.greater = a.above + f.n_tiles;
    a.equal = a.greater + n_units;
    a.start = reinterpret_cast<int64_t *>(a.equal + n_units);
    a.value = reinterpret_cast<uint32_t *>(a.start + f.n_tiles);
    a.place = reinterpret_cast<uint16_t *>(a.value + capacity);
    a.count = a.place + capacity;
    a.offset = a.count + f.n_tiles;
    return a;
}

static inline size_t topk_scratch_bytes(const cog_topk_format &f) {
    const topk_arrays a = topk_arrays_of(f, nullptr);
    return reinterpret_cast<uintptr_t>(a.offset + f.kept);
}

#endif
