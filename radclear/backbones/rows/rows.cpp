// What lies between two matrix products, in one pass over rows of bfloat16: softmax, gates, depthwise convolution.
//
// Computed in float32 and rounded once, at the end. Rows are dense unless a stride is given, in elements.
#include "../scan/vectors.h"

namespace {

constexpr int64_t LONGEST_ROW = 4096;  // LONGEST_ROW in rows/__init__.py: a row of float32 lies on the stack

struct Full { static constexpr bool value = true; };
struct Part { static constexpr bool value = false; };

// Calls body(Full or Part, i, lanes) for each vector of [0, n): the last may be shorter.
template <class Body>
INLINE void vectors(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) body(Full(), i, LANES);
  if (i < n) body(Part(), i, (int)(n - i));
}
#define EACH_VECTOR [&](auto full, int64_t i, int lanes) __attribute__((always_inline))
#define LOAD(p) load<decltype(full)::value>(p, lanes)
#define STORE(p, v) store<decltype(full)::value>(p, v, lanes)

// Zero in the lanes beyond a short vector.
INLINE Vec only(Vec v, int lanes) {
  for (int k = lanes; k < LANES; k++) v[k] = 0.f;
  return v;
}

INLINE Vec reciprocal(Vec v) {  // of v >= 1
#if defined(__AVX512F__)
  const Vec r = (Vec)_mm512_rcp14_ps((__m512)v);
  return r * (all(2.f) - v * r);
#else
  return all(1.f) / v;
#endif
}

INLINE Vec silu(Vec x) {
  const Vec e = exp_of_negative(-larger(x, -x)), r = reciprocal(all(1.f) + e);
  return x * (x > all(0.f) ? r : e * r);
}

// x times the normal distribution function; its tail after Abramowitz and Stegun 7.1.26, which is not taken from
// one below zero, so that small values keep their relative accuracy.
INLINE Vec gelu(Vec x) {
  const Vec size = larger(x, -x);
  const Vec t = reciprocal(all(1.f) + size * all(0.3275911f * 0.70710678f));
  Vec q = t * all(1.061405429f * .5f) + all(-1.453152027f * .5f);
  q = q * t + all(1.421413741f * .5f);
  q = q * t + all(-0.284496736f * .5f);
  q = q * t + all(0.254829592f * .5f);
  const Vec tail = q * t * exp2_of_negative(x * x * all(-0.5f * 1.4426950408889634f));
  return x * (x > all(0.f) ? all(1.f) - tail : tail);
}

void softmax_row(bfloat16* row, int64_t n, float factor) {
  float buffer[LONGEST_ROW];
  Vec top = all(-3.4e38f), sums = {}, poison = {};  // poison: what is not finite makes the whole row so
  vectors(n, EACH_VECTOR {
    const Vec v = LOAD(row + i) * all(factor);
    STORE(buffer + i, v);
    poison += v * all(0.f);
    if (full.value)
      top = larger(top, v);
    else
      for (int k = 0; k < lanes; k++) top[k] = top[k] > v[k] ? top[k] : v[k];
  });
  float most = top[0];
  for (int k = 1; k < LANES; k++) most = most > top[k] ? most : top[k];
  vectors(n, EACH_VECTOR {
    const Vec e = exp2_of_negative(LOAD(buffer + i) - all(most));
    STORE(buffer + i, e);
    sums += full.value ? e : only(e, lanes);
  });
  const Vec share = all(1.f / (sum_of_lanes(sums) + sum_of_lanes(poison)));
  vectors(n, EACH_VECTOR { STORE(row + i, LOAD(buffer + i) * share); });
}

// (norm(x) weight + bias) times silu(gate).
void norm_and_gate_row(const float* x, int64_t n, float epsilon, const float* weight, const float* bias,
                       const bfloat16* gate, bfloat16* out) {
  Vec sums = {}, squares = {};
  vectors(n, EACH_VECTOR { sums += LOAD(x + i); });
  const Vec mean = all(sum_of_lanes(sums) / n);
  vectors(n, EACH_VECTOR {
    const Vec d = full.value ? LOAD(x + i) - mean : only(LOAD(x + i) - mean, lanes);
    squares += d * d;
  });
  const Vec scale = all(1.f / __builtin_sqrtf(sum_of_lanes(squares) / n + epsilon));
  vectors(n, EACH_VECTOR {
    const Vec v = (LOAD(x + i) - mean) * scale * LOAD(weight + i) + LOAD(bias + i);
    STORE(out + i, v * silu(LOAD(gate + i)));
  });
}

