/* decode.cu - all messages of an update and the optimizer's step in one pass over the parameters.
 * Meaning: host/replica.c, host/optimizer.c and `add` of host/compress/.
 *
 * A thread block owns a tile of 4096 parameters: it sums the weighted messages of the tile in
 * their order, message by message, and steps. Nobody else touches the tile, so there are no
 * atomics and the bits do not depend on the order of threads.
 *
 *     dense layouts    sums in registers, 8 a thread
 *     entries (topk)   sums in shared memory: an entry is scattered there by one thread, and a
 *                      barrier parts two messages
 *
 * Traffic, bytes an entry: parameters 8, momentum + 8, Adam + 16, bf16 copy + 2; payload once:
 * fp32 4, bf16 2, signs 1/8 (zeros + 1/8), codes bits/8, entries 6 (4 with bf16 values) a kept one
 * and, with a table, up to 1/25; 4 bytes a scale, 16 a message and tile. Plain SGD on entries
 * leaves out the groups that no message touched: at most 64 bytes a kept entry instead of 8 an
 * entry.
 */
#include "decode_step.cuh"

namespace {

constexpr int BATCH = 32;     /* messages known at a time: 3 KB of shared memory */
constexpr int MAX_PARTS = 16; /* of 256 entries in a tile */
constexpr int RUN = 64;       /* parts between two bases of a table */
constexpr int AHEAD = 4;      /* messages whose entries are on their way at a time */
constexpr int GRADIENT = -1;  /* the layout without messages */

struct batch {
    cog_kernel_message message[BATCH];
    uint32_t part[BATCH][MAX_PARTS + 1]; /* dense: scales, as bits; entries: where parts begin */
};

/* ---- what a batch of messages says about the tile -------------------------------------------- */

__device__ inline const char *body_of(const cog_kernel_format &f, const cog_kernel_message &m) {
    return static_cast<const char *>(m.payload) + f.body;
}

__device__ inline int parts_of(const cog_kernel_format &f, const tile &t) {
    return (int)((int64_t)(t.count - 1) >> f.part_bits) + 1;
}

/* Scales begin at word `from` of a payload. */
__device__ inline void load_scales(const cog_kernel_format &f, const tile &t, int n, int from,
                                   batch *b) {
    const int parts = parts_of(f, t);
    for (int i = (int)threadIdx.x; i < n * parts; i += THREADS) {
        const int m = i / parts, part = i % parts;
        const uint32_t *scale = static_cast<const uint32_t *>(b->message[m].payload) + from;
        b->part[m][part] = __ldg(scale + (t.first >> f.part_bits) + part);
    }
}

/* Entries kept before a part, cog_topk_chunk_start() of the host. */
__device__ inline uint32_t chunk_start(const cog_kernel_format &f, int64_t part) {
    const int64_t entries_before = part << f.part_bits;
    if (entries_before >= f.n) return (uint32_t)f.kept;
    if (f.ratio == 0) return (uint32_t)part;
    const double share = __dmul_rn(f.ratio, (double)entries_before);
    return (uint32_t)ceil(__dadd_rn(share, -__dmul_rn(share, 0x1p-51)));
}

/* The same for all messages, so only the first has it. */
__device__ inline void find_chunks(const cog_kernel_format &f, const tile &t, batch *b) {
    const int i = (int)threadIdx.x;
    if (i <= parts_of(f, t)) b->part[0][i] = chunk_start(f, (t.first >> f.part_bits) + i);
}

/* A warp for each message: base of the run, plus the counts of the parts before. Two a lane. */
__device__ inline void sum_counts(const cog_kernel_format &f, const tile &t, int n, batch *b) {
    const int64_t part = t.first >> f.part_bits, run = part / RUN;
    const int skipped = (int)(part % RUN), parts = parts_of(f, t);
#pragma unroll 1
    for (int m = warp_id(); m < n; m += WARPS) {
        const char *payload = static_cast<const char *>(b->message[m].payload);
        const uint32_t *count = reinterpret_cast<const uint32_t *>(payload + f.extra);
        uint32_t pair = 0, start = 0;
        if (2 * lane_id() < skipped + parts) pair = __ldg(count + run * (RUN / 2) + lane_id());
        if (lane_id() == 0) start = __ldg(reinterpret_cast<const uint32_t *>(payload) + 1 + run);
        const uint32_t low = pair & 0xffff, high = pair >> 16;
        start += low + high;
        for (int apart = 1; apart < COG_WARP; apart *= 2) {
            const uint32_t before = __shfl_up_sync(COG_ALL_LANES, start, (unsigned)apart);
            if (lane_id() >= apart) start += before;
        }
        const int p = 2 * lane_id() - skipped; /* the part that `low` counts */
        uint32_t *begin = b->part[m];
        if (p == 0) begin[0] = start - high - low;
        if (p == -1) begin[0] = start - high;
        if (p >= 0 && p < parts) begin[p + 1] = start - high;
        if (p >= -1 && p + 1 < parts) begin[p + 2] = start;
    }
}

template <int LAYOUT>
__device__ inline void load_batch(const cog_kernel_decode &w, const tile &t, int from, int n,
                                  batch *b) {
    __syncthreads(); /* everybody is done with the batch before */
    if ((int)threadIdx.x < n) {
        const cog_kernel_message *m = w.messages + from + threadIdx.x;
        b->message[threadIdx.x].payload = m->payload;
        b->message[threadIdx.x].weight = m->weight;
        b->message[threadIdx.x].head = m->head;
    }
    __syncthreads();
    if (LAYOUT == COG_LAYOUT_SIGNS) load_scales(w.format, t, n, 1, b);
    if (LAYOUT == COG_LAYOUT_CODES) load_scales(w.format, t, n, 0, b);
    if (LAYOUT == COG_LAYOUT_CHUNKS) find_chunks(w.format, t, b);
    if (LAYOUT == COG_LAYOUT_TABLE) sum_counts(w.format, t, n, b);
    if (LAYOUT >= COG_LAYOUT_SIGNS) __syncthreads();
}

/* ---- sums in registers ----------------------------------------------------------------------- */

__device__ inline void add(float weight, const four &x, four *sum) {
    for (int j = 0; j < 4; j++) sum->v[j] = fmaf(weight, x.v[j], sum->v[j]);
}

template <bool WIDE>
__device__ inline void add_floats(const float *x, float weight, int count, four (&sum)[GROUPS]) {
    for (int g = 0; g < GROUPS; g++) add(weight, get_payload<WIDE>(x, count, g), &sum[g]);
}

template <bool WIDE>
__device__ inline void add_bf16(const uint16_t *x, float weight, int count, four (&sum)[GROUPS]) {
    for (int g = 0; g < GROUPS; g++) add(weight, get_payload<WIDE>(x, count, g), &sum[g]);
}

/* The warp's words of signs are loaded by the first lanes, those of zeros by the next; every lane
 * then asks for the word of its entries. */
template <bool WIDE>
__device__ inline void add_signs(const cog_kernel_format &f, const tile &t, const batch &b, int m,
                                 four (&sum)[GROUPS]) {
    constexpr int WORDS = SEGMENT / 32;
    const char *payload = static_cast<const char *>(b.message[m].payload);
    const bool has_zeros = (b.message[m].head & 1) != 0, is_zero = lane_id() >= WORDS;
    const int mine = warp_id() * WORDS + lane_id() % WORDS;
    const char *section = payload + (is_zero ? f.extra : f.body);
    uint32_t word = 0;
    if (lane_id() < (has_zeros ? 2 * WORDS : WORDS) && mine * 32 < t.count)
        word = __ldg(reinterpret_cast<const uint32_t *>(section) + t.first / 32 + mine);
    for (int g = 0; g < GROUPS; g++) {
        const int part = (int)((int64_t)place<WIDE>(g, 0) >> f.part_bits);
        const uint32_t scale = b.part[m][place<WIDE>(g, 0) < t.count ? part : 0];
        uint32_t negative = 0, zero = 0;
        four x;
        for (int j = 0; j < 4; j++) {
            const int from = WIDE ? 4 * g + lane_id() / 8 : 4 * g + j;
            const int bit = WIDE ? lane_id() % 8 * 4 + j : lane_id();
            if (!WIDE || j == 0) {
                negative = __shfl_sync(COG_ALL_LANES, word, from);
                if (has_zeros) zero = __shfl_sync(COG_ALL_LANES, word, from + WORDS);
            }
            const uint32_t value = scale ^ (negative >> bit & 1) << 31;
            x.v[j] = __uint_as_float((zero >> bit & 1) != 0 ? 0 : value);
        }
        add(b.message[m].weight, x, &sum[g]);
    }
}

/* The warp's words of codes: 8 blocks of 32 entries, a word a bit of a code, two a lane at most. */
struct code_words {
    uint32_t low, high;
};

__device__ inline code_words load_codes(const cog_kernel_format &f, const tile &t,
                                        const char *body) {
    const int bits = f.value_bytes, before = warp_id() * SEGMENT;
    const uint32_t *words =
        reinterpret_cast<const uint32_t *>(body) + (t.first + before) / 32 * bits;
    const int left = t.count - before < SEGMENT ? t.count - before : SEGMENT;
    const int n = (left + 31) / 32 * bits;
    code_words w = {0, 0};
    if (lane_id() < n) w.low = __ldg(words + lane_id());
    if (lane_id() + COG_WARP < n) w.high = __ldg(words + lane_id() + COG_WARP);
    return w;
}

__device__ inline uint32_t ask_word(const code_words &w, int i, bool any_high) {
    const uint32_t low = __shfl_sync(COG_ALL_LANES, w.low, i % COG_WARP);
    if (!any_high) return low;
    const uint32_t high = __shfl_sync(COG_ALL_LANES, w.high, i % COG_WARP);
    return i < COG_WARP ? low : high;
}

template <bool WIDE>
__device__ inline void add_codes(const cog_kernel_format &f, const tile &t, const batch &b, int m,
                                 four (&sum)[GROUPS]) {
    const int bits = f.value_bytes;
    const float zero = bits == 1 ? 0.5f : (float)((1 << (bits - 1)) - 1);
    const code_words w = load_codes(f, t, body_of(f, b.message[m]));
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        uint32_t code[4] = {0, 0, 0, 0}, word = 0;
        for (int p = 0; p < bits; p++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int block = WIDE ? 4 * g + lane_id() / 8 : 4 * g + j;
                const int bit = WIDE ? lane_id() % 8 * 4 + j : lane_id();
                if (!WIDE || j == 0) word = ask_word(w, block * bits + p, bits > 4);
                code[j] |= (word >> bit & 1) << p;
            }
        const int part = (int)((int64_t)place<WIDE>(g, 0) >> f.part_bits);
        float step = __uint_as_float(b.part[m][place<WIDE>(g, 0) < t.count ? part : 0]);
        if (bits == 1) step = __fmul_rn(2.0f, step);
        four x;
#pragma unroll
        for (int j = 0; j < 4; j++) x.v[j] = fmaf(__fadd_rn((float)code[j], -zero), step, 0.0f);
        add(b.message[m].weight, x, &sum[g]);
    }
}

