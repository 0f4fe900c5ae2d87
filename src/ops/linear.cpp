#include "ops/linear.h"

#include "ops/backend.h"
#include "ops/linear_kernels.h"

namespace halftone {
namespace {

// Integer sums stay below 2^31 up to this K: 128 * 128 * K.
constexpr std::int64_t kMaxCols = 131071;

void check_source(const LinearSource& source) {
  require(!source.weights.empty(), "pack_linear", "expected one weight or more");
  require(source.biases.empty() || source.biases.size() == source.weights.size(), "pack_linear",
          "expected {} biases, got {}", source.weights.size(), source.biases.size());
  for (std::size_t i = 0; i < source.weights.size(); ++i) {
    const QTensor& weight = source.weights[i];
    check_qtensor(weight, "pack_linear");
    require(weight.spec == source.spec() && weight.cols() == source.cols(), "pack_linear",
            "fused weights need one format and one width, got {} [{}, {}] beside {} [{}, {}]", to_string(source.spec()),
            source.weights[0].rows(), source.cols(), to_string(weight.spec), weight.rows(), weight.cols());
    require(weight.offsets.defined() == source.weights[0].offsets.defined(), "pack_linear",
            "fused weights need offsets in all of them or in none");
    if (source.biases.empty() || !source.biases[i].defined()) continue;
    require(source.biases[i].dtype() == DType::kF32 && source.biases[i].shape() == Shape{weight.rows()}, "pack_linear",
            "expected a bias F32 [{}], got {} {}", weight.rows(), dtype_name(source.biases[i].dtype()),
            to_string(source.biases[i].shape()));
  }
  require(!sums_integers(source.spec(), source.input) || source.cols() <= kMaxCols, "pack_linear",
          "integer products take up to {} inputs, got {}", kMaxCols, source.cols());
}

template <typename Visit>
void for_each_kernel(const QuantSpec& spec, const InputQuant& input, Visit visit) {
  for (const LinearKernel& kernel : linear_kernels_cpu()) {
    if (kernel.supports(spec, input)) visit(kernel);
  }
  visit(linear_kernel_reference());
}

}  // namespace

std::shared_ptr<const PackedLinear> pack_linear_fused(std::span<const QTensor> weights, std::span<const Tensor> biases,
                                                      const InputQuant& input, Stream& stream,
                                                      std::string_view kernel) {
  const LinearSource source{weights, biases, input};
  check_source(source);
  require_cpu(stream, "pack_linear");
  const LinearKernel* chosen = nullptr;
  for_each_kernel(source.spec(), input, [&](const LinearKernel& row) {
    if (!chosen && (kernel.empty() || kernel == row.name)) chosen = &row;
  });
  require(chosen != nullptr, "pack_linear", "no kernel '{}' for {} on this machine, expected one of {}", kernel,
          to_string(source.spec()), fmt::join(list_linear_kernels(source.spec(), input), ", "));
  return chosen->pack(source, stream);
}

std::shared_ptr<const PackedLinear> pack_linear(const QTensor& weight, const Tensor& bias, const InputQuant& input,
                                                Stream& stream, std::string_view kernel) {
  return pack_linear_fused({&weight, 1}, {&bias, 1}, input, stream, kernel);
}

void linear(const Tensor& x, const PackedLinear& weight, Tensor& y, Stream& stream) {
  require(x.rank() == 2 && x.dtype() == DType::kF32 && x.dim(1) == weight.cols(), "linear",
          "expected an input F32 [tokens, {}], got {} {}", weight.cols(), dtype_name(x.dtype()), to_string(x.shape()));
  require(y.dtype() == DType::kF32 && y.shape() == Shape{x.dim(0), weight.rows()}, "linear",
          "expected an output F32 [{}, {}], got {} {}", x.dim(0), weight.rows(), dtype_name(y.dtype()),
          to_string(y.shape()));
  require_cpu(stream, "linear");
  if (y.numel() > 0) weight.run(x, y, stream);
}

std::vector<std::string> list_linear_kernels(const QuantSpec& spec, const InputQuant& input) {
  std::vector<std::string> names;
  for_each_kernel(spec, input, [&](const LinearKernel& kernel) { names.emplace_back(kernel.name); });
  return names;
}

}  // namespace halftone
