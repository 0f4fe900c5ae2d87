#pragma once
// The table of kernels for linear(): one row {name, supports(), pack()} a kernel, best first, the reference last.
// A row packs a weight into its own layout; what it returns runs the product.

#include <limits>
#include <span>

#include "ops/linear.h"

namespace halftone {

// True where s_in differs from token to token.
constexpr bool scales_tokens(InputQuant::Kind kind) {
  return kind == InputQuant::Kind::kDynamicInt8 || kind == InputQuant::Kind::kDynamicE4M3;
}
constexpr bool is_int8(InputQuant::Kind kind) {
  return kind == InputQuant::Kind::kStaticInt8 || kind == InputQuant::Kind::kDynamicInt8;
}

// Consecutive inputs of a token under one scale: the unit in which its codes are made.
constexpr std::int64_t input_block(InputQuant::Kind kind) {
  switch (kind) {
    case InputQuant::Kind::kDynamicE4M3Group:
      return 128;
    case InputQuant::Kind::kDynamicMxfp8:
    case InputQuant::Kind::kDynamicMxfp4:
      return 32;
    default:
      return 16;
  }
}

// The scale of a token whose largest magnitude is amax; NaN for a token that is not finite. Source: compressed-tensors
// calculate_qparams.
inline float token_scale(InputQuant::Kind kind, float amax) {
  constexpr float kLeast = 0x1p-23f;  // for a token of zeros
  if (!(amax <= std::numeric_limits<float>::max())) return std::numeric_limits<float>::quiet_NaN();
  const float scale = amax / (is_int8(kind) ? 127.5f : 448.0f);
  return scale == 0 ? kLeast : scale;
}

// Matrices that share one input, seen as one matrix of all their rows.
struct LinearSource {
  std::span<const QTensor> weights;
  std::span<const Tensor> biases;  // empty, or one for each weight; an undefined one is zero
  InputQuant input;

  const QuantSpec& spec() const { return weights[0].spec; }
  std::int64_t cols() const { return weights[0].cols(); }
  std::int64_t rows() const {
    std::int64_t sum = 0;
    for (const QTensor& weight : weights) sum += weight.rows();
    return sum;
  }
  // bias[row] of one part.
  float bias(std::size_t part, std::int64_t row) const {
    return biases.empty() || !biases[part].defined() ? 0.0f : biases[part].data<float>()[row];
  }
  // s_in * global_scale of one part, rounded once; without s_in where every token has its own.
  float factor(std::size_t part) const {
    const bool known = input.kind != InputQuant::Kind::kNone && !scales_tokens(input.kind);
    return (known ? input.step() : 1.0f) * weights[part].global_factor();
  }
};

struct LinearKernel {
  std::string_view name;
  bool (*supports)(const QuantSpec& spec, const InputQuant& input);
  std::shared_ptr<const PackedLinear> (*pack)(const LinearSource& source, Stream& stream);
};

// The rows of the CPU, without the reference.
std::span<const LinearKernel> linear_kernels_cpu();
// The last row.
const LinearKernel& linear_kernel_reference();

// True where the contract asks for an exact int32 inner sum.
inline bool sums_integers(const QuantSpec& spec, const InputQuant& input) {
  return spec.element == Element::kInt8 && is_int8(input.kind) && !spec.asymmetric;
}

// Consecutive k under one scale.
inline std::int64_t scale_group(const QuantSpec& spec, std::int64_t cols) {
  const bool grouped = spec.granularity == Granularity::kGroup || spec.granularity == Granularity::kTile;
  return grouped ? spec.group : cols;
}

// Quantizes one row of `cols` values as `input` says and gives its s_in; out may be x.
float quantize_row_reference(const float* x, std::int64_t cols, const InputQuant& input, float* out);

}  // namespace halftone
