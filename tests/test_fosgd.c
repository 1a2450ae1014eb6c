/* test_fosgd.c - the transform, the format, and the published error of flattened one-bit messages.
 */
#include <stdio.h>

#include "quantizer_harness.h"
#include "tile.h"

/* The textbook loop. */
static void transform(float *x, int n) {
    for (int h = 1; h < n; h *= 2)
        for (int i = 0; i < n; i++) {
            if ((i & h) != 0) continue;
            const float a = x[i], b = x[i + h];
            x[i] = a + b;
            x[i + h] = a - b;
        }
}

static uint32_t philox_word(uint32_t block, uint32_t payload, uint32_t use, int word) {
    const philox4x32_ctr_t counter = {{block, COG_STREAM_DITHER, payload, use}};
    const philox4x32_key_t key = {{0, 0}};
    return philox4x32(counter, key).v[word];
}

static bool is_flipped(uint32_t payload, int64_t i) {
    const uint32_t block = (uint32_t)(16 * (i / 2048) + i % 16);
    return (philox_word(block, payload, 1, (int)(i / 512 % 4)) >> i / 16 % 32 & 1) != 0;
}

Test(fosgd, the_transform_is_the_hadamard_matrix_with_the_bits_of_the_textbook) {
    const cog_tile_ops *sets[4];
    cog_tile_list(sets);
    for (int n = COG_TILE_ROW; n <= COG_TILE; n *= 2) {
        float *x = ref_alloc(n, 4), *expected = ref_alloc(n, 4), *got = ref_alloc(n + 1, 4);
        ref_fill(IN_LAPLACE, 1, x, n);
        memcpy(expected, x, (size_t)n * 4);
        transform(expected, n);
        for (int i = 0; i < n; i += 97) {
            double sum = 0, size = 0;
            for (int j = 0; j < n; j++) {
                sum +=
                    __builtin_popcount((unsigned)(i & j)) % 2 != 0 ? -(double)x[j] : (double)x[j];
                size += fabs((double)x[j]);
            }
            cr_expect_float_eq((double)expected[i], sum, 1e-6 * size, "%d of %d", i, n);
        }
        for (int s = 0; sets[s] != NULL; s++)
            for (int shift = 0; shift < 2; shift++) {
                memcpy(got + shift, x, (size_t)n * 4);
                sets[s]->hadamard(got + shift, n);
                cr_expect(memcmp(got + shift, expected, (size_t)n * 4) == 0, "%d, %s", n,
                          sets[s]->name);
            }
        free(x);
        free(expected);
        free(got);
    }
}

/* Payload number 1 of `n` entries in the words of the format, into `words`. */
static int64_t reference(const float *trial, int64_t n, int tile, double reach, uint32_t *words) {
    const int64_t n_blocks = (n + tile - 1) / tile;
    int64_t at = 2 + n_blocks;
    words[0] = 0;
    words[1] = 1;
    for (int64_t first = 0; first < n; first += tile) {
        int length = 256;
        while (length < tile && length < n - first) length *= 2;
        float x[4096] = {0};
        double lane[64] = {0};
        for (int i = 0; i < length && first + i < n; i++) {
            const double entry = (double)trial[first + i];
            lane[i % 64] += entry * entry;
            x[i] = is_flipped(1, first + i) ? -trial[first + i] : trial[first + i];
        }
        for (int half = 32; half > 0; half /= 2)
            for (int j = 0; j < half; j++) lane[j] += lane[j + half];
        const float scale = (float)(reach * sqrt(lane[0]) / length);
        words[2 + first / tile] = ref_bits(scale);
        transform(x, length);
        for (int i = 0; i < length; i++) {
            const float l = scale * (float)length;
            const float bound = fmaf(-2 * l, ref_dither(0, 1, 0, first + i), l);
            if (i % 32 == 0) words[at + i / 32] = 0;
            words[at + i / 32] |= (uint32_t)(x[i] < bound) << i % 32;
        }
        at += length / 32;
    }
    return at * 4;
}

