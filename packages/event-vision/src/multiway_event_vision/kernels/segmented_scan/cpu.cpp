// The segmented gated scan for CPUs: rows [R, D] are read and written once, a segment stays in order.
//
// Segments are independent, so threads share them out; results are the same bits for any number of threads. The inner
// loop over D has no dependence and becomes vector instructions. The formulas are in reference.py.

#include <cstdint>

namespace {

template <typename T>
void forward(const T* u, const T* g, const int64_t* offsets, const T* initial, int64_t S, int64_t D, T* h, int threads) {
    (void)threads;  // unused where the compiler has no OpenMP
#pragma omp parallel for num_threads(threads) schedule(dynamic, 256) if (threads > 1)
    for (int64_t s = 0; s < S; ++s) {
        const T* before = initial + s * D;
        for (int64_t t = offsets[s]; t < offsets[s + 1]; ++t) {
            const T* u_t = u + t * D;
            const T* g_t = g + t * D;
            T* __restrict h_t = h + t * D;
            for (int64_t d = 0; d < D; ++d) h_t[d] = g_t[d] * before[d] + u_t[d];
            before = h_t;
        }
    }
}

template <typename T>
void backward(const T* grad_h, const T* g, const T* h, const int64_t* offsets, const T* initial, int64_t S, int64_t D,
              T* grad_u, T* grad_g, T* grad_initial, int threads) {
    (void)threads;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 256) if (threads > 1)
    for (int64_t s = 0; s < S; ++s) {
        T* __restrict carry = grad_initial + s * D;
        for (int64_t d = 0; d < D; ++d) carry[d] = 0;
        for (int64_t t = offsets[s + 1] - 1; t >= offsets[s]; --t) {
            const T* before = t > offsets[s] ? h + (t - 1) * D : initial + s * D;
            const T* grad_t = grad_h + t * D;
            const T* g_t = g + t * D;
            T* __restrict grad_u_t = grad_u + t * D;
            T* __restrict grad_g_t = grad_g + t * D;
            for (int64_t d = 0; d < D; ++d) {
                const T total = grad_t[d] + carry[d];
                grad_u_t[d] = total;
                grad_g_t[d] = total * before[d];
                carry[d] = total * g_t[d];
            }
        }
    }
}

}  // namespace

#define SCAN(name, T)                                                                                                \
    extern "C" __attribute__((visibility("default"))) void forward_##name(                                           \
        const void* u, const void* g, const void* offsets, const void* initial, int64_t S, int64_t D, void* h,       \
        int threads) {                                                                                               \
        forward<T>(static_cast<const T*>(u), static_cast<const T*>(g), static_cast<const int64_t*>(offsets),         \
                   static_cast<const T*>(initial), S, D, static_cast<T*>(h), threads);                               \
    }                                                                                                                \
    extern "C" __attribute__((visibility("default"))) void backward_##name(                                          \
        const void* grad_h, const void* g, const void* h, const void* offsets, const void* initial, int64_t S,       \
        int64_t D, void* grad_u, void* grad_g, void* grad_initial, int threads) {                                    \
        backward<T>(static_cast<const T*>(grad_h), static_cast<const T*>(g), static_cast<const T*>(h),               \
                    static_cast<const int64_t*>(offsets), static_cast<const T*>(initial), S, D,                      \
                    static_cast<T*>(grad_u), static_cast<T*>(grad_g), static_cast<T*>(grad_initial), threads);       \
    }

SCAN(f32, float)
SCAN(f64, double)
