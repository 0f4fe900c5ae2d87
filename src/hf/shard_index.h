#pragma once
// model.safetensors.index.json: which file of the folder holds which tensor.

#include <map>
#include <string>
#include <string_view>

#include "base/json.h"

namespace halftone {

// Tensor name -> file name. Throws Error unless weight_map is an object of plain names of *.safetensors files: a name
// that would leave the folder is refused.
std::map<std::string, std::string> parse_shard_index(const Json& index, std::string_view source);

}  // namespace halftone
