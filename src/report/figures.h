#pragma once
// Words and numbers of the report.

#include <string>
#include <string_view>

#include "base/number_text.h"
#include "study/rows.h"

namespace halftone {

// What the formats of the KV cache are.
inline constexpr std::string_view kKvFormatsNote =
    "fp8: E4M3 with scale 1.0; fp8_calibrated: one scale a tensor; fp8_head: one a head; fp8_debiased: keys stored "
    "without their bias; int8_calibrated, int8_head: INT8 with scales likewise.";

// The first 12 digits.
std::string short_hash(std::string_view hash);
// What a component of the memory is: "weights, quantized", "scales", "weights kept as they are", or its own name.
std::string memory_part_title(const MemoryRow& row);

}  // namespace halftone
