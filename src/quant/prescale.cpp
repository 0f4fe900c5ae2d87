#include "quant/prescale.h"

#include <algorithm>
#include <cmath>

#include "quant/awq_clip.h"
#include "quant/awq_lite.h"
#include "quant/modelopt_simulation.h"
#include "quant/rounding_job.h"
#include "quant/smoothquant.h"
#include "quant/svdquant.h"

namespace halftone {
namespace {

// Tokens of a batch that awq_clip looks at for groups of INT4: every n / 64th.
constexpr std::int64_t kClipTokens = 64;

struct SeenRow {
  std::int64_t row;
  float weight;
};

// Rows that count 1 / n are batches of n; without weights all are one.
std::vector<SeenRow> rows_seen(const InputStatistics& statistics, bool sparse) {
  std::vector<SeenRow> seen;
  const std::int64_t rows = statistics.rows.dim(0);
  for (std::int64_t first = 0; first < rows;) {
    const double batch = std::clamp(1 / row_weight(statistics, first), 1.0, static_cast<double>(rows - first));
    const std::int64_t n = std::llround(batch);
    const std::int64_t step = sparse ? std::max<std::int64_t>(1, n / kClipTokens) : 1;
    const float weight = 1.0f / static_cast<float>((n + step - 1) / step);
    for (std::int64_t row = first; row < first + n; row += step) seen.push_back({row, weight});
    first += n;
  }
  return seen;
}

class GroupPrescaler {
 public:
  GroupPrescaler(const LinearGroup& group, const Recipe& recipe, const FormatTable& formats,
                 const Calibration& calibration, WorkingWeights& weights, Stream& stream)
      : group_(group),
        recipe_(recipe),
        formats_(formats),
        calibration_(calibration),
        weights_(weights),
        stream_(stream) {
    for (const std::string& reader : group.readers) {
      if (!takes_input_scales(recipe, formats.at(reader))) continue;
      require(readers_.empty() || formats.at(reader) == formats.at(readers_.front()), reader,
              "expected the format of {}, which reads the same input", readers_.empty() ? "" : readers_.front());
      readers_.push_back(reader);
    }
  }

  std::map<std::string, Prescaled> run() {
    if (readers_.empty()) return {};
    for (const std::string& reader : readers_) scale(reader);
    if (svd()) {
      for (const std::string& reader : readers_) split(reader);
    }
    if (readers_.size() > 1) share_scales();
    const bool has_writer = !group_.writer.empty();
    if (folds_into_norm(group_, recipe_, formats_, has_writer ? &weights_.info(group_.writer) : nullptr)) {
      fold_into_norm();
    }
    return std::move(result_);
  }

 private:
  bool svd() const { return recipe_.algorithm == Algorithm::kSvdQuant; }

  void scale(const std::string& reader) {
    const auto found = calibration_.inputs.find(reader);
    require(found != calibration_.inputs.end(), recipe_.name, "no calibration of the inputs of {}", reader);
    const InputStatistics& statistics = *found->second;
    WorkingModule& module = weights_.get(reader);
    Prescaled& result = result_[reader];
    const std::vector<float> factors = find_factors(module, statistics, result);
    result.scales = input_scales(factors, module.dtype);
    // AWQ scales the largest magnitudes in f32; SVDQuant and awq_clip measure again what was scaled in the dtype
    result.input_absmax =
        statistics.amax
            ? *statistics.amax
            : scaled_input_absmax(statistics.absmax, svd() || recipe_.clips() ? result.scales : factors, module.dtype);
    scale_weight(factors, module.dtype, module.weight);
    module.weight_changed = true;
    if (recipe_.clips()) {
      result.limits = find_limits(module, formats_.at(reader), statistics, result.scales, stream_);
    }
  }