template <int LAYOUT, bool WIDE>
__device__ inline void add_dense(const cog_kernel_decode &w, const tile &t, const batch &b, int n,
                                 four (&sum)[GROUPS]) {
#pragma unroll(LAYOUT == COG_LAYOUT_SIGNS ? 2 : 1) /* or registers run out */
    for (int m = 0; m < n; m++) {
        const char *body = body_of(w.format, b.message[m]);
        const float weight = b.message[m].weight;
        if (LAYOUT == COG_LAYOUT_FP32)
            add_floats<WIDE>(reinterpret_cast<const float *>(body) + t.first, weight, t.count, sum);
        if (LAYOUT == COG_LAYOUT_BF16)
            add_bf16<WIDE>(reinterpret_cast<const uint16_t *>(body) + t.first, weight, t.count,
                           sum);
        if (LAYOUT == COG_LAYOUT_SIGNS) add_signs<WIDE>(w.format, t, b, m, sum);
        if (LAYOUT == COG_LAYOUT_CODES) add_codes<WIDE>(w.format, t, b, m, sum);
    }
}

/* ---- sums in shared memory ------------------------------------------------------------------- */

struct entry {
    int place; /* -1: none */
    float value;
};

/* Entry i of message m in the tile. */
template <int LAYOUT>
__device__ inline entry find_entry(const cog_kernel_format &f, const batch &b, int parts, int m,
                                   int i) {
    const uint32_t *begin = b.part[LAYOUT == COG_LAYOUT_TABLE ? m : 0];
    const uint32_t e = begin[0] + (uint32_t)i;
    if ((uint32_t)i >= begin[parts] - begin[0]) return {-1, 0};
    const int64_t all = LAYOUT == COG_LAYOUT_TABLE ? b.message[m].head : f.kept;
    const char *value = body_of(f, b.message[m]);
    const char *offset = value + (all * f.value_bytes + 3) / 4 * 4;
    int part = 0;
    while (part + 1 < parts && e >= begin[part + 1]) part++;
    entry found;
    found.place = (part << f.part_bits) + __ldg(reinterpret_cast<const uint16_t *>(offset) + e);
    found.value = f.value_bytes == 2
                      ? cog_float_of(__ldg(reinterpret_cast<const uint16_t *>(value) + e))
                      : __ldg(reinterpret_cast<const float *>(value) + e);
    return found;
}

