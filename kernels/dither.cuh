/* dither.cuh - the random numbers of payloads on a GPU: Philox4x32-10 (Salmon et al., SC 2011), in
 * the order that host/tile.h states (cog_dither).
 *
 * A row of 128 entries has 16 blocks of 4 words, and lane l of a warp the entries 4 l + 0..3, whose
 * numbers are half l / 4 % 2 of word l / 8 of blocks 4 (l % 4) + 0..3. So every lane computes a
 * block for every two rows, and takes its words out of shared memory, where rows are 80 words
 * apart: neither way two lanes ask for one bank.
 */
#ifndef COG_DITHER_CUH
#define COG_DITHER_CUH

#include "trial.cuh"

constexpr uint32_t COG_PHILOX_A = 0xd2511f53u, COG_PHILOX_B = 0xcd9e8d57u;
constexpr uint32_t COG_PHILOX_KEY_A = 0x9e3779b9u, COG_PHILOX_KEY_B = 0xbb67ae85u;
constexpr int COG_PHILOX_ROUNDS = 10;
constexpr int COG_DITHER_ROW = 80; /* words */

struct cog_numbers {
    uint32_t stream, payload, use;
};

__device__ inline uint4 cog_philox(uint32_t block, const cog_numbers &of) {
    uint4 c = make_uint4(block, COG_KERNEL_DITHER, of.payload, of.use);
    uint32_t key_a = of.stream, key_b = 0;
#pragma unroll
    for (int round = 0; round < COG_PHILOX_ROUNDS; round++) {
        const uint32_t high_a = __umulhi(COG_PHILOX_A, c.x), low_a = COG_PHILOX_A * c.x;
        const uint32_t high_b = __umulhi(COG_PHILOX_B, c.z), low_b = COG_PHILOX_B * c.z;
        c = make_uint4(high_b ^ c.y ^ key_a, low_b, high_a ^ c.w ^ key_b, low_a);
        key_a += COG_PHILOX_KEY_A;
        key_b += COG_PHILOX_KEY_B;
    }
    return c;
}

/* The words of this warp's rows, of which the first begins at entry `first` of the message. */
template <int ROWS>
__device__ inline void cog_draw_rows(int64_t first, const cog_numbers &of, uint32_t *words) {
    static_assert(ROWS % 2 == 0, "lanes draw for two rows at a time");
    __syncwarp(); /* the words before have been read */
#pragma unroll
    for (int r = 0; r < ROWS; r += 2) {
        const int row = r + cog_lane() / 16, block = cog_lane() % 16;
        const uint32_t chunk = (uint32_t)(first / COG_SPAN) + (uint32_t)row;
        const uint4 drawn = cog_philox(16 * chunk + (uint32_t)block, of);
        uint32_t *const to = words + row * COG_DITHER_ROW + block;
        to[0] = drawn.x;
        to[16] = drawn.y;
        to[32] = drawn.z;
        to[48] = drawn.w;
    }
    __syncwarp();
}

__device__ inline float cog_unit(uint32_t word) {
    const uint32_t half = cog_lane() / 4 % 2 == 0 ? word & 0xffffu : word >> 16;
    return fmaf((float)half, 0x1p-16f, 0x1p-17f);
}

/* The numbers of the lane's entries of row r, between 0 and 1. */
__device__ inline float4 cog_unit_row(const uint32_t *words, int r) {
    const uint32_t *const from =
        words + r * COG_DITHER_ROW + cog_lane() / 8 * 16 + 4 * (cog_lane() % 4);
    const uint4 word = *reinterpret_cast<const uint4 *>(from);
    return make_float4(cog_unit(word.x), cog_unit(word.y), cog_unit(word.z), cog_unit(word.w));
}

/* ---- sums of squares ------------------------------------------------------------------------- */

constexpr int COG_ENERGY_LANES = 64;

/* Lane i of `n_groups` times 64 adds the squares of its entries of its group, in their order; then
 * by halves. done(g, sum) in lane 0 of a warp. x[n_groups * group] and part[n_groups * 64] are
 * shared; all threads. */
template <class Done>
__device__ inline void cog_add_squares(const float *x, int group, int n_groups, double *part,
                                       Done done) {
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n_groups * COG_ENERGY_LANES; i += (int)blockDim.x) {
        const float *const of_lane = x + i / COG_ENERGY_LANES * group + i % COG_ENERGY_LANES;
        double sum = 0;
        for (int e = 0; e < group; e += COG_ENERGY_LANES) {
            const double entry = (double)of_lane[e];
            sum = __dadd_rn(sum, __dmul_rn(entry, entry));
        }
        part[i] = sum;
    }
    __syncthreads();
    for (int g = cog_warp(); g < n_groups; g += (int)blockDim.x / COG_WARP) {
        const double *const of_group = part + g * COG_ENERGY_LANES;
        double sum = __dadd_rn(of_group[cog_lane()], of_group[cog_lane() + COG_WARP]);
#pragma unroll
        for (int half = COG_WARP / 2; half > 0; half /= 2)
            sum = __dadd_rn(sum, __shfl_down_sync(COG_ALL_LANES, sum, half));
        if (cog_lane() == 0) done(g, sum);
    }
}

#endif
