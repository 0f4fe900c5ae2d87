#include "backend/cuda/linear_prompt.h"

#include <algorithm>

#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device/fp4_products.h"
#include "backend/cuda/device/linear_prompt.h"
#include "backend/cuda/device/prompt_blocks.h"
#include "backend/cuda/library_products.h"
#include "backend/cuda/linear_arguments.h"
#include "backend/cuda/prepare_input.h"
#include "backend/cuda/prompt_way.h"

namespace halftone::cuda {
namespace {

using Form = BlasProduct::Form;

constexpr std::int64_t kUnit = 16;  // bytes at whose multiples rows begin

bool aligned(const DeviceMatrix& matrix) {
  const auto address = reinterpret_cast<std::uintptr_t>(matrix.data);
  return address % kUnit == 0 && matrix.stride * static_cast<std::int64_t>(dtype_size(matrix.dtype)) % kUnit == 0;
}

// What is asked of a product beside its weight.
struct Output {
  bool residual, spare_rows;
  bool plain = true;  // bf16 in rows that begin at kUnit
};
Output output_of(const LinearCall& call) {
  return {call.residual.data != nullptr, call.spare_rows, aligned(call.y) && call.y.dtype == DType::kBF16};
}

// True where a product whose 128 inputs have scales is y but for one factor, or for a bias that the library adds.
bool is_scaled_result(const LinearWeight& weight, PromptWay way, const Output& y) {
  const bool bias = !weight.bias || weight.plain_bias;
  return scales_blocks(way) && bias && weight.row_factor != 0 && !y.residual && y.spare_rows && y.plain;
}

PromptLayout layout_of(const LinearWeight& weight, PromptWay way, std::int64_t rows, const Output& y) {
  const bool whole = is_scaled_result(weight, way, y) || (is_result(weight, way) && !y.residual);
  return prompt_layout(weight, way, rows, !whole);
}

// One product of a prompt.
class PromptRun {
 public:
  PromptRun(const LinearWeight& weight, const LinearCall& call, const Launch& launch)
      : weight_(weight),
        way_(prompt_way(weight)),
        layout_(layout_of(weight, way_, call.x.rows, output_of(call))),
        memory_(static_cast<char*>(call.workspace)),
        launch_(launch),
        w_(library_weight()) {}

  void run(const LinearCall& call) const {
    if (is_result(weight_, way_)) {
      run_result(call);
    } else if (is_scaled_result(weight_, way_, output_of(call))) {
      multiply(call, call.y, weight_.row_factor, weight_.plain_bias);
    } else if (scales_rows(call)) {
      run_scaled_rows(call);
    } else {
      run_sums(call);
    }
  }

 private:
  template <typename T>
  T* at(std::size_t place) const {
    return reinterpret_cast<T*>(memory_ + place);
  }
  Fp4Codes w_codes() const { return {at<std::uint8_t>(layout_.w_codes), at<std::uint8_t>(layout_.w_scales)}; }

  // The weight as the library reads it.
  DeviceMatrix library_weight() const {
    const std::int64_t n = weight_.rows, k = weight_.cols;
    if (multiplies_e2m1(way_)) {
      start_pack_fp4_weight(weight_arguments(weight_), w_codes(), launch_);
      return {w_codes().codes, DType::kU8, n, k, k};
    }
    if (way_ == PromptWay::kGroups) {
      auto* codes = at<std::uint8_t>(layout_.w_codes);
      start_expand_int4(weight_arguments(weight_), codes, k, at<float>(layout_.w_scales), launch_);
      return {codes, DType::kF8E4M3, n, k, k};
    }
    if (needs_expansion(weight_, way_)) {
      auto* expanded = at<std::uint16_t>(layout_.w_codes);
      start_expand_weight(weight_arguments(weight_), expanded, expanded_stride(k), launch_);
      return {expanded, DType::kBF16, n, k, expanded_stride(k)};
    }
    const bool e4m3 = way_ == PromptWay::kE4m3 || way_ == PromptWay::kTiles;
    const DType dtype = way_ == PromptWay::kIntegers ? DType::kI8 : e4m3 ? DType::kF8E4M3 : DType::kBF16;
    return {const_cast<void*>(weight_.codes), dtype, n, k,
            weight_.row_bytes / static_cast<std::int64_t>(dtype_size(dtype))};
  }

  // y = bf16(product); or bf16(residual + bf16(product)), by way of the workspace.
  void run_result(const LinearCall& call) const {
    DeviceMatrix product = call.y;
    if (call.residual.data) product = {memory_ + layout_.product, DType::kBF16, call.y.rows, call.y.cols, call.y.cols};
    LibraryProducts::get().run(call.x, w_, product, {call.x.data, w_.data, product.data, memory_, weight_.plain_bias},
                               launch_);
    if (!call.residual.data) return;
    start_add({static_cast<const std::uint16_t*>(product.data), product.stride,
               static_cast<const std::uint16_t*>(call.residual.data), call.residual.stride,
               static_cast<std::uint16_t*>(call.y.data), call.y.stride, static_cast<int>(call.y.rows),
               static_cast<int>(call.y.cols)},
              launch_);
  }

  // True where the library scales E4M3 sums before it rounds them to y: sums need not be written.
  bool scales_rows(const LinearCall& call) const {
    const bool plain = !weight_.bias && !call.residual.data && call.y.dtype == DType::kBF16 && aligned(call.y);
    if (way_ != PromptWay::kE4m3 || !plain) return false;
    return call.x_scales ? LibraryProducts::get().has(Form::kScaled, weight_.rows, weight_.cols)
                         : weight_.row_product != 0;
  }

