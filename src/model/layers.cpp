#include "model/layers.h"

#include <algorithm>

#include "ops/elementwise.h"

namespace halftone {
namespace {

// Bias vectors of one fused product: all, or none.
std::vector<Tensor> complete_biases(const std::vector<LinearParts>& parts) {
  const bool any = std::any_of(parts.begin(), parts.end(), [](const LinearParts& p) { return p.bias.defined(); });
  std::vector<Tensor> biases;
  for (const LinearParts& part : parts) {
    biases.push_back(any && !part.bias.defined() ? Tensor::zeros(DType::kF32, {part.weight.rows()}) : part.bias);
  }
  return biases;
}

// Copies x [tokens, n] into columns [offset, offset + n) of y.
void place_columns(const Tensor& x, std::int64_t offset, Tensor& y) {
  const std::int64_t n = x.dim(1), stride = y.dim(1);
  const float* source = x.data<float>();
  float* target = y.data<float>() + offset;
  for (std::int64_t t = 0; t < x.dim(0); ++t) std::copy_n(source + t * n, n, target + t * stride);
}

}  // namespace

Linear::Linear(std::vector<std::string> modules, const Weights& weights, Stream& stream)
    : modules_(std::move(modules)) {
  load(weights, stream);
}

void Linear::load(const Weights& weights, Stream& stream) {
  std::vector<LinearParts> parts;
  outputs_ = 0;
  for (const std::string& module : modules_) {
    parts.push_back(weights.linear(module));
    outputs_ += parts.back().weight.rows();
  }
  packed_.clear();
  const LinearParts& first = parts.front();
  const bool fuse = parts.size() > 1 && std::all_of(parts.begin(), parts.end(), [&](const LinearParts& p) {
                      return p.weight.spec == first.weight.spec && p.input == first.input;
                    });
  if (fuse) {
    std::vector<QTensor> matrices;
    for (const LinearParts& part : parts) matrices.push_back(part.weight);
    packed_.push_back(pack_linear_fused(matrices, complete_biases(parts), first.input, stream));
  } else {
    for (const LinearParts& part : parts) packed_.push_back(pack_linear(part.weight, part.bias, part.input, stream));
  }
  for (const std::string& module : modules_) weights.drop_pages(module);
}

bool Linear::has(std::string_view module) const {
  return std::find(modules_.begin(), modules_.end(), module) != modules_.end();
}

void Linear::forward(const Tensor& x, Numerics numerics, Tensor& y, RunContext run) const {
  if (run.observer != nullptr) {
    for (const std::string& module : modules_) run.observer->on_linear_input(module, x);
  }
  if (packed_.size() == 1) {
    linear(x, *packed_.front(), y, run.stream);
  } else {
    std::int64_t offset = 0;
    for (const auto& packed : packed_) {
      Tensor part = run.workspace.get("linear.part", {x.dim(0), packed->rows()});
      linear(x, *packed, part, run.stream);
      place_columns(part, offset, y);
      offset += packed->rows();
    }
  }
  round_to(numerics, y, run.stream);
}

std::int64_t Linear::packed_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& packed : packed_) bytes += packed->nbytes();
  return bytes;
}

bool Linear::native() const {
  return std::all_of(packed_.begin(), packed_.end(), [](const auto& packed) {
    return packed->input().kind == InputQuant::Kind::kNone || packed->native();
  });
}

Norm::Norm(std::string module, const Weights& weights) : module_(std::move(module)) { load(weights); }

void Norm::load(const Weights& weights) {
  weight_ = weights.weight(module_);
  bias_ = weights.bias(module_);
}

}  // namespace halftone
