// Selective scan over the four orders of an image (SS2D), forward and backward, on a CPU.
//
//   d_t = softplus(z_t + bias)      h_t = exp(d_t A) h_{t-1} + d_t B_t u_t      y_t = C_t h_t + D u_t
//
// The four orders walk the same image: 0 row by row, 1 column by column, 2 and 3 the same backwards. Nothing
// is reordered in memory: the walk is index arithmetic, and each order adds its y to the pixel it came from.
// Neighbouring channels are one vector, as wide as the processor's; the states of such a block stay in its
// registers.
//
// Legend: B batch, L = height * width pixels, C channels, N states, R rank of the time steps, S steps between two
// saved states.
// A second forward, for inference, reads x and a projection of it as bfloat16, computes the z from their factors
// where it needs them, z_t = W r_t, so that they never lie in memory, and keeps no states. Everything is computed
// and written in float32.
// Arrays, float32, dense unless said otherwise:
//   x, y, dy (B, L, C)     z, dz (4, B, L, C)     A (4, C, N)     D, bias (4, C)
//   bc (B, L, 4, 2N) with any strides but 1 in the last axis: B_t, then C_t      dbc the same, dense
//   projection (B, L, 4, R + 2N), bfloat16 and strided as bc: r_t, B_t, C_t      W (4, C, R)
//   saved (ceil(L / S), 4, B, N, C): the state before the first step of each chunk of S steps
//   dx (4, B, L, C), dA (4, B, C, N), dD, dbias (4, B, C): parts that the caller adds up over orders or batch
#include "step_functions.h"
#include "vectors.h"

namespace {

constexpr int64_t LINE_BYTES = 64;  // what memory is fetched by
constexpr int64_t S = 32;           // steps per chunk; CHUNK in orders.py
constexpr int MAX_STATES = 256;     // MAX_STATES in c_kernel.py
constexpr int MAX_RANK = 256;       // MAX_RANK in c_kernel.py

struct Shape {
  int64_t batch, height, width, channels, states;
  int64_t bc_batch, bc_pixel, bc_order;  // strides of bc or the projection, in its elements
  int64_t rank;                          // 0 where z is given
  int64_t pixels() const { return height * width; }
  int64_t blocks(int64_t lanes = LANES) const { return (channels + lanes - 1) / lanes; }
  int64_t chunks() const { return (pixels() + S - 1) / S; }
};

// ---- walking

// Pixels of steps [first, first + count) of one order.
INLINE void walk(const Shape& shape, int order, int64_t first, int64_t count, int64_t* pixel) {
  const bool columns = order & 1, backwards = order & 2;
  const int64_t inner = columns ? shape.height : shape.width;  // steps until the walk turns
  const int64_t step = columns ? shape.width : 1, turn = columns ? 1 : shape.width;
  const int64_t t = backwards ? shape.pixels() - first - count : first;
  int64_t outer = t / inner, at = t % inner;
  for (int64_t i = 0; i < count; i++) {
    pixel[backwards ? count - 1 - i : i] = outer * turn + at * step;
    if (++at == inner) at = 0, outer++;
  }
}

// rates[n] = A[:, n] * log2(e) of one channel block: exp(d A) = 2^(d rates)
INLINE void load_rates(const float* A, int64_t states, int lanes, Vec* rates) {
  for (int64_t n = 0; n < states; n++) {
    Vec v = {};
    for (int i = 0; i < lanes; i++) v[i] = A[i * states + n] * 1.4426950408889634f;
    rates[n] = v;
  }
}

// ---- forward: one task is one group of neighbouring channel blocks of one image, through all four orders.
// A pixel's channels of a group fill one cache line of x and z. What follows is bound by memory if it walks
// pixel by pixel, since the columns' pixels lie far apart: so a chunk is fetched while the one before it is
// computed, and its time steps are computed before its recurrence, where nothing waits for anything.

template <class T>
constexpr int GROUP = LINE_BYTES / VECTOR_BYTES * (sizeof(float) / sizeof(T));  // blocks of a group

INLINE void fetch(const void* p) { __builtin_prefetch(p, 0, 3); }

// B and C of a chunk's steps as dense rows of 2N floats.
template <class T>
INLINE void gather_rows(const T* bc, int64_t stride, const int64_t* pixel, int64_t count, int64_t width,
                        float* rows) {
  for (int64_t i = 0; i < count; i++) {
    const T* from = bc + pixel[i] * stride;
    int64_t n = 0;
    for (; n + LANES <= width; n += LANES) store<true>(rows + i * width + n, load<true>(from + n, LANES), LANES);
    if (n < width) {
      const int lanes = (int)(width - n);
      store<false>(rows + i * width + n, load<false>(from + n, lanes), lanes);
    }
  }
}

// z of a chunk's steps where it is given ...
INLINE void read_z(int64_t C, int lanes, int64_t count, const int64_t* pixel, const float* z, Vec* to) {
  for (int64_t i = 0; i < count; i++)
    to[i] = lanes < LANES ? load<false>(z + pixel[i] * C, lanes) : load<true>(z + pixel[i] * C, lanes);
}

// ... and where it is W r: rows that start with r, W as R rows of `stride` channels. Eight sums at once.
INLINE void multiply_z(int64_t rank, int64_t stride, int64_t width, int64_t count, const float* rows,
                       const float* W, Vec* to) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    Vec sums[8] = {};
    for (int64_t r = 0; r < rank; r++) {
      const Vec w = load<true>(W + r * stride, LANES);
#pragma GCC unroll 8
      for (int64_t k = 0; k < 8; k++) sums[k] += w * all(rows[(i + k) * width + r]);
    }
    for (int64_t k = 0; k < 8; k++) to[i + k] = sums[k];
  }
  for (; i < count; i++) {
    Vec sum = {};
    for (int64_t r = 0; r < rank; r++) sum += load<true>(W + r * stride, LANES) * all(rows[i * width + r]);
    to[i] = sum;
  }
}

