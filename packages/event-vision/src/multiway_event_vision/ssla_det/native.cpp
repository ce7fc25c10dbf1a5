// One event after another through SSLA-Det, depth first. The steps are those of engines/event.py, which is the definition.
// And, for slices of events whose products were done together, the part of a layer that has to keep their order, with
// its gradient (fused.py).
//
// Almost all time goes into matrix-vector products of the folded weights. `pack` in engines/event_native.py lays a matrix out in
// strips of up to 64 results, so that a strip's sums stay in registers while its weights are read once, in order.
// Written with the vector extensions of GCC and Clang; 16 lanes become whatever the machine has.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kStrip = 64;
constexpr int64_t kLongAgo = 100000;  // microseconds
constexpr int64_t kNever = std::numeric_limits<int64_t>::min();

inline int64_t padded(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Sixteen numbers at any address.
template <typename T>
struct Lanes {
    typedef T type __attribute__((vector_size(kLanes * sizeof(T)), aligned(alignof(T)), may_alias));
};

template <typename T>
inline typename Lanes<T>::type load(const T* p) {
    return *reinterpret_cast<const typename Lanes<T>::type*>(p);
}

template <typename T>
inline void store(T* p, typename Lanes<T>::type value) {
    *reinterpret_cast<typename Lanes<T>::type*>(p) = value;
}

// One strip: y[0 .. 16 V) = sum over i of x[i] * w[i][0 .. 16 V). U sums run side by side where a strip is narrow, or
// each addition would wait for the one before.
template <typename T, int V, int U>
inline void strip(const T* w, const T* x, int64_t inputs, T* y) {
    typename Lanes<T>::type sums[U][V] = {};
    int64_t i = 0;
    for (; i + U <= inputs; i += U)
        for (int u = 0; u < U; ++u)
            for (int v = 0; v < V; ++v) sums[u][v] += x[i + u] * load(w + ((i + u) * V + v) * kLanes);
    for (; i < inputs; ++i)
        for (int v = 0; v < V; ++v) sums[0][v] += x[i] * load(w + (i * V + v) * kLanes);
    for (int v = 0; v < V; ++v) {
        for (int u = 1; u < U; ++u) sums[0][v] += sums[u][v];
        store(y + v * kLanes, sums[0][v]);
    }
}

// y = W x for a packed matrix; y has room for padded(outputs).
template <typename T>
inline void product(const T* w, const T* x, int64_t inputs, int64_t outputs, T* y) {
    for (int64_t o = 0; o < outputs; o += kStrip) {
        const int64_t lanes = std::min(kStrip, padded(outputs - o)) / kLanes;
        switch (lanes) {
            case 1: strip<T, 1, 4>(w, x, inputs, y + o); break;
            case 2: strip<T, 2, 2>(w, x, inputs, y + o); break;
            case 3: strip<T, 3, 2>(w, x, inputs, y + o); break;
            default: strip<T, 4, 1>(w, x, inputs, y + o); break;
        }
        w += lanes * kLanes * inputs;
    }
}

// y = sigmoid(x) for padded(count) numbers.
inline void sigmoid(const float* x, float* y, int64_t count) {
    typedef Lanes<float>::type Floats;
    typedef int32_t Words __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
    // exp(-x) = 2^n exp(r), |r| <= ln(2) / 2. Adding the magic number rounds to a whole n and leaves n in the low bits.
    constexpr float kMagic = 12582912.0f;
    for (int64_t i = 0; i < count; i += kLanes) {
        Floats a = -load(x + i);
        a = a > 87.0f ? a * 0.0f + 87.0f : a;
        a = a < -87.0f ? a * 0.0f - 87.0f : a;
        const Floats shifted = a * 1.44269504f + kMagic;
        const Floats n = shifted - kMagic;
        const Floats r = (a - n * 0.693145752f) - n * 1.42860677e-6f;
        Floats e = r * (1.0f / 720) + (1.0f / 120);
        e = e * r + (1.0f / 24);
        e = e * r + (1.0f / 6);
        e = e * r + 0.5f;
        e = e * r + 1.0f;
        e = e * r + 1.0f;
        Words bits, power;
        std::memcpy(&bits, &e, sizeof bits);
        std::memcpy(&power, &shifted, sizeof power);
        bits += power << 23;
        std::memcpy(&e, &bits, sizeof e);
        store(y + i, 1.0f / (1.0f + e));
    }
}

inline void sigmoid(const double* x, double* y, int64_t count) {
    for (int64_t i = 0; i < count; ++i) y[i] = 1 / (1 + std::exp(-x[i]));
}

// As engines/event_native.py fills it in: nine 64-bit words.
struct Layer {
    int64_t inputs, width, size;
    const void *inward, *outward, *residual, *norm_weight, *norm_bias;
    void* hidden;
};

struct Level {
    int64_t height, width;
    int64_t* counts;  // null at level 0
    void* waiting;    // features [cells, width of this level] of events that stop behind this level
    Layer layers[2];
};

struct Machine {
    int64_t levels, thinning, width;
    double eps;
    int64_t *previous, *depth, *pixel, *time, *fresh;
    void* scratch;
    Level level[1];  // as many as there are
};

// The states of the spaces around pixel (y, x) move: h = sigmoid(g) h + v; out [K, D] = q h, 0 outside of the frame.
// projected [3, K, D] are v, g and q; what lies behind them must be readable up to padded(3 K D). With `kKeep`, before
// [K, D] receives the states as they were.
template <typename T, bool kKeep>
inline void mix(int64_t size, int64_t D, int64_t height, int64_t width, int64_t at_y, int64_t at_x, const T* projected,
                T* hidden, T* gate, T* out, T* before) {
    const int64_t K = size * size, radius = (size - 1) / 2;
    sigmoid(projected + K * D, gate, K * D);
    for (int64_t i = 0; i < size; ++i) {
        const int64_t space_y = at_y + radius - i;
        for (int64_t j = 0; j < size; ++j) {
            const int64_t space_x = at_x + radius - j, at = (i * size + j) * D;
            if (space_y < 0 || space_y >= height || space_x < 0 || space_x >= width) {
                std::memset(out + at, 0, D * sizeof(T));
                continue;
            }
            T* __restrict h = hidden + (space_y * width + space_x) * D;
            const T* __restrict v = projected + at;
            const T* __restrict g = gate + at;
            const T* __restrict q = projected + 2 * K * D + at;
            T* __restrict o = out + at;
            if (kKeep) std::memcpy(before + at, h, D * sizeof(T));
#pragma omp simd
            for (int64_t d = 0; d < D; ++d) {
                const T moved = g[d] * h[d] + v[d];
                h[d] = moved;
                o[d] = q[d] * moved;
            }
        }
    }
}

// x [inputs] at pixel (y, x) of the level -> result [width]; the states move.
template <typename T>
void step(const Layer& layer, const Level& level, int64_t at_y, int64_t at_x, T eps, const T* x, T* result, T* scratch) {
    const int64_t K = layer.size * layer.size, D = layer.width;
    T* projected = scratch;  // values, gates, queries of all positions
    T* gate = projected + padded(3 * K * D);
    T* out = gate + padded(K * D);
    product(static_cast<const T*>(layer.inward), x, layer.inputs, 3 * K * D, projected);
    mix<T, false>(layer.size, D, level.height, level.width, at_y, at_x, projected, static_cast<T*>(layer.hidden), gate,
                  out, nullptr);
    product(static_cast<const T*>(layer.outward), out, K * D, D, result);
    if (layer.residual != nullptr) {
        product(static_cast<const T*>(layer.residual), x, layer.inputs, D, projected);
        x = projected;
    }
    T sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < D; ++d) {
        result[d] += x[d];
        sum += result[d];
    }
    const T mean = sum / D;
#pragma omp simd reduction(+ : squares)
    for (int64_t d = 0; d < D; ++d) {
        result[d] -= mean;
        squares += result[d] * result[d];
    }
    const T scale = 1 / std::sqrt(squares / D + eps);
    const T* norm_weight = static_cast<const T*>(layer.norm_weight);
    const T* norm_bias = static_cast<const T*>(layer.norm_bias);
#pragma omp simd
    for (int64_t d = 0; d < D; ++d) result[d] = result[d] * scale * norm_weight[d] + norm_bias[d];
}