  // What the input is to be multiplied by, not rounded yet.
  std::vector<float> find_factors(const WorkingModule& module, const InputStatistics& statistics, Prescaled& result) {
    if (recipe_.algorithm == Algorithm::kSmoothQuant) {
      result.alpha = recipe_.alpha.value();
      return modelopt_smoothing(statistics.absmax, module.weight, result.alpha, module.dtype);
    }
    const std::string& reader = module.info->module;
    AwqLiteLinear linear{reader, &module.weight, &module.bias, module.dtype, formats_.at(reader).weights, {}};
    const auto mean = calibration_.weight_relative_mean.find(reader);
    if (mean != calibration_.weight_relative_mean.end()) linear.relative_mean = mean->second;
    const AwqLiteResult search = search_awq_lite(linear, statistics, stream_);
    result.alpha = search.alpha;
    result.loss = search.loss();
    result.loss_without = search.losses.front();
    const auto given = calibration_.awq_scale.find(reader);
    return reciprocals(given != calibration_.awq_scale.end() ? given->second : search.scale);
  }

  // W -> W - B A, everything in the checkpoint's dtype.
  void split(const std::string& reader) {
    WorkingModule& module = weights_.get(reader);
    LowRank part = find_low_rank(module.weight, recipe_.rank);
    part = {rounded(part.a, module.dtype), rounded(part.b, module.dtype)};
    subtract(rounded(multiply(part), module.dtype), module.dtype, module.weight);
    store(part, module.dtype, result_.at(reader));
  }

  void share_scales() {
    const DType dtype = weights_.get(readers_.front()).dtype;
    std::vector<std::vector<float>> all;
    float absmax = 0;
    for (const std::string& reader : readers_) {
      all.push_back(result_.at(reader).scales);
      absmax = std::max(absmax, result_.at(reader).input_absmax);
    }
    const std::vector<float> mean = mean_scales(all, dtype);
    if (svd()) {
      split_again(mean, dtype);
    } else {
      for (const std::string& reader : readers_) {
        Prescaled& result = result_.at(reader);
        if (result.scales == mean) continue;
        rescale_weight(result.scales, mean, dtype, weights_.get(reader).weight);
        result.limits.clear();  // the tool measures the weight again
      }
    }
    for (const std::string& reader : readers_) {
      result_.at(reader).scales = mean;
      result_.at(reader).input_absmax = absmax;
    }
  }

  // With common scales the readers are one matrix, and have one low-rank part: A is shared.
  void split_again(const std::vector<float>& scales, DType dtype) {
    std::int64_t rows = 0, cols = std::ssize(scales);
    for (const std::string& reader : readers_) rows += weights_.get(reader).weight.dim(0);
    Tensor whole(DType::kF32, {rows, cols});
    std::int64_t row = 0;
    for (const std::string& reader : readers_) {
      join(reader, scales, whole.data<float>() + row * cols);
      row += weights_.get(reader).weight.dim(0);
    }
    const LowRank part = find_low_rank(whole, recipe_.rank);
    subtract(multiply(part), dtype, whole);
    row = 0;
    for (const std::string& reader : readers_) {
      Tensor& weight = weights_.get(reader).weight;
      const std::int64_t end = row + weight.dim(0);
      weight = whole.rows(row, end).clone();
      store({part.a, part.b.rows(row, end)}, dtype, result_.at(reader));
      row = end;
    }
  }

  // (W + B A) * (old scales / new scales)
  void join(const std::string& reader, const std::vector<float>& scales, float* out) {
    const Prescaled& result = result_.at(reader);
    const Tensor& weight = weights_.get(reader).weight;
    const Tensor part = multiply({to_f32(result.low_rank_a), to_f32(result.low_rank_b)});
    const std::int64_t cols = weight.dim(1);
    for (std::int64_t i = 0; i < weight.numel(); ++i) {
      const auto c = static_cast<std::size_t>(i % cols);
      out[i] = (weight.data<float>()[i] + part.data<float>()[i]) * (result.scales[c] / scales[c]);
    }
  }

