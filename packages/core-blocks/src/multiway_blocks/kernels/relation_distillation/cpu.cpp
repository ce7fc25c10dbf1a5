// What follows the products in the distillation of relations: rows of L products of unit vectors, -1 to 1, times `scale`.
//
// A row's own product is 1, so e^(scale (s - 1)) is at most 1 and its sum at least 1: no running maximum is needed.
// Rows are dealt out to threads; each is one sum in one fixed order.

#include "vectors.h"

#include <cmath>

namespace {

// Calls body(first, count of lanes) along a row, the last piece shorter.
template <typename Body>
inline void along_row(int64_t L, Body body) {
    int64_t j = 0;
    for (; j + kLanes <= L; j += kLanes) body(j, kLanes);
    if (j < L) body(j, static_cast<int>(L - j));
}

inline Floats load(const float* p, int count) {
    if (count == kLanes) return widen(p);
    float padded[kLanes] = {};
    std::memcpy(padded, p, count * sizeof(float));
    return widen(padded);
}

inline void put(float* p, Floats value, int count) { std::memcpy(p, &value, count * sizeof(float)); }

// e^(scale (x - 1)), 0 behind the end of a row.
inline Floats power(Floats x, float scale, int count) {
    Floats e = exponential((x - 1.0f) * scale);
    for (int lane = count; lane < kLanes; ++lane) e[lane] = 0.0f;
    return e;
}

}  // namespace

// s, t [N, L] -> kl, student_lse, teacher_lse [N].
EXPORT void divergence_f32(
    const float* s, const float* t, int64_t N, int64_t L, float scale, float* kl, float* student_lse,
    float* teacher_lse, int threads) {
    (void)threads;  // unused where the compiler has no OpenMP
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t n = 0; n < N; ++n) {
        Floats students = {}, teachers = {}, cross = {};
        along_row(L, [&](int64_t j, int count) {
            const Floats x = load(s + n * L + j, count), y = load(t + n * L + j, count);
            students += power(x, scale, count);
            const Floats share = power(y, scale, count);
            teachers += share;
            cross += share * (y - x);
        });
        const float student = sum(students), teacher = sum(teachers);
        const float logs = std::log(student) - std::log(teacher);
        kl[n] = sum(cross) * scale / teacher + logs;
        student_lse[n] = std::log(student) + scale;
        teacher_lse[n] = std::log(teacher) + scale;
    }
}

// s, t [G, R, L]; rows [G, 3, R] and columns [G, 3, L]: what flows into a row's KL, and its two log-sum-exps. The
// coefficients c of reference.py, times scale, replace s. `factors` is room for [2, L].
EXPORT void coefficients_f32(
    float* s, const float* t, int64_t G, int64_t R, int64_t L, float scale, const float* rows, const float* columns,
    float* factors, int threads) {
    (void)threads;
    for (int64_t g = 0; g < G; ++g) {
        const float* column = columns + g * 3 * L;
        for (int64_t j = 0; j < L; ++j) {
            factors[j] = scale * column[j] * std::exp(scale - column[L + j]);
            factors[L + j] = scale * column[j] * std::exp(scale - column[2 * L + j]);
        }
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
        for (int64_t r = 0; r < R; ++r) {
            const float* row = rows + g * 3 * R + r;
            const float student = scale * row[0] * std::exp(scale - row[R]);
            const float teacher = scale * row[0] * std::exp(scale - row[2 * R]);
            float* x = s + (g * R + r) * L;
            const float* y = t + (g * R + r) * L;
            along_row(L, [&](int64_t j, int count) {
                const Floats a = power(load(x + j, count), scale, count) * (load(factors + j, count) + student);
                const Floats b = power(load(y + j, count), scale, count) * (load(factors + L + j, count) + teacher);
                put(x + j, a - b, count);
            });
        }
    }
}
