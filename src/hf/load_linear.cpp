#include <algorithm>

#include "hf/checkpoint.h"
#include "hf/config_fields.h"
#include "hf/int_packing.h"
#include "hf/load_nf4.h"
#include "hf/load_transposed.h"
#include "hf/module_reader.h"
#include "hf/quantization_config.h"
#include "tensor/input_scales.h"

namespace halftone {
namespace {

// Puts the tensors of one module together, by its scheme.
class LinearReader : public ModuleReader {
 public:
  using ModuleReader::ModuleReader;

  QTensor read_unquantized() const {
    const Tensor weight = tensor("weight");
    const DType t = weight.dtype();
    const bool floating = t == DType::kBF16 || t == DType::kF16 || t == DType::kF32;
    require(weight.rank() == 2 && floating, source("weight"),
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
      case Storage::kPackedBlocks:
        read_blocks(scheme.storage, q);
        break;
      case Storage::kPackedSixBits:
        read_six_bits(q);
        break;
      case Storage::kRowPairs:
        read_row_pairs(q);
        break;
      case Storage::kBitsandbytes:
        q = read_nf4(*this);
        break;
      case Storage::kGgml:
        return read_ggml(scheme);
      default:
        fail(source(), "module '{}': expected a storage of rows", module());
    }
    check_qtensor(q, source() + ": " + module());
    return q;
  }

  InputQuant read_input(const LinearScheme& scheme, Layout layout) const {
    const bool inverse = layout == Layout::kCompressedTensors && has_two_rules(scheme.input);
    if (!has_static_scale(scheme.input)) return {scheme.input, 1.0f, inverse};
    const bool global = scheme.storage == Storage::kPackedBlocks;
    return {scheme.input, read_scalar(global ? "input_global_scale" : "input_scale", "quantized inputs"), inverse};
  }

  // Tensors that an algorithm of ModelOpt leaves unread belong to another one, which means another layer.
  void check_unread(const LinearScheme& scheme) const {
    require(scheme.input_scales || !has("pre_quant_scale"), source("pre_quant_scale"),
            "tensor '{}': expected none, as field 'quant_algo' names an algorithm without scaled inputs, found one",
            name("pre_quant_scale"));
    require(
        has_static_scale(scheme.input) || !has("input_scale"), source("input_scale"),
        "tensor '{}': expected none, as field 'quant_algo' names an algorithm without static scales of inputs, found "
        "one",
        name("input_scale"));
  }

  // What stands around the weight: input scales, a low-rank part, a scale for weights that are run in FP8.
  void read_surroundings(const LinearScheme& scheme, LinearParts& parts) const {
    const std::int64_t rows = parts.weight.rows(), cols = parts.weight.cols();
    parts.prescaled = scheme.input_scales;
    if (scheme.input_scales && has("pre_quant_scale")) {
      const Tensor scales = get("pre_quant_scale", {DType::kBF16, DType::kF16, DType::kF32}, "scaled inputs");
      expect_shape("pre_quant_scale", scales, {cols}, "scaled inputs");
      check_scales("pre_quant_scale", scales);
      parts.input_scales = to_f32(scales);
    }
    if (scheme.low_rank) {
      parts.low_rank_a = read_factor("svdquant_lora_a");
      parts.low_rank_b = read_factor("svdquant_lora_b");
      const std::int64_t rank = parts.low_rank_a.rank() == 2 ? parts.low_rank_a.dim(0) : 0;
      expect_shape(factor_name("svdquant_lora_a"), parts.low_rank_a, {rank, cols}, "a low-rank part");
      expect_shape(factor_name("svdquant_lora_b"), parts.low_rank_b, {rows, rank}, "a low-rank part");
    }
    if (scheme.fp8_weight_scale) parts.fp8_weight_scale = read_scalar("weight_scale_2", "weights that are run in FP8");
  }

  Tensor read_bias(std::int64_t rows) const {
    if (!has("bias")) return {};
    const Tensor bias = tensor("bias");
    require(bias.shape() == Shape{rows}, source("bias"), "tensor '{}': expected shape [{}], found {}", name("bias"),
            rows, to_string(bias.shape()));
    return bias;
  }

 private:
  // SVDQuant's factors, inside the quantizer or (ModelOpt's layout of diffusion models) beside the weight.
  std::string factor_name(const std::string& factor) const {
    return has(factor) ? factor : "weight_quantizer._" + factor;
  }
  Tensor read_factor(const std::string& factor) const {
    return get(factor_name(factor), {DType::kBF16, DType::kF16, DType::kF32}, "a low-rank part");
  }