__device__ inline void add_entry(entry e, float weight, float *sum) {
    if (e.place >= 0) sum[e.place] = fmaf(weight, e.value, sum[e.place]);
}

/* Entries of one message lie at different places; the next message waits at the barrier. */
template <int LAYOUT>
__device__ inline void add_entries(const cog_kernel_format &f, const tile &t, const batch &b, int n,
                                   float *sum) {
    const int me = (int)threadIdx.x, parts = parts_of(f, t);
    for (int m = 0; m < n; m += AHEAD) {
        entry ahead[AHEAD];
        for (int k = 0; k < AHEAD; k++)
            if (m + k < n) ahead[k] = find_entry<LAYOUT>(f, b, parts, m + k, me);
        for (int k = 0; k < AHEAD; k++) {
            if (m + k >= n) break;
            const float weight = b.message[m + k].weight;
            add_entry(ahead[k], weight, sum);
            if (ahead[k].place >= 0) /* crowded tiles have more than a thread each */
#pragma unroll 1
                for (int i = me + THREADS; i < t.count; i += THREADS)
                    add_entry(find_entry<LAYOUT>(f, b, parts, m + k, i), weight, sum);
            __syncthreads();
        }
    }
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* What the threads of a block share. */
template <bool SPARSE> struct common {
    float4 sum[SPARSE ? TILE / 4 : 1];
    batch known;
    int first[2]; /* messages of the tile: from, up to */
};

/* The weighted messages of the tile, in the thread's registers. */
template <int LAYOUT, bool WIDE, bool SPARSE>
__device__ inline void sum_messages(const cog_kernel_decode &w, const tile &t, common<SPARSE> *c,
                                    four (&sum)[GROUPS]) {
    float *shared_sum = reinterpret_cast<float *>(c->sum);
    if (SPARSE)
        for (int i = (int)threadIdx.x; i < TILE / 4; i += THREADS)
            c->sum[i] = make_float4(0, 0, 0, 0);
    if (threadIdx.x < 2) c->first[threadIdx.x] = w.first[t.block + (int)threadIdx.x];
    __syncthreads();
    for (int from = c->first[0], end = c->first[1]; from < end; from += BATCH) {
        const int n = end - from < BATCH ? end - from : BATCH;
        load_batch<LAYOUT>(w, t, from, n, &c->known);
        if (SPARSE)
            add_entries<LAYOUT>(w.format, t, c->known, n, shared_sum);
        else
            add_dense<LAYOUT, WIDE>(w, t, c->known, n, sum);
    }
    if (SPARSE)
        for (int g = 0; g < GROUPS; g++) sum[g] = get<WIDE>(shared_sum, TILE, 15, g);
}

template <int LAYOUT, int RULE, bool WIDE, bool SPARSE>
__device__ inline void decode_tile(const cog_kernel_decode &w, const tile &t, common<SPARSE> *c) {
    four sum[GROUPS] = {};
    if (LAYOUT == GRADIENT)
        for (int g = 0; g < GROUPS; g++) sum[g] = get<WIDE>(w.gradient + t.at, t.count, 15, g);
    else
        sum_messages<LAYOUT, WIDE>(w, t, c, sum);
    step<RULE, WIDE, SPARSE>(w, t, sum);
}

/* Blocks a multiprocessor shall hold: as many as registers allow without spills. */
constexpr int resident(int layout, int rule) {
    const bool loads_ahead = layout == COG_LAYOUT_FP32 || layout == COG_LAYOUT_BF16;
    return loads_ahead || rule == COG_RULE_ADAM ? 2 : 3;
}

template <int LAYOUT, int RULE>
__global__ void __launch_bounds__(THREADS, resident(LAYOUT, RULE))
    decode_kernel(const __grid_constant__ cog_kernel_decode w, int tiles_per_block) {
    constexpr bool SPARSE = LAYOUT >= COG_LAYOUT_CHUNKS;
    __shared__ common<SPARSE> c;
    tile t;
    t.block = (int)(blockIdx.x / (unsigned)tiles_per_block);
    t.first = (int64_t)(blockIdx.x % (unsigned)tiles_per_block) * TILE;
    t.at = t.block * w.format.n + t.first;
    t.count = (int)(w.format.n - t.first < TILE ? w.format.n - t.first : TILE);
    if (is_wide<RULE>(w, t))
        decode_tile<LAYOUT, RULE, true>(w, t, &c);
    else
        decode_tile<LAYOUT, RULE, false>(w, t, &c);
}

template <int LAYOUT>
int launch(void *stream, const cog_kernel_decode &work, int64_t n_tiles, int64_t per_block) {
#define DECODE(rule)                                                                       \
    COG_LAUNCH((decode_kernel<LAYOUT, rule>), (unsigned)n_tiles, THREADS, 0, stream, work, \
               (int)per_block)
    switch (work.step.rule) {
    case COG_RULE_SGD: return DECODE(COG_RULE_SGD);
    case COG_RULE_MOMENTUM: return DECODE(COG_RULE_MOMENTUM);
    case COG_RULE_ADAM: return DECODE(COG_RULE_ADAM);
    default: return cudaErrorInvalidValue;
    }
#undef DECODE
}

} // namespace

