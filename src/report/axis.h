#pragma once
// A number line: from values to pixels, with ticks at round numbers.

#include <string>
#include <vector>

namespace halftone {

class Axis {
 public:
  // Covers [low, high], widened to whole ticks, on the pixels [from, to]. Logarithmic needs 0 < low.
  Axis(double low, double high, double from, double to, bool logarithmic = false);

  double pixel(double value) const;
  const std::vector<double>& ticks() const { return ticks_; }
  // With as many decimals as neighbouring ticks need to differ.
  std::string label(double tick) const;

 private:
  double low_, high_, from_, to_, step_ = 0;
  bool logarithmic_;
  std::vector<double> ticks_;
};

}  // namespace halftone
