#include "quant/recipe.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/fields.h"
#include "base/file.h"
#include "base/glob.h"
#include "base/usage_error.h"
#include "hf/kv_cache_key.h"
#include "quant/shipped_recipes.h"
#include "quant/vision_format.h"

namespace halftone {
namespace {

constexpr std::string_view kAlgorithms[] = {"round-to-nearest", "smoothquant", "awq", "svdquant"};
constexpr std::string_view kVisionMark = "+vision:", kKvMark = "+kv:";

bool in_decoder(const ModuleInfo& module) {
  return module.linear && (module.rule_class == RuleClass::kAttention || module.rule_class == RuleClass::kMlp);
}

Algorithm algorithm_from_name(const Fields& fields, std::string_view key) {
  const auto name = fields.get<std::string>(key);
  const auto it = std::find(std::begin(kAlgorithms), std::end(kAlgorithms), name);
  if (it == std::end(kAlgorithms)) {
    fields.refuse(key, fmt::format("one of {}", fmt::join(kAlgorithms, ", ")), fields.at(key));
  }
  return static_cast<Algorithm>(it - std::begin(kAlgorithms));
}

void read_observer(const Fields& fields, Observer& observer) {
  if (fields.has("observer")) observer.kind = observer_from_name(fields.text("observer"), fields.source());
  require(!fields.has("percentile") || observer.kind == Observer::Kind::kPercentile, fields.source(),
          "field '{}': only the observer percentile has one", fields.place("percentile"));
  observer.percentile = fields.positive_or("percentile", observer.percentile, 100);
}

void check_observer(const Recipe& recipe, std::string_view source) {
  for (const Rule& rule : recipe.rules) {
    require(observes(recipe.observer.kind, rule.format.inputs) || rule.format.inputs == InputQuant::Kind::kNone, source,
            "field 'algorithm.observer': {} cannot find scales of {} inputs", to_string(recipe.observer.kind),
            input_format_name(rule.format.inputs));
  }
}

void read_algorithm(const Fields& root, Recipe& recipe) {
  if (!root.has("algorithm")) return;
  if (root.at("algorithm").is_string()) {
    recipe.algorithm = algorithm_from_name(root, "algorithm");
    return;
  }
  const Fields fields = root.object("algorithm");
  fields.allow_only({"name", "alpha", "mode", "rank", "observer", "percentile"});
  if (fields.has("name")) recipe.algorithm = algorithm_from_name(fields, "name");
  if (fields.has("mode")) {
    const std::string mode = fields.text("mode");
    require(recipe.algorithm == Algorithm::kAwq && (mode == "grouped" || mode == "modelopt"), root.source(),
            "field 'algorithm.mode': expected grouped or modelopt, of awq, found '{}'", mode);
    recipe.modelopt_awq = mode == "modelopt";
  }
  if (fields.has("rank")) {
    require(recipe.algorithm == Algorithm::kSvdQuant, root.source(), "field 'algorithm.rank': only svdquant has one");
    recipe.rank = fields.count("rank", 1, 4096);
  }
  read_observer(fields, recipe.observer);
  require(!fields.has("alpha") || recipe.algorithm == Algorithm::kSmoothQuant, root.source(),
          "field 'algorithm.alpha': only smoothquant has one");
  recipe.alpha = static_cast<float>(fields.number_or("alpha", recipe.alpha, 0, 1));
}

bool quantizes_anything(const Recipe& recipe) {
  return recipe.vision_format != "bf16" || std::any_of(recipe.rules.begin(), recipe.rules.end(),
                                                       [](const Rule& rule) { return rule.format.quantized(); });
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
  fields.allow_only({"match", "weights", "inputs"});
  Rule rule;
  rule.glob = fields.text("match");
  rule.format.weights = weight_format_from_name(fields.text("weights"), fields.source(), fields.place("weights"));
  rule.format.inputs =
      input_format_from_name(fields.text_or("inputs", "none"), fields.source(), fields.place("inputs"));
  require(rule.format.quantized() || rule.format.inputs == InputQuant::Kind::kNone, fields.source(),
          "field '{}': quantized inputs need quantized weights", fields.place("inputs"));
  return rule;
}

}  // namespace

std::string_view to_string(Algorithm algorithm) { return kAlgorithms[static_cast<std::size_t>(algorithm)]; }

bool Recipe::needs_calibration() const {
  return algorithm != Algorithm::kRoundToNearest ||
         std::any_of(rules.begin(), rules.end(), [](const Rule& rule) { return has_static_scale(rule.format.inputs); });
}

const std::vector<std::string>& shipped_recipes() {
  static const std::vector<std::string> names{"bf16", "int8_wo", "int4_wo",    "int8", "int8_sq", "fp8", "int4_awq",
                                              "awq",  "nvfp4",   "nvfp4_w4a8", "q8_0", "q4_0",    "q4_k"};
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
  check_observer(recipe, source);
  const bool quantizes = quantizes_anything(recipe);
  require(quantizes || recipe.layout == Layout::kAsIs, source,
          "field 'rules': none quantizes anything: expected layout as-is");
  require(!quantizes || recipe.layout != Layout::kAsIs, source, "field 'layout': as-is cannot hold quantized weights");
  require(!recipe.prescales() || recipe.layout == Layout::kModelOpt, source,
          "field 'algorithm': {} keeps scales of inputs, which only the layout modelopt holds",
          to_string(recipe.algorithm));
  require(quantizes || recipe.algorithm == Algorithm::kRoundToNearest, source,
          "field 'algorithm': no rule quantizes anything");
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
      if (!glob_match(rule.glob, modules[i].module) && !glob_match(rule.glob, modules[i].stored)) continue;
      const bool can = modules[i].linear && !modules[i].tied;
      (in_decoder(modules[i]) ? decoder : can ? outside : not_linear).push_back(i);
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

}  // namespace halftone
