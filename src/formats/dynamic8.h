#pragma once
// The dynamic 8-bit code of bitsandbytes: 256 values between -1 and 1, for numbers divided by the largest magnitude of
// their block. Seven decades 1, 0.1 .. 1e-6; decade 10^-k holds 2^(6-k) values of each sign, evenly spaced in (0.1, 1] of
// it; and 0 and 1. Code c is the c-th smallest. Encoding takes the nearest, half way the lower one.
// Sources: Dettmers, "8-bit approximations for parallelism in deep learning", 2016; bitsandbytes create_dynamic_map.

#include <algorithm>
#include <array>
#include <cstdint>

namespace halftone::dynamic8 {

namespace detail {

// Point i of n evenly spaced ones from 0.1 to 1, as torch.linspace rounds it.
constexpr float spaced(int i, int n) {
  const float first = 0.1f, last = 1.0f, step = (last - first) / static_cast<float>(n - 1);
  const double from_first = static_cast<double>(first) + static_cast<double>(step) * i;
  const double from_last = static_cast<double>(last) - static_cast<double>(step) * (n - 1 - i);
  return static_cast<float>(i < n / 2 ? from_first : from_last);
}

constexpr std::array<float, 256> make_values() {
  constexpr float kDecades[] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
  std::array<float, 256> values{};
  std::size_t count = 0;
  for (int decade = 0; decade < 7; ++decade) {
    const int points = (1 << decade) + 1;
    for (int i = 0; i + 1 < points; ++i) {
      const float value = kDecades[decade] * ((spaced(i, points) + spaced(i + 1, points)) / 2);
      values[count++] = value;
      values[count++] = -value;
    }
  }
  values[count++] = 0;
  values[count++] = 1;
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace detail

constexpr std::array<float, 256> kValues = detail::make_values();

constexpr float decode(std::uint8_t code) { return kValues[code]; }

// NaN has no code: it becomes that of -1, the caller checks.
constexpr std::uint8_t encode(float x) {
  int low = 0, high = 255;  // the number of midpoints below x is in [low, high]
  while (low < high) {
    const int middle = (low + high) / 2;
    const auto at = static_cast<std::size_t>(middle);
    if ((kValues[at] + kValues[at + 1]) / 2 < x) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return static_cast<std::uint8_t>(low);
}

static_assert(decode(255) == 1.0f && decode(127) == 0.0f && encode(0.0f) == 127 && encode(2.0f) == 255);
static_assert(encode(-1.0f) == 0 && encode(decode(200)) == 200 && encode(decode(3)) == 3);

}  // namespace halftone::dynamic8
