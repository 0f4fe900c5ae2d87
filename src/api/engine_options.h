#pragma once

#include "halftone/halftone.h"
#include "runtime/engine.h"

namespace halftone::api {

// Throws Error for unknown numerics.
EngineOptions engine_options(const LoadOptions& options);

}  // namespace halftone::api
