/* simt_language.h - CUDA's kernel language for the host compiler.
 *
 * Kernel files are compiled with the instrumentation of -fsanitize=thread and without its library:
 * the compiler announces every load and store, and the executor listens (access.cpp). What is here
 * is what remains: words of the language, vector types, intrinsics, and launches. */
#ifndef SIMT_LANGUAGE_H
#define SIMT_LANGUAGE_H

#include <math.h>
#include <string.h>
#include <type_traits>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__   thread_local /* threads of the grid share a thread of the host */
#define SIMT_INLINE  inline __attribute__((always_inline))
#define SIMT_UNSEEN  inline __attribute__((noinline, no_sanitize("thread")))

/* ---- vector types ---------------------------------------------------------------------------- */

#define SIMT_VECTOR(type, name)                                                      \
    struct alignas(2 * sizeof(type)) name##2 {                                       \
        type x, y;                                                                   \
    };                                                                               \
    struct name##3 {                                                                 \
        type x, y, z;                                                                \
    };                                                                               \
    struct alignas(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) name##4 {          \
        type x, y, z, w;                                                             \
    };                                                                               \
    SIMT_INLINE name##2 make_##name##2(type x, type y) { return {x, y}; }            \
    SIMT_INLINE name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
    SIMT_INLINE name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

SIMT_VECTOR(signed char, char)
SIMT_VECTOR(unsigned char, uchar)
SIMT_VECTOR(short, short)
SIMT_VECTOR(unsigned short, ushort)
SIMT_VECTOR(int, int)
SIMT_VECTOR(unsigned, uint)
SIMT_VECTOR(long long, longlong)
SIMT_VECTOR(unsigned long long, ulonglong)
SIMT_VECTOR(float, float)
SIMT_VECTOR(double, double)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

#ifndef SIMT_EXECUTOR /* const: no thread sees its own change, and nobody announces the reads */
extern const uint3 threadIdx asm("simt_thread_index"), blockIdx asm("simt_block_index");
extern const uint3 blockDim asm("simt_block_dim"), gridDim asm("simt_grid_dim");
#endif
constexpr int warpSize = 32;

/* ---- the executor ---------------------------------------------------------------------------- */

namespace simt {

/* Where in the kernel file something was called; a default argument, so the caller's line. */
struct place {
    const char *file;
    int line;
    static constexpr place here(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
        return {file, line};
    }
};

int barrier(const char *verb, bool predicate, place where); /* returns how many were true */
void warp_barrier(unsigned mask, place where);
int lane();
/* The value of source_lane, or the caller's own when that is negative. */
uint64_t shuffle(const char *verb, unsigned mask, uint64_t value, int source_lane, place where);
unsigned vote(const char *verb, unsigned mask, bool predicate, place where);
/* op: '+', '&', '|', '^', '<' (unsigned least), '>' (unsigned most) */
uint32_t reduce(const char *verb, unsigned mask, uint32_t value, char op, place where);
void fence();
void must_be_global(const char *verb, const void *memory);
void atomic_access(const void *memory, size_t bytes, const void *site);
[[noreturn]] void trap();

/* A kernel without its types: run(arguments) is one thread of it. */
struct launch_request {
    const char *kernel;
    void (*run)(void *arguments);
    void *arguments;
    size_t argument_bytes;
    dim3 grid, block;
    size_t shared_bytes;
    void *stream;
};
cudaError_t launch(const launch_request &request);

template <class Kernel, class Arguments> struct bound {
    Kernel kernel;
    Arguments arguments;
};

template <class... P, class... A>
cudaError_t launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                   size_t shared_bytes, void *stream, A... arguments) {
    using call = bound<void (*)(P...), std::tuple<std::decay_t<P>...>>;
    call c = {kernel, {arguments...}};
    void (*run)(void *) = [](void *memory) {
        call *b = static_cast<call *>(memory);
        std::apply(b->kernel, b->arguments);
    };
    return launch({name, run, &c, sizeof(c), grid, block, shared_bytes, stream});
}

} // namespace simt

#define COG_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    simt::launch(#kernel, kernel, (grid), (block), (shared_bytes), (stream), __VA_ARGS__)

/* ---- barriers, fences, votes, shuffles ------------------------------------------------------- */

#define SIMT_HERE simt::place where = simt::place::here()

