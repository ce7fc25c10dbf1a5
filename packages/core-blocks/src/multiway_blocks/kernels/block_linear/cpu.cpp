// y = x W^T for rows x of floats and W in blocks of 32 codes with a scale and an offset: N rows of I inputs, O outputs.
//
// x is rounded to 16 bits, as two bytes, in blocks of 32 first, so that a block's part of a sum is one of integers: with one
// byte a small model's likeliest token is now and then another, and the time goes to reading the matrix. What a code
// of zero stands for, the offset, counts by the sum of the block's x. The matrix is read from memory once for four rows.
// As in int8_linear/cpu.cpp, the outputs are cut into four parts that are read side by side, because a core reads fastest
// along a few long streams, and outputs are dealt out to threads.

#include "byte_products.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

namespace {

#define UNROLL _Pragma("GCC unroll 16")

constexpr int kBlock = 32;
constexpr float kLevels = 127 * 256 + 127;  // the most that two signed bytes hold

struct Matrix {
    const uint8_t* codes;  // [O, I], or [O, I / 2]
    const float* scale;    // [O, G]
    const float* offset;   // [O, G]
    int64_t O, I;
};

struct Rows {
    std::vector<int8_t> high, low;  // [N, I], x is 256 high + low times its block's step
    std::vector<float> step;        // [N, G]
    std::vector<float> sum;         // [N, G], of x as rounded
};

template <typename T>
Rows rounded(const T* x, int64_t N, int64_t I) {
    const int64_t G = I / kBlock;
    Rows rows{std::vector<int8_t>(N * I), std::vector<int8_t>(N * I), std::vector<float>(N * G), std::vector<float>(N * G)};
    for (int64_t g = 0; g < N * G; ++g) {
        float values[kBlock], peak = 0.0f;
        for (int j = 0; j < kBlock; ++j) {
            values[j] = number(x[g * kBlock + j]);
            const float size = std::fabs(values[j]);
            peak = size > peak || size != size ? size : peak;  // not a number stays the peak
        }
        const float factor = peak > 0.0f ? kLevels / peak : 0.0f;
        int32_t sum = 0;
        for (int j = 0; j < kBlock; ++j) {
            const float value = std::nearbyintf(values[j] * factor);
            const int32_t whole = std::fabs(value) <= kLevels ? static_cast<int32_t>(value) : 0;
            const int8_t low = static_cast<int8_t>(whole);  // keeps the last eight bits
            rows.low[g * kBlock + j] = low;
            rows.high[g * kBlock + j] = static_cast<int8_t>((whole - low) >> 8);
            sum += whole;
        }
        rows.step[g] = peak / kLevels;
        rows.sum[g] = rows.step[g] * static_cast<float>(sum);
    }
    return rows;
}

// A block's codes, of 32 bytes or of the halves of 16.
template <bool Packed>
inline Codes32 codes_of(const uint8_t* p) {
    Codes32 value;
    if constexpr (!Packed) {
        std::memcpy(&value, p, sizeof value);
        return value;
    }
#if defined(__AVX2__)
    const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m256i apart = _mm256_set_m128i(_mm_srli_epi16(both, 4), both);
    return reinterpret_cast<Codes32>(_mm256_and_si256(apart, _mm256_set1_epi8(15)));
#else
    for (int j = 0; j < 16; ++j) value[j] = p[j] & 15, value[j + 16] = p[j] >> 4;
    return value;
#endif
}

inline float total(Floats8 value) {
    float result = 0.0f;
    for (int lane = 0; lane < 8; ++lane) result += value[lane];
    return result;
}

// Output o of each of `Outputs` parts, which are `part` outputs long, for rows n to n + N.
template <bool Packed, int N, int Outputs, typename T>
inline void tile(const Rows& rows, int64_t n, const Matrix& w, int64_t o, int64_t part, T* y) {
    const int64_t G = w.I / kBlock, width = Packed ? kBlock / 2 : kBlock;
    Floats8 sums[Outputs * N];
    float offsets[Outputs * N];
    UNROLL for (int i = 0; i < Outputs * N; ++i) sums[i] = Floats8{}, offsets[i] = 0.0f;
    for (int64_t g = 0; g < G; ++g) {
        UNROLL for (int k = 0; k < Outputs; ++k) {
            const int64_t at = (o + k * part) * G + g;
            const uint8_t* place = w.codes + at * width;
            __builtin_prefetch(place + 4096, 0, 2);
            if (g % 16 == 0) {
                __builtin_prefetch(w.scale + at + 1024, 0, 2);
                __builtin_prefetch(w.offset + at + 1024, 0, 2);
            }
            const Codes32 codes = codes_of<Packed>(place);
            UNROLL for (int j = 0; j < N; ++j) {
                const int64_t row = (n + j) * G + g;
                Bytes32 high, low;
                std::memcpy(&high, rows.high.data() + row * kBlock, sizeof high);
                std::memcpy(&low, rows.low.data() + row * kBlock, sizeof low);
                const Sums8 both = dot32<Packed>(dot32<Packed>(Sums8{}, codes, high) << 8, codes, low);
                const Floats8 found = __builtin_convertvector(both, Floats8);
                sums[k * N + j] += found * (w.scale[at] * rows.step[row]);
                offsets[k * N + j] += w.offset[at] * rows.sum[row];
            }
        }
    }
    UNROLL for (int k = 0; k < Outputs; ++k) {
        UNROLL for (int j = 0; j < N; ++j)
            store(y + (n + j) * w.O + o + k * part, total(sums[k * N + j]) + offsets[k * N + j]);
    }
}

template <bool Packed, int Outputs, typename T>
void outputs(const Rows& rows, int64_t N, const Matrix& w, int64_t o, int64_t part, T* y) {
    int64_t n = 0;
    for (; N - n >= 4; n += 4) tile<Packed, 4, Outputs>(rows, n, w, o, part, y);
    for (; n < N; ++n) tile<Packed, 1, Outputs>(rows, n, w, o, part, y);
}

template <bool Packed, typename T>
void linear(const T* x, int64_t N, const Matrix& w, T* y, int threads) {
    (void)threads;  // unused where the compiler has no OpenMP
    constexpr int kStreams = 4;
    const Rows rows = rounded(x, N, w.I);
    const int64_t part = w.O / kStreams;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t o = 0; o < part; ++o) outputs<Packed, kStreams>(rows, N, w, o, part, y);
    for (int64_t o = kStreams * part; o < w.O; ++o) outputs<Packed, 1>(rows, N, w, o, 0, y);
}