// W of a group of channels of one order, (channels, R), as R rows of `stride` channels, zero where there are none.
INLINE void load_factors(const float* W, int64_t channels, int64_t rank, int64_t stride, float* to) {
  memset(to, 0, rank * stride * sizeof(float));
  for (int64_t c = 0; c < channels; c++)
    for (int64_t r = 0; r < rank; r++) to[r * stride + c] = W[c * rank + r];
}

// One chunk of one order for one channel block; `z` becomes its time steps, `carried` holds its states before and
// after. A row of `rows` holds B, C at `first` of its `width` floats.
template <class T, int N, bool FULL>
INLINE void forward_chunk(int64_t C, int64_t n_states, int lanes, bool first_order, int64_t count,
                          const int64_t* pixel, const T* x, Vec* z, const float* rows, int64_t width,
                          int64_t first, const Vec* rates, Vec skip, Vec shift, float* y, Vec* carried) {
  const int64_t states = N ? N : n_states;
  const Decay<T> decay;
  const TimeStep<T> time_step;
  Vec *d = z, u[S], h[N ? N : MAX_STATES];
  for (int64_t i = 0; i < count; i++) {
    d[i] = smaller(all(LONGEST_STEP), time_step(z[i] + shift));
    u[i] = load<FULL>(x + pixel[i] * C, lanes);
  }
  for (int64_t n = 0; n < states; n++) h[n] = carried[n];
  for (int64_t i = 0; i < count; i++) {
    const float *Bt = rows + i * width + first, *Ct = Bt + states;
    float* at = y + pixel[i] * C;
    const Vec di = d[i], du = di * u[i];
    Vec even = u[i] * skip, odd = {};  // two sums: half as long a chain of additions
    if (!first_order) odd = load<FULL>(at, lanes);
#pragma GCC unroll 16
    for (int64_t n = 0; n < states; n++) {
      h[n] = decay(di, rates[n]) * h[n] + du * all(Bt[n]);
      if (n & 1)
        odd += h[n] * all(Ct[n]);
      else
        even += h[n] * all(Ct[n]);
    }
    store<FULL>(at, even + odd, lanes);
  }
  for (int64_t n = 0; n < states; n++) carried[n] = h[n];
}

