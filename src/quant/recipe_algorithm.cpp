#include "quant/recipe_algorithm.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "quant/clip.h"

namespace halftone {
namespace {

// In the order of the enumerations.
constexpr std::string_view kAlgorithms[] = {"round-to-nearest", "smoothquant", "awq", "svdquant"};
constexpr std::string_view kAwqMethods[] = {"lite", "clip", "full"};

// The position of the field's value among the names.
template <std::size_t N>
std::size_t find_name(const Fields& fields, std::string_view key, const std::string_view (&names)[N]) {
  const auto name = fields.get<std::string>(key);
  const auto it = std::find(std::begin(names), std::end(names), name);
  if (it == std::end(names)) fields.refuse(key, fmt::format("one of {}", fmt::join(names, ", ")), fields.at(key));
  return static_cast<std::size_t>(it - std::begin(names));
}

// SmoothQuant's scales are ModelOpt's or go into what writes the input; AWQ's have one search of each kind.
void read_mode(const Fields& fields, Recipe& recipe) {
  if (!fields.has("mode")) return;
  require(recipe.algorithm == Algorithm::kAwq || recipe.algorithm == Algorithm::kSmoothQuant, fields.source(),
          "field '{}': only awq and smoothquant have one", fields.place("mode"));
  constexpr std::string_view kModes[] = {"grouped", "modelopt"};
  recipe.modelopt_mode = find_name(fields, "mode", kModes) == 1;
  if (recipe.modelopt_mode && recipe.algorithm == Algorithm::kSmoothQuant) recipe.alpha = 1.0f;  // ModelOpt's own
}

// A key that one algorithm alone has.
bool has_own(const Fields& fields, std::string_view key, const Recipe& recipe, Algorithm owner) {
  if (!fields.has(key)) return false;
  require(recipe.algorithm == owner, fields.source(), "field '{}': only {} has one", fields.place(key),
          to_string(owner));
  return true;
}

void read_awq(const Fields& fields, Recipe& recipe) {
  if (has_own(fields, "method", recipe, Algorithm::kAwq)) {
    recipe.awq_method = static_cast<AwqMethod>(find_name(fields, "method", kAwqMethods));
  }
}

void read_alpha(const Fields& fields, Recipe& recipe) {
  if (!has_own(fields, "alpha", recipe, Algorithm::kSmoothQuant)) return;
  if (fields.at("alpha").is_string()) {
    constexpr std::string_view kSearch[] = {"search"};
    find_name(fields, "alpha", kSearch);
    recipe.alpha.reset();
  } else {
    recipe.alpha = static_cast<float>(fields.number_or("alpha", 0, 0, 1));
  }
}

void read_observer(const Fields& fields, Observer& observer) {
  if (fields.has("observer")) observer.kind = observer_from_name(fields.text("observer"), fields.source());
  require(!fields.has("percentile") || observer.kind == Observer::Kind::kPercentile, fields.source(),
          "field '{}': only the observer percentile has one", fields.place("percentile"));
  observer.percentile = fields.positive_or("percentile", observer.percentile, 100);
}

// ModelOpt quantizes a W4A8 layer's weights twice, and measures them again after clipping: nothing is left of it.
bool clips_in_modelopt(const LinearFormat& format) {
  if (format.weights.granularity != Granularity::kGroup || format.weights.mx || format.weights.asymmetric) return false;
  if (format.weights.element == Element::kE2M1) return format.weights.group == 16 && !format.four_over_six;
  return format.weights.element == Element::kInt4 && format.inputs == InputQuant::Kind::kNone;
}

void check_clipping(const Recipe& recipe, std::string_view source) {
  if (!recipe.clips()) return;
  require(recipe.layout != Layout::kGguf, source, "field 'algorithm.method': layout gguf has its own search of ranges");
  for (const Rule& rule : recipe.rules) {
    if (!rule.format.quantized()) continue;
    const bool can = recipe.modelopt_mode ? clips_in_modelopt(rule.format) : can_clip(rule.format.weights);
    require(can, source, "field 'algorithm.method': {} weights with {} inputs cannot be clipped{}",
            weight_format_name(rule.format.weights), input_format_name(rule.format.inputs),
            recipe.modelopt_mode ? " as ModelOpt does" : "");
  }
}

}  // namespace

std::string_view to_string(Algorithm algorithm) { return kAlgorithms[static_cast<std::size_t>(algorithm)]; }

void read_algorithm(const Fields& root, Recipe& recipe) {
  if (!root.has("algorithm")) return;
  if (root.at("algorithm").is_string()) {
    recipe.algorithm = static_cast<Algorithm>(find_name(root, "algorithm", kAlgorithms));
    return;
  }
  const Fields fields = root.object("algorithm");
  fields.allow_only({"name", "alpha", "mode", "method", "rank", "observer", "percentile"});
  if (fields.has("name")) recipe.algorithm = static_cast<Algorithm>(find_name(fields, "name", kAlgorithms));
  read_mode(fields, recipe);
  read_awq(fields, recipe);
  read_alpha(fields, recipe);
  if (has_own(fields, "rank", recipe, Algorithm::kSvdQuant)) recipe.rank = fields.count("rank", 1, 4096);
  read_observer(fields, recipe.observer);
}

void check_algorithm(const Recipe& recipe) {
  const std::string& source = recipe.source;
  for (const Rule& rule : recipe.rules) {
    require(observes(recipe.observer.kind, rule.format.inputs) || rule.format.inputs == InputQuant::Kind::kNone, source,
            "field 'algorithm.observer': {} cannot find scales of {} inputs", to_string(recipe.observer.kind),
            input_format_name(rule.format.inputs));
  }
  require(!(recipe.prescales() || recipe.modelopt_mode) || recipe.layout == Layout::kModelOpt, source,
          "field 'algorithm': {} as ModelOpt does it needs the layout modelopt", to_string(recipe.algorithm));
  require(recipe.alpha || !recipe.modelopt_mode, source,
          "field 'algorithm.alpha': ModelOpt searches none, expected a number");
  check_clipping(recipe, source);
}

}  // namespace halftone
