#pragma once
// What the tests of this folder share: the goldens of tests/golden/make_vision_golden.py and its noise.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "vision/picture.h"

namespace halftone {

inline const std::filesystem::path kGoldenFolder = std::filesystem::path(HALFTONE_SOURCE_DIR) / "tests/golden/vision";
inline const std::filesystem::path kSuiteFolder = std::filesystem::path(HALFTONE_SOURCE_DIR) / "demo/suite";

inline const Json& vision_golden() {
  static const Json golden = read_json(kGoldenFolder / "vision.json");
  return golden;
}

template <typename T>
std::string hash_of(const std::vector<T>& values) {
  return Sha256().update(std::as_bytes(std::span(values))).hex();
}

// Samples that look random; the same ones as noise() of the golden program.
inline Picture noise_picture(std::int64_t width, std::int64_t height) {
  Picture picture{.width = width, .height = height, .rgb = {}};
  picture.rgb.resize(static_cast<std::size_t>(width * height * 3));
  for (std::size_t i = 0; i < picture.rgb.size(); ++i) {
    std::uint32_t value = static_cast<std::uint32_t>(i) * 2654435761u;
    value ^= value >> 15;
    picture.rgb[i] = static_cast<std::uint8_t>(value * 2246822519u >> 24);
  }
  return picture;
}

inline std::span<const std::byte> bytes_of(const std::string& content) { return std::as_bytes(std::span(content)); }

}  // namespace halftone
