// y = x W^T + b for a few rows x (N rows of I features) and a large W (O rows of I): a decoding step on a CPU.
//
// The matrix is read from memory once, in order, whatever N is, and that is what the step costs. Outputs are dealt out
// to threads; every output is one sum in one fixed order, so results do not depend on the number of threads, nor on
// the other rows of x.
//
// Written with the vector extensions of GCC and Clang, as wide as the machine that it is built on.

#include <cstdint>
#include <cstring>
#include <vector>

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
constexpr int kRows = 8;  // of x that share one pass over a piece of W: as many accumulators as there are registers for

typedef float Floats __attribute__((vector_size(kBytes)));
typedef uint32_t Words __attribute__((vector_size(kBytes)));
typedef uint16_t Halves __attribute__((vector_size(kBytes / 2)));

struct bfloat16 {
    uint16_t bits;
};

inline Floats widen(const float* p) {
    Floats value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

inline Floats widen(const bfloat16* p) {
    Halves bits;
    std::memcpy(&bits, p, sizeof bits);
    const Words words = __builtin_convertvector(bits, Words) << 16;
    Floats value;
    std::memcpy(&value, &words, sizeof value);
    return value;
}

inline float number(float value) { return value; }

inline float number(bfloat16 value) {
    const uint32_t word = static_cast<uint32_t>(value.bits) << 16;
    float result;
    std::memcpy(&result, &word, sizeof result);
    return result;
}

inline void store(float* p, float value) { *p = value; }

// Round to nearest, ties to even.
inline void store(bfloat16* p, float value) {
    uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    if ((word & 0x7fffffffu) > 0x7f800000u) {
        p->bits = static_cast<uint16_t>((word >> 16) | 0x40);  // stays not a number
        return;
    }
    p->bits = static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
}

// How a piece of a row of W meets the same piece of x: `Value` is what x is kept as, `kStep` the piece's length.
template <typename T>
struct Product {
    using Value = float;
    static constexpr int kStep = kLanes;
    static inline Floats load(const T* p) { return widen(p); }
    static inline Floats load_x(const float* p) { return widen(p); }
    static inline Floats add(Floats total, Floats w, Floats x) { return total + w * x; }
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
    static inline __m512bh load_x(const bfloat16* p) { return load(p); }
    static inline Floats add(Floats total, __m512bh w, __m512bh x) {
        return reinterpret_cast<Floats>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(total), w, x));
    }
};
#endif

template <typename T>
using Value = typename Product<T>::Value;

inline float sum(Floats value) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps(reinterpret_cast<__m512>(value));
#else
    float total = 0.0f;
    for (int lane = 0; lane < kLanes; ++lane) total += value[lane];
    return total;
#endif
}

// Outputs o .. o + Outputs - 1 of N rows.
template <typename T, int N, int Outputs>
inline void block(const Value<T>* x, int64_t I, const T* weight, int64_t O, int64_t o, const T* bias, T* y) {
    using P = Product<T>;
    Floats totals[Outputs][N] = {};
    const int64_t whole = I - I % P::kStep;
    for (int64_t i = 0; i < whole; i += P::kStep) {
        decltype(P::load_x(x)) rows[N];
        for (int n = 0; n < N; ++n) rows[n] = P::load_x(x + n * I + i);
        for (int k = 0; k < Outputs; ++k) {
            const T* place = weight + (o + k) * I + i;
            __builtin_prefetch(place + 4 * I);  // rows are too short for the processor to foresee the next ones
            const auto w = P::load(place);
            for (int n = 0; n < N; ++n) totals[k][n] = P::add(totals[k][n], w, rows[n]);
        }
    }
    for (int k = 0; k < Outputs; ++k) {
        for (int n = 0; n < N; ++n) {
            float total = sum(totals[k][n]);
            for (int64_t i = whole; i < I; ++i) total += number(weight[(o + k) * I + i]) * number(x[n * I + i]);
            if (bias != nullptr) total += number(bias[o + k]);
            store(y + n * O + o + k, total);
        }
    }
}

template <typename T, int N>
void rows(const Value<T>* x, int64_t I, const T* w, int64_t O, int64_t first, int64_t last, const T* bias, T* y) {
    constexpr int kOutputs = N <= 4 ? 4 : 2;
    int64_t o = first;
    for (; o + kOutputs <= last; o += kOutputs) block<T, N, kOutputs>(x, I, w, O, o, bias, y);
    for (; o < last; ++o) block<T, N, 1>(x, I, w, O, o, bias, y);
}

template <typename T>
void some(int64_t N, const Value<T>* x, int64_t I, const T* w, int64_t O, int64_t a, int64_t b, const T* bias, T* y) {
    switch (N) {
        case 1: return rows<T, 1>(x, I, w, O, a, b, bias, y);
        case 2: return rows<T, 2>(x, I, w, O, a, b, bias, y);
        case 3: return rows<T, 3>(x, I, w, O, a, b, bias, y);
        case 4: return rows<T, 4>(x, I, w, O, a, b, bias, y);
        case 5: return rows<T, 5>(x, I, w, O, a, b, bias, y);
        case 6: return rows<T, 6>(x, I, w, O, a, b, bias, y);
        case 7: return rows<T, 7>(x, I, w, O, a, b, bias, y);
        default: return rows<T, 8>(x, I, w, O, a, b, bias, y);
    }
}

template <typename T>
void linear(const Value<T>* x, int64_t N, int64_t I, const T* weight, int64_t O, const T* bias, T* y, int threads) {
    constexpr int64_t kPiece = 32;  // outputs whose part of W stays in the cache from one group of rows to the next
    const int64_t pieces = (O + kPiece - 1) / kPiece;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t piece = 0; piece < pieces; ++piece) {
        const int64_t first = piece * kPiece;
        const int64_t last = first + kPiece < O ? first + kPiece : O;
        for (int64_t n = 0; n < N; n += kRows) {
            const int64_t count = N - n < kRows ? N - n : kRows;
            some<T>(count, x + n * I, I, weight, O, first, last, bias, y + n * O);
        }
    }
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void linear_f32(
    const float* x, int64_t N, int64_t I, const float* weight, int64_t O, const float* bias, float* y, int threads) {
    linear<float>(x, N, I, weight, O, bias, y, threads);
}

EXPORT void linear_bf16(
    const bfloat16* x, int64_t N, int64_t I, const bfloat16* weight, int64_t O, const bfloat16* bias, bfloat16* y,
    int threads) {
#if defined(__AVX512BF16__)
    linear<bfloat16>(x, N, I, weight, O, bias, y, threads);
#else
    std::vector<float> wide(static_cast<size_t>(N * I));
    for (int64_t i = 0; i < N * I; ++i) wide[i] = number(x[i]);
    linear<bfloat16>(wide.data(), N, I, weight, O, bias, y, threads);
#endif
}
