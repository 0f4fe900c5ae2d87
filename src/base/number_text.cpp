#include "base/number_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace halftone {

double mebibytes(std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

std::string size_text(std::int64_t bytes) {
  const double mib = mebibytes(bytes);
  if (mib < 1) return fmt::format("{:.1f} KiB", mib * 1024);
  return mib < 1024 ? fmt::format("{:.1f} MiB", mib) : fmt::format("{:.2f} GiB", mib / 1024);
}

std::string milliseconds(double seconds) {
  const double ms = 1000 * seconds;
  return fmt::format("{:.{}f} ms", ms, ms < 1 ? 3 : ms < 10 ? 2 : 1);
}

std::string percent_text(const Interval& share) {
  if (!std::isfinite(share.low)) return fmt::format("{:.1f}", 100 * share.value);
  // A normal approximation may reach beyond what a share can be.
  return fmt::format("{:.1f} [{:.1f}, {:.1f}]", 100 * share.value, 100 * std::max(share.low, 0.0),
                     100 * std::min(share.high, 1.0));
}

std::string points_text(const Interval& difference) {
  // Rounded before the sign is printed: no "-0.0".
  const auto points = [](double share) {
    const double rounded = std::round(1000 * share) / 10;
    return rounded == 0 ? 0.0 : rounded;
  };
  if (!std::isfinite(difference.low)) return fmt::format("{:+.1f}", points(difference.value));
  return fmt::format("{:+.1f} [{:+.1f}, {:+.1f}]", points(difference.value), points(difference.low),
                     points(difference.high));
}

std::string speedup_text(double baseline_seconds, double seconds) {
  return fmt::format("{:.2f}x", baseline_seconds / seconds);
}

}  // namespace halftone
