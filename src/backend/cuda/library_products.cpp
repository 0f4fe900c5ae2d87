#include "backend/cuda/library_products.h"

#include <algorithm>

#include "base/error.h"
#include "base/rounding.h"

namespace halftone::cuda {
namespace {

// For how many tokens a product's algorithms are asked for. Those that do not split K sum in one order, so that the number of
// tokens may choose among them. For few tokens and a long K there are none, or slow ones only. Of many tokens, a picture's,
// wider classes do.
std::int64_t rows_to_tune(std::int64_t rows) {
  constexpr std::int64_t kLeast = 256, kMany = 2048;
  const std::int64_t unit = rows <= kMany ? 64 : 512;
  return std::max(kLeast, round_up(rows, unit));
}

}  // namespace

LibraryProducts& LibraryProducts::get() {
  static LibraryProducts products;
  return products;
}

bool LibraryProducts::has(BlasProduct::Form form, std::int64_t n, std::int64_t k) {
  constexpr std::int64_t kMany = 1024;
  const std::lock_guard lock(mutex_);
  const auto [found, missing] = forms_.try_emplace({form, n, k}, true);
  if (!missing) return found->second;
  const DType codes = form == BlasProduct::Form::kFp4 ? DType::kU8 : DType::kF8E4M3;
  const DeviceMatrix x{nullptr, codes, kMany, k, k}, w{nullptr, codes, n, k, k};
  try {
    const BlasProduct rounded(x, w, {nullptr, DType::kBF16, kMany, n, n}, kWorkspace, form);
    if (form != BlasProduct::Form::kScaled) {
      const BlasProduct biased(x, w, {nullptr, DType::kBF16, kMany, n, n}, kWorkspace, form, true),
          sums(x, w, {nullptr, DType::kF32, kMany, n, n}, kWorkspace, form);
    }
  } catch (const Error&) {
    found->second = false;
  }
  return found->second;
}

void LibraryProducts::run(DeviceMatrix x, const DeviceMatrix& w, DeviceMatrix y, const BlasProduct::Operands& operands,
                          const Launch& launch, BlasProduct::Form form) {
  const std::int64_t rows = x.rows;
  x.rows = y.rows = rows_to_tune(rows);
  const bool biased = operands.bias != nullptr;
  const Shape shape{x.rows, w.rows, w.cols, x.stride, w.stride, y.stride, x.dtype, y.dtype, form, biased};
  const std::lock_guard lock(mutex_);
  auto found = products_.find(shape);
  if (found == products_.end()) {
    found = products_.emplace(shape, std::make_unique<BlasProduct>(x, w, y, kWorkspace, form, biased)).first;
  }
  found->second->run(rows, operands, launch);
}

}  // namespace halftone::cuda
