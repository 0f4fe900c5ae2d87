#pragma once
// The products of a prompt by cuBLASLt, each with the algorithm that was chosen for its shape.

#include <map>
#include <memory>
#include <mutex>
#include <tuple>

#include "backend/cuda/cublas_lt.h"

namespace halftone::cuda {

// Choosing an algorithm takes some milliseconds: what was chosen for a shape is kept. There are as many shapes as a
// model has kinds of layers, for each number of tokens by classes of 64 and more.
class LibraryProducts {
 public:
  // What the library may use of the workspace of a run.
  static constexpr std::size_t kWorkspace = std::size_t{32} << 20;

  static LibraryProducts& get();

  // Whether the library has E4M3 products of this form, or E2M1's, which hangs on the device and on W's shape [n, k], not on
  // M. y: bf16, and, where groups of inputs have scales, bf16 with a bias and f32.
  bool has(BlasProduct::Form form, std::int64_t n, std::int64_t k);
  // y of BlasProduct for x.rows tokens; operands.workspace: kWorkspace bytes.
  void run(DeviceMatrix x, const DeviceMatrix& w, DeviceMatrix y, const BlasProduct::Operands& operands,
           const Launch& launch, BlasProduct::Form form = BlasProduct::Form::kPlain);

 private:
  using Shape = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, DType,
                           DType, BlasProduct::Form, bool>;

  std::mutex mutex_;
  std::map<std::tuple<BlasProduct::Form, std::int64_t, std::int64_t>, bool> forms_;
  std::map<Shape, std::unique_ptr<BlasProduct>> products_;
};

}  // namespace halftone::cuda