// committed [levels] counts events by the last level that they reached.
template <typename T>
void run(const Machine& machine, const int64_t* time, const int64_t* pixels, const uint8_t* on, int64_t N,
         int64_t* committed) {
    T* features[2] = {static_cast<T*>(machine.scratch), nullptr};
    int64_t widest = kLanes;
    for (int64_t l = 0; l < machine.levels; ++l) widest = std::max(widest, padded(machine.level[l].layers[0].width));
    features[1] = features[0] + widest;
    T* scratch = features[1] + widest;
    const int64_t last = machine.levels - 1, columns = machine.level[last].width;
    for (int64_t n = 0; n < N; ++n) {
        const int64_t pixel = pixels[n], y = pixel / machine.width, x = pixel % machine.width;
        const int64_t before = machine.previous[pixel];
        machine.previous[pixel] = time[n];
        const int64_t delta = before == kNever ? kLongAgo : std::min(time[n] - before, kLongAgo);
        int now = 0;
        features[now][0] = static_cast<T>(static_cast<double>(delta) / kLongAgo);
        features[now][1] = on[n] ? 1 : -1;
        int64_t l = 0;
        for (; l < machine.levels; ++l) {
            const Level& level = machine.level[l];
            if (l > 0 && level.counts[(y >> l) * level.width + (x >> l)]++ % machine.thinning != 0) break;
            for (const Layer& layer : level.layers) {
                step<T>(layer, level, y >> l, x >> l, static_cast<T>(machine.eps), features[now], features[1 - now],
                        scratch);
                now = 1 - now;
            }
        }
        const Level& level = machine.level[l - 1];
        const int64_t cell = (y >> last) * columns + (x >> last), D = level.layers[1].width;
        std::memcpy(static_cast<T*>(level.waiting) + cell * D, features[now], D * sizeof(T));
        machine.depth[cell] = l;
        machine.pixel[cell] = pixel;
        machine.time[cell] = time[n];
        machine.fresh[cell] = std::max(machine.fresh[cell], l);
        ++committed[l - 1];
    }
}

