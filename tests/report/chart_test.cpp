#include "report/chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/error.h"
#include "report/axis.h"
#include "report/figures.h"
#include "report/table.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::StartsWith;

// Tags opened and not closed, in order; fails the test where a closing tag does not fit.
void expect_well_formed(const std::string& xml) {
  std::vector<std::string> open;
  for (std::size_t at = xml.find('<'); at != std::string::npos; at = xml.find('<', at + 1)) {
    const std::size_t end = xml.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = xml.substr(at + 1, end - at - 1);
    const std::string name = tag.substr(tag.front() == '/' ? 1 : 0, tag.find_first_of(" /", 1) - (tag.front() == '/'));
    if (tag.front() == '?' || tag.front() == '!' || tag.back() == '/') continue;
    if (tag.front() != '/') {
      open.push_back(name);
      continue;
    }
    ASSERT_FALSE(open.empty()) << tag;
    EXPECT_EQ("/" + open.back(), tag);
    open.pop_back();
  }
  EXPECT_TRUE(open.empty());
}

TEST(Chart, IsWellFormed) {
  RowChart rows{.title = "A < B & \"C\"", .note = "note", .rows = {"one", "two"}, .panels = {}};
  rows.panels.push_back({.title = "x", .series = {{"s", colors::kBlue, {{1.0, 0.5, 1.5, {}}, {}}}}, .reference = 1.0});
  rows.panels.push_back({.title = "y",
                         .kind = Panel::Kind::kDots,
                         .series = {{"", colors::kRed, {{-1.0, -INFINITY, INFINITY, {}}, {2.0, {}, {}, {}}}}},
                         .reference = {}});
  const ScatterChart scatter{.title = "t",
                             .note = "",
                             .x_title = "x",
                             .y_title = "y",
                             .log_y = true,
                             .points = {{"a", 1, 0.01, colors::kBlue, true}, {"b", 1, 0.01, colors::kRed, false}},
                             .legend = {{"first", colors::kBlue}}};
  for (const ChartFiles& files : {render(rows), render(scatter)}) {
    EXPECT_THAT(files.svg, StartsWith("<?xml"));
    expect_well_formed(files.svg);
    EXPECT_THAT(files.png, StartsWith("\x89PNG\r\n"));
    EXPECT_GT(files.png.size(), 2000u);
  }
}

TEST(Chart, RefusesSeriesOfAnotherLength) {
  const RowChart chart{
      .title = "t",
      .note = "",
      .rows = {"one", "two"},
      .panels = {{.title = "x", .series = {{"s", colors::kBlue, {{1.0, {}, {}, {}}}}}, .reference = {}}}};
  EXPECT_THROW(render(chart), Error);
}

TEST(Chart, DrawsNothingFromNothing) {
  expect_well_formed(render(RowChart{}).svg);
  expect_well_formed(render(ScatterChart{}).svg);
}

TEST(Axis, TicksAreRound) {
  const Axis axis(0, 23.4, 0, 230);
  EXPECT_THAT(axis.ticks(), ElementsAre(0, 5, 10, 15, 20, 25));
  EXPECT_DOUBLE_EQ(axis.pixel(0), 0);
  EXPECT_DOUBLE_EQ(axis.pixel(25), 230);
  EXPECT_EQ(axis.label(5), "5");
  const Axis fine(-0.013, 0.021, 0, 200);
  EXPECT_EQ(fine.label(fine.ticks().front()), "-0.02");
  EXPECT_EQ(fine.label(fine.ticks()[2]), "0.00");
  const Axis decades(0.0013, 0.39, 400, 0, true);
  EXPECT_THAT(decades.ticks(), ElementsAre(::testing::DoubleNear(0.001, 1e-12), ::testing::DoubleNear(0.01, 1e-12),
                                           ::testing::DoubleNear(0.1, 1e-12), ::testing::DoubleNear(1, 1e-12)));
  EXPECT_EQ(decades.label(decades.ticks()[0]), "0.001");
  EXPECT_NEAR(decades.pixel(1), 0, 1e-9);
}

TEST(Figures, PrintUnits) {
  EXPECT_EQ(size_text(25838856), "24.6 MiB");
  EXPECT_EQ(size_text(3 << 29), "1.50 GiB");
  EXPECT_EQ(size_text(4096), "4.0 KiB");
  EXPECT_EQ(milliseconds(0.0123), "12.3 ms");
  EXPECT_EQ(milliseconds(0.00123), "1.23 ms");
  EXPECT_EQ(percent_text({0.827, 0.7941, 1.01}), "82.7 [79.4, 100.0]");
  EXPECT_EQ(points_text({-0.0001, -0.012, 0.004}), "+0.0 [-1.2, +0.4]");
}

TEST(Table, LinesUp) {
  Table table({"name", "μs"});
  table.add({"a|b", "1"});
  EXPECT_EQ(table.markdown(), "| name |  μs |\n|------|----:|\n| a\\|b |   1 |\n");
  EXPECT_THROW(table.add({"x"}), Error);
}

}  // namespace
}  // namespace halftone
