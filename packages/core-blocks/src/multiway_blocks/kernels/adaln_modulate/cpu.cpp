// Modulated RMSNorm forward and backward for CPUs: one pass over memory each. M modulations of R rows of D features.
//
// A row is read from memory once; further loops over it find it in the first-level cache. Modulations are dealt out to
// threads, in blocks whose number does not depend on the number of threads where the weight's gradient is added up.

#include "rows.h"

#include <algorithm>
#include <cmath>

namespace {

// x [M R, D] (and gate [M, D], residual [M R, D], or null) -> total [M R, D] (only with a residual), y [M R, D],
// inverse_rms [M R].
template <typename T>
void forward(
    const T* x, const T* gate, const T* residual, const float* weight, const T* shift, const T* scale, float eps, int64_t M,
    int64_t R, int64_t D, T* total, T* y, float* inverse_rms, int threads) {
    (void)threads;  // unused where the compiler has no OpenMP
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t n = 0; n < M * R; ++n) {
        const int64_t at = n * D, m = n / R * D;
        const T* source = x + at;
        Floats squares[4] = {};
        if (residual != nullptr) {
            source = total + at;
            along_row(D, [&](int64_t d, int k, auto access) {
                const Floats gated = access.load(gate + m + d) * access.load(x + at + d);
                access.store(total + at + d, access.load(residual + at + d) + gated);
                const Floats value = access.load(total + at + d);  // as rounded
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
            const Floats normed = access.load(source + d) * inverse * access.load(weight + d);
            access.store(y + at + d, normed * (1.0f + access.load(scale + m + d)) + access.load(shift + m + d));
        });
    }
}

// The derivation is in reference.py. grad_total may be null; x, gate, grad_x and grad_gate are null together. The last
// five results are zeros beforehand: [M, D] thrice, and [blocks, D].
template <typename T>
void backward(
    const T* grad_y, const T* grad_total, const T* total, const T* x, const T* gate, const float* weight, const T* scale,
    const float* inverse_rms, int64_t M, int64_t R, int64_t D, T* result, T* grad_x, float* grad_gate, float* grad_shift,
    float* grad_scale, float* grad_weight, int64_t blocks, int threads) {
    (void)threads;
    const int64_t share = (M + blocks - 1) / blocks;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t block = 0; block < blocks; ++block) {
        float* of_weight = grad_weight + block * D;
        for (int64_t n = block * share * R; n < std::min(M, (block + 1) * share) * R; ++n) {
            const int64_t at = n * D, m = n / R * D;
            const float inverse = inverse_rms[n];
            Floats dots[4] = {};
            along_row(D, [&](int64_t d, int k, auto access) {
                const Floats grad = access.load(grad_y + at + d), w = access.load(weight + d);
                const Floats factor = 1.0f + access.load(scale + m + d);
                const Floats product = grad * (access.load(total + at + d) * inverse);
                dots[k] += product * w * factor;
                access.store(grad_shift + m + d, access.load(grad_shift + m + d) + grad);
                access.store(grad_scale + m + d, access.load(grad_scale + m + d) + product * w);
                access.store(of_weight + d, access.load(of_weight + d) + product * factor);
            });
            const float slope = sum(dots) / static_cast<float>(D) * inverse;
            along_row(D, [&](int64_t d, int, auto access) {
                const Floats factor = (1.0f + access.load(scale + m + d)) * access.load(weight + d);
                Floats value = access.load(grad_y + at + d) * factor - access.load(total + at + d) * slope;
                value *= inverse;
                if (grad_total != nullptr) value += access.load(grad_total + at + d);
                access.store(result + at + d, value);
                if (x == nullptr) return;
                access.store(grad_x + at + d, value * access.load(gate + m + d));
                const Floats gated = value * access.load(x + at + d);
                access.store(grad_gate + m + d, access.load(grad_gate + m + d) + gated);
            });
        }
    }
}

}  // namespace

#define FUNCTIONS(name, T)                                                                                              \
    EXPORT void forward_##name(const T* x, const T* gate, const T* residual, const float* weight, const T* shift,     \
                               const T* scale, float eps, int64_t M, int64_t R, int64_t D, T* total, T* y,             \
                               float* inverse_rms, int threads) {                                                      \
        forward<T>(x, gate, residual, weight, shift, scale, eps, M, R, D, total, y, inverse_rms, threads);             \
    }                                                                                                                  \
    EXPORT void backward_##name(const T* grad_y, const T* grad_total, const T* total, const T* x, const T* gate,      \
                                const float* weight, const T* scale, const float* inverse_rms, int64_t M, int64_t R,   \
                                int64_t D, T* result, T* grad_x, float* grad_gate, float* grad_shift,                 \
                                float* grad_scale, float* grad_weight, int64_t blocks, int threads) {                 \
        backward<T>(grad_y, grad_total, total, x, gate, weight, scale, inverse_rms, M, R, D, result, grad_x,           \
                    grad_gate, grad_shift, grad_scale, grad_weight, blocks, threads);                                  \
    }

FUNCTIONS(f32, float)
FUNCTIONS(bf16, bfloat16)
