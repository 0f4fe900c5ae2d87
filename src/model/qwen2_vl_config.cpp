#include <algorithm>
#include <limits>
#include <optional>

#include "base/fields.h"
#include "model/qwen2_vl.h"

namespace halftone {
namespace {

// Lengths and counts of a model begin at 1.
std::int64_t count(const OrderedFields& fields, std::string_view field, std::int64_t limit,
                   std::optional<std::int64_t> fallback = {}) {
  return fallback ? fields.count_or(field, *fallback, 1, limit) : fields.count(field, 1, limit);
}

// Throws unless the field is absent or one of `allowed`.
void expect(const OrderedFields& fields, std::string_view field, std::initializer_list<std::string_view> allowed) {
  if (!fields.has(field)) return;
  const OrderedJson& value = fields.at(field);
  for (const std::string_view name : allowed) {
    if (value.is_string() && value.get_ref<const std::string&>() == name) return;
  }
  fields.refuse(field, fmt::format("\"{}\"", *allowed.begin()), value);
}

constexpr std::int64_t kMaxWidth = 1 << 17, kMaxLayers = 1024, kMaxHeads = 4096, kMaxVocabulary = 1 << 22,
                       kMaxPositions = 1 << 24, kMaxFeedForward = 1 << 20, kMaxPatch = 256;

void read_rope(const OrderedFields& text, DecoderConfig& config) {
  config.rope_theta = text.positive_or("rope_theta", 1e6, 1e12);
  config.mrope_section = {16, 24, 24};
  const char* field = text.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (text.has(field)) {
    const OrderedFields rope = text.object(field);
    expect(rope, "type", {"mrope", "default"});
    expect(rope, "rope_type", {"default", "mrope"});
    config.rope_theta = rope.positive_or("rope_theta", config.rope_theta, 1e12);
    if (rope.has("mrope_section")) {
      const OrderedJson& sections = rope.at("mrope_section");
      require(sections.is_array() && sections.size() == 3, text.source(),
              "field '{}': expected three integers, found {}", rope.place("mrope_section"), shown(sections));
      for (std::size_t i = 0; i < 3; ++i) {
        require(sections[i].is_number_unsigned() && sections[i].get<std::uint64_t>() <= kMaxWidth, text.source(),
                "field '{}': expected integers of 0 or more, found {}", rope.place("mrope_section"), shown(sections));
        config.mrope_section[i] = sections[i].get<std::int64_t>();
      }
    }
  }
  const std::int64_t sum = config.mrope_section[0] + config.mrope_section[1] + config.mrope_section[2];
  require(sum == config.head_dim / 2, text.source(),
          "field '{}.mrope_section': expected a sum of {} (half of the head size), found {}", text.place(field),
          config.head_dim / 2, sum);
}

// "layer_types" says it layer by layer; else max_window_layers says how many layers at the beginning see all.
std::vector<bool> read_sliding_layers(const OrderedFields& text, std::int64_t layers) {
  std::vector<bool> sliding(static_cast<std::size_t>(layers));
  if (text.has("layer_types")) {
    const auto types = text.get<std::vector<std::string>>("layer_types");
    if (types.size() != sliding.size()) {
      text.refuse("layer_types", fmt::format("a list of {}", layers), text.at("layer_types"));
    }
    for (std::size_t i = 0; i < sliding.size(); ++i) {
      sliding[i] = types[i] == "sliding_attention";
      require(sliding[i] || types[i] == "full_attention", text.source(),
              "field '{}': expected \"full_attention\" or \"sliding_attention\", found \"{}\"",
              text.place("layer_types"), types[i].substr(0, 80));
    }
    return sliding;
  }
  constexpr std::int64_t kDefault = 80;  // of transformers
  const std::int64_t first = text.count_or("max_window_layers", kDefault, 0, std::numeric_limits<std::int32_t>::max());
  for (std::int64_t i = first; i < layers; ++i) sliding[static_cast<std::size_t>(i)] = true;
  return sliding;
}

void read_sliding_window(const OrderedFields& text, DecoderConfig& config) {
  const bool used = text.get_or<bool>("use_sliding_window", false) && text.has("sliding_window");
  if (!used && !text.has("layer_types")) return;
  std::vector<bool> sliding = read_sliding_layers(text, config.layers);
  if (std::find(sliding.begin(), sliding.end(), true) == sliding.end()) return;
  require(used, text.source(),
          "field '{}': expected use_sliding_window and sliding_window beside \"sliding_attention\"",
          text.place("layer_types"));
  config.sliding_window = count(text, "sliding_window", std::numeric_limits<std::int32_t>::max());
  config.sliding_layers = std::move(sliding);
}

DecoderConfig read_decoder(const OrderedFields& text) {
  DecoderConfig config;
  config.hidden = count(text, "hidden_size", kMaxWidth);
  config.intermediate = count(text, "intermediate_size", kMaxFeedForward);
  config.layers = count(text, "num_hidden_layers", kMaxLayers);
  config.heads = count(text, "num_attention_heads", kMaxHeads);
  config.kv_heads = count(text, "num_key_value_heads", kMaxHeads, config.heads);
  config.vocabulary = count(text, "vocab_size", kMaxVocabulary);
  config.max_positions = count(text, "max_position_embeddings", kMaxPositions, 32768);
  config.norm_eps = static_cast<float>(text.positive_or("rms_norm_eps", 1e-5, 1));
  expect(text, "hidden_act", {"silu"});
  require(config.hidden % config.heads == 0, text.source(), "field '{}': expected a multiple of the {} heads, found {}",
          text.place("hidden_size"), config.heads, config.hidden);
  require(config.heads % config.kv_heads == 0, text.source(),
          "field '{}': expected a divisor of the {} heads, found {}", text.place("num_key_value_heads"), config.heads,
          config.kv_heads);
  config.head_dim = config.hidden / config.heads;
  require(config.head_dim % 2 == 0, text.source(), "field '{}': expected an even head size, found {} / {} = {}",
          text.place("num_attention_heads"), config.hidden, config.heads, config.head_dim);
  require(count(text, "head_dim", kMaxWidth, config.head_dim) == config.head_dim, text.source(),
          "field '{}': expected hidden_size / num_attention_heads = {}, found {}", text.place("head_dim"),
          config.head_dim, count(text, "head_dim", kMaxWidth, config.head_dim));
  read_rope(text, config);
  read_sliding_window(text, config);
  return config;
}

// A length that newer files may give as a list of equal numbers.
std::int64_t read_patch_length(const OrderedFields& vision, std::string_view field, std::string_view legacy,
                               std::int64_t fallback) {
  if (!vision.has(field) && vision.has(legacy)) field = legacy;
  if (vision.has(field) && vision.at(field).is_array()) {
    const OrderedJson& list = vision.at(field);
    bool equal = !list.empty() && list[0].is_number_unsigned() && list[0] > 0 && list[0] <= kMaxPatch;
    for (const OrderedJson& value : list) equal = equal && value == list[0];
    require(equal, vision.source(), "field '{}': expected a number from 1 to {}, found {}", vision.place(field),
            kMaxPatch, shown(list));
    return list[0].get<std::int64_t>();
  }
  return count(vision, field, kMaxPatch, fallback);
}

VisionConfig read_vision(const OrderedFields& vision, const DecoderConfig& decoder) {
  VisionConfig config;
  config.depth = count(vision, "depth", kMaxLayers, 32);
  config.width = count(vision, "embed_dim", kMaxWidth, 1280);
  config.heads = count(vision, "num_heads", kMaxHeads, 16);
  config.channels = count(vision, vision.has("in_channels") ? "in_channels" : "in_chans", 16, 3);
  config.patch_size = read_patch_length(vision, "patch_size", "spatial_patch_size", 14);
  config.temporal_patch_size = read_patch_length(vision, "temporal_patch_size", "temporal_patch_size", 2);
  config.merge_size = count(vision, "spatial_merge_size", 16, 2);
  config.output = count(vision, "hidden_size", kMaxWidth, decoder.hidden);
  const double ratio = vision.positive_or("mlp_ratio", 4, 64);
  config.mlp_width = static_cast<std::int64_t>(static_cast<double>(config.width) * ratio);
  expect(vision, "hidden_act", {"quick_gelu"});
  if (vision.has("rope_parameters")) {
    config.rope_theta = vision.object("rope_parameters").positive_or("rope_theta", config.rope_theta, 1e12);
  }
  require(config.width % config.heads == 0, vision.source(),
          "field '{}': expected a multiple of the {} heads, found {}", vision.place("embed_dim"), config.heads,
          config.width);
  config.head_dim = config.width / config.heads;
  require(config.head_dim % 4 == 0, vision.source(),
          "field '{}': expected a head size that 4 divides, found {} / {} = {}", vision.place("num_heads"),
          config.width, config.heads, config.head_dim);
  require(config.mlp_width >= 1, vision.source(), "field '{}': expected a feed-forward layer of 1 or more, found {}",
          vision.place("mlp_ratio"), config.mlp_width);
  require(config.output == decoder.hidden, vision.source(), "field '{}': expected the decoder's width {}, found {}",
          vision.place("hidden_size"), decoder.hidden, config.output);
  return config;
}

std::vector<std::int32_t> read_stop_tokens(const OrderedFields& root, const OrderedFields& text) {
  const OrderedFields& holder = root.has("eos_token_id") ? root : text;
  std::vector<std::int32_t> stops;
  if (!holder.has("eos_token_id")) return stops;
  const OrderedJson& value = holder.at("eos_token_id");
  const OrderedJson list = value.is_array() ? value : OrderedJson::array({value});
  for (const OrderedJson& id : list) {
    require(id.is_number_unsigned() && id.get<std::uint64_t>() < kMaxVocabulary, root.source(),
            "field '{}': expected token ids, found {}", holder.place("eos_token_id"), shown(value));
    stops.push_back(id.get<std::int32_t>());
  }
  return stops;
}

}  // namespace

ModelConfig read_qwen2_vl_config(const Checkpoint& checkpoint) {
  const OrderedFields root(checkpoint.config(), (checkpoint.folder() / "config.json").string());
  const OrderedFields text = root.has("text_config") ? root.object("text_config") : root;
  ModelConfig config;
  config.model_type = "qwen2_vl";
  config.decoder = read_decoder(text);
  config.decoder.tied_head =
      root.get_or<bool>("tie_word_embeddings", false) || text.get_or<bool>("tie_word_embeddings", false);
  const OrderedJson none = OrderedJson::object();
  const OrderedFields vision =
      root.has("vision_config") ? root.object("vision_config") : OrderedFields(none, root.source(), "vision_config");
  config.vision = read_vision(vision, config.decoder);
  const std::int64_t picture = count(root, "image_token_id", kMaxVocabulary, 151655);
  require(picture < config.decoder.vocabulary, root.source(),
          "field 'image_token_id': expected less than vocab_size {}, found {}", config.decoder.vocabulary, picture);
  config.picture_token = static_cast<std::int32_t>(picture);
  config.stop_tokens = read_stop_tokens(root, text);
  return config;
}

}  // namespace halftone