// z or W is given, `bc` is the projection in the second case.
template <class T>
void forward_task(const Shape& shape, int64_t task, const T* x, const float* z, const float* W, const T* bc,
                  const float* A, const float* D, const float* bias, float* y, float* saved) {
  constexpr int64_t WIDE = GROUP<T> * LANES;
  constexpr bool FACTORS = sizeof(T) < sizeof(float);  // bfloat16 comes with factors, float with z
  const int64_t L = shape.pixels(), C = shape.channels, N = shape.states, groups = shape.blocks(WIDE);
  const int64_t b = task / groups, start = task % groups * WIDE, stop = minimum(start + WIDE, C);
  Vec h[GROUP<T> * MAX_STATES], rates[GROUP<T> * MAX_STATES];
  const int64_t R = FACTORS ? shape.rank : 0, width = R + 2 * N;
  float rows[S * (FACTORS ? MAX_RANK + 2 * MAX_STATES : 2 * MAX_STATES)], factors[FACTORS ? MAX_RANK * WIDE : 1];
  int64_t walked[2][S];  // pixels of this chunk and of the next
  x += b * L * C, y += b * L * C, bc += b * shape.bc_batch;
  for (int order = 0; order < 4; order++) {
    const float* zo = FACTORS ? nullptr : z + (order * shape.batch + b) * L * C;
    if (FACTORS) load_factors(W + (order * C + start) * R, stop - start, R, WIDE, factors);
    const T* bco = bc + order * shape.bc_order;
    for (int64_t c = start; c < stop; c += LANES)
      load_rates(A + (order * C + c) * N, N, (int)minimum(LANES, C - c), rates + (c - start) / LANES * N);
    memset(h, 0, GROUP<T> * N * sizeof(Vec));
    walk(shape, order, 0, minimum(S, L), walked[0]);
    for (int64_t first = 0; first < L; first += S) {
      const int64_t count = minimum(S, L - first), ahead = minimum(S, L - first - count);
      const int64_t* pixel = walked[first / S & 1];
      int64_t* next = walked[first / S + 1 & 1];
      if (ahead > 0) walk(shape, order, first + S, ahead, next);
      for (int64_t i = 0; i < ahead; i++) {
        fetch(x + next[i] * C + start);
        if (!FACTORS) fetch(zo + next[i] * C + start);
        for (int64_t c = start; c < stop; c += LINE_BYTES / sizeof(float)) fetch(y + next[i] * C + c);
      }
      gather_rows(bco, shape.bc_pixel, pixel, count, width, rows);
      for (int64_t c = start; c < stop; c += LANES) {
        const int lanes = (int)minimum(LANES, C - c);
        Vec* carried = h + (c - start) / LANES * N;
        const Vec* rate = rates + (c - start) / LANES * N;
        const Vec skip = load<false>(D + order * C + c, lanes), shift = load<false>(bias + order * C + c, lanes);
        if (saved) {
          float* at = saved + ((first / S * 4 + order) * shape.batch + b) * N * C + c;
          for (int64_t n = 0; n < N; n++) store<false>(at + n * C, carried[n], lanes);
        }
        Vec steps[S];
        if (FACTORS) multiply_z(R, WIDE, width, count, rows, factors + c - start, steps);
        else read_z(C, lanes, count, pixel, zo + c, steps);
#define FORWARD(N, FULL)                                                                                    \
  forward_chunk<T, N, FULL>(C, shape.states, lanes, order == 0, count, pixel, x + c, steps, rows, width, R, \
                            rate, skip, shift, y + c, carried)
        if (lanes < LANES) FORWARD(0, false);
        else if (N == 1) FORWARD(1, true);
        else if (N == 4) FORWARD(4, true);
        else if (N == 8) FORWARD(8, true);
        else if (N == 16) FORWARD(16, true);
        else FORWARD(0, true);
#undef FORWARD
      }
    }
  }
}

template <class T>
int forward(const int64_t* numbers, int threads, const T* x, const float* z, const float* W, const T* bc,
            const float* A, const float* D, const float* bias, float* y, float* saved) {
  Shape shape;
  memcpy(&shape, numbers, sizeof shape);
  if (shape.states < 1 || shape.states > MAX_STATES || shape.rank < 0 || shape.rank > MAX_RANK) return 1;
  const int64_t tasks = shape.batch * shape.blocks(GROUP<T> * LANES);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1)
  for (int64_t task = 0; task < tasks; task++) forward_task(shape, task, x, z, W, bc, A, D, bias, y, saved);
  return 0;
}

// ---- backward: one task is one order of one image, through all channel blocks: dB and dC sum over channels

