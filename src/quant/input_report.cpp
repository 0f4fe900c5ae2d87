#include "quant/input_report.h"

#include <numeric>

#include "formats/e2m1.h"
#include "formats/e4m3.h"
#include "formats/integer.h"

namespace halftone {
namespace {

// The largest number that survives; nothing for scales found at run time.
std::optional<float> range_of(const InputQuant& input) {
  switch (input.kind) {
    case InputQuant::Kind::kStaticInt8:
      return input.scale * (static_cast<float>(integer::kInt8Max) + 0.5f);  // what still rounds to the last code
    case InputQuant::Kind::kStaticE4M3:
      return input.scale * e4m3::kMax;
    case InputQuant::Kind::kDynamicNvfp4:
      return input.scale * e2m1::kMax * e4m3::kMax;
    default:
      return {};
  }
}

InputReport::OfClass report_class(const ChannelStatistics& statistics) {
  const double sum = std::accumulate(statistics.abs_sum.begin(), statistics.abs_sum.end(), 0.0);
  const double values = static_cast<double>(statistics.tokens) * static_cast<double>(statistics.abs_sum.size());
  return {statistics.tokens, statistics.tensor_absmax(), values > 0 ? sum / values : 0};
}

}  // namespace

InputReport report_input(const InputStatistics& statistics, const InputQuant& input) {
  InputReport report;
  for (std::size_t i = 0; i < report.by_class.size(); ++i) {
    report.by_class[i] = report_class(statistics.by_class[i]);
  }
  report.channels = std::ssize(statistics.absmax);
  report.dead_channels = statistics.dead_channels();
  if (const std::optional<float> range = range_of(input)) {
    const float most = statistics.tensor_absmax();
    report.used = static_cast<double>(most) / *range;
    report.clipped = most > *range ? statistics.histogram.share_above(*range) : 0.0;
  }
  return report;
}

OrderedJson to_json(const InputReport& report) {
  OrderedJson json;
  for (std::size_t i = 0; i < report.by_class.size(); ++i) {
    const InputReport::OfClass& of_class = report.by_class[i];
    json[std::string(kTokenClassNames[i])] = {
        {"tokens", of_class.tokens}, {"absmax", of_class.absmax}, {"mean_abs", of_class.mean_abs}};
  }
  json["channels"] = report.channels;
  json["dead_channels"] = report.dead_channels;
  if (report.used) json["range_used"] = *report.used;
  if (report.clipped) json["clipped"] = *report.clipped;
  return json;
}

}  // namespace halftone
