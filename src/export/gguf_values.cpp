#include <algorithm>
#include <map>

#include "export/gguf.h"
#include "hf/config_fields.h"
#include "hf/gguf_names.h"

namespace halftone {
namespace {

constexpr float kVisionNormEps = 1e-6f;  // transformers modeling_qwen2_vl.py, LayerNorm of the vision tower
constexpr std::uint32_t kQuantizationVersion = 2;

// llama.h's llama_ftype: what most of the file is.
std::uint32_t file_type(const ExportPlan& plan, bool vision) {
  std::map<GgmlType, int> counts;
  for (const auto& [name, module] : plan.modules) {
    const auto type = ggml_type_of(module.weight.spec);
    if (in_vision_file(name) == vision && type) ++counts[*type];
  }
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == counts.end()) return 32;             // BF16
  if (most->first == GgmlType::kQ4_0) return 2;    // mostly Q4_0
  return most->first == GgmlType::kQ8_0 ? 7 : 14;  // mostly Q8_0, mostly Q4_K small
}

// Numbers of config.json and of an object in it.
class ConfigReader {
 public:
  ConfigReader(const OrderedJson& object, std::string source) : object_(object), source_(std::move(source)) {}

  std::uint32_t count(std::string_view field, std::optional<std::int64_t> fallback = {}) const {
    const auto value = integer_field(object_, field, source_);
    require(value || fallback, source_, "field '{}': missing", field);
    const std::int64_t number = value.value_or(fallback.value_or(0));
    require(number >= 1 && number <= INT32_MAX, source_, "field '{}': expected 1 to {}, found {}", field, INT32_MAX,
            number);
    return static_cast<std::uint32_t>(number);
  }
  float number(std::string_view field, float fallback) const {
    return get_field_or<float>(object_, field, fallback, source_);
  }
  bool has(std::string_view field) const { return find_field(object_, field, source_) != nullptr; }
  ConfigReader section(std::string_view field) const {
    static const OrderedJson none = OrderedJson::object();
    const OrderedJson* inner = find_field(object_, field, source_);
    return {inner ? *inner : none, source_ + ": " + std::string(field)};
  }
  const OrderedJson& object() const { return object_; }
  const std::string& source() const { return source_; }

 private:
  const OrderedJson& object_;
  std::string source_;
};

ConfigReader config_of(const ExportPlan& plan) {
  return {plan.source.config(), (plan.source.folder() / "config.json").string()};
}

ConfigReader text_config(const ExportPlan& plan) {
  const ConfigReader root = config_of(plan);
  return root.has("text_config") ? root.section("text_config") : root;
}

void add_general(const ExportPlan& plan, const char* architecture, const char* type, bool vision, GgufValues& values) {
  values.add("general.architecture", architecture);
  values.add("general.type", type);
  values.add("general.name", plan.source.folder().filename().string());
  values.add("general.quantization_version", kQuantizationVersion);
  values.add("general.file_type", file_type(plan, vision));
}

// Time, height, width, and nothing for the fourth that llama.cpp knows.
std::vector<std::int32_t> rope_sections(const ConfigReader& rope) {
  const auto sections =
      get_field_or<std::vector<std::int32_t>>(rope.object(), "mrope_section", {16, 24, 24}, rope.source());
  require(sections.size() == 3, rope.source(), "field 'mrope_section': expected three numbers, found {}",
          sections.size());
  return {sections[0], sections[1], sections[2], 0};
}

OrderedJson processor_config(const std::filesystem::path& folder) {
  const auto nested = folder / "processor_config.json";
  if (std::filesystem::exists(nested)) {
    OrderedJson config = read_ordered_json(nested);
    if (config.contains("image_processor")) return config["image_processor"];
  }
  return read_ordered_json(folder / "preprocessor_config.json");
}

}  // namespace

GgufValues language_values(const ExportPlan& plan) {
  const ConfigReader text = text_config(plan);
  const ConfigReader rope = text.section(text.has("rope_scaling") ? "rope_scaling" : "rope_parameters");
  GgufValues values;
  add_general(plan, "qwen2vl", "model", false, values);
  const std::uint32_t heads = text.count("num_attention_heads");
  values.add("qwen2vl.block_count", text.count("num_hidden_layers"));
  values.add("qwen2vl.context_length", text.count("max_position_embeddings", 32768));
  values.add("qwen2vl.embedding_length", text.count("hidden_size"));
  values.add("qwen2vl.feed_forward_length", text.count("intermediate_size"));
  values.add("qwen2vl.attention.head_count", heads);
  values.add("qwen2vl.attention.head_count_kv", text.count("num_key_value_heads", heads));
  values.add("qwen2vl.rope.freq_base", rope.number("rope_theta", text.number("rope_theta", 1e6f)));
  values.add("qwen2vl.attention.layer_norm_rms_epsilon", text.number("rms_norm_eps", 1e-5f));
  values.add("qwen2vl.rope.dimension_sections", rope_sections(rope));
  add_tokenizer_values(plan.source.folder(), text.count("vocab_size"), values);
  return values;
}

GgufValues vision_values(const ExportPlan& plan) {
  const ConfigReader vision = config_of(plan).section("vision_config");
  const OrderedJson processor = processor_config(plan.source.folder());
  const std::string source = (plan.source.folder() / "preprocessor_config.json").string();
  GgufValues values;
  add_general(plan, "clip", "mmproj", true, values);
  const std::uint32_t width = vision.count("embed_dim", 1280);
  values.add("clip.has_vision_encoder", true);
  values.add("clip.projector_type", "qwen2vl_merger");
  values.add("clip.vision.image_size", std::uint32_t{560});  // convert_hf_to_gguf.py's, for pictures of any size
  values.add("clip.vision.patch_size",
             vision.count(vision.has("patch_size") ? "patch_size" : "spatial_patch_size", 14));
  values.add("clip.vision.spatial_merge_size", vision.count("spatial_merge_size", 2));
  values.add("clip.vision.embedding_length", width);
  values.add("clip.vision.feed_forward_length",
             static_cast<std::uint32_t>(static_cast<float>(width) * vision.number("mlp_ratio", 4)));
  values.add("clip.vision.projection_dim", text_config(plan).count("hidden_size"));
  values.add("clip.vision.block_count", vision.count("depth", 32));
  values.add("clip.vision.attention.head_count", vision.count("num_heads", 16));
  values.add("clip.vision.attention.layer_norm_epsilon", kVisionNormEps);
  values.add("clip.vision.image_mean", get_field<std::vector<float>>(processor, "image_mean", source));
  values.add("clip.vision.image_std", get_field<std::vector<float>>(processor, "image_std", source));
  return values;
}

}  // namespace halftone
