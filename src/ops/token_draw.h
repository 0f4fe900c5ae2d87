#pragma once
// How a token is drawn from softmax(logits / temperature), cut to the top_k likeliest and then to the fewest whose probability
// reaches top_p. All is defined in integers, so that every order of summation gives one token and the CPU and a device agree:
//   key(logit) = floor(2^18 log2(e) (largest - logit) / temperature)        41 * 2^18 and more become one key
//   weight(key) = 2^40 2^(-key / 2^18) rounded down, within 2^-30 of it     a token 2^-41 as likely as the first is not drawn
// Tokens are ordered by key, those of one key by id. The draw's point is uniform in [0, weight of all that are left); the
// token is the first one whose weight together with those before it exceeds the point.

#include <cstdint>
#include <span>

#include "base/random.h"

namespace halftone {

// How to draw the next token of a sequence.
struct TokenDraw {
  double keys_per_logit = 0;  // draw_keys_per_logit(temperature); 0: the largest logit is taken
  double top_p = 1;           // above 0
  std::int64_t top_k = 0;     // 0: all
  std::uint64_t random = 0;   // Random::state()

  constexpr bool greedy() const { return keys_per_logit == 0; }
  // After the draw of one token.
  constexpr TokenDraw next() const {
    if (greedy()) return *this;
    Random random_after(random);
    random_after.next();
    TokenDraw after = *this;
    after.random = random_after.state();
    return after;
  }
  bool operator==(const TokenDraw&) const = default;
};

constexpr int kDrawFractionBits = 18, kDrawWeightBits = 40, kDrawKeyBits = 24;
constexpr std::uint32_t kLastDrawKey = (kDrawWeightBits + 1) << kDrawFractionBits;  // its weight is 0
static_assert(kLastDrawKey < 1u << kDrawKeyBits);

constexpr double draw_keys_per_logit(double temperature) {
  return 1.4426950408889634 * (1 << kDrawFractionBits) / temperature;
}

// Both finite.
constexpr std::uint32_t draw_key(float largest, float logit, double keys_per_logit) {
  if (!(logit < largest)) return 0;
  const double distance = (static_cast<double>(largest) - static_cast<double>(logit)) * keys_per_logit;
  return distance < kLastDrawKey ? static_cast<std::uint32_t>(distance) : kLastDrawKey;
}

constexpr std::uint64_t draw_weight(std::uint32_t key) {
  constexpr std::uint64_t kOne = std::uint64_t{1} << 32, kLn2 = 2977044472;  // in units of 2^-32
  constexpr int kTerms = 12;                                                 // of e^-z, z < ln 2
  const std::uint64_t fraction = key & ((1u << kDrawFractionBits) - 1);
  const std::uint64_t z = (fraction << (32 - kDrawFractionBits)) * kLn2 >> 32;
  std::uint64_t sum = kOne;
  for (int k = kTerms; k > 0; --k) sum = kOne - ((z * sum >> 32) * (kOne / static_cast<std::uint64_t>(k)) >> 32);
  return sum << (kDrawWeightBits - 32) >> (key >> kDrawFractionBits);
}

// The least weight that reaches top_p of `total`: from 1 to total.
constexpr std::uint64_t draw_cut(double top_p, std::uint64_t total) {
  if (top_p >= 1) return total;
  const double wanted = top_p * static_cast<double>(total);
  const auto least = static_cast<std::uint64_t>(wanted);
  const std::uint64_t cut = least + (static_cast<double>(least) < wanted ? 1 : 0);
  return cut < 1 ? 1 : cut < total ? cut : total;
}

// floor(random / 2^64 * total), for totals below 2^63.
constexpr std::uint64_t draw_point(std::uint64_t random, std::uint64_t total) {
  constexpr std::uint64_t kLow = 0xffffffff;
  const std::uint64_t low = (random & kLow) * (total & kLow), middle = (random >> 32) * (total & kLow) + (low >> 32);
  return (random >> 32) * (total >> 32) + (middle >> 32) + (((random & kLow) * (total >> 32) + (middle & kLow)) >> 32);
}

// The token that `draw`, which is not greedy, draws. logits: [vocabulary], finite, the largest one at `best`.
std::int32_t draw_token(std::span<const float> logits, std::int32_t best, const TokenDraw& draw);

static_assert(draw_weight(0) == std::uint64_t{1} << kDrawWeightBits && draw_weight(kLastDrawKey) == 0);
static_assert(draw_weight(1 << kDrawFractionBits) == std::uint64_t{1} << (kDrawWeightBits - 1));
static_assert(draw_point(~std::uint64_t{0}, 7) == 6 &&
              draw_point(std::uint64_t{1} << 63, std::uint64_t{1} << 60) == std::uint64_t{1} << 59);

}  // namespace halftone
