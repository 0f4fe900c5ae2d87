// Any bytes are a recipe, or an Error. Seeds: recipes/.
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "quant/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace halftone;
  try {
    const Recipe recipe = parse_recipe({reinterpret_cast<const char*>(data), size}, "fuzz", "fuzz");
    if (!configuration_name(recipe).starts_with("fuzz")) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