  void run_scaled_rows(const LinearCall& call) const {
    BlasProduct::Operands operands{call.x.data, w_.data, call.y.data, memory_};
    if (call.x_scales) {
      operands.x_scales = call.x_scales;
      operands.w_scales = weight_.row_products;
    } else {
      operands.scale = weight_.row_product;
    }
    LibraryProducts::get().run(call.x, w_, call.y, operands, launch_, call.x_scales ? Form::kScaled : Form::kPlain);
  }

  // y by way of sums.
  void run_sums(const LinearCall& all) const {
    const DType dtype = way_ == PromptWay::kIntegers ? DType::kI32 : DType::kF32;
    const std::int64_t scales = input_scale_count(weight_.input.kind, weight_.cols);
    for (std::int64_t begin = 0; begin < all.x.rows; begin += kMostSummedRows) {
      const std::int64_t end = std::min(begin + kMostSummedRows, all.x.rows);
      LinearCall call = all;
      call.x = rows_of(all.x, begin, end);
      call.y = rows_of(all.y, begin, end);
      if (all.residual.data) call.residual = rows_of(all.residual, begin, end);
      if (all.x_scales) call.x_scales = all.x_scales + begin * scales;
      const DeviceMatrix sums{memory_ + layout_.product, dtype, end - begin, weight_.rows, weight_.rows};
      multiply(call, sums);
      LinearArguments arguments = linear_arguments(weight_, call);
      if (scales_blocks(way_)) arguments.x_scales = nullptr;  // they are in the product
      start_finish_sums(arguments, sums.data, launch_);
    }
  }

  // y = scale times the product of codes, with the scales of groups where the product has them, and a bias in bf16 or none.
  void multiply(const LinearCall& call, const DeviceMatrix& y, float scale = 1.0f, const void* bias = nullptr) const {
    if (multiplies_e2m1(way_)) return multiply_e2m1(call, y);
    DeviceMatrix x = call.x;
    BlasProduct::Operands operands{x.data, w_.data, y.data, memory_, bias, scale};
    if (!scales_blocks(way_)) return LibraryProducts::get().run(x, w_, y, operands, launch_);
    x.rows = product_rows(way_, x.rows);
    auto* x_scales = at<float>(layout_.x_scales);
    start_spread_input_scales(
        {call.x_scales, scales_groups(weight_.input.kind), x_scales, static_cast<int>(call.x.rows),
         static_cast<int>(x.rows), static_cast<int>(input_groups(weight_.cols))},
        launch_);
    const bool tiles = way_ == PromptWay::kTiles;
    operands.x_scales = x_scales;
    operands.w_scales = tiles ? weight_.tile_scales : at<const float>(layout_.w_scales);
    LibraryProducts::get().run(x, w_, y, operands, launch_, tiles ? Form::kTiles : Form::kGroups);
  }

  void multiply_e2m1(const LinearCall& call, const DeviceMatrix& sums) const {
    const Fp4Codes codes{at<std::uint8_t>(layout_.x_codes), at<std::uint8_t>(layout_.x_scales)};
    const auto m = static_cast<int>(call.x.rows), n = static_cast<int>(weight_.rows),
               k = static_cast<int>(weight_.cols);
    const bool mx = way_ == PromptWay::kMxfp4;
    start_pack_fp4_inputs({static_cast<const std::uint16_t*>(call.x.data), call.x.stride, m, k, mx, codes}, launch_);
    if (mx) return start_mxfp4_product({codes, w_codes(), static_cast<float*>(sums.data), m, n, k}, launch_);
    BlasProduct::Operands operands{codes.codes, w_.data, sums.data, memory_};
    operands.x_scales = codes.scales;
    operands.w_scales = w_codes().scales;
    LibraryProducts::get().run({codes.codes, DType::kU8, m, k, k}, w_, sums, operands, launch_, Form::kFp4);
  }

  const LinearWeight& weight_;
  PromptWay way_;
  PromptLayout layout_;
  char* memory_;
  const Launch& launch_;
  DeviceMatrix w_;
};

}  // namespace

std::size_t linear_prompt_workspace(const LinearWeight& weight, std::int64_t rows, bool residual, bool spare_rows) {
  return layout_of(weight, prompt_way(weight), rows, {residual, spare_rows}).end;
}

DType linear_prompt_input(const LinearWeight& weight) {
  const PromptWay way = prompt_way(weight);
  if (way == PromptWay::kIntegers) return DType::kI8;
  return way == PromptWay::kE4m3 || scales_blocks(way) ? DType::kF8E4M3 : DType::kBF16;
}

bool linear_prompt_supports(const LinearWeight& weight, const LinearCall& call) {
  const PromptWay way = prompt_way(weight);
  const bool product_is_y = is_result(weight, way);
  return BlasProduct::available() && !call.silu_mul && call.prompt && aligned(call.x) &&
         call.x.dtype == linear_prompt_input(weight) &&
         (!scales_groups(weight.input.kind) || (call.x_scales != nullptr) == scales_blocks(way)) &&
         call.workspace_bytes >= layout_of(weight, way, call.x.rows, output_of(call)).end &&
         (!product_is_y || (aligned(call.y) && (call.y.dtype == DType::kBF16 || !weight.plain_bias))) &&
         // of matrices in the workspace rows begin at such multiples only for such N
         (weight.rows % 8 == 0 || (product_is_y && !call.residual.data));
}

void run_linear_prompt(const LinearWeight& weight, const LinearCall& call, const Launch& launch) {
  PromptRun(weight, call, launch).run(call);
}

}  // namespace halftone::cuda
