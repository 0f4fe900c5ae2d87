#include "quant/quantization_report.h"

#include <cmath>

namespace halftone {
namespace {

template <typename T>
void set_if(OrderedJson& object, const char* key, const std::optional<T>& value) {
  if (value) object[key] = *value;
}

// JSON has no infinity; a weight that was stored exactly has no noise.
OrderedJson finite_or_null(double value) { return std::isfinite(value) ? OrderedJson(value) : OrderedJson(nullptr); }

OrderedJson layer_json(const LayerReport& layer) {
  OrderedJson row{{"module", layer.module},   {"shape", {layer.outputs, layer.inputs}},
                  {"weights", layer.weights}, {"inputs", layer.input_format},
                  {"bytes", layer.bytes},     {"bytes_before", layer.bytes_before}};
  if (layer.weights == "none") return row;
  row["weight_error"] = layer.weight_error;
  row["sqnr_db"] = finite_or_null(layer.sqnr_db);
  set_if(row, "output_error", layer.output_error);
  set_if(row, "input_scale", layer.input_scale);
  if (layer.input) row["input"] = to_json(*layer.input);
  set_if(row, "alpha", layer.alpha);
  set_if(row, "loss", layer.loss);
  set_if(row, "loss_without", layer.loss_without);
  return row;
}

OrderedJson kv_json(const KvQuantization& kv) {
  OrderedJson object{{"format", kv.format}};
  if (kv.layers.empty()) return object;
  object["k_scales"] = OrderedJson::array();
  object["v_scales"] = OrderedJson::array();
  for (const KvScales& scales : kv.layers) {
    object["k_scales"].push_back(scales.k);
    object["v_scales"].push_back(scales.v);
  }
  return object;
}

OrderedJson calibration_json(const CalibrationReport& calibration) {
  return {{"source", calibration.source},
          {"data_hash", calibration.data_hash},
          {"seed", calibration.seed},
          {"samples", calibration.samples},
          {"tokens", calibration.tokens},
          {"pictures", calibration.pictures},
          {"picture_tokens", calibration.picture_tokens},
          {"max_tokens", calibration.max_tokens},
          {"seconds", calibration.seconds}};
}

}  // namespace

std::int64_t QuantizationReport::bytes() const {
  std::int64_t sum = 0;
  for (const LayerReport& layer : layers) sum += layer.bytes;
  return sum;
}

std::int64_t QuantizationReport::bytes_before() const {
  std::int64_t sum = 0;
  for (const LayerReport& layer : layers) sum += layer.bytes_before;
  return sum;
}

OrderedJson to_json(const QuantizationReport& report) {
  OrderedJson json{{"configuration", report.configuration},
                   {"layout", report.layout},
                   {"algorithm", report.algorithm},
                   {"observer", report.observer},
                   {"recipe", report.recipe},
                   {"source_hash", report.source_hash},
                   {"linear_bytes", report.bytes()},
                   {"linear_bytes_before", report.bytes_before()},
                   {"input_bytes", report.input_bytes},
                   {"seconds", report.seconds},
                   {"read_back", {{"seconds", report.read_back_seconds}}},
                   {"kv_cache", kv_json(report.kv)},
                   {"calibration", nullptr},
                   {"layers", OrderedJson::array()}};
  if (report.calibration) json["calibration"] = calibration_json(*report.calibration);
  for (const LayerReport& layer : report.layers) json["layers"].push_back(layer_json(layer));
  return json;
}

}  // namespace halftone
