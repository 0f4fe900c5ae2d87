#include "quant/round_to_ggml.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "formats/f16.h"
#include "quant/round_to_nearest.h"

namespace halftone {
namespace {

constexpr int kSmall = 32;  // weights of a block of Q8_0 and Q4_0, and of a part of Q4_K
constexpr int kLarge = 256, kParts = kLarge / kSmall;
constexpr int kMaxCode = 15, kMaxPart = 63;  // of Q4_K's codes, and of its scales and minima
constexpr int kSteps = 20;
constexpr float kFirstStep = -1.0f, kStepSize = 0.1f;

// To the nearest integer, ties to even, for magnitudes below 2^22; larger ones wrap as in ggml.
int nearest(float x) {
  const std::int32_t bits = std::bit_cast<std::int32_t>(x + 0x1.8p23f);
  return (bits & 0x007fffff) - 0x00400000;
}

// A scale whose inverse overflows gives products that are no numbers; what ggml converts them to is 0 on x86.
int to_int(float x) { return std::isfinite(x) ? static_cast<int>(x) : 0; }

void store_f16(float value, std::uint8_t* to) {
  const std::uint16_t code = f16::encode(value);
  std::memcpy(to, &code, sizeof code);
}

void round_q8_0(const float* x, std::uint8_t* block) {
  float amax = 0;
  for (int i = 0; i < kSmall; ++i) amax = std::max(amax, std::abs(x[i]));
  const float d = amax / 127, inverse = d != 0 ? 1 / d : 0;
  store_f16(d, block);
  for (int i = 0; i < kSmall; ++i) block[2 + i] = static_cast<std::uint8_t>(to_int(std::round(x[i] * inverse)));
}

void round_q4_0(const float* x, std::uint8_t* block) {
  float amax = 0, most = 0;
  for (int i = 0; i < kSmall; ++i) {
    if (amax < std::abs(x[i])) {
      amax = std::abs(x[i]);
      most = x[i];
    }
  }
  const float d = most / -8, inverse = d != 0 ? 1 / d : 0;
  store_f16(d, block);
  const auto code = [&](float value) { return std::min(kMaxCode, to_int(value * inverse + 8.5f)); };
  for (int i = 0; i < kSmall / 2; ++i) {
    block[2 + i] = static_cast<std::uint8_t>(code(x[i]) | code(x[i + kSmall / 2]) << 4);
  }
}

using Codes = std::array<int, kSmall>;
using Weights = std::array<float, kSmall>;

struct Line {
  float scale = 0, minimum = 0;  // x ~ scale * code + minimum
};

struct Part {
  Line line;
  Codes codes{};
};

Codes codes_for(const float* x, float step, float minimum) {
  Codes codes{};
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = std::clamp(nearest(step * (x[i] - minimum)), 0, kMaxCode);
  }
  return codes;
}

float weighted_error(const float* x, const Weights& w, const Codes& codes, const Line& line) {
  float error = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const float difference = line.scale * static_cast<float>(codes[i]) + line.minimum - x[i];
    error += w[i] * (difference * difference);
  }
  return error;
}

// The line of least squares through the codes, its minimum held at 0 or below; nothing where the codes are all equal.
std::optional<Line> fit(const float* x, const Weights& w, const Codes& codes, float sum_w, float sum_x) {
  float sum_l = 0, sum_l2 = 0, sum_xl = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const float l = static_cast<float>(codes[i]);
    sum_l += w[i] * l;
    sum_l2 += w[i] * l * l;
    sum_xl += w[i] * l * x[i];
  }
  const float determinant = sum_w * sum_l2 - sum_l * sum_l;
  if (!(determinant > 0)) return std::nullopt;
  Line line{(sum_w * sum_xl - sum_x * sum_l) / determinant, (sum_l2 * sum_x - sum_l * sum_xl) / determinant};
  if (line.minimum > 0) line = {sum_xl / sum_l2, 0};
  return line;
}

// Scale and minimum of 32 weights. The order of every sum is ggml's.
Part fit_part(const float* x) {
  float sum_x2 = 0;
  for (int i = 0; i < kSmall; ++i) sum_x2 += x[i] * x[i];
  const float rms = std::sqrt(sum_x2 / kSmall);
  Weights w;
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = rms + std::abs(x[i]);
  float least = x[0], most = x[0], sum_w = w[0], sum_x = sum_w * x[0];
  for (std::size_t i = 1; i < w.size(); ++i) {
    least = std::min(least, x[i]);
    most = std::max(most, x[i]);
    sum_w += w[i];
    sum_x += w[i] * x[i];
  }
  least = std::min(least, 0.0f);
  if (most == least) return {{0, least}};
  const float first = kMaxCode / (most - least);
  Part best{{1 / first, least}, codes_for(x, first, least)};
  float best_error = weighted_error(x, w, best.codes, best.line);
  for (int step = 0; step <= kSteps; ++step) {
    // ggml measures codes from the best minimum so far
    const float inverse = (kFirstStep + kStepSize * static_cast<float>(step) + kMaxCode) / (most - best.line.minimum);
    const Codes codes = codes_for(x, inverse, best.line.minimum);
    const auto line = fit(x, w, codes, sum_w, sum_x);
    if (!line) continue;
    const float error = weighted_error(x, w, codes, *line);
    if (error < best_error) {
      best_error = error;
      best = {*line, codes};
    }
  }
  return best;
}

