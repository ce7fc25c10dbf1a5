// Passes along rows of any length: whole vectors, four accumulators, and an end that fills only a part of a vector.

#pragma once

#include "vectors.h"

namespace {

inline void narrow(float* p, Floats value) { std::memcpy(p, &value, sizeof value); }

// Round to nearest, ties to even.
inline void narrow(bfloat16* p, Floats value) {
#if defined(__AVX512BF16__)
    const Halves half = bit_cast<Halves>(_mm512_cvtneps_pbh(bit_cast<__m512>(value)));
#else
    const Words wide = bit_cast<Words>(value);
    const Words rounded = wide + 0x7fffu + ((wide >> 16) & 1u);
    // A NaN must not be rounded up into a number, so it gets its quiet bit instead.
    const Words is_nan = bit_cast<Words>((wide & 0x7fffffffu) > 0x7f800000u);
    const Words bits = ((rounded & ~is_nan) | ((wide | 0x400000u) & is_nan)) >> 16;
    const Halves half = __builtin_convertvector(bits, Halves);
#endif
    std::memcpy(p, &half, sizeof half);
}

// Access to a whole vector, and to the end of a row that fills only a part of one (the rest reads as 0).
struct Whole {
    template <typename T>
    Floats load(const T* p) const {
        return widen(p);
    }
    template <typename T>
    void store(T* p, Floats value) const {
        narrow(p, value);
    }
};

struct Part {
    int64_t count;

    template <typename T>
    Floats load(const T* p) const {
        T padded[kLanes] = {};
        std::memcpy(padded, p, count * sizeof(T));
        return widen(padded);
    }
    template <typename T>
    void store(T* p, Floats value) const {
        T padded[kLanes];
        narrow(padded, value);
        std::memcpy(p, padded, count * sizeof(T));
    }
};

// Calls body(offset, accumulator, access) along a row. Four accumulators hide the latency of additions.
template <typename Body>
inline void along_row(int64_t D, Body body) {
    int64_t d = 0;
    for (; d + 4 * kLanes <= D; d += 4 * kLanes) {
        body(d, 0, Whole{});
        body(d + kLanes, 1, Whole{});
        body(d + 2 * kLanes, 2, Whole{});
        body(d + 3 * kLanes, 3, Whole{});
    }
    for (; d + kLanes <= D; d += kLanes) body(d, 0, Whole{});
    if (d < D) body(d, 0, Part{D - d});
}

inline float sum(const Floats (&accumulators)[4]) {
    const Floats total = (accumulators[0] + accumulators[1]) + (accumulators[2] + accumulators[3]);
    float lanes[kLanes];
    std::memcpy(lanes, &total, sizeof lanes);
    for (int width = kLanes / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    return lanes[0];
}

}  // namespace
