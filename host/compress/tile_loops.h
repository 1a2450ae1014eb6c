/* tile_loops.h - the loops of tile.h; one file per instruction set includes this text once.
 *
 * TILE_OPS is the name of the table, TILE_OPS_NAME that of the set. Everything goes 16 lanes at a
 * time; what is left at the end of a vector goes through a padded copy and the same lanes.
 */
#include <math.h>
#include <string.h>

#include "lanes.h"
#include "tile.h"

static inline uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static inline float bits_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

enum { BLOCK = 4 }; /* vectors in flight: hides the latency of the fused multiply-adds */

/* acc = sum of the terms at entry i, BLOCK vectors of it */
static inline void combine_block(int n_terms, const cog_term *terms, int64_t i, lanes acc[BLOCK]) {
    for (int v = 0; v < BLOCK; v++)
        acc[v] = lanes_mul(lanes_all(terms[0].coef), lanes_load(terms[0].x + i + v * LANES));
    for (int t = 1; t < n_terms; t++) {
        const lanes coef = lanes_all(terms[t].coef);
        for (int v = 0; v < BLOCK; v++)
            acc[v] = lanes_fma(coef, lanes_load(terms[t].x + i + v * LANES), acc[v]);
    }
}

/* The last, incomplete block: the terms are copied to where reading on is allowed, and what a
 * coefficient that is not finite made of the padding is removed. */
static void combine_rest(int n_terms, const cog_term *terms, int64_t first, int count,
                         lanes acc[BLOCK]) {
    float copy[COG_MAX_TERMS][BLOCK * LANES] = {0};
    cog_term padded[COG_MAX_TERMS];
    for (int t = 0; t < n_terms; t++) {
        memcpy(copy[t], terms[t].x + first, (size_t)count * sizeof(float));
        padded[t] = (cog_term){copy[t], terms[t].coef};
    }
    combine_block(n_terms, padded, 0, acc);
    float sum[BLOCK * LANES];
    for (int v = 0; v < BLOCK; v++) lanes_store(sum + v * LANES, acc[v]);
    for (int i = count; i < BLOCK * LANES; i++) sum[i] = 0;
    for (int v = 0; v < BLOCK; v++) acc[v] = lanes_load(sum + v * LANES);
}

static inline void keep_block(lanes acc[BLOCK], int i, float *trial, float *column) {
    for (int v = 0; v < BLOCK; v++) {
        const lanes value = lanes_canonical(acc[v]);
        lanes_store(trial + i + v * LANES, value);
        if (column == NULL) continue;
        float *at = column + i % COG_TILE_COLUMNS + v * LANES;
        lanes_store(at, lanes_larger(lanes_load(at), lanes_abs(value)));
    }
}

static int padded_count(int count) {
    return (count + COG_TILE_COLUMNS - 1) / COG_TILE_COLUMNS * COG_TILE_COLUMNS;
}

static void combine(int n_terms, const cog_term *terms, int64_t first, int count, float *trial,
                    float *column) {
    const int whole = n_terms > 0 ? count / (BLOCK * LANES) * (BLOCK * LANES) : 0;
    lanes acc[BLOCK];
    int i = 0;
    if (column != NULL) memset(column, 0, COG_TILE_COLUMNS * sizeof(*column));
    for (; i < whole; i += BLOCK * LANES) {
        combine_block(n_terms, terms, first + i, acc);
        keep_block(acc, i, trial, column);
    }
    if (n_terms > 0 && i < count) {
        combine_rest(n_terms, terms, first + i, count - i, acc);
        keep_block(acc, i, trial, column);
        i += BLOCK * LANES;
    }
    const int end = padded_count(count);
    for (; i < end; i++) trial[i] = 0;
}

static void put(float *to, const float *from, int count, bool stream) {
    int i = 0;
    if (stream)
        for (; i + LANES <= count; i += LANES) lanes_stream(to + i, lanes_load(from + i));
    if (i < count) memcpy(to + i, from + i, (size_t)(count - i) * sizeof(*to));
}

static void fence(void) { lanes_fence(); }

static inline uint64_t mark_word(const float *x, words bound) {
    uint64_t word = 0;
    for (int v = 0; v < 4; v++)
        word |= (uint64_t)words_at_least(words_of(lanes_load(x + v * LANES)), bound) << v * LANES;
    return word;
}

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

