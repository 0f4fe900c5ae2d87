// EXIF orientations in every TIFF type that Pillow 13 takes for a number.

#include "vision/orientation.h"

#include <gtest/gtest.h>

#include <cstring>

namespace halftone {
namespace {

std::string bytes_of(const auto& value) { return {reinterpret_cast<const char*>(&value), sizeof(value)}; }

// A little-endian TIFF header and one directory with the tag 274; values longer than four bytes follow it.
std::string exif_with(std::uint16_t type, const std::string& value) {
  std::string exif = std::string("II*\0", 4) + bytes_of(std::uint32_t{8}) + bytes_of(std::uint16_t{1}) +
                     bytes_of(std::uint16_t{274}) + bytes_of(type) + bytes_of(std::uint32_t{1});
  if (value.size() > 4) return exif + bytes_of(std::uint32_t{26}) + std::string(4, '\0') + value;
  return exif + value + std::string(8 - value.size(), '\0');
}

int orientation_of(std::uint16_t type, const std::string& value) {
  return find_orientation({exif_with(type, value), ""});
}

TEST(Orientation, TakesIntegers) {
  EXPECT_EQ(orientation_of(3, bytes_of(std::uint16_t{6})), 6);
  EXPECT_EQ(orientation_of(4, bytes_of(std::uint32_t{8})), 8);
  EXPECT_EQ(orientation_of(3, bytes_of(std::uint16_t{9})), 1);
}

TEST(Orientation, TakesFractionsAndFloatsThatAreWhole) {
  EXPECT_EQ(orientation_of(5, bytes_of(std::uint32_t{6}) + bytes_of(std::uint32_t{1})), 6);
  EXPECT_EQ(orientation_of(5, bytes_of(std::uint32_t{12}) + bytes_of(std::uint32_t{4})), 3);
  EXPECT_EQ(orientation_of(5, bytes_of(std::uint32_t{13}) + bytes_of(std::uint32_t{4})), 1);
  EXPECT_EQ(orientation_of(5, bytes_of(std::uint32_t{6}) + bytes_of(std::uint32_t{0})), 1);
  EXPECT_EQ(orientation_of(11, bytes_of(6.0f)), 6);
  EXPECT_EQ(orientation_of(11, bytes_of(6.5f)), 1);
  EXPECT_EQ(orientation_of(12, bytes_of(8.0)), 8);
}

}  // namespace
}  // namespace halftone
