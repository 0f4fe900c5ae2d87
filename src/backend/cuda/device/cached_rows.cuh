#pragma once
// How the keys and values of a cache lie in shared memory and become operands of the matrix units, when the newest tokens
// attend: one struct a format. Lane 4 r + t of a warp holds the queries of head r, of 16 keys those 8 b + 2 t + i, and results
// of head r.
//
// Element: of the cache.  kStride: elements from row to row, eight rows of which lie in different banks.
// load_queries(): the words of multiply_keys().  multiply_keys(): products += queries x 16 keys.  add_values(): out = factor out +
// weights x 16 values.  store(): a head's results in the order of their dimensions.  copy(): a warp starts the copies of 16 rows.
// append(): eight elements of the newest key or value, among the others and into the cache.

#include "backend/cuda/device/attention_mma.cuh"
#include "backend/cuda/device/kv_codes.cuh"

namespace halftone::cuda {

constexpr int kUnitKeys = 16;  // that the matrix units take at once

// Starts a warp's copies of kUnitKeys rows of up to kDim elements, of which the first `rows` are there; the others are zeros.
template <int kDim, int kStride, class Element>
__device__ __forceinline__ void copy_unit(Element* shared, const Element* source, int rows, int head_dim) {
  constexpr int kPiece = 16 / static_cast<int>(sizeof(Element)), kPieces = kDim / kPiece;
  const int lane = threadIdx.x % 32;
  if (32 % kPieces == 0 && rows >= kUnitKeys && head_dim == kDim) {  // addresses are constants apart
    constexpr int kRowsAtOnce = 32 / kPieces;
    const int row = lane / kPieces, col = lane % kPieces * kPiece;
#pragma unroll
    for (int i = 0; i < kUnitKeys; i += kRowsAtOnce) {
      copy_async(shared + row * kStride + col + i * kStride, source + row * kDim + col + i * kDim, true);
    }
    return;
  }
#pragma unroll 1
  for (int i = lane; i < kUnitKeys * kPieces; i += 32) {
    const int row = i / kPieces, col = i % kPieces * kPiece;
    const bool there = row < rows && col < head_dim;
    copy_async(shared + row * kStride + col, there ? source + row * head_dim + col : source, there);
  }
}

// factor old + the sum of both halves of a product: those with rounded weights, and with what rounding left.
__device__ __forceinline__ void add_halves(float (&out)[2], float factor, const float (&halves)[4]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) out[i] = fmaf(out[i], factor, halves[i] + halves[i + 2]);
}

// Of the sums of a product those of the eight queries; the rows below them are zeros.
__device__ __forceinline__ void add_queries(float (&sums)[2][4], const float (&more)[2][4]) {
#pragma unroll
  for (int b = 0; b < 2; ++b) {
#pragma unroll
    for (int i = 0; i < 2; ++i) sums[b][i] += more[b][i];
  }
}

template <int kDim>
struct Bf16Cached {
  using Element = std::uint16_t;
  using Rows = SharedRows<kDim>;
  static constexpr int kStride = Rows::kStride;
  static constexpr bool kScaled = false;
  // Results of a lane: of the dimensions 8 b + 2 t and the next one.
  using Results = float[kDim / 8][2];
  using Queries = std::uint32_t[kDim / 16][2];

  // shared: eight queries
  static __device__ __forceinline__ void load_queries(const std::uint16_t* shared, Queries& queries) {
    const int lane = threadIdx.x % 32;
    const std::uint16_t* own = shared + lane / 4 * Rows::kStride + lane % 4 * 2;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      queries[k][0] = *reinterpret_cast<const std::uint32_t*>(own + k * 16);
      queries[k][1] = *reinterpret_cast<const std::uint32_t*>(own + k * 16 + 8);
    }
  }

  static __device__ __forceinline__ void multiply_keys(const Element* keys, const Queries& queries,
                                                       float (&products)[2][4], std::uint32_t&) {
    const int lane = threadIdx.x % 32;
    const Element* own = keys + (lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 8;
    // even and odd steps apart: two short chains instead of a long one
    float odd[2][4] = {};
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      const std::uint32_t rows[4] = {queries[k][0], 0, queries[k][1], 0};
      std::uint32_t words[4];
      load_matrices(words, own + k * 16);
      float(&sums)[2][4] = k % 2 == 0 ? products : odd;
      multiply_bf16(sums[0], rows, words[0], words[1]);
      multiply_bf16(sums[1], rows, words[2], words[3]);
    }
    add_queries(products, odd);
  }

  static __device__ __forceinline__ void add_values(const Element* values, const std::uint32_t (&pairs)[4],
                                                    float factor, Results& out, std::uint32_t&) {
    const int lane = threadIdx.x % 32;
    const Element* own = values + lane % 16 * kStride + lane / 16 * 8;
#pragma unroll
    for (int b = 0; b < kDim / 8; b += 2) {
      std::uint32_t words[4];
      load_transposed(words, own + b * 8);
      float halves[2][4] = {};
      multiply_bf16(halves[0], pairs, words[0], words[1]);
      multiply_bf16(halves[1], pairs, words[2], words[3]);
      add_halves(out[b], factor, halves[0]);
      add_halves(out[b + 1], factor, halves[1]);
    }
  }

  static __device__ __forceinline__ void store(const Results& out, float* head) {
    const int part = threadIdx.x % 4;
#pragma unroll
    for (int b = 0; b < kDim / 8; ++b) {
      *reinterpret_cast<float2*>(head + b * 8 + part * 2) = make_float2(out[b][0], out[b][1]);
    }
  }

  static __device__ __forceinline__ void copy(Element* shared, const Element* source, int rows, int head_dim) {
    copy_unit<kDim, kStride>(shared, source, rows, head_dim);
  }

  static __device__ __forceinline__ void append(const uint4& elements, float, Element* shared, Element* cached) {
    *reinterpret_cast<uint4*>(shared) = elements;
    *reinterpret_cast<uint4*>(cached) = elements;
  }

  static __device__ __forceinline__ float scale(const float*, int) { return 1.0f; }
};

