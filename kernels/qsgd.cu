/* qsgd.cu - rounding to a few bits, at random or to nearest. Meaning and format:
 * host/compress/qsgd.c.
 *
 * One launch, one pass; bytes an entry with L terms (feedback one of them): 4L + 4 + bits/8 +
 * 4/group. A block has a tile of 4096: its groups' norms, then its codes. With norm=l2 the tile
 * goes through shared memory once, to be added up in the order of the CPU.
 */
#include "compact.cuh"
#include "dither.cuh"

namespace {

constexpr int ROWS = 4, TILE = 4 * ROWS * COG_THREADS;
constexpr int MAX_GROUPS = TILE / 256;
constexpr double LARGEST = 0x1.fffffcp126, SMALLEST = 0x1p-100; /* qsgd.c tells why */

struct __align__(16) levels {
    float zero, top, step, inverse;
};

__device__ inline float n_sides(const cog_kernel_codes &f) {
    return f.bits == 1 ? 1.0f : (float)((1 << (f.bits - 1)) - 1);
}

__device__ inline levels levels_of(const cog_kernel_codes &f, float step) {
    const float s = n_sides(f);
    levels l = {s, 2 * s, step, __fdiv_rn(1.0f, step)};
    if (f.bits == 1) l = {0.5f, 1.0f, __fmul_rn(2.0f, step), __fdiv_rn(0.5f, step)};
    if (step == 0) l.inverse = 0;
    return l;
}

/* most: bits of the largest magnitude; energy is looked at with norm=l2. */
__device__ inline float step_of(const cog_kernel_codes &f, uint32_t most, double energy) {
    if (most >= COG_INF_BITS) return __uint_as_float(most);
    const double norm = f.l2 ? sqrt(energy) : (double)__uint_as_float(most);
    const double step = (norm < LARGEST ? norm : LARGEST) / (double)n_sides(f);
    return step < SMALLEST ? 0 : (float)step;
}

/* NaN, of a group that is not finite, has the highest code. */
__device__ inline uint32_t code_of(float x, float u, const levels &l) {
    const float level = fmaf(x, l.inverse, __fadd_rn(l.zero, u));
    const float below = level < l.top ? level : l.top;
    return (uint32_t)(below > 0 ? below : 0);
}

__device__ inline float decoded(uint32_t code, const levels &l) {
    return fmaf(__fadd_rn((float)code, -l.zero), l.step, 0.0f); /* never -0 */
}

__device__ inline float rest_of(float x, uint32_t code, const levels &l) {
    return isfinite(l.step) ? __fadd_rn(x, -decoded(code, l)) : 0;
}

struct __align__(16) common {
    uint32_t word[COG_MAX_WARPS][ROWS * COG_DITHER_ROW];
    uint32_t most[MAX_GROUPS];
    levels of_group[MAX_GROUPS];
};

/* What norm=l2 needs besides. */
template <bool L2> struct __align__(16) squares {
    float x[L2 ? TILE : 4];
    double part[L2 ? MAX_GROUPS * COG_ENERGY_LANES : 1];
};

/* ---- norms ----------------------------------------------------------------------------------- */

__device__ inline uint32_t size_of(float x) { return __float_as_uint(x) & 0x7fffffffu; }

/* A row lies in one group. */
__device__ inline void find_most(const float4 (&v)[ROWS], int group_bits, common &s) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const uint32_t low = max(size_of(v[r].x), size_of(v[r].y));
        const uint32_t high = max(size_of(v[r].z), size_of(v[r].w));
        const uint32_t most = __reduce_max_sync(COG_ALL_LANES, max(low, high));
        if (cog_lane() == 0) atomicMax(&s.most[cog_row<ROWS>(r) >> group_bits], most);
    }
}

__device__ inline void put_step(const cog_kernel_codes &f, int g, double energy, common &s,
                                float *steps) {
    const float step = step_of(f, s.most[g], energy);
    steps[g] = step;
    s.of_group[g] = levels_of(f, step);
    s.most[g] = 0;
}

/* ---- codes ----------------------------------------------------------------------------------- */

/* Bit p of the codes of 32 entries in word p: 8 lanes have 4 entries each. The words of a row go
 * to memory side by side. */
__device__ inline void put_codes(const uint32_t (&code)[4], int bits, int n_words, uint32_t *to) {
    uint32_t mine = 0;
    for (int p = 0; p < bits; p++) {
        uint32_t of_lane = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) of_lane |= (code[j] >> p & 1u) << j;
        const uint32_t word = cog_word_of(of_lane);
        const uint32_t asked = __shfl_sync(COG_ALL_LANES, word, 8 * (cog_lane() / bits) % COG_WARP);
        if (cog_lane() % bits == p) mine = asked;
    }
    if (cog_lane() < n_words) to[cog_lane()] = mine;
}

__device__ inline void round_row(const cog_kernel_codes &f, const levels &l, float4 u, int n_left,
                                 uint32_t *to, float4 *v) {
    uint32_t code[4] = {code_of(v->x, u.x, l), code_of(v->y, u.y, l), code_of(v->z, u.z, l),
                        code_of(v->w, u.w, l)};
    *v = make_float4(rest_of(v->x, code[0], l), rest_of(v->y, code[1], l),
                     rest_of(v->z, code[2], l), rest_of(v->w, code[3], l));
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (4 * cog_lane() + j >= n_left) code[j] = 0;
    const int n_blocks = n_left >= COG_SPAN ? COG_SPAN / 32 : (n_left + 31) / 32;
    put_codes(code, f.bits, n_blocks * f.bits, to);
}

