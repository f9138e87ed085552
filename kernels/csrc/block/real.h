// Number types of a build and scalar functions. MB_REAL is float, or double for exact tests; memory rows may be stored
// as bfloat16 (MB_STORE_BF16), all arithmetic is in MB_REAL.
#pragma once

#if defined(__CUDACC_RTC__)
typedef signed char int8_t;
typedef signed int int32_t;
typedef unsigned int uint32_t;
typedef signed long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned short uint16_t;
#else
#include <cmath>
#include <cstdint>
#endif

#if defined(__CUDACC__)
#define MB_FN __device__ __forceinline__
#else
#define MB_FN inline
#endif

// Always inlined, so that loops over it vectorize; MB_INLINE is the same for a lambda.
#if defined(__CUDACC__)
#define MB_LEAF MB_FN
#define MB_INLINE
#else
#define MB_LEAF inline __attribute__((always_inline))
#define MB_INLINE __attribute__((always_inline))
#endif

#if defined(__clang__)
#define MB_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__) && !defined(__CUDACC__)
#define MB_INDEPENDENT _Pragma("GCC ivdep")
#else
#define MB_INDEPENDENT
#endif

// For a GPU, whose compiler would make four copies or more of most loops: not of this one, which mostly runs once, or
// whose body is long. The code of a step should stay in the instruction cache.
#if defined(__CUDA_ARCH__)
#define MB_ROLLED _Pragma("unroll 1")
#define MB_FOUR_AT_ONCE _Pragma("unroll 4")
#else
#define MB_ROLLED
#define MB_FOUR_AT_ONCE
#endif

#ifndef MB_REAL
#define MB_REAL float
#endif

namespace mb {

typedef MB_REAL Real;

// A number of things that a block works on at once, and an index among them: below 2^31. A GPU computes in 32 bits; a
// product of 64 bits takes it four instructions, a division seventy. What grows with steps or slots is int64_t, and so
// is one factor wherever a row number is multiplied.
#if defined(__CUDACC__)
typedef int32_t Count;
#else
typedef int64_t Count;
#endif

MB_FN float float_of_bits(uint32_t bits) {
    union {
        uint32_t bits;
        float number;
    } whole;
    whole.bits = bits;
    return whole.number;
}

// bfloat16 as bits, rounded to nearest even.
struct Bf16 {
    uint16_t bits;
    MB_FN Bf16& operator=(Real value) {
        union {
            float number;
            uint32_t bits;
        } whole;
        whole.number = static_cast<float>(value);
        const bool finite = (whole.bits & 0x7f800000u) != 0x7f800000u;
        bits = static_cast<uint16_t>((whole.bits + (finite ? 0x7fffu + ((whole.bits >> 16) & 1u) : 0u)) >> 16);
        if (!finite && (whole.bits & 0x007fffffu)) bits |= 0x40;  // a NaN stays a NaN
        return *this;
    }
    MB_FN operator Real() const { return float_of_bits(static_cast<uint32_t>(bits) << 16); }
};

#ifdef MB_STORE_BF16
typedef Bf16 Store;
#else
typedef Real Store;
#endif

MB_LEAF double exponential(double x) { return exp(x); }

// exp to 2 ulp without a branch or call, so that loops over it vectorize: 2^n times a polynomial on [-ln2/2, ln2/2].
MB_LEAF float exponential(float x) {
#if defined(__CUDACC__)
    return expf(x);
#else
    // At the ends 2^n is 0 or infinite, and so is what is returned. NaN is clamped too: it must not be converted to an
    // integer.
    const float clamped = x > 89.0f ? 89.0f : (x > -88.0f ? x : -88.0f);
    const float whole = rintf(clamped * 1.44269504089f);
    const float rest = (clamped - whole * 0.693359375f) + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * rest + 1.3981999507e-3f;
    p = p * rest + 8.3334519073e-3f;
    p = p * rest + 4.1665795894e-2f;
    p = p * rest + 1.6666665459e-1f;
    p = p * rest + 5.0000001201e-1f;
    p = p * rest * rest + rest + 1.0f;
    const int32_t bits = (static_cast<int32_t>(whole) + 127) * (1 << 23);
    float scale;
    __builtin_memcpy(&scale, &bits, sizeof scale);
    return x != x ? x : p * scale;
#endif
}

#if !defined(__CUDACC__)
MB_LEAF double logarithm(double x) { return log(x); }

// log to 1 ulp of normal numbers, without a branch or call: x = 2^n m with m in [1/sqrt(2), sqrt(2)], and a polynomial
// in m - 1.
MB_LEAF float logarithm(float x) {
    int32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    const int32_t n = (bits - 0x3f3504f3) >> 23, scaled = bits - n * (1 << 23);
    float m;
    __builtin_memcpy(&m, &scaled, sizeof m);
    const float r = m - 1.0f, square = r * r, whole = static_cast<float>(n);
    float p = 7.0376836292e-2f;
    p = p * r - 1.1514610310e-1f;
    p = p * r + 1.1676998740e-1f;
    p = p * r - 1.2420140846e-1f;
    p = p * r + 1.4249322787e-1f;
    p = p * r - 1.6668057665e-1f;
    p = p * r + 2.0000714765e-1f;
    p = p * r - 2.4999993993e-1f;
    p = p * r + 3.3333331174e-1f;
    const float sum = whole * -2.12194440e-4f + (p * r * square - 0.5f * square) + r;
    const float result = sum + whole * 0.693359375f;
    const float at_ends = x == 0.0f ? -float_of_bits(0x7f800000u) : (x > 0.0f ? x : float_of_bits(0x7fc00000u));
    return x > 0.0f && x < float_of_bits(0x7f800000u) ? result : at_ends;
}

MB_LEAF Real smallest_normal() { return sizeof(Real) == 4 ? Real(1.17549435e-38) : Real(2.2250738585072014e-308); }
#endif

MB_LEAF Real sigmoid(Real x) { return Real(1) / (Real(1) + exponential(-x)); }
MB_LEAF double hyperbolic_tangent(double x) { return tanh(x); }
// Near 0 a quotient minus 1 would keep few of its digits: there it is the Taylor series.
MB_LEAF float hyperbolic_tangent(float x) {
    const float s = x * x, near = x + x * s * (-0.333333333f + s * (0.133333333f - s * 0.0539682540f));
    return s < 0.01f ? near : 2.0f / (1.0f + exponential(-2.0f * x)) - 1.0f;
}
// As torch: linear above 20.
MB_LEAF Real softplus(Real x) { return x > Real(20) ? x : static_cast<Real>(log1p(exponential(x))); }
// The derivative of y = softplus(x) by x, from y.
MB_LEAF Real softplus_slope(Real y) { return static_cast<Real>(-expm1(-y)); }
MB_LEAF Real square_root(Real x) { return static_cast<Real>(sqrt(x)); }

constexpr Real epsilon = Real(1e-6);  // inside each norm, as kernels/reference/content.py
constexpr Real delta = Real(0.005);   // an access with more weight than this counts as use

MB_FN Real infinity() { return float_of_bits(0x7f800000u); }
MB_FN Real not_a_number() { return float_of_bits(0x7fc00000u); }

// The order of all that is searched: the higher score, of equal scores the lower row. NaN is ranked as infinity, so
// that it is found and not lost.
MB_FN Real ranked(Real score) { return score != score ? infinity() : score; }
MB_FN bool comes_before(Real score, int32_t row, Real other_score, int32_t other_row) {
    return score > other_score || (score == other_score && row < other_row);
}

}  // namespace mb
