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

// Keeps the rows whose `value` is `found`; none: an error that names the field and what the rows would take. `rule` says
// what led to them.
template <typename Row, typename Value, typename Found>
void keep(std::vector<Row>& rows, std::string_view field, Value value, const Found& found, const std::string& rule,
          const std::string& source) {
  std::vector<Row> kept;
  std::string others;
  for (const Row& row : rows) {
    if (value(row) == found) kept.push_back(row);
    const std::string other = fmt::format("{}", value(row));
    // each once
    if ((", " + others + ", ").find(", " + other + ", ") == std::string::npos) {
      others += (others.empty() ? "" : ", ") + other;
    }
  }
  require(!kept.empty(), source, "field '{}': expected {} for {}, found {}", field, others, rule,
          fmt::format("{}", found).substr(0, 80));
  rows = std::move(kept);
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

// The blocks of weights in formats that do not fix them.
void set_blocks(const Args& args, const std::string& source, QuantSpec& spec) {
  constexpr std::int64_t kLargestGroup = 1 << 20;
  if (args.strategy == "tensor") {
    spec.granularity = Granularity::kTensor;
  } else if (args.strategy == "channel") {
    spec.granularity = Granularity::kChannel;
  } else if (args.strategy == "group") {
    require(args.group_size > 0 && args.group_size <= kLargestGroup, source,
            "field 'group_size': expected 1 to {} for strategy group, found {}", kLargestGroup, args.group_size);
    spec.granularity = Granularity::kGroup;
    spec.group = args.group_size;
  } else {
    require(args.strategy == "block", source,
            "field 'strategy': expected tensor, channel, group or block for weights, found {}",
            args.strategy.substr(0, 80));
    require(is_tile(args.block_structure), source,
            "field 'block_structure': expected [128,128] for strategy block, found {}", args.block_structure);
    spec.granularity = Granularity::kTile;
    spec.group = kTileSize;
  }
}

// Fills storage and weights.
void set_weights(const Args& args, const std::string& format, const std::string& source, LinearScheme& scheme) {
  const std::string rule = "weights in format '" + format.substr(0, 80) + "'";
  std::vector<FormatRow> rows(std::begin(kFormats), std::end(kFormats));
  keep(
      rows, "format", [](const FormatRow& r) { return r.format; }, format, "weights", source);
  keep(
      rows, "type", [](const FormatRow& r) { return r.type; }, args.type, rule, source);
  keep(
      rows, "num_bits", [](const FormatRow& r) { return r.bits; }, args.num_bits, rule, source);
  require(args.dynamic == "false", source, "field 'dynamic': expected false for weights, found {}", args.dynamic);
  require(args.symmetric || args.type == "int", source,
          "field 'symmetric': expected true for weights of type {}, found false", args.type);
  const bool mx = format.starts_with("mx"), blocks = format.starts_with("nvfp4");
  scheme.storage = rows[0].storage;
  QuantSpec& spec = scheme.weights;
  spec.element = rows[0].element;
  spec.asymmetric = !args.symmetric;
  spec.mx = mx;
  if (mx || blocks) {
    spec.granularity = Granularity::kGroup;
    spec.group = mx ? 32 : 16;
    const char* strategy = mx ? "group" : "tensor_group";
    require(args.strategy == strategy, source, "field 'strategy': expected {} for {}, found {}", strategy, rule,
            args.strategy.substr(0, 80));
    require(args.group_size == spec.group, source, "field 'group_size': expected {} for {}, found {}", spec.group, rule,
            args.group_size);
  } else {
    set_blocks(args, source, spec);
  }
}

struct InputRow {
  std::string_view type;
  std::int64_t bits;
  std::string_view strategy;
  std::int64_t group;  // 0: any
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
  std::vector<InputRow> rows(std::begin(kInputs), std::end(kInputs));
  keep(
      rows, "type", [](const InputRow& r) { return r.type; }, args.type, "inputs", source);
  keep(
      rows, "num_bits", [](const InputRow& r) { return r.bits; }, args.num_bits, "inputs of type " + args.type, source);
  const std::string rule = fmt::format("inputs of type {} and {} bits", args.type, args.num_bits);
  keep(
      rows, "strategy", [](const InputRow& r) { return r.strategy; }, args.strategy, rule, source);
  if (rows[0].group != 0) {
    keep(
        rows, "group_size", [](const InputRow& r) { return r.group; }, args.group_size,
        rule + " with strategy " + args.strategy, source);
  }
  keep(
      rows, "dynamic", [](const InputRow& r) { return r.dynamic; }, args.dynamic,
      rule + " with strategy " + args.strategy, source);
  require(args.symmetric, source, "field 'symmetric': expected true for inputs, found false");
  return rows[0].kind;
}

KvScheme kv_scheme(const OrderedJson& object, const std::string& source) {
  const Args args = parse_args(object, source);
  require(args.num_bits == 8, source, "field 'num_bits': expected 8 for the KV cache, found {}", args.num_bits);
  require(args.type == "float", source, "field 'type': expected float for the KV cache, found {}",
          args.type.substr(0, 80));
  require(args.symmetric, source, "field 'symmetric': expected true for the KV cache, found false");
  require(args.dynamic == "false", source, "field 'dynamic': expected false for the KV cache, found {}", args.dynamic);
  if (args.strategy == "tensor") return KvScheme::kPerTensor;
  require(args.strategy == "attn_head", source,
          "field 'strategy': expected tensor or attn_head for the KV cache, found {}", args.strategy.substr(0, 80));
  return KvScheme::kPerHead;
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

// Parts that change what the weights mean and that nothing here reads: rotations of the inputs, sparse weights.
void refuse_unread(const OrderedJson& object, const std::string& source) {
  for (const char* field : {"transform_config", "sparsity_config"}) {
    const OrderedJson* part = find_field(object, field, source);
    if (part == nullptr || (part->is_object() && part->empty())) continue;
    const OrderedJson* format = find_field(*part, "format", source + "." + field);
    const bool dense = format != nullptr && *format == "dense";
    require(dense, source, "field '{}': expected none, found {}", field, shown(*part));
  }
}

}  // namespace

QuantizationConfig parse_compressed_tensors(const OrderedJson& object, const std::string& source) {
  QuantizationConfig config;
  config.layout_ = Layout::kCompressedTensors;
  const std::string format = string_field(object, "format", source).value_or("dense");
  const std::string status = string_field(object, "quantization_status", source).value_or("compressed");
  refuse_unread(object, source);
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
