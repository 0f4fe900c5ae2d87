#pragma once

#include <cstdint>

namespace halftone {

// a >= 0, unit > 0: how many units hold a, and what these units are together.
constexpr std::int64_t divide_up(std::int64_t a, std::int64_t unit) { return (a + unit - 1) / unit; }
constexpr std::int64_t round_up(std::int64_t a, std::int64_t unit) { return divide_up(a, unit) * unit; }

}  // namespace halftone
