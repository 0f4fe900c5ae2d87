#pragma once
// The numeric modes as users write them.

#include <array>
#include <optional>
#include <string_view>

#include "ops/norm.h"

namespace halftone {

inline constexpr std::array<std::string_view, 2> kNumericsNames{"f32", "bf16"};

std::string_view to_string(Numerics numerics);
std::optional<Numerics> find_numerics(std::string_view name);

}  // namespace halftone
