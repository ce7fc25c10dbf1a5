// One decoding step through BitNet's packed layers: rows with a token each, every one behind keys and values of its own.
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
    int64_t squared_relu, threads;
};

struct Row {
    int64_t length, max_length;  // slots of its cache that are filled, and all of them
    const uint8_t* visible;      // (length + 1); null where all are
};

template <typename T>
struct Slots {
    T *keys, *values;  // (kv_heads, max_length, head_dim)
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
    const int64_t* sizes, const void* const* kernels_, const Layer<T>* layers, const Slots<T>* slots, const Row* rows,
    const float* cosine, const float* sine, float eps, T* x) {
    const Sizes& s = *reinterpret_cast<const Sizes*>(sizes);
    const Kernels<T>& kernels = *reinterpret_cast<const Kernels<T>*>(kernels_);
    const Step<T> step{s, kernels, eps};
    const int64_t D = s.head_dim, queries = s.heads * D, keys = s.kv_heads * D, qkv = queries + 2 * keys;
    const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(D)));
    Quantized hidden(s.rows, s.hidden), mixed(s.rows, queries), inner(s.rows, s.inner);
    std::vector<T> projected(s.rows * qkv), query(queries), attended(s.rows * queries), out(s.rows * s.hidden),
        gate_up(s.rows * 2 * s.inner), active(s.rows * s.inner);
    for (const Layer<T>* layer = layers; layer < layers + s.layers; ++layer, slots += s.rows) {
        step.norm(x, layer->attention_norm, s.hidden, hidden);
        step.linear(hidden, s.hidden, layer->qkv, qkv, projected.data());
        for (int64_t r = 0; r < s.rows; ++r) {
            const Row& row = rows[r];
            const T* from = &projected[r * qkv];
            const float *c = cosine + r * (D / 2), *n = sine + r * (D / 2);
            for (int64_t head = 0; head < s.heads; ++head) step.rotate(from + head * D, c, n, &query[head * D]);
            const int64_t head_slots = row.max_length * D;
            for (int64_t head = 0; head < s.kv_heads; ++head) {
                const int64_t slot = head * head_slots + row.length * D;
                step.rotate(from + queries + head * D, c, n, slots[r].keys + slot);
                std::memcpy(slots[r].values + slot, from + queries + keys + head * D, D * sizeof(T));
            }
            const int64_t length = row.length + 1;
            const int64_t numbers[14] = {1, s.heads, s.kv_heads, length, D, queries, D,
                                         keys * row.max_length, head_slots, D, keys * row.max_length, head_slots, D, length};
            kernels.attend(
                query.data(), slots[r].keys, slots[r].values, row.visible, numbers, scale, &attended[r * queries],
                static_cast<int>(2 * keys * length >= kElementsForThreads ? s.threads : 1));
        }
        step.norm(attended.data(), layer->mixed_norm, queries, mixed);
        step.linear(mixed, queries, layer->output, s.hidden, out.data());
        step.add(x, out.data());
        step.norm(x, layer->feedforward_norm, s.hidden, hidden);
        step.linear(hidden, s.hidden, layer->gate_up, 2 * s.inner, gate_up.data());
        for (int64_t r = 0; r < s.rows; ++r) {
            const T* gate = &gate_up[r * 2 * s.inner];
            step.gated(gate, gate + s.inner, &active[r * s.inner]);
        }
        step.norm(active.data(), layer->inner_norm, s.inner, inner);
        step.linear(inner, s.inner, layer->down, s.hidden, out.data());
        step.add(x, out.data());
    }
}

}  // namespace

#define RUN(name, T)                                                                                            \
    EXPORT void run_##name(                                                                                     \
        const int64_t* sizes, const void* const* kernels, const void* layers, const void* slots, const Row* rows, \
        const float* cosine, const float* sine, float eps, T* x) {                                              \
        run<T>(sizes, kernels, static_cast<const Layer<T>*>(layers), static_cast<const Slots<T>*>(slots), rows,  \
               cosine, sine, eps, x);                                                                           \
    }

RUN(f32, float)
RUN(bf16, bfloat16)
