#include "backend/cuda/device_products.h"

#include <algorithm>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/decode_ops.h"
#include "backend/cuda/linear_prompt.h"
#include "backend/cuda/prepare_input.h"
#include "backend/cuda/prompt_way.h"
#include "base/rounding.h"

namespace halftone::cuda {
namespace {

constexpr std::string_view kWhere = "cuda products";

// A factor of a low-rank part as a plain bf16 product.
LinearWeight upload_factor(const Tensor& factor, DeviceArena& arena, DeviceUploader& uploader) {
  const QTensor weight = wrap_unquantized(from_f32(to_f32(factor), DType::kBF16));
  const Tensor no_bias;
  return upload_linear({{&weight, 1}, {&no_bias, 1}, {}}, arena, uploader);
}

// By a kernel that M does not choose.
void run_product(const LinearWeight& weight, const LinearCall& call, const Launch& launch) {
  if (!call.prompt) return linear(weight, call, launch);
  linear(weight, call, launch, linear_prompt_supports(weight, call) ? "cublas" : "any");
}

std::int64_t padded_cols(std::int64_t cols) { return round_up(cols, 16); }

std::size_t matrix_bytes(std::int64_t rows, std::int64_t cols) {
  return DeviceArena::padded(static_cast<std::size_t>(rows * padded_cols(cols)) * sizeof(std::uint16_t));
}

}  // namespace

std::size_t ProductBuffers::bytes(const Sizes& sizes) {
  return matrix_bytes(sizes.rows, sizes.normed) + matrix_bytes(sizes.rows, sizes.arranged) +
         matrix_bytes(sizes.rows, sizes.codes) + matrix_bytes(1, sizes.wide) + matrix_bytes(sizes.rows, sizes.rank) +
         DeviceArena::padded(static_cast<std::size_t>(sizes.rows * sizes.scales) * 4) +
         DeviceArena::padded(sizes.prompt_bytes);
}

ProductBuffers::ProductBuffers(const Sizes& sizes, DeviceArena& arena) : sizes_(sizes) {
  normed_ = arena.allocate(matrix_bytes(sizes.rows, sizes.normed));
  arranged_ = arena.allocate(matrix_bytes(sizes.rows, sizes.arranged));
  codes_ = arena.allocate(matrix_bytes(sizes.rows, sizes.codes));
  wide_ = arena.allocate(matrix_bytes(1, sizes.wide));
  rank_ = arena.allocate(matrix_bytes(sizes.rows, sizes.rank));
  scales_ = arena.allocate<float>(static_cast<std::size_t>(sizes.rows * sizes.scales));
  prompt_ = arena.allocate(sizes.prompt_bytes);
}

DeviceProducts::DeviceProducts(const DeviceProductsSource& source, DeviceArena& weights, DeviceUploader& uploader,
                               const void* codes) {
  for (const DeviceLinearSource& from : source) {
    Part part;
    part.weight = upload_linear({from.weights, from.biases, from.input}, weights, uploader, codes, from.names);
    part.input_scales = uploader.upload_floats(from.input_scales, weights);
    part.input_order = static_cast<const std::int32_t*>(uploader.upload(from.input_order, weights));
    part.has_low_rank = from.low_rank_a.defined();
    if (part.has_low_rank) {
      // the low-rank part reads inputs in their own order
      require(!part.input_order, kWhere, "a low-rank part beside reordered inputs is not supported");
      part.low_rank_a = upload_factor(from.low_rank_a, weights, uploader);
      part.low_rank_b = upload_factor(from.low_rank_b, weights, uploader);
    }
    outputs_ += part.weight.rows;
    parts_.push_back(part);
  }
}

void DeviceProducts::reserve(const Use& use, ProductBuffers::Sizes& sizes) const {
  if (use.norm && !normalizes_on_the_way()) sizes.normed = std::max(sizes.normed, inputs());
  if (use.silu_mul) sizes.wide = std::max(sizes.wide, round_up(sizes.rows, kBlockRows) * padded_cols(outputs_));
  for (const Part& part : parts_) {
    if (part.arranges()) sizes.arranged = std::max(sizes.arranged, inputs());
    if (use.norm || part.weight.input.kind != InputQuant::Kind::kNone) sizes.codes = std::max(sizes.codes, inputs());
    sizes.scales = std::max(sizes.scales, input_scale_count(part.weight.input.kind, part.weight.cols));
    if (part.has_low_rank) sizes.rank = std::max(sizes.rank, part.low_rank_a.rows);
    if (!use.prompts) continue;
    const auto widen = [&](const LinearWeight& weight, bool residual, bool spare_rows = false) {
      sizes.prompt_bytes =
          std::max(sizes.prompt_bytes, linear_prompt_workspace(weight, sizes.rows, residual, spare_rows));
    };
    widen(part.weight, use.residual, use.spare_rows);
    if (!part.has_low_rank) continue;
    widen(part.low_rank_a, false);
    widen(part.low_rank_b, true);  // which is added to the product before it
  }
}

bool DeviceProducts::normalizes_on_the_way() const {
  return parts_.size() == 1 && !parts_[0].arranges() && !parts_[0].has_low_rank;
}

bool DeviceProducts::prepares_gates() const {
  return parts_.size() == 1 && !parts_[0].arranges() && !parts_[0].has_low_rank &&
         parts_[0].weight.input.kind != InputQuant::Kind::kNone;
}

bool DeviceProducts::fuses_silu(const Call& call) const {
  return !call.prompt && parts_.size() == 1 && !parts_[0].has_low_rank && parts_[0].weight.rows % 16 == 0 &&
         linear_decodes(parts_[0].weight);
}

DeviceMatrix DeviceProducts::shared_input(const Call& call, const ProductBuffers& buffers, const Launch& launch) const {
  if (!call.norm || normalizes_on_the_way()) return call.x;
  const DeviceMatrix normed = buffers.normed(call.x.rows, call.x.cols);
  prepare_input({call.x, call.norm, call.eps, {}, normed, nullptr}, launch);
  return normed;
}

void DeviceProducts::run(const Call& call, const ProductBuffers& buffers, const Launch& launch) const {
  const DeviceMatrix x = shared_input(call, buffers, launch);
  const bool normalize = call.norm && x.data == call.x.data;
  const bool apart = call.silu_mul && !fuses_silu(call);
  const DeviceMatrix y = apart ? buffers.wide(call.x.rows, outputs_) : call.y;
  std::int64_t begin = 0;
  for (const Part& part : parts_) {
    const std::int64_t end = begin + (call.silu_mul && !apart ? y.cols : part.weight.rows);
    run_part(part, call, x, normalize, columns_of(y, begin, end), columns_of(call.residual, begin, end), buffers,
             launch);
    begin = end;
  }
  if (apart) silu_mul(y, call.y, launch);
}

void DeviceProducts::run_part(const Part& part, const Call& call, const DeviceMatrix& x, bool normalize,
                              const DeviceMatrix& y, const DeviceMatrix& residual, const ProductBuffers& buffers,
                              const Launch& launch) const {
  const bool prompt = call.prompt && BlasProduct::available();
  DeviceMatrix input = x;
  if (part.arranges()) {
    input = buffers.arranged(x.rows, x.cols);
    arrange_input({x, part.input_scales, part.input_order, input}, launch);
  }
  DeviceMatrix codes = input;
  const bool quantizes = part.weight.input.kind != InputQuant::Kind::kNone;
  const bool prepares = normalize || quantizes;
  const bool on_the_way = prepares && !call.prompt && linear_prepares(part.weight, input);
  const InputQuant::Kind kind = part.weight.input.kind;
  // cuBLASLt's E4M3 products take scales of groups apart, its bf16 ones do not
  const bool apart = !prompt || linear_prompt_input(part.weight) == DType::kF8E4M3;
  const bool scales = (scales_tokens(kind) && !on_the_way) || (scales_groups(kind) && apart);
  if (prepares && !on_the_way) {
    const bool decodes = !call.prompt && x.rows <= kDecodeTokens;
    const DType dtype = !quantizes                          ? DType::kBF16
                        : prompt                            ? linear_prompt_input(part.weight)
                        : decodes                           ? linear_decode_input(part.weight)
                        : part.weight.multiplies_integers() ? DType::kI8
                                                            : DType::kBF16;
    codes = buffers.codes(dtype, x.rows, part.weight.cols);
    prepare_input({input, normalize ? call.norm : nullptr, call.eps, part.weight.input, codes,
                   scales ? buffers.scales() : nullptr, call.gates},
                  launch);
  }
  LinearCall product;
  product.x = codes;
  product.prepares = on_the_way;
  product.norm = on_the_way && normalize ? call.norm : nullptr;
  product.eps = call.eps;
  product.x_scales = scales ? buffers.scales() : nullptr;
  product.y = y;
  product.residual = residual;
  product.silu_mul = call.silu_mul && fuses_silu(call);
  product.workspace = buffers.prompt();
  product.workspace_bytes = buffers.prompt_bytes();
  product.prompt = call.prompt;
  product.spare_rows = call.spare_rows || (call.silu_mul && !fuses_silu(call));  // then y is ProductBuffers::wide()
  run_product(part.weight, product, launch);
  if (!part.has_low_rank) return;
  product.x = input;
  product.prepares = false;
  product.norm = nullptr;
  product.x_scales = nullptr;
  product.y = buffers.rank(x.rows, part.low_rank_a.rows);
  product.residual = {};
  product.spare_rows = false;
  run_product(part.low_rank_a, product, launch);
  product.x = product.y;
  product.y = product.residual = y;
  run_product(part.low_rank_b, product, launch);
}

}  // namespace halftone::cuda
