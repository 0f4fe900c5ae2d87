#include "api/engine_options.h"

#include "base/error.h"
#include "ops/numerics_name.h"

namespace halftone::api {

EngineOptions engine_options(const LoadOptions& options) {
  const std::optional<Numerics> numerics = find_numerics(options.numerics);
  require(numerics.has_value(), "load", "expected numerics f32 or bf16, got '{}'", options.numerics);
  EngineOptions engine;
  engine.numerics = *numerics;
  engine.kv_format = options.kv_format;
  return engine;
}

}  // namespace halftone::api
