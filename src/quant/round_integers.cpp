// INT8 and INT4, symmetric and asymmetric, by the rules of compressed-tensors, ModelOpt, AutoAWQ and GPTQ.
#include <algorithm>
#include <cmath>

#include "formats/f16.h"
#include "formats/integer.h"
#include "quant/rounding_job.h"

namespace halftone {
namespace {

struct Range {
  int low, high;
};

Range range_of(Element element) {
  return element == Element::kInt8 ? Range{integer::kInt8Min, integer::kInt8Max}
                                   : Range{integer::kInt4Min, integer::kInt4Max};
}

struct ScaleAndZero {
  float scale;
  int zero;
};

// f16 without infinity.
float stored_half(float x) { return f16::decode(f16::encode(std::min(x, 65504.0f))); }

float symmetric_scale(const RoundingJob& job, Range range, float amax) {
  const auto high = static_cast<float>(range.high), span = static_cast<float>(range.high - range.low);
  switch (job.layout) {
    case Layout::kCompressedTensors: {
      const float scale = round_to(job.dtype, amax / (span / 2));
      return scale == 0 ? epsilon_of(job.dtype) : scale;
    }
    case Layout::kAwq:
      return stored_half(std::max(amax, 1e-5f) / high);
    case Layout::kGptq: {
      const float scale = stored_half(2 * (amax == 0 ? 1.0f : amax) / span);
      return scale == 0 ? 0x1p-24f : scale;
    }
    default:
      // ModelOpt keeps the largest magnitudes of INT8's rows in the weight's dtype, of INT4's groups in f32 after AWQ
      if (range.high == integer::kInt8Max && amax != 0) amax = std::max(amax, smallest_normal(job.dtype));
      return clean_amax(amax, high) / high;
  }
}

// -1 and 1 for a group of zeros, as GPTQ has it.
ScaleAndZero gptq_asymmetric(Range range, float low, float high) {
  low = std::min(low, 0.0f);
  high = std::max(high, 0.0f);
  if (low == 0 && high == 0) {
    low = -1;
    high = 1;
  }
  const float scale = (high - low) / static_cast<float>(range.high - range.low), stored = stored_half(scale);
  return {stored == 0 ? 0x1p-24f : stored,
          integer::encode(std::nearbyint(-low / scale), 0, range.high - range.low) + range.low};
}

ScaleAndZero awq_asymmetric(Range range, float low, float high) {
  const int most = range.high - range.low;
  const float scale = std::max(high - low, 1e-5f) / static_cast<float>(most);
  return {stored_half(scale), integer::encode(-std::nearbyint(low / scale), 0, most) + range.low};
}

ScaleAndZero asymmetric_scale(const RoundingJob& job, Range range, float low, float high) {
  if (job.layout == Layout::kAwq) return awq_asymmetric(range, low, high);
  if (job.layout == Layout::kGptq) return gptq_asymmetric(range, low, high);
  require(job.compressed_tensors(), job.name, "expected a layout with zeros, got ModelOpt");
  low = std::min(low, 0.0f);
  high = std::max(high, 0.0f);
  const float span = static_cast<float>(range.high - range.low);
  const float scale = round_to(job.dtype, round_to(job.dtype, high - low) / span);
  // low / 0 is minus infinity; 0 / 0 has no rounded value, and the tool stores 0
  if (scale == 0) return {epsilon_of(job.dtype), low < 0 ? range.high : 0};
  const float zero = round_to(job.dtype, static_cast<float>(range.low) - round_to(job.dtype, low / scale));
  return {scale, integer::encode(zero, range.low, range.high)};
}

void encode_group(const RoundingJob& job, Range range, const ScaleAndZero& rule, const float* x, std::int64_t n,
                  std::int8_t* codes) {
  if (job.compressed_tensors()) {
    round_integers(x, n, rule.scale, static_cast<float>(rule.zero), range.low, range.high, job.quotients, codes);
    return;
  }
  // rint(w / scale) + zero: the zero is added after rounding
  std::int8_t wide[256];
  for (std::int64_t first = 0; first < n; first += 256) {
    const std::int64_t count = std::min<std::int64_t>(256, n - first);
    if (rule.zero == 0) {
      round_integers(x + first, count, rule.scale, 0, range.low, range.high, DType::kF32, codes + first);
      continue;
    }
    for (std::int64_t i = first; i < first + count; ++i) {
      const int code = integer::encode(x[i] / rule.scale, range.low - rule.zero, range.high - rule.zero);
      wide[i - first] = static_cast<std::int8_t>(code + rule.zero);
    }
    std::copy_n(wide, count, codes + first);
  }
}

}  // namespace

void round_integer_format(const RoundingJob& job, QTensor& q) {
  const Range range = range_of(q.spec.element);
  const std::int64_t cols = q.cols(), group = group_of(q), groups = (cols + group - 1) / group;
  require(q.spec.granularity == Granularity::kChannel || q.spec.granularity == Granularity::kGroup, job.name,
          "expected integers per channel or in groups, got {}", to_string(q.spec));
  job.for_rows([&](std::int64_t r, const float* row) {
    static thread_local std::vector<std::int8_t> codes;
    codes.resize(static_cast<std::size_t>(cols));
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t first = g * group, n = std::min(group, cols - first), at = r * groups + g;
      const float amax = job.magnitude(row + first, n, r);
      ScaleAndZero rule{1, 0};
      if (q.spec.asymmetric) {
        float low, high;
        find_range(row + first, n, low, high);
        rule = asymmetric_scale(job, range, low, high);
        q.zeros.data<std::int8_t>()[at] = static_cast<std::int8_t>(rule.zero);
      } else {
        rule.scale = symmetric_scale(job, range, job.limits.empty() ? amax : job.limits[static_cast<std::size_t>(at)]);
      }
      store_scale(q.scales, at, rule.scale);
      encode_group(job, range, rule, row + first, n, codes.data() + first);
    }
    store_codes(q, r, reinterpret_cast<const std::uint8_t*>(codes.data()));
  });
}

}  // namespace halftone
