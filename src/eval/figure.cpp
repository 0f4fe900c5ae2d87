#include "eval/figure.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace halftone {

namespace {

constexpr double kZ = 1.959963984540054;  // the normal distribution's 97.5 % point

}  // namespace

Figure percent_of(std::string group, std::string metric, std::int64_t hits, std::int64_t n) {
  Figure figure{std::move(group), std::move(metric), 0, n, std::nullopt, ""};
  if (n == 0) return figure;
  const double p = static_cast<double>(hits) / static_cast<double>(n), z2n = kZ * kZ / static_cast<double>(n);
  const double centre = (p + z2n / 2) / (1 + z2n);
  const double half =
      kZ / (1 + z2n) * std::sqrt(p * (1 - p) / static_cast<double>(n) + z2n / (4 * static_cast<double>(n)));
  figure.value = 100.0 * static_cast<double>(hits) / static_cast<double>(n);
  figure.interval = Interval{figure.value, 100 * std::max(0.0, centre - half), 100 * std::min(1.0, centre + half)};
  figure.method = "Wilson";
  return figure;
}

Figure percent_mean(std::string group, std::string metric, std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  Figure figure{std::move(group), std::move(metric), 0, static_cast<std::int64_t>(values.size()), std::nullopt, ""};
  if (values.empty()) return figure;
  double sum = 0, squares = 0;
  for (const double v : values) sum += v;
  const double mean = sum / n;
  for (const double v : values) squares += (v - mean) * (v - mean);
  figure.value = 100 * mean;
  if (values.size() < 2) return figure;
  const double half = 100 * kZ * std::sqrt(squares / (n - 1) / n);
  figure.interval = Interval{figure.value, std::max(0.0, figure.value - half), std::min(100.0, figure.value + half)};
  figure.method = "normal";
  return figure;
}

Figure mean_over_tokens(std::string group, std::string metric, std::span<const TokenSum> samples) {
  double sum = 0;
  std::int64_t tokens = 0;
  for (const TokenSum& sample : samples) {
    sum += sample.sum;
    tokens += sample.tokens;
  }
  require(tokens > 0, metric, "expected tokens to take the mean over, found none");
  const double mean = sum / static_cast<double>(tokens);
  Figure figure{std::move(group), std::move(metric), mean, tokens, std::nullopt, ""};
  const auto n = static_cast<double>(samples.size());
  if (samples.size() < 2) return figure;
  double squares = 0;
  for (const TokenSum& sample : samples) {
    const double residual = sample.sum - mean * static_cast<double>(sample.tokens);
    squares += residual * residual;
  }
  const double half = kZ * std::sqrt(squares * n / (n - 1)) / static_cast<double>(tokens);
  figure.interval = Interval{mean, mean - half, mean + half};
  figure.method = "normal, clustered by sample";
  return figure;
}

Json to_json(const Figure& figure) {
  Json json = {
      {"group", figure.group}, {"metric", figure.metric}, {"value", figure.value}, {"samples", figure.samples}};
  if (figure.interval) {
    json["low"] = figure.interval->low;
    json["high"] = figure.interval->high;
    json["interval"] = figure.method;
  }
  return json;
}

}  // namespace halftone
