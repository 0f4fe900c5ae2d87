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

void flip_bits(const std::uint8_t* __restrict in, std::int64_t n, std::uint8_t mask, std::uint8_t* __restrict out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = in[i] ^ mask;
}

}  // namespace

Tensor pack_int32(const Tensor& payload, Element element, std::int64_t cols) {
  const std::uint8_t mask = offset_mask(element);
  const std::int64_t rows = payload.dim(0), bytes = row_bytes(element, cols);
  require(payload.dim(1) == bytes, "pack_int32", "expected {} bytes a row, got shape {}", bytes,
          to_string(payload.shape()));
  const std::int64_t words = (bytes + 3) / 4;
  Tensor packed(DType::kI32, {rows, words});
  for (std::int64_t r = 0; r < rows; ++r) {
    auto* target = reinterpret_cast<std::uint8_t*>(packed.data<std::int32_t>() + r * words);
    flip_bits(payload.bits<std::uint8_t>() + r * bytes, bytes, mask, target);
    std::fill(target + bytes, target + 4 * words, std::uint8_t{0});
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
    flip_bits(source, bytes, mask, target);
    if (half_byte(element, cols)) target[bytes - 1] &= 0xf;
  }
  return payload;
}

Tensor pack_int32_rows(const Tensor& zeros, Element element) {
  const std::int64_t rows = zeros.dim(0), cols = zeros.dim(1), bits = element == Element::kInt4 ? 4 : 8;
  const std::uint8_t mask = offset_mask(element);
  Tensor packed = Tensor::zeros(DType::kI32, {(rows * bits + 31) / 32, cols});
  auto* words = packed.bits<std::uint32_t>();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      const auto byte = static_cast<std::uint8_t>(zeros.data<std::int8_t>()[r * cols + c]);
      const std::uint32_t code = bits == 4 ? (byte ^ mask) & 0xfu : (byte ^ mask) & 0xffu;
      words[r * bits / 32 * cols + c] |= code << (r * bits % 32);
    }
  }
  return packed;
}

Tensor unpack_int32_rows(const Tensor& packed, Element element, std::int64_t rows) {
  const std::int64_t cols = packed.dim(1), bits = element == Element::kInt4 ? 4 : 8;
  require(packed.dim(0) == (rows * bits + 31) / 32, "unpack_int32_rows", "expected {} words a column, got shape {}",
          (rows * bits + 31) / 32, to_string(packed.shape()));
  Tensor zeros(DType::kI8, {rows, cols});
  const auto* words = packed.bits<std::uint32_t>();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      const std::uint32_t code = (words[r * bits / 32 * cols + c] >> (r * bits % 32)) & ((1u << bits) - 1);
      zeros.data<std::int8_t>()[r * cols + c] = static_cast<std::int8_t>(static_cast<int>(code) - (1 << (bits - 1)));
    }
  }
  return zeros;
}

namespace {

// Nibbles of a kInt4 payload.
std::uint8_t nibble_at(const std::uint8_t* row, std::int64_t c) {
  return static_cast<std::uint8_t>(c % 2 != 0 ? row[c / 2] >> 4 : row[c / 2] & 0xf);
}

}  // namespace

Tensor pack_row_pairs(const Tensor& payload, std::int64_t rows, std::int64_t cols) {
  const std::int64_t bytes = (cols + 1) / 2;
  require(rows % 2 == 0 && payload.shape() == Shape{rows, bytes}, "pack_row_pairs",
          "expected an even number of rows of {} bytes, got shape {}", bytes, to_string(payload.shape()));
  Tensor packed(DType::kU8, {rows / 2, cols});
  for (std::int64_t r = 0; r < rows; r += 2) {
    const std::uint8_t* even = payload.bits<std::uint8_t>() + r * bytes;
    std::uint8_t* out = packed.bits<std::uint8_t>() + r / 2 * cols;
    for (std::int64_t c = 0; c < cols; ++c) {
      out[c] = static_cast<std::uint8_t>(nibble_at(even, c) | (nibble_at(even + bytes, c) << 4));
    }
  }
  return packed;
}

Tensor unpack_row_pairs(const Tensor& packed) {
  const std::int64_t rows = packed.dim(0) * 2, cols = packed.dim(1), bytes = (cols + 1) / 2;
  Tensor payload = Tensor::zeros(DType::kU8, {rows, bytes});
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::uint8_t* in = packed.bits<std::uint8_t>() + r / 2 * cols;
    std::uint8_t* out = payload.bits<std::uint8_t>() + r * bytes;
    for (std::int64_t c = 0; c < cols; ++c) {
      const int nibble = r % 2 != 0 ? in[c] >> 4 : in[c] & 0xf;
      out[c / 2] = static_cast<std::uint8_t>(out[c / 2] | nibble << (c % 2 != 0 ? 4 : 0));
    }
  }
  return payload;
}

Tensor pack_six_bits(const Tensor& payload) {
  const std::int64_t rows = payload.dim(0), cols = payload.dim(1);
  require(cols % 4 == 0, "pack_six_bits", "expected columns in fours, got {}", cols);
  Tensor packed(DType::kU8, {rows, cols / 4 * 3});
  const std::uint8_t* in = payload.bits<std::uint8_t>();
  std::uint8_t* out = packed.bits<std::uint8_t>();
  for (std::int64_t i = 0; i < rows * cols; i += 4, out += 3) {
    std::uint32_t word = 0;
    for (int k = 0; k < 4; ++k) word |= (in[i + k] & 0x3fu) << (6 * k);
    for (int k = 0; k < 3; ++k) out[k] = static_cast<std::uint8_t>(word >> (8 * k));
  }
  return packed;
}

Tensor unpack_six_bits(const Tensor& packed) {
  const std::int64_t rows = packed.dim(0), bytes = packed.dim(1);
  require(bytes % 3 == 0, "unpack_six_bits", "expected bytes in threes, got {}", bytes);
  Tensor payload(DType::kU8, {rows, bytes / 3 * 4});
  const std::uint8_t* in = packed.bits<std::uint8_t>();
  std::uint8_t* out = payload.bits<std::uint8_t>();
  for (std::int64_t i = 0; i < rows * bytes; i += 3, out += 4) {
    const std::uint32_t word =
        in[i] | static_cast<std::uint32_t>(in[i + 1]) << 8 | static_cast<std::uint32_t>(in[i + 2]) << 16;
    for (int k = 0; k < 4; ++k) out[k] = static_cast<std::uint8_t>((word >> (6 * k)) & 0x3f);
  }
  return payload;
}

Tensor swap_nibbles(const Tensor& bytes) {
  Tensor swapped(DType::kU8, bytes.shape());
  const std::uint8_t* source = bytes.bits<std::uint8_t>();
  std::transform(source, source + bytes.numel(), swapped.bits<std::uint8_t>(),
                 [](std::uint8_t pair) { return static_cast<std::uint8_t>(pair >> 4 | pair << 4); });
  return swapped;
}

}  // namespace halftone
