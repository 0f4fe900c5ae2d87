#pragma once
// The table of kernels for linear(): one row {name, supports(), pack()} a kernel, best first, the reference last.
// A row packs a weight into its own layout; what it returns runs the product.

#include <span>

#include "ops/linear.h"

namespace halftone {

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
  // s_in * global_scale of one part, rounded once.
  float factor(std::size_t part) const {
    return (input.kind == InputQuant::Kind::kNone ? 1.0f : input.scale) * weights[part].global_scale;
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
  return spec.element == Element::kInt8 && input.kind == InputQuant::Kind::kStaticInt8;
}

// Consecutive k under one scale.
inline std::int64_t scale_group(const QuantSpec& spec, std::int64_t cols) {
  return spec.granularity == Granularity::kGroup ? spec.group : cols;
}

// Quantizes one row of `cols` values as `input` says; out may be x.
void quantize_row_reference(const float* x, std::int64_t cols, const InputQuant& input, float* out);

}  // namespace halftone
