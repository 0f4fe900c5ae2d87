#pragma once
// Recipes: which layers get which formats, by which algorithm, in which layout. A YAML file (recipes/*.yaml):
//
//   layout: compressed-tensors                     # or modelopt, as-is
//   algorithm: {name: smoothquant, alpha: 0.5}     # or round-to-nearest (default), awq, svdquant; alpha: or search
//                                                  # of awq: method: lite (default), clip, full
//                                                  #         mode: grouped (default), modelopt
//                                                  # of svdquant: rank: 32
//                                                  # observer: max (default), percentile, entropy, mse
//                                                  # percentile: 99.99
//   kv: fp8_calibrated                             # bf16 unless said
//   vision: fp8                                    # bf16 unless said: quant/vision_format.h
//   rules:                                         # in this order; the last one that matches a layer decides
//     - match: "*"                                 # a glob over module names: * ? [abc] [!abc]
//       weights: int8_channel
//       inputs: int8_tensor                        # none unless said
//       four_over_six: true                        # of nvfp4_block16 weights
//     - match: "*.layers.0.*"
//       weights: none
//
// A rule reaches the decoder's linear layers. The vision tower, the projector, the embeddings and the head stay as they
// are, unless a rule names them: a rule whose glob matches no linear layer of the decoder applies to what it matches
// outside ("visual.*", "lm_head"). So "*" or "*.mlp.*" never quantize a vision tower by accident. `vision` comes before
// the rules, which may name parts of the vision tower that are to differ. A head that is the embedding table becomes a
// module of its own when a rule quantizes it: untie_for().

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/tensor_table.h"
#include "quant/format_names.h"
#include "quant/observer.h"

namespace halftone {

struct Rule {
  std::string glob;
  LinearFormat format;
};

enum class Algorithm : std::uint8_t {
  kRoundToNearest,
  kSmoothQuant,  // {name: smoothquant, mode: modelopt}: scales of each layer's own, not folded
  kAwq,          // {name: awq, mode: grouped}: quant/awq.h, the default; {name: awq, mode: modelopt}: quant/awq_lite.h
  kSvdQuant,     // {name: svdquant, rank: 32}: AWQ as ModelOpt's, then quant/svdquant.h
};
std::string_view to_string(Algorithm algorithm);

// What AWQ does: lite searches scales, clip shrinks the ranges of groups, full both, one after the other.
enum class AwqMethod : std::uint8_t { kLite, kClip, kFull };

struct Recipe {
  std::string name;
  Layout layout = Layout::kAsIs;
  Algorithm algorithm = Algorithm::kRoundToNearest;
  // SmoothQuant: 0 smooths the weights only, 1 the inputs only; unset: searched for each group of layers.
  std::optional<float> alpha = 0.5f;
  AwqMethod awq_method = AwqMethod::kLite;
  bool modelopt_mode = false;  // of AWQ and SmoothQuant
  std::int64_t rank = 32;      // SVDQuant
  Observer observer;           // of inputs with a static scale
  std::string kv_format = "bf16";
  std::string vision_format = "bf16";
  std::vector<Rule> rules;
  std::string text;    // the YAML it came from
  std::string source;  // "recipe fp8" or the file's path, for errors

  // Whether the algorithm looks for scales of inputs, and whether it clips weights.
  bool smooths() const {
    return algorithm != Algorithm::kRoundToNearest && (algorithm != Algorithm::kAwq || awq_method != AwqMethod::kClip);
  }
  bool clips() const { return algorithm == Algorithm::kAwq && awq_method != AwqMethod::kLite; }
  // Whether inputs are multiplied by scales of their own, layer by layer, as ModelOpt does (quant/prescale.h).
  bool prescales() const { return smooths() && (modelopt_mode || algorithm == Algorithm::kSvdQuant); }
  // True when inputs are quantized with known scales, or the algorithm looks at inputs.
  bool needs_calibration() const;
};

// Names of the recipes that are built into the program, in the order of the table in docs.
const std::vector<std::string>& shipped_recipes();
// Whether it is one of these, not a file of the same name.
bool is_shipped(const Recipe& recipe);

// Throws Error("[source] field 'rules[1].match': expected ..., found ...").
Recipe parse_recipe(std::string_view text, std::string_view name, std::string_view source);

// Whether the algorithm fits rules and layout, for who changes the layout of a recipe. Throws Error.
void check_algorithm(const Recipe& recipe);

// "fp8", "fp8+kv:fp8_head", "my.yaml+vision:int8+kv:fp8": a shipped recipe's name or a file's path, perhaps with formats
// of the vision tower and the KV cache in place of the recipe's. A file's path is relative to `folder`. Throws UsageError
// listing the shipped names when there is neither, and the formats for an unknown one.
Recipe load_recipe(std::string_view configuration, const std::filesystem::path& folder = {});

// Sets the format of the vision tower or the KV cache. A recipe that quantized nothing and is now to quantize a vision
// tower gets the layout compressed-tensors. Throws UsageError for an unknown format.
void set_vision_format(Recipe& recipe, std::string_view format);
void set_kv_format(Recipe& recipe, std::string_view format);

// "fp8" of "fp8+kv:fp8_head", "my.yaml" of "my.yaml".
std::string_view recipe_part(std::string_view configuration);

// Whether it changes any weights: a rule does, or the format of the vision tower.
bool quantizes_anything(const Recipe& recipe);

// "fp8", "fp8+vision:int8+kv:fp8_head": bf16 is not written.
std::string configuration_name(const Recipe& recipe);

// The format of each module, in their order (modules that are no linear layers keep theirs). Throws Error for a rule
// that matches no module at all, or only modules that cannot be quantized (norms, embeddings).
std::vector<LinearFormat> resolve_rules(const Recipe& recipe, std::span<const ModuleInfo> modules);

// What the recipe is applied to: the checkpoint, with a head of its own (untie_head()) when the recipe quantizes the head
// and config.json ties it to the embedding table. That table stays as it is. Throws Error as resolve_rules().
Checkpoint untie_for(const Recipe& recipe, const Checkpoint& checkpoint);

}  // namespace halftone
