// Products of unsigned by signed bytes, added up in 32 bits: what processors have an instruction for.

#pragma once

#include "vectors.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

// Thirty-two codes, as many as a block of GGML's types has, and their products' sums in eight lanes.
typedef uint8_t Codes32 __attribute__((vector_size(32)));
typedef int8_t Bytes32 __attribute__((vector_size(32)));
typedef int32_t Sums8 __attribute__((vector_size(32)));
typedef float Floats8 __attribute__((vector_size(32)));

// Adds products of 32 pairs of bytes to lanes of int32; `Small`: no code is above 15.
template <bool Small>
inline Sums8 dot32(Sums8 total, Codes32 w, Bytes32 x) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return reinterpret_cast<Sums8>(_mm256_dpbusd_epi32(
        reinterpret_cast<__m256i>(total), reinterpret_cast<__m256i>(w), reinterpret_cast<__m256i>(x)));
#elif defined(__AVX2__)
    const __m256i a = reinterpret_cast<__m256i>(w), b = reinterpret_cast<__m256i>(x);
    if (Small)  // pairs of products fit int16
        return total + reinterpret_cast<Sums8>(_mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
    // By way of int16: pairs of products of whole bytes do not fit what maddubs adds them up in.
    const __m256i low = _mm256_madd_epi16(
        _mm256_cvtepu8_epi16(_mm256_castsi256_si128(a)), _mm256_cvtepi8_epi16(_mm256_castsi256_si128(b)));
    const __m256i high = _mm256_madd_epi16(
        _mm256_cvtepu8_epi16(_mm256_extracti128_si256(a, 1)), _mm256_cvtepi8_epi16(_mm256_extracti128_si256(b, 1)));
    return total + reinterpret_cast<Sums8>(_mm256_add_epi32(low, high));
#else
    for (int j = 0; j < 32; ++j) total[j / 4] += w[j] * x[j];
    return total;
#endif
}

}  // namespace
