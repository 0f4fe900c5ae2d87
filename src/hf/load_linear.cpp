#include <cmath>

#include "hf/checkpoint.h"
#include "hf/int_packing.h"
#include "hf/quantization_config.h"

namespace halftone {
namespace {

// Reads the tensors of one module; every error names the tensor, what its scheme demands and what was found.
class LinearReader {
 public:
  LinearReader(const Checkpoint& checkpoint, std::string_view module)
      : checkpoint_(checkpoint), module_(module), source_(checkpoint.folder().string()) {}

  QTensor read_unquantized() const {
    const Tensor weight = checkpoint_.tensor(name("weight"));
    const DType t = weight.dtype();
    const bool floating = t == DType::kBF16 || t == DType::kF16 || t == DType::kF32;
    require(weight.rank() == 2 && floating, source_,
            "tensor '{}': expected BF16, F16 or F32 [outputs, inputs] (the module is not quantized), found {} {}",
            name("weight"), dtype_name(t), to_string(weight.shape()));
    return wrap_unquantized(weight);
  }

  QTensor read_quantized(const LinearScheme& scheme) const {
    QTensor q;
    q.spec = scheme.weights;
    switch (scheme.storage) {
      case Storage::kPlain:
        read_plain(q);
        break;
      case Storage::kPacked:
        read_packed(q);
        break;
      case Storage::kBlocks:
        read_blocks(q);
        break;
    }
    check_qtensor(q, source_ + ": " + module_);
    return q;
  }

  InputQuant read_input(InputQuant::Kind kind) const {
    if (kind == InputQuant::Kind::kNone) return {};
    return {kind, read_scalar("input_scale", "quantized inputs")};
  }

  Tensor read_bias(std::int64_t rows) const {
    if (!checkpoint_.contains(name("bias"))) return {};
    const Tensor bias = checkpoint_.tensor(name("bias"));
    require(bias.shape() == Shape{rows}, source_, "tensor '{}': expected shape [{}], found {}", name("bias"), rows,
            to_string(bias.shape()));
    return bias;
  }

 private:
  std::string name(std::string_view part) const { return module_ + "." + std::string(part); }

  // The tensor, of one of the dtypes; `rule` says what demands it.
  Tensor get(std::string_view part, std::initializer_list<DType> dtypes, std::string_view rule) const {
    require(checkpoint_.contains(name(part)), source_, "tensor '{}': missing; the configuration says {}", name(part),
            rule);
    const Tensor tensor = checkpoint_.tensor(name(part));
    for (const DType dtype : dtypes) {
      if (tensor.dtype() == dtype) return tensor;
    }
    fail(source_, "tensor '{}': expected {}{}, found {}; the configuration says {}", name(part),
         dtype_name(*dtypes.begin()), dtypes.size() > 1 ? " or another of its kind" : "", dtype_name(tensor.dtype()),
         rule);
  }
  Tensor get(std::string_view part, std::initializer_list<DType> dtypes, const QuantSpec& spec) const {
    return get(part, dtypes, to_string(spec));
  }

  void expect_shape(std::string_view part, const Tensor& tensor, const Shape& expected, const QuantSpec& spec) const {
    require(tensor.shape() == expected, source_, "tensor '{}': expected shape {} for {}, found {}", name(part),
            to_string(expected), to_string(spec), to_string(tensor.shape()));
  }

  void check_scales(std::string_view part, const Tensor& scales) const {
    const Tensor values = to_f32(scales);
    for (std::int64_t i = 0; i < values.numel(); ++i) {
      const float scale = values.data<float>()[i];
      require(std::isfinite(scale) && scale >= 0, source_,
              "tensor '{}': expected finite scales of 0 or more, found {} at {}", name(part), scale, i);
    }
  }

  float read_scalar(std::string_view part, std::string_view rule) const {
    const Tensor tensor = get(part, {DType::kF32, DType::kBF16, DType::kF16}, rule);
    require(tensor.numel() == 1, source_, "tensor '{}': expected one number, found shape {}", name(part),
            to_string(tensor.shape()));
    const float value = to_f32(tensor).data<float>()[0];
    require(std::isfinite(value) && value > 0, source_, "tensor '{}': expected a finite number above 0, found {}",
            name(part), value);
    return value;
  }

