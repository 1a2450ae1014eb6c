/* tile_loops.h - the loops of tile.h; one file per instruction set includes this text once.
 *
 * TILE_OPS is the name of the table, TILE_OPS_NAME that of the set.
 */
#include <math.h>
#include <string.h>

#include "tile_combine.h"

static void put(float *to, const float *from, int count, bool stream) {
    int i = 0;
    if (stream)
        for (; i + LANES <= count; i += LANES) lanes_stream(to + i, lanes_load(from + i));
    if (i < count) memcpy(to + i, from + i, (size_t)(count - i) * sizeof(*to));
}

static void fence(void) { lanes_fence(); }

static int mark(const float *x, int count, uint32_t bound, uint64_t *marks) {
    const words limit = words_all(bound);
    int n_marked = 0, w = 0;
    for (; w * 64 < count; w++) {
        marks[w] = mark_word(x + w * 64, limit);
        if (count - w * 64 < 64) marks[w] &= ~(~(uint64_t)0 << (count - w * 64));
        n_marked += __builtin_popcountll(marks[w]);
    }
    memset(marks + w, 0, (size_t)(COG_TILE_WORDS - w) * sizeof(*marks));
    return n_marked;
}

/* What is sent as NaN or infinity owes nothing: one broken message does not break the next. */
static void forget(float *residual, int count) {
    for (int i = 0; i < count; i++)
        if (residual[i] != 0) residual[i] = 0;
}

static void put_part(float *to, lanes value, int count, bool stream) {
    float part[LANES];
    if (count >= LANES && stream) {
        lanes_stream(to, value);
    } else if (count >= LANES) {
        lanes_store(to, value);
    } else if (count > 0) {
        lanes_store(part, value);
        memcpy(to, part, (size_t)count * sizeof(*to));
    }
}

#include "tile_coset.h"

/* Whole words without zeros: the usual case. */
static inline void split_whole(const float *trial, int count, float scale, float *residual,
                               bool stream, uint32_t *negative) {
    const lanes step = lanes_all(scale);
    for (int i = 0; i < count; i += 2 * LANES) {
        const lanes low = lanes_load(trial + i), high = lanes_load(trial + i + LANES);
        const lanes low_rest = lanes_sub(low, lanes_toward(low, step));
        const lanes high_rest = lanes_sub(high, lanes_toward(high, step));
        if (stream) {
            lanes_stream(residual + i, low_rest);
            lanes_stream(residual + i + LANES, high_rest);
        } else {
            lanes_store(residual + i, low_rest);
            lanes_store(residual + i + LANES, high_rest);
        }
        negative[i / 32] = lanes_negative(low) | lanes_negative(high) << LANES;
    }
}

static void split(const float *trial, int count, float scale, bool any_zero, float *residual,
                  bool stream, uint32_t *negative, uint32_t *zero) {
    const lanes step = lanes_all(scale);
    int whole = any_zero ? 0 : count / 32 * 32;
    if (stream)
        split_whole(trial, whole, scale, residual, true, negative);
    else
        split_whole(trial, whole, scale, residual, false, negative);
    memset(zero, 0, (size_t)whole / 8);
    for (int i = whole; i < count; i += 2 * LANES) {
        uint32_t minus = 0, nothing = 0;
        for (int h = 0; h < 2; h++) {
            const lanes value = lanes_load(trial + i + h * LANES);
            const uint32_t zeros = lanes_zero(value);
            lanes rest = lanes_sub(value, lanes_toward(value, step));
            if (zeros != 0)
                rest = lanes_sub(value, lanes_signed(lanes_negative(value), zeros, step));
            minus |= (lanes_negative(value) & ~zeros) << h * LANES;
            nothing |= zeros << h * LANES;
            put_part(residual + i + h * LANES, rest, count - i - h * LANES, stream);
        }
        const uint32_t valid = count - i < 32 ? ~(~0u << (count - i)) : ~0u;
        negative[i / 32] = minus & valid;
        zero[i / 32] = nothing & valid;
    }
    if (!isfinite(scale)) forget(residual, count);
}

static void add_signs(const uint32_t *negative, const uint32_t *zero, float scale, float weight,
                      int count, float *y) {
    const lanes step = lanes_all(scale), by = lanes_all(weight);
    int i = 0;
    for (; i + LANES <= count; i += LANES) {
        const uint32_t nothing = zero == NULL ? 0 : zero[i / 32] >> i % 32;
        const lanes value = lanes_signed(negative[i / 32] >> i % 32, nothing & 0xffff, step);
        lanes_store(y + i, lanes_fma(by, value, lanes_load(y + i)));
    }
    for (; i < count; i++) {
        const bool nothing = zero != NULL && (zero[i / 32] >> i % 32 & 1) != 0;
        const float value = (negative[i / 32] >> i % 32 & 1) != 0 ? -scale : scale;
        y[i] = fmaf(weight, nothing ? 0.0f : value, y[i]);
    }
}

/* As cog_bf16, in a form that compilers turn into vectors. */
static void narrow(const float *trial, int count, uint16_t *to, float *residual) {
    for (int i = 0; i < count; i++) {
        const uint32_t bits = float_bits(trial[i]), size = bits & LANES_ABS;
        const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u;
        const uint32_t largest = (bits & 0x80000000u) | 0x7f7f0000u;
        const uint32_t sent = size > 0x7f7f7fffu && size < LANES_INF ? largest : rounded;
        const uint32_t rest = float_bits(trial[i] - cog_bits_float(sent));
        to[i] = (uint16_t)(sent >> 16);
        residual[i] = cog_bits_float(size >= LANES_INF ? 0 : rest);
    }
}

static void add_floats(const float *x, float weight, int64_t n, float *y) {
    const lanes by = lanes_all(weight);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        lanes_store(y + i, lanes_fma(by, lanes_load(x + i), lanes_load(y + i)));
    for (; i < n; i++) y[i] = fmaf(weight, x[i], y[i]);
}

static void add_bf16(const uint16_t *x, float weight, int64_t n, float *y) {
    for (int64_t i = 0; i < n; i++) y[i] = fmaf(weight, cog_bits_float((uint32_t)x[i] << 16), y[i]);
}

static void scatter_floats(const float *x, const uint16_t *offset, float weight, int64_t n,
                           float *y) {
    for (int64_t i = 0; i < n; i++) y[offset[i]] = fmaf(weight, x[i], y[offset[i]]);
}

static void scatter_bf16(const uint16_t *x, const uint16_t *offset, float weight, int64_t n,
                         float *y) {
    for (int64_t i = 0; i < n; i++)
        y[offset[i]] = fmaf(weight, cog_bits_float((uint32_t)x[i] << 16), y[offset[i]]);
}

extern const cog_tile_ops TILE_OPS;
const cog_tile_ops TILE_OPS = {
    .name = TILE_OPS_NAME,
    .combine = combine,
    .combine_max = combine_max,
    .combine_sum = combine_sum,
    .put = put,
    .fence = fence,
    .mark = mark,
    .count = count_at_least,
    .range = range,
    .magnitude = magnitude,
    .split = split,
    .add_signs = add_signs,
    .energy = energy,
    .quantize = quantize,
    .add_codes = add_codes,
    .hadamard = hadamard,
    .flip = flip,
    .threshold = threshold,
    .ones = ones,
    .take_from = take_from,
    .add_scaled = add_scaled,
    .dot = dot,
    .to_coset = to_coset,
    .add_coset = add_coset,
    .narrow = narrow,
    .add_floats = add_floats,
    .add_bf16 = add_bf16,
    .scatter_floats = scatter_floats,
    .scatter_bf16 = scatter_bf16,
};
