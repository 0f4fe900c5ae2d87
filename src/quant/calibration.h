#pragma once
// Runs samples through the unquantized model and remembers what quantizers need to know of the values they will meet.
// The result depends on checkpoint, data and options alone, not on threads, and has the bits that running each sample
// through the whole model gives.
//
// Layer by layer: the vision tower and the embedding first, then each decoder layer is loaded, run over all samples and
// dropped. In memory are one layer, the hidden states of all samples at its boundary ([tokens, hidden] f32), and
// statistics.

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/progress.h"
#include "data/calibration.h"
#include "hf/checkpoint.h"
#include "quant/quantization_report.h"
#include "quant/statistics.h"
#include "tensor/stream.h"

namespace halftone {

struct CalibrateOptions {
  std::int64_t max_tokens = 512;  // of one sample
  // Tokens whose inputs are kept whole, drawn evenly; fewer when they exceed max_row_bytes.
  std::int64_t sample_rows = 1024;
  std::int64_t max_row_bytes = 1ll << 30;
  std::uint64_t seed = 0;  // of that draw; also recorded as the data's seed
  bool vision = false;     // also watch the vision tower and the projector
  bool head = false;       // also watch the head

  // A folder for what is finished, so that a run that is killed goes on where it was; "" for none. After each layer it
  // holds that layer's statistics (which are then read from there by memory map, and take no memory) and the hidden
  // states. What is there is used when checkpoint, data, options and `program` are the same, and deleted otherwise.
  std::filesystem::path work;
  std::string program;  // its identity
};

// By canonical module name; linear layers that share an input share the statistics.
using InputTable = std::map<std::string, std::shared_ptr<const InputStatistics>>;

struct Calibration {
  InputTable inputs;
  std::vector<KvStatistics> kv;  // by decoder layer
  // AWQ's mean of |W| / largest |W| of its group, by canonical module, where a statistics file gives it. [inputs]
  std::map<std::string, std::vector<float>> weight_relative_mean;

  CalibrationReport made_from;

  // The scales at the exponent that ModelOpt's AWQ chooses, where a statistics file gives them. [inputs]
  std::map<std::string, std::vector<float>> awq_scale{};
};

// The options with the parts watched that the recipe quantizes.
CalibrateOptions watch_for(const Recipe& recipe, const Checkpoint& checkpoint, CalibrateOptions options);

// Throws Error when there is no sample, a picture cannot be read, or a value is NaN or infinite (naming the layer).
Calibration calibrate(const Checkpoint& checkpoint, const CalibrationData& data, const CalibrateOptions& options,
                      Stream& stream, const Progress& progress = {});

}  // namespace halftone
