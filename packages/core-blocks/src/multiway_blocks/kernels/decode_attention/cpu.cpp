// softmax(q k^T * scale) v for one query in each of B rows, over S keys: attention in a decoding step on a CPU.
//
// Keys and values are read once. H query heads share K key-value heads, H / K each. Every row and head is computed by one
// thread in an order that starts at the row's first visible key, so a row's result does not depend on the number of
// threads, on its batch mates, or on how far the batch pads it on the left.

#include "vectors.h"

#include <cmath>
#include <limits>
#include <vector>

namespace {

struct Sizes {
    int64_t B, H, K, S, D;
};

struct Strides {  // in elements; the last dimension's is 1
    int64_t row, head, key;
};

// scores[s] = q . k_s for s in first .. S - 1; `scores` has room for a multiple of 16.
template <typename T>
void products(const Value<T>* q, const T* k, int64_t stride, int64_t first, const Sizes& sizes, float* scores) {
    using P = Product<T>;
    const int64_t whole = sizes.D - sizes.D % P::kStep;
    for (int64_t s = first; s < sizes.S; s += 16) {
        const int64_t count = sizes.S - s < 16 ? sizes.S - s : 16;
        Floats totals[16] = {};
        for (int64_t j = 0; j < count; ++j) {
            const T* key = k + (s + j) * stride;
            for (int64_t d = 0; d < whole; d += P::kStep) {
                totals[j] = P::add(totals[j], P::load(key + d), P::load_other(q + d));
            }
        }
        sums(totals, scores + s);
        for (int64_t j = 0; j < count; ++j) {
            for (int64_t d = whole; d < sizes.D; ++d) scores[s + j] += number(q[d]) * number(k[(s + j) * stride + d]);
        }
    }
}

// out[0 .. Vectors * kLanes - 1] = sum over s of weights[s] * v_s, times `factor`.
template <typename T, int Vectors>
inline void mixture(
    const float* weights, const T* v, int64_t stride, int64_t first, int64_t last, float factor, T* out) {
    Floats totals[Vectors] = {};
    for (int64_t s = first; s < last; ++s) {
        for (int j = 0; j < Vectors; ++j) totals[j] += widen(v + s * stride + j * kLanes) * weights[s];
    }
    for (int j = 0; j < Vectors; ++j) {
        for (int lane = 0; lane < kLanes; ++lane) store(out + j * kLanes + lane, totals[j][lane] * factor);
    }
}

template <typename T>
void attend_head(
    const T* q, const T* k, const T* v, const uint8_t* visible, float scale, const Sizes& sizes, int64_t key_stride,
    int64_t value_stride, std::vector<float>& scores, std::vector<Value<T>>& query, T* out) {
    int64_t first = 0;
    while (visible != nullptr && first < sizes.S && !visible[first]) ++first;
    if (first == sizes.S) {
        for (int64_t d = 0; d < sizes.D; ++d) store(out + d, 0.0f);
        return;
    }
    for (int64_t d = 0; d < sizes.D; ++d) {
        if constexpr (sizeof(Value<T>) == sizeof(T)) std::memcpy(&query[d], q + d, sizeof(T));
        else query[d] = static_cast<float>(number(q[d]));
    }
    float* s = scores.data();
    products<T>(query.data(), k, key_stride, first, sizes, s);
    float greatest = -std::numeric_limits<float>::infinity();
    bool is_number = true;
    for (int64_t j = first; j < sizes.S; ++j) {
        s[j] = visible == nullptr || visible[j] ? s[j] * scale : -std::numeric_limits<float>::infinity();
        is_number = is_number && !std::isnan(s[j]);
        greatest = s[j] > greatest ? s[j] : greatest;
    }
    if (!is_number || std::isinf(greatest)) {  // as the definition has it
        for (int64_t d = 0; d < sizes.D; ++d) store(out + d, std::numeric_limits<float>::quiet_NaN());
        return;
    }
    Floats total = {};
    for (int64_t j = first; j < sizes.S; j += kLanes) {
        for (int64_t lane = sizes.S - j; lane < kLanes; ++lane) s[j + lane] = -std::numeric_limits<float>::infinity();
        const Floats weight = exponential(widen(s + j) - greatest);
        total += weight;
        std::memcpy(s + j, &weight, sizeof weight);
    }
    const float factor = 1.0f / sum(total);
    int64_t d = 0;
    for (; d + 4 * kLanes <= sizes.D; d += 4 * kLanes) {
        mixture<T, 4>(s, v + d, value_stride, first, sizes.S, factor, out + d);
    }
    for (; d + kLanes <= sizes.D; d += kLanes) {
        mixture<T, 1>(s, v + d, value_stride, first, sizes.S, factor, out + d);
    }
    for (; d < sizes.D; ++d) {
        float one = 0.0f;
        for (int64_t j = first; j < sizes.S; ++j) one += s[j] * number(v[j * value_stride + d]);
        store(out + d, one * factor);
    }
}

template <typename T>
void attend(
    const T* q, const T* k, const T* v, const uint8_t* visible, const int64_t* numbers, float scale, T* out,
    int threads) {
    const Sizes sizes = {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]};
    const int64_t q_row = numbers[5], q_head = numbers[6];
    const Strides keys = {numbers[7], numbers[8], numbers[9]};
    const Strides values = {numbers[10], numbers[11], numbers[12]};
    const int64_t visible_row = numbers[13];
    const int64_t group = sizes.H / sizes.K;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        std::vector<float> scores(static_cast<size_t>(sizes.S + 32));
        std::vector<Value<T>> query(static_cast<size_t>(sizes.D));
#pragma omp for schedule(static)
        for (int64_t index = 0; index < sizes.B * sizes.H; ++index) {
            const int64_t b = index / sizes.H, h = index % sizes.H;
            attend_head<T>(
                q + b * q_row + h * q_head,
                k + b * keys.row + h / group * keys.head,
                v + b * values.row + h / group * values.head,
                visible == nullptr ? nullptr : visible + b * visible_row,
                scale, sizes, keys.key, values.key, scores, query, out + index * sizes.D);
        }
    }
}

}  // namespace

EXPORT void attend_f32(
    const float* q, const float* k, const float* v, const uint8_t* visible, const int64_t* numbers, float scale,
    float* out, int threads) {
    attend<float>(q, k, v, visible, numbers, scale, out, threads);
}

EXPORT void attend_bf16(
    const bfloat16* q, const bfloat16* k, const bfloat16* v, const uint8_t* visible, const int64_t* numbers,
    float scale, bfloat16* out, int threads) {
    attend<bfloat16>(q, k, v, visible, numbers, scale, out, threads);
}
