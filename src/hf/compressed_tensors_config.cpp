#include "hf/config_fields.h"
#include "hf/quantization_config.h"

namespace halftone {
namespace {

struct Args {
  std::int64_t num_bits = 8;
  std::string type = "int";
  std::string strategy = "tensor";
  std::int64_t group_size = 0;
};

// One set of arguments ("weights", "input_activations", "kv_cache_scheme"): symmetric and known beforehand.
Args parse_args(const OrderedJson& object, const std::string& source) {
  Args args;
  args.num_bits = integer_field(object, "num_bits", source).value_or(8);
  args.type = string_field(object, "type", source).value_or("int");
  args.group_size = integer_field(object, "group_size", source).value_or(0);
  const char* implied = args.group_size > 0 ? "group" : args.group_size == -1 ? "channel" : "tensor";
  args.strategy = string_field(object, "strategy", source).value_or(implied);
  require(bool_field(object, "symmetric", source).value_or(true), source,
          "field 'symmetric': expected true (zero points are not supported), found false");
  if (const OrderedJson* dynamic = find_field(object, "dynamic", source)) {
    require(dynamic->is_boolean() && !dynamic->get<bool>(), source,
            "field 'dynamic': expected false (scales known beforehand), found {}", shown(*dynamic));
  }
  const OrderedJson* order = find_field(object, "actorder", source);
  require(!order || *order == "static" || *order == "weight" || *order == false, source,
          "field 'actorder': expected null, static or weight, found {}", order ? shown(*order) : "");
  return args;
}

[[noreturn]] void unsupported(const std::string& what, const Args& args, const std::string& source) {
  fail(source, "{}: not supported: num_bits {}, type {}, strategy {}, group_size {}", what, args.num_bits, args.type,
       args.strategy, args.group_size);
}

QuantSpec weight_spec(const Args& args, const std::string& format, const std::string& source) {
  QuantSpec spec;
  const bool integers = args.type == "int";
  if (format == "pack-quantized" && integers && args.num_bits == 4) {
    spec.element = Element::kInt4;
  } else if ((format == "pack-quantized" || format == "int-quantized") && integers && args.num_bits == 8) {
    spec.element = Element::kInt8;
  } else if (format == "float-quantized" && args.type == "float" && args.num_bits == 8) {
    spec.element = Element::kE4M3;
  } else {
    unsupported("weights in format '" + format + "'", args, source);
  }
  if (args.strategy == "tensor") {
    spec.granularity = Granularity::kTensor;
  } else if (args.strategy == "channel") {
    spec.granularity = Granularity::kChannel;
  } else if (args.strategy == "group" && args.group_size > 0 && args.group_size <= 1 << 20) {
    spec.granularity = Granularity::kGroup;
    spec.group = args.group_size;
  } else {
    unsupported("weights", args, source);
  }
  return spec;
}

InputQuant::Kind input_kind(const Args& args, const std::string& source) {
  if (args.num_bits != 8 || args.strategy != "tensor") unsupported("input_activations", args, source);
  if (args.type == "int") return InputQuant::Kind::kStaticInt8;
  if (args.type == "float") return InputQuant::Kind::kStaticE4M3;
  unsupported("input_activations", args, source);
}

KvScheme kv_scheme(const OrderedJson& object, const std::string& source) {
  const Args args = parse_args(object, source);
  if (args.num_bits != 8 || args.type != "float") unsupported("kv_cache_scheme", args, source);
  if (args.strategy == "tensor") return KvScheme::kPerTensor;
  if (args.strategy == "attn_head") return KvScheme::kPerHead;
  unsupported("kv_cache_scheme", args, source);
}

std::vector<ModulePattern> patterns(const OrderedJson& object, std::string_view field, const std::string& source) {
  std::vector<ModulePattern> list;
  for (const std::string& text : strings_field(object, field, source)) {
    list.push_back(ModulePattern::compressed_tensors(text, source + "." + std::string(field)));
  }
  return list;
}

LinearScheme parse_scheme(const OrderedJson& group, const std::string& format, const std::string& source) {
  const OrderedJson* weights = find_field(group, "weights", source);
  require(weights != nullptr, source, "field 'weights': expected arguments, found none");
  const OrderedJson* outputs = find_field(group, "output_activations", source);
  require(outputs == nullptr, source, "field 'output_activations': expected null, found arguments");
  LinearScheme scheme;
  scheme.storage = format == "pack-quantized" ? Storage::kPacked : Storage::kPlain;
  scheme.weights = weight_spec(parse_args(*weights, source + ".weights"), format, source + ".weights");
  if (const OrderedJson* inputs = find_field(group, "input_activations", source)) {
    const std::string where = source + ".input_activations";
    scheme.input = input_kind(parse_args(*inputs, where), where);
  }
  return scheme;
}

}  // namespace

QuantizationConfig parse_compressed_tensors(const OrderedJson& object, const std::string& source) {
  QuantizationConfig config;
  config.layout_ = Layout::kCompressedTensors;
  const std::string format = string_field(object, "format", source).value_or("dense");
  const std::string status = string_field(object, "quantization_status", source).value_or("compressed");
  const OrderedJson* given = find_field(object, "config_groups", source);
  const OrderedJson groups = given ? *given : OrderedJson::object();
  require(groups.is_object(), source, "field 'config_groups': expected an object, found {}", shown(groups));
  require(groups.empty() || status == "compressed", source,
          "field 'quantization_status': expected compressed, found '{}'", status.substr(0, 80));
  for (const auto& [name, group] : groups.items()) {
    const std::string where = source + ".config_groups." + name;
    const std::string group_format = string_field(group, "format", where).value_or(format);
    config.groups_.push_back({patterns(group, "targets", where), parse_scheme(group, group_format, where)});
  }
  config.ignored_ = patterns(object, "ignore", source);
  if (const OrderedJson* kv = find_field(object, "kv_cache_scheme", source)) {
    config.kv_ = kv_scheme(*kv, source + ".kv_cache_scheme");
  }
  return config;
}

}  // namespace halftone
