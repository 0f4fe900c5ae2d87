#include "driver/quantize_folder.h"
#include "halftone/halftone.h"

namespace halftone::api {

Quantized quantize(const std::filesystem::path& checkpoint, const std::string& recipe, const std::filesystem::path& out,
                   const QuantizeOptions& options) {
  QuantizeJob job;
  job.checkpoint = checkpoint;
  job.configuration = recipe;
  job.kv_format = options.kv_format;
  job.alpha = options.alpha;
  job.search_alpha = options.search_alpha;
  job.calibration = options.calibration;
  job.data = {options.samples, options.seed};
  job.run.max_tokens = options.max_tokens;
  job.out = out;
  job.replace = options.replace;
  ThreadPool pool(options.threads);
  Stream stream{&pool, Device::kCpu};
  const QuantizationReport report = quantize_folder(job, nullptr, stream, options.on_progress);
  Quantized result{report.configuration, report.layout, report.bytes(), report.bytes_before(), {}};
  for (const LayerReport& layer : report.layers) {
    result.layers.push_back({layer.module, layer.weights, layer.input_format, layer.bytes, layer.bytes_before,
                             layer.weight_error, layer.sqnr_db, layer.output_error});
  }
  return result;
}

}  // namespace halftone::api