template <bool L2>
__global__ void __launch_bounds__(COG_THREADS, 4)
    qsgd_kernel(const __grid_constant__ cog_kernel_terms terms,
                const __grid_constant__ cog_kernel_codes f, float *residual, uint32_t *n_used,
                uint32_t *n_done, float *payload) {
    __shared__ common s;
    __shared__ squares<L2> q;
    const cog_numbers numbers = {f.stream, f.nearest ? 0 : *n_used, 0};
    const int64_t n_groups = (f.n + (1 << f.group_bits) - 1) >> f.group_bits;
    uint32_t *const codes = reinterpret_cast<uint32_t *>(payload) + n_groups;
    if (threadIdx.x < MAX_GROUPS) s.most[threadIdx.x] = 0;
    __syncthreads();
    for (int64_t first = blockIdx.x * (int64_t)TILE; first < f.n;
         first += gridDim.x * (int64_t)TILE) {
        const int count = cog_tile_count(first, f.n, TILE), me = (int)threadIdx.x;
        const int here = ((count - 1) >> f.group_bits) + 1;
        float *const steps = payload + (first >> f.group_bits);
        float4 v[ROWS];
        cog_read_trial(terms, first, count, v);
        find_most(v, f.group_bits, s);
        uint32_t *const words = s.word[cog_warp()];
        if (!f.nearest) cog_draw_rows<ROWS>(first + cog_row<ROWS>(0), numbers, words);
        if (L2) {
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                reinterpret_cast<float4 *>(q.x + cog_row<ROWS>(r))[cog_lane()] = v[r];
            cog_add_squares(q.x, 1 << f.group_bits, here, q.part,
                            [&](int g, double sum) { put_step(f, g, sum, s, steps); });
        } else {
            __syncthreads();
            if (me < here) put_step(f, me, 0, s, steps);
        }
        __syncthreads();
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int at = cog_row<ROWS>(r);
            const levels l = s.of_group[at < count ? at >> f.group_bits : 0];
            float4 u = make_float4(0.5f, 0.5f, 0.5f, 0.5f);
            if (!f.nearest) u = cog_unit_row(words, r);
            round_row(f, l, u, count - at, codes + (first + at) / 32 * f.bits, &v[r]);
        }
        cog_write_rows(residual + first, count, v);
    }
    __syncthreads();
    if (cog_is_last_block(n_done) && threadIdx.x == 0 && !f.nearest) *n_used = numbers.payload + 1;
}

/* A thread has 4 entries of a row, 8 threads share the words of theirs. */
__global__ void __launch_bounds__(COG_THREADS)
    add_codes_kernel(const __grid_constant__ cog_kernel_codes f, const float *payload, float weight,
                     int64_t first, int64_t count, float *y) {
    constexpr int STEP = 4 * COG_THREADS;
    const int64_t n_groups = (f.n + (1 << f.group_bits) - 1) >> f.group_bits;
    const uint32_t *const codes = reinterpret_cast<const uint32_t *>(payload) + n_groups;
    for (int64_t at = blockIdx.x * (int64_t)STEP; at < count; at += gridDim.x * (int64_t)STEP) {
        const int n_left = cog_tile_count(at, count, STEP), mine = 4 * (int)threadIdx.x;
        float4 old[1];
        cog_read_rows(y + at, n_left, old);
        if (mine < n_left) {
            const int64_t i = first + at + mine;
            const levels l = levels_of(f, payload[i >> f.group_bits]);
            uint32_t code[4] = {0, 0, 0, 0};
            for (int p = 0; p < f.bits; p++) {
                const uint32_t word = codes[i / 32 * f.bits + p] >> i % 32;
#pragma unroll
                for (int j = 0; j < 4; j++) code[j] |= (word >> j & 1u) << p;
            }
            old[0] = cog_plus_times(weight,
                                    make_float4(decoded(code[0], l), decoded(code[1], l),
                                                decoded(code[2], l), decoded(code[3], l)),
                                    old[0]);
        }
        cog_write_rows(y + at, n_left, old);
    }
}

} // namespace

/* ---------------------------------------------------------------------------------------------- */

extern "C" size_t cog_cuda_qsgd_scratch_bytes(void) { return sizeof(uint32_t); }

extern "C" int cog_cuda_qsgd_pack(void *stream, const cog_kernel_codes *format,
                                  const cog_kernel_terms *terms, float *residual, uint32_t *n_used,
                                  void *scratch, void *payload) {
    const unsigned grid = cog_grid((format->n + 15) / 16);
    uint32_t *const n_done = (uint32_t *)scratch;
    float *const to = (float *)payload;
    if (format->l2)
        return COG_LAUNCH(qsgd_kernel<true>, grid, COG_THREADS, 0, stream, *terms, *format,
                          residual, n_used, n_done, to);
    return COG_LAUNCH(qsgd_kernel<false>, grid, COG_THREADS, 0, stream, *terms, *format, residual,
                      n_used, n_done, to);
}

extern "C" int cog_cuda_add_codes(void *stream, const cog_kernel_codes *format, const void *payload,
                                  float weight, int64_t first, int64_t count, float *y) {
    if (count <= 0) return cudaSuccess;
    return COG_LAUNCH(add_codes_kernel, cog_grid((count + 3) / 4), COG_THREADS, 0, stream, *format,
                      (const float *)payload, weight, first, count, y);
}
