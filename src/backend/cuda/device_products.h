#pragma once
// Products on one input as model/linear_product.h has them, on the device: norm, scales and order of the inputs, their
// quantization, the weights, low-rank parts, and the outputs of several weights side by side.

#include <vector>

#include "backend/cuda/linear.h"
#include "ops/device_model.h"

namespace halftone::cuda {

// Buffers that the products of a model share, one after another.
class ProductBuffers {
 public:
  struct Sizes {
    std::int64_t rows = 0;  // tokens of a call, at most
    // Inputs of a product, at most: that are normalized apart, that are scaled or reordered, that are prepared; and the rank
    // of its low-rank part. 0: there is none.
    std::int64_t normed = 0, arranged = 0, codes = 0, rank = 0;
    std::int64_t wide = 0;         // elements of a call's outputs, at most
    std::int64_t scales = 1;       // of a token's inputs, at most
    std::size_t prompt_bytes = 0;  // linear_prompt_workspace() of the largest product
  };
  static std::size_t bytes(const Sizes& sizes);
  ProductBuffers(const Sizes& sizes, DeviceArena& arena);

  // [rows, cols] of a buffer.
  DeviceMatrix normed(std::int64_t rows, std::int64_t cols) const { return matrix(normed_, DType::kBF16, rows, cols); }
  DeviceMatrix arranged(std::int64_t rows, std::int64_t cols) const {
    return matrix(arranged_, DType::kBF16, rows, cols);
  }
  DeviceMatrix codes(DType dtype, std::int64_t rows, std::int64_t cols) const {
    return matrix(codes_, dtype, rows, cols);
  }
  // What silu_mul() reads.
  DeviceMatrix wide(std::int64_t rows, std::int64_t cols) const { return matrix(wide_, DType::kBF16, rows, cols); }
  DeviceMatrix rank(std::int64_t rows, std::int64_t cols) const { return matrix(rank_, DType::kBF16, rows, cols); }
  float* scales() const { return scales_; }
  void* prompt() const { return prompt_; }
  std::size_t prompt_bytes() const { return sizes_.prompt_bytes; }

 private:
  // Rows begin at multiples of 16 bytes.
  static DeviceMatrix matrix(void* data, DType dtype, std::int64_t rows, std::int64_t cols) {
    return {data, dtype, rows, cols, (cols + 15) / 16 * 16};
  }

  Sizes sizes_;
  void *normed_ = nullptr, *arranged_ = nullptr, *codes_ = nullptr, *wide_ = nullptr, *rank_ = nullptr;
  float* scales_ = nullptr;
  void* prompt_ = nullptr;
};

class DeviceProducts {
 public:
  DeviceProducts() = default;
  // codes: as upload_linear() has it, for a source of one weight. Throws Error for formats that no kernel reads.
  DeviceProducts(const DeviceProductsSource& source, DeviceArena& weights, DeviceUploader& uploader,
                 const void* codes = nullptr);

  struct Call {
    DeviceMatrix x;               // [M, inputs] bf16
    const float* norm = nullptr;  // [inputs]: RMSNorm of x first; null: none
    float eps = 0.0f;
    DeviceMatrix y;  // [M, outputs] bf16, or f32 without residual and low-rank part
    // [M, outputs] bf16, or without data: y = bf16(residual + bf16(product)). It may be y itself.
    DeviceMatrix residual;
    bool silu_mul = false;    // y: [M, outputs / 2], what silu_mul() makes of the product
    bool prompt = false;      // by the kernels of a prompt, else by those of decoding, for M of up to kDecodeTokens
    bool spare_rows = false;  // as LinearCall has it
    // x: [M, 2 inputs], gates before values, and silu_mul() of them is multiplied: where prepares_gates(), in prompts.
    bool gates = false;
  };
  // The order of every sum hangs on the weights and on `prompt` alone, not on M.
  void run(const Call& call, const ProductBuffers& buffers, const Launch& launch) const;

  // True where silu_mul() is better made when the input is quantized than before.
  bool prepares_gates() const;

  std::int64_t inputs() const { return parts_.front().weight.cols; }
  // What calls have.
  struct Use {
    bool norm = false, residual = false, silu_mul = false, spare_rows = false;
    bool prompts = true;  // false: steps of decoding alone
  };
  // Widens `sizes` so that calls of up to sizes.rows tokens fit.
  void reserve(const Use& use, ProductBuffers::Sizes& sizes) const;

 private:
  struct Part {
    LinearWeight weight;
    const float* input_scales = nullptr;
    const std::int32_t* input_order = nullptr;
    LinearWeight low_rank_a, low_rank_b;
    bool has_low_rank = false;
    bool arranges() const { return input_scales || input_order; }
  };

  // Whether the norm is made by the one part that there is, with its quantization.
  bool normalizes_on_the_way() const;
  // What every part reads: x, or its norm where that is not made by the part itself.
  DeviceMatrix shared_input(const Call& call, const ProductBuffers& buffers, const Launch& launch) const;
  void run_part(const Part& part, const Call& call, const DeviceMatrix& x, bool normalize, const DeviceMatrix& y,
                const DeviceMatrix& residual, const ProductBuffers& buffers, const Launch& launch) const;
  bool fuses_silu(const Call& call) const;

  std::vector<Part> parts_;
  std::int64_t outputs_ = 0;
};

}  // namespace halftone::cuda
