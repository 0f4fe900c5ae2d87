#include "quant/round_to_nearest.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/bf16.h"
#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/f16.h"
#include "formats/integer.h"

namespace halftone {
namespace {

constexpr std::int64_t kRowsPerTask = 16;

float round_scale(float scale, DType dtype) {
  if (dtype == DType::kBF16) return bf16::round(scale);
  if (dtype == DType::kF16) return f16::decode(f16::encode(scale));
  return scale;
}

float epsilon_of(DType dtype) {
  if (dtype == DType::kBF16) return 0x1p-7f;
  if (dtype == DType::kF16) return 0x1p-10f;
  return 0x1p-23f;
}

// Magnitudes as integers: they order as the floats do, and NaN and infinity come last.
std::uint32_t magnitude_bits(const float* x, std::int64_t n) {
  std::uint32_t most = 0;
  for (std::int64_t i = 0; i < n; ++i) most = std::max(most, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  return most;
}

float absmax(const float* x, std::int64_t n) { return std::bit_cast<float>(magnitude_bits(x, n)); }

// rint(clamp(x / scale)), as clamp(rint(x / scale)) because the bounds are whole. Adding 1.5 * 2^23 rounds to an
// integer.
void encode_integers(const float* x, std::int64_t n, float scale, float low, float high, std::int8_t* codes) {
  constexpr float kMagic = 0x1.8p23f;
  for (std::int64_t i = 0; i < n; ++i) {
    const float clamped = std::min(std::max(x[i] / scale, low), high);
    codes[i] =
        static_cast<std::int8_t>(std::bit_cast<std::int32_t>(clamped + kMagic) - std::bit_cast<std::int32_t>(kMagic));
  }
}

void pack_nibbles(const std::int8_t* codes, std::int64_t n, std::uint8_t* bytes) {
  for (std::int64_t i = 0; i < n / 2; ++i) {
    bytes[i] = static_cast<std::uint8_t>((codes[2 * i] & 0xf) | (codes[2 * i + 1] << 4));
  }
  if (n % 2 != 0) bytes[n / 2] = static_cast<std::uint8_t>(codes[n - 1] & 0xf);
}

void for_row_ranges(std::int64_t rows, ThreadPool& pool, const std::function<void(std::int64_t, std::int64_t)>& task) {
  pool.parallel_for((rows + kRowsPerTask - 1) / kRowsPerTask,
                    [&](std::int64_t i) { task(i * kRowsPerTask, std::min(rows, (i + 1) * kRowsPerTask)); });
}

void store_scale(Tensor& scales, std::int64_t i, float scale) {
  if (scales.dtype() == DType::kF32) {
    scales.data<float>()[i] = scale;
  } else {
    scales.bits<std::uint16_t>()[i] = scales.dtype() == DType::kBF16 ? bf16::encode(scale) : f16::encode(scale);
  }
}

// INT8 by row and INT4 in groups: every run of `group` inputs has a scale of its own.
void round_integers(const Tensor& weight, DType scale_dtype, ThreadPool& pool, QTensor& q) {
  const bool int8 = q.spec.element == Element::kInt8;
  const float high = static_cast<float>(int8 ? integer::kInt8Max : integer::kInt4Max);
  const std::int64_t cols = q.cols(), group = q.spec.granularity == Granularity::kGroup ? q.spec.group : cols;
  const std::int64_t groups = (cols + group - 1) / group, row_bytes = q.payload.dim(1);
  for_row_ranges(q.rows(), pool, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::int8_t> codes(static_cast<std::size_t>(cols));
    for (std::int64_t r = begin; r < end; ++r) {
      const float* row = weight.data<float>() + r * cols;
      for (std::int64_t g = 0; g < groups; ++g) {
        const std::int64_t first = g * group, n = std::min(group, cols - first);
        float scale = round_scale(absmax(row + first, n) / (high + 0.5f), scale_dtype);
        if (scale == 0) scale = epsilon_of(scale_dtype);
        store_scale(q.scales, r * groups + g, scale);
        encode_integers(row + first, n, scale, -high - 1, high, codes.data() + first);
      }
      std::uint8_t* out = static_cast<std::uint8_t*>(q.payload.raw()) + r * row_bytes;
      if (int8) {
        std::copy(codes.begin(), codes.end(), reinterpret_cast<std::int8_t*>(out));
      } else {
        pack_nibbles(codes.data(), cols, out);
      }
    }
  });
}

void round_e4m3(const Tensor& weight, float amax, ThreadPool& pool, QTensor& q) {
  const float scale = clean_amax(amax, e4m3::kMax) / e4m3::kMax;
  store_scale(q.scales, 0, scale);
  for_row_ranges(q.rows(), pool, [&](std::int64_t begin, std::int64_t end) {
    const float* x = weight.data<float>();
    std::uint8_t* codes = q.payload.bits<std::uint8_t>();
    for (std::int64_t i = begin * q.cols(); i < end * q.cols(); ++i) codes[i] = e4m3::encode(x[i] / scale);
  });
}

void round_nvfp4_block(const float* x, std::int64_t n, float global_scale, std::uint8_t* scale_code,
                       std::int8_t* codes) {
  float block = absmax(x, n) / (e2m1::kMax * global_scale);
  if (block == 0) block = 1.0f;
  *scale_code = e4m3::encode(std::clamp(block, e4m3::kMinSubnormal, e4m3::kMax));
  const float scale = e4m3::decode(*scale_code) * global_scale;
  for (std::int64_t i = 0; i < n; ++i) codes[i] = static_cast<std::int8_t>(e2m1::encode(x[i] / scale));
}

void round_nvfp4(const Tensor& weight, float amax, ThreadPool& pool, QTensor& q) {
  const float largest = q.spec.group == 16 ? e2m1::kMax * e4m3::kMax : e4m3::kMax;
  q.global_scale = clean_amax(amax, e2m1::kMax) / largest;
  const std::int64_t cols = q.cols(), group = q.spec.group, groups = q.scales.dim(1);
  for_row_ranges(q.rows(), pool, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::int8_t> codes(static_cast<std::size_t>(cols));
    for (std::int64_t r = begin; r < end; ++r) {
      for (std::int64_t g = 0; g < groups; ++g) {
        round_nvfp4_block(weight.data<float>() + r * cols + g * group, std::min(group, cols - g * group),
                          q.global_scale, q.scales.bits<std::uint8_t>() + r * groups + g, codes.data() + g * group);
      }
      pack_nibbles(codes.data(), cols, q.payload.bits<std::uint8_t>() + r * q.payload.dim(1));
    }
  });
}

// Payload and scales of the right shapes, uninitialized.
QTensor allocate(const Shape& shape, const QuantSpec& spec, DType scale_dtype) {
  QTensor q;
  q.spec = spec;
  q.shape = shape;
  const bool nibbles = spec.element == Element::kInt4 || spec.element == Element::kE2M1;
  const DType payload = nibbles ? DType::kU8 : spec.element == Element::kInt8 ? DType::kI8 : DType::kF8E4M3;
  q.payload = Tensor(payload, {shape[0], nibbles ? (shape[1] + 1) / 2 : shape[1]});
  if (spec.element == Element::kE4M3) scale_dtype = DType::kF32;
  if (spec.element == Element::kE2M1) scale_dtype = DType::kF8E4M3;
  Shape scales{1};
  if (spec.granularity == Granularity::kChannel) scales = {shape[0]};
  if (spec.granularity == Granularity::kGroup) scales = {shape[0], (shape[1] + spec.group - 1) / spec.group};
  q.scales = Tensor(scale_dtype, scales);
  return q;
}

}  // namespace

