#include "quant/calibration.h"

#include <algorithm>

#include "base/timer.h"
#include "model/registry.h"
#include "quant/calibration_run.h"

namespace halftone {

CalibrateOptions watch_for(const Recipe& recipe, const Checkpoint& checkpoint, CalibrateOptions options) {
  const std::vector<ModuleInfo> modules = read_structure(checkpoint).modules;
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
  Calibration calibration = CalibrationRun(checkpoint, data, options, stream, progress).run();
  CalibrationReport& report = calibration.made_from;
  report.source = data.source;
  report.data_hash = data.data_hash;
  report.seed = options.seed;
  report.max_tokens = options.max_tokens;
  report.seconds = timer.seconds();
  return calibration;
}

}  // namespace halftone
