#include "hf/int_packing.h"

#include <algorithm>
#include <cstring>

namespace halftone {
namespace {

// Words are little-endian, so byte b of a row holds the codes of bits 8b .. 8b + 7 in the order of QTensor's payload;
// the offset only turns the highest bit of each code.
std::uint8_t offset_mask(Element element) {
  require(element == Element::kInt4 || element == Element::kInt8, "int_packing", "expected int4 or int8");
  return element == Element::kInt4 ? 0x88 : 0x80;
}

std::int64_t row_bytes(Element element, std::int64_t cols) { return element == Element::kInt4 ? (cols + 1) / 2 : cols; }

// Whether the last byte of a payload row has an unused upper nibble.
bool half_byte(Element element, std::int64_t cols) { return element == Element::kInt4 && cols % 2 != 0; }

}  // namespace

Tensor pack_int32(const Tensor& payload, Element element, std::int64_t cols) {
  const std::uint8_t mask = offset_mask(element);
  const std::int64_t rows = payload.dim(0), bytes = row_bytes(element, cols);
  require(payload.dim(1) == bytes, "pack_int32", "expected {} bytes a row, got shape {}", bytes,
          to_string(payload.shape()));
  Tensor packed = Tensor::zeros(DType::kI32, {rows, (bytes + 3) / 4});
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::uint8_t* source = payload.bits<std::uint8_t>() + r * bytes;
    auto* target = reinterpret_cast<std::uint8_t*>(packed.data<std::int32_t>() + r * packed.dim(1));
    for (std::int64_t b = 0; b < bytes; ++b) target[b] = source[b] ^ mask;
    if (half_byte(element, cols)) target[bytes - 1] &= 0xf;
  }
  return packed;
}

Tensor unpack_int32(const Tensor& packed, Element element, std::int64_t cols) {
  const std::uint8_t mask = offset_mask(element);
  const std::int64_t rows = packed.dim(0), bytes = row_bytes(element, cols);
  require(packed.dim(1) == (bytes + 3) / 4, "unpack_int32", "expected {} words a row, got shape {}", (bytes + 3) / 4,
          to_string(packed.shape()));
  Tensor payload(element == Element::kInt4 ? DType::kU8 : DType::kI8, {rows, bytes});
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto* source = reinterpret_cast<const std::uint8_t*>(packed.data<std::int32_t>() + r * packed.dim(1));
    std::uint8_t* target = payload.bits<std::uint8_t>() + r * bytes;
    for (std::int64_t b = 0; b < bytes; ++b) target[b] = source[b] ^ mask;
    if (half_byte(element, cols)) target[bytes - 1] &= 0xf;
  }
  return payload;
}

}  // namespace halftone
