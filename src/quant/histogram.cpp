#include "quant/histogram.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace halftone {

void Histogram::reach(float most) {
  if (counts.empty()) counts.assign(1, 0);  // zeros wait in the first bin
  if (width == 0 && most > 0) {
    width = most / static_cast<float>(kBins);
    counts.resize(static_cast<std::size_t>(kBins));
  }
  if (width == 0 || most <= edge(counts.size())) return;
  while (most / width > static_cast<float>(kMaxBins)) {
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const std::int64_t n = std::exchange(counts[i], 0);
      counts[i / 2] += n;
    }
    counts.resize((counts.size() + 1) / 2);
    width *= 2;
  }
  const auto bins = static_cast<std::size_t>(std::ceil(most / width));
  if (bins > counts.size()) counts.resize(bins);
  // the quotient may round down to just below `most`
  if (edge(counts.size()) < most) counts.push_back(0);
}

void Histogram::count(std::span<const float> x, std::vector<std::int64_t>& into) const {
  if (width == 0) {
    into.front() += static_cast<std::int64_t>(x.size());
    return;
  }
  const auto bins = static_cast<float>(counts.size());
  const float right = edge(counts.size());
  for (const float value : x) {
    const float place = std::abs(value) * bins / right;
    ++into[place < bins ? static_cast<std::size_t>(place) : counts.size() - 1];
  }
}

void Histogram::add(std::span<const std::int64_t> more) {
  for (std::size_t i = 0; i < more.size(); ++i) counts[i] += more[i];
}

std::int64_t Histogram::total() const { return std::accumulate(counts.begin(), counts.end(), std::int64_t{0}); }

double Histogram::share_above(double limit) const {
  const std::int64_t all = total();
  if (all == 0) return 0;
  if (width == 0) return 0;
  double above = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double part = std::clamp(static_cast<double>(i + 1) - limit / width, 0.0, 1.0);
    above += part * static_cast<double>(counts[i]);
  }
  return above / static_cast<double>(all);
}

}  // namespace halftone
