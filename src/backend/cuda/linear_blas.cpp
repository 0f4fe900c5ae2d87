#include "backend/cuda/linear_blas.h"

#include <map>
#include <mutex>
#include <tuple>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/device/decode_ops.h"
#include "backend/cuda/device/linear.h"

namespace halftone::cuda {
namespace {

// What an algorithm is chosen for.
using Shape =
    std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, DType, bool, std::size_t>;

// Choosing takes some ten microseconds and a prompt's layers repeat their shapes: what was chosen is kept.
class Products {
 public:
  static Products& get() {
    static Products products;
    return products;
  }

  void run(const LinearWeight& weight, const LinearCall& call, const Launch& launch) {
    const bool biased = weight.plain_bias != nullptr;
    const Shape shape{call.x.rows,   weight.rows,  weight.cols, call.x.stride,
                      call.y.stride, call.y.dtype, biased,      call.workspace_bytes};
    const std::lock_guard lock(mutex_);
    auto found = products_.find(shape);
    if (found == products_.end()) {
      const DeviceMatrix w{nullptr, DType::kBF16, weight.rows, weight.cols, weight.row_bytes / 2};
      found = products_.emplace(shape, std::make_unique<BlasProduct>(call.x, w, call.y, call.workspace_bytes, biased))
                  .first;
    }
    found->second->run({call.x.data, weight.codes, call.y.data, call.workspace, weight.plain_bias}, launch);
  }

 private:
  std::mutex mutex_;
  std::map<Shape, std::unique_ptr<BlasProduct>> products_;
};

bool aligned(const DeviceMatrix& matrix) {
  const auto address = reinterpret_cast<std::uintptr_t>(matrix.data);
  return address % 16 == 0 && matrix.stride * static_cast<std::int64_t>(dtype_size(matrix.dtype)) % 16 == 0;
}

}  // namespace

bool linear_blas_supports(const LinearWeight& weight, const LinearCall& call) {
  return weight.plain && !call.silu_mul && call.x.rows > kDecodeTokens && aligned(call.x) && aligned(call.y) &&
         (call.y.dtype == DType::kBF16 || !weight.plain_bias) &&
         (!call.residual.data || call.residual.data != call.y.data);
}

void run_linear_blas(const LinearWeight& weight, const LinearCall& call, const Launch& launch) {
  Products::get().run(weight, call, launch);
  if (!call.residual.data) return;
  start_add({static_cast<const std::uint16_t*>(call.residual.data), call.residual.stride,
             static_cast<std::uint16_t*>(call.y.data), call.y.stride, static_cast<int>(call.y.rows),
             static_cast<int>(call.y.cols)},
            launch);
}

}  // namespace halftone::cuda
