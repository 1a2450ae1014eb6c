/* decode_step.cuh - a tile of parameters among the threads of a block, and the optimizer's step.
 *
 * A warp owns 256 neighbours, a thread 2 groups of 4 of them:
 *
 *     wide      whole tile, aligned      group g of a lane: 4 neighbours at 128 g + 4 lane
 *     narrow    anything else            entry j of group g: 128 g + 32 j + lane
 *
 * Both ask for whole sectors; narrow at an odd address for one sector more a request, which the
 * caches absorb. */
#ifndef COG_DECODE_STEP_CUH
#define COG_DECODE_STEP_CUH

#include "launch.cuh"

namespace {

constexpr int TILE = 4096;   /* COG_ADD_ALIGN: payloads are cut there */
constexpr int THREADS = 512; /* 8 entries each: Adam's registers do not spill, and stay below 64 */
constexpr int WARPS = THREADS / COG_WARP;
constexpr int SEGMENT = TILE / WARPS;
constexpr int GROUPS = SEGMENT / COG_WARP / 4;

struct tile {
    int64_t first; /* entry of a message */
    int64_t at;    /* parameter */
    int block, count;
};

struct four {
    float v[4];
};

__device__ inline int lane_id() { return (int)threadIdx.x % COG_WARP; }
__device__ inline int warp_id() { return (int)threadIdx.x / COG_WARP; }

/* ---- four entries of a thread ---------------------------------------------------------------- */

template <bool WIDE> __device__ inline int place(int g, int j) {
    const int group = warp_id() * SEGMENT + g * 4 * COG_WARP;
    return WIDE ? group + 4 * lane_id() + j : group + j * COG_WARP + lane_id();
}

/* The entries of group g that are there and that `live` has a bit for. */
template <bool WIDE> __device__ inline bool has(int count, int live, int g, int j) {
    return (live >> j & 1) != 0 && place<WIDE>(g, j) < count;
}

template <bool WIDE> __device__ inline four get(const float *x, int count, int live, int g) {
    four got = {{0, 0, 0, 0}};
    if constexpr (WIDE) {
        if (live == 0) return got;
        const float4 v = cog_load4(x + place<true>(g, 0));
        got = {{v.x, v.y, v.z, v.w}};
    } else {
        for (int j = 0; j < 4; j++)
            if (has<WIDE>(count, live, g, j)) got.v[j] = x[place<WIDE>(g, j)];
    }
    return got;
}

/* The same of a payload: its address was data, so the compiler must be told where it points. */
template <bool WIDE> __device__ inline four get_payload(const float *x, int count, int g) {
    four got = {{0, 0, 0, 0}};
    if constexpr (WIDE) {
        const float4 v = __ldg(reinterpret_cast<const float4 *>(x + place<true>(g, 0)));
        got = {{v.x, v.y, v.z, v.w}};
    } else {
        for (int j = 0; j < 4; j++)
            if (has<WIDE>(count, 15, g, j)) got.v[j] = __ldg(x + place<WIDE>(g, j));
    }
    return got;
}

template <bool WIDE> __device__ inline four get_payload(const uint16_t *x, int count, int g) {
    four got = {{0, 0, 0, 0}};
    if constexpr (WIDE) {
        const ushort4 v = __ldg(reinterpret_cast<const ushort4 *>(x + place<true>(g, 0)));
        got = {{cog_float_of(v.x), cog_float_of(v.y), cog_float_of(v.z), cog_float_of(v.w)}};
    } else {
        for (int j = 0; j < 4; j++)
            if (has<WIDE>(count, 15, g, j)) got.v[j] = cog_float_of(__ldg(x + place<WIDE>(g, j)));
    }
    return got;
}

/* Into global memory only: cog_store4 says so to the compiler. */
template <bool WIDE> __device__ inline void put(float *y, int count, int live, int g, four x) {
    if constexpr (WIDE) {
        if (live != 0)
            cog_store4(y + place<true>(g, 0), make_float4(x.v[0], x.v[1], x.v[2], x.v[3]));
    } else {
        for (int j = 0; j < 4; j++)
            if (has<WIDE>(count, live, g, j)) y[place<WIDE>(g, j)] = x.v[j];
    }
}

template <bool WIDE> __device__ inline void put_bf16(uint16_t *y, int count, int g, four x) {
    unsigned short h[4];
    for (int j = 0; j < 4; j++) h[j] = cog_bf16_of(x.v[j]);
    if constexpr (WIDE) {
        cog_store4(y + place<true>(g, 0), make_ushort4(h[0], h[1], h[2], h[3]));
    } else {
        for (int j = 0; j < 4; j++)
            if (has<WIDE>(count, 15, g, j)) y[place<WIDE>(g, j)] = h[j];
    }
}

/* ---- the step -------------------------------------------------------------------------------- */

/* Every product, sum, quotient and root is rounded by itself, as on the CPU. */
template <int RULE>
__device__ inline void step_one(const cog_kernel_step &s, float g, float *p, float *m, float *v) {
    if (RULE == COG_RULE_SGD) {
        *p = __fsub_rn(*p, __fmul_rn(s.rate, g));
    } else if (RULE == COG_RULE_MOMENTUM) {
        *m = __fadd_rn(__fmul_rn(s.beta1, *m), g);
        *p = __fsub_rn(*p, __fmul_rn(s.rate, *m));
    } else {
        *m = __fadd_rn(__fmul_rn(s.beta1, *m), __fmul_rn(s.gain1, g));
        *v = __fadd_rn(__fmul_rn(s.beta2, *v), __fmul_rn(s.gain2, __fmul_rn(g, g)));
        const float size = __fadd_rn(__fmul_rn(__fsqrt_rn(*v), s.correction), s.epsilon);
        *p = __fsub_rn(*p, __fmul_rn(s.rate, __fdiv_rn(*m, size)));
    }
}

/* Entries that plain SGD must look at: p - rate * 0 is p, but with -0 it need not be. A wide group
 * goes together. */
template <bool WIDE> __device__ inline int touched(const four &g) {
    int live = 0;
    for (int j = 0; j < 4; j++) live |= (__float_as_uint(g.v[j]) != 0) << j;
    return WIDE && live != 0 ? 15 : live;
}

template <int RULE, bool WIDE, bool SPARSE>
__device__ inline void step(const cog_kernel_decode &w, const tile &t, const four (&g)[GROUPS]) {
    float *params = w.params + t.at, *m = nullptr, *v = nullptr;
    if (RULE != COG_RULE_SGD) m = w.state + t.at;
    if (RULE == COG_RULE_ADAM) v = m + w.n_blocks * w.format.n;
    for (int i = 0; i < GROUPS; i++) {
        int live = 15;
        if (SPARSE && RULE == COG_RULE_SGD && w.bf16 == nullptr) live = touched<WIDE>(g[i]);
        four p = get<WIDE>(params, t.count, live, i), mean = {{0}}, square = {{0}};
        if (RULE != COG_RULE_SGD) mean = get<WIDE>(m, t.count, 15, i);
        if (RULE == COG_RULE_ADAM) square = get<WIDE>(v, t.count, 15, i);
        for (int j = 0; j < 4; j++)
            step_one<RULE>(w.step, g[i].v[j], &p.v[j], &mean.v[j], &square.v[j]);
        put<WIDE>(params, t.count, live, i, p);
        if (RULE != COG_RULE_SGD) put<WIDE>(m, t.count, 15, i, mean);
        if (RULE == COG_RULE_ADAM) put<WIDE>(v, t.count, 15, i, square);
        if (w.bf16 != nullptr) put_bf16<WIDE>(w.bf16 + t.at, t.count, i, p);
    }
}

/* Whether groups of 4 parameters, and all that goes with them, lie at multiples of 4 entries. */
template <int RULE> __device__ inline bool is_wide(const cog_kernel_decode &w, const tile &t) {
    uintptr_t m = 0, v = 0, h = 0, g = 0; /* what is not there is aligned */
    const uintptr_t at = (uintptr_t)t.at, p = (uintptr_t)w.params / 4 + at;
    if (RULE != COG_RULE_SGD) m = (uintptr_t)w.state / 4 + at;
    if (RULE == COG_RULE_ADAM) v = m + (uintptr_t)(w.n_blocks * w.format.n);
    if (w.bf16 != nullptr) h = (uintptr_t)w.bf16 / 2 + at;
    if (w.gradient != nullptr) g = (uintptr_t)w.gradient / 4 + at;
    return t.count == TILE && ((p | m | v | h | g) & 3) == 0;
}

} // namespace

#endif
