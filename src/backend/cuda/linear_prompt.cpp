#include "backend/cuda/linear_prompt.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device/linear.h"
#include "backend/cuda/device/linear_prompt.h"
#include "backend/cuda/linear_arguments.h"
#include "backend/cuda/prepare_input.h"
#include "base/error.h"

namespace halftone::cuda {
namespace {

constexpr std::size_t kLibraryWorkspace = std::size_t{32} << 20;
constexpr std::int64_t kUnit = 16;  // bytes at whose multiples rows begin
// Sums that are no result yet are written for so many tokens at once: those of all tokens of several prompts would need
// most of the workspace.
constexpr std::int64_t kMostSums = 2048;

std::int64_t padded_cols(const LinearWeight& weight) { return (weight.cols + 7) / 8 * 8; }

// How a weight goes through the library.
enum class Way { kPlain, kIntegers, kE4m3, kExpanded };

Way way_of(const LinearWeight& weight) {
  if (weight.plain) return Way::kPlain;
  if (weight.multiplies_integers()) return Way::kIntegers;
  const InputQuant::Kind kind = weight.input.kind;
  const bool e4m3 = kind == InputQuant::Kind::kStaticE4M3 || kind == InputQuant::Kind::kDynamicE4M3;
  const bool fits = weight.rows % 16 == 0 && weight.cols % 16 == 0;
  if (e4m3 && weight.spec.element == Element::kE4M3 && !weight.group_scales && fits) return Way::kE4m3;
  return Way::kExpanded;
}

// True where the product is y but for the residual: nothing is left to multiply or to add.
bool is_result(const LinearWeight& weight, Way way) {
  return way == Way::kPlain ||
         (way == Way::kExpanded && weight.bare && !weight.row_scales && !scales_tokens(weight.input.kind));
}

bool needs_expansion(const LinearWeight& weight, Way way) {
  return way == Way::kExpanded && (weight.code_type() != CodeType::kBF16 || weight.group_scales);
}

std::size_t expanded_bytes(const LinearWeight& weight, Way way) {
  if (!needs_expansion(weight, way)) return 0;
  return DeviceArena::padded(static_cast<std::size_t>(weight.rows * padded_cols(weight)) * 2);
}

// For how many tokens a product's algorithms are asked for. Those that do not split K sum in one order, so that the number of
// tokens may choose among them. For few tokens and a long K there are none, or slow ones only. Of many tokens, a picture's,
// wider classes do.
std::int64_t rows_to_tune(std::int64_t rows) {
  constexpr std::int64_t kLeast = 256, kMany = 2048;
  const std::int64_t unit = rows <= kMany ? 64 : 512;
  return std::max(kLeast, (rows + unit - 1) / unit * unit);
}

// Choosing an algorithm takes some milliseconds: what was chosen for a shape is kept. There are as many shapes as a
// model has kinds of layers, for each number of tokens by rows_to_tune().
class Products {
 public:
  static Products& get() {
    static Products products;
    return products;
  }

  // Whether the library has y = s_x[m] s_w[n] x W^T, which hangs on the device and on W's shape, not on M.
  bool scales_rows(DeviceMatrix x, const DeviceMatrix& w, DeviceMatrix y) {
    const std::lock_guard lock(mutex_);
    const auto [found, missing] = scales_rows_.try_emplace({w.rows, w.cols}, true);
    if (!missing) return found->second;
    x.rows = y.rows = rows_to_tune(kMany);
    try {
      const BlasProduct product(x, w, y, kLibraryWorkspace, BlasProduct::Form::kScaled);
    } catch (const Error&) {
      found->second = false;
    }
    return found->second;
  }

  void run(DeviceMatrix x, const DeviceMatrix& w, DeviceMatrix y, const BlasProduct::Operands& operands,
           const Launch& launch) {
    using enum BlasProduct::Form;
    const std::int64_t rows = x.rows;
    x.rows = y.rows = rows_to_tune(rows);
    const BlasProduct::Form form = operands.bias ? kBiased : operands.x_scales ? kScaled : kPlain;
    const Shape shape{x.rows, w.rows, w.cols, x.stride, w.stride, y.stride, x.dtype, y.dtype, form};
    const std::lock_guard lock(mutex_);
    auto found = products_.find(shape);
    if (found == products_.end()) {
      found = products_.emplace(shape, std::make_unique<BlasProduct>(x, w, y, kLibraryWorkspace, form)).first;
    }
    found->second->run(rows, operands, launch);
  }

 private:
  using Shape = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, DType,
                           DType, BlasProduct::Form>;
  static constexpr std::int64_t kMany = 1024;