  // weight_scale of all but kBlocks: [1] or [] per tensor, [rows] or [rows, 1] per channel, [rows, groups] per group,
  // [tiles of rows, tiles of columns] per tile, with ModelOpt's dimensions of 1 between them or without.
  Tensor read_scales(const QTensor& q) const {
    if (q.spec.mx) return read_exponents(q);
    const Tensor scales = get("weight_scale", {DType::kF32, DType::kBF16, DType::kF16}, q.spec);
    const Shape expected = scales_shape(q.spec, q.shape);
    Shape found = scales.shape();
    if (q.spec.granularity == Granularity::kTensor && found.empty()) found = {1};
    if (q.spec.granularity == Granularity::kChannel && found == Shape{q.rows(), 1}) found = {q.rows()};
    if (q.spec.granularity == Granularity::kTile && found.empty()) found = {1, 1};
    if (q.spec.granularity == Granularity::kTile && found.size() == 4 && found[1] == 1 && found[3] == 1) {
      found = {found[0], found[2]};
    }
    require(found == expected, source("weight_scale"),
            "tensor '{}': expected shape {} for {} of a [{}, {}] weight, found {}", name("weight_scale"),
            to_string(expected), to_string(q.spec), q.rows(), q.cols(), to_string(scales.shape()));
    check_scales("weight_scale", scales);
    return scales.reshape(expected);
  }

  // E8M0 codes, which the tools store as U8. 255 means NaN.
  Tensor read_exponents(const QTensor& q) const {
    const Tensor codes = get("weight_scale", {DType::kU8, DType::kF8E8M0}, q.spec);
    expect_shape("weight_scale", codes, scales_shape(q.spec, q.shape), q.spec);
    const auto* bytes = codes.bits<std::uint8_t>();
    for (std::int64_t i = 0; i < codes.numel(); ++i) {
      if (bytes[i] != 255) continue;
      fail(source("weight_scale"), "tensor '{}': expected exponents of 0 to 254, found 255 at {}", name("weight_scale"),
           i);
    }
    return Tensor::borrow(DType::kF8E8M0, codes.shape(), codes.raw(), std::make_shared<Tensor>(codes));
  }

  // compressed-tensors' zero points: I8 in the scales' shape, or I32 packed along the rows.
  Tensor read_zeros(const QTensor& q, bool packed) const {
    const Shape expected = scales_shape(q.spec, q.shape);
    const std::int64_t groups = expected.size() > 1 ? expected[1] : 1;
    if (!packed) {
      const Tensor zeros = get("weight_zero_point", {DType::kI8}, q.spec);
      require(zeros.numel() == q.rows() * groups, source("weight_zero_point"),
              "tensor '{}': expected shape {} for {}, found {}", name("weight_zero_point"), to_string(expected),
              to_string(q.spec), to_string(zeros.shape()));
      return zeros.reshape(expected);
    }
    const Tensor words = get("weight_zero_point", {DType::kI32}, q.spec);
    const std::int64_t bits = bits_of(q.spec.element);
    expect_shape("weight_zero_point", words, {(q.rows() * bits + 31) / 32, groups}, q.spec);
    return unpack_int32_rows(words, q.spec.element, q.rows()).reshape(expected);
  }

  // Zero points beside weights that the configuration calls symmetric: only those that change nothing.
  void check_symmetric() const {
    if (!has("weight_zero_point")) return;
    const Tensor zeros = tensor("weight_zero_point");
    const auto* bytes = static_cast<const std::uint8_t*>(zeros.raw());
    const bool none = zeros.dtype() == DType::kI8 &&
                      std::all_of(bytes, bytes + zeros.nbytes(), [](std::uint8_t byte) { return byte == 0; });
    require(none, source("weight_zero_point"),
            "tensor '{}': expected none, or I8 zeros, for symmetric weights, found {} {}", name("weight_zero_point"),
            dtype_name(zeros.dtype()), to_string(zeros.shape()));
  }

  void read_plain(QTensor& q) const {
    q.payload = get("weight", {payload_dtype(q.spec.element)}, q.spec);
    require(q.payload.rank() == 2, source("weight"), "tensor '{}': expected [outputs, inputs], found {}",
            name("weight"), to_string(q.payload.shape()));
    q.shape = q.payload.shape();
    check_groups("weight", q);
    q.scales = read_scales(q);
    if (q.spec.asymmetric) {
      q.zeros = read_zeros(q, false);
    } else {
      check_symmetric();
    }
  }

  void check_groups(std::string_view part, const QTensor& q) const {
    require(!q.spec.mx || q.cols() % q.spec.group == 0, source(part),
            "tensor '{}': expected inputs in whole blocks of {}, found {}", name(part), q.spec.group, q.cols());
  }

  void read_row_pairs(QTensor& q) const {
    const Tensor packed = get("weight", {DType::kU8}, q.spec);
    require(packed.rank() == 2, source("weight"), "tensor '{}': expected [outputs / 2, inputs], found {}",
            name("weight"), to_string(packed.shape()));
    q.shape = {packed.dim(0) * 2, packed.dim(1)};
    q.payload = unpack_row_pairs(packed);
    q.scales = read_scales(q);
  }