/* ---------------------------------------------------------------------------------------------- */

extern "C" int cog_cuda_decode(void *stream, const cog_kernel_decode *work) {
    const int64_t per_block = (work->format.n + TILE - 1) / TILE;
    const int64_t n_tiles = per_block * work->n_blocks;
    if (n_tiles <= 0) return cudaSuccess;
    if (n_tiles > INT32_MAX) return cudaErrorInvalidValue;
    if (work->gradient != nullptr) return launch<GRADIENT>(stream, *work, n_tiles, per_block);
    switch (work->format.layout) {
    case COG_LAYOUT_FP32: return launch<COG_LAYOUT_FP32>(stream, *work, n_tiles, per_block);
    case COG_LAYOUT_BF16: return launch<COG_LAYOUT_BF16>(stream, *work, n_tiles, per_block);
    case COG_LAYOUT_SIGNS: return launch<COG_LAYOUT_SIGNS>(stream, *work, n_tiles, per_block);
    case COG_LAYOUT_CODES: return launch<COG_LAYOUT_CODES>(stream, *work, n_tiles, per_block);
    case COG_LAYOUT_CHUNKS: return launch<COG_LAYOUT_CHUNKS>(stream, *work, n_tiles, per_block);
    case COG_LAYOUT_TABLE: return launch<COG_LAYOUT_TABLE>(stream, *work, n_tiles, per_block);
    default: return cudaErrorInvalidValue;
    }
}
