#pragma once
// RMSNorm and quantization of rows by a block, as prepare_input.h has them: every kernel that prepares an input does it here.
//
// The squares of a row are summed in f64 in one order, whatever the block: those of the pieces of eight elements p, p + 128,
// ... ascending, within a piece by neighbours, then over the pieces p of 32 lanes by halves, then over the four warps, ascending.

#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/linear_result.cuh"
#include "backend/cuda/device/prepare_input.h"
#include "backend/cuda/device/reduce.cuh"
#include "formats/block_scales.h"

namespace halftone::cuda {

constexpr int kRowThreads = 128;   // that sum the squares of a row; blocks have a multiple of them
constexpr int kPiece = 8;          // elements that a thread takes at once
constexpr int kMostRowWarps = 16;  // of a block

// In shared memory, for up to kRows rows.
template <int kRows>
struct InputScratch {
  double squares[kRows][kRowThreads / 32];
  float inverse[kRows], step[kRows];
  std::uint32_t largest[kRows];
  std::uint32_t largest_of_warps[kMostRowWarps];
};

// ops/linear_kernels.h's token_scale().
__device__ __forceinline__ float scale_of_token(InputCodes codes, float amax) {
  constexpr float kLeast = 0x1p-23f, kLargestFloat = 3.402823466e38f;
  if (!(amax <= kLargestFloat)) return __uint_as_float(0x7fc00000u);
  const float scale = amax / (codes == InputCodes::kInt8 ? 127.5f : 448.0f);
  return scale == 0 ? kLeast : scale;
}

// Two numbers as E4M3, as e4m3::encode_saturated() does it, the first in the low byte.
__device__ __forceinline__ std::uint16_t e4m3_codes(float low, float high) {
#if __CUDA_ARCH__ >= 890
  std::uint16_t codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
  return codes;
#else
  return static_cast<std::uint16_t>(e4m3::encode_saturated(low) | e4m3::encode_saturated(high) << 8);
#endif
}

// x rounded to E4M3.
__device__ __forceinline__ float round_e4m3(float x) {
  return f16_value(static_cast<std::uint16_t>(f16_of_e4m3(e4m3_codes(x, 0.0f))));
}

__device__ __forceinline__ float code_value(InputCodes codes, float quotient) {
  if (codes == InputCodes::kE4M3) return round_e4m3(quotient);
  const float rounded = rintf(quotient);
  return rounded > -128.0f ? fminf(rounded, 127.0f) : -128.0f;  // NaN becomes -128, as on the CPU
}

// Eight codes as they are stored.
__device__ __forceinline__ uint2 int8_piece(const float (&values)[kPiece]) {
  const auto word = [&](int i) {
    const auto byte = [&](int j) { return static_cast<std::uint32_t>(static_cast<int>(values[j]) & 0xff); };
    return byte(i) | byte(i + 1) << 8 | byte(i + 2) << 16 | byte(i + 3) << 24;
  };
  return make_uint2(word(0), word(4));
}
__device__ __forceinline__ uint2 e4m3_piece(const float (&values)[kPiece]) {
  const auto word = [&](int i) {
    return e4m3_codes(values[i], values[i + 1]) | std::uint32_t{e4m3_codes(values[i + 2], values[i + 3])} << 16;
  };
  return make_uint2(word(0), word(4));
}

// Elements of x from `x` on, of which the first `count` are there, zeros behind them.
__device__ __forceinline__ void load_elements(const std::uint16_t* x, bool aligned, int count,
                                              float (&values)[kPiece]) {
  if (aligned && count >= kPiece) return unpack_bf16(*reinterpret_cast<const uint4*>(x), values);
#pragma unroll
  for (int i = 0; i < kPiece; ++i) values[i] = i < count ? bf16_value(x[i]) : 0.0f;
}

// Elements col .. col + 7 of a row, zeros where it has ended.  kGates: of what silu_mul() makes of gates and values.
template <bool kGates>
__device__ __forceinline__ void load_piece(const InputRows& in, int row, int col, float (&values)[kPiece]) {
  const std::uint16_t* x = in.x + row * in.x_stride + col;
  load_elements(x, in.aligned, in.cols - col, values);
  if constexpr (kGates) {
    float up[kPiece];
    load_elements(x + in.cols, in.aligned, in.cols - col, up);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) values[i] = round_bf16(silu_product(values[i], up[i]));
  }
}