  void read_packed(QTensor& q) const {
    const Tensor packed = get("weight_packed", {DType::kI32}, q.spec);
    const Tensor shape = get("weight_shape", {DType::kI64, DType::kI32}, q.spec);
    expect_shape("weight_shape", shape, {2}, q.spec);
    require(packed.rank() == 2, source("weight_packed"), "tensor '{}': expected [outputs, words], found {}",
            name("weight_packed"), to_string(packed.shape()));
    const auto length = [&](int i) {
      return shape.dtype() == DType::kI64 ? shape.data<std::int64_t>()[i] : shape.data<std::int32_t>()[i];
    };
    q.shape = {length(0), length(1)};
    const std::int64_t per_word = q.spec.element == Element::kInt4 ? 8 : 4;
    // compared by division: weight_shape may hold anything
    const bool fits = q.rows() == packed.dim(0) && q.cols() >= 0 && q.cols() / per_word <= packed.dim(1) &&
                      (q.cols() + per_word - 1) / per_word == packed.dim(1);
    require(fits, source("weight_packed"),
            "tensor '{}': expected the {} values of a word in shape {}, found weight_shape {}", name("weight_packed"),
            per_word, to_string(packed.shape()), to_string(q.shape));
    q.payload = unpack_int32(packed, q.spec.element, q.cols());
    q.scales = read_scales(q);
    if (q.spec.asymmetric) {
      q.zeros = read_zeros(q, true);
    } else {
      check_symmetric();
    }
  }

  void read_blocks(Storage storage, QTensor& q) const {
    const bool packed = storage == Storage::kPackedBlocks;
    const char* part = packed ? "weight_packed" : "weight";
    q.payload = get(part, {DType::kU8}, q.spec);
    require(q.payload.rank() == 2, source(part), "tensor '{}': expected [outputs, inputs / 2], found {}", name(part),
            to_string(q.payload.shape()));
    q.shape = {q.payload.dim(0), q.payload.dim(1) * 2};
    require(q.cols() % q.spec.group == 0, source(part), "tensor '{}': expected inputs in whole blocks of {}, found {}",
            name(part), q.spec.group, q.cols());
    if (q.spec.mx) {
      q.scales = read_exponents(q);
      return;
    }
    q.scales = get("weight_scale", {DType::kF8E4M3}, q.spec);
    expect_shape("weight_scale", q.scales, {q.rows(), q.cols() / q.spec.group}, q.spec);
    check_scales("weight_scale", q.scales);
    if (packed) {
      q.global_scale = read_scalar("weight_global_scale", to_string(q.spec));
      q.inverse_global = true;
    } else {
      q.global_scale = read_scalar("weight_scale_2", to_string(q.spec));
    }
  }

  void read_six_bits(QTensor& q) const {
    const Tensor packed = get("weight_packed", {DType::kU8}, q.spec);
    require(packed.rank() == 2 && packed.dim(1) % 3 == 0, source("weight_packed"),
            "tensor '{}': expected [outputs, inputs * 3 / 4], found {}", name("weight_packed"),
            to_string(packed.shape()));
    q.shape = {packed.dim(0), packed.dim(1) / 3 * 4};
    check_groups("weight_packed", q);
    q.payload = unpack_six_bits(packed);
    q.scales = read_exponents(q);
  }

  QTensor read_ggml(const LinearScheme& scheme) const {
    const Tensor blocks = get("weight", {DType::kU8}, scheme.weights);
    const GgmlTypeInfo& info = ggml_type_info(scheme.ggml);
    return unpack_ggml(scheme.ggml, blocks, blocks.dim(1) / info.bytes * info.weights,
                       source() + ": tensor '" + name("weight") + "'");
  }
};

bool is_transposed(Storage storage) {
  return storage == Storage::kAwq || storage == Storage::kGptq || storage == Storage::kGptqV2;
}

// Where inputs were put into another order, g_idx alone says which.
void check_act_order(const Checkpoint& checkpoint, const ModuleReader& reader) {
  const std::string file = (checkpoint.folder() / "config.json").string();
  const OrderedJson* config = find_field(checkpoint.config(), "quantization_config", file);
  const bool reordered = config && bool_field(*config, "desc_act", file).value_or(false);
  require(!reordered || reader.has("g_idx"), reader.source("g_idx"),
          "tensor '{}': missing; the configuration says desc_act, inputs in another order", reader.name("g_idx"));
}

}  // namespace

LinearParts load_linear(const Checkpoint& checkpoint, std::string_view module) {
  const LinearReader reader(checkpoint, module);
  auto scheme = checkpoint.quantization().scheme_of(module);
  LinearParts parts;
  if (scheme && is_transposed(scheme->storage)) {
    // these configurations do not say which modules they mean: a weight says that this one stayed as it was
    if (reader.has("qweight") || !reader.has("weight")) {
      check_act_order(checkpoint, reader);
      read_transposed(reader, *scheme, parts);
      parts.bias = reader.read_bias(parts.weight.rows());
      return parts;
    }
    scheme.reset();
  }
  if (scheme && scheme->storage == Storage::kBitsandbytes && !has_nf4(reader)) scheme.reset();
  parts.weight = scheme ? reader.read_quantized(*scheme) : reader.read_unquantized();
  if (scheme) parts.input = reader.read_input(*scheme, checkpoint.quantization().layout());
  if (scheme && checkpoint.quantization().layout() == Layout::kModelOpt) reader.check_unread(*scheme);
  if (scheme) reader.read_surroundings(*scheme, parts);
  parts.bias = reader.read_bias(parts.weight.rows());
  return parts;
}

}  // namespace halftone
