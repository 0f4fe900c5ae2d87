#pragma once
// How often magnitudes occur: what observers clip by. ModelOpt's HistogramCalibrator with torch_hist: the first batch
// with a number above 0 fixes the width of a bin as its largest magnitude / 2048; a larger one later adds bins.
// Source: modelopt/torch/quantization/calib/histogram.py, torch.histc.

#include <cstdint>
#include <span>
#include <vector>

namespace halftone {

struct Histogram {
  static constexpr std::int64_t kBins = 2048;
  // Beyond so many, pairs of bins are joined (ModelOpt lets them grow without limit).
  static constexpr std::int64_t kMaxBins = 8192;

  float width = 0;                   // of a bin; 0: only zeros came
  std::vector<std::int64_t> counts;  // bin i holds width * i <= |x| < width * (i + 1), the last one its upper edge too

  // Makes room for a batch whose largest magnitude is `most`, finite.
  void reach(float most);
  // Adds |x|, none above what was reached, to `counts`, which has as many bins; so that threads may count apart.
  void count(std::span<const float> x, std::vector<std::int64_t>& counts) const;
  // Adds counts of as many bins, or of fewer of the same width.
  void add(std::span<const std::int64_t> more);

  std::int64_t total() const;
  // The lower edge of bin i, in f32.
  float edge(std::size_t i) const { return static_cast<float>(static_cast<double>(width) * static_cast<double>(i)); }
  // The share of values above `limit`, bins split evenly; 0 without values.
  double share_above(double limit) const;

  bool operator==(const Histogram&) const = default;
};

}  // namespace halftone
