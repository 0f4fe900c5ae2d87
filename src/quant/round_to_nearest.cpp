#include "quant/round_to_nearest.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "formats/bf16.h"
#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/f16.h"
#include "formats/integer.h"
#include "hf/unpack_ggml.h"
#include "quant/nf4_double.h"
#include "quant/round_to_ggml.h"
#include "quant/rounding_job.h"
#include "tensor/input_scales.h"

namespace halftone {
namespace {

constexpr std::int64_t kRowsPerTask = 16;

void for_row_ranges(std::int64_t rows, ThreadPool& pool, const std::function<void(std::int64_t, std::int64_t)>& task) {
  pool.parallel_for((rows + kRowsPerTask - 1) / kRowsPerTask,
                    [&](std::int64_t i) { task(i * kRowsPerTask, std::min(rows, (i + 1) * kRowsPerTask)); });
}

// Row `row` as f32: in place, or in memory of this thread.
const float* row_values(const Tensor& weight, std::int64_t row, std::int64_t cols) {
  if (weight.dtype() == DType::kF32) return weight.data<float>() + row * cols;
  static thread_local std::vector<float> values;
  values.resize(static_cast<std::size_t>(cols));
  widen(weight, row * cols, cols, values.data());
  return values.data();
}

[[noreturn]] void fail_not_finite(std::string_view name, std::uint32_t bits, std::int64_t row) {
  fail(name, "expected finite weights, found {} in row {}", bits > 0x7f800000u ? "NaN" : "infinity", row);
}

bool shares_global_scale(const QuantSpec& spec) { return spec.element == Element::kE2M1 && !spec.mx; }

DType scale_dtype(const QuantSpec& spec, const RoundingJob& job) {
  if (spec.mx) return DType::kF8E8M0;
  if (spec.element == Element::kE2M1) return DType::kF8E4M3;
  if (job.layout == Layout::kModelOpt) return DType::kF32;
  return job.compressed_tensors() ? job.dtype : DType::kF16;
}

QTensor allocate(const QuantSpec& spec, const RoundingJob& job) {
  QTensor q;
  q.spec = spec;
  q.shape = job.weight.shape();
  q.payload = Tensor(payload_dtype(spec.element), payload_shape(spec.element, q.shape));
  const Shape scales = scales_shape(spec, q.shape);
  q.scales = Tensor(scale_dtype(spec, job), scales);
  if (spec.asymmetric) q.zeros = Tensor(DType::kI8, scales);
  return q;
}

void round_format(const RoundingJob& job, QTensor& q) {
  if (q.spec.mx) return round_mx_format(job, q);
  switch (q.spec.element) {
    case Element::kInt8:
    case Element::kInt4:
      return round_integer_format(job, q);
    case Element::kE4M3:
      return round_e4m3_format(job, q);
    case Element::kE2M1:
      return round_nvfp4_format(job, q);
    default:
      fail(job.name, "expected a format that quantizes, got {}", to_string(q.spec));
  }
}

void check_options(const QuantSpec& spec, const RoundingJob& job) {
  require(!job.four_over_six || (shares_global_scale(spec) && spec.group == 16), job.name,
          "four over six: expected nvfp4 in blocks of 16, got {}", to_string(spec));
  if (job.limits.empty()) return;
  const bool integers = spec.element == Element::kInt8 || spec.element == Element::kInt4;
  require(shares_global_scale(spec) || (integers && !spec.asymmetric), job.name,
          "limits: expected symmetric integers or nvfp4, got {}", to_string(spec));
  std::int64_t scales = 1;
  for (const std::int64_t n : scales_shape(spec, job.weight.shape())) scales *= integers ? n : 1;
  require(std::ssize(job.limits) == scales, job.name, "expected {} limits, got {}", scales, job.limits.size());
}

// GGUF's blocks, and what they hold.
QTensor round_to_blocks(const Tensor& weight, const QuantSpec& spec, std::string_view name, ThreadPool& pool) {
  const std::optional<GgmlType> type = ggml_type_of(spec);
  require(type.has_value(), name, "expected a format that GGUF holds, got {}", to_string(spec));
  return unpack_ggml(*type, round_to_ggml(weight, *type, name, pool), weight.dim(1), name, pool);
}

}  // namespace

void RoundingJob::for_rows(const std::function<void(std::int64_t, const float*)>& task) const {
  const std::int64_t cols = weight.dim(1);
  for_row_ranges(weight.dim(0), pool, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) task(r, row_values(weight, r, cols));
  });
}

float RoundingJob::magnitude(const float* x, std::int64_t n, std::int64_t row) const {
  const std::uint32_t bits = magnitude_bits(x, n);
  if (bits >= 0x7f800000u) fail_not_finite(name, bits, row);
  return std::bit_cast<float>(bits);
}

float round_to(DType dtype, float x) {
  if (dtype == DType::kBF16) return bf16::round(x);
  return dtype == DType::kF16 ? f16::decode(f16::encode(x)) : x;
}

float epsilon_of(DType dtype) {
  if (dtype == DType::kBF16) return 0x1p-7f;
  return dtype == DType::kF16 ? 0x1p-10f : 0x1p-23f;
}

float nvfp4_divisor(float amax, float product, DType dtype) {
  const float least = dtype == DType::kF16 ? 0x1p-14f : std::numeric_limits<float>::min();
  const float reciprocal = round_to(dtype, 1.0f / std::max(amax, least));
  const float divisor = round_to(dtype, product * reciprocal);
  return std::isfinite(divisor) ? divisor : 1.0f;
}