// h of eight elements.
template <bool kGates>
__device__ __forceinline__ void hidden_piece(const InputRows& in, int row, int col, float inverse,
                                             float (&values)[kPiece]) {
  load_piece<kGates>(in, row, col, values);
  if (!in.norm) return;
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    if (col + i < in.cols) values[i] = round_bf16(in.norm[col + i] * round_bf16(values[i] * inverse));
  }
}

// By neighbours, then by pairs of them, and so on.
__device__ __forceinline__ double sum_of_squares(const float (&values)[kPiece]) {
  double sums[kPiece];
#pragma unroll
  for (int i = 0; i < kPiece; ++i) sums[i] = static_cast<double>(values[i]) * values[i];
#pragma unroll
  for (int step = 1; step < kPiece; step *= 2) {
#pragma unroll
    for (int i = 0; i < kPiece; i += 2 * step) sums[i] += sums[i + step];
  }
  return sums[0];
}

// A warp's part of a row's squares, lane by lane.
template <int kRows>
__device__ __forceinline__ void store_squares(double sum, int row, InputScratch<kRows>& scratch) {
  sum = reduce_warp(sum, Sum());
  if (threadIdx.x % 32 == 0) scratch.squares[row][threadIdx.x % kRowThreads / 32] = sum;
}

// What stands in scratch.squares becomes scratch.inverse.
template <int kRows>
__device__ __forceinline__ void invert_norms(const InputRows& in, InputScratch<kRows>& scratch) {
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < in.rows) {
    const double* part = scratch.squares[threadIdx.x];
    const double mean = (part[0] + part[1] + part[2] + part[3]) * in.inverse_cols;
    scratch.inverse[threadIdx.x] = static_cast<float>(rsqrt(mean + static_cast<double>(in.eps)));
  }
  __syncthreads();
}

// What a thread sums the squares of, in normalize_rows()'s order, where rows are few and short: it is read at once, and asked
// for before it is needed. Rows are as prepare_held() wants them.
struct SquarePieces {
  static constexpr int kMost = 4;
  uint4 pieces[kMost];
  const int row = threadIdx.x / kRowThreads;

  __device__ __forceinline__ static bool holds(const InputRows& in) {
    return in.cols <= kMost * kRowThreads * kPiece && in.rows * kRowThreads <= static_cast<int>(blockDim.x);
  }
  __device__ __forceinline__ static int col(int j) {
    return (static_cast<int>(threadIdx.x) % kRowThreads + j * kRowThreads) * kPiece;
  }
  __device__ __forceinline__ explicit SquarePieces(const InputRows& in) {
#pragma unroll
    for (int j = 0; j < kMost; ++j) {
      pieces[j] = make_uint4(0, 0, 0, 0);
      if (row >= in.rows || col(j) >= in.cols) continue;
      pieces[j] = *reinterpret_cast<const uint4*>(in.x + row * in.x_stride + col(j));
    }
  }
  template <int kRows>
  __device__ __forceinline__ void add_up(const InputRows& in, InputScratch<kRows>& scratch) const {
    if (row < in.rows) {
      double sum = 0;
#pragma unroll
      for (int j = 0; j < kMost; ++j) {
        if (j * kRowThreads * kPiece >= in.cols) break;
        float values[kPiece];
        unpack_bf16(pieces[j], values);
        sum += sum_of_squares(values);
      }
      store_squares(sum, row, scratch);
    }
    invert_norms(in, scratch);
  }
};

template <bool kGates, int kRows>
__device__ __forceinline__ void normalize_rows(const InputRows& in, InputScratch<kRows>& scratch) {
  for (int row = threadIdx.x / kRowThreads; row < in.rows; row += blockDim.x / kRowThreads) {
    double sum = 0;
#pragma unroll 2
    for (int col = threadIdx.x % kRowThreads * kPiece; col < in.cols; col += kRowThreads * kPiece) {
      float values[kPiece];
      load_piece<kGates>(in, row, col, values);
      sum += sum_of_squares(values);
    }
    store_squares(sum, row, scratch);
  }
  invert_norms(in, scratch);
}

