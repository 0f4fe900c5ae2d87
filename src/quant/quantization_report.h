#pragma once
// What quantizing a checkpoint did, layer by layer: the content of quantization_report.json.

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "hf/checkpoint.h"
#include "quant/input_report.h"
#include "quant/recipe.h"

namespace halftone {

struct LayerReport {
  std::string module;  // as the checkpoint names it
  std::int64_t outputs = 0, inputs = 0;
  std::string weights = "none", input_format = "none";  // formats as recipes name them
  std::int64_t bytes = 0, bytes_before = 0;
  // Of the stored weight against the one that was rounded (after folding): |Q - W| / |W|, and 20 log10 of its inverse.
  double weight_error = 0, sqnr_db = 0;
  // |Y' - Y| / |Y| on sampled calibration inputs, with the inputs quantized as well; absent without calibration.
  std::optional<double> output_error;
  std::optional<float> input_scale;
  // What calibration saw of the input; absent without calibration.
  std::optional<InputReport> input;
  // Of the smoothing of this layer's input.
  std::optional<float> alpha;
  std::optional<double> loss, loss_without;
};

// What calibration ran on.
struct CalibrationReport {
  std::string source, data_hash;
  std::uint64_t seed = 0;
  std::int64_t samples = 0, tokens = 0, pictures = 0, max_tokens = 0;
  std::int64_t picture_tokens = 0;  // of `tokens`
  double seconds = 0;
};

struct QuantizationReport {
  std::string configuration;              // "int8_sq+kv:fp8_head"
  std::string layout, algorithm, recipe;  // recipe: the YAML text
  std::string observer;                   // of static inputs
  std::string source_hash;                // of the source's weights
  std::vector<LayerReport> layers;        // linear layers of the model, unquantized ones included
  KvQuantization kv;
  std::optional<CalibrationReport> calibration;
  std::int64_t input_bytes = 0;  // of all tensors of the source
  double seconds = 0;            // quantizing and writing, calibration left out
  double read_back_seconds = 0;  // comparing what was written, and hashing the source

  std::int64_t bytes() const;
  std::int64_t bytes_before() const;
};

OrderedJson to_json(const QuantizationReport& report);

}  // namespace halftone