SIMT_INLINE void __syncthreads(SIMT_HERE) { simt::barrier("__syncthreads", false, where); }
SIMT_INLINE int __syncthreads_count(int p, SIMT_HERE) {
    return simt::barrier("__syncthreads_count", p != 0, where);
}
SIMT_INLINE int __syncthreads_or(int p, SIMT_HERE) {
    return simt::barrier("__syncthreads_or", p != 0, where) > 0;
}
SIMT_INLINE int __syncthreads_and(int p, SIMT_HERE) {
    return simt::barrier("__syncthreads_and", p == 0, where) == 0;
}
SIMT_INLINE void __syncwarp(unsigned mask = ~0u, SIMT_HERE) { simt::warp_barrier(mask, where); }
SIMT_INLINE void __threadfence() { simt::fence(); }
SIMT_INLINE void __threadfence_block() {}
SIMT_INLINE void __trap() { simt::trap(); }
/* Only itself: no two lanes are promised to be together outside of a named mask. */
SIMT_INLINE unsigned __activemask() { return 1u << simt::lane(); }

SIMT_INLINE unsigned __ballot_sync(unsigned mask, int p, SIMT_HERE) {
    return simt::vote("__ballot_sync", mask, p != 0, where);
}
SIMT_INLINE int __any_sync(unsigned mask, int p, SIMT_HERE) {
    return simt::vote("__any_sync", mask, p != 0, where) != 0;
}
SIMT_INLINE int __all_sync(unsigned mask, int p, SIMT_HERE) {
    return simt::vote("__all_sync", mask, p != 0, where) == mask;
}

#define SIMT_REDUCE(type, name, op)                                                         \
    SIMT_INLINE type __reduce_##name##_sync(unsigned mask, type v, SIMT_HERE) {             \
        return (type)simt::reduce("__reduce_" #name "_sync", mask, (uint32_t)v, op, where); \
    }
SIMT_REDUCE(unsigned, add, '+')
SIMT_REDUCE(int, add, '+')
SIMT_REDUCE(unsigned, and, '&')
SIMT_REDUCE(unsigned, or, '|')
SIMT_REDUCE(unsigned, xor, '^')
SIMT_REDUCE(unsigned, min, '<')
SIMT_REDUCE(unsigned, max, '>')

/* CUDA's rule: out of the segment of `width` lanes, a lane keeps its own value. */
template <class T>
SIMT_INLINE T simt_shuffle(const char *verb, unsigned mask, T v, int source, bool inside,
                           simt::place where) {
    static_assert(sizeof(T) <= 8 && std::is_arithmetic<T>::value, "32 or 64 bits");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof(T));
    bits = simt::shuffle(verb, mask, bits, inside ? source : -1, where);
    memcpy(&v, &bits, sizeof(T));
    return v;
}
template <class T>
SIMT_INLINE T __shfl_sync(unsigned mask, T v, int source, int width = 32, SIMT_HERE) {
    const int from = (simt::lane() & ~(width - 1)) | (source & (width - 1));
    return simt_shuffle("__shfl_sync", mask, v, from, true, where);
}
template <class T>
SIMT_INLINE T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, SIMT_HERE) {
    const int from = simt::lane() - (int)delta;
    return simt_shuffle("__shfl_up_sync", mask, v, from, from >= (simt::lane() & ~(width - 1)),
                        where);
}
template <class T>
SIMT_INLINE T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, SIMT_HERE) {
    const int from = simt::lane() + (int)delta;
    return simt_shuffle("__shfl_down_sync", mask, v, from, from <= (simt::lane() | (width - 1)),
                        where);
}
template <class T>
SIMT_INLINE T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, SIMT_HERE) {
    const int from = simt::lane() ^ bits;
    return simt_shuffle("__shfl_xor_sync", mask, v, from, from <= (simt::lane() | (width - 1)),
                        where);
}

/* ---- atomics: announced by themselves, so their own loads and stores are not ----------------- */

template <class T, class F> SIMT_UNSEEN T simt_atomic(T *memory, F change) {
    simt::atomic_access(memory, sizeof(T), __builtin_return_address(0));
    const T old = *memory;
    *memory = change(old);
    return old;
}
template <class T> using simt_same = typename std::enable_if<true, T>::type; /* no deduction */

template <class T> SIMT_INLINE T atomicAdd(T *p, simt_same<T> v) {
    return simt_atomic(p, [v](T old) { return (T)(old + v); });
}
template <class T> SIMT_INLINE T atomicSub(T *p, simt_same<T> v) {
    return simt_atomic(p, [v](T old) { return (T)(old - v); });
}
template <class T> SIMT_INLINE T atomicOr(T *p, simt_same<T> v) {
    return simt_atomic(p, [v](T old) { return (T)(old | v); });
}
template <class T> SIMT_INLINE T atomicAnd(T *p, simt_same<T> v) {
    return simt_atomic(p, [v](T old) { return (T)(old & v); });
}
template <class T> SIMT_INLINE T atomicXor(T *p, simt_same<T> v) {
    return simt_atomic(p, [v](T old) { return (T)(old ^ v); });
}
template <class T> SIMT_INLINE T atomicMin(T *p, simt_same<T> v) {
    return simt_atomic(p, [v](T old) { return v < old ? v : old; });
}
template <class T> SIMT_INLINE T atomicMax(T *p, simt_same<T> v) {
    return simt_atomic(p, [v](T old) { return v > old ? v : old; });
}
template <class T> SIMT_INLINE T atomicExch(T *p, simt_same<T> v) {
    return simt_atomic(p, [v](T) { return v; });
}
template <class T> SIMT_INLINE T atomicCAS(T *p, simt_same<T> expected, simt_same<T> v) {
    return simt_atomic(p, [expected, v](T old) { return old == expected ? v : old; });
}
SIMT_INLINE unsigned atomicInc(unsigned *p, unsigned last) {
    return simt_atomic(p, [last](unsigned old) { return old >= last ? 0 : old + 1; });
}

