#include "hf/config_fields.h"
#include "hf/modelopt_algorithms.h"
#include "hf/quantization_config.h"

namespace halftone {
namespace {

LinearScheme scheme_from_name(const std::string& name, const std::string& source) {
  const ModelOptAlgorithm* row = find_modelopt_algorithm(name);
  require(row != nullptr, source, "field 'quant_algo': expected one of {}, found '{}'", modelopt_algorithm_names(),
          name.substr(0, 80));
  return row->scheme;
}

// Groups of INT4 may have other sizes than the usual one.
void take_group_size(const OrderedJson& object, const std::string& source, LinearScheme& scheme) {
  const auto group = integer_field(object, "group_size", source);
  if (scheme.storage != Storage::kRowPairs || !group) return;
  require(*group >= 16 && *group % 16 == 0 && *group <= 1 << 20, source,
          "field 'group_size': expected a multiple of 16, found {}", *group);
  scheme.weights.group = *group;
}

// The group size that the file states, in one of three places, must be the one of the algorithm.
void check_group_size(const OrderedJson& object, const LinearScheme& scheme, const std::string& algorithm,
                      const std::string& source) {
  const std::int64_t expected = scheme.weights.group;
  const auto check = [&](std::optional<std::int64_t> found, const std::string& where) {
    require(!found || *found == expected || (expected == 0 && *found <= 0), where,
            "field 'group_size': expected {} for quant_algo {}, found {}", expected, algorithm, found.value_or(0));
  };
  check(integer_field(object, "group_size", source), source);
  const OrderedJson* groups = find_field(object, "config_groups", source);
  if (!groups) return;
  require(groups->is_object(), source, "field 'config_groups': expected an object, found {}", shown(*groups));
  for (const auto& [name, group] : groups->items()) {
    const std::string where = source + ".config_groups." + name;
    const OrderedJson* weights = find_field(group, "weights", where);
    if (weights) check(integer_field(*weights, "group_size", where + ".weights"), where + ".weights");
  }
}

KvScheme kv_scheme(const OrderedJson& object, const std::string& source) {
  if (const auto algo = string_field(object, "kv_cache_quant_algo", source)) {
    require(*algo == "FP8", source, "field 'kv_cache_quant_algo': expected FP8 or null, found '{}'",
            algo->substr(0, 80));
    return KvScheme::kModelOpt;
  }
  const OrderedJson* scheme = find_field(object, "kv_cache_scheme", source);
  if (!scheme) return KvScheme::kNone;
  const std::string where = source + ".kv_cache_scheme";
  const auto bits = integer_field(*scheme, "num_bits", where);
  const auto type = string_field(*scheme, "type", where);
  require(bits == 8, where, "field 'num_bits': expected 8, found {}", bits.value_or(0));
  require(type == "float", where, "field 'type': expected float, found '{}'", type.value_or("").substr(0, 80));
  require(!bool_field(*scheme, "dynamic", where).value_or(false), where, "field 'dynamic': expected false, found true");
  return KvScheme::kModelOpt;
}

}  // namespace

QuantizationConfig parse_modelopt(const OrderedJson& object, const std::string& source) {
  QuantizationConfig config;
  config.layout_ = Layout::kModelOpt;
  config.kv_ = kv_scheme(object, source);
  for (const char* field : {"ignore", "exclude_modules"}) {
    for (const std::string& text : strings_field(object, field, source)) {
      config.ignored_.push_back(ModulePattern::modelopt(text));
    }
  }
  const auto algo = string_field(object, "quant_algo", source);
  if (!algo) return config;  // the cache alone is quantized
  if (*algo != "MIXED_PRECISION") {
    LinearScheme scheme = scheme_from_name(*algo, source);
    take_group_size(object, source, scheme);
    check_group_size(object, scheme, *algo, source);
    config.groups_.push_back({{ModulePattern::modelopt("Linear")}, scheme});
    return config;
  }
  const OrderedJson* layers = find_field(object, "quantized_layers", source);
  require(layers && layers->is_object(), source, "field 'quantized_layers': expected an object, found {}",
          layers ? shown(*layers) : "none");
  for (const auto& [module, layer] : layers->items()) {
    const std::string where = source + ".quantized_layers." + module;
    const auto name = string_field(layer, "quant_algo", where);
    require(name.has_value(), where, "field 'quant_algo': missing");
    LinearScheme scheme = scheme_from_name(*name, where);
    take_group_size(layer, where, scheme);
    check_group_size(layer, scheme, *name, where);
    config.groups_.push_back({{ModulePattern::modelopt(module)}, scheme});
  }
  return config;
}

}  // namespace halftone
