#pragma once
// How llama.cpp names what Qwen2-VL calls otherwise. Sources: gguf-py/gguf/tensor_mapping.py and constants.py,
// tools/mtmd/clip-impl.h.

#include <optional>
#include <string>
#include <string_view>

namespace halftone {

// "model.layers.0.mlp.up_proj" -> "blk.0.ffn_up"; "visual.merger.mlp.0" -> "mm.0". Takes the names of re-saved
// checkpoints ("model.language_model.", "model.visual.") too. Nothing for the two modules that are stored in parts
// (visual.patch_embed.proj and visual.blocks.N.attn.qkv), nor for others that the tables lack.
std::optional<std::string> gguf_module(std::string_view module);
// The inverse, in the names of the published checkpoints; "v.blk.0.attn_q" -> "visual.blocks.0.attn.q".
std::optional<std::string> module_of_gguf(std::string_view name);

// Whether the module belongs to mmproj.gguf.
bool in_vision_file(std::string_view module);

}  // namespace halftone