struct Workspace {  // of one task, in vectors; blocks = channel blocks, N = states
  Vec *g;           // (blocks, N) gradient of the state, carried from chunk to chunk
  Vec *rates;       // (blocks, N)
  Vec *dA;          // (blocks, N)
  Vec *dD, *dbias;  // (blocks)
  Vec *before;      // (S + 1, N) states before each step of the chunk
  Vec *decay;       // (S, N) exp(d A)
  Vec *dB, *dC;     // (S, N) summed over blocks, lanes apart
};

template <int N, bool FULL>
INLINE void backward_chunk(const Shape& shape, int order, int64_t c, int64_t count, const int64_t* pixel,
                           const float* x, const float* z, const float* bc, const float* D, const float* bias,
                           const float* dy, const float* saved, float* dx, float* dz, const Workspace& w) {
  const int64_t C = shape.channels, states = N ? N : shape.states;
  const int lanes = FULL ? LANES : (int)(C - c);
  const Vec skip = load<FULL>(D + order * C + c, lanes), shift = load<FULL>(bias + order * C + c, lanes);
  const Vec* rates = w.rates + c / LANES * states;
  Vec *g = w.g + c / LANES * states, *dA = w.dA + c / LANES * states;
  Vec d[S], u[S];
  for (int64_t n = 0; n < states; n++) w.before[n] = load<FULL>(saved + n * C, lanes);
  for (int64_t i = 0; i < count; i++) {
    const int64_t p = pixel[i];
    const float* Bt = bc + p * shape.bc_pixel;
    u[i] = load<FULL>(x + p * C, lanes);
    d[i] = softplus(load<FULL>(z + p * C, lanes) + shift);
    const Vec di = d[i], du = di * u[i];
#pragma GCC unroll 16
    for (int64_t n = 0; n < states; n++) {
      const Vec decay = exp2_of_negative(di * rates[n]);
      w.decay[i * states + n] = decay;
      w.before[(i + 1) * states + n] = decay * w.before[i * states + n] + du * all(Bt[n]);
    }
  }
  Vec dD = all(0.f), dbias = all(0.f);
  for (int64_t i = count - 1; i >= 0; i--) {
    const int64_t p = pixel[i];
    const float *Bt = bc + p * shape.bc_pixel, *Ct = Bt + states;
    const Vec di = d[i], ui = u[i], du = di * ui, dyi = load<FULL>(dy + p * C, lanes);
    const Vec *before = w.before + i * states, *after = before + states, *decay = w.decay + i * states;
    Vec *dB = w.dB + i * states, *dC = w.dC + i * states;
    Vec g_B = all(0.f), w_rate = all(0.f);
#pragma GCC unroll 16
    for (int64_t n = 0; n < states; n++) {
      const Vec gn = g[n] + dyi * all(Ct[n]);  // d loss / d h_t
      const Vec carried = gn * decay[n];       // its part for h_{t-1}
      const Vec exponent = carried * before[n];  // d loss / d (d_t A_n)
      dC[n] += dyi * after[n];
      dB[n] += gn * du;
      dA[n] += exponent * di;
      g_B += gn * all(Bt[n]);
      w_rate += exponent * rates[n];
      g[n] = carried;
    }
    const Vec dd = w_rate * all(0.6931471805599453f) + g_B * ui;  // rates hold log2(e): take it out again
    const Vec dzi = dd * sigmoid(load<FULL>(z + p * C, lanes) + shift);
    store<FULL>(dz + p * C, dzi, lanes);
    store<FULL>(dx + p * C, g_B * di + dyi * skip, lanes);
    dbias += dzi;
    dD += dyi * ui;
  }
  w.dD[c / LANES] += dD;
  w.dbias[c / LANES] += dbias;
}

