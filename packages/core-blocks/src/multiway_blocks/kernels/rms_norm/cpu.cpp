// RMSNorm forward and backward for CPUs: one pass over memory each, N rows of D features.
//
// A row is read from memory once; the second loop over it finds it in the first-level cache. Rows are dealt out in
// blocks whose number does not depend on the number of threads, and the weight gradient is added up block by block,
// so results are the same bits for any number of threads.

#include "rows.h"

#include <algorithm>
#include <cmath>

namespace {

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
