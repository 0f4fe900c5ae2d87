#include "export/transposed.h"

#include <algorithm>

#include "export/layouts.h"
#include "export/scales.h"

namespace halftone {
namespace {

// A tensor by group or by output as a matrix [rows, groups].
Tensor by_group(const Tensor& values, std::int64_t rows) { return values.reshape({rows, values.numel() / rows}); }

}  // namespace

void check_transposed(const std::string& name, const QTensor& q, std::string_view where) {
  require((q.spec.granularity == Granularity::kGroup || q.spec.granularity == Granularity::kChannel) &&
              q.global_scale == 1.0f,
          where, "module '{}': expected scales by group or by output, got {}", name, to_string(q.spec));
  const std::int64_t per_word = 32 / code_bits(q.spec.element);
  require(q.rows() > 0 && q.rows() % per_word == 0, where, "module '{}': expected outputs in whole words of {}, got {}",
          name, per_word, q.rows());
}

Tensor transposed_zeros(const QTensor& q) {
  const int middle = 1 << (code_bits(q.spec.element) - 1);
  const Tensor scales = by_group(q.scales, q.rows());
  Tensor zeros(DType::kU8, scales.shape());
  std::fill_n(zeros.bits<std::uint8_t>(), zeros.numel(), static_cast<std::uint8_t>(middle));
  if (q.zeros.defined()) {
    for (std::int64_t i = 0; i < zeros.numel(); ++i) {
      zeros.bits<std::uint8_t>()[i] = static_cast<std::uint8_t>(q.zeros.data<std::int8_t>()[i] + middle);
    }
  }
  return transposed(zeros);
}

Tensor transposed_scales(const QTensor& q, const std::string& name) {
  return transposed(by_group(exact_scales(q.scales, DType::kF16, name), q.rows()));
}

std::int64_t stated_group(const QuantSpec& spec) { return spec.granularity == Granularity::kGroup ? spec.group : -1; }

std::string name_in_layers(const std::string& module) {
  for (const char* part : {"visual.", "layers."}) {
    if (const auto at = module.find(part); at != std::string::npos) return module.substr(at);
  }
  return module;
}

std::vector<std::string> unconverted_names(const ExportPlan& plan) {
  const bool whole_tower = !quantizes_vision(plan);
  std::vector<std::string> names;
  if (whole_tower) names.push_back("visual");
  for (const std::string& module : unquantized_modules(plan)) {
    if (!whole_tower || !is_vision_module(module)) names.push_back(name_in_layers(module));
  }
  return names;
}

std::string expression_with(const std::string& part) { return ".*" + escape_expression(part) + ".*"; }

}  // namespace halftone
