#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "report/axis.h"
#include "report/chart.h"

namespace halftone {
namespace {

constexpr double kMargin = 18, kTitleSize = 15, kRowHeight = 24, kBarHeight = 14, kPanelGap = 26, kAxisHeight = 24;
constexpr double kPanelTitleSize = 11, kLabelSize = 10.5, kValueSize = 9;
const TextStyle kValueStyle{.size = kValueSize, .color = colors::kGrey};

// Sum of a row's stack; nothing when no series has a value.
std::optional<double> total(const Panel& panel, std::size_t row) {
  std::optional<double> sum;
  for (const Series& series : panel.series) {
    if (series.marks.at(row).value) sum = sum.value_or(0) + *series.marks[row].value;
  }
  return sum;
}

struct Range {
  double low, high;
};

Range range_of(const Panel& panel, std::size_t rows) {
  Range range{panel.reference.value_or(INFINITY), panel.reference.value_or(-INFINITY)};
  const auto cover = [&](std::optional<double> value) {
    if (!value || !std::isfinite(*value)) return;
    range = {std::min(range.low, *value), std::max(range.high, *value)};
  };
  for (std::size_t row = 0; row < rows; ++row) {
    if (panel.kind == Panel::Kind::kStackedBars) cover(total(panel, row));
    for (const Series& series : panel.series) {
      const Mark& mark = series.marks.at(row);
      for (const auto& value : {mark.low, mark.high}) cover(value);
      if (panel.kind == Panel::Kind::kDots) cover(mark.value);
    }
  }
  if (!(range.low <= range.high)) return {0, 1};
  // Bars lie about their lengths unless they start at zero.
  if (panel.kind == Panel::Kind::kStackedBars) range = {std::min(0.0, range.low), std::max(0.0, range.high)};
  return range;
}

class RowChartPainter {
 public:
  explicit RowChartPainter(const RowChart& chart) : chart_(chart) {
    for (const Panel& panel : chart.panels) {
      for (const Series& series : panel.series) {
        require(series.marks.size() == chart.rows.size(), chart.title, "expected {} marks, found {}", chart.rows.size(),
                series.marks.size());
      }
    }
  }

  double width() const { return 900; }
  double height() const { return top() + rows_height() + kAxisHeight + kMargin + (chart_.note.empty() ? 0 : 18); }

  void draw(Canvas& canvas) const {
    canvas.text(kMargin, kMargin + kTitleSize, chart_.title, {.size = kTitleSize, .bold = true});
    draw_legend(canvas);
    double labels = 0;
    for (const std::string& row : chart_.rows) labels = std::max(labels, canvas.text_width(row, {.size = kLabelSize}));
    const double left = kMargin + labels + 12;
    draw_rows(canvas, left);
    const auto count = static_cast<double>(chart_.panels.size());
    const double panel_width = (width() - kMargin - left - kPanelGap * (count - 1)) / count;
    for (std::size_t i = 0; i < chart_.panels.size(); ++i) {
      draw_panel(canvas, chart_.panels[i], left + static_cast<double>(i) * (panel_width + kPanelGap), panel_width);
    }
    canvas.text(kMargin, height() - kMargin + 4, chart_.note, {.size = 9.5, .color = colors::kGrey});
  }

 private:
  bool has_legend() const {
    return std::any_of(chart_.panels.begin(), chart_.panels.end(), [](const Panel& panel) {
      return std::any_of(panel.series.begin(), panel.series.end(), [](const Series& s) { return !s.name.empty(); });
    });
  }
  double top() const { return kMargin + kTitleSize + (has_legend() ? 24 : 4) + 30; }
  double rows_height() const { return kRowHeight * static_cast<double>(chart_.rows.size()); }
  double row_middle(std::size_t row) const { return top() + kRowHeight * (static_cast<double>(row) + 0.5); }

  void draw_legend(Canvas& canvas) const {
    double x = kMargin;
    std::vector<std::string> shown;
    for (const Panel& panel : chart_.panels) {
      for (const Series& series : panel.series) {
        if (series.name.empty() || std::count(shown.begin(), shown.end(), series.name)) continue;
        shown.push_back(series.name);
        const double y = kMargin + kTitleSize + 20;
        canvas.rectangle(x, y - 9, 10, 10, series.color);
        canvas.text(x + 15, y, series.name, {.size = kLabelSize});
        x += 15 + canvas.text_width(series.name, {.size = kLabelSize}) + 18;
      }
    }
  }

