#include "ops/kv_codes.h"

#include "formats/e4m3.h"

namespace halftone {

void decode_e4m3_reference(const std::uint8_t* codes, std::int64_t count, float scale, float* y) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = e4m3::decode(codes[i]) * scale;
}

}  // namespace halftone