// N events in order, with projected [N, 3, K, D], out [N, K, D] and before [N, K, D] or null; the states hidden
// [streams, height, width, D]; at each event its stream, y and x in the level's frame.
template <typename T>
void mix_all(int64_t N, int64_t size, int64_t D, int64_t height, int64_t width, const int64_t* stream, const int64_t* y,
             const int64_t* x, const T* projected, T* hidden, T* gate, T* out, T* before) {
    const int64_t KD = size * size * D, frame = height * width * D;
    for (int64_t n = 0; n < N; ++n, projected += 3 * KD, out += KD) {
        T* states = hidden + stream[n] * frame;
        if (before == nullptr)
            mix<T, false>(size, D, height, width, y[n], x[n], projected, states, gate, out, nullptr);
        else
            mix<T, true>(size, D, height, width, y[n], x[n], projected, states, gate, out, before + n * KD);
    }
}

// The gradient of mix, one event: with h = g b + v and o = q h, where b is the state before and a the gate before its
// sigmoid g, and with dh the gradient that the state's later readers left in grad_hidden,
//   dq = do h;   dh += do q;   dv = dh;   da = dh b g (1 - g);   db = dh g.
// out receives o again, which the gradient of what follows needs.
template <typename T>
inline void mix_back(int64_t size, int64_t D, int64_t height, int64_t width, int64_t at_y, int64_t at_x,
                     const T* projected, const T* before, const T* grad_out, T* grad_hidden, T* gate,
                     T* grad_projected, T* out) {
    const int64_t K = size * size, radius = (size - 1) / 2, KD = K * D;
    sigmoid(projected + KD, gate, KD);
    for (int64_t i = 0; i < size; ++i) {
        const int64_t space_y = at_y + radius - i;
        for (int64_t j = 0; j < size; ++j) {
            const int64_t space_x = at_x + radius - j, at = (i * size + j) * D;
            T* __restrict grad_v = grad_projected + at;
            T* __restrict grad_a = grad_projected + KD + at;
            T* __restrict grad_q = grad_projected + 2 * KD + at;
            T* __restrict o = out + at;
            if (space_y < 0 || space_y >= height || space_x < 0 || space_x >= width) {
                for (T* part : {grad_v, grad_a, grad_q, o}) std::memset(part, 0, D * sizeof(T));
                continue;
            }
            T* __restrict grad_h = grad_hidden + (space_y * width + space_x) * D;
            const T* __restrict v = projected + at;
            const T* __restrict g = gate + at;
            const T* __restrict q = projected + 2 * KD + at;
            const T* __restrict b = before + at;
            const T* __restrict grad_o = grad_out + at;
#pragma omp simd
            for (int64_t d = 0; d < D; ++d) {
                const T moved = g[d] * b[d] + v[d];
                const T grad = grad_o[d] * q[d] + grad_h[d];
                o[d] = q[d] * moved;
                grad_q[d] = grad_o[d] * moved;
                grad_v[d] = grad;
                grad_a[d] = grad * b[d] * g[d] * (1 - g[d]);
                grad_h[d] = grad * g[d];
            }
        }
    }
}

