#pragma once
// The part of a recipe that says how scales are found.

#include "base/fields.h"
#include "quant/recipe.h"

namespace halftone {

// Field "algorithm" of a recipe: a name, or an object. Throws Error naming the field.
void read_algorithm(const Fields& root, Recipe& recipe);

}  // namespace halftone
