#include "model/linear_product.h"

#include <algorithm>
#include <vector>

namespace halftone {
namespace {

bool stands_alone(const LinearParts& parts) {
  return parts.input_scales.defined() || parts.input_order.defined() || parts.low_rank_a.defined();
}

void check_inputs(const Tensor& tensor, DType dtype, std::int64_t inputs, std::string_view what) {
  require(!tensor.defined() || (tensor.dtype() == dtype && tensor.shape() == Shape{inputs}), "linear",
          "expected {} {} [{}], got {} {}", what, dtype_name(dtype), inputs, dtype_name(tensor.dtype()),
          to_string(tensor.shape()));
}

void check_permutation(const Tensor& order) {
  std::vector<bool> seen(static_cast<std::size_t>(order.numel()));
  for (std::int64_t i = 0; i < order.numel(); ++i) {
    const std::int64_t input = order.data<std::int32_t>()[i];
    require(input >= 0 && input < order.numel() && !seen[static_cast<std::size_t>(input)], "linear",
            "expected each input once in the order of inputs, got {} at {}", input, i);
    seen[static_cast<std::size_t>(input)] = true;
  }
}

void check_low_rank(const LinearParts& parts) {
  const Tensor &a = parts.low_rank_a, &b = parts.low_rank_b;
  require(a.defined() == b.defined(), "linear", "expected both low-rank factors or none, got one");
  if (!a.defined()) return;
  require(a.rank() == 2 && b.rank() == 2 && a.dim(1) == parts.weight.cols() && b.dim(0) == parts.weight.rows() &&
              b.dim(1) == a.dim(0),
          "linear", "expected low-rank factors [rank, {}] and [{}, rank], got {} and {}", parts.weight.cols(),
          parts.weight.rows(), to_string(a.shape()), to_string(b.shape()));
}

// Bias vectors of one product: all, or none.
std::vector<Tensor> complete_biases(std::span<const LinearParts> parts) {
  const bool any = std::any_of(parts.begin(), parts.end(), [](const LinearParts& p) { return p.bias.defined(); });
  std::vector<Tensor> biases;
  for (const LinearParts& part : parts) {
    biases.push_back(any && !part.bias.defined() ? Tensor::zeros(DType::kF32, {part.weight.rows()}) : part.bias);
  }
  return biases;
}

}  // namespace

LinearProduct::LinearProduct(std::span<const LinearParts> parts, Stream& stream) {
  std::vector<QTensor> weights;
  for (const LinearParts& part : parts) weights.push_back(part.weight);
  const LinearParts& first = parts.front();
  packed_ = pack_linear_fused(weights, complete_biases(parts), first.input, stream);
  if (!stands_alone(first)) return;
  check_inputs(first.input_scales, DType::kF32, packed_->cols(), "input scales");
  check_inputs(first.input_order, DType::kI32, packed_->cols(), "an order of inputs");
  if (first.input_order.defined()) check_permutation(first.input_order);
  check_low_rank(first);
  input_scales_ = first.input_scales;
  input_order_ = first.input_order;
  if (!first.low_rank_a.defined()) return;
  low_rank_a_ = pack_linear(wrap_unquantized(first.low_rank_a), {}, {}, stream);
  low_rank_b_ = pack_linear(wrap_unquantized(first.low_rank_b), {}, {}, stream);
}

bool LinearProduct::can_fuse(std::span<const LinearParts> parts) {
  const LinearParts& first = parts.front();
  return parts.size() == 1 || std::all_of(parts.begin(), parts.end(), [&](const LinearParts& p) {
           return !stands_alone(p) && p.weight.spec == first.weight.spec && p.input == first.input &&
                  p.weight.offsets.defined() == first.weight.offsets.defined();
         });
}

Tensor LinearProduct::prepare_input(const Tensor& x, RunContext run) const {
  if (!input_scales_.defined()) return x;
  const std::int64_t tokens = x.dim(0), inputs = x.dim(1);
  Tensor scaled = run.workspace.get("linear.scaled", {tokens, inputs});
  const float *source = x.data<float>(), *scales = input_scales_.data<float>();
  float* target = scaled.data<float>();
  run.stream.pool->parallel_for(tokens, [=](std::int64_t t) {
    for (std::int64_t i = 0; i < inputs; ++i) target[t * inputs + i] = source[t * inputs + i] * scales[i];
  });
  return scaled;
}

void LinearProduct::add_low_rank(const Tensor& x, Tensor& y, RunContext run) const {
  Tensor inner = run.workspace.get("linear.rank", {x.dim(0), low_rank_a_->rows()});
  Tensor sum = run.workspace.get("linear.low_rank", y.shape());
  linear(x, *low_rank_a_, inner, run.stream);
  linear(inner, *low_rank_b_, sum, run.stream);
  const std::int64_t outputs = y.dim(1);
  run.stream.pool->parallel_for(y.dim(0), [&](std::int64_t t) {
    for (std::int64_t i = t * outputs; i < (t + 1) * outputs; ++i) y.data<float>()[i] += sum.data<float>()[i];
  });
}

void LinearProduct::forward(const Tensor& x, Tensor& y, RunContext run) const {
  const Tensor scaled = prepare_input(x, run);
  if (input_order_.defined()) {
    const std::int64_t inputs = x.dim(1);
    Tensor ordered = run.workspace.get("linear.ordered", x.shape());
    const std::int32_t* order = input_order_.data<std::int32_t>();
    run.stream.pool->parallel_for(x.dim(0), [&](std::int64_t t) {
      const float* source = scaled.data<float>() + t * inputs;
      float* target = ordered.data<float>() + t * inputs;
      for (std::int64_t i = 0; i < inputs; ++i) target[i] = source[order[i]];
    });
    linear(ordered, *packed_, y, run.stream);
  } else {
    linear(scaled, *packed_, y, run.stream);
  }
  if (low_rank_a_) add_low_rank(scaled, y, run);
}

std::int64_t LinearProduct::nbytes() const {
  std::int64_t sum = packed_->nbytes();
  for (const auto* packed : {&low_rank_a_, &low_rank_b_}) sum += *packed ? (*packed)->nbytes() : 0;
  for (const Tensor* tensor : {&input_scales_, &input_order_}) sum += tensor->defined() ? tensor->nbytes() : 0;
  return sum;
}

}  // namespace halftone
