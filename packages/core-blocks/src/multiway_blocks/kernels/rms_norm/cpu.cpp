// RMSNorm forward and backward for CPUs: one pass over memory each, N rows of D features.
//
// A row is read from memory once; the second loop over it finds it in the first-level cache. Rows are dealt out in
// blocks whose number does not depend on the number of threads, and the weight gradient is added up block by block,
// so results are the same bits for any number of threads.
//
// Written with the vector extensions of GCC and Clang, as wide as the machine that it is built on.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512BF16__)
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

// x [N, D] (+ residual [N, D], or null and then S = X) -> total [N, D] (only with a residual), y [N, D],
// inverse_rms [N].
template <typename X, typename R, typename S>
void forward(const void* x_, const void* residual_, const float* weight, float eps, int64_t N, int64_t D,
             void* total_, void* y_, float* inverse_rms, int threads) {
    (void)threads;  // unused where the compiler has no OpenMP
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t n = 0; n < N; ++n) {
        const X* x = static_cast<const X*>(x_) + n * D;
        X* y = static_cast<X*>(y_) + n * D;
        const S* source = static_cast<const S*>(x_) + n * D;
        Floats squares[4] = {};
        if (residual_ != nullptr) {
            const R* residual = static_cast<const R*>(residual_) + n * D;
            S* total = static_cast<S*>(total_) + n * D;
            source = total;
            along_row(D, [&](int64_t d, int k, auto access) {
                access.store(total + d, access.load(x + d) + access.load(residual + d));
                const Floats value = access.load(total + d);  // as rounded
                squares[k] += value * value;
            });
        } else {
            along_row(D, [&](int64_t d, int k, auto access) {
                const Floats value = access.load(source + d);
                squares[k] += value * value;
            });
        }
        const float inverse = 1.0f / std::sqrt(sum(squares) / static_cast<float>(D) + eps);
        inverse_rms[n] = inverse;
        along_row(D, [&](int64_t d, int, auto access) {
            access.store(y + d, access.load(source + d) * inverse * access.load(weight + d));
        });
    }
}

// The derivation is in reference.py. grad_total [N, D] may be null. grad_weight_blocks is [blocks, D] of zeros.
template <typename Y, typename S>
void backward(const void* grad_y_, const void* x_, const float* weight, const float* inverse_rms,
              const void* grad_total_, int64_t N, int64_t D, void* grad_x_, float* grad_weight_blocks, int64_t blocks,
              int threads) {
    (void)threads;
    const int64_t rows = (N + blocks - 1) / blocks;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t block = 0; block < blocks; ++block) {
        float* grad_weight = grad_weight_blocks + block * D;
        for (int64_t n = block * rows; n < std::min(N, (block + 1) * rows); ++n) {
            const Y* grad_y = static_cast<const Y*>(grad_y_) + n * D;
            const S* x = static_cast<const S*>(x_) + n * D;
            S* grad_x = static_cast<S*>(grad_x_) + n * D;
            const float inverse = inverse_rms[n];
            Floats dots[4] = {};
            along_row(D, [&](int64_t d, int k, auto access) {
                const Floats product = access.load(grad_y + d) * (access.load(x + d) * inverse);
                dots[k] += product * access.load(weight + d);
                access.store(grad_weight + d, access.load(grad_weight + d) + product);
            });
            const float slope = sum(dots) / static_cast<float>(D) * inverse;
            const auto gradient = [&](int64_t d, auto access) {
                const Floats scaled = access.load(grad_y + d) * access.load(weight + d);
                return (scaled - access.load(x + d) * slope) * inverse;
            };
            if (grad_total_ != nullptr) {
                const S* grad_total = static_cast<const S*>(grad_total_) + n * D;
                along_row(D, [&](int64_t d, int, auto access) {
                    access.store(grad_x + d, gradient(d, access) + access.load(grad_total + d));
                });
            } else {
                along_row(D, [&](int64_t d, int, auto access) { access.store(grad_x + d, gradient(d, access)); });
            }
        }
    }
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

#define FORWARD(name, X, R, S)                                                                                       \
    EXPORT void forward_##name(const void* x, const void* residual, const float* weight, float eps, int64_t N,       \
                               int64_t D, void* total, void* y, float* inverse_rms, int threads) {                     \
        forward<X, R, S>(x, residual, weight, eps, N, D, total, y, inverse_rms, threads);                              \
    }

#define BACKWARD(name, Y, S)                                                                                         \
    EXPORT void backward_##name(const void* grad_y, const void* x, const float* weight, const float* inverse_rms,    \
                                const void* grad_total, int64_t N, int64_t D, void* grad_x, float* grad_weight_blocks, \
                                int64_t blocks, int threads) {                                                       \
        backward<Y, S>(grad_y, x, weight, inverse_rms, grad_total, N, D, grad_x, grad_weight_blocks, blocks, threads); \
    }

// Names: the data type of x (and y), then that of the residual.
FORWARD(f32_f32, float, float, float)
FORWARD(bf16_bf16, bfloat16, bfloat16, bfloat16)
FORWARD(bf16_f32, bfloat16, float, float)
FORWARD(f32_bf16, float, bfloat16, float)

// Names: the data type of grad_y, then that of what was normalised.
BACKWARD(f32_f32, float, float)
BACKWARD(bf16_bf16, bfloat16, bfloat16)
BACKWARD(bf16_f32, bfloat16, float)
BACKWARD(f32_bf16, float, bfloat16)
