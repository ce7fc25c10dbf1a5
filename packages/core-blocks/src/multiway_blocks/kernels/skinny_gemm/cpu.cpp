// y = x W^T + b for a few rows x (N rows of I features) and a large W (O rows of I): a decoding step on a CPU.
//
// The matrix is read from memory once, whatever N is, and that is what the step costs. A core reads fastest along a few
// long streams: neighbouring rows taken together are too short for its prefetchers, and a single stream stops at the end
// of every page. So the outputs are cut into as many parts as there are streams, and a row of each part is taken at a
// time. Outputs are dealt out to threads; every output is one sum in one fixed order, so results do not depend on the
// number of threads, nor on the other rows of x.

#include "vectors.h"

#include <type_traits>
#include <vector>

namespace {

constexpr int kRows = 8;  // of x that share one pass over a piece of W: as many accumulators as there are registers for

// Row o of each of `Streams` parts, which are `part` rows of W long, for N rows of x.
template <typename T, int N, int Streams>
inline void block(
    const Value<T>* x, int64_t I, const T* weight, int64_t O, int64_t o, int64_t part, const T* bias, T* y) {
    using P = Product<T>;
    constexpr int kAhead = 4096 / sizeof(T);  // a page, before which the processor's own prefetching stops
    Floats totals[Streams * N] = {};
    const int64_t whole = I - I % P::kStep;
    const T* row = weight + o * I;
    for (int64_t i = 0; i < whole; i += P::kStep) {
        decltype(P::load_other(x)) rows[N];
        for (int n = 0; n < N; ++n) rows[n] = P::load_other(x + n * I + i);
        for (int k = 0; k < Streams; ++k) {
            const T* place = row + k * part * I + i;
            __builtin_prefetch(place + kAhead, 0, 2);  // not into the first-level cache, which x needs
            const auto w = P::load(place);
            for (int n = 0; n < N; ++n) totals[k * N + n] = P::add(totals[k * N + n], w, rows[n]);
        }
    }
    float results[Streams * N];
    if constexpr (Streams * N == 16) {
        sums(totals, results);
    } else {
        for (int i = 0; i < Streams * N; ++i) results[i] = sum(totals[i]);
    }
    for (int k = 0; k < Streams; ++k) {
        const int64_t output = o + k * part;
        for (int n = 0; n < N; ++n) {
            float total = results[k * N + n];
            for (int64_t i = whole; i < I; ++i) total += number(weight[output * I + i]) * number(x[n * I + i]);
            if (bias != nullptr) total += number(bias[output]);
            store(y + n * O + output, total);
        }
    }
}

// Rows first .. last - 1 of each part, for N rows of x.
template <typename T, int Streams>
void rows(
    int64_t N, const Value<T>* x, int64_t I, const T* w, int64_t O, int64_t first, int64_t last, int64_t part,
    const T* bias, T* y) {
    const auto each = [&](auto count) {
        for (int64_t o = first; o < last; ++o) block<T, decltype(count)::value, Streams>(x, I, w, O, o, part, bias, y);
    };
    switch (N) {
        case 1: return each(std::integral_constant<int, 1>());
        case 2: return each(std::integral_constant<int, 2>());
        case 3: return each(std::integral_constant<int, 3>());
        case 4: return each(std::integral_constant<int, 4>());
        case 5: return each(std::integral_constant<int, 5>());
        case 6: return each(std::integral_constant<int, 6>());
        case 7: return each(std::integral_constant<int, 7>());
        default: return each(std::integral_constant<int, 8>());
    }
}

template <typename T, int Streams>
void linear(const Value<T>* x, int64_t N, int64_t I, const T* weight, int64_t O, const T* bias, T* y, int threads) {
    constexpr int64_t kPiece = 8;  // rows of each part that stay in the cache from one group of rows of x to the next
    const int64_t part = O / Streams;
    const int64_t pieces = (part + kPiece - 1) / kPiece;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t piece = 0; piece < pieces; ++piece) {
        const int64_t first = piece * kPiece;
        const int64_t last = first + kPiece < part ? first + kPiece : part;
        for (int64_t n = 0; n < N; n += kRows) {
            const int64_t count = N - n < kRows ? N - n : kRows;
            rows<T, Streams>(count, x + n * I, I, weight, O, first, last, part, bias, y + n * O);
        }
    }
    for (int64_t n = 0; n < N; n += kRows) {  // the outputs that are left over
        const int64_t count = N - n < kRows ? N - n : kRows;
        rows<T, 1>(count, x + n * I, I, weight, O, Streams * part, O, 0, bias, y + n * O);
    }
}

// As many streams as there are registers for; two are enough for many rows while these stay in the first-level cache.
template <typename T>
void linear(const Value<T>* x, int64_t N, int64_t I, const T* weight, int64_t O, const T* bias, T* y, int threads) {
    if (N <= 4) return linear<T, 4>(x, N, I, weight, O, bias, y, threads);
    const bool fits = (N < kRows ? N : kRows) * I * static_cast<int64_t>(sizeof(Value<T>)) <= 32768;
    if (!fits) return linear<T, 3>(x, N, I, weight, O, bias, y, threads);
    return linear<T, 2>(x, N, I, weight, O, bias, y, threads);
}

}  // namespace

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
