#include "eval/figure.h"

#include <cmath>

namespace halftone {

Figure percent_of(std::string group, std::string metric, std::span<const Observation> observations) {
  Figure figure{std::move(group), std::move(metric), 0, std::ssize(observations), std::nullopt};
  if (observations.empty()) return figure;
  double value = 0, weight = 0;
  for (const Observation& o : observations) {
    value += o.value;
    weight += o.weight;
  }
  figure.value = 100 * value / weight;
  const Interval share = share_with_interval(observations);
  if (std::isfinite(share.high)) figure.interval = Interval{figure.value, 100 * share.low, 100 * share.high};
  return figure;
}

Json to_json(const Figure& figure) {
  Json json = {
      {"group", figure.group}, {"metric", figure.metric}, {"value", figure.value}, {"samples", figure.samples}};
  if (figure.interval) {
    json["low"] = figure.interval->low;
    json["high"] = figure.interval->high;
  }
  return json;
}

}  // namespace halftone
