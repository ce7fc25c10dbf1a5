// y = (x W^T) * step * scale for int8 rows x and a ternary W of two bits a weight: N rows of I features, O outputs.
//
// A code is the weight plus one (0, 1, 2), so products are of unsigned by signed bytes, which processors have an
// instruction for; the surplus, the sum of x, is subtracted at the end. All sums are int32 and exact.
//
// Few rows: the packed matrix is read from memory once, which is what the time goes to. As in skinny_gemm/cpu.cpp, the
// outputs are cut into as many parts as there are streams, because a core reads fastest along a few long ones.
// More rows: a panel of outputs is unpacked into the first-level cache and used for all rows, by blocks of outputs x
// rows that fill the registers. Outputs are dealt out to threads; integers add up alike in any order.

#include "vectors.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#if defined(__SSE2__) && !defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

// Without it GCC keeps arrays of vectors in memory.
#define UNROLL _Pragma("GCC unroll 32")

constexpr int kBlock = 64;  // bytes that hold 256 weights: bits 2q, 2q + 1 of byte j are weight 64 q + j

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
constexpr int kWidth = 64;
#elif defined(__AVX2__)
constexpr int kWidth = 32;
#else
constexpr int kWidth = 16;
#endif

typedef uint8_t Codes __attribute__((vector_size(kWidth)));
typedef int8_t Bytes __attribute__((vector_size(kWidth)));
typedef uint16_t Pairs __attribute__((vector_size(kWidth)));

// `dot` adds products of bytes to lanes of int32; `kOutputs` x `kRows` sums are what the registers hold.
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
constexpr int kOutputs = 8, kRows = 3;
typedef int32_t Sums __attribute__((vector_size(kWidth)));

inline Sums dot(Sums total, Codes w, Bytes x) {
    return reinterpret_cast<Sums>(_mm512_dpbusd_epi32(
        reinterpret_cast<__m512i>(total), reinterpret_cast<__m512i>(w), reinterpret_cast<__m512i>(x)));
}
#elif defined(__AVX2__)
constexpr int kOutputs = 4, kRows = 2;
typedef int32_t Sums __attribute__((vector_size(kWidth)));

inline Sums dot(Sums total, Codes w, Bytes x) {
#if defined(__AVXVNNI__)
    return reinterpret_cast<Sums>(_mm256_dpbusd_avx_epi32(
        reinterpret_cast<__m256i>(total), reinterpret_cast<__m256i>(w), reinterpret_cast<__m256i>(x)));
#else
    // Pairs of products in int16: at most 2 * 2 * 128, far from its end.
    const __m256i pairs = _mm256_maddubs_epi16(reinterpret_cast<__m256i>(w), reinterpret_cast<__m256i>(x));
    return total + reinterpret_cast<Sums>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}
#else
constexpr int kOutputs = 4, kRows = 2;
typedef int32_t Sums __attribute__((vector_size(kWidth)));

inline Sums dot(Sums total, Codes w, Bytes x) {
#if defined(__SSE2__)
    const __m128i codes = reinterpret_cast<__m128i>(w), bytes = reinterpret_cast<__m128i>(x);
    const __m128i zero = _mm_setzero_si128(), sign = _mm_cmpgt_epi8(zero, bytes);
    const __m128i low = _mm_madd_epi16(_mm_unpacklo_epi8(codes, zero), _mm_unpacklo_epi8(bytes, sign));
    const __m128i high = _mm_madd_epi16(_mm_unpackhi_epi8(codes, zero), _mm_unpackhi_epi8(bytes, sign));
    return total + reinterpret_cast<Sums>(_mm_add_epi32(low, high));
#else
    for (int j = 0; j < kWidth; ++j) total[j / 4] += w[j] * x[j];
    return total;
#endif
}
#endif

