// One token of retention for each of N heads: S' = e^a S + k^T v and o = q S', the state read and written once.
//
// Heads are dealt out to threads; each result is one sum in one fixed order.

#include "rows.h"

#include <cmath>

// q, k [N, K], v [N, V], log_decay [N], state [N, K, V] -> o [N, V], next [N, K, V].
EXPORT void step_f32(
    const float* q, const float* k, const float* v, const float* log_decay, const float* state, int64_t N, int64_t K,
    int64_t V, float* o, float* next, int threads) {
    (void)threads;  // unused where the compiler has no OpenMP
    constexpr int kColumns = 8;  // vectors of a row of the state that are taken together
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t n = 0; n < N; ++n) {
        const float decay = std::exp(log_decay[n]);
        const float* queries = q + n * K;
        const float* keys = k + n * K;
        const float* values = v + n * V;
        const float* before = state + n * K * V;
        float* after = next + n * K * V;
        int64_t j = 0;
        for (; j + kColumns * kLanes <= V; j += kColumns * kLanes) {
            Floats value[kColumns], total[kColumns] = {};
            for (int c = 0; c < kColumns; ++c) value[c] = widen(values + j + c * kLanes);
            for (int64_t i = 0; i < K; ++i) {
                for (int c = 0; c < kColumns; ++c) {
                    const int64_t at = i * V + j + c * kLanes;
                    const Floats s = widen(before + at) * decay + value[c] * keys[i];
                    narrow(after + at, s);
                    total[c] += s * queries[i];
                }
            }
            for (int c = 0; c < kColumns; ++c) narrow(o + n * V + j + c * kLanes, total[c]);
        }
        const auto column = [&](int64_t at, auto access) {
            const Floats value = access.load(values + at);
            Floats total = {};
            for (int64_t i = 0; i < K; ++i) {
                const Floats s = access.load(before + i * V + at) * decay + value * keys[i];
                access.store(after + i * V + at, s);
                total += s * queries[i];
            }
            access.store(o + n * V + at, total);
        };
        for (; j + kLanes <= V; j += kLanes) column(j, Whole{});
        if (j < V) column(j, Part{V - j});
    }
}
