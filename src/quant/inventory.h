#pragma once
// What a checkpoint consists of, and what each recipe and format would make of it, without running anything.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/tensor_table.h"
#include "quant/recipe.h"

namespace halftone {

// One part of a model: "vision", "projector", "embedding", "attention", "mlp", "norm", "head".
struct PartSize {
  std::string part;
  std::int64_t modules = 0;
  std::int64_t parameters = 0;
  std::int64_t bytes = 0;  // as stored, scales included
};

struct Refusal {
  std::string module;
  std::string reason;
};

// A recipe applied to a checkpoint's shapes.
struct RecipeCost {
  std::string recipe;
  std::int64_t bytes = 0;      // of all weights: payload and scales
  std::int64_t quantized = 0;  // linear layers that the recipe changes
  bool needs_calibration = false;
  std::vector<Refusal> refusals;  // layers that cannot take the format that the recipe wants for them
};

// A format applied to every linear layer that can take it, those outside the decoder too, but for a tied head.
struct FormatCost {
  std::string weights, inputs, layout;
  std::int64_t bytes = 0;   // of all weights then
  std::int64_t layers = 0;  // that can take it
  std::vector<Refusal> refusals;
  std::optional<std::int64_t> head_bytes{};  // that a tied head in this format adds, if it is tied and can take it
};

struct Inventory {
  std::string architecture;                           // model_type
  std::string quantization;                           // "none", or the layout of the folder
  std::map<std::string, std::int64_t> layer_formats;  // linear layers by their format, in a quantized folder
  std::int64_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, vocabulary = 0;
  std::int64_t kv_bytes_per_token = 0;  // in bf16
  std::vector<PartSize> parts;
  // Both empty for a checkpoint that is quantized already.
  std::vector<RecipeCost> recipes;
  std::vector<FormatCost> formats;
};

// Throws Error for a folder that is no checkpoint of a known architecture.
Inventory take_inventory(const Checkpoint& checkpoint);

// Bytes of a matrix [rows, cols] in this format, payload and scales, as the layouts store it.
std::int64_t stored_bytes(const Shape& shape, const QuantSpec& spec);

}  // namespace halftone
