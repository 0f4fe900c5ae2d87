#include <map>
#include <tuple>

#include "hf/ggml_types.h"
#include "hf/kv_cache_key.h"
#include "model/registry.h"
#include "quant/linear_groups.h"
#include "quant/nf4_double.h"
#include "quant/prescale.h"
#include "quant/quantize.h"
#include "quant/round_to_nearest.h"
#include "tensor/blank.h"

namespace halftone {
namespace {

Tensor blank_like(const Tensor& tensor, const Shape& shape) {
  return tensor.defined() ? blank_tensor(tensor.dtype(), shape) : Tensor();
}

// What the outlines of two modules that are one matrix to a layout have in common.
struct Kind {
  Shape shape;
  LinearFormat format;
  DType dtype = DType::kBF16;
  bool folded = false;  // the scales of its input are in a norm
};

// Outlines of modules; those of one kind share their tensors.
class OutlineMaker {
 public:
  explicit OutlineMaker(const Recipe& recipe) : recipe_(recipe) {}

  const LinearParts& outline(const Kind& kind) {
    const auto key =
        std::tuple(kind.shape, weight_format_name(kind.format.weights), kind.format.inputs, kind.dtype, kind.folded);
    if (const auto it = known_.find(key); it != known_.end()) return it->second;
    return known_.emplace(key, make(kind)).first->second;
  }

 private:
  using Key = std::tuple<Shape, std::string_view, InputQuant::Kind, DType, bool>;

  LinearParts make(const Kind& kind) const {
    LinearParts parts;
    parts.weight = blank_weight(kind);
    parts.input.kind = kind.format.inputs;
    const std::int64_t outputs = kind.shape.at(0), inputs = kind.shape.at(1);
    parts.prescaled = recipe_.prescales() && takes_input_scales(recipe_, kind.format);
    if (parts.prescaled && !kind.folded) parts.input_scales = blank_tensor(DType::kF32, {inputs});
    if (parts.prescaled && recipe_.algorithm == Algorithm::kSvdQuant) {
      parts.low_rank_a = blank_tensor(kind.dtype, {recipe_.rank, inputs});
      parts.low_rank_b = blank_tensor(kind.dtype, {outputs, recipe_.rank});
    }
    if (recipe_.layout == Layout::kGguf) {
      const GgmlTypeInfo& type = ggml_type_info(ggml_type_of(kind.format.weights).value());
      parts.blocks = blank_tensor(DType::kU8, {outputs, inputs / type.weights * type.bytes});
    }
    if (recipe_.layout == Layout::kBitsandbytes) {
      const std::int64_t blocks = outputs * inputs / Nf4Double::kBlock, scales = Nf4Double::kScaleBlock;
      parts.nested = {blank_tensor(DType::kU8, {blocks}), blank_tensor(DType::kF32, {(blocks + scales - 1) / scales}),
                      0.0f};
    }
    return parts;
  }

  // Rounding a row of zeros tells the types.
  QTensor blank_weight(const Kind& kind) const {
    const Tensor row = Tensor::zeros(DType::kF32, {1, kind.shape.at(1)});
    const Rounding rule = rounding_of(recipe_.layout, kind.dtype, kind.dtype);
    ThreadPool pool(1);
    QTensor q = round_to_nearest(row, kind.format.weights, rule, {}, "outline", pool);
    q.shape = kind.shape;
    const Shape scales = scales_shape(q.spec, q.shape);
    q.payload = blank_tensor(payload_dtype(q.spec.element), payload_shape(q.spec.element, q.shape));
    q.scales = blank_like(q.scales, scales);
    q.zeros = blank_like(q.zeros, scales);
    q.offsets = blank_like(q.offsets, scales);
    return q;
  }

  const Recipe& recipe_;
  std::map<Key, LinearParts> known_;
};

KvQuantization outline_kv(const std::string& format, const DecoderConfig& decoder) {
  KvQuantization kv{format, {}};
  if (!kv_has_scales(format)) return kv;
  const std::vector<float> ones(static_cast<std::size_t>(kv_has_head_scales(format) ? decoder.kv_heads : 1), 1.0f);
  kv.layers.assign(static_cast<std::size_t>(decoder.layers), KvScales{ones, ones});
  return kv;
}

class Outliner {
 public:
  Outliner(const Checkpoint& checkpoint, const Recipe& recipe)
      : checkpoint_(untie_for(recipe, checkpoint)), recipe_(recipe), maker_(recipe) {
    Structure structure = read_structure(checkpoint_);
    config_ = std::move(structure.config);
    modules_ = std::move(structure.modules);
    const std::vector<LinearFormat> formats = resolve_rules(recipe, modules_);
    for (std::size_t i = 0; i < modules_.size(); ++i) {
      formats_[modules_[i].module] = formats[i];
      table_[modules_[i].module] = &modules_[i];
    }
  }

  QuantizationOutline run() {
    outline_.kv = outline_kv(recipe_.kv_format, config_.decoder);
    for (const LinearGroup& group : linear_groups(config_, modules_)) add(group);
    for (const auto& [module, parts] : outline_.modules) {
      outline_.changing.erase(module + ".weight");
      outline_.changing.erase(module + ".bias");
    }
    return std::move(outline_);
  }

 private:
  void add(const LinearGroup& group) {
    const ModuleInfo* writer = group.writer.empty() ? nullptr : table_.at(group.writer);
    const bool folded = folds_into_norm(group, recipe_, formats_, writer);
    for (const std::string& reader : group.readers) {
      const ModuleInfo& info = *table_.at(reader);
      if (!formats_.at(reader).quantized()) continue;
      const DType dtype = checkpoint_.tensors().at(info.stored + ".weight").dtype;
      outline_.modules[info.stored] = maker_.outline({info.shape, formats_.at(reader), dtype, folded});
    }
    if (!recipe_.smooths() || writer == nullptr) return;
    add_changing(*writer);
    for (const std::string& reader : group.readers) add_changing(*table_.at(reader));
  }

  void add_changing(const ModuleInfo& info) {
    for (const char* part : {".weight", ".bias"}) {
      if (checkpoint_.contains(info.stored + part)) outline_.changing.insert(info.stored + part);
    }
  }

  const Checkpoint checkpoint_;
  const Recipe& recipe_;
  OutlineMaker maker_;
  ModelConfig config_;
  std::vector<ModuleInfo> modules_;
  FormatTable formats_;
  std::map<std::string_view, const ModuleInfo*> table_;
  QuantizationOutline outline_;
};

}  // namespace

QuantizationOutline outline_quantization(const Checkpoint& checkpoint, const Recipe& recipe) {
  return Outliner(checkpoint, recipe).run();
}

}  // namespace halftone