template <bool kGates, int kRows>
__device__ __forceinline__ void find_token_scales(const InputRows& in, InputScratch<kRows>& scratch) {
  if (static_cast<int>(threadIdx.x) < in.rows) scratch.largest[threadIdx.x] = 0;
  __syncthreads();
  for (int row = 0; row < in.rows; ++row) {
    float largest = 0;
    for (int col = threadIdx.x * kPiece; col < in.cols; col += blockDim.x * kPiece) {
      float values[kPiece];
      hidden_piece<kGates>(in, row, col, in.norm ? scratch.inverse[row] : 1.0f, values);
#pragma unroll
      for (int i = 0; i < kPiece; ++i) largest = Largest()(largest, fabsf(values[i]));
    }
    largest = reduce_warp(largest, Largest());
    // the bits of numbers that are not negative are ordered as they are, NaN above all
    if (threadIdx.x % 32 == 0) atomicMax(&scratch.largest[row], __float_as_uint(largest));
  }
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < in.rows) {
    scratch.step[threadIdx.x] = scale_of_token(in.codes, __uint_as_float(scratch.largest[threadIdx.x]));
  }
  __syncthreads();
}

// ops/quantize_input.cpp's magnitude_of(): infinity where a value is not a number. NVFP4's blocks ignore those.
__device__ __forceinline__ float block_magnitude(InputCodes codes, const float (&values)[kPiece]) {
  float largest = 0;
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    const bool nan = values[i] != values[i];
    if (nan && codes != InputCodes::kNvfp4) largest = __uint_as_float(0x7f800000u);
    largest = fmaxf(largest, fabsf(values[i]));  // the number of a number and NaN
  }
  return largest;
}

// x' of a part of a block whose largest magnitude is amax, with ops/quantize_input.cpp's arithmetic; returns the scale that
// has been left out of it.
__device__ __forceinline__ float quantize_block(const InputRows& in, float amax, float (&values)[kPiece]) {
  constexpr float kLargestFloat = 3.402823466e38f;
  const float nan = __uint_as_float(0x7fc00000u);
  if (in.codes == InputCodes::kNvfp4) {
    const float block = block_scales::nvfp4(in.second, in.inverse, amax);
    const float step = block_scales::nvfp4_step(in.second, in.inverse, block);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) values[i] = step > 0 ? e2m1::decode(e2m1::encode(values[i] / step)) * block : 0.0f;
    return 1.0f;
  }
  if (in.codes == InputCodes::kE4M3Group) {
    const float scale = amax / e4m3::kMax;
    const bool finite = scale <= kLargestFloat;
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      const float code = scale > 0 && finite ? round_e4m3(values[i] / scale) : 0.0f;
      values[i] = in.group_scales ? code : finite ? code * scale : nan;
    }
    return finite ? scale : nan;
  }
  const bool fp4 = in.codes == InputCodes::kMxfp4;
  const float step = block_scales::mx_step(fp4, in.inverse, amax);
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    const float quotient = values[i] / step;
    const float code = fp4 ? e2m1::decode(e2m1::encode(quotient)) : round_e4m3(quotient);
    values[i] = amax <= kLargestFloat ? code * step : nan;
  }
  return 1.0f;
}

// prepare_rows() for scales by block: the lanes that share one are neighbours.
template <bool kGates, int kRows, class Store>
__device__ __forceinline__ void prepare_blocks(const InputRows& in, const InputScratch<kRows>& scratch, Store store) {
  const int lanes = in.block / kPiece, blocks = (in.cols + in.block - 1) / in.block;
  const int all = in.rows * blocks * lanes;
  for (int first = 0; first < all; first += blockDim.x) {
    const int i = first + static_cast<int>(threadIdx.x);
    const int block = min(i, all - 1) / lanes, row = block / blocks;
    const int col = block % blocks * in.block + i % lanes * kPiece;
    float values[kPiece];
    hidden_piece<kGates>(in, row, col, in.norm ? scratch.inverse[row] : 1.0f, values);
    float amax = block_magnitude(in.codes, values);
    for (int lane = lanes / 2; lane > 0; lane /= 2) amax = fmaxf(amax, __shfl_xor_sync(0xffffffffu, amax, lane));
    if (i >= all) continue;
    const float scale = quantize_block(in, amax, values);
    if (in.group_scales && i % lanes == 0) in.group_scales[block] = scale;
    if (col < in.cols) store(row, col, values);
  }
}

