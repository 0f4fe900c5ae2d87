#pragma once
// The files of recipes/, embedded when the program is built (src/quant/CMakeLists.txt).

#include <optional>
#include <string_view>

namespace halftone {

// The YAML text of recipes/NAME.yaml.
std::optional<std::string_view> find_shipped_recipe(std::string_view name);

}  // namespace halftone
