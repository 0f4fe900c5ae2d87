#include <algorithm>
#include <cstdlib>

#include "eval/scorers.h"

namespace halftone {

namespace {

// digits, or digits "." digits, or "." digits, at the front of `text`.
std::optional<double> take_number(std::string_view& text) {
  const auto digits_from = [&](std::size_t begin) {
    std::size_t end = begin;
    while (end < text.size() && text[end] >= '0' && text[end] <= '9') ++end;
    return end;
  };
  std::size_t end = digits_from(0);
  if (end < text.size() && text[end] == '.') {
    const std::size_t fraction = digits_from(end + 1);
    if (fraction == end + 1) return std::nullopt;
    end = fraction;
  }
  if (end == 0) return std::nullopt;
  const double value = std::strtod(std::string(text.substr(0, end)).c_str(), nullptr);
  text.remove_prefix(end);
  return value;
}

bool take(std::string_view& text, std::string_view expected) {
  if (!text.starts_with(expected)) return false;
  text.remove_prefix(expected.size());
  return true;
}

double area(const Box& box) { return std::max(0.0, box[2] - box[0]) * std::max(0.0, box[3] - box[1]); }

// To the nearest of 4 decimals, correctly (a product with 10^4 would round twice).
double round4(double value) { return std::strtod(fmt::format("{:.4f}", value).c_str(), nullptr); }

}  // namespace

std::optional<Box> parse_box(std::string_view answer) {
  Box box{};
  for (std::size_t i = 0; i < box.size(); ++i) {
    if (!take(answer, i == 0 ? "[" : ", ")) return std::nullopt;
    const std::optional<double> edge = take_number(answer);
    if (!edge) return std::nullopt;
    box[i] = *edge;
  }
  if (answer != "]") return std::nullopt;
  return box;
}

double intersection_over_union(const Box& a, const Box& b) {
  const Box common = {std::max(a[0], b[0]), std::max(a[1], b[1]), std::min(a[2], b[2]), std::min(a[3], b[3])};
  const double both = area(common);
  return both > 0 ? both / (area(a) + area(b) - both) : 0;
}

Verdict judge_grounding(const Sample& sample, std::string_view answer) {
  const Json& truth = sample.truth.at("bbox");
  const Box expected = {truth[0].get<double>(), truth[1].get<double>(), truth[2].get<double>(), truth[3].get<double>()};
  const std::optional<Box> said = parse_box(answer);
  // Rounded before the comparison, so that a box that covers exactly half is not lost to the last bit.
  const double iou = said ? round4(intersection_over_union(*said, expected)) : 0;
  return {iou >= 0.5 ? 1.0 : 0.0, {}, {{"iou", iou}, {"invalid", !said.has_value()}}};
}

std::vector<Figure> aggregate_grounding(std::span<const JudgedSample> samples) {
  std::vector<Observation> ious, right, invalid;
  for (const JudgedSample& judged : samples) {
    ious.push_back(judged.observe(judged.verdict->score.at("iou").get<double>()));
    right.push_back(judged.observe(judged.verdict->value));
    invalid.push_back(judged.observe(judged.verdict->score.at("invalid").get<bool>()));
  }
  return {percent_of("", "iou_50", right), percent_of("", "mean_iou", ious), percent_of("", "invalid", invalid)};
}

}  // namespace halftone
