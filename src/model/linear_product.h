#pragma once
// One linear layer as it is stored, or several that share their input, run as one product:
//   x' = x * input_scales                          where a layer scales its inputs (AWQ, SVDQuant)
//   y = linear(x'[:, input_order]) + B (A x')      where it reorders them (GPTQ), where it has a low-rank part
//   (SVDQuant)

#include <memory>
#include <span>

#include "hf/checkpoint.h"
#include "model/run_context.h"
#include "ops/linear.h"

namespace halftone {

class LinearProduct {
 public:
  // Biases must be f32. Several parts must pass can_fuse(). Throws Error("[linear] ...") when the shapes of what
  // surrounds the weight do not fit it.
  LinearProduct(std::span<const LinearParts> parts, Stream& stream);

  // True for parts with one format and one quantization of their input, and with nothing around the weight.
  static bool can_fuse(std::span<const LinearParts> parts);

  std::int64_t outputs() const { return packed_->rows(); }
  // x: [tokens, inputs], y: [tokens, outputs] f32.
  void forward(const Tensor& x, Tensor& y, RunContext run) const;
  std::int64_t nbytes() const;
  // False where inputs are quantized but multiplied as f32.
  bool native() const { return packed_->input().kind == InputQuant::Kind::kNone || packed_->native(); }

 private:
  Tensor prepare_input(const Tensor& x, RunContext run) const;
  void add_low_rank(const Tensor& x, Tensor& y, RunContext run) const;

  std::shared_ptr<const PackedLinear> packed_;
  Tensor input_scales_, input_order_;                            // [inputs] f32, i32, or undefined
  std::shared_ptr<const PackedLinear> low_rank_a_, low_rank_b_;  // or null
};

}  // namespace halftone
