#include "backend/cpu/panels.h"

#include <algorithm>
#include <cstring>

#include "formats/bf16.h"
#include "formats/e2m3.h"
#include "formats/e3m2.h"
#include "formats/e4m3.h"
#include "formats/e8m0.h"
#include "ops/backend.h"

namespace halftone {
namespace {

// Where output n of the fused matrix comes from.
struct Origin {
  const QTensor* weight = nullptr;  // null for padding
  std::size_t part = 0;
  std::int64_t row = 0;
};

Origin origin_of(const LinearSource& source, std::int64_t n) {
  for (std::size_t part = 0; part < source.weights.size(); ++part) {
    const QTensor& weight = source.weights[part];
    if (n < weight.rows()) return {&weight, part, n};
    n -= weight.rows();
  }
  return {};
}

std::int64_t bits_per_code(PanelStorage storage) {
  switch (storage) {
    case PanelStorage::kF32:
      return 32;
    case PanelStorage::kF16:
    case PanelStorage::kBF16:
      return 16;
    case PanelStorage::kNibble:
      return 4;
    default:
      return 8;
  }
}

template <typename Word>
const Word* stored_row(const Origin& origin) {
  const Tensor& payload = origin.weight->payload;
  return payload.bits<Word>() + origin.row * payload.dim(1);
}

// Lane `lane` of a panel with `unit` consecutive codes of a Word each side by side: [K / unit][16][unit].
template <typename Word, std::int64_t unit>
void place_lane(const Origin& origin, std::int64_t cols, std::int64_t lane, std::uint8_t* panel) {
  const Word* source = stored_row<Word>(origin);
  Word* target = reinterpret_cast<Word*>(panel) + lane * unit;
  for (std::int64_t k = 0; k < cols; ++k) target[k / unit * kPanelRows * unit + k % unit] = source[k];
}

void place_e4m3_as_bf16(const Origin& origin, std::int64_t cols, std::int64_t lane, std::uint8_t* panel) {
  const std::uint8_t* source = stored_row<std::uint8_t>(origin);
  std::uint16_t* target = reinterpret_cast<std::uint16_t*>(panel) + lane * 2;
  for (std::int64_t k = 0; k < cols; ++k) {
    target[k / 2 * kPanelRows * 2 + k % 2] = bf16::encode(e4m3::decode(source[k]));
  }
}

// E5M2 is the upper half of f16.
void place_e5m2_as_f16(const Origin& origin, std::int64_t cols, std::int64_t lane, std::uint8_t* panel) {
  const std::uint8_t* source = stored_row<std::uint8_t>(origin);
  std::uint16_t* target = reinterpret_cast<std::uint16_t*>(panel) + lane;
  for (std::int64_t k = 0; k < cols; ++k) target[k * kPanelRows] = static_cast<std::uint16_t>(source[k] << 8);
}

// 6-bit codes as the e4m3 codes of the same values.
void place_6bit_as_e4m3(const Origin& origin, std::int64_t cols, std::int64_t lane, std::uint8_t* panel) {
  const std::uint8_t* source = stored_row<std::uint8_t>(origin);
  const bool e3m2 = origin.weight->spec.element == Element::kE3M2;
  for (std::int64_t k = 0; k < cols; ++k) {
    panel[k * kPanelRows + lane] = e4m3::encode(e3m2 ? e3m2::decode(source[k]) : e2m3::decode(source[k]));
  }
}

void place_nibbles(const Origin& origin, std::int64_t cols, std::int64_t lane, std::uint8_t* panel) {
  const std::uint8_t* source = stored_row<std::uint8_t>(origin);
  std::uint16_t* target = reinterpret_cast<std::uint16_t*>(panel) + nibble_order(static_cast<int>(lane));
  for (std::int64_t k = 0; k < cols; ++k) {
    const int code = k % 2 ? source[k / 2] >> 4 : source[k / 2] & 0xf;
    std::uint16_t& word = target[k / 4 * kPanelRows];
    word = static_cast<std::uint16_t>(word | code << nibble_shift(static_cast<int>(k % 4)));
  }
}

void place(const Origin& origin, PanelStorage storage, std::int64_t cols, std::int64_t lane, std::uint8_t* panel) {
  switch (storage) {
    case PanelStorage::kF32:
      return place_lane<std::uint32_t, 1>(origin, cols, lane, panel);
    case PanelStorage::kF16:
      if (origin.weight->spec.element == Element::kE5M2) return place_e5m2_as_f16(origin, cols, lane, panel);
      return place_lane<std::uint16_t, 1>(origin, cols, lane, panel);
    case PanelStorage::kBF16:
      if (origin.weight->spec.element == Element::kE4M3) return place_e4m3_as_bf16(origin, cols, lane, panel);
      return place_lane<std::uint16_t, 2>(origin, cols, lane, panel);
    case PanelStorage::kE4M3:
      if (origin.weight->spec.element != Element::kE4M3) return place_6bit_as_e4m3(origin, cols, lane, panel);
      return place_lane<std::uint8_t, 1>(origin, cols, lane, panel);
    case PanelStorage::kInt8:
      return place_lane<std::uint8_t, 1>(origin, cols, lane, panel);
    case PanelStorage::kInt8Pairs:
      return place_lane<std::uint8_t, 2>(origin, cols, lane, panel);
    case PanelStorage::kInt8Quads:
      return place_lane<std::uint8_t, 4>(origin, cols, lane, panel);
    case PanelStorage::kNibble:
      return place_nibbles(origin, cols, lane, panel);
  }
}

bool has_nan_code(const Tensor& tensor) {
  const std::uint8_t* codes = tensor.bits<std::uint8_t>();
  return std::any_of(codes, codes + tensor.numel(), [](std::uint8_t c) { return (c & 0x7f) == e4m3::kNan; });
}

// 2^-127 is subnormal in f32, and 255 is NaN.
bool has_extreme_power(const Tensor& tensor) {
  const std::uint8_t* codes = tensor.bits<std::uint8_t>();
  return std::any_of(codes, codes + tensor.numel(), [](std::uint8_t c) { return c == 0 || c == e8m0::kNan; });
}

// Scales keep their own dtype when all parts agree on it and the decoders can take them, else they become f32.
DType scale_dtype(const LinearSource& source) {
  const DType dtype = source.weights[0].scales.dtype();
  for (const QTensor& weight : source.weights) {
    if (weight.scales.dtype() != dtype || (dtype == DType::kF8E4M3 && has_nan_code(weight.scales)) ||
        (dtype == DType::kF8E8M0 && has_extreme_power(weight.scales)))
      return DType::kF32;
  }
  return dtype;
}

void place_scales(const Origin& origin, std::int64_t lane, std::int64_t p, Panels& panels) {
  const bool keep = origin.weight->scales.dtype() == panels.scales.dtype();
  const std::size_t size = dtype_size(panels.scales.dtype());
  const std::int64_t groups = panels.groups;
  auto* target = static_cast<std::uint8_t*>(panels.scales.raw());
  const auto* stored = static_cast<const std::uint8_t*>(origin.weight->scales.raw());
  for (std::int64_t g = 0; g < groups; ++g) {
    const auto to = static_cast<std::size_t>((p * groups + g) * kPanelRows + lane);
    const auto from = static_cast<std::size_t>(scale_index(*origin.weight, origin.row, g * panels.group)) * size;
    const float value = keep ? 0.0f : scale_at(*origin.weight, origin.row, g * panels.group);
    std::memcpy(target + to * size, keep ? static_cast<const void*>(stored + from) : &value, size);
    if (panels.zeros.defined()) {
      const float zero = zero_at(*origin.weight, origin.row, g * panels.group);
      panels.zeros.data<std::int8_t>()[to] = static_cast<std::int8_t>(zero);
    }
    if (panels.offsets.defined()) {
      panels.offsets.data<float>()[to] = offset_at(*origin.weight, origin.row, g * panels.group);
    }
  }
}

std::int32_t sum_of_codes(const Origin& origin, std::int64_t cols) {
  const auto* codes = reinterpret_cast<const std::int8_t*>(stored_row<std::uint8_t>(origin));
  std::int32_t sum = 0;
  for (std::int64_t k = 0; k < cols; ++k) sum += codes[k];
  return sum;
}

void pack_one_panel(const LinearSource& source, std::int64_t p, Panels& panels) {
  auto* target = panels.codes.bits<std::uint8_t>() + p * panels.panel_bytes;
  std::memset(target, 0, static_cast<std::size_t>(panels.panel_bytes));
  for (std::int64_t lane = 0; lane < kPanelRows; ++lane) {
    const std::int64_t n = p * kPanelRows + lane;
    const Origin origin = origin_of(source, n);
    if (!origin.weight) continue;
    place(origin, panels.storage, panels.cols, lane, target);
    if (panels.has_scales) place_scales(origin, lane, p, panels);
    panels.factor.data<float>()[n] = source.factor(origin.part);
    panels.bias.data<float>()[n] = source.bias(origin.part, origin.row);
    if (panels.start.defined()) panels.start.data<std::int32_t>()[n] = -128 * sum_of_codes(origin, panels.cols);
  }
}

void set_nibble_values(Element element, Panels& panels) {
  QTensor probe;
  probe.spec = {element, Granularity::kNone, 0};
  probe.shape = {1, 2};
  probe.payload = Tensor(DType::kU8, {1, 1});
  for (int code = 0; code < 16; ++code) {
    probe.payload.bits<std::uint8_t>()[0] = static_cast<std::uint8_t>(code);
    const float value = panels.nibble_values[code] = decode_code(probe, 0, 0);
    panels.nibbles_in_bf16 = panels.nibbles_in_bf16 && bf16::round(value) == value;
  }
}

}  // namespace

std::int64_t Panels::nbytes() const {
  std::int64_t sum = 0;
  for (const Tensor* tensor : {&codes, &scales, &zeros, &offsets, &factor, &bias, &start})
    sum += tensor->defined() ? tensor->nbytes() : 0;
  return sum;
}

PanelStorage panel_storage(const LinearSource& source) {
  const auto has_nan = [](const QTensor& weight) { return has_nan_code(weight.payload); };
  switch (source.spec().element) {
    case Element::kF32:
      return PanelStorage::kF32;
    case Element::kF16:
      return PanelStorage::kF16;
    case Element::kBF16:
      return PanelStorage::kBF16;
    case Element::kInt8:
      return PanelStorage::kInt8;
    case Element::kE4M3:
      return std::any_of(source.weights.begin(), source.weights.end(), has_nan) ? PanelStorage::kBF16
                                                                                : PanelStorage::kE4M3;
    case Element::kE3M2:
    case Element::kE2M3:
      return PanelStorage::kE4M3;
    case Element::kE5M2:
      return PanelStorage::kF16;
    case Element::kInt4:
    case Element::kE2M1:
    case Element::kNF4:
      return PanelStorage::kNibble;
  }
  fail("pack_linear", "unknown element {}", static_cast<int>(source.spec().element));
}

Panels pack_panels(const LinearSource& source, PanelStorage storage, Stream& stream) {
  Panels panels;
  panels.storage = storage;
  panels.rows = source.rows();
  panels.cols = source.cols();
  panels.padded_cols = (panels.cols + kColsMultiple - 1) / kColsMultiple * kColsMultiple;
  panels.count = (panels.rows + kPanelRows - 1) / kPanelRows;
  panels.panel_bytes = panels.padded_cols * kPanelRows * bits_per_code(storage) / 8;
  panels.codes = Tensor(DType::kU8, {panels.count, panels.panel_bytes});
  panels.group = panels.padded_cols;
  const std::int64_t group = scale_group(source.spec(), panels.cols);
  if (group < panels.cols) {
    panels.group = group;
    panels.groups = (panels.cols + panels.group - 1) / panels.group;
  }
  panels.has_scales = source.spec().granularity != Granularity::kNone;
  const std::int64_t lanes = panels.count * kPanelRows;
  if (panels.has_scales) panels.scales = Tensor::zeros(scale_dtype(source), {lanes * panels.groups});
  const auto any = [&](Tensor QTensor::*part) {
    return std::any_of(source.weights.begin(), source.weights.end(),
                       [&](const QTensor& weight) { return (weight.*part).defined(); });
  };
  if (source.spec().asymmetric) panels.zeros = Tensor::zeros(DType::kI8, {lanes * panels.groups});
  if (any(&QTensor::offsets)) panels.offsets = Tensor::zeros(DType::kF32, {lanes * panels.groups});
  panels.factor = Tensor::zeros(DType::kF32, {lanes});
  panels.bias = Tensor::zeros(DType::kF32, {lanes});
  if (storage == PanelStorage::kInt8Quads) panels.start = Tensor::zeros(DType::kI32, {lanes});
  if (storage == PanelStorage::kNibble) set_nibble_values(source.spec().element, panels);
  for_ranges(stream, panels.count, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) pack_one_panel(source, p, panels);
  });
  return panels;
}

}  // namespace halftone
