#include "ops/kv_codes.h"

#include "formats/e4m3.h"
#include "formats/kv_int8.h"

namespace halftone {

void decode_e4m3_reference(const std::uint8_t* codes, std::int64_t count, float scale, float* y) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = e4m3::decode(codes[i]) * scale;
}

void decode_int8_reference(const std::int8_t* codes, std::int64_t count, float scale, float* y) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = kv_int8::decode(codes[i]) * scale;
}

}  // namespace halftone
