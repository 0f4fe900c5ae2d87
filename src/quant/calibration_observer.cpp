#include "quant/calibration_observer.h"

#include <algorithm>
#include <cmath>

#include "ops/rope.h"

namespace halftone {
namespace {

constexpr std::int64_t kChannelsPerTask = 64;

bool is_watched(RuleClass rule_class, const CalibrateOptions& options) {
  switch (rule_class) {
    case RuleClass::kVision:
    case RuleClass::kProjector:
      return options.vision;
    case RuleClass::kHead:
      return options.head;
    default:
      return true;
  }
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

CalibrationObserver::CalibrationObserver(const Model& model, const CalibrateOptions& options, Stream& stream)
    : options_(options),
      stream_(stream),
      random_(options.seed ^ 0x726f7773u),
      kv_(static_cast<std::size_t>(model.config().decoder.layers)) {
  std::int64_t row_bytes = 0;
  for (LinearGroup& group : linear_groups(model.config(), model.modules())) {
    const ModuleInfo& info = model.module(group.readers.front());
    if (!is_watched(info.rule_class, options)) continue;
    const auto width = static_cast<std::size_t>(info.shape.at(1));
    auto statistics = std::make_shared<InputStatistics>();
    statistics->absmax.resize(width);
    statistics->abs_sum.resize(width);
    row_bytes += static_cast<std::int64_t>(width * sizeof(float));
    first_reader_[group.readers.front()] = groups_.size();
    groups_.push_back(std::move(group));
    statistics_.push_back(std::move(statistics));
  }
  slots_ =
      std::clamp<std::int64_t>(options.max_row_bytes / std::max<std::int64_t>(row_bytes, 1), 1, options.sample_rows);
  for (std::int64_t i = 0; i < model.config().decoder.layers; ++i) key_bias_.push_back(model.key_bias(i));
}

void CalibrationObserver::begin_sample(std::int64_t tokens) {
  kept_.clear();
  for (std::int64_t t = 0; t < tokens; ++t, ++seen_) {
    const auto slot =
        seen_ < slots_ ? seen_ : static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(seen_ + 1)));
    if (slot < slots_) kept_.push_back({t, slot});
  }
}

void CalibrationObserver::keep_rows(const Tensor& x, InputStatistics& statistics) const {
  if (!statistics.rows.defined()) statistics.rows = Tensor::zeros(DType::kF32, {slots_, x.dim(1)});
  for (const Kept& kept : kept_) {
    std::copy_n(x.data<float>() + kept.token * x.dim(1), x.dim(1),
                statistics.rows.data<float>() + kept.slot * x.dim(1));
  }
}

void CalibrationObserver::on_linear_input(std::string_view module, const Tensor& x) {
  const auto it = first_reader_.find(module);
  if (it == first_reader_.end()) return;
  InputStatistics& statistics = *statistics_[it->second];
  add_channels(x, *stream_.pool, statistics);
  if (keep_rows_) keep_rows(x, statistics);
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
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    InputStatistics& statistics = *statistics_[g];
    require(statistics.tokens > 0, groups_[g].readers.front(), "no calibration sample reached this layer");
    require(std::all_of(statistics.abs_sum.begin(), statistics.abs_sum.end(),
                        [](double sum) { return std::isfinite(sum); }),
            groups_[g].readers.front(), "the calibration run gave values that are not finite");
    if (statistics.rows.defined()) statistics.rows = statistics.rows.rows(0, std::min(slots_, seen_));
    for (const std::string& reader : groups_[g].readers) calibration.inputs[reader] = statistics_[g];
  }
  calibration.kv = std::move(kv_);
}

}  // namespace halftone
