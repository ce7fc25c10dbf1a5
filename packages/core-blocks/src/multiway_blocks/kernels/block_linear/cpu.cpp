// y = x W^T for rows x of floats and W in blocks of 32 codes with a scale and an offset: N rows of I inputs, O outputs.
//
// x is rounded to 8 bits in blocks of 32 first, as llama.cpp rounds it, so that a block's part of a sum is one of integers.
// What a code of zero stands for, the offset, counts by the sum of the block's x. W comes in panels of 16 outputs
// (`layout.py`): a vector of codes holds four of each output, which meet the same four inputs, so that sums never have to
// be added up across a vector. The panels are cut into parts that are read side by side, because a core reads fastest
// along a few long streams; and they are dealt out to threads. No result depends on the number of threads.

#include "byte_products.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

#define UNROLL _Pragma("GCC unroll 16")

constexpr int kBlock = 32, kPanel = 16;
constexpr float kLevels = 127.0f, kSmallest = 1e-30f;
constexpr int64_t kRowBytes = 512 * 1024;  // of rows that stay in the second-level cache while the matrix is read

typedef int32_t Sums16 __attribute__((vector_size(64)));
typedef uint32_t Words16 __attribute__((vector_size(64)));
typedef float Floats16 __attribute__((vector_size(64)));
typedef uint16_t Halves16 __attribute__((vector_size(32)));

struct half {
    uint16_t bits;
};

inline Floats16 sixteen(const float* p) {
    Floats16 value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

inline Floats16 sixteen(const half* p) {
#if defined(__AVX512F__)
    return reinterpret_cast<Floats16>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#elif defined(__F16C__) && defined(__AVX2__)
    const __m256 parts[2] = {
        _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
        _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p) + 1))};
    Floats16 value;
    std::memcpy(&value, parts, sizeof value);
    return value;
#else
    Halves16 bits;
    std::memcpy(&bits, p, sizeof bits);
    const Words16 wide = __builtin_convertvector(bits, Words16);
    // An exponent of 5 bits read as one of 8 is 2^112 too small, also where the number is subnormal.
    const Floats16 scaled = reinterpret_cast<Floats16>((wide & 0x7fffu) << 13) * 0x1p112f;
    const Words16 unbounded = reinterpret_cast<Words16>((wide & 0x7c00u) == 0x7c00u) & 0x7f800000u;
    return reinterpret_cast<Floats16>(reinterpret_cast<Words16>(scaled) | unbounded | (wide & 0x8000u) << 16);
#endif
}

struct Matrix {
    const uint8_t* codes;  // [P, G, 4 or 8, 16, 4]
    const void *scale, *offset;  // [P, G, 16]
    int64_t O, I;
};

// x is about `values` times its block's `step`.
struct Rows {
    int8_t* values;  // [N, I]
    float* step;     // [N, G]
    float* sum;      // [N, G], of x as rounded
    int32_t* whole;  // [N, G], of the values
};

template <typename T>
void quantize(const T* x, int64_t blocks, const Rows& to) {
    for (int64_t g = 0; g < blocks; ++g) {
        float values[kBlock];
        uint32_t bits = 0;  // of the largest; what is not a number is larger than any
        for (int j = 0; j < kBlock; ++j) values[j] = number(x[g * kBlock + j]);
        for (int j = 0; j < kBlock; ++j) bits = std::max(bits, bit_cast<uint32_t>(values[j]) & 0x7fffffffu);
        const float peak = bit_cast<float>(bits);
        const bool finite = bits < 0x7f800000u;
        const float factor = finite && peak >= kSmallest ? kLevels / peak : 0.0f;
        int32_t sum = 0, whole[kBlock];
        if (!finite) std::fill(values, values + kBlock, 0.0f);
        for (int j = 0; j < kBlock; ++j) whole[j] = static_cast<int32_t>(std::nearbyintf(values[j] * factor));
        for (int j = 0; j < kBlock; ++j) sum += whole[j];
        for (int j = 0; j < kBlock; ++j) to.values[g * kBlock + j] = static_cast<int8_t>(whole[j]);
        to.step[g] = finite ? peak / kLevels : NAN;
        to.sum[g] = to.step[g] * static_cast<float>(sum);
        to.whole[g] = sum;
    }
}