float largest_magnitude(const Tensor& weight, std::string_view name, ThreadPool& pool) {
  const std::int64_t rows = weight.rank() > 0 ? weight.dim(0) : 1, cols = rows > 0 ? weight.numel() / rows : 0;
  std::vector<std::uint32_t> most(static_cast<std::size_t>(rows));
  for_row_ranges(rows, pool, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      most[static_cast<std::size_t>(r)] = magnitude_bits(weight.data<float>() + r * cols, cols);
    }
  });
  const auto largest = std::max_element(most.begin(), most.end());
  if (largest == most.end()) return 0;
  const float amax = std::bit_cast<float>(*largest);
  require(std::isfinite(amax), name, "expected finite weights, found {} in row {}",
          std::isnan(amax) ? "NaN" : "infinity", largest - most.begin());
  return amax;
}

QTensor round_to_nearest(const Tensor& weight, const QuantSpec& spec, DType scale_dtype,
                         std::optional<float> shared_amax, std::string_view name, ThreadPool& pool) {
  require(weight.rank() == 2 && weight.numel() > 0, name, "expected a matrix, got shape {}", to_string(weight.shape()));
  require(spec.granularity != Granularity::kNone, name, "expected a format that quantizes, got {}", to_string(spec));
  const float own = largest_magnitude(weight, name, pool);
  const float amax = shared_amax.value_or(own);
  QTensor q = allocate(weight.shape(), spec, scale_dtype);
  switch (spec.element) {
    case Element::kInt8:
    case Element::kInt4:
      round_integers(weight, scale_dtype, pool, q);
      break;
    case Element::kE4M3:
      round_e4m3(weight, own, pool, q);
      break;
    case Element::kE2M1:
      require(amax >= own, name, "expected a shared largest magnitude of at least {}, got {}", own, amax);
      round_nvfp4(weight, amax, pool, q);
      break;
    default:
      fail(name, "expected a format that quantizes, got {}", to_string(spec));
  }
  check_qtensor(q, name);
  return q;
}

float clean_amax(float amax, float maxbound) {
  if (amax == 0 || std::isnan(amax)) amax = maxbound;
  return std::clamp(amax, std::numeric_limits<float>::min(), std::numeric_limits<float>::max());
}

InputQuant static_input(InputQuant::Kind kind, float amax, DType scale_dtype) {
  InputQuant input{kind, 1.0f};
  switch (kind) {
    case InputQuant::Kind::kNone:
      break;
    case InputQuant::Kind::kStaticInt8:
      input.scale = round_scale(amax / (static_cast<float>(integer::kInt8Max) + 0.5f), scale_dtype);
      if (input.scale == 0) input.scale = epsilon_of(scale_dtype);
      break;
    case InputQuant::Kind::kStaticE4M3:
      input.scale = clean_amax(amax, e4m3::kMax) / e4m3::kMax;
      break;
    case InputQuant::Kind::kDynamicNvfp4:
      input.scale = clean_amax(amax, e2m1::kMax) / (e2m1::kMax * e4m3::kMax);
      break;
  }
  return input;
}

}  // namespace halftone
