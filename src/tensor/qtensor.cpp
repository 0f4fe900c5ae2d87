#include "tensor/qtensor.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "formats/bf16.h"
#include "formats/e2m1.h"
#include "formats/e2m3.h"
#include "formats/e3m2.h"
#include "formats/e4m3.h"
#include "formats/e5m2.h"
#include "formats/e8m0.h"
#include "formats/f16.h"
#include "formats/integer.h"
#include "formats/nf4.h"

namespace halftone {
namespace {

struct ElementRow {
  std::string_view name;
  DType payload;
  int per_byte;  // codes in one payload element
  int bits;
};

// in the order of the enumeration
constexpr ElementRow kElements[] = {
    {"f32", DType::kF32, 1, 32}, {"f16", DType::kF16, 1, 16},    {"bf16", DType::kBF16, 1, 16},
    {"int8", DType::kI8, 1, 8},  {"int4", DType::kU8, 2, 4},     {"e4m3", DType::kF8E4M3, 1, 8},
    {"e2m1", DType::kU8, 2, 4},  {"e5m2", DType::kF8E5M2, 1, 8}, {"e3m2", DType::kU8, 1, 6},
    {"e2m3", DType::kU8, 1, 6},  {"nf4", DType::kU8, 2, 4}};

const ElementRow& row_of(Element element) { return kElements[static_cast<std::size_t>(element)]; }

bool has_codes(Element element) {
  return element != Element::kF32 && element != Element::kF16 && element != Element::kBF16;
}

// Consecutive columns under one scale.
std::int64_t group_of(const QTensor& q) {
  const bool grouped = q.spec.granularity == Granularity::kGroup || q.spec.granularity == Granularity::kTile;
  return grouped ? q.spec.group : std::max<std::int64_t>(1, q.cols());
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
    case DType::kF8E8M0:
      return e8m0::decode(tensor.bits<std::uint8_t>()[i]);
    case DType::kI8:
      return tensor.data<std::int8_t>()[i];
    default:
      fail("qtensor", "expected scales of F32, BF16, F16, F8_E4M3 or F8_E8M0, got {}", dtype_name(tensor.dtype()));
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
constexpr auto kE5m2Values = decode_table<256>(e5m2::decode);
constexpr auto kE3m2Values = decode_table<256>(e3m2::decode);
constexpr auto kE2m3Values = decode_table<256>(e2m3::decode);
constexpr auto kE2m1Values = decode_table<16>(e2m1::decode);
constexpr auto kNf4Values = decode_table<16>(nf4::decode);
constexpr auto kInt4Values =
    decode_table<16>([](std::uint8_t nibble) { return static_cast<float>(integer::decode_int4(nibble)); });

void decode_nibbles(const std::uint8_t* bytes, std::int64_t n, const std::array<float, 16>& values, float* out) {
  for (std::int64_t i = 0; i < n / 2; ++i) {
    out[2 * i] = values[bytes[i] & 0xf];
    out[2 * i + 1] = values[bytes[i] >> 4];
  }
  if (n % 2 != 0) out[n - 1] = values[bytes[n / 2] & 0xf];
}

const std::array<float, 16>& nibble_values(Element element) {
  return element == Element::kInt4 ? kInt4Values : element == Element::kE2M1 ? kE2m1Values : kNf4Values;
}

const std::array<float, 256>& byte_values(Element element) {
  switch (element) {
    case Element::kE4M3:
      return kE4m3Values;
    case Element::kE5M2:
      return kE5m2Values;
    case Element::kE3M2:
      return kE3m2Values;
    default:
      return kE2m3Values;
  }
}

// The codes of one row, before zeros and scales, as decode_code gives them.
void decode_row(const QTensor& q, std::int64_t row, float* out) {
  const std::int64_t cols = q.cols(), pairs = (cols + 1) / 2;
  switch (q.spec.element) {
    case Element::kInt8:
      std::copy_n(q.payload.data<std::int8_t>() + row * cols, cols, out);
      return;
    case Element::kInt4:
    case Element::kE2M1:
    case Element::kNF4:
      return decode_nibbles(q.payload.bits<std::uint8_t>() + row * pairs, cols, nibble_values(q.spec.element), out);
    case Element::kE4M3:
    case Element::kE5M2:
    case Element::kE3M2:
    case Element::kE2M3: {
      const std::uint8_t* codes = q.payload.bits<std::uint8_t>() + row * cols;
      const std::array<float, 256>& values = byte_values(q.spec.element);
      for (std::int64_t i = 0; i < cols; ++i) out[i] = values[codes[i]];
      return;
    }
    default:
      for (std::int64_t i = 0; i < cols; ++i) out[i] = decode_code(q, row, i);
  }
}

// Scales (with the global one), zeros and offsets of some neighbouring groups.
constexpr std::int64_t kGroupsAtOnce = 64;
struct GroupValues {
  std::array<float, kGroupsAtOnce> scales, zeros, offsets;
};

// stored_float() of n numbers from `begin` on.
void load_floats(const Tensor& tensor, std::int64_t begin, std::int64_t n, float* out) {
  if (tensor.dtype() == DType::kF32) {
    std::copy_n(tensor.data<float>() + begin, n, out);
  } else if (tensor.dtype() == DType::kI8) {
    std::copy_n(tensor.data<std::int8_t>() + begin, n, out);
  } else if (tensor.dtype() == DType::kF16) {
    const auto* bits = tensor.bits<std::uint16_t>() + begin;
    for (std::int64_t i = 0; i < n; ++i) out[i] = f16::decode(bits[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) out[i] = stored_float(tensor, begin + i);
  }
}

void load_groups(const QTensor& q, std::int64_t begin, std::int64_t n, GroupValues& values) {
  values.scales[0] = 1;  // where there are none there is one group
  if (q.scales.defined()) load_floats(q.scales, begin, n, values.scales.data());
  for (std::int64_t i = 0; i < n; ++i) {
    float& scale = values.scales[static_cast<std::size_t>(i)];
    scale = q.inverse_global ? scale / q.global_scale : scale * q.global_scale;
  }
  if (q.zeros.defined()) load_floats(q.zeros, begin, n, values.zeros.data());
  if (q.offsets.defined()) load_floats(q.offsets, begin, n, values.offsets.data());
}

#if defined(__x86_64__)
// Where the compiler may not assume the instruction, std::fma is a call for each number.
__attribute__((target("avx2,fma"))) void add_offset_avx2(float zero, float scale, float offset, std::int64_t n,
                                                         float* values) {
  for (std::int64_t i = 0; i < n; ++i) values[i] = __builtin_fmaf(values[i] - zero, scale, offset);
}
#endif

// values = (values - zero) * scale + offset, one rounding for the product and the sum.
void add_offset(float zero, float scale, float offset, std::int64_t n, float* values) {
#if defined(__x86_64__)
  static const bool has_fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_fma) return add_offset_avx2(zero, scale, offset, n, values);
#endif
  for (std::int64_t i = 0; i < n; ++i) values[i] = std::fma(values[i] - zero, scale, offset);
}

// What check_qtensor demands of zeros and offsets.
void check_beside_scales(const QTensor& q, const Tensor& tensor, DType dtype, std::string_view what,
                         std::string_view name) {
  if (!tensor.defined()) return;
  require(tensor.dtype() == dtype && tensor.shape() == q.scales.shape(), name, "expected {} of {} {}, got {} {}", what,
          dtype_name(dtype), to_string(q.scales.shape()), dtype_name(tensor.dtype()), to_string(tensor.shape()));
}

void check_scales(const QTensor& q, std::string_view name) {
  const QuantSpec& spec = q.spec;
  require(spec.granularity != Granularity::kGroup || spec.group > 0, name, "expected a group of 1 or more, got {}",
          spec.group);
  require(spec.granularity != Granularity::kTile || spec.group == kTileSize, name, "expected tiles of {}, got {}",
          kTileSize, spec.group);
  const Shape shape = scales_shape(spec, q.shape);
  require(q.scales.defined() && q.scales.shape() == shape, name, "expected scales of shape {}, got {}",
          to_string(shape), q.scales.defined() ? to_string(q.scales.shape()) : "none");
  const DType t = q.scales.dtype();
  const bool fits =
      spec.mx ? t == DType::kF8E8M0 : t == DType::kF32 || t == DType::kBF16 || t == DType::kF16 || t == DType::kF8E4M3;
  require(fits, name, "expected scales of {}, got {}", spec.mx ? "F8_E8M0" : "F32, BF16, F16 or F8_E4M3",
          dtype_name(t));
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
  const Shape payload = payload_shape(q.spec.element, q.shape);
  require(q.payload.dtype() == row.payload && q.payload.shape() == payload, name,
          "expected a payload of {} {}, got {} {}", dtype_name(row.payload), to_string(payload),
          dtype_name(q.payload.dtype()), to_string(q.payload.shape()));
  require(q.spec.asymmetric == (q.zeros.defined() || q.offsets.defined()), name, "expected {} for {}, got {}",
          q.spec.asymmetric ? "zeros or offsets" : "neither zeros nor offsets", to_string(q.spec),
          q.spec.asymmetric   ? "neither"
          : q.zeros.defined() ? "zeros"
                              : "offsets");
  if (q.spec.granularity == Granularity::kNone) {
    require(!has_codes(q.spec.element), name, "expected scales for {} codes, got a specification without", row.name);
    require(!q.scales.defined(), name, "expected no scales for {}, got {}", row.name, to_string(q.scales.shape()));
    require(!q.spec.asymmetric, name, "expected scales beside zeros and offsets, got none");
    return;
  }
  check_scales(q, name);
  check_beside_scales(q, q.zeros, DType::kI8, "zeros", name);
  check_beside_scales(q, q.offsets, DType::kF32, "offsets", name);
  require(!q.offsets.defined() || q.global_scale == 1.0f, name, "expected no global scale beside offsets, got {}",
          q.global_scale);
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
    case Element::kE5M2:
    case Element::kE3M2:
    case Element::kE2M3:
      return byte_values(q.spec.element)[q.payload.bits<std::uint8_t>()[i]];
    case Element::kInt4:
    case Element::kE2M1:
    case Element::kNF4: {
      const std::uint8_t byte = q.payload.bits<std::uint8_t>()[row * ((q.cols() + 1) / 2) + col / 2];
      return nibble_values(q.spec.element)[col % 2 ? byte >> 4 : byte & 0xf];
    }
  }
  fail("decode_code", "unknown element {}", static_cast<int>(q.spec.element));
}

std::int64_t scale_index(const QTensor& q, std::int64_t row, std::int64_t col) {
  switch (q.spec.granularity) {
    case Granularity::kNone:
    case Granularity::kTensor:
      return 0;
    case Granularity::kChannel:
      return row;
    case Granularity::kGroup:
      return row * q.scales.dim(1) + col / q.spec.group;
    case Granularity::kTile:
      return row / kTileSize * q.scales.dim(1) + col / kTileSize;
  }
  fail("qtensor", "unknown granularity {}", static_cast<int>(q.spec.granularity));
}

float scale_at(const QTensor& q, std::int64_t row, std::int64_t col) {
  return q.spec.granularity == Granularity::kNone ? 1.0f : stored_float(q.scales, scale_index(q, row, col));
}

float zero_at(const QTensor& q, std::int64_t row, std::int64_t col) {
  return q.zeros.defined() ? stored_float(q.zeros, scale_index(q, row, col)) : 0.0f;
}

float offset_at(const QTensor& q, std::int64_t row, std::int64_t col) {
  return q.offsets.defined() ? q.offsets.data<float>()[scale_index(q, row, col)] : 0.0f;
}

void dequantize_rows(const QTensor& q, std::int64_t begin, std::int64_t end, float* out) {
  const std::int64_t cols = q.cols(), group = group_of(q), groups = (cols + group - 1) / group;
  GroupValues values{};
  for (std::int64_t r = begin; r < end; ++r, out += cols) {
    decode_row(q, r, out);
    const std::int64_t index = scale_index(q, r, 0);  // those of a row are neighbours
    for (std::int64_t g = 0; g < groups; ++g) {
      const auto at = static_cast<std::size_t>(g % kGroupsAtOnce);
      if (at == 0) load_groups(q, index + g, std::min(groups - g, kGroupsAtOnce), values);
      float* run = out + g * group;
      const std::int64_t n = std::min(group, cols - g * group);
      const float scale = values.scales[at], zero = values.zeros[at];
      if (q.offsets.defined()) {
        add_offset(zero, scale, values.offsets[at], n, run);
      } else if (q.zeros.defined()) {
        for (std::int64_t c = 0; c < n; ++c) run[c] = (run[c] - zero) * scale;
      } else {
        for (std::int64_t c = 0; c < n; ++c) run[c] *= scale;
      }
    }
  }
}

Tensor dequantize(const QTensor& q) {
  check_qtensor(q, "dequantize");
  Tensor out(DType::kF32, q.shape);
  dequantize_rows(q, 0, q.rows(), out.data<float>());
  return out;
}

std::int64_t QTensor::nbytes() const {
  std::int64_t sum = 0;
  for (const Tensor* tensor : {&payload, &scales, &zeros, &offsets}) sum += tensor->defined() ? tensor->nbytes() : 0;
  return sum;
}

Shape scales_shape(const QuantSpec& spec, const Shape& shape) {
  const auto pieces = [](std::int64_t length, std::int64_t size) { return (length + size - 1) / size; };
  switch (spec.granularity) {
    case Granularity::kTensor:
      return {1};
    case Granularity::kChannel:
      return {shape.at(0)};
    case Granularity::kGroup:
      return {shape.at(0), pieces(shape.at(1), spec.group)};
    case Granularity::kTile:
      return {pieces(shape.at(0), kTileSize), pieces(shape.at(1), kTileSize)};
    default:
      return {};
  }
}

DType payload_dtype(Element element) { return row_of(element).payload; }

Shape payload_shape(Element element, const Shape& shape) {
  const int per_byte = row_of(element).per_byte;
  return {shape.at(0), (shape.at(1) + per_byte - 1) / per_byte};
}

int bits_of(Element element) { return row_of(element).bits; }

std::string to_string(const QuantSpec& spec) {
  const std::string name = (spec.mx ? "mx " : "") + std::string(row_of(spec.element).name);
  const std::string_view tail = spec.asymmetric ? " asymmetric" : "";
  switch (spec.granularity) {
    case Granularity::kTensor:
      return fmt::format("{} per tensor{}", name, tail);
    case Granularity::kChannel:
      return fmt::format("{} per channel{}", name, tail);
    case Granularity::kGroup:
      return fmt::format("{} group {}{}", name, spec.group, tail);
    case Granularity::kTile:
      return fmt::format("{} tiles of {}{}", name, spec.group, tail);
    default:
      return name;
  }
}

}  // namespace halftone
