// The contract of linear.h written out: one multiplication after another.
#include <algorithm>
#include <cmath>

#include "ops/backend.h"
#include "ops/linear_kernels.h"

namespace halftone {
namespace {

// One row of W, decoded once for all rows of x.
struct DecodedRow {
  std::vector<float> codes;   // [K], the whole weights where they are asymmetric
  std::vector<float> scales;  // [groups], empty without scales and where weights are asymmetric
  std::int64_t group = 0;
};

DecodedRow decode_row(const QTensor& weight, std::int64_t row) {
  DecodedRow decoded;
  decoded.group = scale_group(weight.spec, weight.cols());
  for (std::int64_t k = 0; k < weight.cols(); ++k) {
    const float code = decode_code(weight, row, k);
    decoded.codes.push_back(weight.spec.asymmetric ? std::fma(code - zero_at(weight, row, k), scale_at(weight, row, k),
                                                              offset_at(weight, row, k))
                                                   : code);
  }
  if (weight.spec.granularity == Granularity::kNone || weight.spec.asymmetric) return decoded;
  for (std::int64_t k = 0; k < weight.cols(); k += decoded.group) decoded.scales.push_back(scale_at(weight, row, k));
  return decoded;
}

// sum over `count` k of x[k] * code[k], in the order of the contract.
float inner_sum(const float* x, const float* codes, std::int64_t count, bool integers) {
  if (integers) {
    std::int32_t sum = 0;
    for (std::int64_t k = 0; k < count; ++k)
      sum += static_cast<std::int32_t>(x[k]) * static_cast<std::int32_t>(codes[k]);
    return static_cast<float>(sum);
  }
  float sum = 0;
  for (std::int64_t k = 0; k < count; ++k) sum = std::fma(x[k], codes[k], sum);
  return sum;
}

// One element of y before factor and bias.
float total_sum(const float* x, const DecodedRow& row, bool integers) {
  const auto cols = static_cast<std::int64_t>(row.codes.size());
  if (row.scales.empty()) return inner_sum(x, row.codes.data(), cols, integers);
  float total = 0;
  for (std::size_t g = 0; g < row.scales.size(); ++g) {
    const std::int64_t k = static_cast<std::int64_t>(g) * row.group;
    total =
        std::fma(row.scales[g], inner_sum(x + k, row.codes.data() + k, std::min(row.group, cols - k), integers), total);
  }
  return total;
}

class ReferenceLinear final : public PackedLinear {
 public:
  explicit ReferenceLinear(const LinearSource& source)
      : weights_(source.weights.begin(), source.weights.end()),
        biases_(source.biases.begin(), source.biases.end()),
        input_(source.input),
        rows_(source.rows()) {}

  std::int64_t rows() const override { return rows_; }
  std::int64_t cols() const override { return weights_[0].cols(); }
  const QuantSpec& spec() const override { return weights_[0].spec; }
  const InputQuant& input() const override { return input_; }
  std::int64_t nbytes() const override {
    std::int64_t bytes = 0;
    for (const QTensor& weight : weights_) bytes += weight.nbytes();
    return bytes;
  }
  bool native() const override { return false; }
  std::string_view kernel() const override { return linear_kernel_reference().name; }

  void run(const Tensor& x, Tensor& y, Stream& stream) const override {
    Tensor codes(DType::kF32, x.shape()), scales(DType::kF32, {x.dim(0)});
    quantize_input_reference(x, input_, codes, scales);
    for_ranges(stream, rows_, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) column(codes, scales, n, y);
    });
  }

 private:
  void column(const Tensor& codes, const Tensor& scales, std::int64_t n, Tensor& y) const {
    const LinearSource source{weights_, biases_, input_};
    std::size_t part = 0;
    std::int64_t row = n;
    while (row >= weights_[part].rows()) row -= weights_[part++].rows();
    const DecodedRow decoded = decode_row(weights_[part], row);
    for (std::int64_t m = 0; m < codes.dim(0); ++m) {
      const float total = total_sum(codes.data<float>() + m * cols(), decoded, sums_integers(spec(), input_));
      const float factor = (scales_tokens(input_.kind) ? scales.data<float>()[m] : 1.0f) * source.factor(part);
      y.data<float>()[m * rows_ + n] = std::fma(total, factor, source.bias(part, row));
    }
  }

  std::vector<QTensor> weights_;
  std::vector<Tensor> biases_;
  InputQuant input_;
  std::int64_t rows_;
};

}  // namespace

const LinearKernel& linear_kernel_reference() {
  static constexpr LinearKernel kernel{"reference", [](const QuantSpec&, const InputQuant&) { return true; },
                                       [](const LinearSource& source, Stream&) -> std::shared_ptr<const PackedLinear> {
                                         return std::make_shared<ReferenceLinear>(source);
                                       }};
  return kernel;
}

void linear_reference(const Tensor& x, const QTensor& weight, const Tensor& bias, const InputQuant& input, Tensor& y) {
  ThreadPool serial(1);
  Stream stream{&serial, Device::kCpu};
  linear(x, *pack_linear(weight, bias, input, stream, "reference"), y, stream);
}

}  // namespace halftone