void store_scale(Tensor& scales, std::int64_t i, float scale) {
  if (scales.dtype() == DType::kF32) {
    scales.data<float>()[i] = scale;
  } else {
    scales.bits<std::uint16_t>()[i] = scales.dtype() == DType::kBF16 ? bf16::encode(scale) : f16::encode(scale);
  }
}

std::int64_t group_of(const QTensor& q) { return q.spec.group > 0 ? q.spec.group : q.cols(); }

void store_codes(QTensor& q, std::int64_t row, const std::uint8_t* codes) {
  const std::int64_t bytes = q.payload.dim(1);
  std::uint8_t* out = static_cast<std::uint8_t*>(q.payload.raw()) + row * bytes;
  if (bits_of(q.spec.element) == 4) {
    pack_nibbles(codes, q.cols(), out);
  } else {
    std::copy_n(codes, q.cols(), out);
  }
}

float largest_magnitude(const Tensor& weight, std::string_view name, ThreadPool& pool) {
  const std::int64_t rows = weight.rank() > 0 ? weight.dim(0) : 1, cols = rows > 0 ? weight.numel() / rows : 0;
  std::vector<std::uint32_t> most(static_cast<std::size_t>(rows));
  for_row_ranges(rows, pool, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      most[static_cast<std::size_t>(r)] = magnitude_bits(row_values(weight, r, cols), cols);
    }
  });
  const auto largest = std::max_element(most.begin(), most.end());
  if (largest == most.end()) return 0;
  if (*largest >= 0x7f800000u) fail_not_finite(name, *largest, largest - most.begin());
  return std::bit_cast<float>(*largest);
}

QTensor round_to_nearest(const Tensor& weight, const QuantSpec& spec, const Rounding& rule,
                         std::optional<float> shared_amax, std::string_view name, ThreadPool& pool) {
  require(weight.rank() == 2 && weight.numel() > 0, name, "expected a matrix, got shape {}", to_string(weight.shape()));
  require(spec.granularity != Granularity::kNone, name, "expected a format that quantizes, got {}", to_string(spec));
  if (rule.layout == Layout::kGguf) return round_to_blocks(weight, spec, name, pool);
  if (spec.element == Element::kNF4) return round_to_nf4(weight, name, pool).weight;
  const bool integers = spec.element == Element::kInt8 || spec.element == Element::kInt4;
  const Layout home = integers ? Layout::kCompressedTensors : Layout::kModelOpt;
  RoundingJob job{weight, rule.layout.value_or(home), rule.dtype, rule.quotients, 0, name,
                  pool,   rule.four_over_six,         rule.limits};
  const bool one_tile =
      spec.granularity == Granularity::kTile && weight.dim(0) <= kTileSize && weight.dim(1) <= kTileSize;
  if (shares_global_scale(spec) || spec.granularity == Granularity::kTensor || one_tile) {
    const float own = largest_magnitude(weight, name, pool);
    job.amax = spec.granularity == Granularity::kTensor ? own : shared_amax.value_or(own);
    require(job.amax >= own, name, "expected a shared largest magnitude of at least {}, got {}", own, job.amax);
  }
  check_options(spec, job);
  if (shares_global_scale(spec) && !rule.limits.empty()) job.amax = rule.limits[0];
  QTensor q = allocate(spec, job);
  round_format(job, q);
  check_qtensor(q, name);
  return q;
}

float clean_amax(float amax, float maxbound) {
  if (amax == 0 || std::isnan(amax)) amax = maxbound;
  return std::clamp(amax, std::numeric_limits<float>::min(), std::numeric_limits<float>::max());
}

namespace {

float static_scale(InputQuant::Kind kind, float amax, const Rounding& rule) {
  const bool int8 = kind == InputQuant::Kind::kStaticInt8;
  const Layout home = int8 ? Layout::kCompressedTensors : Layout::kModelOpt;
  if (rule.layout.value_or(home) != Layout::kCompressedTensors) {
    if (kind == InputQuant::Kind::kDynamicNvfp4) return clean_amax(amax, e2m1::kMax) / (e2m1::kMax * e4m3::kMax);
    const float most = int8 ? static_cast<float>(integer::kInt8Max) : e4m3::kMax;
    return clean_amax(amax, most) / most;
  }
  if (kind == InputQuant::Kind::kDynamicNvfp4) return nvfp4_divisor(amax, e2m1::kMax * e4m3::kMax, rule.dtype);
  const float scale = round_to(rule.dtype, amax / (int8 ? integer::kInt8Max + 0.5f : e4m3::kMax));
  return scale == 0 ? epsilon_of(rule.dtype) : scale;
}

}  // namespace

Rounding rounding_of(Layout layout, DType dtype, DType quotients) {
  if (layout == Layout::kAwq) return {dtype, Layout::kAwq};
  if (layout == Layout::kGptq || layout == Layout::kGptqV2) return {dtype, Layout::kGptq};
  return {dtype, layout, quotients};
}

InputQuant static_input(InputQuant::Kind kind, float amax, const Rounding& rule) {
  InputQuant input{kind, 1.0f};
  if (has_static_scale(kind)) input.scale = static_scale(kind, amax, rule);
  input.inverse = has_two_rules(kind) && rule.layout == Layout::kCompressedTensors;
  return input;
}

}  // namespace halftone
