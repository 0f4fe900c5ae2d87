#include "tensor/qtensor.h"

#include <algorithm>
#include <array>

#include "formats/bf16.h"
#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/f16.h"
#include "formats/integer.h"

namespace halftone {
namespace {

struct ElementRow {
  std::string_view name;
  DType payload;
  int per_byte;  // codes in one payload element
};

// in the order of the enumeration
constexpr ElementRow kElements[] = {{"f32", DType::kF32, 1}, {"f16", DType::kF16, 1}, {"bf16", DType::kBF16, 1},
                                    {"int8", DType::kI8, 1}, {"int4", DType::kU8, 2}, {"e4m3", DType::kF8E4M3, 1},
                                    {"e2m1", DType::kU8, 2}};

const ElementRow& row_of(Element element) { return kElements[static_cast<std::size_t>(element)]; }

Shape scales_shape(const QTensor& q) {
  switch (q.spec.granularity) {
    case Granularity::kTensor:
      return {1};
    case Granularity::kChannel:
      return {q.rows()};
    case Granularity::kGroup:
      return {q.rows(), (q.cols() + q.spec.group - 1) / q.spec.group};
    default:
      return {};
  }
}

float stored_float(const Tensor& tensor, std::int64_t i) {
  switch (tensor.dtype()) {
    case DType::kF32:
      return tensor.data<float>()[i];
    case DType::kBF16:
      return bf16::decode(tensor.bits<std::uint16_t>()[i]);
    case DType::kF16:
      return f16::decode(tensor.bits<std::uint16_t>()[i]);
    case DType::kF8E4M3:
      return e4m3::decode(tensor.bits<std::uint8_t>()[i]);
    default:
      fail("qtensor", "expected scales of F32, BF16, F16 or F8_E4M3, got {}", dtype_name(tensor.dtype()));
  }
}

// Values of all codes of a format, for loops over whole rows.
template <std::size_t N, typename Decode>
constexpr std::array<float, N> decode_table(Decode decode) {
  std::array<float, N> table{};
  for (std::size_t code = 0; code < N; ++code) table[code] = decode(static_cast<std::uint8_t>(code));
  return table;
}
constexpr auto kE4m3Values = decode_table<256>(e4m3::decode);
constexpr auto kE2m1Values = decode_table<16>(e2m1::decode);
constexpr auto kInt4Values =
    decode_table<16>([](std::uint8_t nibble) { return static_cast<float>(integer::decode_int4(nibble)); });

void decode_nibbles(const std::uint8_t* bytes, std::int64_t n, const std::array<float, 16>& values, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = values[i % 2 != 0 ? bytes[i / 2] >> 4 : bytes[i / 2] & 0xf];
}

// The codes of one row, before scales, as decode_code gives them.
void decode_row(const QTensor& q, std::int64_t row, float* out) {
  const std::int64_t cols = q.cols(), pairs = (cols + 1) / 2;
  switch (q.spec.element) {
    case Element::kInt8:
      std::copy_n(q.payload.data<std::int8_t>() + row * cols, cols, out);
      return;
    case Element::kInt4:
      return decode_nibbles(q.payload.bits<std::uint8_t>() + row * pairs, cols, kInt4Values, out);
    case Element::kE2M1:
      return decode_nibbles(q.payload.bits<std::uint8_t>() + row * pairs, cols, kE2m1Values, out);
    case Element::kE4M3: {
      const std::uint8_t* codes = q.payload.bits<std::uint8_t>() + row * cols;
      for (std::int64_t i = 0; i < cols; ++i) out[i] = kE4m3Values[codes[i]];
      return;
    }
    default:
      for (std::int64_t i = 0; i < cols; ++i) out[i] = decode_code(q, row, i);
  }
}

}  // namespace

QTensor wrap_unquantized(const Tensor& weight) {
  require(weight.rank() == 2, "wrap_unquantized", "expected [rows, cols], got {}", to_string(weight.shape()));
  QTensor q;
  switch (weight.dtype()) {
    case DType::kF32:
      q.spec.element = Element::kF32;
      break;
    case DType::kF16:
      q.spec.element = Element::kF16;
      break;
    case DType::kBF16:
      q.spec.element = Element::kBF16;
      break;
    default:
      fail("wrap_unquantized", "expected F32, F16 or BF16, got {}", dtype_name(weight.dtype()));
  }
  q.shape = weight.shape();
  q.payload = weight;
  return q;
}

void check_qtensor(const QTensor& q, std::string_view name) {
  require(q.shape.size() == 2, name, "expected a matrix, got shape {}", to_string(q.shape));
  const ElementRow& row = row_of(q.spec.element);
  const Shape payload{q.rows(), (q.cols() + row.per_byte - 1) / row.per_byte};
  require(q.payload.dtype() == row.payload && q.payload.shape() == payload, name,
          "expected a payload of {} {}, got {} {}", dtype_name(row.payload), to_string(payload),
          dtype_name(q.payload.dtype()), to_string(q.payload.shape()));
  const bool coded = row.payload != DType::kF32 && row.payload != DType::kF16 && row.payload != DType::kBF16;
  if (q.spec.granularity == Granularity::kNone) {
    require(!coded, name, "expected scales for {} codes, got a specification without", row.name);
    require(!q.scales.defined(), name, "expected no scales for {}, got {}", row.name, to_string(q.scales.shape()));
    return;
  }
  require(q.spec.granularity != Granularity::kGroup || q.spec.group > 0, name, "expected a group of 1 or more, got {}",
          q.spec.group);
  require(q.scales.defined() && q.scales.shape() == scales_shape(q), name, "expected scales of shape {}, got {}",
          to_string(scales_shape(q)), q.scales.defined() ? to_string(q.scales.shape()) : "none");
  const DType t = q.scales.dtype();
  require(t == DType::kF32 || t == DType::kBF16 || t == DType::kF16 || t == DType::kF8E4M3, name,
          "expected scales of F32, BF16, F16 or F8_E4M3, got {}", dtype_name(t));
}

float decode_code(const QTensor& q, std::int64_t row, std::int64_t col) {
  const std::int64_t i = row * q.cols() + col;
  switch (q.spec.element) {
    case Element::kF32:
      return q.payload.data<float>()[i];
    case Element::kF16:
      return f16::decode(q.payload.bits<std::uint16_t>()[i]);
    case Element::kBF16:
      return bf16::decode(q.payload.bits<std::uint16_t>()[i]);
    case Element::kInt8:
      return q.payload.data<std::int8_t>()[i];
    case Element::kE4M3:
      return e4m3::decode(q.payload.bits<std::uint8_t>()[i]);
    case Element::kInt4:
    case Element::kE2M1: {
      const std::uint8_t byte = q.payload.bits<std::uint8_t>()[row * ((q.cols() + 1) / 2) + col / 2];
      const std::uint8_t nibble = col % 2 ? byte >> 4 : byte & 0xf;
      return q.spec.element == Element::kInt4 ? static_cast<float>(integer::decode_int4(nibble)) : e2m1::decode(nibble);
    }
  }
  fail("decode_code", "unknown element {}", static_cast<int>(q.spec.element));
}

float scale_at(const QTensor& q, std::int64_t row, std::int64_t col) {
  switch (q.spec.granularity) {
    case Granularity::kNone:
      return 1.0f;
    case Granularity::kTensor:
      return stored_float(q.scales, 0);
    case Granularity::kChannel:
      return stored_float(q.scales, row);
    case Granularity::kGroup:
      return stored_float(q.scales, row * q.scales.dim(1) + col / q.spec.group);
  }
  fail("scale_at", "unknown granularity {}", static_cast<int>(q.spec.granularity));
}

void dequantize_rows(const QTensor& q, std::int64_t begin, std::int64_t end, float* out) {
  const std::int64_t cols = q.cols(), group = q.spec.granularity == Granularity::kGroup ? q.spec.group : cols;
  for (std::int64_t r = begin; r < end; ++r) {
    decode_row(q, r, out);
    for (std::int64_t first = 0; first < cols; first += group) {
      const float scale = scale_at(q, r, first) * q.global_scale;
      const std::int64_t last = std::min(cols, first + group);
      for (std::int64_t c = first; c < last; ++c) out[c] *= scale;
    }
    out += cols;
  }
}

Tensor dequantize(const QTensor& q) {
  check_qtensor(q, "dequantize");
  Tensor out(DType::kF32, q.shape);
  dequantize_rows(q, 0, q.rows(), out.data<float>());
  return out;
}

std::string to_string(const QuantSpec& spec) {
  const std::string name(row_of(spec.element).name);
  switch (spec.granularity) {
    case Granularity::kTensor:
      return name + " per tensor";
    case Granularity::kChannel:
      return name + " per channel";
    case Granularity::kGroup:
      return fmt::format("{} group {}", name, spec.group);
    default:
      return name;
  }
}

}  // namespace halftone
