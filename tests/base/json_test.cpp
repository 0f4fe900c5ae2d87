#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace halftone {
namespace {

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Json, ErrorsNameFileAndField) {
  const Json object = parse_json(R"({"a": "x"})", "f.json");
  EXPECT_EQ(get_field<std::string>(object, "a", "f.json"), "x");
  EXPECT_THAT(error_of([&] { get_field<int>(object, "a", "f.json"); }), testing::HasSubstr("[f.json] field 'a'"));
  EXPECT_THAT(error_of([&] { get_field<int>(object, "b", "f.json"); }), testing::HasSubstr("missing"));
  EXPECT_EQ(get_field_or<int>(object, "b", 3, "f.json"), 3);
}

TEST(Json, RefusesDuplicatesAndDepth) {
  EXPECT_THAT(error_of([] { parse_json(R"({"a":1,"a":2})", "f"); }), testing::HasSubstr("given twice"));
  EXPECT_THAT(error_of([] { parse_json(std::string(100000, '['), "f"); }), testing::HasSubstr("nesting"));
  EXPECT_THAT(error_of([] { parse_json("{", "f"); }), testing::HasSubstr("expected JSON"));
}

TEST(Json, ReadsYamlScalars) {
  const Json y = parse_yaml("a: 1\nb: 1.5\nc: true\nd: '1'\ne: [x, ~]\n", "f");
  EXPECT_EQ(y.dump(), R"({"a":1,"b":1.5,"c":true,"d":"1","e":["x",null]})");
}

}  // namespace
}  // namespace halftone