  std::mutex mutex_;
  std::map<std::pair<std::int64_t, std::int64_t>, bool> scales_rows_;
  std::map<Shape, std::unique_ptr<BlasProduct>> products_;
};

bool aligned(const DeviceMatrix& matrix) {
  const auto address = reinterpret_cast<std::uintptr_t>(matrix.data);
  return address % kUnit == 0 && matrix.stride * static_cast<std::int64_t>(dtype_size(matrix.dtype)) % kUnit == 0;
}

// The weight as the library reads it.
DeviceMatrix library_weight(const LinearWeight& weight, Way way, void* expanded, const Launch& launch) {
  if (needs_expansion(weight, way)) {
    const std::int64_t stride = padded_cols(weight);
    start_expand_weight(weight_arguments(weight), static_cast<std::uint16_t*>(expanded), stride, launch);
    return {expanded, DType::kBF16, weight.rows, weight.cols, stride};
  }
  const DType dtype = way == Way::kIntegers ? DType::kI8 : way == Way::kE4m3 ? DType::kF8E4M3 : DType::kBF16;
  const auto size = static_cast<std::int64_t>(dtype_size(dtype));
  return {const_cast<void*>(weight.codes), dtype, weight.rows, weight.cols, weight.row_bytes / size};
}

}  // namespace

std::size_t linear_prompt_workspace(const LinearWeight& weight, std::int64_t rows, bool residual) {
  const Way way = way_of(weight);
  if (!residual && is_result(weight, way)) rows = 0;
  if (!is_result(weight, way)) rows = std::min(rows, kMostSums);
  const std::size_t size = is_result(weight, way) ? sizeof(std::uint16_t) : sizeof(float);
  return kLibraryWorkspace + expanded_bytes(weight, way) +
         DeviceArena::padded(static_cast<std::size_t>(rows * weight.rows) * size);
}

DType linear_prompt_input(const LinearWeight& weight) {
  const Way way = way_of(weight);
  return way == Way::kIntegers ? DType::kI8 : way == Way::kE4m3 ? DType::kF8E4M3 : DType::kBF16;
}

bool linear_prompt_supports(const LinearWeight& weight, const LinearCall& call) {
  const Way way = way_of(weight);
  const bool product_is_y = is_result(weight, way);
  return BlasProduct::available() && !call.silu_mul && call.prompt && aligned(call.x) &&
         call.x.dtype == linear_prompt_input(weight) && !(scales_groups(weight.input.kind) && call.x_scales) &&
         call.workspace_bytes >= linear_prompt_workspace(weight, call.x.rows, call.residual.data != nullptr) &&
         (!product_is_y || (aligned(call.y) && (call.y.dtype == DType::kBF16 || !weight.plain_bias))) &&
         // of matrices in the workspace rows begin at such multiples only for such N
         (weight.rows % 8 == 0 || (product_is_y && !call.residual.data));
}

namespace {

// y = bf16(product); or bf16(residual + bf16(product)), by way of `memory`.
void run_result(const LinearWeight& weight, const LinearCall& call, const DeviceMatrix& w, void* library_memory,
                void* memory, const Launch& launch) {
  DeviceMatrix product = call.y;
  if (call.residual.data) product = {memory, DType::kBF16, call.y.rows, call.y.cols, call.y.cols};
  Products::get().run(call.x, w, product, {call.x.data, w.data, product.data, library_memory, weight.plain_bias},
                      launch);
  if (!call.residual.data) return;
  start_add({static_cast<const std::uint16_t*>(product.data), product.stride,
             static_cast<const std::uint16_t*>(call.residual.data), call.residual.stride,
             static_cast<std::uint16_t*>(call.y.data), call.y.stride, static_cast<int>(call.y.rows),
             static_cast<int>(call.y.cols)},
            launch);
}

// True where the library scales E4M3 sums before it rounds them to y: sums need not be written.
bool scales_result(const LinearWeight& weight, Way way, const LinearCall& call, const DeviceMatrix& w) {
  if (way != Way::kE4m3 || weight.bias || call.residual.data || call.y.dtype != DType::kBF16 || !aligned(call.y)) {
    return false;
  }
  return call.x_scales ? Products::get().scales_rows(call.x, w, call.y) : weight.row_product != 0;
}

// y by way of sums in `memory`.
void run_sums(const LinearWeight& weight, LinearCall call, const DeviceMatrix& w, void* library_memory, void* memory,
              const Launch& launch) {
  const DType dtype = w.dtype == DType::kI8 ? DType::kI32 : DType::kF32;
  const LinearCall all = call;
  for (std::int64_t begin = 0; begin < all.x.rows; begin += kMostSums) {
    const std::int64_t end = std::min(begin + kMostSums, all.x.rows);
    call.x = rows_of(all.x, begin, end);
    call.y = rows_of(all.y, begin, end);
    if (all.residual.data) call.residual = rows_of(all.residual, begin, end);
    if (all.x_scales) call.x_scales = all.x_scales + begin;
    const DeviceMatrix sums{memory, dtype, end - begin, weight.rows, weight.rows};
    Products::get().run(call.x, w, sums, {call.x.data, w.data, sums.data, library_memory}, launch);
    start_finish_sums(linear_arguments(weight, call), sums.data, launch);
  }
}

}  // namespace

void run_linear_prompt(const LinearWeight& weight, const LinearCall& call, const Launch& launch) {
  const Way way = way_of(weight);
  auto* memory = static_cast<char*>(call.workspace);
  char* expanded = memory + kLibraryWorkspace;
  void* sums = expanded + expanded_bytes(weight, way);
  const DeviceMatrix w = library_weight(weight, way, expanded, launch);
  if (is_result(weight, way)) return run_result(weight, call, w, memory, sums, launch);
  if (scales_result(weight, way, call, w)) {
    BlasProduct::Operands operands{call.x.data, w.data, call.y.data, memory};
    if (call.x_scales) {
      operands.x_scales = call.x_scales;
      operands.w_scales = weight.row_products;
    } else {
      operands.scale = weight.row_product;
    }
    return Products::get().run(call.x, w, call.y, operands, launch);
  }
  run_sums(weight, call, w, memory, sums, launch);
}

}  // namespace halftone::cuda
