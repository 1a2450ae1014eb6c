/* fosgd.cu - one bit an entry after random signs and a Hadamard transform. Meaning, format and the
 * order of sums: host/compress/fosgd.c.
 *
 * One launch, one pass; bytes an entry with L terms: 4L + 4 + 1/8 + 4/block. A block of threads has
 * a tile of 4096, a warp 512 neighbours of it, a lane 4 of each row of 128 (trial.cuh). The stages
 * of a transform, from neighbours to far ones as on the CPU:
 *
 *     1, 2           within a lane's four
 *     4 .. 64        between lanes, by shuffles
 *     128, 256       between a warp's rows, in registers
 *     512 .. 2048    between warps: through shared memory, a thread has entries t and t + 256 of
 *                    all eight
 *
 * A warp's random signs are one word of 16 blocks of Philox, a block for every two lanes.
 */
#include "compact.cuh"
#include "dither.cuh"

namespace {

constexpr int ROWS = 4, TILE = 4 * ROWS * COG_THREADS;
constexpr int OF_WARP = COG_SPAN * ROWS, WARPS = COG_MAX_WARPS;
constexpr int MAX_BLOCKS = TILE / 256, SHORTEST = 256, HEADER_WORDS = 2, ROTATION = 1;
constexpr double LARGEST = 0x1p200, SMALLEST = 0x1p-100; /* of an energy, and of a scale */
static_assert(OF_WARP == 512 && WARPS == 8, "stages are laid out for that");

/* How a tile is cut: blocks of `block` entries, but the last of the message. */
struct shape {
    int block;
    int last, last_length; /* where the last block begins and how long it is */
    int end;               /* of the blocks of this tile */

    __device__ int length_at(int entry) const { return entry >= last ? last_length : block; }
};

__device__ inline shape shape_of(const cog_kernel_rotation &f, int64_t first) {
    const int64_t last = (f.n - 1) >> f.block_bits << f.block_bits;
    shape s = {1 << f.block_bits, TILE, SHORTEST, TILE};
    while (s.last_length < s.block && s.last_length < f.n - last) s.last_length *= 2;
    if (last - first < TILE) s.last = (int)(last - first);
    if (s.last < TILE) s.end = s.last + s.last_length;
    return s;
}

/* The trial waits here, or registers run out. */
struct __align__(16) common {
    float trial[TILE], x[TILE];
    union {
        double part[MAX_BLOCKS * COG_ENERGY_LANES];
        uint32_t word[WARPS][ROWS * COG_DITHER_ROW]; /* once the parts are added up */
    };
    float scale[MAX_BLOCKS];
};

/* ---- the transform --------------------------------------------------------------------------- */

__device__ inline void meet(float &a, float &b) {
    const float sum = __fadd_rn(a, b);
    b = __fadd_rn(a, -b);
    a = sum;
}

__device__ inline void meet(float4 &a, float4 &b) {
    meet(a.x, b.x);
    meet(a.y, b.y);
    meet(a.z, b.z);
    meet(a.w, b.w);
}

/* x of the lane and of its partner: their sum in the lower, their difference in the upper one. */
__device__ inline float met(float x, int apart) {
    const float other = __shfl_xor_sync(COG_ALL_LANES, x, apart);
    return (cog_lane() & apart) != 0 ? __fadd_rn(other, -x) : __fadd_rn(x, other);
}

__device__ inline void stages_of_row(float4 &v) {
    meet(v.x, v.y);
    meet(v.z, v.w);
    meet(v.x, v.z);
    meet(v.y, v.w);
#pragma unroll
    for (int apart = 1; apart < COG_WARP; apart *= 2)
        v = make_float4(met(v.x, apart), met(v.y, apart), met(v.z, apart), met(v.w, apart));
}

/* Between the warps; entries t and t + 256 of each are this thread's. */
__device__ inline void stages_of_warps(const shape &s, float *x) {
#pragma unroll 1
    for (int entry = (int)threadIdx.x; entry < OF_WARP; entry += COG_THREADS) {
        float v[WARPS];
#pragma unroll
        for (int w = 0; w < WARPS; w++) v[w] = x[w * OF_WARP + entry];
#pragma unroll
        for (int apart = 1; apart < WARPS; apart *= 2)
#pragma unroll
            for (int w = 0; w < WARPS; w++)
                if ((w & apart) == 0 && apart * OF_WARP < s.length_at(w * OF_WARP))
                    meet(v[w], v[w + apart]);
#pragma unroll
        for (int w = 0; w < WARPS; w++) x[w * OF_WARP + entry] = v[w];
    }
}

__device__ inline float4 *row_of(float *x, int r) {
    return reinterpret_cast<float4 *>(x + cog_row<ROWS>(r)) + cog_lane();
}

/* All threads. */
__device__ inline void transform(const shape &s, float *shared, float4 (&v)[ROWS]) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) stages_of_row(v[r]);
    meet(v[0], v[1]);
    meet(v[2], v[3]);
    if (s.length_at(cog_row<ROWS>(0)) > 256) {
        meet(v[0], v[2]);
        meet(v[1], v[3]);
    }
    if (s.block <= OF_WARP) return;
    __syncthreads(); /* what was there is read */
