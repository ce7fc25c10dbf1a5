// RMSNorm and quantisation to int8 for CPUs: N rows of D features, each read from memory once.
//
// The first loop over a row finds its sum of squares and its largest product with the weight, the second rounds; it
// finds the row in the first-level cache. The order of the sum is fixed, so results do not depend on threads.

#include "vectors.h"

#include <algorithm>
#include <cmath>

#if defined(__AVX2__) && !defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

constexpr float kSmallest = 1e-5f;  // as in reference.py

// Calls body(offset, value, weight) for whole vectors and, filled up with zeros, for the end of a row.
template <typename T, typename Body>
inline void along_row(const T* x, const float* weight, int64_t D, Body body) {
    int64_t d = 0;
    for (; d + kLanes <= D; d += kLanes) body(d, widen(x + d), widen(weight + d));
    if (d < D) {
        T values[kLanes] = {};
        float weights[kLanes] = {};
        std::memcpy(values, x + d, (D - d) * sizeof(T));
        std::memcpy(weights, weight + d, (D - d) * sizeof(float));
        body(d, widen(values), widen(weights));
    }
}

inline Floats absolute(Floats value) { return bit_cast<Floats>(bit_cast<Words>(value) & 0x7fffffffu); }

// The nearest integers, halves to even. (Rounding by adding a large number would be fused with the product before it.)
inline Ints nearest(Floats value) {
#if defined(__AVX512F__)
    return reinterpret_cast<Ints>(_mm512_cvtps_epi32(reinterpret_cast<__m512>(value)));
#elif defined(__AVX2__)
    return reinterpret_cast<Ints>(_mm256_cvtps_epi32(reinterpret_cast<__m256>(value)));
#else
    Ints result;
    for (int lane = 0; lane < kLanes; ++lane) result[lane] = static_cast<int32_t>(std::nearbyint(value[lane]));
    return result;
#endif
}

// Within +-127, and 0 for what is no number.
inline Floats limited(Floats value) {
    const Floats limit = Floats{} + 127.0f;
    value = value > limit ? limit : value;
    value = value < -limit ? -limit : value;
    return value == value ? value : Floats{};
}

template <typename T>
void forward(const T* x_, const float* weight, float eps, int64_t N, int64_t D, int8_t* values_, float* step,
             int threads) {
    (void)threads;  // unused where the compiler has no OpenMP
    typedef int8_t Bytes __attribute__((vector_size(kLanes)));
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t n = 0; n < N; ++n) {
        const T* x = x_ + n * D;
        int8_t* values = values_ + n * D;
        Floats squares = {}, peaks = {};
        Ints faults = {};
        along_row(x, weight, D, [&](int64_t, Floats value, Floats scale) {
            squares += value * value;
            const Floats size = absolute(value * scale);
            faults |= bit_cast<Ints>(size != size);
            const Ints larger = bit_cast<Ints>(size > peaks);
            peaks = bit_cast<Floats>((bit_cast<Ints>(size) & larger) | (bit_cast<Ints>(peaks) & ~larger));
        });
        float peak = 0.0f;
        for (int lane = 0; lane < kLanes; ++lane) peak = faults[lane] ? NAN : std::max(peak, peaks[lane]);
        const float rms = std::sqrt(sum(squares) / static_cast<float>(D) + eps);
        const float least = kSmallest * rms;
        if (peak < least) peak = least;
        step[n] = peak / (127.0f * rms);
        const float inverse = 127.0f / peak;
        along_row(x, weight, D, [&](int64_t d, Floats value, Floats scale) {
            const Bytes rounded = __builtin_convertvector(nearest(limited(value * scale * inverse)), Bytes);
            std::memcpy(values + d, &rounded, std::min<int64_t>(kLanes, D - d));
        });
    }
}

}  // namespace

#define FORWARD(name, T)                                                                                        \
    EXPORT void forward_##name(const T* x, const float* weight, float eps, int64_t N, int64_t D, int8_t* values, \
                               float* step, int threads) {                                                       \
        forward<T>(x, weight, eps, N, D, values, step, threads);                                                 \
    }

FORWARD(f32, float)
FORWARD(bf16, bfloat16)
