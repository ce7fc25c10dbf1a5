// A BERT-like encoder in int8 over texts laid end to end, without padding: embeddings and all layers in one call.
//
// A thread takes some texts at a time through the whole network. What it writes on the way stays in its second-level cache;
// the weights of a layer, read from the third, serve all tokens that it holds. Tokens of a text meet only in attention, and
// no number depends on what else is in the batch or on the number of threads.
//
// A row x of activations is kept as 8 bits u with x = low + step u, low its smallest number and step a 255th of its range;
// products with signed weights w are then step scale sum(u w) + low scale sum(w), and sums of int32 are exact up to 66,000
// inputs. A matrix lies in panels of 64 outputs, four inputs of each side by side: what one instruction of VNNI multiplies.

#include "rows.h"

#include <algorithm>
#include <vector>

#if defined(__SSE2__) && !defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

#define UNROLL _Pragma("GCC unroll 16")

constexpr int64_t kPanel = 64;                       // outputs of a panel
constexpr int kVectors = kPanel / kLanes;            // that many vectors of sums
constexpr int64_t kTokens = 192;                     // tokens that a thread takes at a time, if no text is longer
constexpr int64_t kQueries = 24;                     // queries whose scores are kept at a time
constexpr float kSmallest = 1e-30f;                  // the range of a row of equal numbers
#if defined(__AVX512F__)
constexpr int kRows = 6, kSide = 4;  // 24 vectors of sums fill the registers
#else
constexpr int kRows = 4, kSide = 2;
#endif

typedef int8_t Bytes __attribute__((vector_size(kBytes)));
typedef int16_t Shorts __attribute__((vector_size(kBytes)));

// ---- products of bytes ----

// Four weights of each of kLanes outputs, made ready for `add`.
#if (defined(__AVX512VNNI__) && defined(__AVX512F__)) || (defined(__AVXVNNI__) && !defined(__AVX512F__))
struct Weights {
    Bytes all;
    explicit Weights(Bytes w) : all(w) {}
};
// Four inputs of a row, the same for all outputs.
struct Inputs {
    Ints all;
    explicit Inputs(uint32_t four) : all(Ints{} + static_cast<int32_t>(four)) {}
};
inline Ints add(Ints total, const Inputs& x, const Weights& w) {
#if defined(__AVX512F__)
    return bit_cast<Ints>(_mm512_dpbusd_epi32(bit_cast<__m512i>(total), bit_cast<__m512i>(x.all), bit_cast<__m512i>(w.all)));
#else
    return bit_cast<Ints>(_mm256_dpbusd_avx_epi32(bit_cast<__m256i>(total), bit_cast<__m256i>(x.all), bit_cast<__m256i>(w.all)));
#endif
}
#else
// By way of int16, the first and third number of four apart from the second and fourth: nothing is cut off.
struct Weights {
    Shorts even, odd;
    explicit Weights(Bytes w) : even(bit_cast<Shorts>(w) << 8 >> 8), odd(bit_cast<Shorts>(w) >> 8) {}
};
struct Inputs {
    Ints even, odd;
    explicit Inputs(uint32_t four)
        : even(Ints{} + static_cast<int32_t>(four & 0x00ff00ffu)), odd(Ints{} + static_cast<int32_t>(four >> 8 & 0x00ff00ffu)) {}
};
inline Ints pairs(Ints x, Shorts w) {
#if defined(__AVX512BW__)
    return bit_cast<Ints>(_mm512_madd_epi16(bit_cast<__m512i>(x), bit_cast<__m512i>(w)));
#elif defined(__AVX2__)
    return bit_cast<Ints>(_mm256_madd_epi16(bit_cast<__m256i>(x), bit_cast<__m256i>(w)));
#elif defined(__SSE2__)
    return bit_cast<Ints>(_mm_madd_epi16(bit_cast<__m128i>(x), bit_cast<__m128i>(w)));
#else
    const Ints wide = bit_cast<Ints>(w);
    return (x << 16 >> 16) * (wide << 16 >> 16) + (x >> 16) * (wide >> 16);
#endif
}
inline Ints add(Ints total, const Inputs& x, const Weights& w) {
    return total + (pairs(x.even, w.even) + pairs(x.odd, w.odd));
}
#endif

inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

