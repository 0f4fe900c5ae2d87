#pragma once
// The small kernels of a vision tower, by raw pointers. Numbers are bf16 unless a type says otherwise; strides are in elements;
// rows begin at multiples of 16 bytes, and columns are multiples of 8.

#include <cstdint>

#include "backend/cuda/launch.h"

namespace halftone::cuda {

constexpr int kMostNormCols = 2048;

struct LayerNormArguments {
  std::uint16_t* x;            // [rows, cols]
  const std::uint16_t* added;  // [rows, cols] or null: x = x + added first
  std::int64_t x_stride, added_stride;
  const float *weight, *bias;  // [cols]
  float eps;
  std::uint16_t* y;  // [rows, cols]
  std::int64_t y_stride;
  int rows, cols;
};
void start_layer_norm(const LayerNormArguments& arguments, const Launch& launch);

enum class Activation : int { kQuickGelu, kGeluErf };
struct ActivateArguments {
  std::uint16_t* x;  // [rows, cols], in place
  std::int64_t stride;
  Activation activation;
  int rows, cols;
};
void start_activate(const ActivateArguments& arguments, const Launch& launch);

struct RotateHeadsArguments {
  std::uint16_t* x;  // [rows, heads head_dim], in place
  std::int64_t stride;
  const float *cos, *sin;  // [rows, head_dim / 2]
  int rows, heads, head_dim;
};
void start_rotate_heads(const RotateHeadsArguments& arguments, const Launch& launch);

struct RoundRowsArguments {
  const float* x;  // [rows, cols]
  std::int64_t x_stride;
  std::uint16_t* y;  // [rows, cols]
  std::int64_t y_stride;
  int rows, cols;
};
void start_round_rows(const RoundRowsArguments& arguments, const Launch& launch);

}  // namespace halftone::cuda
