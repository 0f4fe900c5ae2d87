#include "api/engine_options.h"

#include "base/error.h"

namespace halftone::api {

EngineOptions engine_options(const LoadOptions& options) {
  require(options.numerics == "f32" || options.numerics == "bf16", "load", "expected numerics f32 or bf16, got '{}'",
          options.numerics);
  EngineOptions engine;
  engine.numerics = options.numerics == "bf16" ? Numerics::kBF16 : Numerics::kF32;
  engine.kv_format = options.kv_format;
  return engine;
}

}  // namespace halftone::api