template <bool Packed, typename T>
void dequantize(const Matrix& w, T* y, int threads) {
    (void)threads;
    const int64_t G = w.I / kBlock;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t at = 0; at < w.O * G; ++at) {
        const Codes32 codes = codes_of<Packed>(w.codes + at * (Packed ? kBlock / 2 : kBlock));
        for (int j = 0; j < kBlock; ++j)
            store(y + at * kBlock + j, static_cast<float>(codes[j]) * w.scale[at] + w.offset[at]);
    }
}

}  // namespace

#define BLOCK_LINEAR(name, T)                                                                                  \
    EXPORT void linear_##name(const T* x, int64_t N, int64_t I, const uint8_t* codes, const float* scale,      \
                              const float* offset, int64_t O, int packed, T* y, int threads) {                 \
        const Matrix w{codes, scale, offset, O, I};                                                            \
        packed ? linear<true>(x, N, w, y, threads) : linear<false>(x, N, w, y, threads);                       \
    }                                                                                                          \
    EXPORT void dequantize_##name(int64_t I, const uint8_t* codes, const float* scale, const float* offset,    \
                                  int64_t O, int packed, T* y, int threads) {                                  \
        const Matrix w{codes, scale, offset, O, I};                                                            \
        packed ? dequantize<true>(w, y, threads) : dequantize<false>(w, y, threads);                           \
    }

BLOCK_LINEAR(f32, float)
BLOCK_LINEAR(bf16, bfloat16)