/* ---- intrinsics ------------------------------------------------------------------------------ */

/* Their instructions name global memory, whatever the pointer says. */
#define SIMT_LOAD(name) \
    template <class T> SIMT_INLINE T name(const T *p) { return simt::must_be_global(#name, p), *p; }
#define SIMT_STORE(name)                                             \
    template <class T> SIMT_INLINE void name(T *p, simt_same<T> v) { \
        simt::must_be_global(#name, p);                              \
        *p = v;                                                      \
    }
SIMT_LOAD(__ldg)
SIMT_LOAD(__ldca)
SIMT_LOAD(__ldcg)
SIMT_LOAD(__ldcs)
SIMT_LOAD(__ldcv)
SIMT_STORE(__stcg)
SIMT_STORE(__stcs)
SIMT_STORE(__stwb)

template <class To, class From> SIMT_INLINE To simt_bits(From v) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    memcpy(&to, &v, sizeof(to));
    return to;
}
SIMT_INLINE unsigned __float_as_uint(float v) { return simt_bits<unsigned>(v); }
SIMT_INLINE int __float_as_int(float v) { return simt_bits<int>(v); }
SIMT_INLINE float __uint_as_float(unsigned v) { return simt_bits<float>(v); }
SIMT_INLINE float __int_as_float(int v) { return simt_bits<float>(v); }

SIMT_INLINE float __fadd_rn(float a, float b) { return a + b; }
SIMT_INLINE float __fsub_rn(float a, float b) { return a - b; }
SIMT_INLINE float __fmul_rn(float a, float b) { return a * b; }
SIMT_INLINE float __fdiv_rn(float a, float b) { return a / b; }
SIMT_INLINE float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
SIMT_INLINE float __fsqrt_rn(float a) { return sqrtf(a); }
SIMT_INLINE float __frcp_rn(float a) { return 1 / a; }
SIMT_INLINE double __dadd_rn(double a, double b) { return a + b; }
SIMT_INLINE double __dmul_rn(double a, double b) { return a * b; }
SIMT_INLINE double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
SIMT_INLINE float rsqrtf(float a) { return 1 / sqrtf(a); }
SIMT_INLINE float __saturatef(float a) { return a > 0 ? a < 1 ? a : 1 : 0; }
SIMT_INLINE int __float2int_rn(float a) { return (int)rintf(a); }
SIMT_INLINE int __float2int_rz(float a) { return (int)a; }
SIMT_INLINE unsigned __float2uint_rn(float a) { return (unsigned)rintf(a); }
SIMT_INLINE float __int2float_rn(int a) { return (float)a; }
SIMT_INLINE float __uint2float_rn(unsigned a) { return (float)a; }

SIMT_INLINE int __popc(unsigned v) { return __builtin_popcount(v); }
SIMT_INLINE int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
SIMT_INLINE int __ffs(int v) { return __builtin_ffs(v); }
SIMT_INLINE int __ffsll(long long v) { return __builtin_ffsll(v); }
SIMT_INLINE int __clz(int v) { return v == 0 ? 32 : __builtin_clz((unsigned)v); }
SIMT_INLINE int __clzll(long long v) { return v == 0 ? 64 : __builtin_clzll((uint64_t)v); }
SIMT_INLINE unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
SIMT_INLINE unsigned __brev(unsigned v) {
    v = (v >> 1 & 0x55555555u) | (v & 0x55555555u) << 1;
    v = (v >> 2 & 0x33333333u) | (v & 0x33333333u) << 2;
    v = (v >> 4 & 0x0f0f0f0fu) | (v & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(v);
}

template <class A, class B> SIMT_INLINE constexpr auto min(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point<T>::value)
        return (T)fmin(a, b); /* NaN gives the other */
    else
        return (T)b < (T)a ? (T)b : (T)a;
}
template <class A, class B> SIMT_INLINE constexpr auto max(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point<T>::value)
        return (T)fmax(a, b);
    else
        return (T)a < (T)b ? (T)b : (T)a;
}

template <class T> inline cudaError_t cudaMalloc(T **memory, size_t bytes) {
    return cudaMalloc(reinterpret_cast<void **>(memory), bytes);
}

#endif
