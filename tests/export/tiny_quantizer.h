#pragma once
// Rounding just good enough to make quantized modules for the writers' tests; the product's own stands in src/quant.

#include <algorithm>
#include <cmath>

#include "export/export.h"
#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/integer.h"

namespace halftone::testing_support {

inline float element_max(Element element) {
  return element == Element::kInt4   ? 7.5f
         : element == Element::kInt8 ? 127.5f
         : element == Element::kE4M3 ? 448.0f
                                     : 6.0f;
}

inline void put_code(QTensor& q, std::int64_t r, std::int64_t c, float x) {
  auto* bytes = q.payload.bits<std::uint8_t>();
  const std::int64_t packed = r * ((q.cols() + 1) / 2) + c / 2;
  const auto put_nibble = [&](int code) {
    bytes[packed] = static_cast<std::uint8_t>(bytes[packed] | ((code & 0xf) << (c % 2 ? 4 : 0)));
  };
  switch (q.spec.element) {
    case Element::kInt4:
      return put_nibble(integer::encode(x, integer::kInt4Min, integer::kInt4Max));
    case Element::kE2M1:
      return put_nibble(e2m1::encode(x));
    case Element::kInt8:
      bytes[r * q.cols() + c] = static_cast<std::uint8_t>(integer::encode(x, integer::kInt8Min, integer::kInt8Max));
      return;
    default:
      bytes[r * q.cols() + c] = e4m3::encode_saturated(x);
  }
}

// Scales of amax / the element's maximum in `scale_dtype`; F8_E4M3 scales get a global one.
inline QTensor quantize_tiny(const Tensor& weight, const QuantSpec& spec, DType scale_dtype) {
  const Tensor w = to_f32(weight);
  QTensor q;
  q.spec = spec;
  q.shape = w.shape();
  const bool nibbles = spec.element == Element::kInt4 || spec.element == Element::kE2M1;
  q.payload = Tensor::zeros(nibbles                          ? DType::kU8
                            : spec.element == Element::kInt8 ? DType::kI8
                                                             : DType::kF8E4M3,
                            {q.rows(), nibbles ? (q.cols() + 1) / 2 : q.cols()});
  const std::int64_t span = spec.granularity == Granularity::kGroup ? spec.group : q.cols();
  const std::int64_t spans = (q.cols() + span - 1) / span;
  const bool per_tensor = spec.granularity == Granularity::kTensor;
  std::vector<float> amax(static_cast<std::size_t>(per_tensor ? 1 : q.rows() * spans), 0.0f);
  const auto slot = [&](std::int64_t r, std::int64_t c) {
    return per_tensor ? 0u : static_cast<std::size_t>(r * spans + c / span);
  };
  for (std::int64_t r = 0; r < q.rows(); ++r) {
    for (std::int64_t c = 0; c < q.cols(); ++c) {
      amax[slot(r, c)] = std::max(amax[slot(r, c)], std::fabs(w.data<float>()[r * q.cols() + c]));
    }
  }
  const Shape shape = per_tensor                                  ? Shape{1}
                      : spec.granularity == Granularity::kChannel ? Shape{q.rows()}
                                                                  : Shape{q.rows(), spans};
  if (scale_dtype == DType::kF8E4M3) {
    q.global_scale = std::max(*std::max_element(amax.begin(), amax.end()), 1e-6f) / (6 * 448);
    q.scales = Tensor(scale_dtype, shape);
    for (std::size_t i = 0; i < amax.size(); ++i) {
      q.scales.bits<std::uint8_t>()[i] = e4m3::encode(std::clamp(amax[i] / (6 * q.global_scale), 0x1p-9f, 448.0f));
    }
  } else {
    for (float& a : amax) a = a == 0 ? 1.0f : a / element_max(spec.element);
    q.scales = from_f32(Tensor::from(amax, shape), scale_dtype);
  }
  for (std::int64_t r = 0; r < q.rows(); ++r) {
    for (std::int64_t c = 0; c < q.cols(); ++c) {
      put_code(q, r, c, w.data<float>()[r * q.cols() + c] / (scale_at(q, r, c) * q.global_scale));
    }
  }
  return q;
}

}  // namespace halftone::testing_support
