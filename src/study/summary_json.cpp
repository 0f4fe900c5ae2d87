#include <cmath>

#include "study/summary.h"

namespace halftone {
namespace {

// Bounds that are not finite are left out: JSON has no infinity.
Json to_json(const Interval& interval) {
  Json json = {{"value", interval.value}};
  if (std::isfinite(interval.low)) json["low"] = interval.low;
  if (std::isfinite(interval.high)) json["high"] = interval.high;
  return json;
}

Json to_json(const Accuracy& accuracy) {
  Json json = {{"accuracy", to_json(accuracy.value)}, {"samples", accuracy.samples}, {"pictures", accuracy.pictures}};
  if (accuracy.difference) {
    json["difference"] = to_json(*accuracy.difference);
    json["lost"] = accuracy.lost;
    json["won"] = accuracy.won;
    json["verdict"] = accuracy.difference->worse() ? "worse" : accuracy.difference->better() ? "better" : "cannot tell";
  }
  for (const ScoreRow& row : accuracy.scores) {
    json["scores"].push_back(
        {{"group", row.group}, {"metric", row.metric}, {"value", row.value}, {"samples", row.samples}});
  }
  return json;
}

Json to_json(const Summary& seconds) {
  return {{"median", seconds.median}, {"low", seconds.median_low}, {"high", seconds.median_high},
          {"p90", seconds.p90},       {"p99", seconds.p99},        {"repeats", seconds.count}};
}

Json to_json(const ConfigurationSummary& c) {
  Json json = {{"name", c.row.name},
               {"recipe", c.row.recipe},
               {"weights", c.row.weights},
               {"inputs", c.row.inputs},
               {"kv_format", c.row.kv_format},
               {"weights_hash", c.row.weights_hash},
               {"numerics", c.row.numerics},
               {"products", c.row.products},
               {"instruction_set", c.row.instruction_set},
               {"kv_bytes_per_token", c.row.kv_bytes_per_token},
               {"weight_bytes", c.weight_bytes()}};
  for (const auto& [task, accuracy] : c.accuracy) json["tasks"][task] = to_json(accuracy);
  for (const auto& [task, d] : c.divergence) {
    json["tasks"][task] = {
        {"kl", to_json(d.kl)}, {"top1", to_json(d.agreement)}, {"samples", d.samples}, {"tokens", d.tokens}};
  }
  for (const auto& [task, p] : c.perplexity) {
    json["tasks"][task] = {{"perplexity", to_json(p.value)}, {"samples", p.samples}, {"tokens", p.tokens}};
  }
  for (const auto& [workload, speed] : c.speed) {
    json["workloads"][workload] = {
        {"stages", speed.stages}, {"ttft", to_json(speed.ttft)}, {"per_token", to_json(speed.per_token)}};
  }
  for (const MemoryRow& row : c.memory) json["memory"][row.component] = row.bytes;
  return json;
}

}  // namespace

Json to_json(const StudySummary& study) {
  Json json = {{"name", study.info.name},         {"program", study.info.program},   {"created", study.info.created},
               {"baseline", study.baseline},      {"settings", study.info.settings}, {"machine", study.info.machine},
               {"configurations", Json::array()}, {"unfinished", study.unfinished()}};
  for (const ConfigurationSummary& c : study.configurations) json["configurations"].push_back(to_json(c));
  return json;
}

}  // namespace halftone
