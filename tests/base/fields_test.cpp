#include "base/fields.h"

#include <gtest/gtest.h>

namespace halftone {
namespace {

template <typename Function>
std::string error_of(const Function& function) {
  try {
    function();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Fields, ErrorsNameFileAndPlace) {
  const Json json = parse_json(R"({"a": {"list": [{"x": 1}, {"x": "one", "y": null}], "empty": ""}, "n": 7})", "f");
  const Fields root(json, "f.yaml");
  const Fields a = root.object("a");
  const Fields second = a.objects("list").at(1);
  EXPECT_EQ(a.objects("list").at(0).get<int>("x"), 1);
  EXPECT_EQ(error_of([&] { second.get<int>("x"); }),
            R"([f.yaml] field 'a.list[1].x': expected an integer, found "one")");
  EXPECT_EQ(error_of([&] { second.text("y"); }), "[f.yaml] field 'a.list[1].y': missing");
  EXPECT_EQ(second.text_or("y", "z"), "z");
  EXPECT_EQ(error_of([&] {
              second.allow_only({"x", "z"});
            }),
            "[f.yaml] unknown key 'a.list[1].y': expected one of x, z");
  EXPECT_EQ(error_of([&] { a.text("empty"); }), R"([f.yaml] field 'a.empty': expected a text, found "")");
  EXPECT_EQ(error_of([&] { root.object("n"); }), "[f.yaml] field 'n': expected an object, found 7");
  EXPECT_EQ(error_of([&] { root.objects("a"); }), "[f.yaml] field 'a': expected a list, found an object");
  EXPECT_EQ(error_of([&] { Fields(json["n"], "f.yaml"); }), "[f.yaml] expected an object, found 7");
}

TEST(Fields, KeepsNumbersInTheirRange) {
  const Json json = parse_json(R"({"n": 7, "big": 18446744073709551615, "real": 7.0, "minus": -1})", "f");
  const Fields fields(json, "f");
  EXPECT_EQ(fields.count("n", 7, 7), 7);
  EXPECT_EQ(error_of([&] { fields.count("n", 8); }), "[f] field 'n': expected an integer from 8, found 7");
  EXPECT_EQ(error_of([&] { fields.count("n", 1, 6); }), "[f] field 'n': expected an integer from 1 to 6, found 7");
  for (const char* key : {"big", "real", "minus"})
    EXPECT_NE(error_of([&] { fields.count(key, 0); }), "no error") << key;
  EXPECT_EQ(fields.get<double>("n"), 7);
  EXPECT_EQ(fields.get<std::uint64_t>("big"), 18446744073709551615u);
  EXPECT_NE(error_of([&] { fields.get<std::uint64_t>("minus"); }), "no error");
  EXPECT_EQ(error_of([&] { fields.number_or("n", 1, 8, 9); }), "[f] field 'n': expected a number from 8 to 9, found 7");
  EXPECT_EQ(error_of([&] { fields.positive_or("minus", 1); }),
            "[f] field 'minus': expected a positive number, found -1");
  EXPECT_EQ(error_of([&] { fields.positive_or("n", 1, 6); }),
            "[f] field 'n': expected a number above 0 and at most 6, found 7");
}

}  // namespace
}  // namespace halftone
