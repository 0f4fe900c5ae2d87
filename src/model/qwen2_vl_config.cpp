#include <algorithm>
#include <limits>
#include <optional>

#include "model/qwen2_vl.h"

namespace halftone {
namespace {

// One JSON object of a configuration file, with errors that name the file and the path of the field.
class Section {
 public:
  Section(const OrderedJson& object, std::string file, std::string path)
      : object_(object), file_(std::move(file)), path_(std::move(path)) {
    require(object.is_object(), file_, "field '{}': expected an object, found {}", path_, object.type_name());
  }

  bool has(std::string_view field) const {
    const auto it = object_.find(field);
    return it != object_.end() && !it->is_null();
  }
  const OrderedJson& at(std::string_view field) const { return *object_.find(field); }
  Section section(std::string_view field) const { return Section(at(field), file_, name(field) + "."); }
  std::string name(std::string_view field) const { return path_ + std::string(field); }
  const std::string& file() const { return file_; }

  // An integer in [1, limit].
  std::int64_t count(std::string_view field, std::int64_t limit, std::optional<std::int64_t> fallback = {}) const {
    if (!has(field)) {
      require(fallback.has_value(), file_, "field '{}': missing", name(field));
      return *fallback;
    }
    const OrderedJson& value = at(field);
    require(value.is_number_integer(), file_, "field '{}': expected an integer, found {}", name(field), shorten(value));
    const bool fits = value.is_number_unsigned() ? value.get<std::uint64_t>() <= static_cast<std::uint64_t>(limit)
                                                 : value.get<std::int64_t>() <= limit;
    require(fits && value.get<std::int64_t>() >= 1, file_, "field '{}': expected 1 to {}, found {}", name(field), limit,
            shorten(value));
    return value.get<std::int64_t>();
  }

  // A finite number in (0, limit].
  double positive(std::string_view field, double limit, double fallback) const {
    if (!has(field)) return fallback;
    const OrderedJson& value = at(field);
    require(value.is_number(), file_, "field '{}': expected a number, found {}", name(field), shorten(value));
    const double number = value.get<double>();
    require(number > 0 && number <= limit, file_, "field '{}': expected more than 0 and at most {}, found {}",
            name(field), limit, number);
    return number;
  }

  bool flag(std::string_view field, bool fallback) const {
    if (!has(field)) return fallback;
    require(at(field).is_boolean(), file_, "field '{}': expected true or false, found {}", name(field),
            shorten(at(field)));
    return at(field).get<bool>();
  }

  // Throws unless the field is absent or one of `allowed`.
  void expect(std::string_view field, std::initializer_list<std::string_view> allowed) const {
    if (!has(field)) return;
    for (const std::string_view value : allowed) {
      if (at(field).is_string() && at(field).get_ref<const std::string&>() == value) return;
    }
    fail(file_, "field '{}': expected \"{}\", found {}", name(field), *allowed.begin(), shorten(at(field)));
  }

  static std::string shorten(const OrderedJson& value) {
    return value.dump(-1, ' ', true, OrderedJson::error_handler_t::replace).substr(0, 80);
  }