int backward_task(const Shape& shape, int64_t task, const float* x, const float* z, const float* bc,
                  const float* A, const float* D, const float* bias, const float* dy, const float* saved,
                  float* dx, float* dz, float* dbc, float* dA, float* dD, float* dbias) {
  const int64_t L = shape.pixels(), C = shape.channels, N = shape.states, blocks = shape.blocks();
  const int64_t b = task / 4;
  const int order = (int)(task % 4);
  const int64_t part = order * shape.batch + b;
  const int64_t vectors = (3 * blocks + S + 1 + 3 * S) * N + 2 * blocks;
  void* memory = nullptr;
  if (posix_memalign(&memory, sizeof(Vec), vectors * sizeof(Vec))) return 1;
  memset(memory, 0, vectors * sizeof(Vec));
  Workspace w;
  Vec* next = (Vec*)memory;
  w.g = next, next += blocks * N;
  w.rates = next, next += blocks * N;
  w.dA = next, next += blocks * N;
  w.dD = next, next += blocks;
  w.dbias = next, next += blocks;
  w.before = next, next += (S + 1) * N;
  w.decay = next, next += S * N;
  w.dB = next, next += S * N;
  w.dC = next;

  for (int64_t c = 0; c < C; c += LANES)
    load_rates(A + (order * C + c) * N, N, (int)minimum(LANES, C - c), w.rates + c / LANES * N);
  x += b * L * C, dy += b * L * C, z += part * L * C, dx += part * L * C, dz += part * L * C;
  bc += b * shape.bc_batch + order * shape.bc_order;
  dbc += (b * L * 4 + order) * 2 * N;
  int64_t pixel[S];
  for (int64_t chunk = shape.chunks() - 1; chunk >= 0; chunk--) {
    const int64_t first = chunk * S, count = minimum(S, L - first);
    walk(shape, order, first, count, pixel);
    memset(w.dB, 0, 2 * S * N * sizeof(Vec));  // dC lies behind dB
    for (int64_t c = 0; c < C; c += LANES) {
      const float* at = saved + ((chunk * 4 + order) * shape.batch + b) * N * C + c;
#define BACKWARD(N, FULL) \
  backward_chunk<N, FULL>(shape, order, c, count, pixel, x + c, z + c, bc, D, bias, dy + c, at, dx + c, \
                          dz + c, w)
      if (c + LANES > C) BACKWARD(0, false);
      else if (N == 1) BACKWARD(1, true);
      else if (N == 4) BACKWARD(4, true);
      else if (N == 8) BACKWARD(8, true);
      else if (N == 16) BACKWARD(16, true);
      else BACKWARD(0, true);
#undef BACKWARD
    }
    for (int64_t i = 0; i < count; i++) {
      float* at = dbc + pixel[i] * 8 * N;
      for (int64_t n = 0; n < N; n++) {
        at[n] = sum_of_lanes(w.dB[i * N + n]);
        at[N + n] = sum_of_lanes(w.dC[i * N + n]);
      }
    }
  }
  for (int64_t c = 0; c < C; c++) {
    const int64_t block = c / LANES, lane = c % LANES;
    for (int64_t n = 0; n < N; n++) dA[(part * C + c) * N + n] = w.dA[block * N + n][lane];
    dD[part * C + c] = w.dD[block][lane];
    dbias[part * C + c] = w.dbias[block][lane];
  }
  free(memory);
  return 0;
}

}  // namespace

// All return 0, or 1 when the shape is not supported, or 2 when there was no memory.
// `numbers` holds the fields of Shape in their order; `saved` may be null in the forward.
extern "C" int ss2d_forward(const int64_t* numbers, int threads, const float* x, const float* z,
                            const float* bc, const float* A, const float* D, const float* bias, float* y,
                            float* saved) {
  return forward<float>(numbers, threads, x, z, nullptr, bc, A, D, bias, y, saved);
}

extern "C" int ss2d_forward_factors(const int64_t* numbers, int threads, const bfloat16* x,
                                    const bfloat16* projection, const float* W, const float* A, const float* D,
                                    const float* bias, float* y) {
  return forward<bfloat16>(numbers, threads, x, nullptr, W, projection, A, D, bias, y, nullptr);
}

extern "C" int ss2d_backward(const int64_t* numbers, int threads, const float* x, const float* z,
                             const float* bc, const float* A, const float* D, const float* bias,
                             const float* dy, const float* saved, float* dx, float* dz, float* dbc, float* dA,
                             float* dD, float* dbias) {
  Shape shape;
  memcpy(&shape, numbers, sizeof shape);
  if (shape.states < 1 || shape.states > MAX_STATES) return 1;
  int failed = 0;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1) reduction(| : failed)
  for (int64_t task = 0; task < shape.batch * 4; task++)
    failed |= backward_task(shape, task, x, z, bc, A, D, bias, dy, saved, dx, dz, dbc, dA, dD, dbias);
  return failed ? 2 : 0;
}