// silu of a 3x3 depthwise convolution along one row of maps, for one vector of channels; x: the row above,
// this one and the one below, null beyond the edge; taps: 9 rows of `channels` weights.
template <bool FULL>
INLINE void convolve_row(int64_t width, int64_t stride, int64_t channels, int lanes, const bfloat16* const* x,
                         const float* taps, Vec bias, bfloat16* out) {
  Vec w[9], left[3] = {}, here[3], right[3];
  for (int t = 0; t < 9; t++) w[t] = load<FULL>(taps + t * channels, lanes);
  for (int r = 0; r < 3; r++) here[r] = x[r] ? load<FULL>(x[r], lanes) : Vec{};
  for (int64_t i = 0; i < width; i++) {
    Vec sum = bias;
    for (int r = 0; r < 3; r++) {
      right[r] = x[r] && i + 1 < width ? load<FULL>(x[r] + (i + 1) * stride, lanes) : Vec{};
      sum += left[r] * w[3 * r] + here[r] * w[3 * r + 1] + right[r] * w[3 * r + 2];
      left[r] = here[r], here[r] = right[r];
    }
    store<FULL>(out + i * channels, silu(sum), lanes);
  }
}

}  // namespace

// softmax(factor x) of each row, in place.
extern "C" void rows_softmax(int64_t rows, int64_t n, int threads, float factor, bfloat16* x) {
  const float binary = factor * 1.4426950408889634f;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t r = 0; r < rows; r++) softmax_row(x + r * n, n, binary);
}

extern "C" void rows_norm_and_gate(int64_t rows, int64_t n, int threads, float epsilon, const float* x,
                                   const float* weight, const float* bias, const bfloat16* gate,
                                   int64_t gate_stride, bfloat16* out) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t r = 0; r < rows; r++)
    norm_and_gate_row(x + r * n, n, epsilon, weight, bias, gate + r * gate_stride, out + r * n);
}

// gelu(gate) times plain, then local, side by side: a row of mixed is gate (hidden), plain (hidden - n), and what
// local (n) was made from; out has rows of hidden.
extern "C" void rows_gate(int64_t rows, int64_t hidden, int64_t n, int threads, const bfloat16* mixed,
                          const bfloat16* local, bfloat16* out) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t r = 0; r < rows; r++) {
    const bfloat16 *gate = mixed + r * 2 * hidden, *plain = gate + hidden, *own = local + r * n;
    bfloat16* to = out + r * hidden;
    const int64_t split = hidden - n;
    vectors(split, EACH_VECTOR { STORE(to + i, gelu(LOAD(gate + i)) * LOAD(plain + i)); });
    vectors(n, EACH_VECTOR { STORE(to + split + i, gelu(LOAD(gate + split + i)) * LOAD(own + i)); });
  }
}

// silu(3x3 depthwise convolution of x + bias) of maps (height, width, channels), `stride` from pixel to pixel of x;
// taps (9, channels), rows first.
extern "C" void rows_convolve(int64_t maps, int64_t height, int64_t width, int64_t channels, int threads,
                              const bfloat16* x, int64_t stride, const float* taps, const float* bias,
                              bfloat16* out) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t r = 0; r < maps * height; r++) {
    const int64_t y = r % height;
    const bfloat16* own = x + r * width * stride;
    for (int64_t c = 0; c < channels; c += LANES) {
      const bfloat16* rows[3] = {y > 0 ? own - width * stride + c : nullptr, own + c,
                                 y + 1 < height ? own + width * stride + c : nullptr};
      bfloat16* to = out + r * width * channels + c;
      const int lanes = (int)(channels - c < LANES ? channels - c : LANES);
      if (lanes < LANES)
        convolve_row<false>(width, stride, channels, lanes, rows, taps + c, load<false>(bias + c, lanes), to);
      else
        convolve_row<true>(width, stride, channels, lanes, rows, taps + c, load<true>(bias + c, lanes), to);
    }
  }
}