Test(fosgd, payloads_are_those_of_the_format_in_every_instruction_set) {
    cog_device *device = open_cpu();
    static const int64_t sizes[] = {1, 255, 256, 257, 1000, 4096, 4097, 9000, 100007};
    const cog_tile_ops *sets[4];
    cog_tile_list(sets);
    for (size_t c = 0; c < 2 * sizeof(sizes) / sizeof(sizes[0]); c++) {
        const int64_t n = sizes[c / 2];
        const int tile = c % 2 == 0 ? 4096 : 512;
        char spec[64];
        snprintf(spec, sizeof(spec), "fosgd:reach=2.5,block=%d", tile);
        cog_quantizer q = configured(spec, n);
        float *x = ref_alloc(n, 4);
        uint32_t *expected = ref_alloc(2 * n + 4096, 4);
        ref_fill(IN_LAPLACE, 5, x, n);
        const int64_t bytes = reference(x, n, tile, 2.5, expected);
        for (int s = 0; sets[s] != NULL; s++) {
            q.tile_ops = sets[s];
            bench b = set_up(&q, device, s);
            pack(&b, 1, &(cog_term){x, 1.0f});
            cr_expect_eq(pack(&b, 1, &(cog_term){x, 1.0f}), (size_t)bytes);
            cr_expect(memcmp(b.payload, expected, (size_t)bytes) == 0, "%s, n=%lld, %s", spec,
                      (long long)n, sets[s]->name);
            tear_down(&b);
        }
        free(x);
        free(expected);
    }
    cog_device_close(device);
}

/* E ||decoded - x||^2 = (c^2 - 1) ||x||^2 whatever x, 28.065 ||x||^2 for c = 5.3912; and no bias:
 * the mean of m payloads is off by 1/m of that. The standard error is that of the
 * sample. */
Test(fosgd, the_error_is_that_of_the_publication_and_the_mean_is_right) {
    cog_device *device = open_cpu();
    enum { N = 8192, N_PAYLOADS = 400 };
    static const struct {
        const char *spec;
        double c;
        int input;
    } cases[] = {{"fosgd:reach=5.39120", 5.39120, IN_NORMAL},
                 {"fosgd:reach=5.39120,block=256", 5.39120, IN_LAPLACE},
                 {"fosgd", 4, IN_ZEROS},
                 {"fosgd", 4, -1},
                 {"fosgd:reach=64", 64, IN_EQUAL}};
    float *x = ref_alloc(N, 4), *y = ref_alloc(N, 4);
    double *mean = ref_alloc(N, 8);
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        const cog_quantizer q = configured(cases[c].spec, N);
        bench b = set_up(&q, device, 0);
        memset(x, 0, N * 4);
        memset(mean, 0, N * 8);
        if (cases[c].input >= 0) ref_fill(cases[c].input, 1, x, N);
        x[4000] = cases[c].input >= 0 ? x[4000] : -3; /* one entry alone */
        double norm = 0, sum = 0, squares = 0, bias = 0;
        for (int i = 0; i < N; i++) norm += (double)x[i] * x[i];
        for (int p = 0; p < N_PAYLOADS; p++) {
            pack(&b, 1, &(cog_term){x, 1.0f});
            memset(y, 0, N * 4);
            decode(&q, device, b.payload, 1.0f, 0, N, y);
            double left = 0;
            for (int i = 0; i < N; i++) left += ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
            for (int i = 0; i < N; i++) mean[i] += ((double)y[i] - x[i]) / N_PAYLOADS;
            sum += left / norm;
            squares += left / norm * left / norm;
        }
        for (int i = 0; i < N; i++) bias += mean[i] * mean[i] / norm;
        const double error = sum / N_PAYLOADS;
        const double spread = sqrt((squares / N_PAYLOADS - error * error) / N_PAYLOADS);
        const double stated = cases[c].c * cases[c].c - 1;
        cr_expect(fabs(error - stated) < 5 * spread && spread < 0.01 * stated, "%s: %g, not %g",
                  cases[c].spec, error, stated);
        cr_expect(bias < 1.5 * stated / N_PAYLOADS, "%s: bias %g of %g", cases[c].spec, bias,
                  stated / N_PAYLOADS);
        tear_down(&b);
    }
    free(x);
    free(y);
    free(mean);
    cog_device_close(device);
}
