#pragma once
// What a checkpoint's config.json says about the model's structure, as every architecture of the registry fills it.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace halftone {

struct DecoderConfig {
  std::int64_t hidden = 0;        // width of the residual stream
  std::int64_t intermediate = 0;  // width of the feed-forward layer
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t vocabulary = 0;
  std::int64_t max_positions = 0;
  float norm_eps = 1e-6f;
  double rope_theta = 1e6;
  std::array<std::int64_t, 3> mrope_section{};  // frequencies of time, height, width; their sum is head_dim / 2
  std::vector<bool> sliding_layers;             // [layers] which see the last sliding_window tokens only; empty: none
  std::int64_t sliding_window = 0;
  bool tied_head = false;  // the head is the embedding table
};

struct VisionConfig {
  std::int64_t depth = 0;
  std::int64_t width = 0;
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t mlp_width = 0;
  std::int64_t channels = 3;
  std::int64_t patch_size = 14;
  std::int64_t temporal_patch_size = 2;
  std::int64_t merge_size = 2;
  std::int64_t output = 0;  // width of what the projector gives: the decoder's hidden
  double rope_theta = 1e4;

  // Numbers of one patch.
  std::int64_t columns() const { return channels * temporal_patch_size * patch_size * patch_size; }
};

struct ModelConfig {
  std::string model_type;
  DecoderConfig decoder;
  VisionConfig vision;
  std::int32_t picture_token = -1;  // the placeholder of one visual token
  std::vector<std::int32_t> stop_tokens;
};

}  // namespace halftone
