#pragma once
// How the report prints numbers: sizes in MiB and GiB, times in ms, percentages to one decimal with their interval.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/statistics.h"
#include "study/rows.h"

namespace halftone {

// What the formats of the KV cache are.
inline constexpr std::string_view kKvFormatsNote =
    "fp8: E4M3 with scale 1.0; fp8_calibrated: one scale a tensor; fp8_head: one a head; fp8_debiased: keys stored "
    "without their bias.";

double mebibytes(std::int64_t bytes);
// "24.6 MiB", "15.2 GiB".
std::string size_text(std::int64_t bytes);
// From seconds: "12.3 ms"; three digits below 10 ms.
std::string milliseconds(double seconds);
// From shares: "82.7 [79.4, 86.0]".
std::string percent_text(const Interval& share);
// "-0.4 [-1.2, +0.4]", in points.
std::string points_text(const Interval& difference);
// "1.4x".
std::string speedup_text(double baseline_seconds, double seconds);
// The first 12 digits.
std::string short_hash(std::string_view hash);
// What a component of the memory is: "weights, quantized", "scales", "weights kept as they are", or its own name.
std::string memory_part_title(const MemoryRow& row);
// "decode" -> "picture decoding", ...
std::string stage_title(std::string_view stage);

}  // namespace halftone
