// What one step of the forward scan computes for a vector of channels: its decay and its length.
#pragma once
#include "vectors.h"

namespace {

constexpr float LONGEST_STEP = 1e10f;

// 2^(d rate) for 0 <= d <= LONGEST_STEP and rate <= 0: the innermost work of the forward.
template <class T>
struct Decay {
#if defined(__AVX512F__)
  INLINE_MEMBER Vec operator()(Vec d, Vec rate) const {
    const Vec p = d * rate;  // no clamp: scaling by 2^-large gives 0
    const Vec integer = (Vec)_mm512_roundscale_ps((__m512)p, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return (Vec)_mm512_scalef_ps((__m512)exp2_of_fraction(p - integer), (__m512)integer);
  }
#else
  INLINE_MEMBER Vec operator()(Vec d, Vec rate) const { return exp2_of_negative(d * rate); }
#endif
};

template <class T>
struct TimeStep {
  INLINE_MEMBER Vec operator()(Vec z) const { return softplus(z); }
};

#if defined(__AVX512F__)
// For inputs that hold 8 bits, fewer operations: 32 values of a function are looked up.
alignas(64) constexpr float POWERS[32] = {  // 2^(j/32)
    1.0f, 1.0218972f, 1.0442737f, 1.0671405f, 1.0905077f, 1.1143868f, 1.1387886f, 1.1637249f,
    1.1892071f, 1.2152474f, 1.2418578f, 1.269051f, 1.2968396f, 1.3252367f, 1.3542556f, 1.38391f,
    1.4142135f, 1.4451808f, 1.4768262f, 1.5091645f, 1.5422108f, 1.5759809f, 1.6104903f, 1.6457555f,
    1.6817929f, 1.7186193f, 1.7562522f, 1.7947091f, 1.8340081f, 1.8741677f, 1.9152066f, 1.9571441f};
alignas(64) constexpr float LOGARITHMS[32] = {  // log(1 + j/31)
    0.f, 0.031748699f, 0.06252036f, 0.09237332f, 0.12136086f, 0.14953174f, 0.17693071f, 0.20359895f,
    0.22957444f, 0.25489226f, 0.27958487f, 0.30368242f, 0.32721292f, 0.35020244f, 0.3726753f, 0.3946542f,
    0.41616040f, 0.4372138f, 0.4578331f, 0.4780358f, 0.49783844f, 0.5172565f, 0.5363047f, 0.5549968f,
    0.57334598f, 0.5913645f, 0.6090641f, 0.6264558f, 0.6435502f, 0.66035736f, 0.6768867f, 0.6931472f};
alignas(64) constexpr float INVERSES[32] = {  // 1 / (1 + j/31)
    1.f, 0.96875f, 0.93939394f, 0.9117647f, 0.8857143f, 0.8611111f, 0.83783785f, 0.8157895f,
    0.7948718f, 0.775f, 0.75609756f, 0.7380952f, 0.7209302f, 0.70454544f, 0.6888889f, 0.6739130f,
    0.65957445f, 0.6458333f, 0.6326531f, 0.62f, 0.60784316f, 0.59615386f, 0.5849057f, 0.5740741f,
    0.5636364f, 0.5535714f, 0.54385966f, 0.53448277f, 0.5254237f, 0.51666665f, 0.5081967f, 0.5f};

struct Table {
  const __m512 low, high;
  explicit Table(const float* values) : low(_mm512_load_ps(values)), high(_mm512_load_ps(values + 16)) {}
  INLINE_MEMBER Vec operator[](__m512i index) const { return (Vec)_mm512_permutex2var_ps(low, index, high); }
};

// Of the exponent's fraction the first 5 bits are looked up; what remains is at most 1/64 and takes a polynomial of
// degree 2 (relative error 4e-7, none at 0). The magic number leaves units of 1/32 as the lowest bits of the mantissa;
// scalef takes the floor.
template <>
struct Decay<bfloat16> {
  const Table powers{POWERS};
  INLINE_MEMBER Vec operator()(Vec d, Vec rate) const {
    const Vec magic = all(393216.f);  // 1.5 * 2^18
    Vec p = d * rate;
    asm("" : "+v"(p));  // no fused products of it: they would wait for the units that multiply, the busiest
    const Vec shifted = p + magic, rounded = shifted - magic, f = p - rounded;
    const Vec q = (all(2.402265070e-1f) * f + all(6.931471806e-1f)) * f + all(1.f);
    return (Vec)_mm512_scalef_ps((__m512)(powers[(__m512i)shifted] * q), (__m512)rounded);
  }
};

// softplus(z) = max(z, 0) + log(1 + e) with e = exp(-|z|). With m = 1 + j/31 nearest to 1 + e, log(m) and 1/m are
// looked up; what remains is at most 1/62. Relative error 8e-7, of small e, too, whose m is 1; below z = -10 that of
// z log2(e), as in softplus.
template <>
struct TimeStep<bfloat16> {
  const Decay<bfloat16> decay;
  const Table logarithms{LOGARITHMS}, inverses{INVERSES};
  INLINE_MEMBER Vec operator()(Vec z) const {
    const Vec e = decay(larger(z, -z), all(-1.4426950408889634f));
    const Vec magic = all(12582912.f), shifted = e * all(31.f) + magic, j = shifted - magic;  // 1.5 * 2^23
    const Vec t = (e - j * all(1.f / 31.f)) * inverses[(__m512i)shifted];
    const Vec q = (all(1.f / 3.f) - t * all(.25f)) * t - all(.5f);
    return larger(all(0.f), z) + (logarithms[(__m512i)shifted] + (t + t * t * q));
  }
};
#endif

}  // namespace
