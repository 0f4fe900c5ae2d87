#include "report/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace halftone {
namespace {

// 1, 2 or 5 times a power of ten, so that about `count` steps cover `range`.
double round_step(double range, double count) {
  const double raw = range / count, magnitude = std::pow(10, std::floor(std::log10(raw))), fraction = raw / magnitude;
  return magnitude * (fraction <= 1 ? 1 : fraction <= 2 ? 2 : fraction <= 5 ? 5 : 10);
}

}  // namespace

Axis::Axis(double low, double high, double from, double to, bool logarithmic)
    : low_(low), high_(high), from_(from), to_(to), logarithmic_(logarithmic) {
  if (logarithmic_) {
    low_ = std::floor(std::log10(low));
    high_ = std::max(low_ + 1, std::ceil(std::log10(high)));
    for (double decade = low_; decade <= high_; ++decade) ticks_.push_back(std::pow(10, decade));
    return;
  }
  if (!(high_ > low_)) high_ = low_ + 1;
  constexpr double kPixelsPerTick = 45;
  step_ = round_step(high_ - low_, std::max(2.0, std::abs(to - from) / kPixelsPerTick));
  low_ = std::floor(low_ / step_ + 1e-9) * step_;
  high_ = std::ceil(high_ / step_ - 1e-9) * step_;
  const auto count = static_cast<int>(std::lround((high_ - low_) / step_));
  for (int i = 0; i <= count; ++i) ticks_.push_back(low_ + i * step_);
}

double Axis::pixel(double value) const {
  const double place = logarithmic_ ? std::log10(std::max(value, std::pow(10, low_))) : value;
  return from_ + (place - low_) / (high_ - low_) * (to_ - from_);
}

std::string Axis::label(double tick) const {
  if (logarithmic_) return fmt::format("{:g}", tick);
  const int decimals = std::max(0, -static_cast<int>(std::floor(std::log10(step_) + 1e-9)));
  const double shown = std::abs(tick) < step_ / 2 ? 0 : tick;  // no "-0"
  return fmt::format("{:.{}f}", shown, decimals);
}

}  // namespace halftone
