// E4M3, NVFP4 and the MX formats, by the rules of compressed-tensors and ModelOpt.
#include <algorithm>
#include <cmath>

#include "formats/e2m1.h"
#include "formats/e2m3.h"
#include "formats/e3m2.h"
#include "formats/e4m3.h"
#include "formats/mx.h"
#include "quant/four_over_six.h"
#include "quant/rounding_job.h"

namespace halftone {
namespace {

float e4m3_scale(const RoundingJob& job, float amax) {
  if (!job.compressed_tensors()) return clean_amax(amax, e4m3::kMax) / e4m3::kMax;
  const float scale = round_to(job.dtype, amax / e4m3::kMax);
  return scale == 0 ? epsilon_of(job.dtype) : scale;
}

// The scales of tiles, one row of tiles after another.
void find_tile_scales(const RoundingJob& job, QTensor& q) {
  if (q.scales.numel() == 1) return store_scale(q.scales, 0, e4m3_scale(job, job.amax));
  const std::int64_t across = q.scales.dim(1), cols = q.cols();
  std::vector<std::uint32_t> most(static_cast<std::size_t>(q.rows() * across));
  job.for_rows([&](std::int64_t r, const float* row) {
    for (std::int64_t t = 0; t < across; ++t) {
      const std::int64_t first = t * kTileSize;
      const float amax = job.magnitude(row + first, std::min(kTileSize, cols - first), r);
      most[static_cast<std::size_t>(r * across + t)] = std::bit_cast<std::uint32_t>(amax);
    }
  });
  for (std::int64_t i = 0; i < q.scales.numel(); ++i) {
    const std::int64_t down = i / across, t = i % across;
    std::uint32_t bits = 0;
    for (std::int64_t r = down * kTileSize; r < std::min(q.rows(), (down + 1) * kTileSize); ++r) {
      bits = std::max(bits, most[static_cast<std::size_t>(r * across + t)]);
    }
    store_scale(q.scales, i, e4m3_scale(job, std::bit_cast<float>(bits)));
  }
}

struct MxElement {
  float max;
  int exponent;       // floor(log2(max))
  int mantissa_bits;  // of compressed-tensors' rounding of amax
};

MxElement mx_element(const RoundingJob& job, Element element) {
  switch (element) {
    case Element::kE2M1:
      return {e2m1::kMax, 2, 1};
    case Element::kE4M3:
      return {e4m3::kMax, 8, 1};
    case Element::kE2M3:
      return {e2m3::kMax, e2m3::kMaxExponent, 3};
    case Element::kE3M2:
      require(!job.compressed_tensors(), job.name, "compressed-tensors has no MXFP6 of e3m2");
      return {e3m2::kMax, e3m2::kMaxExponent, 2};
    default:
      fail(job.name, "expected an element of the MX formats, got {}", static_cast<int>(element));
  }
}

// compressed-tensors computes scales in the weight's dtype: below the normal numbers of f16 they vanish, and a scale of 0
// becomes 1. Elsewhere mx::scale_rounded.
std::uint8_t rounded_mx_scale(const RoundingJob& job, const MxElement& element, float amax) {
  const float least = 0x1p-14f * (1 - std::ldexp(0.5f, -element.mantissa_bits));
  if (job.dtype == DType::kF16 && amax < least) return e8m0::kBias;
  return mx::scale_rounded(amax, element.exponent, element.mantissa_bits);
}

void encode_mx(const RoundingJob& job, Element element, const float* x, std::int64_t n, float scale,
               std::uint8_t* codes) {
  if (element == Element::kE2M1) return round_e2m1(x, n, scale, !job.compressed_tensors(), codes);
  if (element == Element::kE4M3) return round_e4m3(x, n, scale, DType::kF32, codes);
  for (std::int64_t i = 0; i < n; ++i) {
    codes[i] = element == Element::kE2M3 ? e2m3::encode(x[i] / scale) : e3m2::encode(x[i] / scale);
  }
}

float largest_block_scale(const RoundingJob& job) { return job.four_over_six ? four_over_six::kScaleMax : e4m3::kMax; }

// ModelOpt: a factor; compressed-tensors: a divisor.
void set_global_scale(const RoundingJob& job, QTensor& q) {
  const float product = e2m1::kMax * largest_block_scale(job);
  if (!job.compressed_tensors()) {
    q.global_scale = clean_amax(job.amax, e2m1::kMax) / (q.spec.group == 16 ? product : e4m3::kMax);
    return;
  }
  q.global_scale = nvfp4_divisor(job.amax, product, job.dtype);
  q.inverse_global = true;
}

float modelopt_block_scale(const RoundingJob& job, const QTensor& q, float amax) {
  if (job.four_over_six) {  // the tool's way for amaxes that were searched: a block of zeros has an amax of 6
    const float scale = amax == 0 ? 1.0f : amax / e2m1::kMax;
    return scale * four_over_six::kScaleMax / (clean_amax(job.amax, e2m1::kMax) / e2m1::kMax);
  }
  const float scale = amax / (e2m1::kMax * q.global_scale);
  return scale == 0 ? 1.0f : scale;
}

std::uint8_t nvfp4_block_scale(const RoundingJob& job, const QTensor& q, float amax) {
  if (job.compressed_tensors()) {
    const std::uint8_t code = e4m3::encode_saturated(q.global_scale * round_to(job.dtype, amax / e2m1::kMax));
    return code == 0 ? e4m3::encode(0.125f) : code;
  }
  return e4m3::encode(std::clamp(modelopt_block_scale(job, q, amax), e4m3::kMinSubnormal, e4m3::kMax));
}

// What multiplies the codes of a block.
float nvfp4_step(const QTensor& q, std::uint8_t block_scale) {
  const float block = e4m3::decode(block_scale);
  return q.inverse_global ? block / q.global_scale : block * q.global_scale;
}

}  // namespace

void round_e4m3_format(const RoundingJob& job, QTensor& q) {
  const std::int64_t cols = q.cols(), group = group_of(q);
  require(q.spec.granularity != Granularity::kGroup, job.name,
          "expected e4m3 per tensor, per channel or in tiles, got {}", to_string(q.spec));
  if (q.spec.granularity == Granularity::kTensor) store_scale(q.scales, 0, e4m3_scale(job, job.amax));
  if (q.spec.granularity == Granularity::kTile) find_tile_scales(job, q);
  const bool channel = q.spec.granularity == Granularity::kChannel;
  // ModelOpt divides by a scalar in the weight's dtype, by rows and tiles in f32
  const bool in_dtype = job.compressed_tensors() || q.spec.granularity == Granularity::kTensor;
  const DType quotients = in_dtype ? job.quotients : DType::kF32;
  job.for_rows([&](std::int64_t r, const float* row) {
    if (channel) {
      const float amax = job.magnitude(row, cols, r);
      const bool faint = !job.compressed_tensors() && amax != 0;  // ModelOpt keeps it in the weight's dtype
      store_scale(q.scales, r, e4m3_scale(job, faint ? std::max(amax, smallest_normal(job.dtype)) : amax));
    }
    for (std::int64_t first = 0; first < cols; first += group) {
      round_e4m3(row + first, std::min(group, cols - first), scale_at(q, r, first), quotients,
                 q.payload.bits<std::uint8_t>() + r * cols + first);
    }
  });
}

void round_nvfp4_format(const RoundingJob& job, QTensor& q) {
  require(!job.compressed_tensors() || q.spec.group == 16, job.name, "compressed-tensors has blocks of 16, not {}",
          q.spec.group);
  set_global_scale(job, q);
  const std::int64_t cols = q.cols(), group = q.spec.group, groups = q.scales.dim(1);
  job.for_rows([&](std::int64_t r, const float* row) {
    static thread_local std::vector<std::uint8_t> codes;
    codes.resize(static_cast<std::size_t>(cols));
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t first = g * group, n = std::min(group, cols - first);
      const float amax = job.magnitude(row + first, n, r);
      std::uint8_t code = nvfp4_block_scale(job, q, amax);
      if (job.four_over_six) {
        const std::uint8_t four = nvfp4_block_scale(job, q, amax * four_over_six::kStretch);
        if (four_over_six::four_is_nearer(row + first, n, nvfp4_step(q, code), nvfp4_step(q, four))) code = four;
      }
      q.scales.bits<std::uint8_t>()[r * groups + g] = code;
      round_e2m1(row + first, n, nvfp4_step(q, code), false, codes.data() + first);
    }
    store_codes(q, r, codes.data());
  });
}

void round_mx_format(const RoundingJob& job, QTensor& q) {
  require(q.spec.granularity == Granularity::kGroup && q.spec.group == mx::kBlock, job.name,
          "expected MX blocks of {}, got {}", mx::kBlock, to_string(q.spec));
  const MxElement element = mx_element(job, q.spec.element);
  const std::int64_t cols = q.cols(), groups = q.scales.dim(1);
  job.for_rows([&](std::int64_t r, const float* row) {
    static thread_local std::vector<std::uint8_t> codes;
    codes.resize(static_cast<std::size_t>(cols));
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t first = g * mx::kBlock, n = std::min(mx::kBlock, cols - first);
      const float amax = job.magnitude(row + first, n, r);
      const std::uint8_t code =
          job.compressed_tensors() ? rounded_mx_scale(job, element, amax) : mx::scale_ceil(amax, element.max);
      q.scales.bits<std::uint8_t>()[r * groups + g] = code;
      encode_mx(job, q.spec.element, row + first, n, e8m0::decode(code), codes.data() + first);
    }
    store_codes(q, r, codes.data());
  });
}

}  // namespace halftone