static int64_t count_at_least(const float *x, int64_t n, uint32_t bound) {
    const words limit = words_all(bound);
    int64_t found = 0, i = 0;
    for (; i + 64 <= n; i += 64) found += __builtin_popcountll(mark_word(x + i, limit));
    if (i == n) return found;
    float rest[64] = {0};
    memcpy(rest, x + i, (size_t)(n - i) * sizeof(*x));
    const uint64_t word = mark_word(rest, limit) & ~(~(uint64_t)0 << (n - i));
    return found + __builtin_popcountll(word);
}

/* Entries j, j+256, .. are added in lane j, then the halves of the lanes are added up to one. */
static float sum_columns(const float *trial, int count, float factor) {
    float lane[COG_TILE_COLUMNS];
    const lanes by = lanes_all(factor);
    for (int c = 0; c < COG_TILE_COLUMNS; c += BLOCK * LANES) {
        lanes acc[BLOCK];
        for (int v = 0; v < BLOCK; v++) acc[v] = lanes_all(0);
        for (int i = c; i < count; i += COG_TILE_COLUMNS)
            for (int v = 0; v < BLOCK; v++) {
                const lanes value = lanes_abs(lanes_load(trial + i + v * LANES));
                acc[v] = lanes_add(acc[v], lanes_mul(value, by));
            }
        for (int v = 0; v < BLOCK; v++) lanes_store(lane + c + v * LANES, acc[v]);
    }
    for (int half = COG_TILE_COLUMNS / 2; half >= LANES; half /= 2)
        for (int j = 0; j < half; j += LANES)
            lanes_store(lane + j, lanes_add(lanes_load(lane + j), lanes_load(lane + j + half)));
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

static void range(const float *x, int64_t n, uint32_t *least, uint32_t *most) {
    lanes low = lanes_abs(lanes_all(x[0])), high = low;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const lanes value = lanes_abs(lanes_load(x + i));
        low = lanes_smaller(low, value);
        high = lanes_larger(high, value);
    }
    float lows[LANES], highs[LANES];
    lanes_store(lows, low);
    lanes_store(highs, high);
    *least = LANES_ABS;
    *most = 0;
    for (int j = 0; j < LANES; j++) {
        const uint32_t l = float_bits(lows[j]), h = float_bits(highs[j]);
        *least = l < *least ? l : *least;
        *most = h > *most ? h : *most;
    }
    for (; i < n; i++) {
        const uint32_t size = float_bits(x[i]) & LANES_ABS;
        *least = size < *least ? size : *least;
        *most = size > *most ? size : *most;
    }
}

static int64_t count_zeros(const float *x, int count) {
    uint32_t least, most;
    range(x, count, &least, &most);
    return least > 0 ? 0 : count - count_at_least(x, count, 1);
}

/* Sums beyond the range of a float are taken once more at 2^-64 of the size. */
static cog_magnitude magnitude(const float *trial, int count) {
    const int padded = padded_count(count);
    double sum = sum_columns(trial, padded, 1.0f);
    if (isinf(sum)) sum = (double)sum_columns(trial, padded, 0x1p-64f) * 0x1p64;
    return (cog_magnitude){sum, count_zeros(trial, count)};
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

static void split(const float *trial, int count, float scale, float *residual, bool stream,
                  uint32_t *negative, uint32_t *zero) {
    const lanes step = lanes_all(scale);
    for (int i = 0; i < count; i += 2 * LANES) {
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
        const uint32_t rest = float_bits(trial[i] - bits_float(sent));
        to[i] = (uint16_t)(sent >> 16);
        residual[i] = bits_float(size >= LANES_INF ? 0 : rest);
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
    for (int64_t i = 0; i < n; i++) y[i] = fmaf(weight, bits_float((uint32_t)x[i] << 16), y[i]);
}

static void scatter_floats(const float *x, const uint16_t *offset, float weight, int64_t n,
                           float *y) {
    for (int64_t i = 0; i < n; i++) y[offset[i]] = fmaf(weight, x[i], y[offset[i]]);
}

static void scatter_bf16(const uint16_t *x, const uint16_t *offset, float weight, int64_t n,
                         float *y) {
    for (int64_t i = 0; i < n; i++)
        y[offset[i]] = fmaf(weight, bits_float((uint32_t)x[i] << 16), y[offset[i]]);
}

extern const cog_tile_ops TILE_OPS;
const cog_tile_ops TILE_OPS = {
    .name = TILE_OPS_NAME,
    .combine = combine,
    .put = put,
    .fence = fence,
    .mark = mark,
    .count = count_at_least,
    .range = range,
    .magnitude = magnitude,
    .split = split,
    .add_signs = add_signs,
    .narrow = narrow,
    .add_floats = add_floats,
    .add_bf16 = add_bf16,
    .scatter_floats = scatter_floats,
    .scatter_bf16 = scatter_bf16,
};