#pragma unroll
    for (int r = 0; r < ROWS; r++) *row_of(shared, r) = v[r];
    __syncthreads();
    stages_of_warps(s, shared);
    __syncthreads();
#pragma unroll
    for (int r = 0; r < ROWS; r++) v[r] = *row_of(shared, r);
}

/* ---- signs ----------------------------------------------------------------------------------- */

__device__ inline uint32_t pick(uint4 v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* The word of the warp's signs of block lane % 16. */
__device__ inline uint32_t draw_signs(int64_t first, cog_numbers of) {
    constexpr int OF_BLOCKS = 2048; /* entries whose signs 16 blocks of Philox have */
    of.use = ROTATION;
    const uint32_t group = (uint32_t)((first + cog_row<ROWS>(0)) / OF_BLOCKS);
    const uint4 drawn = cog_philox(16 * group + (uint32_t)cog_lane() % 16, of);
    return pick(drawn, cog_warp() % (OF_BLOCKS / OF_WARP));
}

__device__ inline float flipped(float x, uint32_t word, int bit) {
    return __uint_as_float(__float_as_uint(x) ^ word >> bit << 31);
}

/* Bit 8 r + lane / 4 of the word of block 4 (lane % 4) + j is that of entry j of row r. */
__device__ inline void flip(uint32_t signs, float4 (&v)[ROWS]) {
    uint32_t of[4];
#pragma unroll
    for (int j = 0; j < 4; j++)
        of[j] = __shfl_sync(COG_ALL_LANES, signs, 4 * (cog_lane() % 4) + j) >> cog_lane() / 4;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        v[r] = make_float4(flipped(v[r].x, of[0], 8 * r), flipped(v[r].y, of[1], 8 * r),
                           flipped(v[r].z, of[2], 8 * r), flipped(v[r].w, of[3], 8 * r));
}

__device__ inline float one(uint32_t bits, int j) { return (bits >> j & 1u) != 0 ? -1.0f : 1.0f; }

__device__ inline float4 ones(uint32_t bits) {
    return make_float4(one(bits, 0), one(bits, 1), one(bits, 2), one(bits, 3));
}

/* ---- payloads -------------------------------------------------------------------------------- */

__device__ inline float *scales_of(uint32_t *payload) {
    return reinterpret_cast<float *>(payload) + HEADER_WORDS;
}

__device__ inline const float *scales_of(const uint32_t *payload) {
    return reinterpret_cast<const float *>(payload) + HEADER_WORDS;
}

/* Words before the bits. */
__device__ inline int64_t head_words(const cog_kernel_rotation &f) {
    return HEADER_WORDS + ((f.n + (1 << f.block_bits) - 1) >> f.block_bits);
}

/* ---- pack ------------------------------------------------------------------------------------ */

__device__ inline float scale_of(const cog_kernel_rotation &f, double energy, int length) {
    if (!(energy <= LARGEST)) return __uint_as_float(COG_INF_BITS);
    const double scale = f.reach * sqrt(energy) / (double)length;
    return scale < SMALLEST ? 0 : (float)scale;
}

__device__ inline uint32_t below(float x, float u, float reach) {
    return x < fmaf(-2 * reach, u, reach);
}

/* The bits of a row, 0 where the block has no scale to go by. */
__device__ inline uint32_t bits_of(float4 x, float4 u, float scale, int length) {
    const float reach = __fmul_rn(scale, (float)length);
    if (!(scale > 0) || isinf(scale)) return 0;
    return below(x.x, u.x, reach) | below(x.y, u.y, reach) << 1 | below(x.z, u.z, reach) << 2 |
           below(x.w, u.w, reach) << 3;
}

__device__ inline float rest_of(float trial, float scale, float x) {
    if (isinf(scale)) return 0;
    return __fadd_rn(trial, -__fadd_rn(__fmul_rn(scale, x), 0.0f));
}

/* Lane 8 q has word q of the row. */
__device__ inline void put_bits(uint32_t bits, int n_left, uint32_t *to) {
    const uint32_t word = cog_word_of(bits);
    const uint32_t mine = __shfl_sync(COG_ALL_LANES, word, 8 * (cog_lane() % 4));
    if (cog_lane() < 4 && 32 * cog_lane() < n_left) to[cog_lane()] = mine;
}

/* v, the trial, becomes what is owed. */
__device__ inline void pack_tile(const cog_kernel_rotation &f, const cog_numbers &numbers,
                                 int64_t first, int count, common &c, uint32_t *payload,
                                 float4 (&v)[ROWS]) {
    const shape s = shape_of(f, first);
#pragma unroll
    for (int r = 0; r < ROWS; r++) *row_of(c.trial, r) = v[r];
    cog_add_squares(c.trial, s.block, ((count - 1) >> f.block_bits) + 1, c.part,
                    [&](int b, double energy) {
                        c.scale[b] = scale_of(f, energy, s.length_at(b * s.block));
                        scales_of(payload)[(first >> f.block_bits) + b] = c.scale[b];
                    });
    const uint32_t signs = draw_signs(first, numbers);
    flip(signs, v);
    transform(s, c.x, v);
    __syncthreads(); /* the scales */
    uint32_t *const words = c.word[cog_warp()];
    cog_draw_rows<ROWS>(first + cog_row<ROWS>(0), numbers, words);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int at = cog_row<ROWS>(r);
        const float scale = at < s.end ? c.scale[at >> f.block_bits] : 0;
        const uint32_t bits = bits_of(v[r], cog_unit_row(words, r), scale, s.length_at(at));
        put_bits(bits, s.end - at, payload + head_words(f) + (first + at) / 32);
        v[r] = ones(bits);
    }
    transform(s, c.x, v);
    flip(signs, v);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int at = cog_row<ROWS>(r);
        const float scale = at < s.end ? c.scale[at >> f.block_bits] : 0;
        const float4 trial = *row_of(c.trial, r), back = v[r];
        v[r] = make_float4(rest_of(trial.x, scale, back.x), rest_of(trial.y, scale, back.y),
                           rest_of(trial.z, scale, back.z), rest_of(trial.w, scale, back.w));
    }
}