  // weight_scale of kPlain and kPacked: [1] or [] per tensor, [rows] or [rows, 1] per channel, [rows, groups] per
  // group.
  Tensor read_scales(const QTensor& q) const {
    const Tensor scales = get("weight_scale", {DType::kF32, DType::kBF16, DType::kF16}, q.spec);
    Shape expected{1};
    if (q.spec.granularity == Granularity::kChannel) expected = {q.rows()};
    if (q.spec.granularity == Granularity::kGroup) expected = {q.rows(), (q.cols() + q.spec.group - 1) / q.spec.group};
    Shape found = scales.shape();
    if (q.spec.granularity == Granularity::kTensor && found.empty()) found = {1};
    if (q.spec.granularity == Granularity::kChannel && found == Shape{q.rows(), 1}) found = {q.rows()};
    require(found == expected, source_, "tensor '{}': expected shape {} for {} of a [{}, {}] weight, found {}",
            name("weight_scale"), to_string(expected), to_string(q.spec), q.rows(), q.cols(),
            to_string(scales.shape()));
    check_scales("weight_scale", scales);
    return scales.reshape(expected);
  }

  void read_plain(QTensor& q) const {
    q.payload = get("weight", {q.spec.element == Element::kInt8 ? DType::kI8 : DType::kF8E4M3}, q.spec);
    require(q.payload.rank() == 2, source_, "tensor '{}': expected [outputs, inputs], found {}", name("weight"),
            to_string(q.payload.shape()));
    q.shape = q.payload.shape();
    q.scales = read_scales(q);
  }

  void read_packed(QTensor& q) const {
    const Tensor packed = get("weight_packed", {DType::kI32}, q.spec);
    const Tensor shape = get("weight_shape", {DType::kI64, DType::kI32}, q.spec);
    expect_shape("weight_shape", shape, {2}, q.spec);
    require(packed.rank() == 2, source_, "tensor '{}': expected [outputs, words], found {}", name("weight_packed"),
            to_string(packed.shape()));
    const auto length = [&](int i) {
      return shape.dtype() == DType::kI64 ? shape.data<std::int64_t>()[i] : shape.data<std::int32_t>()[i];
    };
    q.shape = {length(0), length(1)};
    const std::int64_t per_word = q.spec.element == Element::kInt4 ? 8 : 4;
    // compared by division: weight_shape may hold anything
    const bool fits = q.rows() == packed.dim(0) && q.cols() >= 0 && q.cols() / per_word <= packed.dim(1) &&
                      (q.cols() + per_word - 1) / per_word == packed.dim(1);
    require(fits, source_, "tensor '{}': expected the {} values of a word in shape {}, found weight_shape {}",
            name("weight_packed"), per_word, to_string(packed.shape()), to_string(q.shape));
    q.payload = unpack_int32(packed, q.spec.element, q.cols());
    q.scales = read_scales(q);
  }

  void read_blocks(QTensor& q) const {
    q.payload = get("weight", {DType::kU8}, q.spec);
    require(q.payload.rank() == 2, source_, "tensor '{}': expected [outputs, inputs / 2], found {}", name("weight"),
            to_string(q.payload.shape()));
    q.shape = {q.payload.dim(0), q.payload.dim(1) * 2};
    require(q.cols() % q.spec.group == 0, source_, "tensor '{}': expected inputs in whole blocks of {}, found {}",
            name("weight"), q.spec.group, q.cols());
    q.scales = get("weight_scale", {DType::kF8E4M3}, q.spec);
    expect_shape("weight_scale", q.scales, {q.rows(), q.cols() / q.spec.group}, q.spec);
    check_scales("weight_scale", q.scales);
    q.global_scale = read_scalar("weight_scale_2", to_string(q.spec));
  }

  const Checkpoint& checkpoint_;
  std::string module_;
  std::string source_;
};

}  // namespace

LinearParts load_linear(const Checkpoint& checkpoint, std::string_view module) {
  const LinearReader reader(checkpoint, module);
  const auto scheme = checkpoint.quantization().scheme_of(module);
  LinearParts parts;
  parts.weight = scheme ? reader.read_quantized(*scheme) : reader.read_unquantized();
  if (scheme) parts.input = reader.read_input(scheme->input);
  parts.bias = reader.read_bias(parts.weight.rows());
  return parts;
}

}  // namespace halftone