// All threads of a block. store(row, col, values): eight elements of the result, zeros where the row has ended.
template <bool kGates = false, int kRows, class Store>
__device__ __forceinline__ void prepare_rows(const InputRows& in, InputScratch<kRows>& scratch, Store store) {
  if (in.norm) normalize_rows<kGates>(in, scratch);
  if (in.codes >= InputCodes::kNvfp4) return prepare_blocks<kGates>(in, scratch, store);
  if (in.by_token) find_token_scales<kGates>(in, scratch);
  const int pieces = (in.cols + kPiece - 1) / kPiece;
  for (int i = threadIdx.x; i < in.rows * pieces; i += blockDim.x) {
    const int row = i / pieces, col = i % pieces * kPiece;
    float values[kPiece];
    hidden_piece<kGates>(in, row, col, in.norm ? scratch.inverse[row] : 1.0f, values);
    if (in.codes != InputCodes::kNone) {
      const float step = in.by_token ? scratch.step[row] : in.step;
#pragma unroll
      for (int j = 0; j < kPiece; ++j) {
        if (col + j < in.cols) values[j] = code_value(in.codes, values[j] / step);
      }
    }
    store(row, col, values);
  }
}

// The largest of eight magnitudes as their bits, which are ordered as the numbers are, NaN above all.
__device__ __forceinline__ std::uint32_t largest_bits(const uint4& piece) {
  constexpr std::uint32_t kMagnitudes = 0x7fff7fffu;
  const std::uint32_t two = __vmaxu2(__vmaxu2(piece.x & kMagnitudes, piece.y & kMagnitudes),
                                     __vmaxu2(piece.z & kMagnitudes, piece.w & kMagnitudes));
  return max(two & 0xffff0000u, two << 16);
}

// The step of a row of whose elements a thread has one with these bits as its largest.
template <int kRows>
__device__ __forceinline__ float step_of_row(const InputRows& in, int row, std::uint32_t bits,
                                             InputScratch<kRows>& scratch) {
  bits = __reduce_max_sync(0xffffffffu, bits);
  if (threadIdx.x % 32 == 0) scratch.largest_of_warps[threadIdx.x / 32] = bits;
  __syncthreads();
  for (unsigned w = 0; w < blockDim.x / 32; ++w) bits = max(bits, scratch.largest_of_warps[w]);
  const float step = scale_of_token(in.codes, __uint_as_float(bits));
  if (threadIdx.x == 0) scratch.step[row] = step;
  __syncthreads();  // the next row's may follow
  return step;
}

// Eight codes of numbers.
__device__ __forceinline__ void round_piece(InputCodes codes, float step, float (&values)[kPiece]) {
  if (codes != InputCodes::kE4M3) {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) values[i] = code_value(codes, values[i] / step);
    return;
  }
#pragma unroll
  for (int i = 0; i < kPiece; i += 2) {
    const std::uint32_t halves = f16_of_e4m3(e4m3_codes(values[i] / step, values[i + 1] / step));
    values[i] = f16_value(static_cast<std::uint16_t>(halves));
    values[i + 1] = f16_value(static_cast<std::uint16_t>(halves >> 16));
  }
}

