#pragma once
// How results print numbers: sizes in MiB and GiB, times in ms, percentages to one decimal with their interval.

#include <cstdint>
#include <string>

#include "base/statistics.h"

namespace halftone {

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

}  // namespace halftone
