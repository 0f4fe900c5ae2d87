#include "hf/shard_index.h"

namespace halftone {

std::map<std::string, std::string> parse_shard_index(const Json& index, std::string_view source) {
  const auto map = get_field<Json>(index, "weight_map", source);
  require(map.is_object() && !map.empty(), source,
          "field 'weight_map': expected an object of tensors and files, found {}",
          map.is_object() ? "an empty one" : map.type_name());
  std::map<std::string, std::string> files;
  for (const auto& [name, value] : map.items()) {
    require(value.is_string(), source, "field 'weight_map.{}': expected a file name, found {}", name,
            value.type_name());
    const auto& file = value.get_ref<const std::string&>();
    const bool plain = file.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos && file.size() <= 255;
    require(plain && file.ends_with(".safetensors") && !file.starts_with("."), source,
            "field 'weight_map.{}': expected the name of a .safetensors file of this folder, found '{}'", name,
            file.substr(0, 80));
    files.emplace(name, file);
  }
  return files;
}

}  // namespace halftone
