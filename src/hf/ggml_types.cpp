#include "hf/ggml_types.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>

#include "formats/f16.h"

namespace halftone {
namespace {

constexpr GgmlTypeInfo kTypes[] = {
    {GgmlType::kF32, "F32", 1, 4},       {GgmlType::kF16, "F16", 1, 2},       {GgmlType::kQ4_0, "Q4_0", 32, 18},
    {GgmlType::kQ4_1, "Q4_1", 32, 20},   {GgmlType::kQ5_0, "Q5_0", 32, 22},   {GgmlType::kQ5_1, "Q5_1", 32, 24},
    {GgmlType::kQ8_0, "Q8_0", 32, 34},   {GgmlType::kQ2_K, "Q2_K", 256, 84},  {GgmlType::kQ3_K, "Q3_K", 256, 110},
    {GgmlType::kQ4_K, "Q4_K", 256, 144}, {GgmlType::kQ5_K, "Q5_K", 256, 176}, {GgmlType::kQ6_K, "Q6_K", 256, 210},
    {GgmlType::kBF16, "BF16", 1, 2},
};

constexpr QuantSpec kInt8By32{Element::kInt8, Granularity::kGroup, 32};
constexpr QuantSpec kInt8By16{Element::kInt8, Granularity::kGroup, 16};
constexpr QuantSpec kInt4By32{Element::kInt4, Granularity::kGroup, 32};

QuantSpec int4_with_offsets() {
  QuantSpec spec = kInt4By32;
  spec.asymmetric = true;
  return spec;
}

std::uint16_t load16(const std::uint8_t* bytes) {
  std::uint16_t value = 0;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

float load_f16(const std::uint8_t* bytes) { return f16::decode(load16(bytes)); }

// What one block becomes: unsigned nibbles or signed bytes, and scales.
struct Target {
  std::uint8_t* payload;  // of the block's first weight
  std::uint16_t* half_scales;
  float* scales;
  float* offsets;
};

// Nibble of weight i into a payload of pairs; the code is the nibble minus 8.
void put_nibble(std::uint8_t* payload, std::int64_t i, int nibble) {
  const int code = (nibble ^ 0x8) & 0xf;
  payload[i / 2] = static_cast<std::uint8_t>(i % 2 != 0 ? (payload[i / 2] & 0x0f) | code << 4 : code);
}

void unpack_q8_0(const std::uint8_t* block, const Target& to) {
  *to.half_scales = load16(block);
  std::copy_n(block + 2, 32, to.payload);
}

void unpack_q4_0(const std::uint8_t* block, const Target& to) {
  *to.half_scales = load16(block);
  for (int i = 0; i < 32; ++i) put_nibble(to.payload, i, i < 16 ? block[2 + i] & 0xf : block[2 + i - 16] >> 4);
}

// Eight 6-bit scales and minima in twelve bytes: the first four of each in the low six bits of bytes 0 to 7; of the
// others four bits lie in bytes 8 to 11 and two in the upper bits of bytes 0 to 7.
void unpack_q4_k(const std::uint8_t* block, const Target& to) {
  const float d = load_f16(block), dmin = load_f16(block + 2);
  const std::uint8_t* packed = block + 4;
  const std::uint8_t* nibbles = block + 16;
  for (int j = 0; j < 8; ++j) {
    const int scale = j < 4 ? packed[j] & 63 : (packed[j + 4] & 0xf) | (packed[j - 4] >> 6) << 4;
    const int minimum = j < 4 ? packed[j + 4] & 63 : packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
    to.scales[j] = d * static_cast<float>(scale);
    to.offsets[j] = -(dmin * static_cast<float>(minimum));
    for (int i = 0; i < 32; ++i) {
      const std::uint8_t byte = nibbles[j / 2 * 32 + i];
      put_nibble(to.payload, j * 32 + i, j % 2 != 0 ? byte >> 4 : byte & 0xf);
    }
  }
}

void unpack_q6_k(const std::uint8_t* block, const Target& to) {
  const std::uint8_t* low = block;
  const std::uint8_t* high = block + 128;
  const float d = load_f16(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, quarter = i % 128 / 32, k = i % 32;
    const int nibble = low[half * 64 + quarter % 2 * 32 + k] >> (quarter / 2 * 4) & 0xf;
    const int pair = high[half * 32 + k] >> (quarter * 2) & 3;
    to.payload[i] = static_cast<std::uint8_t>((nibble | pair << 4) - 32);
  }
  for (int j = 0; j < 16; ++j) to.scales[j] = d * static_cast<float>(static_cast<std::int8_t>(block[192 + j]));
}

void unpack_block(GgmlType type, const std::uint8_t* block, const Target& to) {
  switch (type) {
    case GgmlType::kQ8_0:
      return unpack_q8_0(block, to);
    case GgmlType::kQ4_0:
      return unpack_q4_0(block, to);
    case GgmlType::kQ4_K:
      return unpack_q4_k(block, to);
    default:
      return unpack_q6_k(block, to);
  }
}

void check_finite(const Tensor& values, std::string_view name) {
  if (!values.defined()) return;
  const Tensor floats = to_f32(values);
  for (std::int64_t i = 0; i < floats.numel(); ++i) {
    require(std::isfinite(floats.data<float>()[i]), name, "expected finite scales, found {} in group {}",
            floats.data<float>()[i], i);
  }
}

}  // namespace

const GgmlTypeInfo* find_ggml_type(std::uint32_t number) {
  const auto it = std::find_if(std::begin(kTypes), std::end(kTypes),
                               [&](const auto& row) { return static_cast<std::uint32_t>(row.type) == number; });
  return it == std::end(kTypes) ? nullptr : &*it;
}

const GgmlTypeInfo& ggml_type_info(GgmlType type) {
  const GgmlTypeInfo* info = find_ggml_type(static_cast<std::uint32_t>(type));
  require(info != nullptr, "ggml", "unknown type {}", static_cast<std::uint32_t>(type));
  return *info;
}

std::optional<DType> plain_dtype(GgmlType type) {
  if (type == GgmlType::kF32) return DType::kF32;
  if (type == GgmlType::kF16) return DType::kF16;
  if (type == GgmlType::kBF16) return DType::kBF16;
  return std::nullopt;
}

std::optional<GgmlType> ggml_type_of(const QuantSpec& spec) {
  if (spec == kInt8By32) return GgmlType::kQ8_0;
  if (spec == kInt4By32) return GgmlType::kQ4_0;
  if (spec == int4_with_offsets()) return GgmlType::kQ4_K;
  return std::nullopt;
}

std::optional<QuantSpec> spec_of_ggml(GgmlType type) {
  switch (type) {
    case GgmlType::kQ8_0:
      return kInt8By32;
    case GgmlType::kQ4_0:
      return kInt4By32;
    case GgmlType::kQ4_K:
      return int4_with_offsets();
    case GgmlType::kQ6_K:
      return kInt8By16;
    default:
      return std::nullopt;
  }
}

QTensor unpack_ggml(GgmlType type, const Tensor& blocks, std::int64_t cols, std::string_view name) {
  const GgmlTypeInfo& info = ggml_type_info(type);
  const auto spec = spec_of_ggml(type);
  require(spec.has_value(), name, "expected Q8_0, Q4_0, Q4_K or Q6_K, found {}", info.name);
  require(cols % info.weights == 0, name, "expected inputs in whole blocks of {} for {}, found {}", info.weights,
          info.name, cols);
  const std::int64_t per_row = cols / info.weights, groups = info.weights / spec->group;
  require(blocks.dtype() == DType::kU8 && blocks.rank() == 2 && blocks.dim(1) == per_row * info.bytes, name,
          "expected rows of {} bytes for {} of {} inputs, found {}", per_row * info.bytes, info.name, cols,
          to_string(blocks.shape()));
  const std::int64_t rows = blocks.dim(0);
  QTensor q;
  q.spec = *spec;
  q.shape = {rows, cols};
  q.payload = Tensor(payload_dtype(spec->element), payload_shape(spec->element, q.shape));
  const bool half = type == GgmlType::kQ8_0 || type == GgmlType::kQ4_0;
  q.scales = Tensor(half ? DType::kF16 : DType::kF32, scales_shape(*spec, q.shape));
  if (spec->asymmetric) {
    // nibbles have no sign: the zero of a code that is stored minus 8
    q.zeros = Tensor(DType::kI8, q.scales.shape());
    std::fill_n(q.zeros.data<std::int8_t>(), q.zeros.numel(), static_cast<std::int8_t>(-8));
    q.offsets = Tensor(DType::kF32, q.scales.shape());
  }
  const std::int64_t payload_bytes = info.weights * bits_of(spec->element) / 8;
  for (std::int64_t b = 0; b < rows * per_row; ++b) {
    const Target to{static_cast<std::uint8_t*>(q.payload.raw()) + b * payload_bytes,
                    half ? q.scales.bits<std::uint16_t>() + b * groups : nullptr,
                    half ? nullptr : q.scales.data<float>() + b * groups,
                    q.offsets.defined() ? q.offsets.data<float>() + b * groups : nullptr};
    unpack_block(type, blocks.bits<std::uint8_t>() + b * info.bytes, to);
  }
  check_finite(q.scales, name);
  check_finite(q.offsets, name);
  check_qtensor(q, name);
  return q;
}

}  // namespace halftone
