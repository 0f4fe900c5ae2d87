#pragma once
// A vision-language model in memory: pictures and tokens in, logits out. It keeps no state between calls: a sequence's
// state is its KvCache, and buffers are the caller's Workspace. After load a Model may be shared by threads, unless
// replace_*() is called.
//
//   Model model = Model::load(checkpoint, {}, stream);
//   Tensor pictures = model.encode_pictures(patches, grids, run);                   // [visual tokens, hidden]
//   Tensor hidden = model.embed(tokens, pictures);                                  // [tokens, hidden]
//   Positions positions = mrope_positions(tokens, config.picture_token, grids, merge_size);
//   PlainKvCache cache(layers, kv_heads, head_dim);
//   SequenceSlice slice{&cache, positions.values};
//   model.forward({&slice, 1}, hidden, run);                                        // in place; before the last norm
//   Tensor logits = model.logits(hidden.rows(n - 1, n), run);                       // [1, vocabulary]

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hf/checkpoint.h"
#include "model/config.h"
#include "model/parts.h"
#include "model/tensor_table.h"
#include "ops/norm.h"
#include "tensor/stream.h"

namespace halftone {

struct ModelOptions {
  Numerics numerics = Numerics::kF32;
  bool vision = true;  // false: only the decoder is loaded, encode_pictures() throws
  bool lazy = false;   // linear layers are loaded by load_layers() alone
};

class Model {
 public:
  // Throws Error for an unknown model_type, and for whatever does not fit together, naming file and field or tensor.
  static Model load(const Checkpoint& checkpoint, const ModelOptions& options, Stream& stream);
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

  const ModelConfig& config() const;
  Numerics numerics() const;
  // Every module with weights, in the order of the forward pass; those with `linear` set can be replaced and observed.
  const std::vector<ModuleInfo>& modules() const;
  // Throws Error when there is no such module.
  const ModuleInfo& module(std::string_view name) const;

  // The vision tower and projector. patches: [sum of grids' patches, columns] f32; each picture attends to itself
  // alone. Returns [visual tokens, hidden].
  Tensor encode_pictures(const Tensor& patches, std::span<const PictureGrid> grids, RunContext run) const;
  // Rows of the embedding table, [tokens, hidden]; those of picture placeholders are the rows of `pictures` in turn
  // (undefined: there are none). Throws Error for ids out of range and for counts that do not fit.
  Tensor embed(std::span<const std::int32_t> tokens, const Tensor& pictures = {}) const;

  // All decoder layers, in place. hidden: [sum of slices' tokens, hidden] f32, the slices' tokens one after another.
  // Each token's row of the result depends on its own sequence alone, not on the other slices. Only the rows that the
  // slices want are defined.
  void forward(std::span<const SequenceSlice> slices, Tensor& hidden, RunContext run) const;
  // One decoder layer, in place, for work that goes layer by layer. Announce the slices first with begin_slices() (once
  // for all layers), and call commit() of each cache after the last layer.
  void forward_layer(std::int64_t layer, std::span<const SequenceSlice> slices, const RotationTables& rotation,
                     Tensor& hidden, RunContext run) const;
  // The rotations of all slices' tokens, [sum of tokens, head_dim / 2]; tells each cache of its own.
  RotationTables begin_slices(std::span<const SequenceSlice> slices) const;
  // Of a model that was loaded with `lazy`: loads, or drops, the linear layers whose names start with `prefix`
  // ("model.layers.3.", "visual.blocks.0.", "visual.merger.", "lm_head"). Running a layer that is not loaded fails.
  void load_layers(std::string_view prefix, Stream& stream);
  void drop_layers(std::string_view prefix);
  // The vision tower step by step, for work that goes layer by layer: start_pictures() gives [patches, width], which
  // each block changes in place, and project_pictures() turns into what encode_pictures() returns.
  std::int64_t vision_blocks() const;
  Tensor start_pictures(const Tensor& patches, std::span<const PictureGrid> grids, RunContext run) const;
  void run_vision_block(std::int64_t block, std::span<const PictureGrid> grids, Tensor& x, RunContext run) const;
  Tensor project_pictures(const Tensor& x, RunContext run) const;
  // The last norm and the head. hidden: [rows, hidden]; returns [rows, vocabulary] f32 (in the workspace).
  Tensor logits(const Tensor& hidden, RunContext run) const;

  // Weights tried in memory, without writing a folder. Keys are canonical module names. Throws Error on unknown names
  // and on shapes that do not fit.
  void replace_linears(const std::map<std::string, LinearParts>& parts, Stream& stream);
  void replace_linear(const std::string& module, LinearParts parts, Stream& stream);
  // The weight of a norm (or "model.embed_tokens"). any float dtype.
  void replace_weight(const std::string& module, const Tensor& weight);
  // What is loaded now: the checkpoint's, or what replaced it.
  LinearParts linear_parts(std::string_view module) const;
  // The weight of a norm as f32, and its bias, undefined where it has none.
  Tensor norm_weight(std::string_view module) const;
  Tensor norm_bias(std::string_view module) const;
  // The weight of a module that is no linear layer ("model.embed_tokens", "visual.patch_embed.proj") as it is stored; in
  // Numerics::kBF16 as bf16.
  Tensor stored_weight(std::string_view module) const;
  // The bias of k_proj, [kv_heads * head_dim] f32 (zeros when there is none).
  Tensor key_bias(std::int64_t layer) const;

  // Bytes by format ("bf16 (vision)", "int4 group 128", "scales", ...), as held in memory.
  std::vector<std::pair<std::string, std::int64_t>> weight_bytes() const;
  // True when every product with a quantized input is computed by instructions of its format (also when there is none;
  // weights alone are decoded on every machine).
  bool products_native() const;

 private:
  struct State;
  explicit Model(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace halftone