// prepare_rows() of rows of whole pieces at multiples of 16 bytes, of which a thread holds up to kHeld pieces: what is read
// is read at once, for some ninety registers. kFew, with a norm: SquarePieces holds them. meanwhile(): done while the first row
// is on its way.
template <bool kGates, bool kNorm, int kHeld, bool kFew, int kRows, class Store, class Meanwhile>
__device__ __forceinline__ void prepare_held(const InputRows& in, InputScratch<kRows>& scratch, Store store,
                                             Meanwhile meanwhile) {
  const auto col = [](int j) { return (static_cast<int>(threadIdx.x) + j * static_cast<int>(blockDim.x)) * kPiece; };
  for (int row = 0; row < in.rows; ++row) {
    uint4 held[kHeld];
    float4 norm[kNorm ? 2 * kHeld : 1];
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      held[j] = make_uint4(0, 0, 0, 0);
      if (col(j) >= in.cols) continue;
      if constexpr (kGates) {
        float values[kPiece];
        load_piece<true>(in, row, col(j), values);
        held[j] = pack_bf16(values);
      } else {
        held[j] = *reinterpret_cast<const uint4*>(in.x + row * in.x_stride + col(j));
      }
      if constexpr (kNorm) {
        norm[2 * j] = *reinterpret_cast<const float4*>(in.norm + col(j));
        norm[2 * j + 1] = *reinterpret_cast<const float4*>(in.norm + col(j) + 4);
      }
    }
    if (row == 0) {
      if constexpr (kNorm && kFew) {
        const SquarePieces squares(in);
        meanwhile();
        squares.add_up(in, scratch);
      } else {
        meanwhile();
        if constexpr (kNorm) normalize_rows<kGates>(in, scratch);
      }
    }
    if constexpr (kNorm) {
      const float inverse = scratch.inverse[row];
#pragma unroll
      for (int j = 0; j < kHeld; ++j) {
        if (col(j) >= in.cols) break;
        const float4 low = norm[2 * j], high = norm[2 * j + 1];
        const float w[kPiece] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
        float values[kPiece];
        unpack_bf16(held[j], values);
#pragma unroll
        for (int i = 0; i < kPiece; ++i) values[i] = w[i] * round_bf16(values[i] * inverse);
        held[j] = pack_bf16(values);
      }
    }
    float step = in.step;
    if (in.by_token) {
      std::uint32_t bits = 0;
#pragma unroll
      for (int j = 0; j < kHeld; ++j) bits = max(bits, largest_bits(held[j]));
      step = step_of_row(in, row, bits, scratch);
    }
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      if (col(j) >= in.cols) break;
      float values[kPiece];
      unpack_bf16(held[j], values);
      if (in.codes != InputCodes::kNone) round_piece(in.codes, step, values);
      store(row, col(j), values);
    }
  }
}

// The pieces of a row that a thread can hold.
constexpr int kHeld = 5, kHeldNormed = 4;

// Whether prepare_held() takes the rows with `pieces` pieces a thread.
__device__ __forceinline__ bool are_held(const InputRows& in, int pieces) {
  return in.aligned && in.cols % kPiece == 0 && in.cols <= pieces * static_cast<int>(blockDim.x) * kPiece;
}

// prepare_rows(), by prepare_held() where a thread can hold its part.
template <bool kGates = false, int kRows, class Store>
__device__ __forceinline__ void prepare_rows_at_once(const InputRows& in, InputScratch<kRows>& scratch, Store store) {
  const auto nothing = [] {};
  if (in.codes < InputCodes::kNvfp4) {
    if (in.norm && are_held(in, kHeldNormed)) {
      return prepare_held<kGates, true, kHeldNormed, false>(in, scratch, store, nothing);
    }
    if (!in.norm && are_held(in, kHeld)) {
      return prepare_held<kGates, false, kHeld, false>(in, scratch, store, nothing);
    }
  }
  prepare_rows<kGates>(in, scratch, store);
}

// The same as a function that the compiler leaves apart.
template <int kRows, class Store>
__device__ __noinline__ void prepare_rows_apart(InputRows in, InputScratch<kRows>& scratch, Store store) {
  prepare_rows_at_once(in, scratch, store);
}

// The same where in.codes is nearly always kCodes: those are prepared here, and meanwhile() is done while the first row is on
// its way; others by prepare_rows_apart() after it. A kernel's instructions run once each, so that a token takes as long as
// reading them takes, and those that nobody needs are not to stand between those that all need (docs/performance.md).
template <InputCodes kCodes, int kRows, class Store, class Meanwhile>
__device__ __forceinline__ void prepare_usual_rows(InputRows in, InputScratch<kRows>& scratch, Store store,
                                                   Meanwhile meanwhile) {
  constexpr int kFewNormed = 2;
  if (in.codes == kCodes) {
    InputRows rows = in;
    rows.codes = kCodes;
    if (kCodes == InputCodes::kNone) rows.by_token = false;
    if (in.norm && are_held(in, kFewNormed) && SquarePieces::holds(in)) {
      return prepare_held<false, true, kFewNormed, true>(rows, scratch, store, meanwhile);
    }
    if (kCodes != InputCodes::kNone && !in.norm && are_held(in, kHeld)) {
      return prepare_held<false, false, kHeld, false>(rows, scratch, store, meanwhile);
    }
  }
  meanwhile();
  prepare_rows_apart(in, scratch, store);
}

}  // namespace halftone::cuda
