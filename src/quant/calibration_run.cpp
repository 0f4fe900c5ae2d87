#include "quant/calibration_run.h"

#include <algorithm>

#include "ops/norm.h"

namespace halftone {
namespace {

// Pictures whose patches are together in the vision tower, in bytes; each of its blocks is loaded once for them.
constexpr std::int64_t kTowerBytes = 256 << 20;

constexpr TokenClass kPictureClass[] = {TokenClass::kPicture};

bool has_pictures(const CalibrationData& data) {
  return std::any_of(data.samples.begin(), data.samples.end(),
                     [](const CalibrationSample& sample) { return !sample.pictures.empty(); });
}

// Keys and values of the one layer that is run, whatever its index.
class LayerKvCache final : public PlainKvCache {
 public:
  explicit LayerKvCache(const DecoderConfig& decoder) : PlainKvCache(1, decoder.kv_heads, decoder.head_dim) {}

  void append(std::int64_t, const Tensor& k, const Tensor& v) override { PlainKvCache::append(0, k, v); }
  AttentionKv read(std::int64_t) override { return PlainKvCache::read(0); }
};

std::string layer_prefix(std::int64_t layer) { return fmt::format("model.layers.{}.", layer); }

}  // namespace

CalibrationRun::CalibrationRun(const Checkpoint& checkpoint, const CalibrationData& data,
                               const CalibrateOptions& options, Stream& stream, const Progress& progress)
    : checkpoint_(checkpoint),
      data_(data),
      options_(options),
      stream_(stream),
      progress_(progress),
      model_(Model::load(checkpoint, {Numerics::kF32, has_pictures(data) || options.vision, true}, stream)),
      observer_(model_, options, stream),
      work_(options.work, checkpoint, data, options),
      token_sampler_(observer_.slots(), options.seed),
      picture_sampler_(observer_.picture_slots(), options.seed) {}

void CalibrationRun::tell(std::string_view what, std::int64_t done, std::int64_t total) const {
  if (progress_) progress_(what, done, total);
}

Calibration CalibrationRun::run() {
  const std::int64_t layers = model_.config().decoder.layers;
  const std::optional<std::int64_t> finished = work_.finished_layers(layers);
  prepare(!finished);
  if (finished) restore(*finished);
  for (std::int64_t layer = finished.value_or(0); layer < layers; ++layer) {
    run_layer(layer);
    tell("calibration layers", layer + 1, layers);
  }
  if (options_.head) run_head();
  return std::move(result_);
}

CalibrationRun::Sample CalibrationRun::describe(PreparedSample prepared) {
  Sample sample;
  const std::int64_t merge = model_.config().vision.merge_size;
  if (prepared.patches.defined()) {
    sample.picture_rows = picture_sampler_.draw(prepared.patches.dim(0) / (merge * merge));
  }
  sample.token_rows = token_sampler_.draw(static_cast<std::int64_t>(prepared.tokens.size()));
  sample.positions = mrope_positions(prepared.tokens, model_.config().picture_token, prepared.grids, merge);
  for (const TokenId token : prepared.tokens) {
    const bool picture = token == model_.config().picture_token && !prepared.grids.empty();
    sample.classes.push_back(picture ? TokenClass::kPicture : TokenClass::kText);
  }
  sample.tokens = std::move(prepared.tokens);
  sample.grids = std::move(prepared.grids);
  return sample;
}

// Reads all samples; with `embed` also runs their pictures and looks up their tokens.
void CalibrationRun::prepare(bool embed) {
  const SamplePreparer preparer(checkpoint_.folder(), model_.config(), options_.max_tokens);
  CalibrationReport& report = result_.made_from;
  Pictures pictures;
  for (const CalibrationSample& given : data_.samples) {
    ++report.samples;
    PreparedSample prepared = preparer.prepare(given, *stream_.pool);
    if (prepared.tokens.empty()) continue;
    const Tensor patches = prepared.patches;
    samples_.push_back(describe(std::move(prepared)));
    Sample& sample = samples_.back();
    report.tokens += std::ssize(sample.tokens);
    report.pictures += std::ssize(sample.grids);
    report.picture_tokens += std::count(sample.classes.begin(), sample.classes.end(), TokenClass::kPicture);
    if (!embed) continue;
    if (!patches.defined()) {
      embed_sample(sample, {});
    } else {
      pictures.samples.push_back(samples_.size() - 1);
      pictures.x.push_back(model_.start_pictures(patches, sample.grids, context()));
      pictures.bytes += pictures.x.back().nbytes();
    }
    if (pictures.bytes >= kTowerBytes) run_tower(pictures);
    tell("calibration samples", report.samples, std::ssize(data_.samples));
  }
  if (!pictures.samples.empty()) run_tower(pictures);
  if (!embed) return;
  keep("embedding", observer_.take("visual.", picture_sampler_.filled()), {});
  save_boundary(0);
}

void CalibrationRun::embed_sample(Sample& sample, const Tensor& pictures) {
  sample.hidden = model_.embed(sample.tokens, pictures);
}

// All blocks over all pictures at hand, then the projector and the embedding.
void CalibrationRun::run_tower(Pictures& pictures) {
  const auto over_pictures = [&](const std::string& prefix, const auto& step) {
    model_.load_layers(prefix, stream_);
    for (std::size_t i = 0; i < pictures.x.size(); ++i) {
      Sample& sample = samples_[pictures.samples[i]];
      observer_.begin({kPictureClass, &sample.picture_rows});
      step(sample, pictures.x[i]);
    }
    model_.drop_layers(prefix);
  };
  for (std::int64_t block = 0; block < model_.vision_blocks(); ++block) {
    over_pictures(fmt::format("visual.blocks.{}.", block),
                  [&](const Sample& sample, Tensor& x) { model_.run_vision_block(block, sample.grids, x, context()); });
    tell("vision tower", block + 1, model_.vision_blocks());
  }
  over_pictures("visual.merger.", [&](Sample& sample, Tensor& x) {
    embed_sample(sample, model_.project_pictures(x, context()));
    x = Tensor();
  });
  pictures = {};
}

void CalibrationRun::run_layer(std::int64_t layer) {
  model_.load_layers(layer_prefix(layer), stream_);
  for (Sample& sample : samples_) {
    observer_.begin({sample.classes, &sample.token_rows});
    LayerKvCache cache(model_.config().decoder);
    const SequenceSlice slice{&cache, sample.positions.values};
    const RotationTables rotation = model_.begin_slices({&slice, 1});
    model_.forward_layer(layer, {&slice, 1}, rotation, sample.hidden, context());
  }
  model_.drop_layers(layer_prefix(layer));
  std::vector<KvStatistics> kv;
  kv.push_back(observer_.take_kv(layer));
  keep(fmt::format("layer-{:03}", layer), observer_.take(layer_prefix(layer), token_sampler_.filled()), std::move(kv));
  save_boundary(layer + 1);
}

// Only its input is of interest: the product is not computed.
void CalibrationRun::run_head() {
  const Tensor weight = model_.norm_weight("model.norm");
  for (const Sample& sample : samples_) {
    observer_.begin({sample.classes, &sample.token_rows});
    Tensor normed(DType::kF32, sample.hidden.shape());
    rms_norm(sample.hidden, weight, model_.config().decoder.norm_eps, Numerics::kF32, normed, stream_);
    observer_.on_linear_input("lm_head", normed);
  }
  keep("head", observer_.take("lm_head", token_sampler_.filled()), {});
}

void CalibrationRun::save_boundary(std::int64_t layer) const {
  std::vector<Tensor> hidden;
  for (const Sample& sample : samples_) hidden.push_back(sample.hidden);
  work_.save_boundary(layer, hidden);
}

void CalibrationRun::keep(const std::string& step, InputTable inputs, std::vector<KvStatistics> kv) {
  Calibration part{std::move(inputs), std::move(kv), {}, {}};
  work_.save_statistics(step, part);
  add(std::move(part));
}

void CalibrationRun::add(Calibration part) {
  for (auto& [module, statistics] : part.inputs) result_.inputs[module] = std::move(statistics);
  for (KvStatistics& statistics : part.kv) result_.kv.push_back(std::move(statistics));
}

// What an earlier run finished.
void CalibrationRun::restore(std::int64_t layers) {
  add(work_.load_statistics("embedding"));
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    add(work_.load_statistics(fmt::format("layer-{:03}", layer)));
  }
  std::vector<Shape> shapes;
  for (const Sample& sample : samples_) {
    shapes.push_back({std::ssize(sample.tokens), model_.config().decoder.hidden});
  }
  const std::vector<Tensor> hidden = work_.load_boundary(layers, shapes);
  for (std::size_t i = 0; i < samples_.size(); ++i) samples_[i].hidden = hidden[i];
}

}  // namespace halftone
