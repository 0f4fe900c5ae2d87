#include "quant/linear_groups.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>

namespace halftone {
namespace {

struct GroupRow {
  std::array<std::string_view, 3> readers;  // "" for fewer
  std::string_view writer;
};

constexpr GroupRow kDecoderGroups[] = {
    {{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, "input_layernorm"},
    {{"self_attn.o_proj", "", ""}, "self_attn.v_proj"},
    {{"mlp.gate_proj", "mlp.up_proj", ""}, "post_attention_layernorm"},
    {{"mlp.down_proj", "", ""}, "mlp.up_proj"},
};

using Table = std::map<std::string_view, const ModuleInfo*>;

ChannelMap channels_between(const DecoderConfig& config, const ModuleInfo& reader, const ModuleInfo& writer) {
  const std::int64_t inputs = reader.shape.at(1), written = writer.shape.at(0);
  if (inputs == written) return identity_channels(inputs);
  require(inputs == config.heads * config.head_dim && written == config.kv_heads * config.head_dim, reader.module,
          "expected {} inputs as {} writes, found {}", written, writer.module, inputs);
  return grouped_head_channels(config.heads, config.kv_heads, config.head_dim);
}

// The group of `row` in one decoder layer; no readers when the layer has none of its modules.
LinearGroup decoder_group(const GroupRow& row, const std::string& prefix, std::int64_t layer, const Table& table,
                          const DecoderConfig& config) {
  LinearGroup group;
  group.layer = layer;
  const ModuleInfo* reader = nullptr;
  for (const std::string_view name : row.readers) {
    const auto it = name.empty() ? table.end() : table.find(prefix + std::string(name));
    if (it == table.end()) continue;
    reader = it->second;
    group.readers.push_back(reader->module);
  }
  const auto writer = table.find(prefix + std::string(row.writer));
  if (reader != nullptr && writer != table.end()) {
    group.writer = writer->second->module;
    group.channels = channels_between(config, *reader, *writer->second);
  }
  return group;
}

}  // namespace

std::vector<LinearGroup> linear_groups(const ModelConfig& config, std::span<const ModuleInfo> modules) {
  Table table;
  for (const ModuleInfo& module : modules) table[module.module] = &module;
  std::vector<LinearGroup> groups;
  std::set<std::string> grouped;
  for (std::int64_t i = 0; i < config.decoder.layers; ++i) {
    for (const GroupRow& row : kDecoderGroups) {
      LinearGroup group = decoder_group(row, fmt::format("model.layers.{}.", i), i, table, config.decoder);
      grouped.insert(group.readers.begin(), group.readers.end());
      if (!group.readers.empty()) groups.push_back(std::move(group));
    }
  }
  for (const ModuleInfo& module : modules) {
    if (module.linear && !grouped.contains(module.module)) groups.push_back({{module.module}, "", {}, -1});
  }
  return groups;
}

}  // namespace halftone
