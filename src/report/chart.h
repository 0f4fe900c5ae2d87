#pragma once
// Two kinds of charts: rows of bars or dots in panels side by side, and a scatter of labelled points.

#include <optional>
#include <string>
#include <vector>

#include "report/canvas.h"

namespace halftone {

// A value of one row. Absent values are left out.
struct Mark {
  std::optional<double> value;
  std::optional<double> low, high;  // its interval
  std::optional<Color> color;       // its series' unless said
};

struct Series {
  std::string name;  // for the legend; empty: not in it
  Color color = colors::kBlue;
  std::vector<Mark> marks;  // one for each row
};

struct Panel {
  enum class Kind { kStackedBars, kDots };
  std::string title;  // with the unit: "decode, ms per token"
  Kind kind = Kind::kStackedBars;
  std::vector<Series> series;
  std::optional<double> reference;  // a dashed line across all rows
  std::vector<Mark> totals = {};    // numbers at the ends of the rows' bars where they are not the sums; or empty
  int decimals = 1;                 // of the numbers at the marks
  bool signs = false;               // "+0.4"
};

struct RowChart {
  std::string title, note;
  std::vector<std::string> rows;
  std::vector<Panel> panels;
};

struct Point {
  std::string label;
  double x = 0, y = 0;
  Color color = colors::kBlue;
  bool filled = true;
};

struct ScatterChart {
  std::string title, note;
  std::string x_title, y_title;
  bool log_y = false;
  std::vector<Point> points;
  std::vector<std::pair<std::string, Color>> legend;
};

// A picture of a chart as the content of an SVG and of a PNG file.
struct ChartFiles {
  std::string svg, png;
};
ChartFiles render(const RowChart& chart);
ChartFiles render(const ScatterChart& chart);

}  // namespace halftone
