#include "hf/transposed_packing.h"

#include <algorithm>
#include <array>

namespace halftone {
namespace {

constexpr std::array<int, 8> kPlainOrder{0, 1, 2, 3, 4, 5, 6, 7};
constexpr std::array<int, 8> kAwqOrder{0, 2, 4, 6, 1, 3, 5, 7};
constexpr std::int64_t kTile = 64;  // of a transposition: both sides stay in the cache

const std::array<int, 8>& places(WordOrder order, int bits) {
  require(order == WordOrder::kPlain || bits == 4, "transposed packing", "expected 4 bits in AWQ's order, got {}",
          bits);
  return order == WordOrder::kAwq ? kAwqOrder : kPlainOrder;
}

template <typename T>
void transpose_into(const T* from, std::int64_t rows, std::int64_t cols, T* to) {
  for (std::int64_t r0 = 0; r0 < rows; r0 += kTile) {
    for (std::int64_t c0 = 0; c0 < cols; c0 += kTile) {
      const std::int64_t r1 = std::min(rows, r0 + kTile), c1 = std::min(cols, c0 + kTile);
      for (std::int64_t r = r0; r < r1; ++r) {
        for (std::int64_t c = c0; c < c1; ++c) to[c * rows + r] = from[r * cols + c];
      }
    }
  }
}

// The payload of one code a byte, as unsigned codes.
Tensor unsigned_codes(const QTensor& q) {
  const std::int64_t rows = q.rows(), cols = q.cols();
  Tensor codes(DType::kU8, {rows, cols});
  auto* out = codes.bits<std::uint8_t>();
  const auto* payload = q.payload.bits<std::uint8_t>();
  if (q.spec.element == Element::kInt8) {
    for (std::int64_t i = 0; i < rows * cols; ++i) out[i] = payload[i] ^ 0x80;
    return codes;
  }
  const std::int64_t pairs = (cols + 1) / 2;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      const std::uint8_t byte = payload[r * pairs + c / 2];
      out[r * cols + c] = static_cast<std::uint8_t>((c % 2 != 0 ? byte >> 4 : byte & 0xf) ^ 0x8);
    }
  }
  return codes;
}

}  // namespace

int code_bits(Element element) {
  require(element == Element::kInt4 || element == Element::kInt8, "transposed packing", "expected int4 or int8");
  return element == Element::kInt4 ? 4 : 8;
}

Tensor transposed(const Tensor& matrix) {
  require(matrix.rank() == 2, "transposed", "expected a matrix, got shape {}", to_string(matrix.shape()));
  const std::int64_t rows = matrix.dim(0), cols = matrix.dim(1);
  Tensor result(matrix.dtype(), {cols, rows});
  switch (dtype_size(matrix.dtype())) {
    case 1:
      transpose_into(matrix.bits<std::uint8_t>(), rows, cols, result.bits<std::uint8_t>());
      return result;
    case 2:
      transpose_into(matrix.bits<std::uint16_t>(), rows, cols, result.bits<std::uint16_t>());
      return result;
    case 4:
      transpose_into(matrix.bits<std::uint32_t>(), rows, cols, result.bits<std::uint32_t>());
      return result;
    default:
      fail("transposed", "expected elements of one, two or four bytes, got {}", dtype_name(matrix.dtype()));
  }
}

Tensor transposed_codes(const QTensor& q) {
  code_bits(q.spec.element);
  return transposed(unsigned_codes(q));
}

Tensor payload_from_transposed(const Tensor& codes, Element element) {
  const Tensor rows_first = transposed(codes);
  const std::int64_t rows = rows_first.dim(0), cols = rows_first.dim(1);
  const auto* in = rows_first.bits<std::uint8_t>();
  if (code_bits(element) == 8) {
    Tensor payload(DType::kI8, {rows, cols});
    auto* out = payload.bits<std::uint8_t>();
    for (std::int64_t i = 0; i < rows * cols; ++i) out[i] = in[i] ^ 0x80;
    return payload;
  }
  const std::int64_t pairs = (cols + 1) / 2;
  Tensor payload = Tensor::zeros(DType::kU8, {rows, pairs});
  auto* out = payload.bits<std::uint8_t>();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      const int nibble = (in[r * cols + c] ^ 0x8) & 0xf;
      out[r * pairs + c / 2] |= static_cast<std::uint8_t>(c % 2 != 0 ? nibble << 4 : nibble);
    }
  }
  return payload;
}

Tensor pack_rows(const Tensor& codes, int bits, WordOrder order) {
  const std::int64_t per_word = 32 / bits, n = codes.dim(0), m = codes.dim(1);
  require(m % per_word == 0, "pack_rows", "expected a multiple of {} codes a row, got {}", per_word, m);
  const auto& place = places(order, bits);
  Tensor words(DType::kI32, {n, m / per_word});
  const auto* in = codes.bits<std::uint8_t>();
  auto* out = words.bits<std::uint32_t>();
  for (std::int64_t w = 0; w < words.numel(); ++w) {
    std::uint32_t word = 0;
    for (std::int64_t k = 0; k < per_word; ++k) {
      word |= static_cast<std::uint32_t>(in[w * per_word + place[static_cast<std::size_t>(k)]]) << (k * bits);
    }
    out[w] = word;
  }
  return words;
}

Tensor unpack_rows(const Tensor& words, int bits, WordOrder order) {
  const std::int64_t per_word = 32 / bits;
  const auto& place = places(order, bits);
  Tensor codes(DType::kU8, {words.dim(0), words.dim(1) * per_word});
  const std::uint32_t mask = (1u << bits) - 1;
  const auto* in = words.bits<std::uint32_t>();
  auto* out = codes.bits<std::uint8_t>();
  for (std::int64_t w = 0; w < words.numel(); ++w) {
    for (std::int64_t k = 0; k < per_word; ++k) {
      out[w * per_word + place[static_cast<std::size_t>(k)]] = static_cast<std::uint8_t>(in[w] >> (k * bits) & mask);
    }
  }
  return codes;
}

Tensor pack_columns(const Tensor& codes, int bits) {
  const std::int64_t per_word = 32 / bits, n = codes.dim(0), m = codes.dim(1);
  require(n % per_word == 0, "pack_columns", "expected a multiple of {} codes a column, got {}", per_word, n);
  Tensor words = Tensor::zeros(DType::kI32, {n / per_word, m});
  const auto* in = codes.bits<std::uint8_t>();
  auto* out = words.bits<std::uint32_t>();
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t c = 0; c < m; ++c) {
      out[r / per_word * m + c] |= static_cast<std::uint32_t>(in[r * m + c]) << (r % per_word * bits);
    }
  }
  return words;
}

Tensor unpack_columns(const Tensor& words, int bits) {
  const std::int64_t per_word = 32 / bits, m = words.dim(1);
  Tensor codes(DType::kU8, {words.dim(0) * per_word, m});
  const std::uint32_t mask = (1u << bits) - 1;
  const auto* in = words.bits<std::uint32_t>();
  auto* out = codes.bits<std::uint8_t>();
  for (std::int64_t r = 0; r < codes.dim(0); ++r) {
    for (std::int64_t c = 0; c < m; ++c) {
      out[r * m + c] = static_cast<std::uint8_t>(in[r / per_word * m + c] >> (r % per_word * bits) & mask);
    }
  }
  return codes;
}

}  // namespace halftone
