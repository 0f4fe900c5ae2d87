#include "quant/calibration_observer.h"

#include <algorithm>
#include <cmath>

#include "ops/rope.h"

namespace halftone {
namespace {

constexpr std::int64_t kChannelsPerTask = 64;

bool in_vision(RuleClass rule_class) { return rule_class == RuleClass::kVision || rule_class == RuleClass::kProjector; }

bool is_watched(const ModuleInfo& module, const CalibrateOptions& options) {
  if (in_vision(module.rule_class)) return options.vision;
  return module.rule_class != RuleClass::kHead || options.head;
}

// Rows that fit into the options' bytes, over all watched inputs.
std::int64_t count_slots(const Model& model, const CalibrateOptions& options) {
  std::int64_t row_bytes = 1;
  for (const LinearGroup& group : linear_groups(model.config(), model.modules())) {
    const ModuleInfo& info = model.module(group.readers.front());
    if (is_watched(info, options)) row_bytes += info.shape.at(1) * static_cast<std::int64_t>(sizeof(float));
  }
  return std::clamp<std::int64_t>(options.max_row_bytes / row_bytes, 1, options.sample_rows);
}

// Each channel sums its tokens in order, so that threads change nothing.
void add_channels(const Tensor& x, ThreadPool& pool, InputStatistics& statistics) {
  const std::int64_t tokens = x.dim(0), width = x.dim(1);
  pool.parallel_for((width + kChannelsPerTask - 1) / kChannelsPerTask, [&](std::int64_t task) {
    const std::int64_t begin = task * kChannelsPerTask, end = std::min(width, begin + kChannelsPerTask);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const float* row = x.data<float>() + t * width;
      for (std::int64_t c = begin; c < end; ++c) {
        const float magnitude = std::abs(row[c]);
        const auto i = static_cast<std::size_t>(c);
        statistics.absmax[i] = std::max(statistics.absmax[i], magnitude);
        statistics.abs_sum[i] += magnitude;  // NaN and infinity stay, so that finish() finds them
      }
    }
  });
  statistics.tokens += tokens;
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

void RowSampler::begin(std::int64_t rows) {
  rows_ = rows;
  choices_.clear();
  for (std::int64_t row = 0; row < rows; ++row, ++seen_) {
    const auto drawn = static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(seen_ + 1)));
    const std::int64_t slot = seen_ < slots_ ? seen_ : drawn;
    if (slot < slots_) choices_.push_back({row, slot});
  }
}

void RowSampler::keep(const Tensor& x, Tensor& kept) const {
  const std::int64_t width = x.dim(1), stride = x.dim(0) / rows_;
  if (!kept.defined()) kept = Tensor::zeros(DType::kF32, {slots_, width});
  for (const Choice& choice : choices_) {
    std::copy_n(x.data<float>() + choice.row * stride * width, width, kept.data<float>() + choice.slot * width);
  }
}

CalibrationObserver::CalibrationObserver(const Model& model, const CalibrateOptions& options, Stream& stream)
    : stream_(stream),
      kv_(static_cast<std::size_t>(model.config().decoder.layers)),
      token_rows_(count_slots(model, options), options.seed),
      picture_rows_(count_slots(model, options), options.seed) {
  for (LinearGroup& linears : linear_groups(model.config(), model.modules())) {
    const ModuleInfo& info = model.module(linears.readers.front());
    if (!is_watched(info, options)) continue;
    const auto width = static_cast<std::size_t>(info.shape.at(1));
    auto statistics = std::make_shared<InputStatistics>();
    statistics->absmax.resize(width);
    statistics->abs_sum.resize(width);
    first_reader_[linears.readers.front()] = groups_.size();
    groups_.push_back({std::move(linears), std::move(statistics), in_vision(info.rule_class)});
  }
  for (std::int64_t i = 0; i < model.config().decoder.layers; ++i) key_bias_.push_back(model.key_bias(i));
}

void CalibrationObserver::on_linear_input(std::string_view module, const Tensor& x) {
  const auto it = first_reader_.find(module);
  if (it == first_reader_.end()) return;
  InputStatistics& statistics = *groups_[it->second].statistics;
  add_channels(x, *stream_.pool, statistics);
  rows_->keep(x, statistics.rows);
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

void CalibrationObserver::finish(Calibration& calibration) {
  for (Group& group : groups_) {
    InputStatistics& statistics = *group.statistics;
    const std::string& first = group.linears.readers.front();
    if (statistics.tokens == 0 && group.vision) continue;  // texts alone
    require(statistics.tokens > 0, first, "no calibration sample reached this layer");
    require(std::all_of(statistics.abs_sum.begin(), statistics.abs_sum.end(),
                        [](double sum) { return std::isfinite(sum); }),
            first, "the calibration run gave values that are not finite");
    statistics.rows = statistics.rows.rows(0, (group.vision ? picture_rows_ : token_rows_).filled());
    for (const std::string& reader : group.linears.readers) calibration.inputs[reader] = group.statistics;
  }
  calibration.kv = std::move(kv_);
}

}  // namespace halftone
