#pragma once
// A small random generator whose sequence is part of the contract: the same seed gives the same numbers on every
// machine.

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace halftone {

// SplitMix64 (Steele, Lea, Flood 2014). Not for cryptography.
class Random {
 public:
  constexpr explicit Random(std::uint64_t seed) : state_(seed) {}

  constexpr std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // What a generator that goes on from here is made with.
  constexpr std::uint64_t state() const { return state_; }
  // [0, 1), 53 bits.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // [0, n), by rejection, n > 0.
  std::uint64_t below(std::uint64_t n) {
    const std::uint64_t limit = -n % n;
    std::uint64_t x = next();
    while (x < limit) x = next();
    return x % n;
  }
  // A permutation of 0 .. n-1 (Fisher-Yates).
  std::vector<std::int64_t> permutation(std::int64_t n) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[below(i)]);
    return order;
  }

 private:
  std::uint64_t state_;
};

}  // namespace halftone