template <typename Vector, typename T>
inline Vector load(const T* p) {
    Vector value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

struct Matrix {
    const int8_t* codes;   // [panels][inputs / 4][64][4]
    const float* affine;   // scale, scale times the sum of codes, bias: [3][panels * 64]
    int64_t inputs, outputs;  // filled up to multiples of 4 and 64
};

struct Row {
    float step, low;
};

inline Floats gelu(Floats x) {
    // x Phi(x), with Phi(x) = 1 - phi(|x|) polynomial(t), t = 1 / (1 + 0.2316419 |x|) (Abramowitz and Stegun 26.2.17)
    const Floats size = x < Floats{} ? -x : x;
    const Floats t = 1.0f / (1.0f + 0.2316419f * size);
    Floats p = t * 1.330274429f - 1.821255978f;
    p = p * t + 1.781477937f;
    p = p * t - 0.356563782f;
    p = p * t + 0.319381530f;
    const Floats tail = p * t * 0.3989422804f * exponential(-0.5f * x * x);
    return x * (x < Floats{} ? tail : 1.0f - tail);
}

inline Floats gelu_tanh(Floats x) {
    const Floats z = -1.5957691216f * (x + 0.044715f * x * x * x);  // of the sigmoid that 0.5 (1 + tanh) is
    const Floats e = exponential(z < Floats{} ? z : -z);
    return x * (z < Floats{} ? 1.0f : e) / (1.0f + e);
}

enum Activation : int64_t { kNone = -1, kGelu = 0, kGeluTanh = 1, kRelu = 2 };

template <Activation activation>
inline Floats activate(Floats x) {
    if constexpr (activation == kGelu) return gelu(x);
    if constexpr (activation == kGeluTanh) return gelu_tanh(x);
    if constexpr (activation == kRelu) return x > Floats{} ? x : Floats{};
    return x;
}

// R rows of codes times `kSide` vectors of outputs.
template <int R, Activation activation>
inline void tile(const uint8_t* x, const Row* rows, const Matrix& w, const int8_t* panel, int64_t output, float* y) {
    Ints sums[R][kSide];
    UNROLL for (int r = 0; r < R; ++r) UNROLL for (int j = 0; j < kSide; ++j) sums[r][j] = Ints{};
    for (int64_t i = 0; i < w.inputs; i += 4, panel += 4 * kPanel) {
        UNROLL for (int j = 0; j < kSide; ++j) {
            const Weights weights(load<Bytes>(panel + j * kBytes));
            UNROLL for (int r = 0; r < R; ++r) {
                sums[r][j] = add(sums[r][j], Inputs(load<uint32_t>(x + r * w.inputs + i)), weights);
            }
        }
    }
    UNROLL for (int j = 0; j < kSide; ++j) {
        const float* affine = w.affine + output + j * kLanes;
        const Floats scale = widen(affine), total = widen(affine + w.outputs), bias = widen(affine + 2 * w.outputs);
        UNROLL for (int r = 0; r < R; ++r) {
            const Floats sum = __builtin_convertvector(sums[r][j], Floats);
            const Floats value = sum * (rows[r].step * scale) + (rows[r].low * total + bias);
            narrow(y + r * w.outputs + output + j * kLanes, activate<activation>(value));
        }
    }
}

// y[N][outputs] = activation(x W^T + b) for N rows.
template <Activation activation>
void linear(const uint8_t* x, const Row* rows, int64_t N, const Matrix& w, float* y) {
    for (int64_t output = 0; output < w.outputs; output += kSide * kLanes) {
        const int8_t* panel = w.codes + output / kPanel * kPanel * w.inputs + output % kPanel * 4;
        int64_t n = 0;
        const auto each = [&](auto count) {
            constexpr int R = decltype(count)::value;
            tile<R, activation>(x + n * w.inputs, rows + n, w, panel, output, y + n * w.outputs);
            n += R;
        };
        while (N - n >= kRows) each(std::integral_constant<int, kRows>());
        while (N - n >= 2) each(std::integral_constant<int, 2>());
        if (N - n == 1) each(std::integral_constant<int, 1>());
    }
}

inline float smallest(Floats value) {
#if defined(__AVX512F__)
    return _mm512_reduce_min_ps(bit_cast<__m512>(value));
#else
    float result = value[0];
    for (int lane = 1; lane < kLanes; ++lane) result = std::min(result, value[lane]);
    return result;
#endif
}

inline float largest(Floats value) { return -smallest(-value); }

// One row of E numbers as 8 bits; codes up to `inputs` are filled up.
inline Row quantize(const float* x, int64_t E, uint8_t* codes, int64_t inputs) {
    Floats low = Floats{} + x[0], high = low;
    int64_t i = 0;
    for (; i + kLanes <= E; i += kLanes) {
        const Floats value = widen(x + i);
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    float least = smallest(low), most = largest(high);
    for (; i < E; ++i) least = std::min(least, x[i]), most = std::max(most, x[i]);
    const float range = std::max(most - least, kSmallest), factor = 255.0f / range;
    const Floats round = Floats{} + 8388608.0f;  // 2^23: adding it rounds to the nearest integer, which lies in the last bits
    typedef uint8_t Codes __attribute__((vector_size(kLanes)));
    for (i = 0; i + kLanes <= E; i += kLanes) {
        const Ints bits = bit_cast<Ints>((widen(x + i) - least) * factor + round);
        const Codes found = __builtin_convertvector(bits & 255, Codes);
        std::memcpy(codes + i, &found, sizeof found);
    }
    for (; i < E; ++i) codes[i] = bit_cast<uint32_t>((x[i] - least) * factor + 8388608.0f) & 255;
    for (; i < inputs; ++i) codes[i] = 0;
    return {range / 255.0f, least};
}

// x = LayerNorm(x + y) of E numbers; norm: weights, then biases.
inline void add_norm(float* x, const float* y, int64_t E, const float* norm, float eps) {
    Floats parts[4] = {}, squares[4] = {};
    along_row(E, [&](int64_t i, int k, auto access) {
        const Floats value = access.load(x + i) + access.load(y + i);
        access.store(x + i, value);
        parts[k] += value;
    });
    const float mean = sum(parts) / static_cast<float>(E);
    for (int64_t i = 0; i + kLanes <= E; i += kLanes) {
        const Floats gap = widen(x + i) - mean;
        squares[i / kLanes % 4] += gap * gap;
    }
    float variance = sum(squares);
    for (int64_t i = E - E % kLanes; i < E; ++i) variance += (x[i] - mean) * (x[i] - mean);
    const float factor = 1.0f / __builtin_sqrtf(variance / static_cast<float>(E) + eps);
    along_row(E, [&](int64_t i, int, auto access) {
        const Floats value = (access.load(x + i) - mean) * factor;
        access.store(x + i, value * access.load(norm + i) + access.load(norm + E + i));
    });
}

// ---- attention, in float32 ----

// C = A B for R rows of A; C has `V` vectors of columns. A row of A is `lda` numbers after the one before.
template <int R, int V>
inline void product(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t K, float* c, int64_t ldc) {
    Floats sums[R][V];
    UNROLL for (int r = 0; r < R; ++r) UNROLL for (int j = 0; j < V; ++j) sums[r][j] = Floats{};
    for (int64_t k = 0; k < K; ++k) {
        UNROLL for (int j = 0; j < V; ++j) {
            const Floats value = widen(b + k * ldb + j * kLanes);
            UNROLL for (int r = 0; r < R; ++r) sums[r][j] += a[r * lda + k] * value;
        }
    }
    UNROLL for (int r = 0; r < R; ++r) UNROLL for (int j = 0; j < V; ++j) narrow(c + r * ldc + j * kLanes, sums[r][j]);
}

// C = A B for N rows; C's columns are a whole number of vectors.
inline void products(
    int64_t N, int64_t columns, int64_t K, const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc) {
    for (int64_t j = 0; j < columns;) {
        const auto side = [&](auto vectors) {
            constexpr int V = decltype(vectors)::value;
            int64_t n = 0;
            for (; n + kRows <= N; n += kRows) product<kRows, V>(a + n * lda, lda, b + j, ldb, K, c + n * ldc + j, ldc);
            for (; n + 2 <= N; n += 2) product<2, V>(a + n * lda, lda, b + j, ldb, K, c + n * ldc + j, ldc);
            if (n < N) product<1, V>(a + n * lda, lda, b + j, ldb, K, c + n * ldc + j, ldc);
            j += V * kLanes;
        };
        const int64_t left = (columns - j) / kLanes;
        if (left >= kSide) side(std::integral_constant<int, kSide>());
        else if (left >= 2) side(std::integral_constant<int, 2>());
        else side(std::integral_constant<int, 1>());
    }
}

// Scores of one query with T keys, to weights before their division by the sum that is returned; 0 up to a whole vector.
inline float soften(float* scores, int64_t T, float factor) {
    const int64_t whole = round_up(T, kLanes);
    for (int64_t t = T; t < whole; ++t) scores[t] = -1e30f;
    Floats high = widen(scores);
    for (int64_t t = kLanes; t < whole; t += kLanes) {
        const Floats value = widen(scores + t);
        high = value > high ? value : high;
    }
    const float most = largest(high);
    Floats total = {};
    for (int64_t t = 0; t < whole; t += kLanes) {
        const Floats weight = exponential((widen(scores + t) - most) * factor);
        narrow(scores + t, weight);
        total += weight;
    }
    return sum(total);
}

struct Scratch {
    std::vector<float> states, inner, mixed, keys, scores;
    std::vector<uint8_t> codes;
    std::vector<Row> rows;
};

// One head of one text of T tokens: queries, keys and values lie `E` apart in rows of `stride`; results replace queries.
void attend(float* query, int64_t T, int64_t D, int64_t E, int64_t stride, Scratch& scratch) {
    const int64_t whole = round_up(T, kLanes), width = round_up(D, kLanes);
    const float* key = query + E;
    float* keys = scratch.keys.data();
    float* scores = scratch.scores.data();
    float* mixed = scratch.mixed.data();
    for (int64_t d = 0; d < D; ++d) {
        for (int64_t t = 0; t < T; ++t) keys[d * whole + t] = key[t * stride + d];
        for (int64_t t = T; t < whole; ++t) keys[d * whole + t] = 0.0f;
    }
    const float factor = 1.0f / __builtin_sqrtf(static_cast<float>(D));
    for (int64_t first = 0; first < T; first += kQueries) {
        const int64_t count = std::min(kQueries, T - first);
        float totals[kQueries];
        products(count, whole, D, query + first * stride, stride, keys, whole, scores, whole);
        for (int64_t q = 0; q < count; ++q) totals[q] = soften(scores + q * whole, T, factor);
        // A vector may reach beyond a head's end; what it finds there is not kept.
        products(count, width, T, scores, whole, query + 2 * E, stride, mixed, width);
        for (int64_t q = 0; q < count; ++q) {
            const float share = 1.0f / totals[q];
            for (int64_t d = 0; d < D; ++d) query[(first + q) * stride + d] = mixed[q * width + d] * share;
        }
    }
}

// ---- the network ----

struct Layer {
    Matrix qkv, output, up, down;
    const float *attention_norm, *feedforward_norm;
};

struct Network {
    int64_t E, heads, inner, activation;
    float eps;
    const int8_t* token_codes;
    const float *token_scale, *positions, *norm;
    std::vector<Layer> layers;
};

void embed(const Network& net, const int64_t* tokens, int64_t T, float* x) {
    for (int64_t t = 0; t < T; ++t, x += net.E) {
        const int8_t* codes = net.token_codes + tokens[t] * net.E;
        const float scale = net.token_scale[tokens[t]];
        for (int64_t i = 0; i < net.E; ++i) x[i] = static_cast<float>(codes[i]) * scale;
        add_norm(x, net.positions + t * net.E, net.E, net.norm, net.eps);
    }
}

void quantize_rows(const float* x, int64_t N, int64_t stride, int64_t E, int64_t inputs, Scratch& scratch) {
    for (int64_t n = 0; n < N; ++n)
        scratch.rows[n] = quantize(x + n * stride, E, scratch.codes.data() + n * inputs, inputs);
}

void feedforward(const Network& net, const Layer& layer, float* x, int64_t N, Scratch& scratch) {
    const int64_t E = net.E;
    float *inside = scratch.inner.data(), *y = scratch.states.data();
    quantize_rows(x, N, E, E, layer.up.inputs, scratch);
    const auto run = [&](auto activation) {
        linear<decltype(activation)::value>(scratch.codes.data(), scratch.rows.data(), N, layer.up, inside);
    };
    if (net.activation == kGelu) run(std::integral_constant<Activation, kGelu>());
    else if (net.activation == kGeluTanh) run(std::integral_constant<Activation, kGeluTanh>());
    else run(std::integral_constant<Activation, kRelu>());
    quantize_rows(inside, N, layer.up.outputs, net.inner, layer.down.inputs, scratch);
    linear<kNone>(scratch.codes.data(), scratch.rows.data(), N, layer.down, y);
    for (int64_t n = 0; n < N; ++n) add_norm(x + n * E, y + n * layer.down.outputs, E, layer.feedforward_norm, net.eps);
}

// Texts [first, last) through all layers; x: their rows of the result.
void encode_texts(
    const Network& net, const int64_t* tokens, const int64_t* starts, int64_t first, int64_t last, float* x, Scratch& scratch) {
    const int64_t E = net.E, D = E / net.heads, begin = starts[first], N = starts[last] - begin;
    for (int64_t s = first; s < last; ++s)
        embed(net, tokens + starts[s], starts[s + 1] - starts[s], x + (starts[s] - begin) * E);
    for (const Layer& layer : net.layers) {
        float* states = scratch.states.data();
        const int64_t stride = layer.qkv.outputs;
        quantize_rows(x, N, E, E, layer.qkv.inputs, scratch);
        linear<kNone>(scratch.codes.data(), scratch.rows.data(), N, layer.qkv, states);
        for (int64_t s = first; s < last; ++s)
            for (int64_t h = 0; h < net.heads; ++h)
                attend(states + (starts[s] - begin) * stride + h * D, starts[s + 1] - starts[s], D, E, stride, scratch);
        quantize_rows(states, N, stride, E, layer.output.inputs, scratch);
        linear<kNone>(scratch.codes.data(), scratch.rows.data(), N, layer.output, states);
        for (int64_t n = 0; n < N; ++n)
            add_norm(x + n * E, states + n * layer.output.outputs, E, layer.attention_norm, net.eps);
        for (int64_t n = 0; n < N; n += kTokens)
            feedforward(net, layer, x + n * E, std::min(kTokens, N - n), scratch);
    }
}

Scratch scratch_for(const Network& net, int64_t rows, int64_t longest) {
    int64_t states = 0, inner = 0, inputs = 0;
    for (const Layer& layer : net.layers) {
        states = std::max({states, layer.qkv.outputs, layer.down.outputs});
        inner = std::max(inner, layer.up.outputs);
        inputs = std::max({inputs, layer.qkv.inputs, layer.down.inputs});
    }
    const int64_t D = net.E / net.heads, chunk = std::min(rows, kTokens), whole = round_up(longest, kLanes);
    Scratch made;
    made.states.resize(rows * states + kLanes);
    made.inner.resize(chunk * inner);
    made.mixed.resize(kQueries * round_up(D, kLanes));
    made.keys.resize(D * whole);
    made.scores.resize(kQueries * whole);
    made.codes.resize(std::max(rows * net.layers.front().qkv.inputs, chunk * inputs));
    made.rows.resize(rows);
    return made;
}

Matrix matrix(const void* const* weights, int64_t inputs, int64_t outputs) {
    return {static_cast<const int8_t*>(weights[0]), static_cast<const float*>(weights[1]), round_up(inputs, 4), round_up(outputs, kPanel)};
}

}  // namespace

// sizes: layers, E, heads, inner size, activation. weights: as `layout.pack` lists them. starts: of `texts` + 1 texts.
EXPORT void encode(
    const void* const* weights, const int64_t* sizes, float eps, const int64_t* tokens, const int64_t* starts, int64_t texts,
    float* hidden, int threads) {
    (void)threads;  // unused where the compiler has no OpenMP
    const int64_t E = sizes[1], inner = sizes[3];
    Network net{E, sizes[2], inner, sizes[4], eps, static_cast<const int8_t*>(weights[0]), static_cast<const float*>(weights[1]),
                static_cast<const float*>(weights[2]), static_cast<const float*>(weights[3]), {}};
    weights += 4;
    for (int64_t i = 0; i < sizes[0]; ++i, weights += 10)
        net.layers.push_back({matrix(weights, E, 3 * E), matrix(weights + 2, E, E), matrix(weights + 5, E, inner),
                              matrix(weights + 7, inner, E), static_cast<const float*>(weights[4]),
                              static_cast<const float*>(weights[9])});
    std::vector<int64_t> groups{0};  // first text of each group
    int64_t rows = 0, longest = 1;
    for (int64_t s = 0; s < texts; ++s) {
        if (s > groups.back() && starts[s + 1] - starts[groups.back()] > kTokens) groups.push_back(s);
        rows = std::max(rows, starts[s + 1] - starts[groups.back()]);
        longest = std::max(longest, starts[s + 1] - starts[s]);
    }
    const int64_t count = static_cast<int64_t>(groups.size());
    groups.push_back(texts);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Scratch scratch = scratch_for(net, rows, longest);
#pragma omp for schedule(dynamic)
        for (int64_t g = 0; g < count; ++g)
            encode_texts(net, tokens, starts, groups[g], groups[g + 1], hidden + starts[groups[g]] * E, scratch);
    }
}
