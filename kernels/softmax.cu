/* softmax.cu - softmax, cross-entropy and hits of a batch. Meaning: host/device.h, devices/cpu.c.
 *
 * One pass, 4 bytes a load, neighbours side by side; bytes read + written: 4 + 4 an entry, and 4
 * for the label and up to 8 for the results of a row. Past 249 classes the scores of a row are read
 * three times, twice of that from the cache.
 */
#include "launch.cuh"

namespace {

/* exp(x) for x <= 0 in the very operations of the CPU device: 0 below -87, else 2^whole times the
 * Taylor polynomial of degree 7 at |r| <= ln 2 / 2. */
__device__ inline float exponential(float x) {
    const float magic = 0x1.8p23f; /* adding it rounds to a whole number in the low bits */
    const float clamped = x < -87.0f ? -87.0f : x;
    const float shifted = __fadd_rn(__fmul_rn(clamped, 1.44269504f), magic);
    const float whole = __fsub_rn(shifted, magic);
    const float r = __fsub_rn(__fsub_rn(clamped, __fmul_rn(whole, 0.693359375f)),
                              __fmul_rn(whole, -2.12194440e-4f));
    const float coefficient[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    float p = 1.0f / 5040;
#pragma unroll
    for (int i = 0; i < 7; i++) p = __fadd_rn(__fmul_rn(p, r), coefficient[i]);
    const float scale =
        __uint_as_float((__float_as_uint(shifted) - __float_as_uint(magic) + 127u) << 23);
    return x < -87.0f ? 0 : __fmul_rn(p, scale);
}

/* The first of the largest scores. */
struct leader {
    float score;
    int64_t column;
};

__device__ inline leader better(leader a, leader b) {
    const bool b_wins = b.score > a.score || (b.score == a.score && b.column < a.column);
    return b_wins ? b : a;
}

/* Both over the `lanes` threads side by side that have a row; the same bits in all of them. */
__device__ inline leader best_of(leader mine, int lanes) {
    for (int apart = lanes / 2; apart > 0; apart /= 2) {
        const leader other = {__shfl_xor_sync(COG_ALL_LANES, mine.score, apart),
                              __shfl_xor_sync(COG_ALL_LANES, (long long)mine.column, apart)};
        mine = better(mine, other);
    }
    return mine;
}
__device__ inline double sum_of(double mine, int lanes) {
    for (int apart = lanes / 2; apart > 0; apart /= 2)
        mine += __shfl_xor_sync(COG_ALL_LANES, mine, apart);
    return mine;
}

struct softmax_output {
    float *delta, *row_loss, *row_correct;
};

/* What one thread of a row does: every lanes-th column, from the sector in which the row begins.
 * HELD scores stay in registers; with HELD = 0 there are too many, and they are read again. */
template <int HELD> struct column_number { typedef int type; };
template <> struct column_number<0> { typedef int64_t type; };

template <int HELD> struct softmax_thread {
    typedef typename column_number<HELD>::type number;
    const float *from;
    number n_classes, first;
    int lanes, n_steps; /* HELD when that is not 0 */
    float held[HELD > 0 ? HELD : 1];

    __device__ number column(int i) const { return first + (number)i * lanes; }
    __device__ bool inside(int i) const { return column(i) >= 0 && column(i) < n_classes; }
    __device__ int steps() const { return HELD > 0 ? HELD : n_steps; }

    /* best of its columns; the score of `target`, or 0. */
    __device__ leader best(number target, double *score) {
        leader best = {-INFINITY, n_classes};
        *score = 0;
#pragma unroll
        for (int i = 0; i < steps(); i++) {
            const float v = inside(i) ? from[column(i)] : -INFINITY;
            if (HELD > 0) held[i] = v;
            if (inside(i)) best = better(best, {v, column(i)});
            if (column(i) == target) *score = v;
        }
        return best;
    }

    __device__ double sum(float top) {
        double sum = 0;
#pragma unroll
        for (int i = 0; i < steps(); i++) {
            if (!inside(i)) continue;
            const float e = exponential(__fsub_rn(HELD > 0 ? held[i] : from[column(i)], top));
            if (HELD > 0) held[i] = e;
            sum += e;
        }
        return sum;
    }

    __device__ void put(float top, float inverse, number target, float *to) const {
#pragma unroll
        for (int i = 0; i < steps(); i++) {
            if (!inside(i)) continue;
            const float e = HELD > 0 ? held[i] : exponential(__fsub_rn(from[column(i)], top));
            const float share = __fmul_rn(e, inverse);
            to[column(i)] = column(i) == target ? __fsub_rn(share, 1.0f) : share;
        }
    }
};

/* A row has 1 to 32 threads of a warp, as its classes need; sums are in double, as on the CPU. What
 * a thread overwrites it alone has read before, so delta may be z. A warp stays together for its
 * shuffles: where its last rows do not exist, their threads have no classes. */
template <int HELD>
__global__ void softmax_kernel(int64_t rows, int64_t n_classes, int64_t ld, const float *z,
                               const float *label, softmax_output out, int lanes, int n_steps) {
    typedef typename column_number<HELD>::type number;
    const int lane = (int)threadIdx.x % lanes;
    for (int64_t warp = cog_first() / COG_WARP; warp * (COG_WARP / lanes) < rows;
         warp += cog_stride() / COG_WARP) {
        const int64_t row = warp * (COG_WARP / lanes) + threadIdx.x % COG_WARP / lanes;
        const bool real = row < rows;
        const float *from = z + row * ld;
        const int shift = HELD == 1 ? 0 : (int)((uintptr_t)from / sizeof(float) % 8);
        softmax_thread<HELD> mine = {
            from, real ? (number)n_classes : 0, lane - shift, lanes, n_steps, {}};
        const float name = real ? label[row] : -1.0f;
        const bool is_class = name >= 0 && name < (float)n_classes;
        const number target = is_class ? (number)name : -COG_WARP;

        double score;
        leader best = mine.best(target, &score);
        best = best_of(best, lanes);
        score = sum_of(score, lanes);
        const double sum = sum_of(mine.sum(best.score), lanes);
        float *to = out.delta + row * ld;
        mine.put(best.score, (float)(1 / sum), target, to);
        for (int64_t c = n_classes + lane; real && c < ld; c += lanes) to[c] = 0;

        if (!real || lane != 0) continue;
        const float below = is_class ? __fsub_rn((float)score, best.score) : NAN;
        if (out.row_loss != NULL) out.row_loss[row] = (float)(log(sum) - below);
        if (out.row_correct != NULL)
            out.row_correct[row] = is_class && best.column == target && sum == sum ? 1.0f : 0.0f;
    }
}

} // namespace

/* ---------------------------------------------------------------------------------------------- */

extern "C" int cog_cuda_softmax_cross_entropy(void *stream, int64_t rows, int64_t n_classes,
                                              int64_t ld, const float *z, const float *label,
                                              float *delta, float *row_loss, float *row_correct) {
    if (rows <= 0 || n_classes <= 0) return cudaSuccess;
    int lanes = 1;
    while (lanes < n_classes && lanes < COG_WARP) lanes *= 2;
    const softmax_output out = {delta, row_loss, row_correct};
    const unsigned grid = cog_grid(rows * lanes);
    /* a row may begin as late in a sector as its 8th entry */
    const int n_steps = (int)((n_classes + 7 + lanes - 1) / lanes);
#define SOFTMAX(held)                                                                             \
    COG_LAUNCH(softmax_kernel<held>, grid, COG_THREADS, 0, stream, rows, n_classes, ld, z, label, \
               out, lanes, n_steps)
    if (n_classes <= COG_WARP) return SOFTMAX(1);
    if (n_steps <= 8) return SOFTMAX(8);
    return SOFTMAX(0);
#undef SOFTMAX
}