  // What a norm writes is scaled there.
  void fold_into_norm() {
    WorkingModule& writer = weights_.get(group_.writer);
    const std::vector<float>& scales = result_.at(readers_.front()).scales;
    Tensor products = writer.weight;
    for (std::size_t c = 0; c < scales.size(); ++c) products.data<float>()[c] *= scales[c];
    writer.weight = rounded(products, writer.dtype);
    writer.weight_changed = true;
    for (const std::string& reader : readers_) result_.at(reader).folded = true;
  }

  static Tensor rounded(const Tensor& tensor, DType dtype) {
    return dtype == DType::kF32 ? tensor : to_f32(from_f32(tensor, dtype));
  }

  static void subtract(const Tensor& part, DType dtype, Tensor& weight) {
    for (std::int64_t i = 0; i < weight.numel(); ++i) weight.data<float>()[i] -= part.data<float>()[i];
    weight = rounded(weight, dtype);
  }

  static void store(const LowRank& part, DType dtype, Prescaled& result) {
    result.low_rank_a = from_f32(part.a, dtype);
    result.low_rank_b = from_f32(part.b.clone(), dtype);
  }

  const LinearGroup& group_;
  const Recipe& recipe_;
  const FormatTable& formats_;
  const Calibration& calibration_;
  WorkingWeights& weights_;
  Stream& stream_;
  std::vector<std::string> readers_;  // those that take scales
  std::map<std::string, Prescaled> result_;
};

}  // namespace

bool takes_input_scales(const Recipe& recipe, const LinearFormat& format) {
  if (recipe.algorithm == Algorithm::kSmoothQuant) return format.inputs == InputQuant::Kind::kStaticInt8;
  return format.weights.granularity == Granularity::kGroup;
}

std::vector<float> find_limits(const WorkingModule& module, const LinearFormat& format,
                               const InputStatistics& statistics, const std::vector<float>& scales, Stream& stream) {
  require(statistics.rows.defined(), module.info->stored, "clipping: expected sampled inputs, found none");
  InputStatistics seen;
  const std::vector<SeenRow> rows = rows_seen(statistics, format.weights.element == Element::kInt4);
  const Tensor& inputs = statistics.clip_rows.defined() && !scales.empty() ? statistics.clip_rows : statistics.rows;
  const std::int64_t cols = inputs.dim(1);
  seen.rows = Tensor(DType::kF32, {std::ssize(rows), cols});
  float* target = seen.rows.data<float>();
  for (const SeenRow& row : rows) {
    const float* source = inputs.data<float>() + row.row * cols;
    for (std::int64_t c = 0; c < cols; ++c) {
      *target++ = round_to(module.dtype, scales.empty() ? source[c] : source[c] * scales[static_cast<std::size_t>(c)]);
    }
    seen.row_weights.push_back(row.weight);
  }
  // the buffer of INT4's largest magnitudes is one that awq_lite left, in f32
  const bool f32 = format.weights.element == Element::kInt4 && !scales.empty();
  const DType kept = f32 ? DType::kF32 : module.dtype;
  std::vector<float> limits =
      search_awq_clip({module.info->module, &module.weight, module.dtype, kept, format.weights}, seen, stream).amax;
  if (format.weights.element == Element::kInt4) {
    for (float& limit : limits) limit = limit == 0 ? 0 : std::max(limit, smallest_normal(kept));
  }
  return limits;
}

bool folds_into_norm(const LinearGroup& group, const Recipe& recipe, const FormatTable& formats,
                     const ModuleInfo* writer) {
  return recipe.algorithm == Algorithm::kAwq && writer != nullptr && !writer->linear &&
         std::all_of(group.readers.begin(), group.readers.end(),
                     [&](const std::string& reader) { return takes_input_scales(recipe, formats.at(reader)); });
}

std::map<std::string, Prescaled> prescale_group(const LinearGroup& group, const Recipe& recipe,
                                                const FormatTable& formats, const Calibration& calibration,
                                                WorkingWeights& weights, Stream& stream) {
  return GroupPrescaler(group, recipe, formats, calibration, weights, stream).run();
}

}  // namespace halftone
