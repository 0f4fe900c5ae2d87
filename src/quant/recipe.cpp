#include "quant/recipe.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/fields.h"
#include "base/file.h"
#include "base/glob.h"
#include "base/usage_error.h"
#include "hf/kv_cache_key.h"
#include "model/registry.h"
#include "quant/recipe_algorithm.h"
#include "quant/shipped_recipes.h"
#include "quant/vision_format.h"

namespace halftone {
namespace {

constexpr std::string_view kVisionMark = "+vision:", kKvMark = "+kv:";

bool in_decoder(const ModuleInfo& module) {
  return module.linear && (module.rule_class == RuleClass::kAttention || module.rule_class == RuleClass::kMlp);
}

// A tied head is stored as the embedding, which its name does not mean.
bool names(const Rule& rule, const ModuleInfo& module) {
  return glob_match(rule.glob, module.module) || (!module.tied && glob_match(rule.glob, module.stored));
}

// The text behind `mark`, which must be the end of the configuration; it is cut off. Nothing when there is no mark.
std::optional<std::string> take_format(std::string& configuration, std::string_view mark) {
  const std::size_t at = configuration.rfind(mark);
  if (at == std::string::npos) return std::nullopt;
  std::string format = configuration.substr(at + mark.size());
  configuration.resize(at);
  return format;
}

Rule read_rule(const Fields& fields) {
  fields.allow_only({"match", "weights", "inputs", "four_over_six"});
  Rule rule;
  rule.glob = fields.text("match");
  rule.format.weights = weight_format_from_name(fields.text("weights"), fields.source(), fields.place("weights"));
  rule.format.inputs =
      input_format_from_name(fields.text_or("inputs", "none"), fields.source(), fields.place("inputs"));
  require(rule.format.quantized() || rule.format.inputs == InputQuant::Kind::kNone, fields.source(),
          "field '{}': quantized inputs need quantized weights", fields.place("inputs"));
  if (fields.has("four_over_six")) rule.format.four_over_six = fields.get<bool>("four_over_six");
  require(!rule.format.four_over_six || weight_format_name(rule.format.weights) == "nvfp4_block16", fields.source(),
          "field '{}': only nvfp4_block16 weights have it", fields.place("four_over_six"));
  return rule;
}

}  // namespace

bool Recipe::needs_calibration() const {
  return algorithm != Algorithm::kRoundToNearest ||
         std::any_of(rules.begin(), rules.end(), [](const Rule& rule) { return has_static_scale(rule.format.inputs); });
}

const std::vector<std::string>& shipped_recipes() {
  static const std::vector<std::string> names{"bf16", "int8_wo", "int4_wo",    "int8", "int8_sq", "fp8",  "int4_awq",
                                              "awq",  "nvfp4",   "nvfp4_w4a8", "nf4",  "q8_0",    "q4_0", "q4_k"};
  return names;
}

bool is_shipped(const Recipe& recipe) { return find_shipped_recipe(recipe.name) == recipe.text; }

Recipe parse_recipe(std::string_view text, std::string_view name, std::string_view source) {
  const Json yaml = parse_yaml(text, source);
  const Fields fields(yaml, std::string(source));
  fields.allow_only({"layout", "algorithm", "kv", "vision", "rules"});
  Recipe recipe;
  recipe.name = name;
  recipe.text = text;
  recipe.source = source;
  recipe.layout = layout_from_name(fields.text("layout"), source);
  read_algorithm(fields, recipe);
  recipe.kv_format = fields.text_or("kv", "bf16");
  require(is_kv_format(recipe.kv_format), source, "field 'kv': expected one of {}, found '{}'",
          fmt::join(kKvFormats, ", "), recipe.kv_format);
  recipe.vision_format = fields.text_or("vision", "bf16");
  require(is_vision_format(recipe.vision_format), source, "field 'vision': expected one of {}, found '{}'",
          fmt::join(kVisionFormats, ", "), recipe.vision_format);
  for (const Fields& rule : fields.objects("rules")) recipe.rules.push_back(read_rule(rule));
  const bool quantizes = quantizes_anything(recipe);
  require(quantizes || recipe.layout == Layout::kAsIs, source,
          "field 'rules': none quantizes anything: expected layout as-is");
  require(!quantizes || recipe.layout != Layout::kAsIs, source, "field 'layout': as-is cannot hold quantized weights");
  require(quantizes || recipe.algorithm == Algorithm::kRoundToNearest, source,
          "field 'algorithm': no rule quantizes anything");
  check_algorithm(recipe);
  return recipe;
}

void set_vision_format(Recipe& recipe, std::string_view format) {
  require_usage(is_vision_format(format), "recipe", "vision tower: expected one of {}, found '{}'",
                fmt::join(kVisionFormats, ", "), format);
  recipe.vision_format = format;
  if (recipe.layout == Layout::kAsIs && quantizes_anything(recipe)) recipe.layout = Layout::kCompressedTensors;
}

void set_kv_format(Recipe& recipe, std::string_view format) {
  require_usage(is_kv_format(format), "recipe", "KV cache: expected one of {}, found '{}'", fmt::join(kKvFormats, ", "),
                format);
  recipe.kv_format = format;
}

Recipe load_recipe(std::string_view configuration, const std::filesystem::path& folder) {
  std::string name(configuration);
  const std::optional<std::string> kv = take_format(name, kKvMark), vision = take_format(name, kVisionMark);
  Recipe recipe;
  if (const auto text = find_shipped_recipe(name)) {
    recipe = parse_recipe(*text, name, fmt::format("recipe {}", name));
  } else {
    const std::filesystem::path path = folder / name;
    require_usage(std::filesystem::is_regular_file(path), "recipe",
                  "expected a shipped recipe ({}) or a file, found '{}'", fmt::join(shipped_recipes(), ", "),
                  path.string());
    recipe = parse_recipe(read_file(path, 1 << 20), path.stem().string(), path.string());
  }
  if (vision) set_vision_format(recipe, *vision);
  if (kv) set_kv_format(recipe, *kv);
  return recipe;
}

std::string_view recipe_part(std::string_view configuration) {
  return configuration.substr(0, std::min(configuration.find(kVisionMark), configuration.find(kKvMark)));
}

bool quantizes_anything(const Recipe& recipe) {
  return recipe.vision_format != "bf16" || std::any_of(recipe.rules.begin(), recipe.rules.end(),
                                                       [](const Rule& rule) { return rule.format.quantized(); });
}

std::string configuration_name(const Recipe& recipe) {
  std::string name = recipe.name;
  if (recipe.vision_format != "bf16") name += fmt::format("{}{}", kVisionMark, recipe.vision_format);
  if (recipe.kv_format != "bf16") name += fmt::format("{}{}", kKvMark, recipe.kv_format);
  return name;
}

std::vector<LinearFormat> resolve_rules(const Recipe& recipe, std::span<const ModuleInfo> modules) {
  std::vector<LinearFormat> formats(modules.size());
  for (std::size_t i = 0; i < modules.size(); ++i) {
    if (modules[i].linear && modules[i].rule_class == RuleClass::kVision)
      formats[i] = vision_linear_format(recipe.vision_format);
  }
  for (std::size_t number = 0; number < recipe.rules.size(); ++number) {
    const Rule& rule = recipe.rules[number];
    std::vector<std::size_t> decoder, outside, not_linear;
    for (std::size_t i = 0; i < modules.size(); ++i) {
      if (!names(rule, modules[i])) continue;
      (in_decoder(modules[i]) ? decoder : modules[i].linear ? outside : not_linear).push_back(i);
    }
    const auto& reached = decoder.empty() ? outside : decoder;
    require(!reached.empty() || not_linear.empty(), recipe.source,
            "field 'rules[{}].match': '{}' matches only modules that cannot be quantized, such as {}", number,
            rule.glob, not_linear.empty() ? "" : modules[not_linear.front()].module);
    require(!reached.empty(), recipe.source, "field 'rules[{}].match': '{}' matches no module", number, rule.glob);
    for (const std::size_t i : reached) formats[i] = rule.format;
  }
  return formats;
}

Checkpoint untie_for(const Recipe& recipe, const Checkpoint& checkpoint) {
  const auto [config, modules] = read_structure(checkpoint);
  if (!config.decoder.tied_head) return checkpoint;
  const std::vector<LinearFormat> formats = resolve_rules(recipe, modules);
  for (std::size_t i = 0; i < modules.size(); ++i) {
    if (modules[i].rule_class == RuleClass::kHead && formats[i].quantized()) return untie_head(checkpoint, modules);
  }
  return checkpoint;
}

}  // namespace halftone
