// The LSTMs of the spaces around each event, one event after another, and the gradient. lstm_scan.py is the definition.
//
// The spaces that an event touches share the recurrent matrix, so it is read once for all of them.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t kLanes = 16;

template <typename T>
struct Lanes {
    typedef T type __attribute__((vector_size(kLanes * sizeof(T)), aligned(alignof(T)), may_alias));
};

inline int64_t padded(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// result[r] = sum over j of rows[r][j] * matrix[j], for R rows of `inputs` numbers; outputs are padded.
template <typename T, int R>
void product(const T* rows, int64_t inputs, const T* matrix, int64_t outputs, T* result) {
    typedef typename Lanes<T>::type Vector;
    for (int64_t o = 0; o < outputs; o += kLanes) {
        Vector sums[R] = {};
        for (int64_t j = 0; j < inputs; ++j) {
            const Vector m = *reinterpret_cast<const Vector*>(matrix + j * outputs + o);
            for (int r = 0; r < R; ++r) sums[r] += rows[r * inputs + j] * m;
        }
        for (int r = 0; r < R; ++r) *reinterpret_cast<Vector*>(result + r * outputs + o) = sums[r];
    }
}

template <typename T>
void products(int64_t count, const T* rows, int64_t inputs, const T* matrix, int64_t outputs, T* result) {
    for (; count >= 9; count -= 9, rows += 9 * inputs, result += 9 * outputs)
        product<T, 9>(rows, inputs, matrix, outputs, result);
    for (; count > 0; --count, rows += inputs, result += outputs) product<T, 1>(rows, inputs, matrix, outputs, result);
}

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Without a call, so that loops over it become vectors. exp(-x) = 2^n exp(r), |r| <= ln(2) / 2; adding the magic number
// rounds to a whole n and leaves n in the low bits.
inline float sigmoid(float x) {
    constexpr float kMagic = 12582912.0f;
    const float a = std::min(std::max(-x, -87.0f), 87.0f);
    const float shifted = a * 1.44269504f + kMagic;
    const float n = shifted - kMagic;
    const float r = (a - n * 0.693145752f) - n * 1.42860677e-6f;
    float e = r * (1.0f / 720) + (1.0f / 120);
    e = (((e * r + 1.0f / 24) * r + 1.0f / 6) * r + 0.5f) * r + 1.0f;
    e = e * r + 1.0f;
    int32_t bits, power;
    std::memcpy(&bits, &e, sizeof bits);
    std::memcpy(&power, &shifted, sizeof power);
    bits += static_cast<int32_t>(static_cast<uint32_t>(power) << 23);
    std::memcpy(&e, &bits, sizeof e);
    return 1.0f / (1.0f + e);
}

template <typename T>
inline T tanh_of(T x) {
    return 2 * sigmoid(2 * x) - 1;
}

// The spaces around one pixel: index of each position's state in its stream, -1 outside of the frame.
void touched(int64_t size, int64_t height, int64_t width, int64_t y, int64_t x, int64_t* space) {
    const int64_t radius = (size - 1) / 2;
    for (int64_t i = 0; i < size; ++i)
        for (int64_t j = 0; j < size; ++j) {
            const int64_t at_y = y + radius - i, at_x = x + radius - j;
            const bool inside = at_y >= 0 && at_y < height && at_x >= 0 && at_x < width;
            space[i * size + j] = inside ? at_y * width + at_x : -1;
        }
}

// gates [N, K, 4 D]: what comes in, turned into the gates behind their nonlinearities; hidden [streams, height, width,
// 2 D] moves; out [N, K, D], 0 outside; before [N, K, 2 D] or null, the states as they were, 0 outside. recurrent [D,
// padded(4 D)] is transposed.
template <typename T>
void forward(int64_t N, int64_t size, int64_t D, int64_t height, int64_t width, const int64_t* stream, const int64_t* y,
             const int64_t* x, const T* recurrent, T* gates, T* hidden, T* out, T* before) {
    const int64_t K = size * size, E = padded(4 * D);
    std::vector<int64_t> space(K);
    std::vector<T> rows(K * D), products_of(K * E);
    for (int64_t n = 0; n < N; ++n, gates += K * 4 * D, out += K * D) {
        touched(size, height, width, y[n], x[n], space.data());
        T* states = hidden + stream[n] * height * width * 2 * D;
        for (int64_t k = 0; k < K; ++k) {
            T* row = rows.data() + k * D;
            if (space[k] >= 0)
                std::memcpy(row, states + space[k] * 2 * D, D * sizeof(T));
            else
                std::memset(row, 0, D * sizeof(T));
        }
        products(K, rows.data(), D, recurrent, E, products_of.data());
        for (int64_t k = 0; k < K; ++k) {
            T* __restrict o = out + k * D;
            if (before != nullptr) std::memset(before + (n * K + k) * 2 * D, 0, 2 * D * sizeof(T));
            if (space[k] < 0) {
                std::memset(o, 0, D * sizeof(T));
                continue;
            }
            T* __restrict h = states + space[k] * 2 * D;
            T* __restrict c = h + D;
            if (before != nullptr) std::memcpy(before + (n * K + k) * 2 * D, h, 2 * D * sizeof(T));
            T* __restrict g = gates + k * 4 * D;
            const T* __restrict p = products_of.data() + k * E;
#pragma omp simd
            for (int64_t d = 0; d < 2 * D; ++d) g[d] = sigmoid(g[d] + p[d]);
#pragma omp simd
            for (int64_t d = 2 * D; d < 3 * D; ++d) g[d] = tanh_of(g[d] + p[d]);
#pragma omp simd
            for (int64_t d = 3 * D; d < 4 * D; ++d) g[d] = sigmoid(g[d] + p[d]);
#pragma omp simd
            for (int64_t d = 0; d < D; ++d) {
                c[d] = g[D + d] * c[d] + g[d] * g[2 * D + d];
                o[d] = h[d] = g[3 * D + d] * tanh_of(c[d]);
            }
        }
    }
}

// From the last event to the first. grad_gates [N, K, 4 D] is of what came in; grad_hidden turns from that of the moved
// states into that of the given ones. recurrent [4 D, padded(D)].
template <typename T>
void backward(int64_t N, int64_t size, int64_t D, int64_t height, int64_t width, const int64_t* stream, const int64_t* y,
              const int64_t* x, const T* recurrent, const T* gates, const T* before, const T* grad_out, T* grad_hidden,
              T* grad_gates) {
    const int64_t K = size * size, P = padded(D);
    std::vector<int64_t> space(K);
    std::vector<T> grad_before(K * P);
    for (int64_t n = N - 1; n >= 0; --n) {
        touched(size, height, width, y[n], x[n], space.data());
        T* states = grad_hidden + stream[n] * height * width * 2 * D;
        for (int64_t k = 0; k < K; ++k) {
            T* __restrict dg = grad_gates + (n * K + k) * 4 * D;
            if (space[k] < 0) {
                std::memset(dg, 0, 4 * D * sizeof(T));
                continue;
            }
            const T* __restrict g = gates + (n * K + k) * 4 * D;
            const T* __restrict c = before + (n * K + k) * 2 * D + D;
            const T* __restrict dout = grad_out + (n * K + k) * D;
            const T* __restrict dh_after = states + space[k] * 2 * D;
            T* __restrict dc = states + space[k] * 2 * D + D;
#pragma omp simd
            for (int64_t d = 0; d < D; ++d) {
                const T i = g[d], f = g[D + d], z = g[2 * D + d], o = g[3 * D + d];
                const T t = tanh_of(f * c[d] + i * z);
                const T dh = dout[d] + dh_after[d];
                const T moved = dc[d] + dh * o * (1 - t * t);
                dg[d] = moved * z * i * (1 - i);
                dg[D + d] = moved * c[d] * f * (1 - f);
                dg[2 * D + d] = moved * i * (1 - z * z);
                dg[3 * D + d] = dh * t * o * (1 - o);
                dc[d] = moved * f;
            }
        }
        products(K, grad_gates + n * K * 4 * D, 4 * D, recurrent, P, grad_before.data());
        for (int64_t k = 0; k < K; ++k)
            if (space[k] >= 0) std::memcpy(states + space[k] * 2 * D, grad_before.data() + k * P, D * sizeof(T));
    }
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default"))) void
#define SIZES int64_t N, int64_t size, int64_t D, int64_t height, int64_t width
#define WHERE const int64_t *stream, const int64_t *y, const int64_t *x
#define FUNCTIONS(T, ending)                                                                                            \
    EXPORT forward_##ending(SIZES, WHERE, const T* recurrent, T* gates, T* hidden, T* out, T* before) {                 \
        forward(N, size, D, height, width, stream, y, x, recurrent, gates, hidden, out, before);                        \
    }                                                                                                                   \
    EXPORT backward_##ending(SIZES, WHERE, const T* recurrent, const T* gates, const T* before, const T* grad_out,      \
                             T* grad_hidden, T* grad_gates) {                                                           \
        backward(N, size, D, height, width, stream, y, x, recurrent, gates, before, grad_out, grad_hidden, grad_gates); \
    }

FUNCTIONS(float, f32)
FUNCTIONS(double, f64)
