#include <algorithm>

#include "hf/config_fields.h"
#include "hf/quantization_config.h"

namespace halftone {
namespace {

struct Args {
  std::int64_t num_bits = 8;
  std::string type = "int";
  std::string strategy = "tensor";
  std::int64_t group_size = 0;
  bool symmetric = true;
  std::string dynamic = "false";  // or "true", "local"
  std::string block_structure = "null";
};

std::string dynamic_of(const OrderedJson& object, const std::string& source) {
  const OrderedJson* dynamic = find_field(object, "dynamic", source);
  if (dynamic == nullptr) return "false";
  const bool known = dynamic->is_boolean() || *dynamic == "local";
  require(known, source, "field 'dynamic': expected true, false or local, found {}", shown(*dynamic));
  return dynamic->is_boolean() ? (dynamic->get<bool>() ? "true" : "false") : "local";
}

// One set of arguments ("weights", "input_activations", "kv_cache_scheme").
Args parse_args(const OrderedJson& object, const std::string& source) {
  Args args;
  args.num_bits = integer_field(object, "num_bits", source).value_or(8);
  args.type = string_field(object, "type", source).value_or("int");
  args.group_size = integer_field(object, "group_size", source).value_or(0);
  const char* implied = args.group_size > 0 ? "group" : args.group_size == -1 ? "channel" : "tensor";
  args.strategy = string_field(object, "strategy", source).value_or(implied);
  args.symmetric = bool_field(object, "symmetric", source).value_or(true);
  args.dynamic = dynamic_of(object, source);
  if (const OrderedJson* block = find_field(object, "block_structure", source)) {
    args.block_structure = block->dump(-1, ' ', false, OrderedJson::error_handler_t::replace).substr(0, 80);
  }
  const OrderedJson* order = find_field(object, "actorder", source);
  require(!order || *order == "static" || *order == "weight" || *order == false, source,
          "field 'actorder': expected null, static or weight, found {}", order ? shown(*order) : "");
  return args;
}

[[noreturn]] void unsupported(const std::string& what, const Args& args, const std::string& source) {
  fail(source, "{}: not supported: num_bits {}, type {}, strategy {}, group_size {}, symmetric {}, dynamic {}", what,
       args.num_bits, args.type, args.strategy, args.group_size, args.symmetric, args.dynamic);
}

// What a format stores: the element of weights of this type and width, and how.
struct FormatRow {
  std::string_view format, type;
  std::int64_t bits;
  Element element;
  Storage storage;
};

constexpr FormatRow kFormats[] = {
    {"pack-quantized", "int", 4, Element::kInt4, Storage::kPacked},
    {"pack-quantized", "int", 8, Element::kInt8, Storage::kPacked},
    {"int-quantized", "int", 8, Element::kInt8, Storage::kPlain},
    {"naive-quantized", "int", 8, Element::kInt8, Storage::kPlain},
    {"float-quantized", "float", 8, Element::kE4M3, Storage::kPlain},
    {"naive-quantized", "float", 8, Element::kE4M3, Storage::kPlain},
    {"nvfp4-pack-quantized", "float", 4, Element::kE2M1, Storage::kPackedBlocks},
    {"mxfp4-pack-quantized", "float", 4, Element::kE2M1, Storage::kPackedBlocks},
    {"mxfp6-pack-quantized", "float", 6, Element::kE2M3, Storage::kPackedSixBits},
    {"mxfp8-quantized", "float", 8, Element::kE4M3, Storage::kPlain},
};

// A list, or text as older files have it.
bool is_tile(std::string_view structure) { return structure == "[128,128]" || structure == "\"128x128\""; }

// Fills storage and weights.
void set_weights(const Args& args, const std::string& format, const std::string& source, LinearScheme& scheme) {
  const auto row = std::find_if(std::begin(kFormats), std::end(kFormats), [&](const FormatRow& r) {
    return r.format == format && r.type == args.type && r.bits == args.num_bits;
  });
  const bool mx = format.starts_with("mx"), blocks = format.starts_with("nvfp4");
  const bool zeros_fit = args.symmetric || args.type == "int";
  if (row == std::end(kFormats) || args.dynamic != "false" || !zeros_fit) {
    unsupported("weights in format '" + format + "'", args, source);
  }
  scheme.storage = row->storage;
  QuantSpec& spec = scheme.weights;
  spec.element = row->element;
  spec.asymmetric = !args.symmetric;
  spec.mx = mx;
  if (mx || blocks) {
    spec.granularity = Granularity::kGroup;
    spec.group = mx ? 32 : 16;
    if (args.strategy != (mx ? "group" : "tensor_group") || args.group_size != spec.group) {
      unsupported("weights in format '" + format + "'", args, source);
    }
  } else if (args.strategy == "tensor") {
    spec.granularity = Granularity::kTensor;
  } else if (args.strategy == "channel") {
    spec.granularity = Granularity::kChannel;
  } else if (args.strategy == "group" && args.group_size > 0 && args.group_size <= 1 << 20) {
    spec.granularity = Granularity::kGroup;
    spec.group = args.group_size;
  } else if (args.strategy == "block" && is_tile(args.block_structure)) {
    spec.granularity = Granularity::kTile;
    spec.group = kTileSize;
  } else {
    unsupported("weights", args, source);
  }
}

struct InputRow {
  std::string_view type;
  std::int64_t bits;
  std::string_view strategy;
  std::int64_t group;
  std::string_view dynamic;
  InputQuant::Kind kind;
};

constexpr InputRow kInputs[] = {
    {"int", 8, "tensor", 0, "false", InputQuant::Kind::kStaticInt8},
    {"int", 8, "token", 0, "true", InputQuant::Kind::kDynamicInt8},
    {"float", 8, "tensor", 0, "false", InputQuant::Kind::kStaticE4M3},
    {"float", 8, "token", 0, "true", InputQuant::Kind::kDynamicE4M3},
    {"float", 8, "group", 128, "true", InputQuant::Kind::kDynamicE4M3Group},
    {"float", 8, "group", 32, "true", InputQuant::Kind::kDynamicMxfp8},
    {"float", 4, "group", 32, "true", InputQuant::Kind::kDynamicMxfp4},
    {"float", 4, "tensor_group", 16, "local", InputQuant::Kind::kDynamicNvfp4},
};

InputQuant::Kind input_kind(const Args& args, const std::string& source) {
  for (const InputRow& row : kInputs) {
    const bool group = row.group == 0 || row.group == args.group_size;
    if (row.type == args.type && row.bits == args.num_bits && row.strategy == args.strategy && group &&
        row.dynamic == args.dynamic && args.symmetric) {
      return row.kind;
    }
  }
  unsupported("input_activations", args, source);
}

KvScheme kv_scheme(const OrderedJson& object, const std::string& source) {
  const Args args = parse_args(object, source);
  if (args.num_bits != 8 || args.type != "float" || !args.symmetric || args.dynamic != "false") {
    unsupported("kv_cache_scheme", args, source);
  }
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
  set_weights(parse_args(*weights, source + ".weights"), format, source + ".weights", scheme);
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
