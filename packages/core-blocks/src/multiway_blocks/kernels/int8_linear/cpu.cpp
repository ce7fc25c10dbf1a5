// y = (x W^T) * step * scale for rows x of 16 bits, as two bytes, and a matrix of bytes: N rows of I inputs, O outputs.
//
// A code is the weight plus 128, so products are of unsigned by signed bytes, which processors have an instruction for; the
// surplus, 128 times the sum of x, is subtracted at the end. Sums of a byte of x are int32 and exact up to 65,000 inputs.
//
// The matrix is read from memory once for four rows, which is what the time goes to. As in skinny_gemm/cpu.cpp, the outputs
// are cut into as many parts as there are streams, because a core reads fastest along a few long ones; further rows find
// a piece of each part in the second-level cache. Outputs are dealt out to threads; integers add up alike in any order.

#include "byte_products.h"

#include <algorithm>
#include <type_traits>
#include <vector>

namespace {

// Without it GCC keeps arrays of vectors in memory.
#define UNROLL _Pragma("GCC unroll 32")

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
constexpr int kWidth = 64;
#elif defined(__AVX2__)
constexpr int kWidth = 32;
#else
constexpr int kWidth = 16;
#endif

typedef uint8_t Codes __attribute__((vector_size(kWidth)));
typedef int8_t Bytes __attribute__((vector_size(kWidth)));
typedef int32_t Sums __attribute__((vector_size(kWidth)));

// Adds products of bytes to lanes of int32.
inline Sums dot(Sums total, Codes w, Bytes x) {
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
    return reinterpret_cast<Sums>(_mm512_dpbusd_epi32(
        reinterpret_cast<__m512i>(total), reinterpret_cast<__m512i>(w), reinterpret_cast<__m512i>(x)));
#elif defined(__AVX2__)
    return dot32<false>(total, w, x);
#else
    for (int j = 0; j < kWidth; ++j) total[j / 4] += w[j] * x[j];
    return total;
#endif
}

template <typename Vector, typename Byte>
inline Vector load(const Byte* p) {
    Vector value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

inline int32_t total(Sums value) {
#if defined(__AVX512F__)
    if constexpr (kWidth == 64) return _mm512_reduce_add_epi32(reinterpret_cast<__m512i>(value));
#endif
    int32_t result = 0;
    for (int lane = 0; lane < kWidth / 4; ++lane) result += value[lane];
    return result;
}

struct Matrix {
    const uint8_t* codes;  // [O, I]
    const float* scale;    // [O]
    int64_t O, I;
};

template <typename T>
struct Rows {
    const int8_t* high;     // [N, I]
    const int8_t* low;      // [N, I]
    const float* step;      // [N]
    const int64_t* excess;  // [N], 128 times the sums of x
    T* y;                   // [N, O]
};

// Output o of each of `Streams` parts, which are `part` outputs long, for N rows.
template <int N, int Streams, typename T>
inline void block(const Rows<T>& rows, int64_t n, const Matrix& w, int64_t o, int64_t part) {
#if defined(__znver3__) || defined(__znver4__) || defined(__znver5__)
    constexpr int kAhead = 0;  // Zen follows four streams by itself; told of every line as well it takes a sixth longer
#else
    constexpr int kAhead = 4096;  // a page, before which the processor's own prefetching stops
#endif
    Sums high[Streams * N], low[Streams * N];
    UNROLL for (int i = 0; i < Streams * N; ++i) high[i] = low[i] = Sums{};
    const uint8_t* row = w.codes + o * w.I;
    const int64_t stride = part * w.I, whole = w.I - w.I % kWidth;
    for (int64_t i = 0; i < whole; i += kWidth) {
        UNROLL for (int k = 0; k < Streams; ++k) {
            const uint8_t* place = row + k * stride + i;
            if (kAhead) __builtin_prefetch(place + kAhead, 0, 2);
            const Codes codes = load<Codes>(place);
            UNROLL for (int j = 0; j < N; ++j) {
                high[k * N + j] = dot(high[k * N + j], codes, load<Bytes>(rows.high + (n + j) * w.I + i));
                low[k * N + j] = dot(low[k * N + j], codes, load<Bytes>(rows.low + (n + j) * w.I + i));
            }
        }
    }
    UNROLL for (int k = 0; k < Streams; ++k) {
        UNROLL for (int j = 0; j < N; ++j) {
            int64_t sum = 256 * static_cast<int64_t>(total(high[k * N + j])) + total(low[k * N + j]);
            for (int64_t i = whole; i < w.I; ++i) {
                const int64_t at = (n + j) * w.I + i;
                sum += static_cast<int64_t>(row[k * stride + i]) * (256 * rows.high[at] + rows.low[at]);
            }
            const int64_t output = o + k * part;
            const float value = static_cast<float>(sum - rows.excess[n + j]);
            store(rows.y + (n + j) * w.O + output, value * (rows.step[n + j] * w.scale[output]));
        }
    }
}

template <int Streams, typename T>
void piece(int64_t N, const Rows<T>& rows, const Matrix& w, int64_t first, int64_t last, int64_t part) {
    int64_t n = 0;
    const auto each = [&](auto count) {
        for (int64_t o = first; o < last; ++o) block<decltype(count)::value, Streams>(rows, n, w, o, part);
        n += decltype(count)::value;
    };
    while (N - n >= 3) each(std::integral_constant<int, 3>());  // 24 sums, as many as there are registers for
    if (N - n == 2) each(std::integral_constant<int, 2>());
    if (N - n == 1) each(std::integral_constant<int, 1>());
}

template <typename T>
void linear(
    const int8_t* high, const int8_t* low, const float* step, int64_t N, const Matrix& w, T* y, int threads) {
    (void)threads;  // unused where the compiler has no OpenMP
    if (N == 0) return;
    constexpr int kStreams = 4;
    constexpr int64_t kPiece = 16;  // outputs of a part that a thread takes at a time
    std::vector<int64_t> excess(static_cast<size_t>(N));
    for (int64_t n = 0; n < N; ++n) {
        int64_t sum = 0;
        for (int64_t i = n * w.I; i < (n + 1) * w.I; ++i) sum += 256 * high[i] + low[i];
        excess[n] = 128 * sum;
    }
    const Rows<T> rows{high, low, step, excess.data(), y};
    const int64_t part = w.O / kStreams;
    const int64_t pieces = (part + kPiece - 1) / kPiece;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t p = 0; p < pieces; ++p)
        piece<kStreams>(N, rows, w, p * kPiece, std::min(part, (p + 1) * kPiece), part);
    piece<1>(N, rows, w, kStreams * part, w.O, 0);  // the outputs that are left over
}

}  // namespace

#define LINEAR(name, T)                                                                                        \
    EXPORT void linear_##name(const int8_t* high, const int8_t* low, const float* step, int64_t N, int64_t I,  \
                              const uint8_t* codes, const float* scale, int64_t O, T* y, int threads) {         \
        linear<T>(high, low, step, N, Matrix{codes, scale, O, I}, y, threads);                                 \
    }

LINEAR(f32, float)
LINEAR(bf16, bfloat16)
