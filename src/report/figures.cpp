#include "report/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
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
  return fmt::format("{:.1f} [{:.1f}, {:.1f}]", 100 * share.value, std::fmax(0, 100 * share.low),
                     std::fmin(100, 100 * share.high));
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

std::string short_hash(std::string_view hash) { return std::string(hash.substr(0, 12)); }

std::string memory_part_title(const MemoryRow& row) {
  constexpr std::string_view kWeights = "weights/";
  if (!row.component.starts_with(kWeights)) return row.component;
  std::string format = row.component.substr(kWeights.size());
  std::transform(format.begin(), format.end(), format.begin(), [](unsigned char c) { return std::tolower(c); });
  if (format == "scales") return "scales";
  const bool is_plain = format.starts_with("bf16") || format.starts_with("f16") || format.starts_with("f32");
  return is_plain ? "weights kept as they are" : "weights, quantized";
}

std::string stage_title(std::string_view stage) {
  if (stage == "decode") return "picture decoding";
  if (stage == "resize") return "resizing";
  if (stage == "vision") return "vision tower";
  if (stage == "first_token") return "first token";
  return std::string(stage);
}

}  // namespace halftone