using PartCodes = std::array<int, kParts>;

PartCodes round_parts(const std::array<float, kParts>& values, float most) {
  const float inverse = most > 0 ? kMaxPart / most : 0.0f;
  PartCodes codes{};
  for (std::size_t j = 0; j < codes.size(); ++j) codes[j] = std::min(kMaxPart, nearest(inverse * values[j]) & 0xff);
  return codes;
}

// The twelve bytes that unpack_ggml() takes apart.
void pack_parts(const PartCodes& scales, const PartCodes& minima, std::uint8_t* packed) {
  for (std::size_t j = 0; j < kParts / 2; ++j) {
    const std::size_t k = j + kParts / 2;
    packed[j] = static_cast<std::uint8_t>(scales[j] | scales[k] >> 4 << 6);
    packed[j + 4] = static_cast<std::uint8_t>(minima[j] | minima[k] >> 4 << 6);
    packed[j + 8] = static_cast<std::uint8_t>((scales[k] & 0xf) | (minima[k] & 0xf) << 4);
  }
}

void round_q4_k(const float* x, std::uint8_t* block) {
  std::array<float, kParts> scales{}, minima{};
  std::array<int, kLarge> codes{};
  float most_scale = 0, most_minimum = 0;
  for (std::size_t j = 0; j < kParts; ++j) {
    const Part part = fit_part(x + j * kSmall);
    scales[j] = part.line.scale;
    minima[j] = -part.line.minimum;
    std::copy(part.codes.begin(), part.codes.end(), codes.begin() + j * kSmall);
    most_scale = std::max(most_scale, scales[j]);
    most_minimum = std::max(most_minimum, minima[j]);
  }
  const PartCodes scale_codes = round_parts(scales, most_scale), minimum_codes = round_parts(minima, most_minimum);
  store_f16(most_scale / kMaxPart, block);
  store_f16(most_minimum / kMaxPart, block + 2);
  pack_parts(scale_codes, minimum_codes, block + 4);
  const float d = f16::decode(f16::encode(most_scale / kMaxPart)),
              dmin = f16::decode(f16::encode(most_minimum / kMaxPart));
  for (std::size_t j = 0; j < kParts; ++j) {
    const float scale = d * static_cast<float>(scale_codes[j]), minimum = dmin * static_cast<float>(minimum_codes[j]);
    if (scale == 0) continue;  // the first codes stay
    for (std::size_t i = j * kSmall; i < (j + 1) * kSmall; ++i) {
      codes[i] = std::clamp(nearest((x[i] + minimum) / scale), 0, kMaxCode);
    }
  }
  for (std::size_t i = 0; i < kLarge / 2; ++i) {
    const std::size_t low = i / kSmall * 2 * kSmall + i % kSmall;
    block[16 + i] = static_cast<std::uint8_t>(codes[low] | codes[low + kSmall] << 4);
  }
}

using RoundBlock = void (*)(const float*, std::uint8_t*);

RoundBlock rounding_of(GgmlType type, std::string_view name) {
  switch (type) {
    case GgmlType::kQ8_0:
      return round_q8_0;
    case GgmlType::kQ4_0:
      return round_q4_0;
    case GgmlType::kQ4_K:
      return round_q4_k;
    default:
      fail(name, "expected Q8_0, Q4_0 or Q4_K, got {}", ggml_type_info(type).name);
  }
}

}  // namespace

Tensor round_to_ggml(const Tensor& weight, GgmlType type, std::string_view name, ThreadPool& pool) {
  const RoundBlock round = rounding_of(type, name);
  const GgmlTypeInfo& info = ggml_type_info(type);
  require(weight.rank() == 2 && weight.numel() > 0 && weight.dim(1) % info.weights == 0, name,
          "expected a matrix with inputs in whole blocks of {}, got shape {}", info.weights, to_string(weight.shape()));
  largest_magnitude(weight, name, pool);  // throws for NaN and infinity
  const std::int64_t per_row = weight.dim(1) / info.weights;
  Tensor blocks(DType::kU8, {weight.dim(0), per_row * info.bytes});
  pool.parallel_for(weight.dim(0), [&](std::int64_t row) {
    const float* x = weight.data<float>() + row * weight.dim(1);
    std::uint8_t* out = blocks.bits<std::uint8_t>() + row * blocks.dim(1);
    for (std::int64_t b = 0; b < per_row; ++b) round(x + b * info.weights, out + b * info.bytes);
  });
  return blocks;
}

}  // namespace halftone
