#pragma once
// A dense row-major array in host memory. Copies are cheap and share the storage.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "tensor/dtype.h"

namespace halftone {

// Lengths of the dimensions, outermost first. {} is a scalar (one element).
using Shape = std::vector<std::int64_t>;

// "[2, 3]"
std::string to_string(const Shape& shape);
// Product of the lengths. Throws Error on a negative length or an overflow of 2^62.
std::int64_t count_elements(const Shape& shape);

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<std::int8_t> {
  static constexpr DType value = DType::kI8;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::kI64;
};

class Tensor {
 public:
  Tensor() = default;
  // Owned storage, 64-byte aligned, uninitialized.
  Tensor(DType dtype, Shape shape);
  // Owned storage, all bits zero.
  static Tensor zeros(DType dtype, Shape shape);
  // A copy of `values`, f32.
  static Tensor from(const std::vector<float>& values, Shape shape);
  // Storage that `owner` keeps alive (a memory map). It must never be written.
  static Tensor borrow(DType dtype, Shape shape, const void* data, std::shared_ptr<const void> owner);

  bool defined() const { return data_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return static_cast<int>(shape_.size()); }
  // Length of dimension i; negative i counts from the end.
  std::int64_t dim(int i) const { return shape_.at(static_cast<std::size_t>(i < 0 ? i + rank() : i)); }
  std::int64_t numel() const { return numel_; }
  std::int64_t nbytes() const { return numel_ * static_cast<std::int64_t>(dtype_size(dtype_)); }

  const void* raw() const { return data_; }
  void* raw() { return data_; }

  // Typed access; throws Error when T is not the element type. bf16, f16 and 8-bit floats: use bits().
  template <typename T>
  T* data() {
    check_type(DTypeOf<T>::value);
    return static_cast<T*>(data_);
  }
  template <typename T>
  const T* data() const {
    check_type(DTypeOf<T>::value);
    return static_cast<const T*>(data_);
  }
  // The storage as unsigned integers of the element's size. Throws Error when the sizes differ.
  template <typename U>
  U* bits() {
    check_size(sizeof(U));
    return static_cast<U*>(data_);
  }
  template <typename U>
  const U* bits() const {
    check_size(sizeof(U));
    return static_cast<const U*>(data_);
  }

  // The same storage under another shape of as many elements.
  Tensor reshape(Shape shape) const;
  // Rows [begin, end) of dimension 0, sharing the storage.
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  // An owned copy.
  Tensor clone() const;

 private:
  void check_type(DType wanted) const;
  void check_size(std::size_t size) const;

  DType dtype_ = DType::kF32;
  Shape shape_;
  std::int64_t numel_ = 0;
  void* data_ = nullptr;
  std::shared_ptr<const void> owner_;
};

// Any floating-point tensor as f32 (exact for f32, bf16, f16, E4M3, E5M2, E8M0; f64 is rounded). f32 input is returned
// as it is.
Tensor to_f32(const Tensor& tensor);
// f32 to `dtype` (kF32, kBF16, kF16), round to nearest, ties to even.
Tensor from_f32(const Tensor& tensor, DType dtype);

}  // namespace halftone
