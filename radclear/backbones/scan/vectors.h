// Vectors of float32 as wide as the processor's, and the functions on them that the kernels share.
//
// Only C library calls are made, so that no C++ run time has to be linked.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define INLINE_MEMBER inline __attribute__((always_inline))

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;  // channels per vector: one register
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr int VECTOR_BYTES = LANES * sizeof(float);
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define MASKED 1  // loads and stores of part of a vector
INLINE __mmask16 first_lanes(int lanes) { return (__mmask16)((1u << lanes) - 1); }
#endif

typedef float Vec __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t IntVec __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t UnsignedVec __attribute__((vector_size(VECTOR_BYTES)));
typedef float UnalignedVec __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef uint16_t HalfVec __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef uint16_t UnalignedHalfVec __attribute__((vector_size(VECTOR_BYTES / 2), aligned(2), may_alias));

struct bfloat16 {  // the upper half of a float32
  uint16_t bits;
};

INLINE Vec all(float value) { return value - (Vec){}; }
// Of a number and a NaN the second: put first what is known to be a number.
INLINE Vec larger(Vec a, Vec b) { return a > b ? a : b; }
INLINE Vec smaller(Vec a, Vec b) { return a < b ? a : b; }
INLINE int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

// A full block loads LANES channels; the last block pads with zeros where C is no multiple of LANES.
template <bool FULL>
INLINE Vec load(const float* p, int lanes) {
  if (FULL) return *(const UnalignedVec*)p;
#if MASKED
  return (Vec)_mm512_maskz_loadu_ps(first_lanes(lanes), p);
#endif
  Vec v = {};
  memcpy(&v, p, lanes * sizeof(float));
  return v;
}

template <bool FULL>
INLINE Vec load(const bfloat16* p, int lanes) {
  HalfVec v = {};
  if (FULL)
    v = *(const UnalignedHalfVec*)p;
  else
#if MASKED
    v = (HalfVec)_mm256_maskz_loadu_epi16(first_lanes(lanes), p);
#else
    memcpy(&v, p, lanes * sizeof(bfloat16));
#endif
  return (Vec)(__builtin_convertvector(v, IntVec) << 16);
}

template <bool FULL>
INLINE void store(float* p, Vec v, int lanes) {
  if (FULL)
    *(UnalignedVec*)p = v;
  else
    memcpy(p, &v, lanes * sizeof(float));
}

// To the nearest bfloat16, ties to even; what is not a number stays so.
INLINE HalfVec round_to_bfloat16(Vec v) {
#if defined(__AVX512BF16__)
  return (HalfVec)_mm512_cvtneps_pbh((__m512)v);
#else
  const UnsignedVec bits = (UnsignedVec)v;
  const UnsignedVec rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return __builtin_convertvector(v == v ? rounded : (bits >> 16 | 0x40), HalfVec);
#endif
}

template <bool FULL>
INLINE void store(bfloat16* p, Vec v, int lanes) {
  const HalfVec half = round_to_bfloat16(v);
  if (FULL)
    *(UnalignedHalfVec*)p = half;
  else
#if MASKED
    _mm256_mask_storeu_epi16(p, first_lanes(lanes), (__m256i)half);
#else
    memcpy(p, &half, lanes * sizeof(bfloat16));
#endif
}

INLINE float sum_of_lanes(Vec v) {
  typedef float Four __attribute__((vector_size(16)));
  Four parts[LANES / 4];
  memcpy(parts, &v, sizeof v);
  Four sum = parts[0];
  for (int i = 1; i < LANES / 4; i++) sum += parts[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// 2^f for |f| <= 1/2 (relative error 7.5e-8).
INLINE Vec exp2_of_fraction(Vec f) {
  Vec q = all(1.327647203e-3f) * f + all(9.675541480e-3f);
  q = q * f + all(5.550713275e-2f);
  q = q * f + all(2.402211972e-1f);
  q = q * f + all(6.931469671e-1f);
  return q * f + all(1.f);
}

// 2^p for p <= 0: nearest integer, polynomial on [-1/2, 1/2], exponent added.
INLINE Vec exp2_of_negative(Vec p) {
#if defined(__AVX512F__)
  p = larger(all(-200.f), p);
  const Vec integer = (Vec)_mm512_roundscale_ps((__m512)p, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const Vec f = p - integer;
#else
  p = larger(all(-126.f), p);
  const Vec magic = all(12582912.f);  // 1.5 * 2^23: adding it leaves round(p) in the low bits of the mantissa
  const Vec shifted = p + magic;
  const Vec f = p - (shifted - magic);
#endif
  const Vec q = exp2_of_fraction(f);
#if defined(__AVX512F__)
  return (Vec)_mm512_scalef_ps((__m512)q, (__m512)integer);
#else
  return (Vec)((IntVec)q + ((IntVec)shifted << 23));
#endif
}

INLINE Vec exp_of_negative(Vec x) { return exp2_of_negative(x * all(1.4426950408889634f)); }

// log(1 + e) for 0 <= e <= 1. Polynomial after Cephes logf; what 1 + e rounds away is put back, so that small
// time steps keep their relative accuracy.
INLINE Vec log1p_of_fraction(Vec e) {
  const Vec s = all(1.f) + e;
  const Vec lost = e - (s - all(1.f));
  const IntVec bits = (IntVec)s;
  const IntVec exponent = (bits - 0x3f3504f3) >> 23;  // 0 below sqrt(2), 1 above
  const Vec m = (Vec)(bits - (exponent << 23)) - all(1.f);
  Vec q = all(7.0376836292e-2f) * m + all(-1.1514610310e-1f);
  q = q * m + all(1.1676998740e-1f);
  q = q * m + all(-1.2420140846e-1f);
  q = q * m + all(1.4249322787e-1f);
  q = q * m + all(-1.6668057665e-1f);
  q = q * m + all(2.0000714765e-1f);
  q = q * m + all(-2.4999993993e-1f);
  q = q * m + all(3.3333331174e-1f);
  const Vec square = m * m;
  const Vec log_m = m + (q * m * square - all(.5f) * square);
  const Vec log_exponent = __builtin_convertvector(exponent, Vec) * all(0.6931471805599453f);
  return log_m + log_exponent + lost * (all(1.f) - all(.5f) * e);
}

INLINE Vec softplus(Vec v) {  // max(v, 0) + log(1 + exp(-|v|))
  return larger(all(0.f), v) + log1p_of_fraction(exp_of_negative(-larger(v, -v)));
}

INLINE Vec sigmoid(Vec v) {  // from exp(-|v|), which never overflows
  const Vec e = exp_of_negative(-larger(v, -v));
  const Vec r = all(1.f) / (all(1.f) + e);
  return v > all(0.f) ? r : e * r;
}

}  // namespace