 private:
  const OrderedJson& object_;
  std::string file_, path_;
};

constexpr std::int64_t kMaxWidth = 1 << 17, kMaxLayers = 1024, kMaxHeads = 4096, kMaxVocabulary = 1 << 22,
                       kMaxPositions = 1 << 24, kMaxFeedForward = 1 << 20, kMaxPatch = 256;

void read_rope(const Section& text, DecoderConfig& config) {
  config.rope_theta = text.positive("rope_theta", 1e12, 1e6);
  config.mrope_section = {16, 24, 24};
  const char* field = text.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (text.has(field)) {
    const Section rope = text.section(field);
    rope.expect("type", {"mrope", "default"});
    rope.expect("rope_type", {"default", "mrope"});
    config.rope_theta = rope.positive("rope_theta", 1e12, config.rope_theta);
    if (rope.has("mrope_section")) {
      const OrderedJson& sections = rope.at("mrope_section");
      require(sections.is_array() && sections.size() == 3, text.file(), "field '{}': expected three integers, found {}",
              rope.name("mrope_section"), Section::shorten(sections));
      for (std::size_t i = 0; i < 3; ++i) {
        require(sections[i].is_number_unsigned() && sections[i].get<std::uint64_t>() <= kMaxWidth, text.file(),
                "field '{}': expected integers of 0 or more, found {}", rope.name("mrope_section"),
                Section::shorten(sections));
        config.mrope_section[i] = sections[i].get<std::int64_t>();
      }
    }
  }
  const std::int64_t sum = config.mrope_section[0] + config.mrope_section[1] + config.mrope_section[2];
  require(sum == config.head_dim / 2, text.file(),
          "field '{}.mrope_section': expected a sum of {} (half of the head size), found {}", text.name(field),
          config.head_dim / 2, sum);
}

// "layer_types" says it layer by layer; else max_window_layers says how many layers at the beginning see all.
std::vector<bool> read_sliding_layers(const Section& text, std::int64_t layers) {
  std::vector<bool> sliding(static_cast<std::size_t>(layers));
  if (text.has("layer_types")) {
    const OrderedJson& types = text.at("layer_types");
    require(types.is_array() && types.size() == sliding.size(), text.file(), "field '{}': expected a list of {}, found {}",
            text.name("layer_types"), layers, Section::shorten(types));
    for (std::size_t i = 0; i < sliding.size(); ++i) {
      sliding[i] = types[i] == "sliding_attention";
      require(sliding[i] || types[i] == "full_attention", text.file(),
              "field '{}': expected \"full_attention\" or \"sliding_attention\", found {}", text.name("layer_types"),
              Section::shorten(types[i]));
    }
    return sliding;
  }
  constexpr std::int64_t kDefault = 80;  // of transformers
  const bool all = text.has("max_window_layers") && text.at("max_window_layers") == 0;
  const std::int64_t first = all ? 0 : text.count("max_window_layers", std::numeric_limits<std::int32_t>::max(), kDefault);
  for (std::int64_t i = first; i < layers; ++i) sliding[static_cast<std::size_t>(i)] = true;
  return sliding;
}

void read_sliding_window(const Section& text, DecoderConfig& config) {
  const bool used = text.flag("use_sliding_window", false) && text.has("sliding_window");
  if (!used && !text.has("layer_types")) return;
  std::vector<bool> sliding = read_sliding_layers(text, config.layers);
  if (std::find(sliding.begin(), sliding.end(), true) == sliding.end()) return;
  require(used, text.file(), "field '{}': expected use_sliding_window and sliding_window beside \"sliding_attention\"",
          text.name("layer_types"));
  config.sliding_window = text.count("sliding_window", std::numeric_limits<std::int32_t>::max());
  config.sliding_layers = std::move(sliding);
}

DecoderConfig read_decoder(const Section& text) {
  DecoderConfig config;
  config.hidden = text.count("hidden_size", kMaxWidth);
  config.intermediate = text.count("intermediate_size", kMaxFeedForward);
  config.layers = text.count("num_hidden_layers", kMaxLayers);
  config.heads = text.count("num_attention_heads", kMaxHeads);
  config.kv_heads = text.count("num_key_value_heads", kMaxHeads, config.heads);
  config.vocabulary = text.count("vocab_size", kMaxVocabulary);
  config.max_positions = text.count("max_position_embeddings", kMaxPositions, 32768);
  config.norm_eps = static_cast<float>(text.positive("rms_norm_eps", 1, 1e-5));
  text.expect("hidden_act", {"silu"});
  require(config.hidden % config.heads == 0, text.file(), "field '{}': expected a multiple of the {} heads, found {}",
          text.name("hidden_size"), config.heads, config.hidden);
  require(config.heads % config.kv_heads == 0, text.file(), "field '{}': expected a divisor of the {} heads, found {}",
          text.name("num_key_value_heads"), config.heads, config.kv_heads);
  config.head_dim = config.hidden / config.heads;
  require(config.head_dim % 2 == 0, text.file(), "field '{}': expected an even head size, found {} / {} = {}",
          text.name("num_attention_heads"), config.hidden, config.heads, config.head_dim);
  require(text.count("head_dim", kMaxWidth, config.head_dim) == config.head_dim, text.file(),
          "field '{}': expected hidden_size / num_attention_heads = {}, found {}", text.name("head_dim"),
          config.head_dim, text.count("head_dim", kMaxWidth, config.head_dim));
  read_rope(text, config);
  read_sliding_window(text, config);
  return config;
}

// A length that newer files may give as a list of equal numbers.
std::int64_t read_patch_length(const Section& vision, std::string_view field, std::string_view legacy,
                               std::int64_t fallback) {
  if (!vision.has(field) && vision.has(legacy)) field = legacy;
  if (vision.has(field) && vision.at(field).is_array()) {
    const OrderedJson& list = vision.at(field);
    bool equal = !list.empty() && list[0].is_number_unsigned() && list[0] > 0 && list[0] <= kMaxPatch;
    for (const OrderedJson& value : list) equal = equal && value == list[0];
    require(equal, vision.file(), "field '{}': expected a number from 1 to {}, found {}", vision.name(field), kMaxPatch,
            Section::shorten(list));
    return list[0].get<std::int64_t>();
  }
  return vision.count(field, kMaxPatch, fallback);
}

VisionConfig read_vision(const Section& vision, const DecoderConfig& decoder) {
  VisionConfig config;
  config.depth = vision.count("depth", kMaxLayers, 32);
  config.width = vision.count("embed_dim", kMaxWidth, 1280);
  config.heads = vision.count("num_heads", kMaxHeads, 16);
  config.channels = vision.count(vision.has("in_channels") ? "in_channels" : "in_chans", 16, 3);
  config.patch_size = read_patch_length(vision, "patch_size", "spatial_patch_size", 14);
  config.temporal_patch_size = read_patch_length(vision, "temporal_patch_size", "temporal_patch_size", 2);
  config.merge_size = vision.count("spatial_merge_size", 16, 2);
  config.output = vision.count("hidden_size", kMaxWidth, decoder.hidden);
  const double ratio = vision.positive("mlp_ratio", 64, 4);
  config.mlp_width = static_cast<std::int64_t>(static_cast<double>(config.width) * ratio);
  vision.expect("hidden_act", {"quick_gelu"});
  if (vision.has("rope_parameters")) {
    config.rope_theta = vision.section("rope_parameters").positive("rope_theta", 1e12, config.rope_theta);
  }
  require(config.width % config.heads == 0, vision.file(), "field '{}': expected a multiple of the {} heads, found {}",
          vision.name("embed_dim"), config.heads, config.width);
  config.head_dim = config.width / config.heads;
  require(config.head_dim % 4 == 0, vision.file(),
          "field '{}': expected a head size that 4 divides, found {} / {} = {}", vision.name("num_heads"), config.width,
          config.heads, config.head_dim);
  require(config.mlp_width >= 1, vision.file(), "field '{}': expected a feed-forward layer of 1 or more, found {}",
          vision.name("mlp_ratio"), config.mlp_width);
  require(config.output == decoder.hidden, vision.file(), "field '{}': expected the decoder's width {}, found {}",
          vision.name("hidden_size"), decoder.hidden, config.output);
  return config;
}

std::vector<std::int32_t> read_stop_tokens(const Section& root, const Section& text) {
  const Section& holder = root.has("eos_token_id") ? root : text;
  std::vector<std::int32_t> stops;
  if (!holder.has("eos_token_id")) return stops;
  const OrderedJson& value = holder.at("eos_token_id");
  const OrderedJson list = value.is_array() ? value : OrderedJson::array({value});
  for (const OrderedJson& id : list) {
    require(id.is_number_unsigned() && id.get<std::uint64_t>() < kMaxVocabulary, root.file(),
            "field '{}': expected token ids, found {}", holder.name("eos_token_id"), Section::shorten(value));
    stops.push_back(id.get<std::int32_t>());
  }
  return stops;
}

}  // namespace

ModelConfig read_qwen2_vl_config(const Checkpoint& checkpoint) {
  const Section root(checkpoint.config(), (checkpoint.folder() / "config.json").string(), "");
  const Section text = root.has("text_config") ? root.section("text_config") : root;
  ModelConfig config;
  config.model_type = "qwen2_vl";
  config.decoder = read_decoder(text);
  config.decoder.tied_head = root.flag("tie_word_embeddings", false) || text.flag("tie_word_embeddings", false);
  const OrderedJson none = OrderedJson::object();
  const Section vision =
      root.has("vision_config") ? root.section("vision_config") : Section(none, root.file(), "vision_config.");
  config.vision = read_vision(vision, config.decoder);
  const std::int64_t picture = root.count("image_token_id", kMaxVocabulary, 151655);
  require(picture < config.decoder.vocabulary, root.file(),
          "field 'image_token_id': expected less than vocab_size {}, found {}", config.decoder.vocabulary, picture);
  config.picture_token = static_cast<std::int32_t>(picture);
  config.stop_tokens = read_stop_tokens(root, text);
  return config;
}

}  // namespace halftone
