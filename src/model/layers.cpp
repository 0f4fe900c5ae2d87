#include "model/layers.h"

#include <algorithm>

#include "ops/elementwise.h"

namespace halftone {
namespace {

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
  if (weights.deferred()) {
    for (const std::string& module : modules_) outputs_ += weights.info(module).shape.at(0);
  } else {
    load(weights, stream);
  }
}

void Linear::load(const Weights& weights, Stream& stream) {
  std::vector<LinearParts> parts;
  outputs_ = 0;
  for (const std::string& module : modules_) {
    parts.push_back(weights.linear(module));
    outputs_ += parts.back().weight.rows();
  }
  products_.clear();
  if (LinearProduct::can_fuse(parts)) {
    products_.emplace_back(parts, stream);
  } else {
    for (const LinearParts& part : parts) products_.emplace_back(std::span(&part, 1), stream);
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
  if (products_.empty()) fail(modules_.front(), "expected a layer that is loaded");
  if (products_.size() == 1) {
    products_.front().forward(x, y, run);
  } else {
    std::int64_t offset = 0;
    for (const LinearProduct& product : products_) {
      Tensor part = run.workspace.get("linear.part", {x.dim(0), product.outputs()});
      product.forward(x, part, run);
      place_columns(part, offset, y);
      offset += product.outputs();
    }
  }
  round_to(numerics, y, run.stream);
}

std::int64_t Linear::packed_bytes() const {
  std::int64_t bytes = 0;
  for (const LinearProduct& product : products_) bytes += product.nbytes();
  return bytes;
}

bool Linear::native() const {
  return std::all_of(products_.begin(), products_.end(), [](const LinearProduct& product) { return product.native(); });
}

Norm::Norm(std::string module, const Weights& weights) : module_(std::move(module)) { load(weights); }

void Norm::load(const Weights& weights) {
  weight_ = weights.weight(module_);
  bias_ = weights.bias(module_);
}

}  // namespace halftone
