// One decoding step through BitNet's packed layers: B rows with a token each, behind a key-value cache.
//
// It is what `model.Layer` computes, in one call: the products, norms and attention are the kernels' own machine code,
// whose addresses are handed over, and only what stands between them is here. From Python each of these small steps
// takes longer to begin than to run.

// Rounds every product, as separate operations do: a last bit more or less can move a quantised value by a whole step.
#if defined(__clang__)
#pragma clang fp contract(off)
#else
#pragma GCC optimize("fp-contract=off")
#endif

#include "rows.h"

#include <cmath>
#include <vector>

namespace {

struct Sizes {
    int64_t rows, hidden, heads, kv_heads, head_dim, inner, layers;
    int64_t length, max_length;  // slots of the cache that are filled, and all of them
    int64_t visible_stride;
    int64_t squared_relu, threads;
};

template <typename T>
struct Kernels {  // as their `cpu.py` declare them
    void (*linear)(const int8_t*, const float*, int64_t, int64_t, const uint8_t*, const float*, int64_t, T*, int);
    void (*norm)(const T*, const float*, float, int64_t, int64_t, int8_t*, float*, int);
    void (*attend)(
        const T*, const T*, const T*, const uint8_t*, const int64_t*, float, T*, int);
};

struct Matrix {
    const uint8_t* packed;
    const float* scale;  // of every output
};

template <typename T>
struct Layer {
    const float* attention_norm;
    Matrix qkv;
    const float* mixed_norm;
    Matrix output;
    const float* feedforward_norm;
    Matrix gate_up;
    const float* inner_norm;
    Matrix down;
    T *keys, *values;  // (rows, kv_heads, max_length, head_dim)
};

constexpr int64_t kBlock = 256;                     // weights of a packed block
constexpr int64_t kWeightsForThreads = 1 << 19;     // as in the kernels' `cpu.py`
constexpr int64_t kElementsForThreads = 262'144;

int64_t padded(int64_t inputs) { return (inputs + kBlock - 1) / kBlock * kBlock; }

// Rows of int8, filled up with zeros to whole blocks.
struct Quantized {
    std::vector<int8_t> values;
    std::vector<float> step;

    Quantized(int64_t rows, int64_t inputs) : values(rows * padded(inputs)), step(rows) {}
};

template <typename T>
struct Step {
    const Sizes& s;
    const Kernels<T>& kernels;
    float eps;

    void norm(const T* x, const float* weight, int64_t inputs, Quantized& to) const {
        for (int64_t row = 0; row < s.rows; ++row)
            kernels.norm(x + row * inputs, weight, eps, 1, inputs, &to.values[row * padded(inputs)], &to.step[row], 1);
    }

    void linear(const Quantized& x, int64_t inputs, const Matrix& w, int64_t outputs, T* y) const {
        const bool many = s.rows * inputs * outputs >= kWeightsForThreads;
        kernels.linear(
            x.values.data(), x.step.data(), s.rows, padded(inputs), w.packed, w.scale, outputs, y,
            static_cast<int>(many ? s.threads : 1));
    }

    // Rotary positions of one head, its halves being the pairs.
    void rotate(const T* x, const float* cosine, const float* sine, T* y) const {
        const int64_t half = s.head_dim / 2;
        along_row(half, [&](int64_t d, int, auto access) {
            const Floats first = access.load(x + d), second = access.load(x + half + d);
            const Floats c = access.load(cosine + d), n = access.load(sine + d);
            access.store(y + d, first * c - second * n);
            access.store(y + half + d, second * c + first * n);
        });
    }

    // y += x
    void add(T* y, const T* x) const {
        along_row(s.rows * s.hidden, [&](int64_t d, int, auto access) {
            access.store(y + d, access.load(y + d) + access.load(x + d));
        });
    }

