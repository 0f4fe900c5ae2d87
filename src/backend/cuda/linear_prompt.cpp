#include "backend/cuda/linear_prompt.h"

#include <map>
#include <mutex>
#include <tuple>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device/linear.h"
#include "backend/cuda/device/linear_prompt.h"
#include "backend/cuda/linear_arguments.h"
#include "backend/cuda/prepare_input.h"

namespace halftone::cuda {
namespace {

constexpr std::size_t kLibraryWorkspace = std::size_t{32} << 20;
constexpr std::int64_t kUnit = 16;  // bytes at whose multiples rows begin

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

// For how many tokens a product's algorithm is chosen. Those that do not split K sum bf16 and INT8 in one order, so that the
// number of tokens may choose among them; of E4M3's that is not known, and the caller's number does.
std::int64_t rows_to_tune(const DeviceMatrix& x, std::int64_t tuned_rows) {
  constexpr std::int64_t kRowUnit = 64;  // what kernels differ by
  return x.dtype == DType::kF8E4M3 ? tuned_rows : (x.rows + kRowUnit - 1) / kRowUnit * kRowUnit;
}

// Choosing an algorithm takes some ten microseconds: what was chosen for a shape is kept. There are as many shapes as a
// model has kinds of layers, for each number of tokens by rows_to_tune().
class Products {
 public:
  static Products& get() {
    static Products products;
    return products;
  }

  void run(DeviceMatrix x, const DeviceMatrix& w, DeviceMatrix y, const BlasProduct::Operands& operands,
           std::int64_t tuned_rows, const Launch& launch) {
    const std::int64_t rows = x.rows;
    tuned_rows = rows_to_tune(x, tuned_rows);
    x.rows = y.rows = tuned_rows;
    const bool biased = operands.bias != nullptr;
    const Shape shape{tuned_rows, w.rows, w.cols, x.stride, w.stride, y.stride, x.dtype, y.dtype, biased};
    const std::lock_guard lock(mutex_);
    auto found = products_.find(shape);
    if (found == products_.end()) {
      found = products_.emplace(shape, std::make_unique<BlasProduct>(x, w, y, kLibraryWorkspace, biased)).first;
    }
    found->second->run(rows, operands, launch);
  }

 private:
  using Shape = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, DType,
                           DType, bool>;
  std::mutex mutex_;
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
  return BlasProduct::available() && !call.silu_mul && call.tuned_rows > 0 && aligned(call.x) &&
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
                      call.tuned_rows, launch);
  if (!call.residual.data) return;
  start_add({static_cast<const std::uint16_t*>(product.data), product.stride,
             static_cast<const std::uint16_t*>(call.residual.data), call.residual.stride,
             static_cast<std::uint16_t*>(call.y.data), call.y.stride, static_cast<int>(call.y.rows),
             static_cast<int>(call.y.cols)},
            launch);
}

}  // namespace

void run_linear_prompt(const LinearWeight& weight, const LinearCall& call, const Launch& launch) {
  const Way way = way_of(weight);
  auto* memory = static_cast<char*>(call.workspace);
  char* expanded = memory + kLibraryWorkspace;
  void* sums = expanded + expanded_bytes(weight, way);
  const DeviceMatrix w = library_weight(weight, way, expanded, launch);
  if (is_result(weight, way)) return run_result(weight, call, w, memory, sums, launch);
  const DeviceMatrix y{sums, way == Way::kIntegers ? DType::kI32 : DType::kF32, call.x.rows, weight.rows, weight.rows};
  Products::get().run(call.x, w, y, {call.x.data, w.data, sums, memory}, call.tuned_rows, launch);
  start_finish_sums(linear_arguments(weight, call), sums, launch);
}

}  // namespace halftone::cuda
