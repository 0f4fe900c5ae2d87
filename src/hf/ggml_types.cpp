#include "hf/ggml_types.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>

#include "formats/f16.h"
#include "hf/unpack_ggml.h"

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

// Codes of 2 n weights, their nibbles minus 8, two a byte: those of bytes 0, 2, 4 ... in the low half.
void pair_nibbles(const std::uint8_t* bytes, int shift, int n, std::uint8_t* payload) {
  for (int k = 0; k < n; ++k) {
    const int low = bytes[2 * k] >> shift & 0xf, high = bytes[2 * k + 1] >> shift & 0xf;
    payload[k] = static_cast<std::uint8_t>((low | high << 4) ^ 0x88);
  }
}

void unpack_q8_0(const std::uint8_t* block, const Target& to) {
  *to.half_scales = load16(block);
  std::copy_n(block + 2, 32, to.payload);
}

void unpack_q4_0(const std::uint8_t* block, const Target& to) {
  *to.half_scales = load16(block);
  for (const int half : {0, 1}) pair_nibbles(block + 2, 4 * half, 8, to.payload + 8 * half);
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
    pair_nibbles(nibbles + j / 2 * 32, j % 2 * 4, 16, to.payload + j * 16);
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

QTensor allocate(GgmlType type, const QuantSpec& spec, const Shape& shape) {
  QTensor q;
  q.spec = spec;
  q.shape = shape;
  q.payload = Tensor(payload_dtype(spec.element), payload_shape(spec.element, shape));
  const bool half = type == GgmlType::kQ8_0 || type == GgmlType::kQ4_0;
  q.scales = Tensor(half ? DType::kF16 : DType::kF32, scales_shape(spec, shape));
  if (spec.asymmetric) {
    // nibbles have no sign: the zero of a code that is stored minus 8
    q.zeros = Tensor(DType::kI8, q.scales.shape());
    std::fill_n(q.zeros.data<std::int8_t>(), q.zeros.numel(), static_cast<std::int8_t>(-8));
    q.offsets = Tensor(DType::kF32, q.scales.shape());
  }
  return q;
}

void unpack_row(GgmlType type, const std::uint8_t* blocks, std::int64_t row, QTensor& q) {
  const GgmlTypeInfo& info = ggml_type_info(type);
  const std::int64_t per_row = q.cols() / info.weights, groups = info.weights / q.spec.group;
  const std::int64_t payload_bytes = info.weights * bits_of(q.spec.element) / 8;
  const bool half = q.scales.dtype() == DType::kF16;
  for (std::int64_t i = 0; i < per_row; ++i) {
    const std::int64_t b = row * per_row + i;
    const Target to{static_cast<std::uint8_t*>(q.payload.raw()) + b * payload_bytes,
                    half ? q.scales.bits<std::uint16_t>() + b * groups : nullptr,
                    half ? nullptr : q.scales.data<float>() + b * groups,
                    q.offsets.defined() ? q.offsets.data<float>() + b * groups : nullptr};
    unpack_block(type, blocks + i * info.bytes, to);
  }
}

// Of groups [begin, end).
void check_finite(const Tensor& values, std::int64_t begin, std::int64_t end, std::string_view name) {
  if (!values.defined()) return;
  const bool half = values.dtype() == DType::kF16;
  for (std::int64_t i = begin; i < end; ++i) {
    const float value = half ? f16::decode(values.bits<std::uint16_t>()[i]) : values.data<float>()[i];
    if (!std::isfinite(value)) fail(name, "expected finite scales, found {} in group {}", value, i);
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
  ThreadPool alone(1);
  return unpack_ggml(type, blocks, cols, name, alone);
}

QTensor unpack_ggml(GgmlType type, const Tensor& blocks, std::int64_t cols, std::string_view name, ThreadPool& pool) {
  const GgmlTypeInfo& info = ggml_type_info(type);
  const auto spec = spec_of_ggml(type);
  require(spec.has_value(), name, "expected Q8_0, Q4_0, Q4_K or Q6_K, found {}", info.name);
  require(cols % info.weights == 0, name, "expected inputs in whole blocks of {} for {}, found {}", info.weights,
          info.name, cols);
  const std::int64_t per_row = cols / info.weights, groups = cols / spec->group;
  require(blocks.dtype() == DType::kU8 && blocks.rank() == 2 && blocks.dim(1) == per_row * info.bytes, name,
          "expected rows of {} bytes for {} of {} inputs, found {}", per_row * info.bytes, info.name, cols,
          to_string(blocks.shape()));
  QTensor q = allocate(type, *spec, {blocks.dim(0), cols});
  pool.parallel_for(blocks.dim(0), [&](std::int64_t row) {
    unpack_row(type, blocks.bits<std::uint8_t>() + row * blocks.dim(1), row, q);
    check_finite(q.scales, row * groups, (row + 1) * groups, name);
    check_finite(q.offsets, row * groups, (row + 1) * groups, name);
  });
  check_qtensor(q, name);
  return q;
}

}  // namespace halftone
