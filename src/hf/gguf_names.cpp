#include "hf/gguf_names.h"

#include <array>

#include "hf/module_pattern.h"

namespace halftone {
namespace {

struct NameRow {
  std::string_view module, gguf;  // '#' stands for a number
};

constexpr std::array kNames{
    NameRow{"model.embed_tokens", "token_embd"},
    NameRow{"model.norm", "output_norm"},
    NameRow{"lm_head", "output"},
    NameRow{"model.layers.#.input_layernorm", "blk.#.attn_norm"},
    NameRow{"model.layers.#.self_attn.q_proj", "blk.#.attn_q"},
    NameRow{"model.layers.#.self_attn.k_proj", "blk.#.attn_k"},
    NameRow{"model.layers.#.self_attn.v_proj", "blk.#.attn_v"},
    NameRow{"model.layers.#.self_attn.o_proj", "blk.#.attn_output"},
    NameRow{"model.layers.#.post_attention_layernorm", "blk.#.ffn_norm"},
    NameRow{"model.layers.#.mlp.gate_proj", "blk.#.ffn_gate"},
    NameRow{"model.layers.#.mlp.up_proj", "blk.#.ffn_up"},
    NameRow{"model.layers.#.mlp.down_proj", "blk.#.ffn_down"},
    NameRow{"visual.blocks.#.norm1", "v.blk.#.ln1"},
    NameRow{"visual.blocks.#.norm2", "v.blk.#.ln2"},
    NameRow{"visual.blocks.#.attn.q", "v.blk.#.attn_q"},
    NameRow{"visual.blocks.#.attn.k", "v.blk.#.attn_k"},
    NameRow{"visual.blocks.#.attn.v", "v.blk.#.attn_v"},
    NameRow{"visual.blocks.#.attn.proj", "v.blk.#.attn_out"},
    NameRow{"visual.blocks.#.mlp.fc1", "v.blk.#.ffn_up"},
    NameRow{"visual.blocks.#.mlp.fc2", "v.blk.#.ffn_down"},
    NameRow{"visual.merger.ln_q", "v.post_ln"},
    NameRow{"visual.merger.mlp.0", "mm.0"},
    NameRow{"visual.merger.mlp.2", "mm.2"},
};

constexpr std::size_t kMaxDigits = 6;

// The digits that '#' stands for, "" in a pattern without one; nothing when the name does not match.
std::optional<std::string_view> match_number(std::string_view pattern, std::string_view name) {
  const std::size_t mark = pattern.find('#');
  if (mark == std::string_view::npos) return pattern == name ? std::optional(std::string_view()) : std::nullopt;
  const std::string_view before = pattern.substr(0, mark), after = pattern.substr(mark + 1);
  if (!name.starts_with(before)) return std::nullopt;
  name.remove_prefix(before.size());
  const std::size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  if (digits == 0 || digits > kMaxDigits || name.substr(digits) != after) return std::nullopt;
  return name.substr(0, digits);
}

std::string with_number(std::string_view pattern, std::string_view digits) {
  std::string name(pattern);
  if (const std::size_t mark = name.find('#'); mark != std::string::npos) name.replace(mark, 1, digits);
  return name;
}

}  // namespace

std::optional<std::string> gguf_module(std::string_view module) {
  for (const std::string& name : module_aliases(module)) {
    for (const NameRow& row : kNames) {
      if (const auto digits = match_number(row.module, name)) return with_number(row.gguf, *digits);
    }
  }
  return std::nullopt;
}

std::optional<std::string> module_of_gguf(std::string_view name) {
  for (const NameRow& row : kNames) {
    if (const auto digits = match_number(row.gguf, name)) return with_number(row.module, *digits);
  }
  return std::nullopt;
}

bool in_vision_file(std::string_view module) {
  return module.starts_with("visual.") || module.starts_with("model.visual.");
}

}  // namespace halftone
