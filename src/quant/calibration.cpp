#include "quant/calibration.h"

#include <algorithm>

#include "base/timer.h"
#include "model/registry.h"
#include "quant/calibration_observer.h"
#include "quant/calibration_samples.h"

namespace halftone {
namespace {

// One sample through the decoder; the head runs only when it is watched.
void run_sample(const Model& model, const PreparedSample& sample, bool head, RunContext run,
                CalibrationObserver& observer) {
  const DecoderConfig& decoder = model.config().decoder;
  Tensor pictures;
  if (sample.patches.defined()) {
    const std::int64_t merge = model.config().vision.merge_size;
    observer.begin_pictures(sample.patches.dim(0) / (merge * merge));
    pictures = model.encode_pictures(sample.patches, sample.grids, run);
  }
  observer.begin_tokens(static_cast<std::int64_t>(sample.tokens.size()));
  Tensor hidden = model.embed(sample.tokens, pictures);
  const Positions positions =
      mrope_positions(sample.tokens, model.config().picture_token, sample.grids, model.config().vision.merge_size);
  PlainKvCache cache(decoder.layers, decoder.kv_heads, decoder.head_dim);
  const SequenceSlice slice{&cache, positions.values};
  model.forward({&slice, 1}, hidden, run);
  if (head) model.logits(hidden, run);
}

}  // namespace

CalibrateOptions watch_for(const Recipe& recipe, const Checkpoint& checkpoint, CalibrateOptions options) {
  const Architecture& architecture = find_architecture(checkpoint);
  const std::vector<ModuleInfo> modules =
      resolve_modules(architecture.table(architecture.read_config(checkpoint)), checkpoint);
  const std::vector<LinearFormat> formats = resolve_rules(recipe, modules);
  for (std::size_t i = 0; i < modules.size(); ++i) {
    if (!formats[i].quantized()) continue;
    const RuleClass rule_class = modules[i].rule_class;
    options.vision = options.vision || rule_class == RuleClass::kVision || rule_class == RuleClass::kProjector;
    options.head = options.head || rule_class == RuleClass::kHead;
  }
  return options;
}

Calibration calibrate(const Checkpoint& checkpoint, const CalibrationData& data, const CalibrateOptions& options,
                      Stream& stream, const Progress& progress) {
  require(!data.samples.empty(), data.source, "expected one calibration sample or more");
  const Timer timer;
  const bool pictures = std::any_of(data.samples.begin(), data.samples.end(),
                                    [](const CalibrationSample& sample) { return !sample.pictures.empty(); });
  const Model model = Model::load(checkpoint, {Numerics::kF32, pictures || options.vision}, stream);
  const SamplePreparer preparer(checkpoint.folder(), model.config(), options.max_tokens);
  CalibrationObserver observer(model, options, stream);
  Workspace workspace;
  Calibration calibration;
  CalibrationReport& report = calibration.made_from;
  for (const CalibrationSample& sample : data.samples) {
    const PreparedSample prepared = preparer.prepare(sample, *stream.pool);
    if (!prepared.tokens.empty()) {
      run_sample(model, prepared, options.head, {stream, workspace, &observer}, observer);
      report.tokens += static_cast<std::int64_t>(prepared.tokens.size());
      report.pictures += static_cast<std::int64_t>(prepared.grids.size());
    }
    ++report.samples;
    if (progress) progress("calibration samples", report.samples, static_cast<std::int64_t>(data.samples.size()));
  }
  observer.finish(calibration);
  report.source = data.source;
  report.data_hash = data.data_hash;
  report.seed = options.seed;
  report.max_tokens = options.max_tokens;
  report.seconds = timer.seconds();
  return calibration;
}

}  // namespace halftone
