#include "quant/calibration_observer.h"

#include <algorithm>
#include <cmath>

#include "ops/rope.h"

namespace halftone {
namespace {

bool in_vision(RuleClass rule_class) { return rule_class == RuleClass::kVision || rule_class == RuleClass::kProjector; }

bool is_watched(const ModuleInfo& module, const CalibrateOptions& options) {
  if (in_vision(module.rule_class)) return options.vision;
  return module.rule_class != RuleClass::kHead || options.head;
}

// The rows of a whole vision tower are in memory together; those of the decoder one layer after another.
constexpr std::int64_t kTowerRowBytes = 256 << 20;

struct Slots {
  std::int64_t tokens, patches;
};

// Rows that fit into the options' bytes, over all watched inputs.
Slots count_slots(const Model& model, const CalibrateOptions& options) {
  std::int64_t row_bytes = 1, tower_bytes = 1;
  for (const LinearGroup& group : linear_groups(model.config(), model.modules())) {
    const ModuleInfo& info = model.module(group.readers.front());
    if (!is_watched(info, options)) continue;
    const std::int64_t bytes = info.shape.at(1) * static_cast<std::int64_t>(sizeof(float));
    row_bytes += bytes;
    if (in_vision(info.rule_class)) tower_bytes += bytes;
  }
  const std::int64_t tokens = std::clamp<std::int64_t>(options.max_row_bytes / row_bytes, 1, options.sample_rows);
  return {tokens, std::clamp<std::int64_t>(kTowerRowBytes / tower_bytes, 1, tokens)};
}

// Largest |x| of each head, joined into `most`. x: [tokens, heads, d]; with d = 1 of each channel.
void join_head_absmax(const Tensor& x, std::vector<float>& most) {
  const std::int64_t heads = x.dim(1), d = x.dim(2);
  most.resize(static_cast<std::size_t>(heads), 0.0f);
  for (std::int64_t i = 0; i < x.dim(0) * heads; ++i) {
    float& head = most[static_cast<std::size_t>(i % heads)];
    const float* row = x.data<float>() + i * d;
    for (std::int64_t c = 0; c < d; ++c) head = std::max(head, std::abs(row[c]));
  }
}

}  // namespace

CalibrationObserver::CalibrationObserver(const Model& model, const CalibrateOptions& options, Stream& stream)
    : stream_(stream), kv_(static_cast<std::size_t>(model.config().decoder.layers)) {
  const Slots slots = count_slots(model, options);
  slots_ = slots.tokens;
  picture_slots_ = slots.patches;
  for (LinearGroup& linears : linear_groups(model.config(), model.modules())) {
    const ModuleInfo& info = model.module(linears.readers.front());
    if (!is_watched(info, options)) continue;
    first_reader_[linears.readers.front()] = groups_.size();
    groups_.push_back(
        {std::move(linears), static_cast<std::size_t>(info.shape.at(1)), nullptr, in_vision(info.rule_class)});
  }
  for (std::int64_t i = 0; i < model.config().decoder.layers; ++i) key_bias_.push_back(model.key_bias(i));
}

void CalibrationObserver::on_linear_input(std::string_view module, const Tensor& x) {
  const auto it = first_reader_.find(module);
  if (it == first_reader_.end()) return;
  Group& group = groups_[it->second];
  if (!group.statistics) {
    group.statistics = std::make_shared<InputStatistics>(empty_statistics(group.inputs));
    const std::int64_t slots = group.vision ? picture_slots_ : slots_;
    group.statistics->rows = Tensor::zeros(DType::kF32, {slots, x.dim(1)});
    group.statistics->row_weights.resize(static_cast<std::size_t>(slots));
  }
  add_sample(x, sample_.classes, *stream_.pool, *group.statistics);
  sample_.rows->keep(x, group.statistics->rows, group.statistics->row_weights);
}

void CalibrationObserver::on_key_value(std::int64_t layer, const Tensor& k, const Tensor& v, const Tensor& cos,
                                       const Tensor& sin) {
  KvStatistics& statistics = kv_[static_cast<std::size_t>(layer)];
  join_head_absmax(k, statistics.k);
  join_head_absmax(v.reshape({v.dim(0), v.dim(1) * v.dim(2), 1}), statistics.v);
  const Tensor& bias = key_bias_[static_cast<std::size_t>(layer)];
  Tensor rotated(DType::kF32, k.shape());
  for (std::int64_t t = 0; t < k.dim(0); ++t) {
    std::copy_n(bias.data<float>(), bias.numel(), rotated.data<float>() + t * bias.numel());
  }
  rope(cos, sin, Numerics::kF32, rotated, stream_);
  for (std::int64_t i = 0; i < k.numel(); ++i) rotated.data<float>()[i] = k.data<float>()[i] - rotated.data<float>()[i];
  join_head_absmax(rotated, statistics.k_debiased);
}

InputTable CalibrationObserver::take(std::string_view prefix, std::int64_t filled) {
  InputTable inputs;
  for (Group& group : groups_) {
    const std::string& first = group.linears.readers.front();
    if (!first.starts_with(prefix)) continue;
    if (group.statistics == nullptr && group.vision) continue;  // texts alone
    require(group.statistics != nullptr, first, "no calibration sample reached this layer");
    InputStatistics& statistics = *group.statistics;
    require(std::all_of(statistics.abs_sum.begin(), statistics.abs_sum.end(),
                        [](double sum) { return std::isfinite(sum); }),
            first, "the calibration run gave values that are not finite");
    statistics.rows = statistics.rows.rows(0, filled);
    statistics.row_weights.resize(static_cast<std::size_t>(filled));
    for (const std::string& reader : group.linears.readers) inputs[reader] = group.statistics;
    group.statistics.reset();
  }
  return inputs;
}

KvStatistics CalibrationObserver::take_kv(std::int64_t layer) {
  return std::move(kv_[static_cast<std::size_t>(layer)]);
}

}  // namespace halftone