// Sums of a block's products: sixteen outputs, N rows that are `stride` apart. `whole`: sums of the rows' values.
template <bool Packed, int N>
inline void products(
    const uint8_t* codes, const int8_t* x, int64_t stride, const int32_t* whole, int64_t blocks, Sums16 (&sums)[N]) {
    (void)whole, (void)blocks;
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
    __m512i totals[N];
    UNROLL for (int n = 0; n < N; ++n) totals[n] = _mm512_setzero_si512();
    UNROLL for (int j = 0; j < 4; ++j) {
        __m512i low = _mm512_loadu_si512(codes + 64 * j), high;
        if constexpr (Packed) {
            const __m512i mask = _mm512_set1_epi8(15);
            high = _mm512_and_si512(_mm512_srli_epi16(low, 4), mask);
            low = _mm512_and_si512(low, mask);
        } else {
            high = _mm512_loadu_si512(codes + 64 * (j + 4));
        }
        UNROLL for (int n = 0; n < N; ++n) {
            int32_t first, second;
            std::memcpy(&first, x + n * stride + 4 * j, 4);
            std::memcpy(&second, x + n * stride + 16 + 4 * j, 4);
            totals[n] = _mm512_dpbusd_epi32(totals[n], low, _mm512_set1_epi32(first));
            totals[n] = _mm512_dpbusd_epi32(totals[n], high, _mm512_set1_epi32(second));
        }
    }
    UNROLL for (int n = 0; n < N; ++n) sums[n] = reinterpret_cast<Sums16>(totals[n]);
#elif defined(__AVX2__) && !defined(__AVXVNNI__)
    const __m256i ones = _mm256_set1_epi16(1), mask = _mm256_set1_epi8(15), sign = _mm256_set1_epi8(-128);
    UNROLL for (int part = 0; part < 2; ++part) {
        const auto load = [&](int j) {
            return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 64 * j + 32 * part));
        };
        const auto inputs = [&](int n, int j) {
            int32_t four;
            std::memcpy(&four, x + n * stride + 4 * j, 4);
            return _mm256_set1_epi32(four);
        };
        __m256i totals[N];
        if constexpr (Packed) {  // eight sums of two products each, at most 8 * 2 * 15 * 127, fit int16
            UNROLL for (int n = 0; n < N; ++n) totals[n] = _mm256_setzero_si256();
            UNROLL for (int j = 0; j < 4; ++j) {
                const __m256i both = load(j), low = _mm256_and_si256(both, mask);
                const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
                UNROLL for (int n = 0; n < N; ++n) {
                    totals[n] = _mm256_add_epi16(totals[n], _mm256_maddubs_epi16(low, inputs(n, j)));
                    totals[n] = _mm256_add_epi16(totals[n], _mm256_maddubs_epi16(high, inputs(n, j + 4)));
                }
            }
            UNROLL for (int n = 0; n < N; ++n) totals[n] = _mm256_madd_epi16(totals[n], ones);
        } else {  // two products of unsigned bytes do not fit; those of a size and a signed byte, 2 * 128 * 127, do
            UNROLL for (int n = 0; n < N; ++n) totals[n] = _mm256_set1_epi32(128 * whole[n * blocks]);
            UNROLL for (int j = 0; j < 8; ++j) {
                const __m256i weight = _mm256_xor_si256(load(j), sign), size = _mm256_abs_epi8(weight);
                UNROLL for (int n = 0; n < N; ++n) {
                    const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(inputs(n, j), weight));
                    totals[n] = _mm256_add_epi32(totals[n], _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        UNROLL for (int n = 0; n < N; ++n)
            std::memcpy(reinterpret_cast<char*>(&sums[n]) + 32 * part, &totals[n], sizeof totals[n]);
    }
#else
    for (int part = 0; part < 2; ++part) {
        Sums8 totals[N] = {};
        for (int j = 0; j < 8; ++j) {
            Codes32 four;
            std::memcpy(&four, codes + 64 * (Packed ? j % 4 : j) + 32 * part, sizeof four);
            if (Packed) four = j < 4 ? four & 15 : four >> 4;
            for (int n = 0; n < N; ++n) {
                Bytes32 inputs;
                for (int k = 0; k < 8; ++k) std::memcpy(reinterpret_cast<char*>(&inputs) + 4 * k, x + n * stride + 4 * j, 4);
                totals[n] = dot32<Packed>(totals[n], four, inputs);
            }
        }
        for (int n = 0; n < N; ++n) std::memcpy(reinterpret_cast<char*>(&sums[n]) + 32 * part, &totals[n], 32);
    }
#endif
}

// Panel p of each of `Panels` parts, which are `part` panels long, for rows n to n + N.
template <bool Packed, typename Scale, int N, int Panels, typename T>
inline void tile(const Rows& rows, int64_t n, const Matrix& w, int64_t p, int64_t part, T* y) {
    constexpr int kBytes = Packed ? 256 : 512;  // of a panel's block
    const int64_t G = w.I / kBlock;
    Floats16 totals[Panels * N];
    UNROLL for (int i = 0; i < Panels * N; ++i) totals[i] = Floats16{};
    for (int64_t g = 0; g < G; ++g) {
        UNROLL for (int k = 0; k < Panels; ++k) {
            const int64_t at = (p + k * part) * G + g;
            const uint8_t* codes = w.codes + at * kBytes;
            const Scale* scale = static_cast<const Scale*>(w.scale) + at * kPanel;
            const Scale* offset = static_cast<const Scale*>(w.offset) + at * kPanel;
            UNROLL for (int line = 0; line < kBytes; line += 64) __builtin_prefetch(codes + 2048 + line, 0, 2);
            __builtin_prefetch(scale + 256, 0, 2);
            __builtin_prefetch(offset + 256, 0, 2);
            Sums16 sums[N];
            products<Packed, N>(codes, rows.values + n * w.I + g * kBlock, w.I, rows.whole + n * G + g, G, sums);
            const Floats16 scales = sixteen(scale), offsets = sixteen(offset);
            UNROLL for (int j = 0; j < N; ++j) {
                const int64_t row = (n + j) * G + g;
                totals[k * N + j] += __builtin_convertvector(sums[j], Floats16) * (scales * rows.step[row]);
                totals[k * N + j] += offsets * rows.sum[row];
            }
        }
    }
    UNROLL for (int k = 0; k < Panels; ++k) {
        UNROLL for (int j = 0; j < N; ++j) {
            const int64_t first = (p + k * part) * kPanel, count = std::min<int64_t>(kPanel, w.O - first);
            float found[kPanel];
            std::memcpy(found, &totals[k * N + j], sizeof found);
            for (int64_t o = 0; o < count; ++o) store(y + (n + j) * w.O + first + o, found[o]);
        }
    }
}

template <bool Packed, typename Scale, int Panels, typename T>
void panels(const Rows& rows, int64_t n, int64_t last, const Matrix& w, int64_t p, int64_t part, T* y) {
#if defined(__AVX512F__)
    for (; last - n >= 8; n += 8) tile<Packed, Scale, 8, Panels>(rows, n, w, p, part, y);
#endif
    for (; last - n >= 4; n += 4) tile<Packed, Scale, 4, Panels>(rows, n, w, p, part, y);
    for (; last - n >= 2; n += 2) tile<Packed, Scale, 2, Panels>(rows, n, w, p, part, y);
    for (; n < last; ++n) tile<Packed, Scale, 1, Panels>(rows, n, w, p, part, y);
}

template <bool Packed, typename Scale, typename T>
void multiply(const Rows& rows, int64_t N, const Matrix& w, T* y, int threads) {
    (void)threads;  // unused where the compiler has no OpenMP
    constexpr int kStreams = 2;
    const int64_t all = (w.O + kPanel - 1) / kPanel, part = all / kStreams;
    const int64_t at_once = std::max<int64_t>(kRowBytes / w.I / 8 * 8, 8);
    for (int64_t n = 0; n < N; n += at_once) {
        const int64_t last = std::min(N, n + at_once);
        if (last - n < 4) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
            for (int64_t p = 0; p < part; ++p) panels<Packed, Scale, kStreams>(rows, n, last, w, p, part, y);
            for (int64_t p = kStreams * part; p < all; ++p) panels<Packed, Scale, 1>(rows, n, last, w, p, 0, y);
        } else {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
            for (int64_t p = 0; p < all; ++p) panels<Packed, Scale, 1>(rows, n, last, w, p, 0, y);
        }
    }
}