// Codes are multiplied as bf16, which holds them exactly; the scale multiplies the sums. Four lanes hold 16 codes of a key in
// the order of its dimensions, four a lane: the queries lie alike. Of the values a lane holds two dimensions side by side, so
// that one product gives the even ones of 16 and the next the odd ones.
template <int kDim, class Codes>
struct CachedCodes {
  using Element = std::uint8_t;
  static constexpr int kStride = kDim + 16;
  static constexpr bool kScaled = true;
  static_assert(kDim % 32 == 0, "32 codes of a row are loaded at once");
  // Of the dimensions 16 p + 4 t + 2 i in out[2 p], of those after them in out[2 p + 1].
  using Results = float[kDim / 8][2];
  using Queries = std::uint32_t[kDim / 16][2];

  static __device__ __forceinline__ void load_queries(const std::uint16_t* shared, Queries& queries) {
    const int lane = threadIdx.x % 32;
    const std::uint16_t* own = shared + lane / 4 * SharedRows<kDim>::kStride + lane % 4 * 4;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      const uint2 words = *reinterpret_cast<const uint2*>(own + k * 16);
      queries[k][0] = words.x;
      queries[k][1] = words.y;
    }
  }

  static __device__ __forceinline__ void multiply_keys(const Element* keys, const Queries& queries,
                                                       float (&products)[2][4], std::uint32_t& nan) {
    const int lane = threadIdx.x % 32;
    const Element* own = keys + (lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 16;
    float odd[2][4] = {};
#pragma unroll
    for (int k = 0; k < kDim / 16; k += 2) {
      std::uint32_t codes[4];  // of the keys 0 .. 7 two steps, of 8 .. 15 two steps
      load_matrices(codes, reinterpret_cast<const std::uint16_t*>(own + k * 16));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int step = k + i % 2;
        const std::uint32_t rows[4] = {queries[step][0], 0, queries[step][1], 0};
        multiply_bf16(i % 2 == 0 ? products[i / 2] : odd[i / 2], rows, Codes::template pair<0, 1>(codes[i]),
                      Codes::template pair<2, 3>(codes[i]));
        nan |= Codes::find_nan(codes[i]);
      }
    }
    add_queries(products, odd);
  }

  static __device__ __forceinline__ void add_values(const Element* values, const std::uint32_t (&pairs)[4],
                                                    float factor, Results& out, std::uint32_t& nan) {
    const int lane = threadIdx.x % 32;
    const Element* own = values + lane % 16 * kStride + lane / 16 * 16;
#pragma unroll
    for (int b = 0; b < kDim / 8; b += 4) {
      std::uint32_t codes[4];  // of 16 dimensions the keys 0 .. 7, 8 .. 15; then of the next 16
      load_transposed(codes, reinterpret_cast<const std::uint16_t*>(own + b * 8));
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::uint32_t low = codes[2 * i], high = codes[2 * i + 1];
        float halves[2][4] = {};
        multiply_bf16(halves[0], pairs, Codes::template pair<0, 2>(low), Codes::template pair<0, 2>(high));
        multiply_bf16(halves[1], pairs, Codes::template pair<1, 3>(low), Codes::template pair<1, 3>(high));
        add_halves(out[b + 2 * i], factor, halves[0]);
        add_halves(out[b + 2 * i + 1], factor, halves[1]);
        nan |= Codes::find_nan(low) | Codes::find_nan(high);
      }
    }
  }

  static __device__ __forceinline__ void store(const Results& out, float* head) {
    const int part = threadIdx.x % 4;
#pragma unroll
    for (int p = 0; p < kDim / 16; ++p) {
      const float(&even)[2] = out[2 * p], (&odd)[2] = out[2 * p + 1];
      *reinterpret_cast<float4*>(head + p * 16 + part * 4) = make_float4(even[0], odd[0], even[1], odd[1]);
    }
  }

  static __device__ __forceinline__ void copy(Element* shared, const Element* source, int rows, int head_dim) {
    copy_unit<kDim, kStride>(shared, source, rows, head_dim);
  }

  static __device__ __forceinline__ void append(const uint4& elements, float scale, Element* shared, Element* cached) {
    const uint2 codes =
        make_uint2(pack_codes<Codes>(elements.x, elements.y, scale), pack_codes<Codes>(elements.z, elements.w, scale));
    *reinterpret_cast<uint2*>(shared) = codes;
    *reinterpret_cast<uint2*>(cached) = codes;
  }

  static __device__ __forceinline__ float scale(const float* scales, int kv_head) { return scales[kv_head]; }
};
template <int kDim>
using E4m3Cached = CachedCodes<kDim, E4m3Codes>;
template <int kDim>
using Int8Cached = CachedCodes<kDim, Int8Codes>;

}  // namespace halftone::cuda
