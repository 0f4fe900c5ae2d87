#include "quant/recipe.h"

#include <algorithm>
#include <set>

#include "base/file.h"
#include "base/glob.h"
#include "base/json.h"
#include "hf/kv_cache_key.h"
#include "quant/shipped_recipes.h"

namespace halftone {
namespace {

constexpr std::string_view kAlgorithms[] = {"round-to-nearest", "smoothquant", "awq"};
constexpr std::string_view kKvMark = "+kv:";

bool in_decoder(const ModuleInfo& module) {
  return module.linear && (module.rule_class == RuleClass::kAttention || module.rule_class == RuleClass::kMlp);
}

void check_keys(const Json& object, const std::set<std::string>& known, std::string_view where,
                std::string_view source) {
  require(object.is_object(), source, "{}: expected keys and values, found {}", where, object.type_name());
  for (const auto& [key, value] : object.items()) {
    require(known.contains(key), source, "{}: unknown key '{}', expected {}", where, key, fmt::join(known, ", "));
  }
}

Algorithm algorithm_from_name(std::string_view name, std::string_view source) {
  const auto it = std::find(std::begin(kAlgorithms), std::end(kAlgorithms), name);
  require(it != std::end(kAlgorithms), source, "field 'algorithm': expected {}, found '{}'",
          fmt::join(kAlgorithms, ", "), name);
  return static_cast<Algorithm>(it - std::begin(kAlgorithms));
}

void read_algorithm(const Json& value, std::string_view source, Recipe& recipe) {
  if (value.is_string()) {
    recipe.algorithm = algorithm_from_name(value.get<std::string>(), source);
    return;
  }
  check_keys(value, {"name", "alpha"}, "field 'algorithm'", source);
  recipe.algorithm = algorithm_from_name(get_field<std::string>(value, "name", source), source);
  if (!value.contains("alpha")) return;
  require(recipe.algorithm == Algorithm::kSmoothQuant, source, "field 'algorithm.alpha': only smoothquant has one");
  recipe.alpha = get_field<float>(value, "alpha", source);
  require(recipe.alpha >= 0 && recipe.alpha <= 1, source, "field 'algorithm.alpha': expected 0 to 1, found {}",
          recipe.alpha);
}

Rule read_rule(const Json& value, std::size_t index, std::string_view source) {
  const std::string where = fmt::format("field 'rules[{}]'", index);
  check_keys(value, {"match", "weights", "inputs"}, where, source);
  Rule rule;
  rule.glob = get_field<std::string>(value, "match", source);
  rule.format.weights = weight_format_from_name(get_field<std::string>(value, "weights", source), source);
  rule.format.inputs = input_format_from_name(get_field_or<std::string>(value, "inputs", "none", source), source);
  require(rule.format.quantized() || rule.format.inputs == InputQuant::Kind::kNone, source,
          "{}: quantized inputs need quantized weights", where);
  return rule;
}

}  // namespace

std::string_view to_string(Algorithm algorithm) { return kAlgorithms[static_cast<std::size_t>(algorithm)]; }

bool Recipe::needs_calibration() const {
  return algorithm != Algorithm::kRoundToNearest || std::any_of(rules.begin(), rules.end(), [](const Rule& rule) {
           return rule.format.inputs != InputQuant::Kind::kNone;
         });
}

void check_kv_format(std::string_view name, std::string_view source) {
  require(is_kv_format(name), source, "expected a KV format ({}), found '{}'", fmt::join(kKvFormats, ", "), name);
}

const std::vector<std::string>& shipped_recipes() {
  static const std::vector<std::string> names{"bf16", "int8_wo",  "int4_wo", "int8",      "int8_sq",
                                              "fp8",  "int4_awq", "nvfp4",   "nvfp4_w4a8"};
  return names;
}

Recipe parse_recipe(std::string_view text, std::string_view name, std::string_view source) {
  const Json yaml = parse_yaml(text, source);
  check_keys(yaml, {"layout", "algorithm", "kv", "rules"}, "recipe", source);
  Recipe recipe;
  recipe.name = name;
  recipe.text = text;
  recipe.layout = layout_from_name(get_field<std::string>(yaml, "layout", source), source);
  if (yaml.contains("algorithm")) read_algorithm(yaml["algorithm"], source, recipe);
  recipe.kv_format = get_field_or<std::string>(yaml, "kv", "bf16", source);
  check_kv_format(recipe.kv_format, source);
  require(yaml.contains("rules") && yaml["rules"].is_array(), source, "field 'rules': expected a list");
  for (const Json& rule : yaml["rules"]) recipe.rules.push_back(read_rule(rule, recipe.rules.size(), source));
  const bool quantizes =
      std::any_of(recipe.rules.begin(), recipe.rules.end(), [](const Rule& rule) { return rule.format.quantized(); });
  require(quantizes || recipe.layout == Layout::kAsIs, source, "no rule quantizes anything: expected layout as-is");
  require(!quantizes || recipe.layout != Layout::kAsIs, source, "field 'layout': as-is cannot hold quantized weights");
  require(quantizes || recipe.algorithm == Algorithm::kRoundToNearest, source,
          "field 'algorithm': no rule quantizes anything");
  return recipe;
}

Recipe load_recipe(std::string_view configuration) {
  const std::size_t mark = configuration.find(kKvMark);
  const std::string name(configuration.substr(0, mark));
  Recipe recipe;
  if (const auto text = find_shipped_recipe(name)) {
    recipe = parse_recipe(*text, name, fmt::format("recipe {}", name));
  } else {
    const std::filesystem::path path(name);
    require(std::filesystem::is_regular_file(path), "recipe", "expected a shipped recipe ({}) or a file, found '{}'",
            fmt::join(shipped_recipes(), ", "), name);
    recipe = parse_recipe(read_file(path, 1 << 20), path.stem().string(), path.string());
  }
  if (mark != std::string_view::npos) {
    recipe.kv_format = configuration.substr(mark + kKvMark.size());
    check_kv_format(recipe.kv_format, configuration);
  }
  return recipe;
}

std::string configuration_name(const Recipe& recipe) {
  return recipe.kv_format == "bf16" ? recipe.name : fmt::format("{}{}{}", recipe.name, kKvMark, recipe.kv_format);
}

std::vector<LinearFormat> resolve_rules(const Recipe& recipe, std::span<const ModuleInfo> modules) {
  std::vector<LinearFormat> formats(modules.size());
  for (const Rule& rule : recipe.rules) {
    std::vector<std::size_t> decoder, outside, not_linear;
    for (std::size_t i = 0; i < modules.size(); ++i) {
      if (!glob_match(rule.glob, modules[i].module) && !glob_match(rule.glob, modules[i].stored)) continue;
      const bool can = modules[i].linear && !modules[i].tied;
      (in_decoder(modules[i]) ? decoder : can ? outside : not_linear).push_back(i);
    }
    const auto& reached = decoder.empty() ? outside : decoder;
    require(!reached.empty() || not_linear.empty(), recipe.name,
            "rule '{}' matches only modules that cannot be quantized, such as {}", rule.glob,
            not_linear.empty() ? "" : modules[not_linear.front()].module);
    require(!reached.empty(), recipe.name, "rule '{}' matches no module", rule.glob);
    for (const std::size_t i : reached) formats[i] = rule.format;
  }
  return formats;
}

}  // namespace halftone
