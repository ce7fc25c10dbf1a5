// Numbers and vectors that the CPU kernels of this folder share.
//
// Written with the vector extensions of GCC and Clang, as wide as the machine that it is built on; intrinsics only where
// these have no word for an instruction that counts.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
constexpr int kLanes = kBytes / 4;

typedef float Floats __attribute__((vector_size(kBytes)));
typedef int32_t Ints __attribute__((vector_size(kBytes)));
typedef uint32_t Words __attribute__((vector_size(kBytes)));
typedef uint16_t Halves __attribute__((vector_size(kBytes / 2)));

struct bfloat16 {
    uint16_t bits;
};

template <typename To, typename From>
inline To bit_cast(const From& from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

inline Floats widen(const float* p) {
    Floats value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

inline Floats widen(const bfloat16* p) {
    Halves bits;
    std::memcpy(&bits, p, sizeof bits);
    return bit_cast<Floats>(__builtin_convertvector(bits, Words) << 16);
}

inline float number(float value) { return value; }

inline float number(bfloat16 value) { return bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

inline void store(float* p, float value) { *p = value; }

// Round to nearest, ties to even.
inline void store(bfloat16* p, float value) {
    const uint32_t word = bit_cast<uint32_t>(value);
    if ((word & 0x7fffffffu) > 0x7f800000u) {
        p->bits = static_cast<uint16_t>((word >> 16) | 0x40);  // stays not a number
        return;
    }
    p->bits = static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
}

inline float sum(Floats value) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps(reinterpret_cast<__m512>(value));
#else
    float total = 0.0f;
    for (int lane = 0; lane < kLanes; ++lane) total += value[lane];
    return total;
#endif
}

// e^x for x <= 0 within 2 units in the last place: 2^n times a polynomial on [-ln(2) / 2, ln(2) / 2] (Cephes).
inline Floats exponential(Floats x) {
    const Floats low = Floats{} - 87.0f;  // 1.6e-38: below it, 0 for every purpose here, and never a subnormal number
    const Floats clipped = x > low ? x : low;
    const Floats scaled = clipped * 1.44269504088896341f - 0.5f;
    const Ints n = __builtin_convertvector(scaled, Ints);  // towards 0, and `scaled` is negative: the nearest integer
    const Floats whole = __builtin_convertvector(n, Floats);
    const Floats r = clipped - whole * 0.693359375f + whole * 2.12194440e-4f;
    Floats y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    const Floats power = bit_cast<Floats>((n + 127) << 23);
    return x > low ? y * power : Floats{};
}

// The sums of sixteen vectors, each in the order in which `sum` adds.
inline void sums(const Floats* vectors, float* results) {
#if defined(__AVX512F__)
    constexpr int kOrder[16] = {0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15};  // as the shuffles need it
    __m512 halves[8], quarters[4], eighths[2];
    for (int i = 0; i < 8; ++i) {
        const __m512 a = reinterpret_cast<__m512>(vectors[kOrder[i]]);
        const __m512 b = reinterpret_cast<__m512>(vectors[kOrder[i + 8]]);
        halves[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    }
    for (int i = 0; i < 4; ++i) {
        const __m512 a = halves[i], b = halves[i + 4];
        quarters[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    }
    for (int i = 0; i < 2; ++i) {
        const __m512 a = quarters[i], b = quarters[i + 2];
        eighths[i] = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
    }
    const __m512 a = eighths[0], b = eighths[1];
    _mm512_storeu_ps(results, _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd)));
#else
    for (int i = 0; i < 16; ++i) results[i] = sum(vectors[i]);
#endif
}

// How a piece of a row of T meets the same piece of another row in a sum of products: `Value` is what the other row is
// kept as, `kStep` the piece's length.
template <typename T>
struct Product {
    using Value = float;
    static constexpr int kStep = kLanes;
    static inline Floats load(const T* p) { return widen(p); }
    static inline Floats load_other(const float* p) { return widen(p); }
    static inline Floats add(Floats total, Floats a, Floats b) { return total + a * b; }
};

#if defined(__AVX512BF16__)
// Products of pairs, added up in float32, in one instruction: no widening.
template <>
struct Product<bfloat16> {
    using Value = bfloat16;
    static constexpr int kStep = 32;
    static inline __m512bh load(const bfloat16* p) {
        __m512bh value;
        std::memcpy(&value, p, sizeof value);
        return value;
    }
    static inline __m512bh load_other(const bfloat16* p) { return load(p); }
    static inline Floats add(Floats total, __m512bh a, __m512bh b) {
        return reinterpret_cast<Floats>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(total), a, b));
    }
};
#endif

template <typename T>
using Value = typename Product<T>::Value;

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))
