#pragma once
// The sizes of Qwen2-VL and what follows from them: tensors, configuration files, tokenizer.
// Source: the configuration files of Qwen/Qwen2-VL-2B-Instruct, -7B-Instruct and -72B-Instruct.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "tensor/tensor.h"

namespace halftone {

struct Qwen2VlSizes {
  std::string_view name;
  std::int64_t hidden, intermediate, layers, heads, kv_heads, vocabulary;
  bool tied;
  std::int64_t vision_depth, vision_width, vision_heads;
};

const std::vector<Qwen2VlSizes>& qwen2_vl_sizes();

// Names and shapes, in the names of the published checkpoints.
std::vector<std::pair<std::string, Shape>> qwen2_vl_tensors(const Qwen2VlSizes& sizes);

OrderedJson qwen2_vl_config(const Qwen2VlSizes& sizes);
OrderedJson qwen2_vl_preprocessor_config();
OrderedJson qwen2_vl_generation_config();

// Ids 0 to 255 are the bytes in the order of Qwen2's vocabulary; up to 151642 follow words of four letters, which no
// prompt is encoded to; the special tokens have their ids, 151643 to 151656.
OrderedJson qwen2_vl_tokenizer();
OrderedJson qwen2_vl_tokenizer_config();
std::string_view qwen2_vl_chat_template();

}  // namespace halftone