  void draw_rows(Canvas& canvas, double left) const {
    for (std::size_t row = 0; row < chart_.rows.size(); ++row) {
      if (row % 2 == 0) {
        canvas.rectangle(kMargin - 6, row_middle(row) - kRowHeight / 2, width() - 2 * kMargin + 12, kRowHeight,
                         {0.965, 0.965, 0.972});
      }
      canvas.text(left - 10, row_middle(row) + 4, chart_.rows[row], {.size = kLabelSize, .align = Align::kRight});
    }
  }

  void draw_panel(Canvas& canvas, const Panel& panel, double x, double width) const {
    const Range range = range_of(panel, chart_.rows.size());
    // Room for the numbers at the ends of the bars.
    const double space = panel.kind == Panel::Kind::kStackedBars ? 38 : 6;
    const Axis axis(range.low, range.high, x + (panel.kind == Panel::Kind::kDots ? 6 : 0), x + width - space);
    const double bottom = top() + rows_height();
    canvas.text(x, top() - 10, panel.title, {.size = kPanelTitleSize, .bold = true});
    for (const double tick : axis.ticks()) {
      canvas.line(axis.pixel(tick), top(), axis.pixel(tick), bottom, colors::kFaint, 0.8);
      canvas.text(axis.pixel(tick), bottom + 15, axis.label(tick),
                  {.size = kValueSize, .color = colors::kGrey, .align = Align::kCenter});
    }
    if (panel.reference) {
      canvas.line(axis.pixel(*panel.reference), top(), axis.pixel(*panel.reference), bottom, colors::kGrey, 1.2, true);
    }
    for (std::size_t row = 0; row < chart_.rows.size(); ++row) {
      if (panel.kind == Panel::Kind::kStackedBars) {
        draw_stack(canvas, panel, axis, row);
      } else {
        draw_dots(canvas, panel, axis, row);
      }
    }
  }

  void draw_stack(Canvas& canvas, const Panel& panel, const Axis& axis, std::size_t row) const {
    const double y = row_middle(row);
    double sum = 0, right = axis.pixel(0);
    for (const Series& series : panel.series) {
      const Mark& mark = series.marks[row];
      if (!mark.value) continue;
      const double from = axis.pixel(sum), to = axis.pixel(sum + *mark.value);
      canvas.rectangle(from, y - kBarHeight / 2, to - from, kBarHeight, mark.color.value_or(series.color));
      sum += *mark.value;
      right = std::max(right, to);
      if (mark.low && mark.high) {
        canvas.line(axis.pixel(*mark.low), y, axis.pixel(*mark.high), y, colors::kInk, 1.2);
        right = std::max(right, axis.pixel(*mark.high));
      }
    }
    const auto shown = panel.totals.empty() ? total(panel, row) : panel.totals.at(row).value;
    if (shown) canvas.text(right + 4, y + 3.5, number(panel, *shown), kValueStyle);
  }

  void draw_dots(Canvas& canvas, const Panel& panel, const Axis& axis, std::size_t row) const {
    const double y = row_middle(row);
    for (const Series& series : panel.series) {
      const Mark& mark = series.marks[row];
      if (!mark.value) continue;
      const Color color = mark.color.value_or(series.color);
      if (mark.low && mark.high && std::isfinite(*mark.low) && std::isfinite(*mark.high)) {
        canvas.line(axis.pixel(*mark.low), y, axis.pixel(*mark.high), y, color, 2);
      }
      canvas.circle(axis.pixel(*mark.value), y, 3.6, color);
    }
  }

  static std::string number(const Panel& panel, double value) {
    return panel.signs ? fmt::format("{:+.{}f}", value, panel.decimals) : fmt::format("{:.{}f}", value, panel.decimals);
  }

  const RowChart& chart_;
};

}  // namespace

ChartFiles render(const RowChart& chart) {
  const RowChartPainter painter(chart);
  const auto draw = [&](Canvas& canvas) { painter.draw(canvas); };
  return {render_svg(painter.width(), painter.height(), draw), render_png(painter.width(), painter.height(), draw)};
}

}  // namespace halftone
