#pragma once
#include "export/targets.h"
#include "hf/checkpoint.h"
#include "quant/recipe.h"

namespace halftone {

// The folder that a recipe makes of a checkpoint, as check_target() looks at it.
TargetFolder folder_for_target(const Checkpoint& source, const Recipe& recipe);

// Throws Error listing what the target refuses of it, unless forced; then, and for what it loads otherwise than written,
// it warns.
void check_for_target(Target target, const Checkpoint& source, const Recipe& recipe, bool force);

// Warns of engines that do not run the quantized vision tower that the recipe makes.
void warn_of_vision(const Checkpoint& source, const Recipe& recipe);

}  // namespace halftone