    // activation(gate) * up; every step is rounded, as the separate ones are.
    void gated(const T* gate, const T* up, T* y) const {
        along_row(s.inner, [&](int64_t d, int, auto access) {
            const Floats value = access.load(gate + d), zero = {};
            Floats active;
            if (s.squared_relu) {
                active = value > zero ? value * value : (value != value ? value : zero);
            } else {
                const Floats size = value > zero ? -value : value;
                const Floats small = exponential(size);  // of -|value|
                active = value * (value > zero ? zero + 1.0f : small) / (small + 1.0f);
            }
            access.store(y + d, active);
            access.store(y + d, access.load(y + d) * access.load(up + d));
        });
    }
};

template <typename T>
void run(
    const int64_t* sizes, const void* const* kernels_, const Layer<T>* layers, const float* cosine, const float* sine,
    const uint8_t* visible, float eps, T* x) {
    const Sizes& s = *reinterpret_cast<const Sizes*>(sizes);
    const Kernels<T>& kernels = *reinterpret_cast<const Kernels<T>*>(kernels_);
    const Step<T> step{s, kernels, eps};
    const int64_t queries = s.heads * s.head_dim, keys = s.kv_heads * s.head_dim, qkv = queries + 2 * keys;
    const int64_t row_slots = s.max_length * s.head_dim;
    Quantized hidden(s.rows, s.hidden), mixed(s.rows, queries), inner(s.rows, s.inner);
    std::vector<T> projected(s.rows * qkv), query(s.rows * queries), attended(s.rows * queries), out(s.rows * s.hidden),
        gate_up(s.rows * 2 * s.inner), active(s.rows * s.inner);
    const int64_t numbers[14] = {
        s.rows, s.heads, s.kv_heads, s.length + 1, s.head_dim, queries, s.head_dim,
        s.kv_heads * row_slots, row_slots, s.head_dim, s.kv_heads * row_slots, row_slots, s.head_dim, s.visible_stride};
    const bool many_keys = 2 * s.rows * keys * (s.length + 1) >= kElementsForThreads;
    for (const Layer<T>* layer = layers; layer < layers + s.layers; ++layer) {
        step.norm(x, layer->attention_norm, s.hidden, hidden);
        step.linear(hidden, s.hidden, layer->qkv, qkv, projected.data());
        for (int64_t row = 0; row < s.rows; ++row) {
            const T* from = &projected[row * qkv];
            const float *c = cosine + row * (s.head_dim / 2), *n = sine + row * (s.head_dim / 2);
            for (int64_t head = 0; head < s.heads; ++head)
                step.rotate(from + head * s.head_dim, c, n, &query[row * queries + head * s.head_dim]);
            for (int64_t head = 0; head < s.kv_heads; ++head) {
                const int64_t slot = (row * s.kv_heads + head) * row_slots + s.length * s.head_dim;
                step.rotate(from + queries + head * s.head_dim, c, n, layer->keys + slot);
                std::memcpy(
                    layer->values + slot, from + queries + keys + head * s.head_dim, s.head_dim * sizeof(T));
            }
        }
        kernels.attend(
            query.data(), layer->keys, layer->values, visible, numbers,
            static_cast<float>(1.0 / std::sqrt(static_cast<double>(s.head_dim))), attended.data(),
            static_cast<int>(many_keys ? s.threads : 1));
        step.norm(attended.data(), layer->mixed_norm, queries, mixed);
        step.linear(mixed, queries, layer->output, s.hidden, out.data());
        step.add(x, out.data());
        step.norm(x, layer->feedforward_norm, s.hidden, hidden);
        step.linear(hidden, s.hidden, layer->gate_up, 2 * s.inner, gate_up.data());
        for (int64_t row = 0; row < s.rows; ++row) {
            const T* gate = &gate_up[row * 2 * s.inner];
            step.gated(gate, gate + s.inner, &active[row * s.inner]);
        }
        step.norm(active.data(), layer->inner_norm, s.inner, inner);
        step.linear(inner, s.inner, layer->down, s.hidden, out.data());
        step.add(x, out.data());
    }
}

}  // namespace

#define RUN(name, T)                                                                                                \
    EXPORT void run_##name(                                                                                         \
        const int64_t* sizes, const void* const* kernels, const void* layers, const float* cosine, const float* sine, \
        const uint8_t* visible, float eps, T* x) {                                                                  \
        run<T>(sizes, kernels, static_cast<const Layer<T>*>(layers), cosine, sine, visible, eps, x);                \
    }

RUN(f32, float)
RUN(bf16, bfloat16)
