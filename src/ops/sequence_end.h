#pragma once
// When a sequence ends: one test for the host and for a device.

#include <cstdint>
#include <limits>
#include <span>

namespace halftone {

// stop_tokens: what ends a text in this model; a few.
constexpr bool is_stop_token(std::int32_t token, std::span<const std::int32_t> stop_tokens) {
  for (const std::int32_t stop : stop_tokens) {
    if (token == stop) return true;
  }
  return false;
}

// What ends a sequence: a stop token, be it the last one allowed too, or the limit alone.
enum class SequenceEnd { kNone, kStop, kLimit };

// How many tokens a sequence may still be given, and whether a stop token ends it before.
struct TokenLimit {
  std::int32_t remaining = std::numeric_limits<std::int32_t>::max();  // the next one included
  bool stops = true;

  // What makes `token` the last one.
  constexpr SequenceEnd find_end(std::int32_t token, std::span<const std::int32_t> stop_tokens) const {
    if (stops && is_stop_token(token, stop_tokens)) return SequenceEnd::kStop;
    return remaining <= 1 ? SequenceEnd::kLimit : SequenceEnd::kNone;
  }
  constexpr bool ends_with(std::int32_t token, std::span<const std::int32_t> stop_tokens) const {
    return find_end(token, stop_tokens) != SequenceEnd::kNone;
  }
  // After one token.
  constexpr TokenLimit next() const { return {remaining - 1, stops}; }
  bool operator==(const TokenLimit&) const = default;
};

}  // namespace halftone
