#pragma once
// `halftone quantize`: a checkpoint folder, a recipe and calibration data in, a verified checkpoint folder out.

#include <filesystem>
#include <optional>
#include <string>

#include "base/progress.h"
#include "data/calibration.h"
#include "export/targets.h"
#include "quant/quantize.h"
#include "tensor/stream.h"

namespace halftone {

struct QuantizeJob {
  std::filesystem::path checkpoint;
  std::string configuration;            // "int8_sq", "fp8+kv:fp8_head", "my.yaml": see load_recipe()
  std::filesystem::path recipe_folder;  // that a recipe's file is relative to; "": the working directory
  std::string kv_format;                // overrides the recipe's; "" keeps it
  std::string vision_format;            // the same, of the vision tower
  std::optional<float> alpha;           // SmoothQuant's, in place of the recipe's
  bool search_alpha = false;            // the same, searched for each group of layers
  std::filesystem::path calibration;    // data that read_calibration() knows; "" for none
  std::filesystem::path statistics;     // a file in place of calibration data (docs/statistics.md); "" for none
  CalibrationOptions data;
  CalibrateOptions run;
  std::filesystem::path out;
  bool replace = false;          // an existing folder
  std::optional<Layout> layout;  // in place of the recipe's
  std::optional<Target> target;  // the loader that must take the folder
  bool force = false;            // write what the target refuses
  bool requantize = false;       // take a checkpoint that is quantized already: its decoded weights
};

// The recipe of the job with its formats of the vision tower and the KV cache, alpha and layout. Throws Error for unknown names.
Recipe recipe_of(const QuantizeJob& job);

// Whether the recipe or its KV format has scales that come from calibration data.
bool is_calibrated(const Recipe& recipe);

// Statistics of the checkpoint's inputs on the job's data, for a recipe that needs them. Throws Error without data.
Calibration calibrate_job(const QuantizeJob& job, const Checkpoint& checkpoint, Stream& stream,
                          const Progress& progress);

// Where a calibration for the folder `out` keeps what is finished: OUT.work.
std::filesystem::path calibration_folder(const std::filesystem::path& out);

// Checks every layer, calibrates where the recipe needs it (or takes `calibration`, made for the same checkpoint and
// data), quantizes module by module into a folder under a temporary name, reads it back, compares every tensor with
// what was to be written, adds quantization_report.json and renames. Throws Error; then nothing is left under the final
// name, and a folder that was there before is as it was.
//
// What calibration finished lies in calibration_folder() until the folder is there: after a crash the same call goes on
// from the last finished layer, to the same bytes.
QuantizationReport quantize_folder(const QuantizeJob& job, const Calibration* calibration, Stream& stream,
                                   const Progress& progress = {});

}  // namespace halftone
