// Any bytes are a picture of at most the allowed size, or an Error. Seeds: tests/golden/vision.
#include <cstdlib>

#include "base/error.h"
#include "vision/picture.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::int64_t kMaxPixels = 1 << 16;
  try {
    const auto picture = halftone::decode_picture({reinterpret_cast<const std::byte*>(data), size}, "fuzz", kMaxPixels);
    const std::int64_t pixels = picture.width * picture.height;
    if (pixels < 1 || pixels > kMaxPixels || picture.rgb.size() != static_cast<std::size_t>(pixels * 3)) std::abort();
  } catch (const halftone::Error&) {
  }
  return 0;
}