// As mix_all, the last event first.
template <typename T>
void mix_all_back(int64_t N, int64_t size, int64_t D, int64_t height, int64_t width, const int64_t* stream,
                  const int64_t* y, const int64_t* x, const T* projected, const T* before, const T* grad_out,
                  T* grad_hidden, T* gate, T* grad_projected, T* out) {
    const int64_t KD = size * size * D, frame = height * width * D;
    for (int64_t n = N - 1; n >= 0; --n)
        mix_back(size, D, height, width, y[n], x[n], projected + n * 3 * KD, before + n * KD, grad_out + n * KD,
                 grad_hidden + stream[n] * frame, gate, grad_projected + n * 3 * KD, out + n * KD);
}

}  // namespace

#define RUN(name, T)                                                                                                \
    extern "C" __attribute__((visibility("default"))) void run_##name(                                              \
        const void* machine, const int64_t* time, const int64_t* pixels, const uint8_t* on, int64_t N,              \
        int64_t* committed) {                                                                                       \
        run<T>(*static_cast<const Machine*>(machine), time, pixels, on, N, committed);                              \
    }                                                                                                               \
    extern "C" __attribute__((visibility("default"))) void mix_##name(                                              \
        int64_t N, int64_t size, int64_t D, int64_t height, int64_t width, const int64_t* stream, const int64_t* y, \
        const int64_t* x, const void* projected, void* hidden, void* gate, void* out, void* before) {               \
        mix_all<T>(N, size, D, height, width, stream, y, x, static_cast<const T*>(projected),                       \
                   static_cast<T*>(hidden), static_cast<T*>(gate), static_cast<T*>(out), static_cast<T*>(before));  \
    }                                                                                                               \
    extern "C" __attribute__((visibility("default"))) void mix_back_##name(                                         \
        int64_t N, int64_t size, int64_t D, int64_t height, int64_t width, const int64_t* stream, const int64_t* y, \
        const int64_t* x, const void* projected, const void* before, const void* grad_out, void* grad_hidden,       \
        void* gate, void* grad_projected, void* out) {                                                              \
        mix_all_back<T>(N, size, D, height, width, stream, y, x, static_cast<const T*>(projected),                  \
                        static_cast<const T*>(before), static_cast<const T*>(grad_out),                             \
                        static_cast<T*>(grad_hidden), static_cast<T*>(gate), static_cast<T*>(grad_projected),       \
                        static_cast<T*>(out));                                                                      \
    }

RUN(f32, float)
RUN(f64, double)
