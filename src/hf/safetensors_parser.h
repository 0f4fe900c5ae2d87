#pragma once
// The JSON of a safetensors header as it is read, event by event: no document is built, so a hostile header costs no
// more memory than the tensors that it really names.

#include <string_view>

#include "hf/safetensors.h"

namespace halftone {

// Names, dtypes, shapes, offsets and metadata; offsets and sizes are not compared with the data yet. Throws Error.
SafetensorsHeader parse_safetensors_json(std::string_view text, std::string_view source);

}  // namespace halftone
