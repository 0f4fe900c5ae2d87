#include "base/checksum.h"

#include <array>
#include <bit>
#include <cstring>

namespace halftone {
namespace {

constexpr std::uint64_t kMultiplier = 0x9e3779b97f4a7c15u;  // odd, so that multiplying loses nothing

std::uint64_t stir(std::uint64_t state, std::uint64_t word) { return std::rotl((state ^ word) * kMultiplier, 29); }

std::uint64_t word_at(const std::byte* bytes, std::size_t n = 8) {
  std::uint64_t word = 0;
  std::memcpy(&word, bytes, n);
  return word;
}

}  // namespace

std::uint64_t checksum(std::span<const std::byte> bytes) {
  std::array<std::uint64_t, 4> lanes{1, 2, 3, 4};
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 32; left -= 32, at += 32) {
    for (std::size_t lane = 0; lane < 4; ++lane) lanes[lane] = stir(lanes[lane], word_at(at + 8 * lane));
  }
  std::uint64_t sum = bytes.size();
  for (const std::uint64_t lane : lanes) sum = stir(sum, lane);
  for (; left >= 8; left -= 8, at += 8) sum = stir(sum, word_at(at));
  if (left > 0) sum = stir(sum, word_at(at, left));
  return sum ^ (sum >> 32);
}

}  // namespace halftone
