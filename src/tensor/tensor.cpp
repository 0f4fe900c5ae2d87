#include "tensor/tensor.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "formats/bf16.h"
#include "formats/e4m3.h"
#include "formats/e5m2.h"
#include "formats/e8m0.h"
#include "formats/f16.h"

namespace halftone {
namespace {

constexpr std::size_t kAlignment = 64;
// From this size on storage lies on large pages where the kernel has some: reading a model's weights once for each
// token would otherwise spend a good part of its time in the walk of page tables.
constexpr std::size_t kLargePage = std::size_t{2} << 20, kLargePagesFrom = 2 * kLargePage;

std::shared_ptr<void> allocate(std::size_t bytes) {
  const std::size_t alignment = bytes >= kLargePagesFrom ? kLargePage : kAlignment;
  void* data = std::aligned_alloc(alignment, (bytes + kAlignment) / kAlignment * kAlignment);
  if (!data) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  // whole pages alone, so that nothing is held beyond the tensor's end; a refusal costs speed only
  if (alignment == kLargePage) madvise(data, bytes / kLargePage * kLargePage, MADV_HUGEPAGE);
#endif
  return {data, std::free};
}

template <typename U, typename Decode>
void decode_all(const Tensor& in, Tensor& out, Decode decode) {
  const U* source = in.bits<U>();
  float* target = out.data<float>();
  for (std::int64_t i = 0; i < in.numel(); ++i) target[i] = decode(source[i]);
}

}  // namespace

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

std::int64_t count_elements(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t length : shape) {
    if (length < 0) fail("tensor", "expected lengths of 0 or more, got shape {}", to_string(shape));
    if (length != 0 && count > (std::int64_t{1} << 62) / length)
      fail("tensor", "shape {} has too many elements", to_string(shape));
    count *= length;
  }
  return count;
}

Tensor::Tensor(DType dtype, Shape shape) : dtype_(dtype), shape_(std::move(shape)), numel_(count_elements(shape_)) {
  auto storage = allocate(static_cast<std::size_t>(nbytes()));
  data_ = storage.get();
  owner_ = std::move(storage);
}

Tensor Tensor::zeros(DType dtype, Shape shape) {
  Tensor tensor(dtype, std::move(shape));
  std::memset(tensor.data_, 0, static_cast<std::size_t>(tensor.nbytes()));
  return tensor;
}

Tensor Tensor::from(const std::vector<float>& values, Shape shape) {
  Tensor tensor(DType::kF32, std::move(shape));
  require(tensor.numel() == static_cast<std::int64_t>(values.size()), "tensor", "{} values do not fill shape {}",
          values.size(), to_string(tensor.shape()));
  std::memcpy(tensor.data_, values.data(), values.size() * sizeof(float));
  return tensor;
}

Tensor Tensor::borrow(DType dtype, Shape shape, const void* data, std::shared_ptr<const void> owner) {
  Tensor tensor;
  tensor.dtype_ = dtype;
  tensor.shape_ = std::move(shape);
  tensor.numel_ = count_elements(tensor.shape_);
  tensor.data_ = const_cast<void*>(data);
  tensor.owner_ = std::move(owner);
  return tensor;
}

Tensor Tensor::reshape(Shape shape) const {
  Tensor view = *this;
  if (count_elements(shape) != numel_) fail("reshape", "expected {} elements, got shape {}", numel_, to_string(shape));
  view.shape_ = std::move(shape);
  return view;
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  // not require(): its arguments would be formatted each time
  if (rank() == 0 || begin < 0 || begin > end || end > dim(0))
    fail("rows", "[{}, {}) is not within shape {}", begin, end, to_string(shape_));
  Tensor view = *this;
  view.shape_[0] = end - begin;
  view.numel_ = count_elements(view.shape_);
  const std::int64_t row = dim(0) == 0 ? 0 : nbytes() / dim(0);
  view.data_ = static_cast<char*>(data_) + begin * row;
  return view;
}

Tensor Tensor::clone() const {
  Tensor copy(dtype_, shape_);
  if (numel_ > 0) std::memcpy(copy.data_, data_, static_cast<std::size_t>(nbytes()));
  return copy;
}

void Tensor::check_type(DType wanted) const {
  if (dtype_ != wanted) fail("tensor", "expected {}, got {}", dtype_name(wanted), dtype_name(dtype_));
}

void Tensor::check_size(std::size_t size) const {
  if (dtype_size(dtype_) != size) fail("tensor", "expected elements of {} bytes, got {}", size, dtype_name(dtype_));
}

Tensor to_f32(const Tensor& tensor) {
  if (tensor.dtype() == DType::kF32) return tensor;
  Tensor out(DType::kF32, tensor.shape());
  switch (tensor.dtype()) {
    case DType::kBF16:
      decode_all<std::uint16_t>(tensor, out, [](std::uint16_t b) { return bf16::decode(b); });
      return out;
    case DType::kF16:
      decode_all<std::uint16_t>(tensor, out, [](std::uint16_t b) { return f16::decode(b); });
      return out;
    case DType::kF8E4M3:
      decode_all<std::uint8_t>(tensor, out, [](std::uint8_t b) { return e4m3::decode(b); });
      return out;
    case DType::kF8E5M2:
      decode_all<std::uint8_t>(tensor, out, [](std::uint8_t b) { return e5m2::decode(b); });
      return out;
    case DType::kF8E8M0:
      decode_all<std::uint8_t>(tensor, out, [](std::uint8_t b) { return e8m0::decode(b); });
      return out;
    case DType::kF64:
      for (std::int64_t i = 0; i < tensor.numel(); ++i)
        out.data<float>()[i] = static_cast<float>(tensor.data<double>()[i]);
      return out;
    default:
      fail("to_f32", "expected a floating-point tensor, got {}", dtype_name(tensor.dtype()));
  }
}

Tensor from_f32(const Tensor& tensor, DType dtype) {
  if (dtype == DType::kF32) return tensor;
  require(dtype == DType::kBF16 || dtype == DType::kF16, "from_f32", "expected F32, BF16 or F16, got {}",
          dtype_name(dtype));
  Tensor out(dtype, tensor.shape());
  const float* source = tensor.data<float>();
  auto* target = out.bits<std::uint16_t>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    target[i] = dtype == DType::kBF16 ? bf16::encode(source[i]) : f16::encode(source[i]);
  }
  return out;
}

}  // namespace halftone