__global__ void __launch_bounds__(COG_THREADS, 4)
    fosgd_kernel(const __grid_constant__ cog_kernel_terms terms,
                 const __grid_constant__ cog_kernel_rotation f, float *residual, uint32_t *n_used,
                 uint32_t *n_done, uint32_t *payload) {
    __shared__ common c;
    const cog_numbers numbers = {f.stream, *n_used, 0};
    if (cog_first() == 0) {
        payload[0] = numbers.stream;
        payload[1] = numbers.payload;
    }
    for (int64_t first = blockIdx.x * (int64_t)TILE; first < f.n;
         first += gridDim.x * (int64_t)TILE) {
        const int count = cog_tile_count(first, f.n, TILE);
        float4 v[ROWS];
        cog_read_trial(terms, first, count, v);
        __syncthreads(); /* the tile before is done with */
        pack_tile(f, numbers, first, count, c, payload, v);
        cog_write_rows(residual + first, count, v);
    }
    __syncthreads();
    if (cog_is_last_block(n_done) && threadIdx.x == 0) *n_used = numbers.payload + 1;
}

/* ---- decode ---------------------------------------------------------------------------------- */

/* y is that of entry `first`, a multiple of a tile. */
__global__ void __launch_bounds__(COG_THREADS, 4)
    add_rotated_kernel(const __grid_constant__ cog_kernel_rotation f, const uint32_t *payload,
                       float weight, int64_t first, int64_t count, float *y) {
    __shared__ __align__(16) float shared[TILE];
    const cog_numbers numbers = {payload[0], payload[1], 0};
    const float *const scales = scales_of(payload);
    const uint32_t *const negative = payload + head_words(f);
    for (int64_t at = blockIdx.x * (int64_t)TILE; at < count; at += gridDim.x * (int64_t)TILE) {
        const int64_t begin = first + at;
        const int n_left = cog_tile_count(at, count, TILE);
        const shape s = shape_of(f, begin);
        float4 x[ROWS], old[ROWS];
        cog_read_rows(y + at, n_left, old);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int mine = cog_row<ROWS>(r) + 4 * cog_lane();
            x[r] = make_float4(0, 0, 0, 0);
            if (mine < s.end) x[r] = ones(negative[(begin + mine) / 32] >> mine % 32);
        }
        transform(s, shared, x);
        flip(draw_signs(begin, numbers), x);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int row = cog_row<ROWS>(r);
            const float scale = row < n_left ? scales[(begin + row) >> f.block_bits] : 0;
            old[r] = cog_plus_times(weight, cog_times(scale, x[r]), old[r]);
        }
        cog_write_rows(y + at, n_left, old);
    }
}

} // namespace

/* ---------------------------------------------------------------------------------------------- */

extern "C" size_t cog_cuda_fosgd_scratch_bytes(void) { return sizeof(uint32_t); }

extern "C" int cog_cuda_fosgd_pack(void *stream, const cog_kernel_rotation *format,
                                   const cog_kernel_terms *terms, float *residual, uint32_t *n_used,
                                   void *scratch, void *payload) {
    if (format->n <= 0) return cudaSuccess;
    return COG_LAUNCH(fosgd_kernel, cog_grid((format->n + 15) / 16), COG_THREADS, 0, stream, *terms,
                      *format, residual, n_used, (uint32_t *)scratch, (uint32_t *)payload);
}

extern "C" int cog_cuda_add_rotated(void *stream, const cog_kernel_rotation *format,
                                    const void *payload, float weight, int64_t first, int64_t count,
                                    float *y) {
    if (count <= 0) return cudaSuccess;
    return COG_LAUNCH(add_rotated_kernel, cog_grid((count + 15) / 16), COG_THREADS, 0, stream,
                      *format, (const uint32_t *)payload, weight, first, count, y);
}
