/* vector.cu - fill, axpby, bf16 conversion and weighted sums. Meaning: host/devices/cpu.c.
 *
 * One pass each, one thread for 4 entries, 16 bytes a load where all vectors are aligned alike and
 * 4 otherwise. Bytes an entry, read + written:
 *
 *     fill 4    axpby 8 + 4 (8 when b is 0)    to_bf16 4 + 2    from_bf16 2 + 4    combine 4L + 4
 *
 * Vectors may coincide: an entry is read and written by the same thread.
 */
#include "launch.cuh"

namespace {

__global__ void fill_kernel(float value, float *y, int64_t n, cog_groups groups) {
    cog_each(
        n, groups, [=](int64_t i) { cog_store4(y + i, make_float4(value, value, value, value)); },
        [=](int64_t i) { y[i] = value; });
}

/* ---- axpby ----------------------------------------------------------------------------------- */

__device__ inline float4 times(float a, float4 x) {
    return make_float4(__fmul_rn(a, x.x), __fmul_rn(a, x.y), __fmul_rn(a, x.z), __fmul_rn(a, x.w));
}

__device__ inline float4 plus(float4 x, float4 y) {
    return make_float4(__fadd_rn(x.x, y.x), __fadd_rn(x.y, y.y), __fadd_rn(x.z, y.z),
                       __fadd_rn(x.w, y.w));
}

__global__ void scale_kernel(float a, const float *x, float *y, int64_t n, cog_groups groups) {
    cog_each(
        n, groups, [=](int64_t i) { cog_store4(y + i, times(a, cog_load4(x + i))); },
        [=](int64_t i) { y[i] = __fmul_rn(a, x[i]); });
}

/* Two products and a sum, not a fused one: the bits of the plain C expression. */
__global__ void axpby_kernel(float a, const float *x, float b, float *y, int64_t n,
                             cog_groups groups) {
    cog_each(
        n, groups,
        [=](int64_t i) {
            cog_store4(y + i, plus(times(a, cog_load4(x + i)), times(b, cog_load4(y + i))));
        },
        [=](int64_t i) { y[i] = __fadd_rn(__fmul_rn(a, x[i]), __fmul_rn(b, y[i])); });
}

/* ---- bf16 ------------------------------------------------------------------------------------ */

__global__ void to_bf16_kernel(const float *x, uint16_t *y, int64_t n, cog_groups groups) {
    cog_each(
        n, groups,
        [=](int64_t i) {
            const float4 v = cog_load4(x + i);
            cog_store4(y + i, make_ushort4(cog_bf16_of(v.x), cog_bf16_of(v.y), cog_bf16_of(v.z),
                                           cog_bf16_of(v.w)));
        },
        [=](int64_t i) { y[i] = cog_bf16_of(x[i]); });
}

__global__ void from_bf16_kernel(const uint16_t *x, float *y, int64_t n, cog_groups groups) {
    cog_each(
        n, groups,
        [=](int64_t i) {
            const ushort4 v = cog_load4(x + i);
            cog_store4(y + i, make_float4(cog_float_of(v.x), cog_float_of(v.y), cog_float_of(v.z),
                                          cog_float_of(v.w)));
        },
        [=](int64_t i) { y[i] = cog_float_of(x[i]); });
}

/* ---- combine --------------------------------------------------------------------------------- */

__device__ inline float4 plus_times(float c, float4 x, float4 sum) {
    return make_float4(fmaf(c, x.x, sum.x), fmaf(c, x.y, sum.y), fmaf(c, x.z, sum.z),
                       fmaf(c, x.w, sum.w));
}

/* TERMS > 0 is the number of terms, known when compiling so that all loads are in flight together;
 * 0 takes it from the parameter. */
template <int TERMS>
__global__ void combine_kernel(const __grid_constant__ cog_kernel_terms terms, float *out,
                               int64_t n, cog_groups groups) {
    const int n_terms = TERMS > 0 ? TERMS : terms.n_terms;
    cog_each(
        n, groups,
        [&](int64_t i) {
            float4 sum = times(terms.coef[0], cog_load4(terms.x[0] + i));
#pragma unroll 4
            for (int k = 1; k < n_terms; k++)
                sum = plus_times(terms.coef[k], cog_load4(terms.x[k] + i), sum);
            cog_store4(out + i, sum);
        },
        [&](int64_t i) {
            float sum = __fmul_rn(terms.coef[0], terms.x[0][i]);
#pragma unroll 4
            for (int k = 1; k < n_terms; k++) sum = fmaf(terms.coef[k], terms.x[k][i], sum);
            out[i] = sum;
        });
}

} // namespace

/* ---------------------------------------------------------------------------------------------- */

extern "C" int cog_cuda_fill(void *stream, float value, float *y, int64_t n) {
    if (n <= 0) return cudaSuccess;
    const cog_groups groups = cog_split(y, n, true);
    return COG_LAUNCH(fill_kernel, cog_grid_of_groups(n, groups), COG_THREADS, 0, stream, value, y,
                      n, groups);
}

extern "C" int cog_cuda_axpby(void *stream, float a, const float *x, float b, float *y, int64_t n) {
    if (n <= 0) return cudaSuccess;
    const cog_groups groups = cog_split(y, n, cog_congruent(x, y));
    const unsigned grid = cog_grid_of_groups(n, groups);
    if (b == 0) return COG_LAUNCH(scale_kernel, grid, COG_THREADS, 0, stream, a, x, y, n, groups);
    return COG_LAUNCH(axpby_kernel, grid, COG_THREADS, 0, stream, a, x, b, y, n, groups);
}

extern "C" int cog_cuda_to_bf16(void *stream, const float *x, uint16_t *y, int64_t n) {
    if (n <= 0) return cudaSuccess;
    const cog_groups groups = cog_split(y, n, cog_congruent(x, y));
    return COG_LAUNCH(to_bf16_kernel, cog_grid_of_groups(n, groups), COG_THREADS, 0, stream, x, y,
                      n, groups);
}

extern "C" int cog_cuda_from_bf16(void *stream, const uint16_t *x, float *y, int64_t n) {
    if (n <= 0) return cudaSuccess;
    const cog_groups groups = cog_split(y, n, cog_congruent(x, y));
    return COG_LAUNCH(from_bf16_kernel, cog_grid_of_groups(n, groups), COG_THREADS, 0, stream, x, y,
                      n, groups);
}

extern "C" int cog_cuda_combine(void *stream, const cog_kernel_terms *terms, float *out,
                                int64_t n) {
    if (terms->n_terms < 0 || terms->n_terms > COG_KERNEL_TERMS) return cudaErrorInvalidValue;
    if (terms->n_terms == 0) return cog_cuda_fill(stream, 0, out, n);
    if (n <= 0) return cudaSuccess;
    bool congruent = true;
    for (int k = 0; k < terms->n_terms; k++) congruent &= cog_congruent(terms->x[k], out);
    const cog_groups groups = cog_split(out, n, congruent);
    const unsigned grid = cog_grid_of_groups(n, groups);
#define COMBINE(n_terms) \
    COG_LAUNCH(combine_kernel<n_terms>, grid, COG_THREADS, 0, stream, *terms, out, n, groups)
    switch (terms->n_terms) {
    case 1: return COMBINE(1);
    case 2: return COMBINE(2);
    case 3: return COMBINE(3);
    case 4: return COMBINE(4);
    default: return COMBINE(0);
    }
#undef COMBINE
}
