#pragma once
// How calibration data fill the range of a layer's input: saturation, coverage, and what pictures and text each ask
// for.

#include <array>
#include <cstdint>
#include <optional>

#include "base/json.h"
#include "quant/statistics.h"
#include "tensor/qtensor.h"

namespace halftone {

struct InputReport {
  struct OfClass {
    std::int64_t tokens = 0;
    float absmax = 0;     // largest |x|
    double mean_abs = 0;  // mean |x| over tokens and channels
    bool operator==(const OfClass&) const = default;
  };
  std::array<OfClass, 2> by_class;  // by TokenClass
  std::int64_t channels = 0;
  std::int64_t dead_channels = 0;  // zero for every token
  // Of inputs with a static scale: the share of calibration values above its range, which are clipped (to the
  // resolution of the histogram), and the largest value as a share of that range (1 fills it, more is clipped).
  std::optional<double> clipped, used;

  bool operator==(const InputReport&) const = default;
};

// statistics: of x as the layer reads it, after smoothing.
InputReport report_input(const InputStatistics& statistics, const InputQuant& input);
OrderedJson to_json(const InputReport& report);

}  // namespace halftone