// `form`: 1 where a byte holds two codes, and 2 where scales are float16.
template <typename T>
void multiply(const Rows& rows, int64_t N, const Matrix& w, int form, T* y, int threads) {
    switch (form) {
        case 0: return multiply<false, float>(rows, N, w, y, threads);
        case 1: return multiply<true, float>(rows, N, w, y, threads);
        case 2: return multiply<false, half>(rows, N, w, y, threads);
        default: return multiply<true, half>(rows, N, w, y, threads);
    }
}

template <typename T>
void linear(const T* x, int64_t N, const Matrix& w, int form, T* y, int threads) {
    const int64_t blocks = N * (w.I / kBlock);
    std::vector<int8_t> values(blocks * kBlock);
    std::vector<float> scales(2 * blocks);
    std::vector<int32_t> whole(blocks);
    const Rows rows{values.data(), scales.data(), scales.data() + blocks, whole.data()};
    quantize(x, blocks, rows);
    multiply(rows, N, w, form, y, threads);
}

}  // namespace

#define BLOCK_LINEAR(name, T)                                                                                     \
    EXPORT void linear_##name(const T* x, int64_t N, int64_t I, const uint8_t* codes, const void* scale,          \
                              const void* offset, int64_t O, int form, T* y, int threads) {                       \
        linear(x, N, Matrix{codes, scale, offset, O, I}, form, y, threads);                                       \
    }                                                                                                             \
    EXPORT void quantize_##name(const T* x, int64_t blocks, int8_t* values, float* step, float* sum, int32_t* whole) { \
        quantize(x, blocks, Rows{values, step, sum, whole});                                                      \
    }                                                                                                             \
    EXPORT void multiply_##name(int8_t* values, float* step, float* sum, int32_t* whole, int64_t N, int64_t I,     \
                                const uint8_t* codes, const void* scale, const void* offset, int64_t O, int form, \
                                T* y, int threads) {                                                              \
        multiply(Rows{values, step, sum, whole}, N, Matrix{codes, scale, offset, O, I}, form, y, threads);        \
    }

BLOCK_LINEAR(f32, float)
BLOCK_LINEAR(bf16, bfloat16)