template <typename Vector, typename Byte>
inline Vector load(const Byte* p) {
    Vector value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

inline Codes plane(Codes packed, int q) {
    return reinterpret_cast<Codes>(reinterpret_cast<Pairs>(packed) >> (2 * q)) & 3;
}

inline int32_t total(Sums value) {
#if defined(__AVX512F__)
    if constexpr (kWidth == 64) return _mm512_reduce_add_epi32(reinterpret_cast<__m512i>(value));
#endif
    int32_t result = 0;
    for (int lane = 0; lane < kWidth / 4; ++lane) result += value[lane];
    return result;
}

// The totals of kOutputs vectors.
inline void totals(const Sums* v, int32_t* results) {
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
    __m512i halves[4], quarters[2];
    for (int i = 0; i < 4; ++i) {
        const __m512i a = reinterpret_cast<__m512i>(v[2 * i]), b = reinterpret_cast<__m512i>(v[2 * i + 1]);
        halves[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    }
    for (int i = 0; i < 2; ++i) {
        const __m512i a = halves[2 * i], b = halves[2 * i + 1];
        quarters[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    }
    const __m512i low = _mm512_shuffle_i32x4(quarters[0], quarters[1], 0x44);
    const __m512i high = _mm512_shuffle_i32x4(quarters[0], quarters[1], 0xee);
    const __m512i pairs = _mm512_add_epi32(low, high);
    const __m512i all = _mm512_add_epi32(pairs, _mm512_shuffle_i32x4(pairs, pairs, 0xb1));
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(results), _mm512_castsi512_si256(_mm512_shuffle_i32x4(all, all, 0x88)));
#else
    for (int i = 0; i < kOutputs; ++i) results[i] = total(v[i]);
#endif
}

constexpr int64_t kGroupBytes = 3 << 18;  // of x: three quarters of a second-level cache of 1 MB

struct Matrix {
    const uint8_t* packed;  // [O, I / 4]
    const float* scale;     // [O]
    int64_t O, I;           // I is a multiple of 256

    const uint8_t* row(int64_t o) const { return packed + o * (I / 4); }
};

typedef int32_t Group __attribute__((vector_size(4 * kOutputs)));
typedef float Scales __attribute__((vector_size(4 * kOutputs)));

template <typename T>
struct Rows {
    const int8_t* x;        // [N, I]
    const float* step;      // [N]
    const int32_t* excess;  // [N], sums of x
    T* y;                   // [N, O]

    void put(int64_t n, int64_t o, int32_t sum, const Matrix& w) const {
        store(y + n * w.O + o, static_cast<float>(sum - excess[n]) * (step[n] * w.scale[o]));
    }

    // kOutputs neighbouring outputs.
    void put(int64_t n, int64_t o, const int32_t* sums, const Matrix& w) const {
        const auto value = __builtin_convertvector(load<Group>(sums) - excess[n], Scales);
        narrow(y + n * w.O + o, value * (load<Scales>(w.scale + o) * step[n]));
    }

    static void narrow(float* p, Scales value) { std::memcpy(p, &value, sizeof value); }

    // As `store`.
    static void narrow(bfloat16* p, Scales value) {
        typedef uint32_t Bits __attribute__((vector_size(4 * kOutputs)));
        typedef uint16_t Halves __attribute__((vector_size(2 * kOutputs)));
        const Bits bits = bit_cast<Bits>(value);
        const Bits is_nan = bit_cast<Bits>((bits & 0x7fffffffu) > 0x7f800000u);
        const Bits rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
        const Halves halves =
            __builtin_convertvector(((rounded & ~is_nan) | ((bits | 0x400000u) & is_nan)) >> 16, Halves);
        std::memcpy(p, &halves, sizeof halves);
    }
};

constexpr int kPiece = 16;  // outputs of a part that a thread takes at a time

// Sums of output o of each of `Streams` parts, which are `part` outputs long, for N rows: the sum of row n and part k
// goes to sums[(n * Streams + k) * kPiece].
template <int N, int Streams, typename T>
inline void few(const Rows<T>& rows, const Matrix& w, int64_t o, int64_t part, int32_t* sums) {
    constexpr int kAhead = 4096;  // a page, before which the processor's own prefetching stops
    Sums partial[N * Streams];
    UNROLL for (int i = 0; i < N * Streams; ++i) partial[i] = Sums{};
    const uint8_t* row = w.row(o);
    const int64_t stride = part * (w.I / 4);
    for (int64_t block = 0; block < w.I / 4; block += kBlock) {
        for (int half = 0; half < kBlock; half += kWidth) {
            UNROLL for (int k = 0; k < Streams; ++k) {
                const uint8_t* place = row + k * stride + block + half;
                if (half == 0) __builtin_prefetch(place + kAhead, 0, 2);
                const Codes packed = load<Codes>(place);
                UNROLL for (int q = 0; q < 4; ++q) {
                    const Codes codes = plane(packed, q);
                    UNROLL for (int n = 0; n < N; ++n) {
                        const int8_t* x = rows.x + n * w.I + 4 * block + kBlock * q + half;
                        partial[n * Streams + k] = dot(partial[n * Streams + k], codes, load<Bytes>(x));
                    }
                }
            }
        }
    }
    UNROLL for (int n = 0; n < N; ++n) {
        int32_t found[Streams];
        if constexpr (Streams == kOutputs) {
            totals(partial + n * Streams, found);
        } else {
            for (int k = 0; k < Streams; ++k) found[k] = total(partial[n * Streams + k]);
        }
        for (int k = 0; k < Streams; ++k) sums[(n * Streams + k) * kPiece] = found[k];
    }
}

// At most kPiece outputs, from `first`, of each part.
template <int N, int Streams, typename T>
void piece(const Rows<T>& rows, const Matrix& w, int64_t first, int64_t last, int64_t part) {
    int32_t sums[N * Streams * kPiece];
    for (int64_t o = first; o < last; ++o) few<N, Streams>(rows, w, o, part, sums + (o - first));
    for (int n = 0; n < N; ++n) {
        for (int k = 0; k < Streams; ++k) {
            const int32_t* found = sums + (n * Streams + k) * kPiece;
            int64_t o = first;
            for (; o + kOutputs <= last; o += kOutputs) rows.put(n, o + k * part, found + (o - first), w);
            for (; o < last; ++o) rows.put(n, o + k * part, found[o - first], w);
        }
    }
}

// All outputs for N rows; the sums of all streams stay in registers.
template <int N, int Streams, typename T>
void all(const Rows<T>& rows, const Matrix& w, int threads) {
    (void)threads;  // unused where the compiler has no OpenMP
    const int64_t part = w.O / Streams;
    const int64_t pieces = (part + kPiece - 1) / kPiece;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t p = 0; p < pieces; ++p)
        piece<N, Streams>(rows, w, p * kPiece, std::min(part, (p + 1) * kPiece), part);
    for (int64_t o = Streams * part; o < w.O; ++o) piece<N, 1>(rows, w, o, o + 1, 0);  // those that are left over
}

// N rows x kOutputs outputs over `depth` unpacked codes, added to sums[n * kOutputs + k].
template <int N>
inline void tile(const int8_t* x, int64_t stride, const uint8_t* panel, int64_t depth, int32_t* sums) {
    Sums partial[N * kOutputs];
    UNROLL for (int i = 0; i < N * kOutputs; ++i) partial[i] = Sums{};
    for (int64_t i = 0; i < depth; i += kWidth) {
        Bytes rows[N];
        UNROLL for (int n = 0; n < N; ++n) rows[n] = load<Bytes>(x + n * stride + i);
        UNROLL for (int k = 0; k < kOutputs; ++k) {
            const Codes codes = load<Codes>(panel + k * depth + i);
            UNROLL for (int n = 0; n < N; ++n)
                partial[n * kOutputs + k] = dot(partial[n * kOutputs + k], codes, rows[n]);
        }
    }
    UNROLL for (int n = 0; n < N; ++n) {
        int32_t found[kOutputs];
        totals(partial + n * kOutputs, found);
        for (int k = 0; k < kOutputs; ++k) sums[n * kOutputs + k] += found[k];
    }
}

// What will be unpacked next, `ahead` bytes behind, is fetched meanwhile.
inline void unpack(const uint8_t* packed, int64_t bytes, uint8_t* codes, int64_t ahead) {
    for (int64_t block = 0; block < bytes; block += kBlock) {
        __builtin_prefetch(packed + block + ahead, 0, 2);
        for (int half = 0; half < kBlock; half += kWidth) {
            const Codes value = load<Codes>(packed + block + half);
            for (int q = 0; q < 4; ++q) {
                const Codes one = plane(value, q);
                std::memcpy(codes + 4 * block + kBlock * q + half, &one, sizeof one);
            }
        }
    }
}

template <typename T>
void many(int64_t N, const Rows<T>& rows, const Matrix& w, int64_t first, int64_t last) {
    // Features at a time, as even as can be: a panel and its rows of x fit the first-level cache.
    const int64_t blocks = w.I / 256, pieces = (blocks + 9) / 10;
    const int64_t most = 256 * ((blocks + pieces - 1) / pieces);
    // Rows at a time, as even as can be: they stay in the second-level cache from one panel to the next.
    const int64_t groups = (N * w.I + kGroupBytes - 1) / kGroupBytes;
    const int64_t group = std::max<int64_t>(8 * kRows, ((N + groups - 1) / groups + kRows - 1) / kRows * kRows);
    std::vector<uint8_t> memory(kOutputs * most + 64);
    uint8_t* panel = memory.data() + (-reinterpret_cast<uintptr_t>(memory.data()) & 63);  // no load in two lines
    std::vector<int32_t> sums(group * kOutputs);
    for (int64_t start = 0; start < N; start += group) {
        const int64_t count = std::min(group, N - start);
        for (int64_t o = first; o < last; o += kOutputs) {
            const int64_t outputs = std::min<int64_t>(kOutputs, last - o);
            std::fill(sums.begin(), sums.end(), 0);
            for (int64_t i = 0; i < w.I; i += most) {
                const int64_t depth = std::min(most, w.I - i);
                for (int64_t k = 0; k < outputs; ++k) 
                    unpack(w.row(o + k) + i / 4, depth / 4, panel + k * depth, kOutputs * w.I / 4);
                const int8_t* x = rows.x + start * w.I + i;
                int64_t n = 0;
                for (; n + kRows <= count; n += kRows) {
                    for (int row = 0; row < kRows; ++row) __builtin_prefetch(rows.y + (start + n + row) * w.O + o, 1);
                    tile<kRows>(x + n * w.I, w.I, panel, depth, &sums[n * kOutputs]);
                }
                if (kRows > 2 && n + 2 <= count) {
                    tile<2>(x + n * w.I, w.I, panel, depth, &sums[n * kOutputs]);
                    n += 2;
                }
                if (n < count) tile<1>(x + n * w.I, w.I, panel, depth, &sums[n * kOutputs]);
            }
            for (int64_t n = 0; n < count; ++n) {
                const int32_t* found = &sums[n * kOutputs];
                if (outputs == kOutputs) {
                    rows.put(start + n, o, found, w);
                } else {
                    for (int64_t k = 0; k < outputs; ++k) rows.put(start + n, o + k, found[k], w);
                }
            }
        }
    }
}

template <typename T>
void linear(const int8_t* x, const float* step, int64_t N, const Matrix& w, T* y, int threads) {
    (void)threads;  // unused where the compiler has no OpenMP
    if (N == 0) return;
    std::vector<int32_t> excess(static_cast<size_t>(N));
    for (int64_t n = 0; n < N; ++n) {
        Sums sum = {};
        for (int64_t i = 0; i < w.I; i += kWidth) sum = dot(sum, Codes{} + 1, load<Bytes>(x + n * w.I + i));
        excess[n] = total(sum);
    }
    const Rows<T> rows{x, step, excess.data(), y};
    switch (N) {
        case 1: return all<1, kOutputs>(rows, w, threads);
        case 2: return all<2, kOutputs>(rows, w, threads);
        case 3: return all<3, kOutputs>(rows, w, threads);
        case 4: return all<4, kOutputs / 2>(rows, w, threads);
    }
    constexpr int64_t kPanel = 8 * kPiece;
    const int64_t panels = (w.O + kPanel - 1) / kPanel;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t p = 0; p < panels; ++p) many(N, rows, w, p * kPanel, std::min(w.O, (p + 1) * kPanel));
}

}  // namespace

#define LINEAR(name, T)                                                                                       \
    EXPORT void linear_##name(const int8_t* x, const float* step, int64_t N, int64_t I, const uint8_t* packed, \
                              const float* scale, int64_t O, T* y, int threads) {                              \
        linear<T>(x, step, N, Matrix{packed, scale, O, I}, y, threads);                                        \
    }

LINEAR(f32, float)
LINEAR(bf16, bfloat16)
