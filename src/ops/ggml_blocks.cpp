#include "ops/ggml_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "formats/f16.h"
#include "ops/ggml_parts.h"

namespace halftone {
namespace ggml {
namespace {

constexpr int kMaxPart = 63;  // of Q4_K's scales and minima

int nearest(float x) { return (std::bit_cast<std::int32_t>(x + kMagic) & kFraction) - kHalf; }

// A scale whose inverse overflows gives products that are no numbers; what ggml converts them to is 0 on x86.
int to_int(float x) { return std::isfinite(x) ? static_cast<int>(x) : 0; }

void round_small_8(const float* x, std::uint8_t* block) {
  float amax = 0;
  for (int i = 0; i < kSmall; ++i) amax = std::max(amax, std::abs(x[i]));
  const float d = amax / 127, inverse = d != 0 ? 1 / d : 0;
  store_f16(d, block);
  for (int i = 0; i < kSmall; ++i) block[2 + i] = static_cast<std::uint8_t>(to_int(std::round(x[i] * inverse)));
}

void round_small_4(const float* x, std::uint8_t* block) {
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

Codes codes_for(const float* x, float inverse, float base) {
  Codes codes{};
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = std::clamp(nearest(inverse * (x[i] - base)), 0, kMaxCode);
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
  if (most == least) return {0, least, 0, 0};
  const float first = kMaxCode / (most - least);
  Part best{1 / first, least, first, least};
  float best_error = weighted_error(x, w, codes_for(x, first, least), {best.scale, best.minimum});
  for (int step = 0; step <= kSteps; ++step) {
    // ggml measures codes from the best minimum so far
    const float base = best.minimum;
    const float inverse = (kFirstStep + kStepSize * static_cast<float>(step) + kMaxCode) / (most - base);
    const Codes codes = codes_for(x, inverse, base);
    const auto line = fit(x, w, codes, sum_w, sum_x);
    if (!line) continue;
    const float error = weighted_error(x, w, codes, *line);
    if (error < best_error) {
      best_error = error;
      best = {line->scale, line->minimum, inverse, base};
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

void round_large(const float* x, std::uint8_t* block) {
  std::array<Part, kParts> parts;
  std::array<PartRule, kParts> rules;
  std::array<int, kLarge> codes{};
  for (std::size_t j = 0; j < kParts; ++j) parts[j] = fit_part(x + j * kSmall);
  store_parts(parts.data(), block, rules.data());
  for (std::size_t i = 0; i < kLarge; ++i) {
    const Part& part = parts[i / kSmall];
    const PartRule& rule = rules[i / kSmall];
    const float place = rule.scale == 0 ? part.inverse * (x[i] - part.base) : (x[i] + rule.shift) / rule.scale;
    codes[i] = std::clamp(nearest(place), 0, kMaxCode);
  }
  for (std::size_t i = 0; i < kLarge / 2; ++i) {
    const std::size_t low = i / kSmall * 2 * kSmall + i % kSmall;
    block[16 + i] = static_cast<std::uint8_t>(codes[low] | codes[low + kSmall] << 4);
  }
}

}  // namespace

void store_f16(float value, std::uint8_t* to) {
  const std::uint16_t code = f16::encode(value);
  std::memcpy(to, &code, sizeof code);
}

void store_parts(const Part* parts, std::uint8_t* block, PartRule* rules) {
  std::array<float, kParts> scales{}, minima{};
  float most_scale = 0, most_minimum = 0;
  for (std::size_t j = 0; j < kParts; ++j) {
    scales[j] = parts[j].scale;
    minima[j] = -parts[j].minimum;
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
    rules[j] = {dmin * static_cast<float>(minimum_codes[j]), d * static_cast<float>(scale_codes[j])};
  }
}

}  // namespace ggml

namespace scalar {

void round_q8_0(const float* x, std::int64_t count, std::uint8_t* blocks) {
  for (std::int64_t i = 0; i < count; ++i) ggml::round_small_8(x + i * ggml::kSmall, blocks + i * ggml::kQ8Bytes);
}

void round_q4_0(const float* x, std::int64_t count, std::uint8_t* blocks) {
  for (std::int64_t i = 0; i < count; ++i) ggml::round_small_4(x + i * ggml::kSmall, blocks + i * ggml::kQ4Bytes);
}

void round_q4_k(const float* x, std::int64_t count, std::uint8_t* blocks) {
  for (std::int64_t i = 0; i < count; ++i) ggml::round_large(x + i * ggml::kLarge, blocks + i * ggml::kLargeBytes);
}

}  // namespace scalar
}  // namespace halftone
